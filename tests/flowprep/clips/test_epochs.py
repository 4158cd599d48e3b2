"""Batches of arrays: each clip once, whatever the threads, and exact resumption."""

from __future__ import annotations

import json
import threading
from itertools import islice

import numpy as np
import pytest

import flowprep
from flowprep.clips.epochs import ClipSampler
from flowprep.errors import SettingsError, UsageError
from tests.support.clip_corpus import IDS, same


@pytest.fixture
def source(clip_corpus):
    return flowprep.ClipSource(clip_corpus, 3, crop=8, random=True, mirror=True, seed=3)


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_batches_are_those_of_the_keys(source, threads):
    batches = flowprep.ClipBatches(source, 3, threads=threads)
    keys = list(ClipSampler(source))
    assert len(batches) == 3 and sorted(i for _, i in keys) == list(range(7))
    for number, batch in enumerate(batches):
        assert same(batch, source.batch(keys[3 * number : 3 * number + 3]))
    assert number == 2 and batches.epoch == 1
    assert [b["id"] for b in batches] != [b["id"] for b in flowprep.ClipBatches(source, 3)]


def test_the_order_is_that_of_the_source_unless_it_is_random(clip_corpus, source):
    still = flowprep.ClipSource(clip_corpus, 3, crop=8)
    for batches in (flowprep.ClipBatches(still, 2), flowprep.ClipBatches(source, 2, shuffle=False)):
        assert [i for batch in batches for i in batch["id"]] == IDS


def test_drop_last_leaves_out_what_does_not_fill_a_batch(source):
    batches = flowprep.ClipBatches(source, 2, drop_last=True)
    assert len(batches) == 3 == len(list(batches))
    shares = [flowprep.ClipBatches(source, 2, rank=r, world_size=2, drop_last=True) for r in (0, 1)]
    seen = [i for share in shares for batch in share for i in batch["id"]]
    assert len(seen) == 4 == len(set(seen))
    shares = [flowprep.ClipBatches(source, 2, rank=r, world_size=2) for r in (0, 1)]
    seen = [i for share in shares for batch in share for i in batch["id"]]
    assert len(seen) == 8 and set(seen) == set(IDS)


def test_a_loop_that_is_left_early_is_followed_by_the_next_epoch(source):
    batches = flowprep.ClipBatches(source, 2)
    next(iter(batches))
    assert batches.epoch == 0
    next(iter(batches))
    assert batches.epoch == 1
    batches.set_epoch(0)
    assert same(next(iter(batches)), next(iter(flowprep.ClipBatches(source, 2))))


@pytest.mark.parametrize("kind", ["batches", "sampler"])
@pytest.mark.parametrize("done", [0, 1, 2, 3, 4])
def test_a_state_resumes_exactly(source, kind, done):
    def make():
        return flowprep.ClipBatches(source, 2) if kind == "batches" else ClipSampler(source)

    def text(entry):
        return json.dumps([entry["id"], entry["flow"].tolist()] if kind == "batches" else entry)

    whole = make()
    expected = [[text(e) for e in whole] for _ in range(3)]
    first = make()
    list(first)
    seen = [text(e) for e in islice(iter(first), done)]
    assert seen == expected[1][:done]
    state = json.loads(json.dumps(first.state_dict()))
    resumed = make()
    resumed.load_state_dict(state)
    assert [text(e) for e in resumed] == expected[1][done:]
    assert resumed.epoch == 2 and [text(e) for e in resumed] == expected[2]


def test_a_state_of_other_clips_is_refused(clip_corpus, source):
    state = ClipSampler(source, rank=0, world_size=2).state_dict()
    other = flowprep.ClipSource(clip_corpus, 4, crop=8)
    for sampler in (
        ClipSampler(source),
        ClipSampler(source, False, rank=0, world_size=2),
        ClipSampler(other, True, rank=0, world_size=2),
    ):
        with pytest.raises(UsageError, match=r"the state is of .*world_size=2; this is "):
            sampler.load_state_dict(state)


def test_threads_end_with_the_loop(source):
    before = threading.active_count()
    batches = iter(flowprep.ClipBatches(source, 1, threads=3))
    next(batches)
    assert threading.active_count() > before
    batches.close()
    assert threading.active_count() == before


def test_an_error_of_a_thread_reaches_the_loop(clip_corpus):
    source = flowprep.ClipSource(clip_corpus, 3)
    source.labels = source.labels[:3]  # the fourth clip cannot be described
    batches = iter(flowprep.ClipBatches(source, 1, threads=2))
    with pytest.raises(IndexError):
        list(batches)


def test_memory_is_used_again_in_a_loop(source):
    addresses = [
        batch["flow"].ctypes.data for _ in range(9) for batch in flowprep.ClipBatches(source, 1, threads=0)
    ]
    assert len(set(addresses)) <= 3
    kept = [batch["flow"] for batch in flowprep.ClipBatches(source, 2)]
    assert same(dict(enumerate(kept)), {i: b["flow"] for i, b in enumerate(flowprep.ClipBatches(source, 2))})
    assert isinstance(kept[0], np.ndarray)


@pytest.mark.parametrize(
    ("options", "says"), [({"batch_size": 0}, "batch_size is 0"), ({"threads": -1}, "threads is")]
)
def test_wrong_arguments(source, options, says):
    with pytest.raises(SettingsError, match=says):
        flowprep.ClipBatches(source, **{"batch_size": 2, **options})


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ((-1,), "epoch is -1; allowed: a whole number from 0"),
        (("a",), "epoch is 'a'; allowed"),
        ((0, 1000), "used is 1000; allowed: 0 to 7, the number of clips of an epoch in this process"),
        ((0, -1), "used is -1; allowed"),
        ((0, 2.5), "used is 2.5; allowed"),
    ],
)
def test_places_that_do_not_exist(source, place, says):
    for loader in (ClipSampler(source), flowprep.ClipBatches(source, 2)):
        with pytest.raises(SettingsError, match=says):
            loader.set_epoch(*place)
        with pytest.raises(SettingsError, match="state is without epoch, of, used; allowed: what state_dict"):
            loader.load_state_dict({})
        loader.set_epoch(np.int64(2), 7)
        assert list(loader) == [] and loader.epoch == 3


def test_only_a_source_can_be_read(source):
    with pytest.raises(
        SettingsError, match="source is a list; allowed: a ClipSource; for a data set of torch"
    ):
        flowprep.ClipBatches([source], 2)
