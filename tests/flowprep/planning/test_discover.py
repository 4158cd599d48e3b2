"""From inputs to videos."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from flowprep.corpus.store import CorpusStore
from flowprep.errors import UsageError
from flowprep.planning.discover import discover_videos
from flowprep.video.frame_folder import numbered_frames
from flowprep.video.suffixes import VIDEO_SUFFIXES
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
    assert [video.source for video in discovery.videos] == ["A/a.mp4", "B/link.mp4", "C/a.mp4"]
    assert (discovery.links, discovery.skipped) == (5, 0)  # out, broken, D, and loop twice: in A and in C
    links, lost = discovery.remarks
    assert "5 links not followed" in links and "D, A/loop, B/broken.mp4, B/out.mp4, C/loop" in links
    assert lost.endswith("no video is left, because of such links, of D")


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
        match=r"no video in .* \(1 other file, 0 links not followed\)\. Known suffixes: .*mp4.* Links .* not",
    ):
        discover_videos([tmp_path / "in"])


def test_files_and_folders_of_systems_are_passed_over(tmp_path):
    root = tmp_path / "in"
    touch(root / "A" / "a.mp4")
    for name in (
        "._a.mp4",
        ".git/annex/b.mp4",
        "__MACOSX/A/a.mp4",
        "@eaDir/a.mp4/thumb.mp4",
        ".Trash-1000/c.mp4",
    ):
        touch(root / "A" / name)
    for name in (".ipynb_checkpoints/d.mp4", "$RECYCLE.BIN/e.mp4", "#recycle/f.mp4"):
        touch(root / name)
    write_frames(root / "B" / "frames", 12)
    touch(root / "B" / "frames" / "._img_00001.png")
    touch(root / "B" / "frames" / "@eaDir" / "img_00001.png")
    touch(root / "B" / "frames" / ".DS_Store")
    discovery = discover_videos([root])
    assert [video.source for video in discovery.videos] == ["A/a.mp4", "B/frames"]
    assert discovery.skipped == 0 and not discovery.remarks
    frames = numbered_frames(root / "B" / "frames")
    assert [path.name for path in frames] == [f"img_{k:05d}.png" for k in range(1, 13)]
    assert sources(root / "B" / "frames") == [("frames", "")]
    hidden = touch(tmp_path / ".hidden" / "g.mp4")
    assert sources(hidden.parent) == [("g.mp4", ".hidden")]  # the user named it


@pytest.mark.parametrize("suffix", ["h264", "HEVC", "m2v", "f4v", "3g2", "dv", "ogg", "Ivf", "mjpeg", "apng"])
def test_suffixes_count_in_any_case_and_as_in_lists(tmp_path, suffix):
    touch(tmp_path / "in" / f"a.{suffix}")
    assert sources(tmp_path / "in") == [(f"a.{suffix}", "in")] and f".{suffix.lower()}" in VIDEO_SUFFIXES


def test_images_of_mixed_case_are_one_series(tmp_path):
    write_frames(tmp_path / "in" / "clip", 3)
    (tmp_path / "in" / "clip" / "img_00002.png").rename(tmp_path / "in" / "clip" / "img_00002.PNG")
    assert (
        sources(tmp_path / "in") == [("clip", "in")] and len(numbered_frames(tmp_path / "in" / "clip")) == 3
    )


def test_folders_of_images_that_are_no_videos_are_named_with_the_reason(tmp_path):
    root = tmp_path / "in"
    touch(root / "A" / "v.mp4")
    write_frames(root / "A", 3)
    write_frames(root / "two", 12)
    write_frames(root / "two", 2, pattern="mask_{:03d}.png")
    write_frames(root / "gap", 3)
    (root / "gap" / "img_00002.png").unlink()
    write_frames(root / "deep", 12)
    touch(root / "deep" / "more" / "photo.jpg")
    discovery = discover_videos([root])
    assert {Path(folder).name: reason for folder, reason in discovery.passed_over.items()} == {
        "A": "3 images not read as frames of a video: there are videos beside them",
        "two": "14 images not read as frames of a video:"
        " 2 series of numbers: img_<number>.png, mask_<number>.png",
        "gap": "2 images not read as frames of a video: the numbers from 1 to 3 have gaps,"
        " and there are fewer than ten images",
        "deep": "12 images not read as frames of a video: there are folders beside them",
        "more": "1 image not read as frames of a video: their names have no numbers",
    }
    assert any(remark.startswith(f"{root / 'gap'}: 2 images") for remark in discovery.remarks)


def test_classes_that_are_lost_by_links_are_named(tmp_path):
    outside = touch(tmp_path / "store" / "x.mp4")
    root = tmp_path / "in"
    touch(root / "Run" / "a.mp4")
    for name in ("Jump", "Walk"):
        (root / name).mkdir()
    for k in range(3):
        (root / "Jump" / f"{k}.mp4").symlink_to(outside)
    (root / "Walk" / "notes.txt").symlink_to(tmp_path / "none")
    (root / "Swim").symlink_to(outside.parent)
    discovery = discover_videos([root])
    assert discovery.links == 5
    assert discovery.remarks[-1].endswith("no video is left, because of such links, of Swim, Jump")


def test_a_link_among_frames_is_a_frame_whose_reason_extraction_gives(tmp_path):
    write_frames(tmp_path / "in" / "part", 4)
    (tmp_path / "in" / "part" / "img_00003.png").unlink()
    (tmp_path / "in" / "part" / "img_00003.png").symlink_to(tmp_path / "none.png")
    (tmp_path / "in" / "all").mkdir()
    for k in range(3):
        (tmp_path / "in" / "all" / f"img_{k}.png").symlink_to(tmp_path / "none.png")
    discovery = discover_videos([tmp_path / "in"])
    assert [video.source for video in discovery.videos] == ["part"] and discovery.links == 3
    assert discovery.remarks[-1].endswith("no video is left, because of such links, of all")


def test_loops_of_links_end(tmp_path):
    root = tmp_path / "in"
    touch(root / "a.mp4")
    (root / "b").symlink_to("c")
    (root / "c").symlink_to("b")
    (root / "self.mp4").symlink_to("self.mp4")
    discovery = discover_videos([root])
    assert [video.source for video in discovery.videos] == ["a.mp4"] and discovery.links == 3
    with pytest.raises(UsageError, match="no such input"):
        discover_videos([root / "b"])


@pytest.mark.parametrize(("depth", "name"), [(1500, "d"), (1100, "name")])
def test_deep_folders_are_searched_as_far_as_paths_go(tmp_path, monkeypatch, depth, name):
    """A path of more than 4,095 bytes cannot be opened: that folder is named with the reason."""
    touch(tmp_path / "in" / "a.mp4")
    monkeypatch.chdir(tmp_path / "in")
    for _ in range(depth):
        Path(name).mkdir()
        os.chdir(name)
    Path("b.mp4").write_bytes(b"x")
    os.chdir(tmp_path)
    discovery = discover_videos([tmp_path / "in"])
    deep = "/".join([name] * depth) + "/b.mp4"
    if len(str(tmp_path)) + len(deep) < 4000:
        assert [video.source for video in discovery.videos] == ["a.mp4", deep]
    else:
        assert [video.source for video in discovery.videos] == ["a.mp4"]
        assert list(discovery.passed_over.values()) == ["the folder cannot be read: File name too long"]
    subprocess.run(["rm", "-rf", tmp_path / "in"], check=True)  # deeper than shutil.rmtree goes


def test_folders_that_may_not_be_entered_are_named(tmp_path, monkeypatch):
    touch(tmp_path / "in" / "a.mp4")
    touch(tmp_path / "in" / "locked" / "b.mp4")
    scan = os.scandir

    def refuse(path):
        if Path(path).name == "locked":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    discovery = discover_videos([tmp_path / "in"])
    assert [video.source for video in discovery.videos] == ["a.mp4"]
    assert discovery.passed_over == {
        str(tmp_path / "in" / "locked"): "the folder cannot be read: Permission denied"
    }
