"""One attempt of a task: errors become values."""

from __future__ import annotations

import os

import cv2
import pytest

from flowprep.api import plan_corpus
from flowprep.executors.attempt import attempt_task
from flowprep.executors.base import DEATHS_BEFORE_QUARANTINE, Job
from flowprep.extraction.task import TaskOptions
from flowprep.settings import Settings

QUICK = Settings(engine="cpu", size="source", flow=False)


@pytest.fixture
def planned(clips, tmp_path):
    """A planned corpus of four videos, in one task."""
    return plan_corpus([clips], tmp_path / "c", QUICK)


def attempt(planned, **options):
    """Attempt the only task."""
    (task,) = planned.plan.tasks
    return attempt_task(planned.store, planned.plan.settings, TaskOptions(**options), None, Job(task))


def test_a_task_gives_its_record(planned):
    outcome = attempt(planned)
    assert outcome.record == planned.store.read_record(outcome.task) and outcome.fault == ""


def test_a_task_that_is_done_gives_nothing(planned):
    attempt(planned)
    outcome = attempt(planned)
    assert (outcome.record, outcome.fault, outcome.stop) == (None, "", False)


@pytest.mark.parametrize(
    ("error", "fault", "stop"),
    [
        (ValueError("wrong"), "ValueError: wrong", False),
        (OSError(28, "No space left on device"), "No space left on device (while writing ", True),
    ],
)
def test_an_error_is_a_fault_and_one_of_the_disk_stops_the_run(planned, monkeypatch, error, fault, stop):
    def fail(*_):
        raise error

    monkeypatch.setattr("flowprep.executors.attempt.run_task", fail)
    outcome = attempt(planned)
    assert fault in outcome.fault and outcome.stop == stop and outcome.record is None


def test_opencv_has_one_thread_during_the_task_only(planned, monkeypatch):
    threads = []
    monkeypatch.setattr("flowprep.executors.attempt.run_task", lambda *_: threads.append(cv2.getNumThreads()))
    before = cv2.getNumThreads()
    attempt(planned)
    assert threads == [1] and cv2.getNumThreads() == before


def test_after_some_deaths_the_videos_are_tried_one_by_one(planned, monkeypatch):
    (task,) = planned.plan.tasks
    leases = planned.store.path / "leases"
    leases.mkdir()
    for epoch in range(DEATHS_BEFORE_QUARANTINE):
        lease = leases / f"{task.id}.{epoch}"
        lease.write_text("")
        os.utime(lease, (0, 0))  # its owner has been silent for long
    monkeypatch.setattr(
        "flowprep.executors.attempt.find_poison_videos",
        lambda *_: {"left/v_left_g01.mp4": "killed its worker 3 times, SIGSEGV"},
    )
    outcome = attempt(planned)
    assert outcome.record is not None
    failed = {video.id: video.reason for video in outcome.record.videos if video.failed}
    assert failed == {"left/v_left_g01.mp4": "killed its worker 3 times, SIGSEGV"}
