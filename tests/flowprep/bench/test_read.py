"""The bench of reading: both readers read the same, and its rates."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from flowprep import make_corpus, open_corpus
from flowprep.bench.read import Rate, Rates, bench_reading
from tests.support.conversions import SETTINGS, write_two_classes


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    return write_two_classes(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="module")
def path(videos, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("corpus") / "corpus"
    make_corpus([videos], out, SETTINGS, jobs=1)
    return out


@pytest.fixture
def corpus(path):
    return open_corpus(path)


@pytest.mark.parametrize("codes", ["tsn", "adaptive"])
def test_both_readers_of_the_bench_read_the_same(videos, tmp_path, codes):
    """Both timed readers give the same pixels: to the bit where JPEGs are copied."""
    settings = dataclasses.replace(SETTINGS, codes=codes, range=20.0)
    make_corpus([videos / "left"], tmp_path / "c", settings, jobs=1)
    compared = []

    def compare(places, corpus, folder):
        compared.append([(corpus(*place), folder(*place)) for place in places])
        return Rates(Rate(1, 1), Rate(1, 1), 1.0)

    bench_reading(open_corpus(tmp_path / "c"), clips=4, crop=24, compare=compare)
    stacks, frames = compared
    for ours, theirs in stacks:
        assert ours.shape == theirs.shape == (10, 2, 24, 24) and ours.dtype == theirs.dtype == np.float32
        assert np.allclose(ours, theirs, atol=1e-5 if codes == "tsn" else 0.8)  # twice through JPEG
    for ours, theirs in frames:
        assert ours.shape == theirs.shape and np.abs(ours - theirs).max() <= 4  # another decoder's upsampling


def test_the_bench_of_reading_says_rates(corpus, path, cli):
    rates = json.loads(cli("bench", "read", path, "--json").stdout)
    for kind in ("stacks", "frames"):
        assert rates[kind]["ratio"] > 0 and rates[kind]["folder"]["per_core_second"] > 0
    assert "stacks of 10 flows a second" in cli("bench", "read", path).stdout
    result = cli("bench", "--read", path, "--truth", path)
    assert result.exit_code == 2 and "no option --read" in result.stderr
