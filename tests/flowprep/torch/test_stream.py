"""Streams give every clip once over all processes and workers, shard by shard."""

from __future__ import annotations

import os
import pickle
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from flowprep.clips.videos import video_table
from flowprep.errors import SettingsError, UsageError
from flowprep.torch import ClipDataset, ClipStream, FlowDataset, collate
from tests.support.clip_corpus import IDS

RANDOM = {"crop": 8, "random": True, "mirror": True}


@pytest.fixture
def clips(clip_corpus):
    return ClipDataset(clip_corpus, 3, stride=2, **RANDOM)


def names(loader: DataLoader) -> list[tuple[str, int]]:
    """(id, start) of each clip of a loader of batches."""
    return [pair for b in loader for pair in zip(b["id"], b["start"].tolist(), strict=True)]


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("world_size", [1, 2])
def test_every_clip_is_read_once(clips, workers, world_size):
    every = sorted((str(clip["id"]), int(clip["start"])) for clip in clips.source)
    seen, counts = [], []
    for rank in range(world_size):
        stream = ClipStream(clips, 4, buffer=5, rank=rank, world_size=world_size)
        seen += names(DataLoader(stream, batch_size=None, num_workers=workers))
        counts.append(len(seen))
    assert sorted(seen) == every
    assert world_size == 1 or abs(counts[1] - 2 * counts[0]) <= max(1, workers)


def test_without_a_buffer_the_order_is_that_of_the_shards(clips):
    read = [str(clip["id"]) for clip in ClipStream(clips, buffer=0)]
    assert list(dict.fromkeys(read)) == IDS  # their shards are a, b, c


def test_with_a_buffer_a_shard_is_read_within_the_buffer(clips):
    stream = ClipStream(clips, buffer=4)
    orders = []
    for epoch in range(4):
        stream.set_epoch(epoch)
        read = [(str(clip["id"]), int(clip["start"])) for clip in stream]
        # The first letter tells the shard. The buffer lets 4 clips wait while the next shard begins.
        shards = [video[0] for video, _ in read]
        firsts = sorted(shards.index(shard) for shard in "JRS")
        ends = np.cumsum([shards.count(shards[first]) for first in firsts])
        assert firsts[1] >= ends[0] - 4 and firsts[2] >= ends[1] - 4
        orders.append(tuple(read))
    assert len(set(orders)) == 4


def test_a_shard_is_announced_before_its_first_clip_can_be_read(clips, monkeypatch):
    announced = []
    names = {clips.source.shard_path(n): n for n in range(4)}

    def note(file: int, *_: int) -> None:
        announced.append(names[Path(f"/proc/self/fd/{file}").readlink()])

    monkeypatch.setattr(os, "posix_fadvise", note)
    shards = dict(
        zip(clips.source.ids, video_table(clips.source.corpus, clips.source.ids).shard, strict=True)
    )
    for buffer in (0, 4):
        announced.clear()
        seen = []
        for clip in ClipStream(clips, buffer=buffer):
            seen.append(int(shards[clip["id"]]))
            assert seen[-1] in announced
            # Not before its first clip can enter the buffer.
            assert len(announced) <= 1 + len(set(seen)) if buffer else announced == list(dict.fromkeys(seen))
        assert sorted(announced) == sorted(set(shards.values()))
    announced.clear()
    resumed = iter(ClipStream(clips, buffer=0))
    resumed.load_state_dict({**resumed.state_dict(), "epoch": 0, "used": len(clips) - 1})
    assert len(list(resumed)) == 1 and announced == [2]


def test_random_choices_are_those_of_the_data_set(clips):
    stream = ClipStream(clips, buffer=3)
    stream.set_epoch(2)
    expected = {}
    for i in range(len(clips)):
        clip = clips[(2, i)]
        expected[clip["id"], int(clip["start"])] = clip["flow"].clone()
    for workers in (0, 2):
        for batch in DataLoader(ClipStream(clips, 4, buffer=3), None, num_workers=workers):
            assert batch["flow"].shape[1:] == (3, 2, 8, 8)
        for clip in DataLoader(stream, batch_size=None, num_workers=workers):
            assert torch.equal(clip["flow"], expected[clip["id"], int(clip["start"])])
        stream.set_epoch(2)


@pytest.mark.slow
def test_workers_that_stay_see_the_next_epoch(clips):
    stream = ClipStream(clips, 4, buffer=3)
    options = {"num_workers": 2, "persistent_workers": True, "multiprocessing_context": "spawn"}
    loader = DataLoader(stream, batch_size=None, **options)
    orders = []
    for epoch in (0, 1):
        stream.set_epoch(epoch)
        orders.append(names(loader))
    assert orders[0] != orders[1] and sorted(orders[0]) == sorted(orders[1])


def test_an_epoch_that_begins_again_is_a_warning(clips, caplog):
    stream = ClipStream(clips, 4)
    list(stream)
    assert not caplog.records
    stream.set_epoch(1)
    list(stream)
    assert not caplog.records
    list(stream)
    assert "epoch 1 is read again, with the same clips: call set_epoch" in caplog.text


def test_equal_shares_leave_clips_out(clips):
    count = len(clips)
    streams = [ClipStream(clips, 3, drop_last=True, rank=r, world_size=4) for r in range(4)]
    lengths = [[len(batch["id"]) for batch in stream] for stream in streams]
    assert all(sizes == [3] * (count // 4 // 3) for sizes in lengths)


@pytest.mark.filterwarnings("ignore:.*set_vital")  # of torchdata with a newer torch
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batch_size", [0, 3])
def test_stateful_loaders_resume_exactly(clips, workers, batch_size):
    stateful = pytest.importorskip("torchdata.stateful_dataloader")

    def make():
        stream = ClipStream(clips, batch_size, buffer=6)
        stream.set_epoch(5)
        return stateful.StatefulDataLoader(stream, batch_size=None, num_workers=workers)

    def copied(batches):
        return [pickle.loads(pickle.dumps(batch)) for batch in batches]

    expected = copied(make())
    first = make()
    batches = iter(first)
    done = len(copied(islice(batches, 3)))
    resumed = make()
    resumed.load_state_dict(pickle.loads(pickle.dumps(first.state_dict())))
    rest = copied(resumed)
    assert len(rest) == len(expected) - done > 2
    for batch, other in zip(rest, expected[done:], strict=True):
        assert batch["id"] == other["id"] and torch.equal(batch["flow"], other["flow"])


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("batch_size", [0, 3])
def test_the_length_is_the_number_of_items_in_this_process(clips, batch_size, drop_last):
    options = {"batch_size": batch_size, "drop_last": drop_last, "world_size": 3}
    streams = [ClipStream(clips, rank=rank, **options) for rank in range(3)]
    assert [len(stream) for stream in streams] == [len(list(stream)) for stream in streams]
    if not drop_last and not batch_size:
        assert sum(len(stream) for stream in streams) == len(clips)


def test_a_state_of_another_stream_is_refused(clips):
    state = iter(ClipStream(clips, 2)).state_dict()
    with pytest.raises(UsageError, match=r"the state is of .*buffer=1000, .*; this is .*buffer=7"):
        iter(ClipStream(clips, 2, buffer=7)).load_state_dict(state)


def test_stacks_can_be_streamed(clip_corpus):
    stream = ClipStream(FlowDataset(clip_corpus, 3, crop=8), 4)
    stacks, labels = next(iter(stream))
    assert stacks.shape == (4, 6, 8, 8) and labels.dtype == torch.int64
    loader = DataLoader(ClipStream(FlowDataset(clip_corpus, 3, crop=8), buffer=0), 7, collate_fn=collate)
    ((stacks, labels),) = list(loader)
    assert np.array_equal(labels, [0, 0, 1, 1, 1, 2, 2]) and stacks.shape == (7, 6, 8, 8)


@pytest.mark.parametrize("options", [{"batch_size": -1}, {"buffer": -2}, {"rank": 3, "world_size": 2}])
def test_wrong_arguments(clips, options):
    name, value = next(iter(options.items()))
    with pytest.raises(SettingsError, match=f"{name} is {value}; allowed"):
        ClipStream(clips, **options)
