"""The bench of reading: both readers read the same, and its rates."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from flowprep import make_corpus, open_corpus
from flowprep.bench.read import ROUNDS, Place, Rate, Rates, bench_reading, compare_readers
from tests.support.conversions import SETTINGS, write_two_classes


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    return write_two_classes(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="module")
def path(videos, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("corpus") / "corpus"
    make_corpus([videos], out, SETTINGS, jobs=1)
    return out


@pytest.mark.parametrize("codes", ["tsn", "adaptive"])
def test_both_readers_of_the_bench_read_the_same(videos, tmp_path, codes):
    """Both timed readers give the same pixels: to the bit where JPEGs are copied."""
    settings = dataclasses.replace(SETTINGS, codes=codes, range=20.0)
    make_corpus([videos / "left"], tmp_path / "c", settings, jobs=1)
    compared = []

    def compare(places, corpus, folder, **options):
        compared.append([(corpus(*place).copy(), folder(*place)) for place in places])
        return Rates(Rate(1, 1), Rate(1, 1), 1.0)

    bench_reading(open_corpus(tmp_path / "c"), clips=4, crop=24, compare=compare)
    stacks, codes_of_stacks, frames = compared
    for ours, theirs in stacks:
        assert ours.shape == theirs.shape == (10, 2, 24, 24) and ours.dtype == theirs.dtype == np.float32
        assert np.allclose(ours, theirs, atol=1e-5 if codes == "tsn" else 0.8)  # twice through JPEG
    for ours, theirs in codes_of_stacks:
        assert ours.shape == theirs.shape == (10, 2, 24, 24) and ours.dtype == theirs.dtype == np.uint8
        assert codes == "adaptive" or np.array_equal(ours, theirs)
    for ours, theirs in frames:
        assert ours.shape == theirs.shape and np.abs(ours - theirs).max() <= 4  # another decoder's upsampling


def test_the_bench_of_reading_says_rates(path, cli, monkeypatch):
    monkeypatch.setattr("flowprep.bench.read.ROUNDS", 1)
    rates = json.loads(cli("bench", "read", path, "--json").stdout)
    for kind in ("stacks", "code_stacks", "frames"):
        assert rates[kind]["ratio"] > 0 and rates[kind]["folder"]["per_core_second"] > 0
        assert rates[kind]["threads"]["threads"] == 2 and rates[kind]["threads"]["corpus_scaling"] > 0
    assert list(rates["stacks"]["kinds"]) == ["still", "medium", "violent"]
    assert "kinds" not in rates["frames"]
    output = cli("bench", "read", path, "--threads", "1", "--videos", "1").stdout
    assert "stacks of 10 flows a second" in output and "in 1 video" in output and "threads" not in output
    result = cli("bench", "--read", path, "--truth", path)
    assert result.exit_code == 2 and "no option --read" in result.stderr


def test_kinds_are_thirds_by_bytes_and_threads_read_every_place(monkeypatch):
    """The clock is a counter that each read advances by its cost."""
    now, reads = [0.0], []
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    monkeypatch.setattr("time.process_time", lambda: now[0])

    def reader(name, factor):
        def read(video, start, window):
            reads.append((name, start))
            now[0] += factor * (start + 1)
            return np.zeros(1)

        return read

    places = [Place("v", n, (0, 0, 1, 1)) for n in range(6)]
    rates = compare_readers(
        places, reader("corpus", 0.001), reader("folder", 0.004), sizes=range(6), threads=2
    )
    assert rates.ratio == 4 and rates.corpus.per_second == round(6 / 0.021)
    assert {kind: r.corpus.per_second for kind, r in rates.kinds.items()} == {
        "still": 667,
        "medium": 286,
        "violent": 182,
    }
    assert all(r.ratio == 4 for r in rates.kinds.values())
    assert (rates.threads.corpus_scaling, rates.threads.ratio) == (1, 4)
    assert set(Counter(reads).values()) == {2 * (ROUNDS + 1)} and len(set(reads)) == 12
