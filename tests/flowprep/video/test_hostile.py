"""Files that are made to harm: each is a failed video, soon and in little memory, and opens nothing else."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

import flowprep
from flowprep.errors import VideoDamaged, VideoError, VideoUnreadable, VideoUnsuitable
from flowprep.extraction.task import TaskOptions, _ahead, run_task
from flowprep.planning.tasks import Segment, Task
from flowprep.settings import Settings
from flowprep.video import decode as video
from flowprep.video.decode import estimate_frames, read_frames
from tests.support.videos import write_video

NO_FLOW = Settings(size="source", flow=False)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A video that no other file may make FFmpeg open."""
    return write_video(tmp_path / "secret.ts", 5)


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{name}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {name}\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/{name}\n#EXT-X-ENDLIST\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n",
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><AdaptationSet>'
        "<Representation><BaseURL>{name}</BaseURL></Representation></AdaptationSet></Period></MPD>",
    ],
    ids=["hls", "concat", "http", "sdp", "dash"],
)
def test_playlists_open_nothing(tmp_path, secret, text):
    path = tmp_path / "list.mp4"
    path.write_text(text.format(name=secret.name))
    assert estimate_frames(path) == 0
    with pytest.raises(VideoUnreadable, match="not a video"):
        next(read_frames(path, "source"))


def test_without_the_restriction_a_playlist_would_be_followed(tmp_path, secret, monkeypatch):
    """The test above could not fail if FFmpeg did not know the format."""
    path = tmp_path / "list.mp4"
    path.write_text(f"ffconcat version 1.0\nfile {secret.name}\n")
    monkeypatch.setattr(video, "_OPEN_OPTIONS", {})
    assert len(list(read_frames(path, "source"))) == 5


@pytest.mark.parametrize(
    "suffix", ["3gp", "asf", "avi", "m2ts", "m4v", "mkv", "mov", "mp4", "mpg", "ts", "vob", "wmv"]
)
def test_videos_of_every_kind_are_still_read(tmp_path, suffix):
    path = write_video(tmp_path / f"a.{suffix}", 5)
    assert len(list(read_frames(path, "source"))) == 5


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_only_regular_files_are_opened(tmp_path, kind):
    path = tmp_path / "a.mp4"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(VideoUnreadable):
        next(read_frames(path, "source"))


def test_a_declared_size_is_bounded(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", 5, size=(64, 48))
    monkeypatch.setattr(video, "MOST_PIXELS", 64 * 48 - 1)
    with pytest.raises(VideoUnsuitable, match="64x48 pixels are declared; at most 3071"):
        next(read_frames(path, "source"))
    # The same where only the stream within says so: the decoder refuses
    monkeypatch.setattr(video, "_check_pixels", lambda *_: None)
    with pytest.raises(VideoError):
        list(read_frames(path, "source"))


def test_a_y4m_of_100000_by_100000_pixels(tmp_path):
    path = tmp_path / "bomb.y4m"
    path.write_bytes(b"YUV4MPEG2 W100000 H100000 F25:1 Ip C420\nFRAME\n" + bytes(1000))
    with pytest.raises(VideoError):
        list(read_frames(path, "source"))


def task_of(path: Path, size: int) -> Task:
    return Task("aa", (Segment("a", str(path), "a", "", size),))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    for folder in ("shards", "records"):
        (tmp_path / "c" / folder).mkdir(parents=True)
    return tmp_path / "c"


def test_a_source_that_is_not_as_it_was_planned_fails_and_is_taken_on_request(tmp_path, corpus):
    path = write_video(tmp_path / "a.mp4", 5)
    size = path.stat().st_size
    (entry,) = run_task(corpus, task_of(path, size + 1), NO_FLOW)["videos"]
    assert entry["status"] == "failed"
    assert f"has {size} bytes and had {size + 1} when it was planned" in entry["reason"]
    record = run_task(corpus, task_of(path, size + 1), NO_FLOW, TaskOptions(accept_changed=True))
    assert record["videos"][0]["status"] == "ok"


def test_a_source_that_was_touched_since_it_was_planned(tmp_path, corpus):
    """Of the same size: it is taken and that is said, unless its segments might be of two files."""
    path = write_video(tmp_path / "a.mp4", 5)
    state = path.stat()
    segment = Segment("a", str(path), "a", "", state.st_size, state.st_mtime_ns)
    for planned, warned in ((segment, False), (dataclasses.replace(segment, modified_ns=1), True)):
        (entry,) = run_task(corpus, Task("aa", (planned,)), NO_FLOW)["videos"]
        assert entry["status"] == "ok" and ("was changed since it was planned" in entry["warning"]) == warned
    part = dataclasses.replace(segment, modified_ns=1, segments=2, count=2)
    (entry,) = run_task(corpus, Task("aa", (part,)), NO_FLOW)["videos"]
    assert entry["status"] == "failed" and "might not go together" in entry["reason"]
    (entry,) = run_task(corpus, Task("aa", (part,)), NO_FLOW, TaskOptions(accept_changed=True))["videos"]
    assert entry["status"] == "ok"


@pytest.mark.parametrize("gone", [True, False])
def test_a_source_that_changes_while_it_is_read_fails(tmp_path, corpus, monkeypatch, gone):
    path = write_video(tmp_path / "a.mp4", 5)
    whole = video.decode_frames

    def decode(file, start=0):
        yield from whole(file, start)
        path.unlink()
        if not gone:
            write_video(path, 9)

    monkeypatch.setattr("flowprep.extraction.task.decode_frames", decode)
    (entry,) = run_task(corpus, task_of(path, path.stat().st_size), NO_FLOW)["videos"]
    assert entry["status"] == "failed" and "changed while it was read" in entry["reason"]


def test_a_video_that_takes_too_long_fails_and_the_next_goes_on(tmp_path, corpus, monkeypatch):
    slow, quick = (write_video(tmp_path / f"{n}.mp4", 5) for n in ("slow", "quick"))
    whole = video.decode_frames
    end = threading.Event()

    def decode(file, start=0):
        if file == slow:
            end.wait(60)  # as in a decoder that hangs
        return whole(file, start)

    monkeypatch.setattr("flowprep.extraction.task.decode_frames", decode)
    segments = tuple(Segment(p.stem, str(p), p.name, "", p.stat().st_size) for p in (slow, quick))
    record = run_task(corpus, Task("aa", segments), NO_FLOW, TaskOptions(timeout_seconds=3))
    end.set()
    assert [v["status"] for v in record["videos"]] == ["failed", "ok"]
    assert record["videos"][0]["reason"] == "took longer than 3 s"


def test_a_limit_counts_from_the_first_item_to_the_last():
    stream = _ahead(itertools.count(), limit=0.2)
    with pytest.raises(VideoUnsuitable, match=r"took longer than 0\.2 s"):
        for _ in stream:
            pass


def test_shards_are_built_on_scratch_and_moved(clips, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    flowprep.make_corpus([clips], tmp_path / "here", NO_FLOW, jobs=1)
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    plan = flowprep.planning.tasks.read_plan(tmp_path / "there")
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
            run_task(tmp_path / "there", task, NO_FLOW, TaskOptions(scratch=scratch))
        assert shard.read_bytes() == before
        assert scratch in seen and shard.parent not in seen
    assert list(scratch.iterdir()) == []


def test_damage_is_told_as_before(tmp_path):
    """Restricting what FFmpeg opens hides no damage."""
    path = write_video(tmp_path / "a.avi", 40, size=(64, 48))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with pytest.raises(VideoDamaged):
        list(read_frames(path, "source"))


def test_images_of_frames_are_bounded_as_videos(tmp_path):
    """In a process of its own, since OpenCV reads its bound once."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(2):
        cv2.imwrite(str(folder / f"{number}.png"), np.zeros((8200, 8200), np.uint8))
    command = [sys.executable, "-m", "flowprep.cli", "extract", folder, "--out", tmp_path / "c", "--no-flow"]
    run = subprocess.run([*command, "--json"], capture_output=True, text=True)
    assert run.returncode == 3, run.stderr
    assert "cannot be read" in json.loads(run.stdout)["failures"]["frames"]
