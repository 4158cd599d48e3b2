"""The index: it has the data of the records and shards, whenever it was saved."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np

from flowprep import open_corpus
from flowprep.corpus.index import ARRAYS
from flowprep.corpus.store import CorpusStore
from tests.support.big_corpus import make_big


def test_index_has_the_data_of_the_files(corpus):
    before = open_corpus(corpus)
    CorpusStore(corpus).save_index()
    shutil.copytree(corpus / "shards", corpus / "away")
    for shard in (corpus / "shards").iterdir():
        shard.write_bytes(b"")  # opening must not open them: many small files
    after = CorpusStore(corpus).load_index()
    assert sorted(after.tasks) == ["aaaa", "bbbb", "cccc"]
    assert after.totals == {"pairs": 15}
    shutil.rmtree(corpus / "shards")
    shutil.move(corpus / "away", corpus / "shards")
    assert dict(open_corpus(corpus).labels) == dict(before.labels)
    assert np.array_equal(open_corpus(corpus)["c/long.mp4"].flow(0, 7), before["c/long.mp4"].flow(0, 7))


def test_many_videos_are_found_with_and_without_an_index_file(tmp_path):
    make_big(tmp_path / "c", 20, 500)
    ids = sorted(f"class {n % 400:03d}/v_some_longer_name_g{n:07d}_c01.avi" for n in range(500))
    read = open_corpus(tmp_path / "c")
    CorpusStore(tmp_path / "c").save_index()
    index = CorpusStore(tmp_path / "c").load_index()
    # Mapped: what is not looked up takes no memory.
    assert not any(getattr(index, name).flags.owndata for name in ARRAYS)
    for corpus in (read, open_corpus(tmp_path / "c")):
        assert list(corpus) == ids == list(corpus.labels)
        assert all(label == i[:9] for i, label in corpus.labels.items())
        assert all(i in corpus and corpus[i].id == i for i in ids)
        assert not any(i in corpus for i in ("", "a", ids[0][:-1], ids[7] + "x", "z" * 99, 5))
        assert corpus[ids[321]].flow(0, 1).shape == (1, 2, 16, 16)
    (tmp_path / "c" / "records" / f"{7:016x}.json").unlink()
    assert len(open_corpus(tmp_path / "c")) == 475


def test_flipped_byte_of_the_index_is_noticed(corpus, caplog):
    CorpusStore(corpus).save_index()
    path = corpus / "index.npz"
    intact = path.read_bytes()
    ids = list(open_corpus(corpus))
    for at in range(50, len(intact), 97):
        damaged = bytearray(intact)
        damaged[at] ^= 0x10
        path.write_bytes(damaged)
        assert list(open_corpus(corpus)) == ids
    assert "reading shards and records instead" in caplog.text


def test_index_is_extended_by_later_tasks_and_survives_damage(corpus, caplog):
    record = CorpusStore(corpus).record_path("cccc")
    text = record.read_text()
    record.unlink()
    CorpusStore(corpus).save_index()
    assert "c/long.mp4" not in open_corpus(corpus)
    record.write_text(text)
    assert "c/long.mp4" in open_corpus(corpus)
    record.unlink()  # and one that went away
    assert "c/long.mp4" not in open_corpus(corpus)
    for rubbish in (b"PK rubbish", b"", b"\x93NUMPY"):
        (corpus / "index.npz").write_bytes(rubbish)
        assert len(open_corpus(corpus)) == 2
    assert "cannot be read" in caplog.text


def test_rewritten_record_is_not_hidden_by_the_index(corpus):
    store = CorpusStore(corpus)
    store.save_index()
    record = store.read_record("aaaa")
    videos = tuple(replace(video, status="failed", reason="looked again") for video in record.videos)
    store.write_record(replace(record, videos=videos))
    assert open_corpus(corpus).failures["b/two.mp4"] == "looked again"


def test_index_that_another_process_outdates_is_dropped(corpus, monkeypatch):
    """A record that is replaced between the reading and the saving must not be hidden by the index."""

    def load_and_be_overtaken(store):
        loaded = load_index(store)
        record = store.read_record("aaaa")
        store.write_record(replace(record, totals={"pairs": record.totals["pairs"] + 1000}))
        return loaded

    load_index = CorpusStore.load_index
    monkeypatch.setattr(CorpusStore, "load_index", load_and_be_overtaken)
    before = CorpusStore(corpus).save_index().totals["pairs"]
    monkeypatch.undo()
    assert CorpusStore(corpus).load_index().totals["pairs"] == before + 1000
