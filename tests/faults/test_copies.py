"""Imports and copies that run at once on one corpus share its tasks."""

from __future__ import annotations

from flowprep.corpus.store import CorpusStore
from flowprep.corpus.verify import verify_corpus
from tests.support.faults import OPTIONS, TASKS, VIDEOS, leftovers, shards


def test_two_repacks_at_once_make_one_corpus(videos, tmp_path, start):
    source = tmp_path / "c"
    assert start("extract", videos, "--out", source, *OPTIONS).wait() == 0
    assert len(shards(source)) == TASKS
    repack = ["repack", source]
    assert start(*repack, "--out", tmp_path / "alone", "--shard-pairs", 7).wait() == 0
    both = [start(*repack, "--out", tmp_path / "d", "--shard-pairs", 7) for _ in range(2)]
    said = [process.communicate()[1] for process in both]
    codes = [process.returncode for process in both]
    # Who comes between the other's folders and its plan is told so, and has touched nothing.
    assert codes == [0, 0] or sorted(codes) == [0, 2], said
    assert shards(tmp_path / "d") == shards(tmp_path / "alone") and leftovers(tmp_path / "d") == []
    assert verify_corpus(CorpusStore(tmp_path / "d")).problems == ()
    assert len(list((tmp_path / "d" / "records").iterdir())) >= VIDEOS


def test_a_copy_takes_over_from_one_that_was_killed(videos, tmp_path, start):
    source = tmp_path / "c"
    assert start("extract", videos, "--out", source, *OPTIONS).wait() == 0
    assert start("repack", source, "--out", tmp_path / "alone", "--shard-pairs", 7).wait() == 0
    copy = start("repack", source, "--out", tmp_path / "d", "--shard-pairs", 7)
    while not list((tmp_path / "d").glob("leases/*.0")):
        assert copy.poll() is None
    copy.kill()
    copy.wait()
    assert start("repack", source, "--out", tmp_path / "d", "--shard-pairs", 7).wait() == 0
    assert shards(tmp_path / "d") == shards(tmp_path / "alone") and leftovers(tmp_path / "d") == []
