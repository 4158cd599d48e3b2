"""From inputs to videos."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flowprep.corpus.store import CorpusStore
from flowprep.errors import UsageError
from flowprep.planning.discover import discover_videos
from tests.support.planning import plan_inputs, sources, touch
from tests.support.videos import write_frames


def test_folder_is_searched_and_other_files_are_counted(clips):
    discovery = discover_videos([clips])
    videos, skipped = discovery.videos, discovery.skipped
    assert [(video.source, video.label) for video in videos] == [
        ("left/v_left_g01.mp4", "left"),
        ("left/v_left_g02.mp4", "left"),
        ("right/v_right_g01.mp4", "right"),
        ("right/v_right_g02.mp4", "right"),
    ]
    assert skipped == 2


@pytest.mark.parametrize(
    "name", ["with space.mp4", "-dash-.mp4", "two.dots.v1.avi", "übung_录像.MKV", "quote'\".webm", "100%.mov"]
)
def test_names_of_any_kind_are_kept(tmp_path, name):
    touch(tmp_path / "in" / "Class A" / name)
    assert sources(tmp_path / "in") == [(f"Class A/{name}", "Class A")]


def test_bytes_that_are_not_utf8_are_escaped(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.mp4")).write_bytes(b"x")
    plan = plan_inputs(tmp_path / "c", folder)
    assert plan.video_ids() == {"caf\\xe9.mp4"}
    assert Path(CorpusStore(tmp_path / "c").read_plan().tasks[0].segments[0].path).exists()


def test_single_file_has_no_label(tmp_path):
    assert sources(touch(tmp_path / "a.b.mp4")) == [("a.b.mp4", "")]


def test_folders_of_numbered_frames_are_videos(tmp_path):
    write_frames(tmp_path / "in" / "Jump" / "clip one")
    touch(tmp_path / "in" / "Jump" / "b.mp4")
    write_frames(tmp_path / "in" / "Jump", 3, pattern="thumb{}.png")  # images beside a video are other files
    assert sources(tmp_path / "in") == [("Jump/b.mp4", "Jump"), ("Jump/clip one", "Jump")]
    assert discover_videos([tmp_path / "in"]).skipped == 3
    assert sources(tmp_path / "in" / "Jump" / "clip one") == [("clip one", "")]


def test_links_are_followed_only_inside_the_input(tmp_path):
    outside = touch(tmp_path / "outside" / "secret.mp4")
    inside = touch(tmp_path / "in" / "A" / "a.mp4")
    (tmp_path / "in" / "B").mkdir()
    (tmp_path / "in" / "B" / "link.mp4").symlink_to(inside)
    (tmp_path / "in" / "B" / "out.mp4").symlink_to(outside)
    (tmp_path / "in" / "B" / "broken.mp4").symlink_to(tmp_path / "in" / "none.mp4")
    (tmp_path / "in" / "C").symlink_to(tmp_path / "in" / "A")
    (tmp_path / "in" / "D").symlink_to(outside.parent)
    (tmp_path / "in" / "A" / "loop").symlink_to(tmp_path / "in")
    discovery = discover_videos([tmp_path / "in"])
    videos, skipped = discovery.videos, discovery.skipped
    assert [video.source for video in videos] == ["A/a.mp4", "B/link.mp4", "C/a.mp4"]
    assert skipped == 5  # out, broken, D, and loop twice: in A and in C


def test_search_of_folders_with_links_to_each_other_ends(tmp_path):
    touch(tmp_path / "in" / "0" / "a.mp4")
    for i in range(12):
        (tmp_path / "in" / str(i)).mkdir(exist_ok=True)
        for k in range(12):
            if i != k:
                (tmp_path / "in" / str(i) / f"to{k}").symlink_to(tmp_path / "in" / str(k))
    videos = discover_videos([tmp_path / "in"]).videos
    assert [video.source for video in videos] == ["0/a.mp4", *sorted(f"{i}/to0/a.mp4" for i in range(1, 12))]


def test_pipes_and_folders_with_the_suffix_of_a_video_are_skipped(tmp_path):
    touch(tmp_path / "in" / "a.mp4")
    os.mkfifo(tmp_path / "in" / "pipe.mp4")  # opening it would never return
    (tmp_path / "in" / "folder.mp4").mkdir()
    assert sources(tmp_path / "in") == [("a.mp4", "in")]
    for wrong in ("in/pipe.mp4", "in/notes.md"):
        (tmp_path / "in" / "notes.md").touch()
        with pytest.raises(UsageError, match="not a folder, a list or a video"):
            discover_videos([tmp_path / wrong])


def test_few_images_beside_videos_are_not_a_video(tmp_path):
    touch(tmp_path / "in" / "A" / "v.mp4")
    write_frames(tmp_path / "in", 2, pattern="thumb{}.png")
    write_frames(tmp_path / "in" / "doc", 3, pattern="fig{}.png")
    (tmp_path / "in" / "doc" / "fig2.png").unlink()
    write_frames(tmp_path / "in" / "B" / "lost", 12)
    (tmp_path / "in" / "B" / "lost" / "img_00005.png").unlink()  # a video that will fail
    discovery = discover_videos([tmp_path / "in"])
    videos, skipped = discovery.videos, discovery.skipped
    assert [video.source for video in videos] == ["A/v.mp4", "B/lost"]
    assert skipped == 4


def test_missing_inputs_and_inputs_without_videos_are_refused(tmp_path):
    with pytest.raises(UsageError, match="no such input"):
        discover_videos([tmp_path / "none"])
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.doc").touch()
    with pytest.raises(
        UsageError,
        match=r"no video in .* \(1 other files\)\. Known suffixes: .*mp4.* Links .* not",
    ):
        discover_videos([tmp_path / "in"])
