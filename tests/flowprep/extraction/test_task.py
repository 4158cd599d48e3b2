"""Tasks: changed sources, slow videos, shards in a scratch folder."""

from __future__ import annotations

import dataclasses
import shutil
import threading
from pathlib import Path

import pytest

import flowprep
from flowprep.corpus import shard_writer
from flowprep.corpus.plan import Segment, Task
from flowprep.corpus.store import CorpusStore
from flowprep.extraction.task import TaskOptions, run_task
from flowprep.settings import Settings
from flowprep.video.decode import decode_frames
from tests.support.videos import write_video

NO_FLOW = Settings(size="source", flow=False)


def task_of(path: Path, size: int) -> Task:
    return Task("aa", (Segment("a", str(path), "a", "", size),))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    for folder in ("shards", "records"):
        (tmp_path / "c" / folder).mkdir(parents=True)
    return tmp_path / "c"


def test_changed_source_fails_unless_it_is_accepted(tmp_path, corpus):
    path = write_video(tmp_path / "a.mp4", 5)
    size = path.stat().st_size
    (entry,) = run_task(CorpusStore(corpus), task_of(path, size + 1), NO_FLOW).videos
    assert entry.status == "failed"
    assert f"has {size} bytes and had {size + 1} when it was planned" in entry.reason
    record = run_task(CorpusStore(corpus), task_of(path, size + 1), NO_FLOW, TaskOptions(accept_changed=True))
    assert record.videos[0].status == "ok"


def test_source_with_a_newer_time_stamp_has_a_warning(tmp_path, corpus):
    """If its size is the same. One of several segments fails: the others might be of another file."""
    path = write_video(tmp_path / "a.mp4", 5)
    state = path.stat()
    segment = Segment("a", str(path), "a", "", state.st_size, state.st_mtime_ns)
    for planned, warned in ((segment, False), (dataclasses.replace(segment, modified_ns=1), True)):
        (entry,) = run_task(CorpusStore(corpus), Task("aa", (planned,)), NO_FLOW).videos
        assert entry.status == "ok" and ("was changed since it was planned" in entry.warning) == warned
    part = dataclasses.replace(segment, modified_ns=1, segments=2, count=2)
    (entry,) = run_task(CorpusStore(corpus), Task("aa", (part,)), NO_FLOW).videos
    assert entry.status == "failed" and "might not go together" in entry.reason
    (entry,) = run_task(
        CorpusStore(corpus), Task("aa", (part,)), NO_FLOW, TaskOptions(accept_changed=True)
    ).videos
    assert entry.status == "ok"


@pytest.mark.parametrize("gone", [True, False])
def test_source_that_changes_while_it_is_read_fails(tmp_path, corpus, gone):
    path = write_video(tmp_path / "a.mp4", 5)
    whole = decode_frames

    def decode(file, start=0):
        yield from whole(file, start)
        path.unlink()
        if not gone:
            write_video(path, 9)

    task = task_of(path, path.stat().st_size)
    (entry,) = run_task(CorpusStore(corpus), task, NO_FLOW, read_frames=decode).videos
    assert entry.status == "failed" and "changed while it was read" in entry.reason


def test_slow_video_fails_and_the_next_one_is_extracted(tmp_path, corpus):
    slow, quick = (write_video(tmp_path / f"{n}.mp4", 5) for n in ("slow", "quick"))
    whole = decode_frames
    end = threading.Event()

    def decode(file, start=0):
        if file == slow:
            end.wait(60)  # as in a decoder that hangs
        return whole(file, start)

    segments = tuple(Segment(p.stem, str(p), p.name, "", p.stat().st_size) for p in (slow, quick))
    options = TaskOptions(timeout_seconds=3)
    record = run_task(CorpusStore(corpus), Task("aa", segments), NO_FLOW, options, read_frames=decode)
    end.set()
    assert [v.status for v in record.videos] == ["failed", "ok"]
    assert record.videos[0].reason == "took longer than 3 s"


def test_shards_are_built_on_scratch_and_moved(clips, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    flowprep.make_corpus([clips], tmp_path / "here", NO_FLOW, jobs=1)
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    plan = CorpusStore(tmp_path / "there").read_plan()
    for task in plan.tasks:
        shard = tmp_path / "there" / "shards" / f"{task.id}.h5"
        before = shard.read_bytes()
        shard.unlink()
        seen = []
        write = Path.open

        def opened(self, mode="r", *args, _write=write, _seen=seen, **kwargs):
            if "w" in mode or "x" in mode:
                _seen.append(self.parent)
            return _write(self, mode, *args, **kwargs)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Path, "open", opened)
            run_task(CorpusStore(tmp_path / "there"), task, NO_FLOW, TaskOptions(scratch=scratch))
        assert shard.read_bytes() == before
        assert scratch in seen and shard.parent not in seen
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (IndexError("list index out of range"), "it cannot be read: IndexError: list index out of range"),
        (PermissionError(13, "Permission denied", "/x"), "it cannot be read: Permission denied"),
        (OSError(36, "File name too long"), "it cannot be read: File name too long"),
        (MemoryError("no room"), "it cannot be read: MemoryError: no room"),
    ],
)
@pytest.mark.parametrize("frames_before", [0, 2])
def test_any_error_of_one_video_fails_that_video(tmp_path, corpus, error, reason, frames_before):
    bad, good = (write_video(tmp_path / f"{n}.mp4", 5) for n in ("bad", "good"))

    def decode(file, start=0):
        for number, item in enumerate(decode_frames(file, start)):
            if file == bad and number == frames_before:
                raise error
            yield item

    segments = tuple(Segment(p.stem, str(p), p.name, "", p.stat().st_size) for p in (bad, good))
    record = run_task(CorpusStore(corpus), Task("aa", segments), NO_FLOW, read_frames=decode)
    assert [(v.status, v.frames) for v in record.videos] == [("failed", 0), ("ok", 5)]
    assert record.videos[0].reason == reason


def test_a_video_that_the_codes_do_not_suit_fails_alone(tmp_path, corpus, monkeypatch):
    """Every stage counts, not only the decoder."""
    bad, good = (write_video(tmp_path / f"{n}.mp4", 5, seed=k) for k, n in enumerate(("bad", "good")))
    encode, calls = "flowprep.corpus.shard_writer.encode_rgb", []
    whole = shard_writer.encode_rgb

    def fail_first(rgb, quality):
        calls.append(rgb)
        if len(calls) == 2:
            raise ValueError("no code for it")
        return whole(rgb, quality)

    monkeypatch.setattr(encode, fail_first)
    segments = tuple(Segment(p.stem, str(p), p.name, "", p.stat().st_size) for p in (bad, good))
    record = run_task(CorpusStore(corpus), Task("aa", segments), NO_FLOW)
    assert [v.status for v in record.videos] == ["failed", "ok"]
    assert record.videos[0].reason == "ValueError: no code for it"


def test_an_unreadable_video_does_not_stop_a_run(clips, tmp_path):
    """In a folder that may not be entered, or with a name that no file can have."""
    lines = [f"{clips}/left/v_left_g01.mp4 left", f"{clips}/{'x' * 300}.mp4 left", "/dev/null/a.mp4 left"]
    (tmp_path / "list.txt").write_text("\n".join([*lines, f"{clips}/right/v_right_g01.mp4 right"]))
    result = flowprep.make_corpus([tmp_path / "list.txt"], tmp_path / "c", NO_FLOW, jobs=1)
    assert result.faults == {} and result.status.videos.ok == 2 and result.status.videos.failed == 2
