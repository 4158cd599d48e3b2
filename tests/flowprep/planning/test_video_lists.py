"""Lists of videos: text and CSV."""

from __future__ import annotations

import pytest

from flowprep.corpus.store import CorpusStore
from flowprep.errors import UsageError
from flowprep.planning.discover import discover_videos
from tests.support.planning import plan_inputs, sources, touch


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_text_list(tmp_path, newline):
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
        ("A/one two.mp4", "A"),  # without a label: the name of the folder
        ("A/three.mp4", "walk"),
        ("b.mp4", "run"),
        ("b.mp4", "7"),
        ("gone.mp4", "run"),  # extraction will record that it failed
    ]
    (tmp_path / "list.txt").write_text("b.mp4 run\nb.mp4 walk\n")
    with pytest.raises(UsageError, match=r"line 2: b\.mp4 has the labels 'run' and 'walk'"):
        discover_videos([tmp_path / "list.txt"])
    (tmp_path / "list.txt").write_text(f"b.mp4 run\n{'x' * 300}\na\0b.mp4\n")  # no file can have such names
    assert [s for s, _ in sources(tmp_path / "list.txt")] == ["b.mp4", "x" * 300, "a\0b.mp4"]


def test_tab_separates_path_and_label(tmp_path):
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
