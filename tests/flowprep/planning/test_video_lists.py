"""Lists of videos: text and CSV."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flowprep.corpus.store import CorpusStore
from flowprep.errors import ListMismatch, UsageError
from flowprep.planning.discover import discover_videos
from tests.support.planning import plan_inputs, sources, touch


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_text_list(tmp_path, newline):
    touch(tmp_path / "A" / "one two.mp4")
    touch(tmp_path / "b.mp4")
    touch(tmp_path / "c.mp4")
    lines = [
        "A/one two.mp4",
        "A/three.mp4 walk",
        "b.mp4 run",
        "",
        str(tmp_path / "c.mp4") + " 7",
        "gone.mp4 run",
    ]
    (tmp_path / "list.txt").write_text(newline.join(lines))
    assert sources(tmp_path / "list.txt") == [
        ("A/one two.mp4", "A"),  # without a label: the name of the folder
        ("A/three.mp4", "walk"),
        ("b.mp4", "run"),
        ("c.mp4", "7"),
        ("gone.mp4", "run"),  # extraction will record that it failed
    ]
    (tmp_path / "list.txt").write_text("b.mp4 run\nb.mp4 walk\n")
    with pytest.raises(UsageError, match=r"line 2: b\.mp4 has the labels 'run' and 'walk'"):
        discover_videos([tmp_path / "list.txt"])
    (tmp_path / "list.txt").write_text(f"b.mp4 run\n{'x' * 300}\n")  # no file can have such a name
    assert [s for s, _ in sources(tmp_path / "list.txt")] == ["b.mp4", "x" * 300]


def test_tab_separates_path_and_label(tmp_path):
    touch(tmp_path / "a b.mp4")
    (tmp_path / "list.txt").write_text("a b.mp4\tPush Ups\nA/c.mp4\t\n")
    assert sources(tmp_path / "list.txt") == [("a b.mp4", "Push Ups"), ("A/c.mp4", "A")]


def test_csv_list(tmp_path):
    touch(tmp_path / "a, b.mp4")
    (tmp_path / "list.csv").write_text('path,label\n"a, b.mp4",high jump\nc.mp4\n')
    assert sources(tmp_path / "list.csv") == [("a, b.mp4", "high jump"), ("c.mp4", "")]
    (tmp_path / "list.csv").write_text("a.mp4,x,y\n")
    with pytest.raises(UsageError, match=r"line 1: .*allowed: path,label"):
        discover_videos([tmp_path / "list.csv"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,seconds\na.mp4,1\n", "line 1: 'path,seconds'; allowed columns: path,label,frames,bytes,group"),
        ("path,frames\na.mp4,many\n", "line 2: 'a.mp4,many'; allowed: path,frames"),
        ("path,frames\na.mp4,-3\n", "line 2"),
        ("path,path\na.mp4,b\n", "line 1"),
    ],
)
def test_wrong_columns_of_a_list_are_refused(tmp_path, text, message):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(UsageError, match=message):
        discover_videos([tmp_path / "list.csv"])


def test_list_with_sizes_is_planned_without_opening_files(tmp_path):
    def refuse(path):
        raise AssertionError(f"{path} was opened")

    touch(tmp_path / "x" / "a.mp4")  # its size and time are not read
    (tmp_path / "list.csv").write_text("path,frames,bytes,label\nx/a.mp4,10,1000,high jump\n/y/b.mp4,8,900\n")
    calls = []
    plan = plan_inputs(
        tmp_path / "c",
        tmp_path / "list.csv",
        progress=lambda done, total, note="": calls.append((done, total)),
        estimate=refuse,
    )
    first, second = plan.tasks[0].segments
    assert (first.id, first.label, first.estimate) == ("x/a.mp4", "high jump", 9)
    assert (first.source_bytes, first.modified_ns) == (1000, 0)
    assert (second.id, second.path, second.label, second.estimate) == ("y/b.mp4", "/y/b.mp4", "y", 7)
    assert calls == [(2, 2)] and CorpusStore(tmp_path / "c").read_plan() == plan


def test_names_without_suffix_are_found(tmp_path):
    for name in ("A/v_a.AVI", "A/two.mp4", "A/two.mov"):
        touch(tmp_path / name)
    (tmp_path / "list.txt").write_text("A/v_a 1\n")
    assert sources(tmp_path / "list.txt") == [("A/v_a.AVI", "1")]
    (tmp_path / "list.txt").write_text("A/two\n")
    with pytest.raises(UsageError, match=r"line 1: A/two may be two.mov or two.mp4"):
        discover_videos([tmp_path / "list.txt"])


def test_numbers_are_named_by_the_class_index_beside_the_list(tmp_path):
    for name in ("Jump/a.mp4", "Run/b.mp4"):
        touch(tmp_path / name)
    (tmp_path / "list.txt").write_text("Jump/a.mp4 1\nRun/b.mp4 2\n")
    (tmp_path / "classInd.txt").write_text("1 Jump\n2 Run\n")
    assert sources(tmp_path / "list.txt") == [("Jump/a.mp4", "Jump"), ("Run/b.mp4", "Run")]
    (tmp_path / "classInd.txt").write_text("1 Run\n2 Jump\n")
    with pytest.raises(UsageError, match=r"which is 'Run', but its folder is 'Jump'"):
        discover_videos([tmp_path / "list.txt"])


def test_a_list_of_which_less_than_half_exists_is_refused(tmp_path, caplog):
    touch(tmp_path / "a.mp4")
    (tmp_path / "list.txt").write_text("".join(f"{name}.mp4 run\n" for name in "abcde"))
    with pytest.raises(
        ListMismatch, match=r"list.txt: 4 of 5 videos are not files in .*: b.mp4, c.mp4, d.mp4, \.\.\."
    ):
        discover_videos([tmp_path / "list.txt"])
    assert sources(tmp_path / "list.txt", allow_missing=True) == [("a.mp4", "run")]
    touch(tmp_path / "b.mp4")
    touch(tmp_path / "c.mp4")
    discovery = discover_videos([tmp_path / "list.txt"])
    assert len(discovery.videos) == 5 and discovery.missing == ["d.mp4", "e.mp4"]
    assert "2 of 5 videos are not files in" in caplog.text
    for name in "abc":
        (tmp_path / f"{name}.mp4").unlink()
    with pytest.raises(ListMismatch, match="5 of 5"):
        discover_videos([tmp_path / "list.txt"], allow_missing=True)


def test_paths_of_a_list_may_begin_at_another_folder(tmp_path):
    touch(tmp_path / "UCF-101" / "A" / "a.mp4")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "train.txt").write_text("A/a.mp4 1\n")
    listed = sources(tmp_path / "lists" / "train.txt", root=tmp_path / "UCF-101")
    assert listed == [("A/a.mp4", "1")]


def test_lists_of_hmdb_are_inputs(tmp_path):
    touch(tmp_path / "videos" / "kick" / "#1_a_kick.avi")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "kick_test_split1.txt").write_text("#1_a_kick.avi 1 \nb_kick.avi 2 \n")
    source = f"{tmp_path / 'lists'}:train1"
    assert sources(source, root=tmp_path / "videos") == [("kick/#1_a_kick.avi", "kick")]


def test_bytes_that_are_not_utf8_name_existing_files_only(tmp_path):
    touch(Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4")))
    (tmp_path / "list.txt").write_bytes(b"caf\xe9.mp4 run\n")
    assert sources(tmp_path / "list.txt") == [("caf\\xe9.mp4", "run")]
    (tmp_path / "list.txt").write_bytes(b"caf\xe9.mp4 run\nth\xe9.mp4 run\n")
    with pytest.raises(UsageError, match=r"line 2: byte 0xe9 is not UTF-8; in Latin-1"):
        discover_videos([tmp_path / "list.txt"])


@pytest.mark.parametrize("name", ["s3://bucket/videos", "https://host/a.mp4", "file:///tmp/a.mp4"])
def test_addresses_are_refused(tmp_path, name):
    with pytest.raises(UsageError, match="is an address; only files of this machine"):
        discover_videos([name])
    colon = touch(tmp_path / "a:b" / "c: d.mp4")
    assert sources(colon.parent) == [("c: d.mp4", "a:b")]
