"""Jobs in worker processes of this machine."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import closing

import pytest

from flowprep.corpus.plan import Task
from flowprep.executors.base import MAX_DEATHS, Job, Outcome
from flowprep.executors.local import LocalExecutor

JOBS = [Job(Task(name, ())) for name in "abcdef"]


def run(attempt, processes, jobs=JOBS, release=lambda owner: None):
    """The outcomes of jobs, by task."""
    with closing(LocalExecutor(processes, release)(attempt, jobs)) as outcomes:
        return {outcome.task: outcome for outcome in outcomes}


@pytest.mark.parametrize("processes", [1, 2])
def test_each_job_has_one_outcome(processes):
    outcomes = run(lambda job: Outcome(job.task.id, None, f"fault of {job.task.id}"), processes)
    assert {task: outcome.fault for task, outcome in outcomes.items()} == {
        t: f"fault of {t}" for t in "abcdef"
    }


def test_one_process_is_this_one():
    outcomes = run(lambda job: Outcome(job.task.id, None, str(os.getpid())), 1)
    assert {outcome.fault for outcome in outcomes.values()} == {str(os.getpid())}


@pytest.mark.parametrize("processes", [1, 2])
def test_no_job_begins_after_a_stop(tmp_path, processes):
    def attempt(job):
        (tmp_path / job.task.id).touch()
        time.sleep(0.05)
        return Outcome(job.task.id, None, "no disk", stop=True)

    outcomes = run(attempt, processes)
    assert 1 <= len(outcomes) <= processes
    assert {path.name for path in tmp_path.iterdir()} == set(outcomes)


def test_a_worker_that_dies_is_replaced_and_its_task_starts_again(tmp_path):
    def attempt(job):
        first = tmp_path / job.task.id
        if job.task.id == "b" and not first.exists():
            first.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return Outcome(job.task.id, None)

    assert {outcome.fault for outcome in run(attempt, 2).values()} == {""}
    assert (tmp_path / "b").exists()


@pytest.mark.slow
def test_a_task_that_always_kills_its_worker_fails_and_the_others_do_not():
    def attempt(job):
        if job.task.id == "b":
            os.kill(os.getpid(), signal.SIGKILL)
        return Outcome(job.task.id, None)

    outcomes = run(attempt, 2)
    assert outcomes["b"].fault == f"its worker processes died {MAX_DEATHS} times" and not outcomes["b"].stop
    assert all(not outcome.fault for task, outcome in outcomes.items() if task != "b") and len(outcomes) == 6


def test_an_outcome_that_cannot_be_sent_stops_the_run():
    outcomes = run(lambda job: Outcome(job.task.id, None, threading.Lock()), 2)
    assert all(outcome.stop and "TypeError" in outcome.fault for outcome in outcomes.values())


def test_workers_are_killed_and_released_when_the_run_is_dropped(tmp_path):
    released = []

    def attempt(job):
        (tmp_path / str(os.getpid())).touch()
        time.sleep(0 if job.task.id == "a" else 60)
        return Outcome(job.task.id, None)

    with closing(LocalExecutor(2, released.append)(attempt, JOBS)) as outcomes:
        assert next(outcomes).task == "a"
        began = time.monotonic()
    assert time.monotonic() - began < 30
    assert len(released) == 2 and all(released)
    for path in tmp_path.iterdir():
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.name), 0)
