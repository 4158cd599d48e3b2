"""Selections of videos, and their lists."""

from __future__ import annotations

import pytest

from flowprep.convert.export import export
from flowprep.errors import ListMismatch, UsageError


def test_selections(corpus, tmp_path, caplog):
    lists = {
        "trainlist01.txt": "left/long.mp4 1\nleft/v_1 é.mp4\r\nleft/v_2 é.mp4\ta label\n",
        "test.csv": "to right/v_1 é.mp4,2\n",
    }
    for name, text in lists.items():
        (tmp_path / name).write_text(text + "left/bad.mp4\nnot/there.mp4\n", "utf-8")
    wanted = [*(str(tmp_path / name) for name in lists), "to right", "*/v_2*"]
    done = export(corpus, tmp_path / "x", "mmaction2", wanted=wanted)
    assert done.videos == 5 and "1 of 5 videos are not in the corpus: not/there.mp4; left out" in caplog.text

    def folders(name):
        return {line.split()[0] for line in (tmp_path / "x" / name).read_text("utf-8").splitlines()}

    assert folders("rgb_trainlist01.txt") == {"left/long", "left/v_1_é", "left/v_2_é"}
    assert folders("flow_test.txt") == {"to_right/v_1_é"}
    assert folders("rgb_to_right.txt") == {"to_right/v_1_é", "to_right/v_2_é"}
    with pytest.raises(UsageError, match=r"'up' names no video.*left, to right"):
        export(corpus, tmp_path / "y", "npy", wanted=["up"])


def test_no_list_is_written_over_another(corpus, tmp_path):
    for folder, label in (("a", "left"), ("b", "to right")):
        (tmp_path / folder).mkdir()
        ids = [i for i, video_label in corpus.labels.items() if video_label == label]
        (tmp_path / folder / "train.txt").write_text("\n".join(ids), "utf-8")
    wanted = [str(tmp_path / folder / "train.txt") for folder in "ab"]
    with pytest.raises(UsageError, match="would give lists of one name"):
        export(corpus, tmp_path / "x", "tsn", wanted=wanted)
    assert not (tmp_path / "x").exists()
    assert export(corpus, tmp_path / "y", "denseflow", wanted=wanted).written == 5  # has no lists


def test_a_list_of_other_videos_is_refused(corpus, tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("left/long 30 0\na 30 0\nb 30 0\n", "utf-8")
    with pytest.raises(ListMismatch, match=r"2 of 3 videos are not in the corpus: a, b; --allow-missing"):
        export(corpus, tmp_path / "x", "npy", wanted=[str(path)])
    assert export(corpus, tmp_path / "x", "npy", wanted=[str(path)], allow_missing=True).videos == 1
    path.write_text("a\nb\nc\nd\n", "utf-8")
    with pytest.raises(ListMismatch, match=r"4 of 4 videos are not in the corpus: a, b, c, \.\.\."):
        export(corpus, tmp_path / "x", "npy", wanted=[str(path)], allow_missing=True)
