"""The order of clips, and the shares of processes."""

from __future__ import annotations

import numpy as np
import pytest

from flowprep.clips.order import epoch_order, place_of_process, shard_order, shuffled_by_buffer
from flowprep.errors import SettingsError


@pytest.mark.parametrize("shuffle", [False, True])
def test_every_process_has_as_many_clips(shuffle):
    shares = [epoch_order(10, 3, shuffle=shuffle, seed=1, rank=r, world_size=4) for r in range(4)]
    assert {len(share) for share in shares} == {3}
    whole = epoch_order(10, 3, shuffle=shuffle, seed=1)
    # Two clips are read twice: the first of the order.
    counts = np.bincount(np.concatenate(shares), minlength=10)
    assert sorted(counts.tolist()) == [1] * 8 + [2] * 2 and counts[whole[:2]].tolist() == [2, 2]
    few = [
        epoch_order(10, 3, shuffle=shuffle, seed=1, rank=r, world_size=4, drop_last=True) for r in range(4)
    ]
    assert sorted(np.concatenate(few).tolist()) == sorted(whole[:8].tolist())


def test_an_order_depends_on_seed_and_epoch():
    orders = {tuple(epoch_order(9, e, shuffle=True, seed=s).tolist()) for e in range(3) for s in range(3)}
    assert len(orders) == 9 and all(sorted(order) == list(range(9)) for order in orders)
    assert epoch_order(2, 0, shuffle=False, seed=0, rank=4, world_size=5).tolist() == [0]
    assert epoch_order(0, 0, shuffle=True, seed=0, world_size=2).tolist() == []


@pytest.mark.parametrize("parts", [1, 2, 5, 40])
def test_parts_are_runs_of_shards_and_hold_each_clip_once(parts):
    shards = np.array([3] * 7 + [1] * 4 + [8] * 12 + [3] * 2 + [0] * 5)
    pieces = [shard_order(shards, 2, shuffle=True, seed=0, part=p, parts=parts) for p in range(parts)]
    assert sorted(np.concatenate(pieces).tolist()) == list(range(30))
    assert max(map(len, pieces)) - min(map(len, pieces)) <= 1
    joined = shards[np.concatenate(pieces)]
    assert np.count_nonzero(np.diff(joined)) == 3  # each shard is one run, which parts may cut
    assert shards[shard_order(shards, 0, shuffle=False, seed=0)].tolist() == sorted(shards.tolist())


def test_a_shuffle_buffer_gives_each_entry_once_and_holds_no_more_than_it_has_places():
    order = np.arange(100, 200)
    given = shuffled_by_buffer(order, 10, np.random.default_rng(0))
    assert sorted(given.tolist()) == order.tolist() and given.tolist() != order.tolist()
    # Entry n is among the first n - 99 + 10 that entered.
    assert all(value - 100 < i + 10 for i, value in enumerate(given.tolist()))
    assert shuffled_by_buffer(order, 0, np.random.default_rng(0)).tolist() == order.tolist()
    assert sorted(shuffled_by_buffer(order, 500, np.random.default_rng(0)).tolist()) == order.tolist()
    assert shuffled_by_buffer(order[:0], 5, np.random.default_rng(0)).tolist() == []


@pytest.mark.parametrize(
    ("rank", "world_size", "says"), [(2, 2, "rank is 2; allowed: 0 to 1"), (0, 0, "world_s")]
)
def test_a_process_that_does_not_exist(rank, world_size, says):
    with pytest.raises(SettingsError, match=says):
        epoch_order(4, 0, shuffle=False, seed=0, rank=rank, world_size=world_size)


@pytest.mark.parametrize(
    ("place", "says"),
    [((None, 2), "world_size is 2 and rank is missing"), ((1, None), "rank is 1 and world_size is missing")],
)
def test_the_number_of_a_process_and_that_of_all_belong_together(place, says):
    """Each process would read the share of the first one."""
    with pytest.raises(SettingsError, match=says):
        place_of_process(*place)
    assert place_of_process(1, 2) == (1, 2) and place_of_process(None, None, (3, 4)) == (3, 4)
