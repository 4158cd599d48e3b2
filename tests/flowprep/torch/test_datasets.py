"""Data sets of torch give the clips of their source, in one batch or one by one."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import flowprep
from flowprep.errors import SettingsError
from flowprep.torch import ClipDataset, ClipLoader, ClipSampler, ClipStream, FlowDataset, collate
from tests.support.clip_corpus import IDS, LABELS, same

RANDOM = {"crop": 8, "random": True, "mirror": True}


def numpy_of(clip: dict) -> dict:
    """A clip of a data set as its source gives it."""
    arrays = {name: np.asarray(value) for name, value in clip.items()}
    if "rgb" in arrays:
        arrays["rgb"] = np.moveaxis(arrays["rgb"], -3, -1)
    return arrays


def loaded(loader: DataLoader) -> list:
    """The batches of a loader, copied."""
    return [pickle.loads(pickle.dumps(batch)) for batch in loader]


def test_an_item_is_the_clip_of_the_source(clip_corpus):
    clips = ClipDataset(clip_corpus, 3, content=("flow", "rgb"), **RANDOM)
    item = clips[(2, 4)]
    assert item["rgb"].shape == (3, 3, 8, 8) and item["rgb"].dtype == torch.uint8
    assert same(numpy_of(item), {k: np.asarray(v) for k, v in clips.source[(2, 4)].items()})
    assert len(clips) == 7 and clips.classes == ("Jump", "Run", "Sit")


def test_a_stack_has_u_and_v_of_each_pair_as_channels(clip_corpus):
    stack, label = FlowDataset(clip_corpus, 3, crop=8)[6]
    flow = clip_corpus[IDS[6]].flow(5, 3)[..., 8:16, 16:24]
    assert stack.shape == (6, 8, 8) and label == LABELS[6]
    assert torch.equal(stack[4], torch.from_numpy(flow[2, 0]))
    assert FlowDataset(clip_corpus, 3, crop=8, crops=5, segments=2)[0][0].shape == (5, 2, 6, 8, 8)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("collate_fn", [None, collate])
def test_a_plain_loader_gives_the_keys_of_the_sampler(clip_corpus, workers, collate_fn):
    clips = ClipDataset(clip_corpus, 3, content=("codes", "rgb"), **RANDOM)
    sampler = ClipSampler(clips)
    loader = DataLoader(clips, 3, sampler=sampler, num_workers=workers, collate_fn=collate_fn)
    for epoch in range(2):
        other = ClipSampler(clips)
        other.set_epoch(epoch)
        keys = list(other)
        for number, batch in enumerate(loaded(loader)):
            expected = clips.source.batch(keys[3 * number : 3 * number + 3])
            assert same(numpy_of(batch), {k: np.asarray(v) for k, v in expected.items()})
    assert number == 2


@pytest.mark.slow
def test_spawned_workers_that_stay_give_the_same(clip_corpus):
    clips = FlowDataset(clip_corpus, 3, **RANDOM)
    options = {"num_workers": 2, "multiprocessing_context": "spawn", "persistent_workers": True}
    spawned = DataLoader(clips, 2, sampler=ClipSampler(clips), collate_fn=collate, **options)
    here = DataLoader(clips, 2, sampler=ClipSampler(clips), collate_fn=collate)
    for _ in range(2):
        for (x, y), (x2, y2) in zip(loaded(spawned), loaded(here), strict=True):
            assert torch.equal(x, x2) and torch.equal(y, y2)


def test_collate_copies_nothing(clip_corpus):
    clips = FlowDataset(clip_corpus, 3, crop=8)
    items = clips.__getitems__([0, 1, 2])
    stacks, _ = collate(items)
    assert items[1][0].data_ptr() == stacks[1].data_ptr() and len(items) == 3 == len(list(items))
    assert torch.equal(collate([clips[0], clips[1]])[0], stacks[:2])


def test_plain_keys_draw_from_torchs_generator(clip_corpus):
    clips = FlowDataset(clip_corpus, 3, **RANDOM)
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append([clips[2][0], clips[2][0]])
    assert torch.equal(draws[0][0], draws[1][0]) and torch.equal(draws[0][1], draws[1][1])
    assert not torch.equal(draws[0][0], draws[0][1]) and not torch.equal(draws[0][0], draws[2][0])
    still = FlowDataset(clip_corpus, 3, crop=8)
    assert torch.equal(still[2][0], still[2][0])


def test_a_transform_is_called_with_the_frames_of_a_clip(clip_corpus):
    seen = []

    def half(frames: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(frames.shape))
        return frames[..., ::2, ::2].float() / 255

    plain = ClipDataset(clip_corpus, 3, content="rgb", crop=8)
    clips = ClipDataset(plain.source, transform=half)
    batch = collate(clips.__getitems__([0, 1]))
    assert seen == [(3, 3, 8, 8)] * 2
    expected = collate(plain.__getitems__([0, 1]))["rgb"][..., ::2, ::2] / 255
    assert torch.equal(batch["rgb"], expected) and torch.equal(clips[1]["rgb"], expected[1])
    both = {"content": ("flow", "rgb"), "crop": 8}
    named = ClipDataset(clip_corpus, 3, transform={"rgb": half}, **both)[0]
    assert named["rgb"].shape == (3, 3, 4, 4) and named["flow"].shape == (3, 2, 8, 8)
    with pytest.raises(SettingsError, match="transform has to be a dictionary of transforms for flow, rgb"):
        ClipDataset(clip_corpus, 3, transform=half, **both)
    with pytest.raises(SettingsError, match="transform for codes; the clips have flow, rgb"):
        ClipDataset(clip_corpus, 3, transform={"codes": half}, **both)
    stacks = FlowDataset(clip_corpus, 3, transform=lambda stack: stack.abs().mean((1, 2)), crop=8)
    assert collate(stacks.__getitems__([0, 1, 2]))[0].shape == (3, 6)


def test_wrong_sources(clip_corpus):
    source = flowprep.ClipSource(clip_corpus, 3, content="codes")
    with pytest.raises(SettingsError, match="FlowDataset gives flow: use ClipDataset"):
        FlowDataset(source)
    with pytest.raises(SettingsError, match="crop: with a ClipSource, its own options count"):
        ClipDataset(source, crop=8)
    with pytest.raises(SettingsError, match="length: with a ClipSource, its own options count"):
        ClipDataset(source, 7)
    with pytest.raises(SettingsError, match=r"there is no option stirde; did you mean stride\?"):
        FlowDataset(clip_corpus, stirde=5)
    for transform in (5, {"codes": 5}):
        with pytest.raises(SettingsError, match="transform is 5; allowed: a function"):
            ClipDataset(source, transform=transform)
    assert FlowDataset(clip_corpus).source.layout.length == 10


def test_loaders_take_data_sets_and_sources_only(clip_corpus):
    clips = ClipDataset(clip_corpus, 3, crop=8)
    (batch,) = ClipLoader(clips.source, 7)
    assert same(numpy_of(batch), {k: np.asarray(v) for k, v in clips.source.batch(range(7)).items()})
    assert [clip["id"] for clip in ClipStream(clips.source, buffer=0)] == IDS
    part = torch.utils.data.Subset(clips, [0, 1])
    for make in (ClipSampler, lambda part: ClipLoader(part, 2), ClipStream):
        with pytest.raises(SettingsError, match=r"clips is a Subset; allowed: .* a part of it by videos="):
            make(part)
    with pytest.raises(SettingsError, match="there is no option num_workers; threads= is that for"):
        ClipLoader(clips, 2, num_workers=2)


@pytest.mark.filterwarnings("ignore:.*set_vital")  # of torchdata with a newer torch
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("done", [1, 3])
def test_stateful_loaders_resume_exactly(clip_corpus, workers, done):
    stateful = pytest.importorskip("torchdata.stateful_dataloader")
    clips = FlowDataset(clip_corpus, 3, **RANDOM)

    def make():
        options = {"num_workers": workers, "collate_fn": collate, "sampler": ClipSampler(clips)}
        return stateful.StatefulDataLoader(clips, 2, **options)

    whole = make()
    expected = [loaded(whole) for _ in range(3)]
    first = make()
    loaded(first)
    batches = iter(first)
    for _ in range(done):
        next(batches)
    resumed = make()
    resumed.load_state_dict(pickle.loads(pickle.dumps(first.state_dict())))
    for rest in (expected[1][done:], expected[2]):
        for (x, y), (x2, y2) in zip(loaded(resumed), rest, strict=True):
            assert torch.equal(x, x2) and torch.equal(y, y2)


class Numbers(torch.utils.data.Dataset):
    """Gives the keys of a sampler, so that a test sees them."""

    def __getitem__(self, key: tuple[int, int]) -> torch.Tensor:
        return torch.tensor(key)


@pytest.mark.filterwarnings("ignore:.*set_vital")  # of torchdata with a newer torch
@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("batch_size", [7, 3, 1])  # the last batch is full, or not; keys drawn ahead, or not
def test_a_state_goes_on_as_the_loop_that_was_saved(clip_corpus, workers, batch_size):
    stateful = pytest.importorskip("torchdata.stateful_dataloader")
    source = flowprep.ClipSource(clip_corpus, 3, **RANDOM)
    batches = -(-7 // batch_size)

    def keys(loader) -> list[list[int]]:
        return [key for batch in loader for key in batch.tolist()]

    def make():
        sampler = ClipSampler(source)
        return sampler, stateful.StatefulDataLoader(
            Numbers(), batch_size, sampler=sampler, num_workers=workers
        )

    def resumed(loader) -> list[list[list[int]]]:
        """Two loops after a state, and what a second copy of the state gives."""
        other = make()[1]
        other.load_state_dict(pickle.loads(pickle.dumps(loader.state_dict())))
        again = make()[1]
        again.load_state_dict(pickle.loads(pickle.dumps(other.state_dict())))
        first = keys(other)
        assert keys(again) == first
        return [first, keys(other)]

    expected = []
    for epoch in range(4):
        sampler = ClipSampler(source)
        sampler.set_epoch(epoch)
        expected.append([list(key) for key in sampler])
    sampler, loader = make()
    assert resumed(loader) == expected[:2]  # before the first loop
    assert keys(loader) == expected[0] and resumed(loader) == expected[1:3]  # after an epoch
    loop = iter(loader)
    assert resumed(loader) == expected[1:3]  # before the first batch of a loop
    next(loop)
    assert resumed(loader) == [expected[1][batch_size:], expected[2]]  # in the loop, or at its last batch
    for _ in range(batches - 1):
        next(loop)
    assert resumed(loader) == [[], expected[2]]  # at the last batch: nothing is left of this loop
    assert list(loop) == [] and resumed(loader) == expected[2:]  # after two epochs
    next(iter(loader))  # a loop that is left early
    assert keys(loader) == expected[3]
    sampler.set_epoch(1, 4)
    assert keys(loader) == expected[1][4:] and keys(loader) == expected[2]
    sampler.set_epoch(0)
    assert keys(loader) == expected[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_plain_loader_resumes_by_the_number_of_clips(clip_corpus, workers):
    clips = FlowDataset(clip_corpus, 3, **RANDOM)

    def make():
        sampler = ClipSampler(clips)
        return sampler, DataLoader(clips, 2, sampler=sampler, num_workers=workers, collate_fn=collate)

    sampler, loader = make()
    batches = iter(loader)
    next(batches), next(batches)
    expected = [pickle.loads(pickle.dumps(batch)) for batch in batches]
    sampler, loader = make()
    sampler.set_epoch(0, used=2 * 2)
    for (x, y), (x2, y2) in zip(loaded(loader), expected, strict=True):
        assert torch.equal(x, x2) and torch.equal(y, y2)


@pytest.mark.parametrize("threads", [0, 2])
def test_a_loader_with_threads_gives_the_batches_of_a_plain_loader_and_resumes(clip_corpus, threads):
    clips = FlowDataset(clip_corpus, 3, transform=lambda stack: stack.abs(), **RANDOM)
    plain = DataLoader(clips, 2, sampler=ClipSampler(clips), collate_fn=collate)
    loader = ClipLoader(clips, 2, threads=threads)
    expected = [loaded(plain), loaded(plain)]
    assert len(loader) == 4
    batches = iter(loader)
    seen = [next(batches), next(batches)]
    resumed = ClipLoader(clips, 2, threads=threads)
    resumed.load_state_dict(loader.state_dict())
    for whole in ([*seen, *loaded(resumed)], loaded(resumed)):
        for (x, y), (x2, y2) in zip(whole, expected.pop(0), strict=True):
            assert torch.equal(x, x2) and torch.equal(y, y2)


def test_ranks_come_from_torch_distributed(clip_corpus, tmp_path):
    clips = FlowDataset(clip_corpus, 3, crop=8)
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        assert len(ClipSampler(clips)) == 7 and len(ClipLoader(clips, 7)) == 1
        assert [i for _, i in ClipSampler(clips, rank=1, world_size=2)] == [1, 3, 5, 0]
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"world_size": 2}, "world_size is 2 and rank is missing; allowed: both, or none"),
        ({"rank": 0}, "rank is 0 and world_size is missing; allowed: both, or none"),
    ],
)
def test_the_number_of_a_process_and_that_of_all_belong_together(clip_corpus, given, says):
    clips = FlowDataset(clip_corpus, 3, crop=8)
    for make in (ClipSampler, lambda c, **o: ClipLoader(c, 2, **o), ClipStream):
        with pytest.raises(SettingsError, match=says):
            make(clips, **given)
