"""Lists that `trainer split` writes: its own are replaced, those of others never."""

from __future__ import annotations

import json

import pytest

from flowprep.errors import UsageError
from tests.support.fakes import FakeCorpus
from trainer.data.own_files import NOTE, write_own_files
from trainer.data.splits import CLASS_INDEX, TEST_LIST, TRAIN_LIST, write_split

TEXTS = {"a.txt": "one\n", "b.txt": "two\n"}


def test_own_files_are_replaced_and_noted(tmp_path):
    write_own_files(tmp_path / "new", TEXTS)
    write_own_files(tmp_path / "new", {**TEXTS, "a.txt": "other\n"})
    assert (tmp_path / "new" / "a.txt").read_text() == "other\n"
    note = json.loads((tmp_path / "new" / NOTE).read_text())
    assert note["written_by"] == "trainer split" and sorted(note["sha256"]) == ["a.txt", "b.txt"]


@pytest.mark.parametrize("note", [None, b"", b"[]", b'{"sha256": 3}', b'{"sha256": {"a.txt": 3}}', b"\xff"])
def test_a_file_of_somebody_else_is_refused_and_nothing_changes(tmp_path, note):
    (tmp_path / "b.txt").write_text("official\n")
    if note is not None:
        (tmp_path / NOTE).write_bytes(note)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UsageError, match=r"b.txt exists, and `trainer split` did not write it"):
        write_own_files(tmp_path, TEXTS)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_own_file_that_was_edited_is_refused(tmp_path):
    write_own_files(tmp_path, TEXTS)
    (tmp_path / "a.txt").write_text("edited\n")
    with pytest.raises(UsageError, match=r"a.txt exists.*changed since"):
        write_own_files(tmp_path, {**TEXTS, "b.txt": "new\n"})
    assert (tmp_path / "b.txt").read_text() == "two\n"


def test_files_with_the_right_content_need_no_note(tmp_path):
    (tmp_path / "a.txt").write_text("one\n")
    write_own_files(tmp_path, TEXTS)
    assert (tmp_path / "b.txt").read_text() == "two\n"


def test_a_writer_that_was_killed_between_two_files_is_continued(tmp_path, monkeypatch):
    write_own_files(tmp_path, TEXTS)

    def killed(path, write):
        if path.name == "b.txt":
            raise KeyboardInterrupt
        with path.open("wb") as file:
            write(file)

    new = {"a.txt": "1\n", "b.txt": "2\n"}
    with monkeypatch.context() as patch:
        patch.setattr("trainer.data.own_files.write_atomically", killed)
        with pytest.raises(KeyboardInterrupt):
            write_own_files(tmp_path, new)
    assert [(tmp_path / name).read_text() for name in new] == ["1\n", "two\n"]
    write_own_files(tmp_path, new)
    assert {name: (tmp_path / name).read_text() for name in new} == new


def test_a_split_is_replaced_by_another_and_never_an_official_one(tmp_path):
    write_split(FakeCorpus(), tmp_path, seed=0)
    first = (tmp_path / TEST_LIST).read_text()
    write_split(FakeCorpus(), tmp_path, seed=1)
    assert (tmp_path / TEST_LIST).read_text() != first
    (tmp_path / CLASS_INDEX).write_text("1 Official\n")
    with pytest.raises(UsageError, match=r"classInd.txt exists"):
        write_split(FakeCorpus(), tmp_path, seed=2)
    assert (tmp_path / CLASS_INDEX).read_text() == "1 Official\n"


def test_classes_of_a_single_video_are_kept_for_training_on_request(tmp_path, caplog):
    corpus = FakeCorpus()
    removed = [
        video for video in corpus.labels if corpus.labels[video] == sorted(set(corpus.labels.values()))[0]
    ]
    for video in removed[1:]:
        del corpus.videos[video]
        corpus.labels.pop(video, None)
    with pytest.raises(UsageError, match=r"--keep-single keeps them"):
        write_split(corpus, tmp_path)
    train, test = write_split(corpus, tmp_path, keep_single=True)
    assert removed[0] in train.ids and removed[0] not in test.ids
    assert test.classes == train.classes and "in the training list only" in caplog.text
    assert removed[0] in (tmp_path / TRAIN_LIST).read_text()


def test_no_class_with_two_groups_is_still_refused(tmp_path):
    with pytest.raises(UsageError, match=r"cannot be separated"):
        write_split(FakeCorpus(clips=1), tmp_path, keep_single=True)
    assert not list(tmp_path.iterdir())
