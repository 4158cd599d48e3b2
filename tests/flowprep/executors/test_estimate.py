"""The estimate of a run: measured on a few frames of its real videos."""

from __future__ import annotations

import dataclasses

import pytest

from flowprep.api import estimate_run, plan_corpus
from flowprep.corpus.plan import Segment, Task
from flowprep.executors import estimate
from flowprep.executors.estimate import MIN_PAIRS, SAMPLES, Estimate, choose_samples, measure
from flowprep.settings import Settings
from tests.support.videos import write_video

FRAMES_ONLY = Settings(size="source", flow=False)


def segment(number, pairs):
    return Segment(str(number), str(number), "", "", 1, estimate=pairs)


def test_samples_lie_at_equal_distances_in_the_pairs():
    segments = [segment(0, 1000), *(segment(n, 10) for n in range(1, 101))]
    # At 250, 750, 1250 and 1750 of 2,000 pairs; a long video counts once.
    assert [s.path for s in choose_samples(segments)] == ["0", "26", "76"]
    assert len(choose_samples([segment(n, 0) for n in range(5000)])) == SAMPLES  # of unknown length


def test_the_frames_of_each_sample_are_measured(tmp_path):
    paths = [
        write_video(tmp_path / f"{n}.mp4", 20, size=size) for n, size in enumerate([(64, 48), (256, 192)])
    ]
    segments = [Segment(p.stem, str(p), p.name, "", p.stat().st_size) for p in paths]
    small, large = measure(segments, FRAMES_ONLY)
    assert small.frames == large.frames == estimate.SAMPLE_FRAMES
    assert large.bytes > 4 * small.bytes > 0 and large.seconds >= 0


def test_an_estimate_is_that_of_all_pending_pairs(tmp_path, monkeypatch):
    """Bytes are exact here, as all frames of these videos are the same."""
    for n in range(3):
        write_video(tmp_path / "in" / f"{n}.mp4", 40, speed=0, size=(64, 48))
    monkeypatch.setattr(estimate, "MIN_PAIRS", 100)
    planned = plan_corpus([tmp_path / "in"], tmp_path / "c", FRAMES_ONLY)
    found = estimate_run(planned)
    assert found is not None and found.videos == 3 and found.frames == 18 and found.seconds > 0
    (one,) = measure([planned.plan.tasks[0].segments[0]], FRAMES_ONLY)
    assert found.bytes == pytest.approx(3 * 39 * one.bytes / 6, rel=0.2)
    assert found.core_seconds == pytest.approx(found.seconds * found.cores)
    assert not list((tmp_path / "c" / "shards").iterdir())


def test_a_short_run_begins_at_once(monkeypatch):
    monkeypatch.setattr(estimate, "Worker", lambda: pytest.fail("a process was started"))
    assert estimate.estimate_tasks([Task("a", (segment(0, MIN_PAIRS - 1),))], FRAMES_ONLY) is None


def test_videos_that_cannot_be_measured_give_no_estimate(tmp_path):
    missing = dataclasses.replace(segment(0, 1), path=str(tmp_path / "no"), estimate=MIN_PAIRS)
    assert estimate.estimate_tasks([Task("a", (missing,))], FRAMES_ONLY) is None


def test_a_video_that_never_ends_gives_no_estimate(monkeypatch, tmp_path):
    monkeypatch.setattr(estimate, "LIMIT_SECONDS", 0.0)
    assert estimate.estimate_tasks([Task("a", (segment(0, MIN_PAIRS),))], FRAMES_ONLY) is None


def test_the_words_of_an_estimate():
    words = str(Estimate(7200.0, 14400.0, 1_500_000_000, 2, 4, 24))
    assert words == (
        "about 2 h 0 min on 2 cores of this machine, and 1.5 GB of shards; measured on 24 frames of 4 videos"
    )
