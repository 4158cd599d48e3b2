"""The numbers of a corpus report."""

import json

import numpy as np
import pytest

from flowprep import open_corpus
from flowprep.api import make_corpus
from flowprep.presets import PRESETS
from flowprep.reports.statistics import (
    DISPLACEMENTS,
    MEANS,
    CorpusStatistics,
    collect,
    labels_and_status,
    read_spans,
    throughput,
)
from flowprep.settings import Settings
from tests.support.videos import write_video

SETTINGS = Settings(size="source", engine="opencv", tvl1=PRESETS["opencv"], codes="tsn", range=2.0)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Five videos that move by 0 to 4 px per frame, with a range of 2 px, and a file that is no video."""
    root = tmp_path_factory.mktemp("corpus")
    for speed in range(5):
        write_video(root / "clips" / "moving" / f"{speed}.mp4", 6, speed=speed, seed=7)
    (root / "clips" / "bad").mkdir()
    (root / "clips" / "bad" / "x.mp4").write_text("no video")
    make_corpus([root / "clips"], root / "corpus", SETTINGS, jobs=1)
    return open_corpus(root / "corpus")


def test_the_counts_are_those_of_the_videos(corpus):
    calls = []
    statistics = collect(corpus, progress=lambda *both: calls.append(both))
    assert calls == [(i, 5) for i in range(1, 6)]
    assert statistics.videos == list(corpus) and statistics.frames == [6] * 5 and statistics.pairs == [5] * 5
    assert statistics.seconds == [6 / 25] * 5 and statistics.sizes == {(48, 32): 5}
    assert statistics.clipped == [float(v.clipped.mean()) for v in corpus.values()]
    assert statistics.clipped[0] < 0.01 and statistics.clipped[4] > 0.25
    for bins, channel in ((statistics.mean_u, 0), (statistics.mean_v, 1)):
        means = np.concatenate([v.mean_flow[:, channel] for v in corpus.values()])
        assert bins.sum() == len(means) == 25
        assert (bins * MEANS).sum() / 25 == pytest.approx(means.mean(), abs=0.01)  # half a bin
    assert statistics.sampled == [0, 1, 2, 3, 4]
    assert statistics.displacements.sum() == 5 * 2 * 48 * 32
    decoded = [v.flow(i, 1)[0] for v in corpus.values() for i in (1, 3)]
    lengths = np.hypot(*np.stack(decoded, 1))
    np.testing.assert_allclose(statistics.motion, lengths.reshape(5, -1).mean(1), rtol=1e-5)
    for percent in (50, 90):  # bins are 9% wide
        assert statistics.percentile(percent) == pytest.approx(np.percentile(lengths, percent), rel=0.09)
    assert statistics.share_below(1.0) == pytest.approx((lengths < 1).mean(), abs=1e-9)  # an edge of a bin


def test_a_sample_is_spread_over_all(corpus):
    assert collect(corpus, 3).sampled == [0, 2, 4]
    assert collect(corpus, 1).sampled == [0]


def test_percentiles_are_those_of_the_bins():
    statistics = CorpusStatistics()
    statistics.displacements[np.searchsorted(DISPLACEMENTS, [1.0, 8.0])] = 90, 10
    assert statistics.percentile(45) == pytest.approx((1 + 2**0.125) / 2)  # the middle of the first
    assert statistics.percentile(90) == pytest.approx(2**0.125)
    assert statistics.percentile(95) == pytest.approx((8 + 8 * 2**0.125) / 2)
    assert (
        statistics.share_below(1.0) == 0
        and statistics.share_below(4.0) == 0.9
        and statistics.share_below(99) == 1
    )


def test_the_rates_of_parallel_tasks_add_up():
    total, rates, pauses = throughput([(100, 110, 50), (100, 105, 50)], num_rates=2)
    assert total == 10 and rates == pytest.approx([15, 5]) and pauses == []


def test_pauses_are_left_out_and_marked():
    spans = [(0, 10, 10), (1000, 1010, 20), (1009, 1020, 11)]
    total, rates, pauses = throughput(spans, num_rates=3)
    assert total == 30 and pauses == [10]
    assert sum(rates) * 10 == pytest.approx(41) and rates[0] == pytest.approx(1)


def test_without_times_there_is_no_rate():
    assert throughput([]) == (0.0, [], [])


def test_records_keep_when_a_task_ended(corpus):
    ((began, ended, pairs),) = read_spans(corpus, corpus.store.load_index())
    (record,) = (corpus.path / "records").iterdir()
    # The record has whole seconds, and its file was written at that time.
    assert ended == pytest.approx(record.stat().st_mtime, abs=2) and began < ended and pairs == 25
    kept = json.loads(record.read_text("utf-8"))
    assert kept.pop("finished").endswith("+00:00")
    del kept["crc32"]  # early records have no checksum
    record.write_text(json.dumps(kept), "utf-8")
    assert read_spans(corpus, corpus.store.load_index()) == []


def test_status_with_and_without_a_plan(corpus):
    labels, status = labels_and_status(corpus, corpus.store.load_index())
    assert labels["bad/x.mp4"] == "bad" and labels["moving/1.mp4"] == "moving"
    plan = corpus.path / "plan.jsonl"
    text = plan.read_text("utf-8")
    plan.unlink()
    try:
        alone = open_corpus(corpus.path)
        _, without = labels_and_status(alone, corpus.store.load_index())
    finally:
        plan.write_text(text, "utf-8")
    assert without.videos == status.videos
    assert without.failures.keys() == status.failures.keys() == {"bad/x.mp4"}
