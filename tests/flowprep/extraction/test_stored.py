"""Tasks that run again: the sound videos are copied, only the others are computed."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest

import flowprep
from flowprep.api import PlannedCorpus, extract_corpus, plan_corpus
from flowprep.corpus.store import CorpusStore
from flowprep.corpus.verify import verify_corpus
from flowprep.extraction.pipeline import Pipeline
from flowprep.extraction.stored import pairs_to_compute
from flowprep.presets import Tvl1Settings
from flowprep.settings import Settings

# One task, whose shard has images of every stream.
SETTINGS = Settings(
    size="source", engine="opencv", tvl1=Tvl1Settings(scales=2, warps=2), backward=True, stabilise=True
)
BROKEN = "left/v_left_g02.mp4"


def shards(corpus: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in (corpus / "shards").iterdir()}


@pytest.fixture
def computed(monkeypatch) -> list[str]:
    """The ids of the videos that go through the pipeline, in order."""
    ids = []
    write = Pipeline.write_segment

    def counting(self, segment):
        ids.append(segment.id)
        return write(self, segment)

    monkeypatch.setattr(Pipeline, "write_segment", counting)
    return ids


def extract_with_a_broken_video(clips: Path, out: Path, settings: Settings) -> None:
    """Extract, with one video in the middle that fails, and mend the video."""
    plan_corpus([clips], out, settings)
    whole = (clips / BROKEN).read_bytes()
    (clips / BROKEN).write_bytes(whole[: len(whole) // 2].ljust(len(whole), b"\0"))
    result = flowprep.make_corpus([clips], out, settings, jobs=1)
    assert list(result.status.failures) == [BROKEN]
    (clips / BROKEN).write_bytes(whole)


@pytest.mark.parametrize(
    "changes",
    [{}, {"rgb": False}, {"flow": False, "backward": False, "stabilise": False}, {"step": 2}],
    ids=str,
)
def test_a_retry_computes_the_failed_videos_only_and_gives_the_same_bytes(clips, tmp_path, computed, changes):
    settings = dataclasses.replace(SETTINGS, **changes)
    extract_with_a_broken_video(clips, tmp_path / "c", settings)
    computed.clear()
    result = flowprep.make_corpus([clips], tmp_path / "c", settings, jobs=1, retry_failed=True)
    assert computed == [BROKEN] and result.complete and result.status.complete
    flowprep.make_corpus([clips], tmp_path / "fresh", settings, jobs=1)
    assert shards(tmp_path / "c") == shards(tmp_path / "fresh")
    store = CorpusStore(tmp_path / "c")
    assert verify_corpus(store).problems == ()
    (again,), (fresh,) = (
        [CorpusStore(tmp_path / name).read_record(task.id) for task in store.read_plan().tasks]
        for name in ("c", "fresh")
    )
    warnings = {video.id: video.warning for video in again.videos if video.warning}
    assert list(warnings) in ([], [BROKEN])  # its file is newer than the plan
    assert [dataclasses.replace(v, warning="") for v in again.videos] == list(fresh.videos)
    counts = [name for name in fresh.totals if not name.endswith("_seconds")]
    assert {name: again.totals[name] for name in counts} == {name: fresh.totals[name] for name in counts}


def test_the_pairs_of_a_retry_are_those_of_the_failed_videos(clips, tmp_path):
    extract_with_a_broken_video(clips, tmp_path / "c", SETTINGS)
    store = CorpusStore(tmp_path / "c")
    (task,) = store.read_plan().tasks
    assert pairs_to_compute(store, task) == 7  # of 8 frames
    done = []
    planned = PlannedCorpus.read(tmp_path / "c")
    extract_corpus(planned, retry_failed=True, progress=lambda *a: done.append(a[:2]))
    assert done[-1] == (7, 7)


def test_a_stored_image_that_is_damaged_is_computed_again(clips, tmp_path, computed):
    extract_with_a_broken_video(clips, tmp_path / "c", SETTINGS)
    store = CorpusStore(tmp_path / "c")
    (task,) = store.read_plan().tasks
    video = flowprep.open_corpus(tmp_path / "c")["right/v_right_g02.mp4"]
    jpeg = video.stored("rgb", 3)
    shard = store.shard_path(task.id)
    data = shard.read_bytes()
    assert data.count(jpeg) == 1
    shard.write_bytes(data.replace(jpeg, jpeg[:-3] + b"xyz"))
    computed.clear()
    result = flowprep.make_corpus([clips], tmp_path / "c", SETTINGS, jobs=1, retry_failed=True)
    assert computed == [BROKEN, "right/v_right_g02.mp4"] and result.status.complete
    flowprep.make_corpus([clips], tmp_path / "fresh", SETTINGS, jobs=1)
    assert shards(tmp_path / "c") == shards(tmp_path / "fresh")


def test_a_shard_of_other_software_names_both(clips, tmp_path, monkeypatch):
    extract_with_a_broken_video(clips, tmp_path / "c", SETTINGS)
    monkeypatch.setattr("flowprep.extraction.task.__version__", "99")
    flowprep.make_corpus([clips], tmp_path / "c", SETTINGS, jobs=1, retry_failed=True)
    (software,) = {str(v.software["flowprep"]) for v in flowprep.open_corpus(tmp_path / "c").values()}
    assert software == f"99, {flowprep.__version__}"


def test_a_run_that_is_killed_before_its_record_leaves_the_task_pending(clips, tmp_path, monkeypatch):
    extract_with_a_broken_video(clips, tmp_path / "c", SETTINGS)

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(CorpusStore, "write_record", die)
        flowprep.make_corpus([clips], tmp_path / "c", SETTINGS, jobs=1, retry_failed=True)
    assert len(flowprep.open_corpus(tmp_path / "c")) == 0  # no record describes a shard that it does not know
    result = flowprep.make_corpus([clips], tmp_path / "c", SETTINGS, jobs=1)
    assert result.status.complete and verify_corpus(CorpusStore(tmp_path / "c")).problems == ()
