"""Verification: every damage is noticed and named."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from flowprep import open_corpus
from flowprep.corpus import format as fmt
from flowprep.corpus.shard_reader import Shard
from flowprep.corpus.store import CorpusStore
from flowprep.corpus.verify import verify_corpus
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
