"""From inputs to videos to tasks."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from flowprep.corpus.store import CorpusStore
from flowprep.errors import CorpusError, CorpusFormatError, SettingsConflict, SettingsError, UsageError
from flowprep.planning.discover import discover_videos
from flowprep.planning.tasks import make_plan
from flowprep.settings import Settings
from tests.support.videos import write_frames, write_video


def sources(*inputs: Path) -> list[tuple[str, str]]:
    found = discover_videos(inputs).videos
    return [(f.source, f.label) for f in found]


def ids(corpus: Path, *inputs: Path) -> set[str]:
    return make_plan(CorpusStore(corpus), discover_videos(inputs).videos, Settings()).video_ids()


def touch(path: Path) -> Path:
    """A file that planning takes for a video: it is not decoded before extraction."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def test_a_folder_is_searched_and_other_files_are_counted(clips):
    discovery = discover_videos([clips])
    found, skipped = discovery.videos, discovery.skipped
    assert [(f.source, f.label) for f in found] == [
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


def test_a_name_that_is_no_utf8_is_spelled_out(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.mp4")).write_bytes(b"x")
    plan = make_plan(CorpusStore(tmp_path / "c"), discover_videos([folder]).videos, Settings())
    assert plan.video_ids() == {"caf\\xe9.mp4"}
    assert Path(CorpusStore(tmp_path / "c").read_plan().tasks[0].segments[0].path).exists()


def test_a_single_file_and_an_empty_label(tmp_path):
    assert sources(touch(tmp_path / "a.b.mp4")) == [("a.b.mp4", "")]


def test_folders_of_numbered_frames_are_videos(tmp_path):
    write_frames(tmp_path / "in" / "Jump" / "clip one")
    touch(tmp_path / "in" / "Jump" / "b.mp4")
    write_frames(tmp_path / "in" / "Jump", 3, pattern="thumb{}.png")  # beside a video: other files
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
    found, skipped = discovery.videos, discovery.skipped
    assert [f.source for f in found] == ["A/a.mp4", "B/link.mp4", "C/a.mp4"]
    assert skipped == 5  # out, broken, D, and loop in A and again in C


def test_folders_that_link_to_each_other_come_to_an_end(tmp_path):
    touch(tmp_path / "in" / "0" / "a.mp4")
    for i in range(12):
        (tmp_path / "in" / str(i)).mkdir(exist_ok=True)
        for k in range(12):
            if i != k:
                (tmp_path / "in" / str(i) / f"to{k}").symlink_to(tmp_path / "in" / str(k))
    found = discover_videos([tmp_path / "in"]).videos
    assert [f.source for f in found] == ["0/a.mp4", *sorted(f"{i}/to0/a.mp4" for i in range(1, 12))]


def test_what_is_no_file_is_passed_over(tmp_path):
    touch(tmp_path / "in" / "a.mp4")
    os.mkfifo(tmp_path / "in" / "pipe.mp4")  # opening it would wait for ever
    (tmp_path / "in" / "folder.mp4").mkdir()
    assert sources(tmp_path / "in") == [("a.mp4", "in")]
    for wrong in ("in/pipe.mp4", "in/notes.md"):
        (tmp_path / "in" / "notes.md").touch()
        with pytest.raises(UsageError, match="no folder, list or video"):
            discover_videos([tmp_path / wrong])


def test_a_few_images_beside_videos_are_no_video(tmp_path):
    touch(tmp_path / "in" / "A" / "v.mp4")
    write_frames(tmp_path / "in", 2, pattern="thumb{}.png")
    write_frames(tmp_path / "in" / "doc", 3, pattern="fig{}.png")
    (tmp_path / "in" / "doc" / "fig2.png").unlink()
    write_frames(tmp_path / "in" / "B" / "lost", 12)
    (tmp_path / "in" / "B" / "lost" / "img_00005.png").unlink()  # taken, and failed when it is extracted
    discovery = discover_videos([tmp_path / "in"])
    found, skipped = discovery.videos, discovery.skipped
    assert [f.source for f in found] == ["A/v.mp4", "B/lost"]
    assert skipped == 4


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_text_lists(tmp_path, newline):
    touch(tmp_path / "A" / "one two.mp4")
    touch(tmp_path / "b.mp4")
    lines = [
        "A/one two.mp4",
        "A/three.mp4 walk",
        "b.mp4 run",
        "",
        str(tmp_path / "b.mp4") + " 7",
        "gone.mp4 run",
    ]
    (tmp_path / "list.txt").write_text(newline.join(lines))
    assert sources(tmp_path / "list.txt") == [
        ("A/one two.mp4", "A"),  # no label: the folder's name
        ("A/three.mp4", "walk"),
        ("b.mp4", "run"),
        ("b.mp4", "7"),
        ("gone.mp4", "run"),  # recorded as failed when it is extracted
    ]
    (tmp_path / "list.txt").write_text("b.mp4 run\nb.mp4 walk\n")
    with pytest.raises(UsageError, match=r"line 2: b\.mp4 has the labels 'run' and 'walk'"):
        discover_videos([tmp_path / "list.txt"])
    (tmp_path / "list.txt").write_text(f"b.mp4 run\n{'x' * 300}\na\0b.mp4\n")  # names no file can have
    assert [s for s, _ in sources(tmp_path / "list.txt")] == ["b.mp4", "x" * 300, "a\0b.mp4"]


def test_a_tab_parts_path_and_label_in_a_text_list(tmp_path):
    (tmp_path / "list.txt").write_text("a b.mp4\tPush Ups\nA/c.mp4\t\n")
    assert sources(tmp_path / "list.txt") == [("a b.mp4", "Push Ups"), ("A/c.mp4", "A")]


def test_csv_lists(tmp_path):
    touch(tmp_path / "a, b.mp4")
    (tmp_path / "list.csv").write_text('path,label\n"a, b.mp4",high jump\nc.mp4\n')
    assert sources(tmp_path / "list.csv") == [("a, b.mp4", "high jump"), ("c.mp4", "")]
    (tmp_path / "list.csv").write_text("a.mp4,x,y\n")
    with pytest.raises(UsageError, match=r"line 1: .*allowed: path,label"):
        discover_videos([tmp_path / "list.csv"])


def test_nothing_to_do_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="no such input"):
        discover_videos([tmp_path / "none"])
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.doc").touch()
    with pytest.raises(
        UsageError,
        match=r"no video in .* \(1 other files\)\. Known suffixes: .*mp4.* Links .* not",
    ):
        discover_videos([tmp_path / "in"])


def test_ids_that_collide_are_prefixed_by_the_input(tmp_path):
    for root in ("a/x", "b/y"):
        touch(tmp_path / root / "same.mp4")
    touch(tmp_path / "b" / "y" / "other.mp4")
    assert ids(tmp_path / "c", tmp_path / "a/x", tmp_path / "b/y") == {
        "x/same.mp4",
        "y/same.mp4",
        "other.mp4",
    }


def test_files_and_folders_of_one_name_are_told_apart(tmp_path):
    one, two = touch(tmp_path / "a" / "v" / "same.mp4"), touch(tmp_path / "b" / "v" / "same.mp4")
    assert ids(tmp_path / "c", one, two) == {"a/v/same.mp4", "b/v/same.mp4"}


def test_the_same_video_twice_is_one(tmp_path):
    path = touch(tmp_path / "in" / "a.mp4")
    assert ids(tmp_path / "c", tmp_path / "in", path, tmp_path / "in" / ".." / "in") == {"a.mp4"}


def test_a_plan_does_not_depend_on_where_it_is_made(tmp_path):
    names = [f"{k}.mp4" for k in range(40)]
    for root in ("p/in", "q/in"):
        for name in names:
            touch(tmp_path / root / name)
    plans = [
        make_plan(CorpusStore(tmp_path / r / "c"), discover_videos([tmp_path / r / "in"]).videos, Settings())
        for r in "pq"
    ]
    assert [t.id for t in plans[0].tasks] == [t.id for t in plans[1].tasks]
    other = make_plan(
        CorpusStore(tmp_path / "c"), discover_videos([tmp_path / "p/in"]).videos, Settings(step=2)
    )
    assert {t.id for t in other.tasks}.isdisjoint(t.id for t in plans[0].tasks)


def test_new_videos_append_and_planned_ones_never_regroup(tmp_path):
    folder, corpus = tmp_path / "in", tmp_path / "c"
    for k in (1, 3, 5):
        write_video(folder / f"{k}.mp4", 4)
    settings = Settings(shard_pairs=6)
    before = make_plan(CorpusStore(corpus), discover_videos([folder]).videos, settings)
    assert len(before.tasks) == 2  # 3 + 3 pairs, and 3
    assert make_plan(CorpusStore(corpus), discover_videos([folder]).videos, settings) == before
    write_video(folder / "2.mp4", 4)
    after = make_plan(CorpusStore(corpus), discover_videos([folder]).videos, settings)
    assert after.tasks[:2] == before.tasks and len(after.tasks) == 3
    assert CorpusStore(corpus).read_plan() == after
    (folder / "1.mp4").unlink()
    assert (
        make_plan(CorpusStore(corpus), discover_videos([folder]).videos, settings) == after
    )  # what is planned stays planned


def test_long_videos_are_split_and_short_ones_share(tmp_path):
    write_video(tmp_path / "in" / "a.mp4", 26)
    for k in range(3):
        write_video(tmp_path / "in" / f"b{k}.mp4", 5)
    plan = make_plan(
        CorpusStore(tmp_path / "c"), discover_videos([tmp_path / "in"]).videos, Settings(shard_pairs=10)
    )
    shape = [[(s.id, s.first_frame, s.count, s.segment, s.segments) for s in t.segments] for t in plan.tasks]
    assert shape == [
        [("a.mp4", 0, 10, 0, 3)],
        [("a.mp4", 10, 10, 1, 3)],
        [("a.mp4", 20, 0, 2, 3)],  # to the end, wherever that is
        [("b0.mp4", 0, 0, 0, 1), ("b1.mp4", 0, 0, 0, 1)],
        [("b2.mp4", 0, 0, 0, 1)],
    ]
    assert sum(t.estimate for t in plan.tasks) == 25 + 3 * 4


def test_videos_that_do_not_say_how_long_they_are_share_no_endless_task(tmp_path):
    for n in range(9):
        touch(tmp_path / "in" / f"{n}.mp4")
    found = discover_videos([tmp_path / "in"]).videos
    tasks = make_plan(CorpusStore(tmp_path / "c"), found, Settings(shard_pairs=4)).tasks
    assert [len(task.segments) for task in tasks] == [4, 4, 1]
    assert sum(task.estimate for task in tasks) == 0


def test_a_very_long_video_has_few_long_segments(tmp_path, monkeypatch):
    touch(tmp_path / "in" / "a.mp4")
    monkeypatch.setattr("flowprep.planning.tasks.estimate_frames", lambda _: 100_001)
    plan = make_plan(CorpusStore(tmp_path / "c"), discover_videos([tmp_path / "in"]).videos, Settings())
    assert [t.estimate for t in plan.tasks] == [6250] * 16
    assert [t.segments[0].first_frame for t in plan.tasks] == list(range(0, 100_000, 6250))
    touch(tmp_path / "in" / "b.mp4")
    more = make_plan(
        CorpusStore(tmp_path / "c"), discover_videos([tmp_path / "in"]).videos, Settings(), max_segments=100
    )
    assert more.tasks[:16] == plan.tasks  # what is planned stays planned
    assert [t.estimate for t in more.tasks[16:]] == [1000] * 100


def test_other_settings_are_refused_by_name(tmp_path):
    touch(tmp_path / "in" / "a.mp4")
    found = discover_videos([tmp_path / "in"]).videos
    make_plan(CorpusStore(tmp_path / "c"), found, Settings())
    before = (tmp_path / "c" / "plan.jsonl").read_bytes()
    with pytest.raises(SettingsConflict, match="codes: fixed, adaptive; quality: 90, 95"):
        make_plan(CorpusStore(tmp_path / "c"), found, Settings(quality=90, codes="fixed"))
    assert (tmp_path / "c" / "plan.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    "size", ["short:15", "short:8193", "15x64", "65501x64", "64x65501", "20000x20000", "0x0", "short:0"]
)
def test_a_size_that_nothing_can_be_stored_at_is_refused(size):
    with pytest.raises(SettingsError, match=f"size is {size}; allowed: .* pixels"):
        Settings(size=size)


def test_the_largest_sizes_are_taken():
    for size in ("short:8192", "65500x1000", "8192x8192", "16x65500"):
        assert Settings(size=size).size == size


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"range": 10.0}, "range is 10.0; allowed: with codes fixed or tsn"),
        ({"codes": "tsn", "error_px": 0.2}, "error_px is 0.2 with codes tsn as jpeg; allowed: with codes ad"),
        ({"codec": "png", "error_px": 0.2}, "error_px is 0.2 with codes adaptive as png"),
    ],
)
def test_what_would_have_no_effect_is_refused(options, said):
    with pytest.raises(SettingsError, match=said):
        Settings(**options)


def test_videos_that_moved_are_the_same_videos(tmp_path):
    for k in range(3):
        touch(tmp_path / "in" / f"{k}.mp4")
    before = make_plan(CorpusStore(tmp_path / "c"), discover_videos([tmp_path / "in"]).videos, Settings())
    (tmp_path / "in").rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "2.mp4").write_bytes(b"another video")
    after = make_plan(
        CorpusStore(tmp_path / "c"), discover_videos([tmp_path / "elsewhere"]).videos, Settings()
    )
    assert [t.id for t in after.tasks][:1] == [t.id for t in before.tasks]
    assert [s.path for s in after.tasks[0].segments] == [
        str(tmp_path / "elsewhere" / "0.mp4"),
        str(tmp_path / "elsewhere" / "1.mp4"),
        str(tmp_path / "in" / "2.mp4"),
    ]
    assert after.video_ids() == {"0.mp4", "1.mp4", "2.mp4", "elsewhere/2.mp4"}
    assert CorpusStore(tmp_path / "c").read_plan() == after


def test_a_corpus_that_lost_its_plan_is_not_added_to(tmp_path):
    touch(tmp_path / "in" / "a.mp4")
    found = discover_videos([tmp_path / "in"]).videos
    make_plan(CorpusStore(tmp_path / "c"), found, Settings())
    (tmp_path / "c" / "plan.jsonl").unlink()
    make_plan(CorpusStore(tmp_path / "c"), found, Settings())  # nothing was done yet
    (tmp_path / "c" / "plan.jsonl").unlink()
    (tmp_path / "c" / "records" / "0123.json").write_text("{}")
    with pytest.raises(UsageError, match="can be read but not extended"):
        make_plan(CorpusStore(tmp_path / "c"), found, Settings())


@pytest.mark.parametrize(
    "text", ["", "[]\n", '{"format": "flowprep-plan"}\n', '{"format": "flowprep-plan", "version": 9}\n']
)
def test_a_plan_that_is_spoiled_is_refused(tmp_path, text):
    (tmp_path / "plan.jsonl").write_text(text)
    with pytest.raises(CorpusFormatError):
        CorpusStore(tmp_path).read_plan()


def test_what_is_no_plan_is_refused(tmp_path):
    (tmp_path / "plan.jsonl").write_text(json.dumps({"format": "something"}) + "\n")
    with pytest.raises(CorpusFormatError):
        CorpusStore(tmp_path).read_plan()
    with pytest.raises(CorpusFormatError):
        CorpusStore(tmp_path / "none").read_plan()


@pytest.mark.parametrize("change", ["cut", "label", "settings", "more"])
def test_a_plan_that_was_changed_is_refused(tmp_path, change):
    for k in range(3):
        touch(tmp_path / "in" / "left" / f"{k}.mp4")
    make_plan(CorpusStore(tmp_path / "c"), discover_videos([tmp_path / "in"]).videos, Settings(shard_pairs=1))
    path = tmp_path / "c" / "plan.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    assert len(lines) == 5
    changed = {
        "cut": lines[:2],
        "label": [line.replace('"left"', '"lift"') for line in lines],
        "settings": [lines[0].replace("short:256", "short:255"), *lines[1:]],
        "more": [*lines, lines[1]],
    }
    path.write_text("".join(changed[change]))
    with pytest.raises(CorpusError, match=r"(its|their) checksum|lines after its end"):
        CorpusStore(tmp_path / "c").read_plan()


def test_the_first_plans_are_read(tmp_path):
    """They had no checksums."""
    touch(tmp_path / "in" / "0.mp4")
    plan = make_plan(CorpusStore(tmp_path / "c"), discover_videos([tmp_path / "in"]).videos, Settings())
    path = tmp_path / "c" / "plan.jsonl"
    first, task, _ = path.read_text().splitlines(keepends=True)
    head = json.loads(first)
    del head["crc32"]
    path.write_text(json.dumps({**head, "version": 1}) + "\n" + task)
    assert CorpusStore(tmp_path / "c").read_plan() == plan


def test_a_list_with_sizes_is_planned_without_looking_at_files(tmp_path, monkeypatch):
    def looked(path):
        raise AssertionError(f"{path} was looked at")

    monkeypatch.setattr("flowprep.planning.tasks.estimate_frames", looked)
    monkeypatch.setattr("flowprep.planning.tasks.source_state", looked)
    (tmp_path / "list.csv").write_text("path,frames,bytes,label\nx/a.mp4,10,1000,high jump\n/y/b.mp4,8,900\n")
    seen = []
    plan = make_plan(
        CorpusStore(tmp_path / "c"),
        discover_videos([tmp_path / "list.csv"]).videos,
        Settings(),
        lambda n, of: seen.append((n, of)),
    )
    first, second = plan.tasks[0].segments
    assert (first.id, first.label, first.source_bytes, first.estimate) == ("x/a.mp4", "high jump", 1000, 9)
    assert (second.id, second.path, second.label, second.estimate) == ("y/b.mp4", "/y/b.mp4", "y", 7)
    assert seen == [(2, 2)] and CorpusStore(tmp_path / "c").read_plan() == plan


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path,seconds\na.mp4,1\n", "line 1: 'path,seconds'; allowed columns: path,label,frames,bytes"),
        ("path,frames\na.mp4,many\n", "line 2: 'a.mp4,many'; allowed: path,frames"),
        ("path,frames\na.mp4,-3\n", "line 2"),
        ("path,path\na.mp4,b\n", "line 1"),
    ],
)
def test_a_list_with_wrong_columns_is_refused(tmp_path, text, said):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(UsageError, match=said):
        discover_videos([tmp_path / "list.csv"])
