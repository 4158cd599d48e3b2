"""Verification: every damage is noticed and named."""

from __future__ import annotations

import errno
import fcntl
import os

import h5py
import numpy as np
import pytest

from flowprep import open_corpus
from flowprep.corpus import format as fmt
from flowprep.corpus.shard_reader import Shard
from flowprep.corpus.store import CorpusStore
from flowprep.corpus.verify import Problem, Report, set_aside, verify_corpus
from flowprep.errors import CorpusDamaged, CorpusError
from tests.support.corpora import read_everything


def test_intact_corpus_has_no_problems(corpus):
    report = verify_corpus(CorpusStore(corpus), jobs=2)
    assert report.problems == ()
    assert (report.shards, report.videos) == (3, 3)  # one of them in two segments
    assert report.images == sum(len(Shard(p).images) for p in (corpus / "shards").glob("*.h5"))


def test_flipped_bytes_of_a_shard_are_noticed(corpus):
    """Whatever byte of the images or the tables changes, reading or verifying names the place."""
    path = corpus / "shards" / "aaaa.h5"
    intact = path.read_bytes()
    with h5py.File(path) as file:
        places = {n: (file[n].id.get_offset(), file[n].nbytes) for n in (*fmt.TABLES, fmt.BYTES)}
    rng = np.random.default_rng(0)
    for name, (offset, size) in places.items():
        for at in {0, size - 1, *rng.integers(size, size=4).tolist()}:
            damaged = bytearray(intact)
            damaged[offset + at] ^= 0x10
            path.write_bytes(damaged)
            problems = verify_corpus(CorpusStore(corpus)).problems
            assert problems and all(p.shard == "aaaa.h5" for p in problems), (name, at)
            if name == fmt.BYTES:
                named = [p for p in problems if p.image is not None]
                assert len(named) == 1 and named[0].video in ("a/öne.mp4", "b/two.mp4")
                with pytest.raises(CorpusDamaged, match=f"image {named[0].image}"):
                    read_everything(corpus)
            else:
                assert any("before its images" in p.what for p in problems)
                with pytest.raises(CorpusDamaged, match="before its images"):
                    read_everything(corpus)
    path.write_bytes(intact)
    read_everything(corpus)


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.99])
def test_truncated_shard_is_noticed(corpus, keep):
    path = corpus / "shards" / "aaaa.h5"
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if keep < 1 else keep])
    assert verify_corpus(CorpusStore(corpus)).problems[0].shard == "aaaa.h5"
    with pytest.raises(CorpusError):
        read_everything(corpus)


def test_missing_shard_is_noticed(corpus):
    (corpus / "shards" / "bbbb.h5").unlink()
    problems = verify_corpus(CorpusStore(corpus)).problems
    assert [str(p) for p in problems] == ["bbbb.h5: the file is missing"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "flowprep-record"}'])
def test_damaged_record_is_named(corpus, text):
    CorpusStore(corpus).record_path("aaaa").write_text(text)
    (problem,) = (p for p in verify_corpus(CorpusStore(corpus)).problems if p.shard)
    assert "aaaa.json" in problem.what
    with pytest.raises(CorpusError, match=r"aaaa\.json"):
        open_corpus(corpus)


def test_changed_record_is_refused(corpus):
    record = corpus / "records" / "aaaa.json"
    record.write_text(record.read_text("utf-8").replace('"status": "ok"', '"status": "failed"', 1), "utf-8")
    with pytest.raises(CorpusDamaged, match="does not match its checksum"):
        open_corpus(corpus)
    assert verify_corpus(CorpusStore(corpus)).problems


def fail(number: int, with_number: bool = True):
    """A function that fails as the machine does; HDF5 says the number in its text only."""
    text = f"Unable to synchronously open file (unable to lock file, errno = {number}, error message = '')"
    error = OSError(number, os.strerror(number), "x.h5") if with_number else OSError(text)

    def call(*_, **__):
        raise error

    return call


@pytest.mark.parametrize("name", ["ENOLCK", "EIO", "ESTALE", "EACCES", "ENOMEM", "EMFILE", "ETIMEDOUT"])
@pytest.mark.parametrize(
    ("place", "with_number"),
    [
        ("flowprep.corpus.shard_reader.open_regular", True),
        ("flowprep.corpus.shard_reader.h5py.File", True),
        ("flowprep.corpus.shard_reader.h5py.File", False),
        ("flowprep.corpus.records.read_regular", True),
        ("flowprep.corpus.verify.file_digest", True),
        ("flowprep.corpus.verify.images.decode_rgb", True),
    ],
)
def test_an_error_of_the_machine_is_no_damage(corpus, monkeypatch, name, place, with_number):
    """Nothing is moved: `verify --repair` set sound shards aside on a disk without locks."""
    store = CorpusStore(corpus)
    before = {p.name: p.read_bytes() for p in corpus.rglob("*.*")}
    monkeypatch.setattr(place, fail(getattr(errno, name), with_number))
    report = verify_corpus(store)
    problems = [p for p in report.problems if p.shard]
    assert len(problems) == 3 and all(p.unread and "no damage of the file" in p.what for p in problems)
    assert set_aside(store, report) == []
    assert {p.name: p.read_bytes() for p in corpus.rglob("*.*")} == before
    if "corpus.verify" not in place:
        with pytest.raises(OSError, match="errno|" + os.strerror(getattr(errno, name))):
            read_everything(corpus)
    monkeypatch.undo()
    assert verify_corpus(store).problems == ()


def test_a_shard_that_could_not_be_read_as_a_whole_is_not_moved(corpus):
    """One problem was found before the disk failed: nobody knows which of the two it was."""
    damaged = Problem("aaaa.h5", "", None, "the file does not have its recorded SHA-256")
    report = Report(problems=(damaged, damaged._replace(unread=True), damaged._replace(shard="bbbb.h5")))
    assert set_aside(CorpusStore(corpus), report) == ["bbbb.h5"]
    assert (corpus / "shards" / "aaaa.h5").exists() and not (corpus / "shards" / "bbbb.h5").exists()


def test_a_plan_that_the_machine_cannot_read_is_no_wrong_plan(tmp_path, monkeypatch):
    (tmp_path / "records").mkdir()
    monkeypatch.setattr("flowprep.corpus.plan.open_regular", fail(errno.ESTALE))
    for read in (CorpusStore(tmp_path).read_plan, lambda: open_corpus(tmp_path)):
        with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
            read()


def test_a_shard_is_read_while_another_process_has_it_locked(corpus):
    """So that nothing depends on locks."""
    with (corpus / "shards" / "aaaa.h5").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        read_everything(corpus)
