"""The order of the clips of an epoch, and the share of each process."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flowprep.validation import check


def epoch_order(
    count: int,
    epoch: int,
    *,
    shuffle: bool,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    drop_last: bool = False,
) -> npt.NDArray[np.int64]:
    """The numbers of the clips that a process reads in an epoch, in their order.

    All processes read the same number of clips. If the clips cannot be divided equally, the first clips of
    the order are read twice; with `drop_last`, the last ones are left out.

    Args:
        count: the number of clips.
        epoch: the number of the epoch.
        shuffle: give a random order, which depends on (seed, epoch) only.
        seed: seed of the order.
        rank, world_size: number of the process, and of all processes.
        drop_last: leave clips out instead.
    """
    check_rank(rank, world_size)
    order = np.random.default_rng([seed, epoch]).permutation(count) if shuffle else np.arange(count)
    share = count // world_size if drop_last else -(-count // world_size)
    return np.resize(order, share * world_size)[rank::world_size] if count else order


def shard_order(
    shards: npt.NDArray[np.int64], epoch: int, *, shuffle: bool, seed: int, part: int = 0, parts: int = 1
) -> npt.NDArray[np.int64]:
    """The numbers of the clips of one part of an epoch, in an order that reads shards one by one.

    The clips are sorted by shard and cut into `parts` pieces, so most shards belong to one part. Each clip is
    in one part, and parts differ by at most one clip.

    Args:
        shards: the shard of each clip, (N,).
        epoch: the number of the epoch.
        shuffle: give the shards a random order, which depends on (seed, epoch) only.
        seed: seed of the order.
        part, parts: the number of the part, and of all parts.
    """
    place = np.unique(shards, return_inverse=True)[1]
    if shuffle and len(place):
        place = np.random.default_rng([seed, epoch]).permutation(place.max() + 1)[place]
    return np.argsort(place, kind="stable")[part_of(len(place), part, parts)]


def part_of(count: int, part: int, parts: int) -> range:
    """The places of one of several parts of `count` clips. Parts differ by at most one clip."""
    edges = np.linspace(0, count, parts + 1).astype(np.int64).tolist()
    return range(edges[part], edges[part + 1])


def shuffled_by_buffer(
    order: npt.NDArray[np.int64], size: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """The order in which a shuffle buffer of `size` places gives what enters it in `order`.

    The buffer is filled first. Then a random place gives its entry, and the next one enters there.
    """
    held = order[:size].tolist()
    if not held:
        return order
    places = rng.integers(len(held), size=len(order) - len(held)).tolist()
    given = []
    for place, entering in zip(places, order[len(held) :].tolist(), strict=True):
        given.append(held[place])
        held[place] = entering
    return np.array(given + rng.permutation(held).tolist(), np.int64)


def check_rank(rank: int, world_size: int) -> None:
    """Refuse a process that does not exist.

    Raises:
        SettingsError: `rank` is not one of 0 to `world_size` - 1.
    """
    check(world_size >= 1, "world_size", repr(world_size), "a whole number from 1")
    check(0 <= rank < world_size, "rank", repr(rank), f"0 to {world_size - 1}, as world_size is {world_size}")


def place_of_process(
    rank: int | None, world_size: int | None, default: tuple[int, int] = (0, 1)
) -> tuple[int, int]:
    """The number of this process and of all processes: as given, or `default`.

    Raises:
        SettingsError: one of the two is given and the other is not, or there is no such process.
    """
    given, lacking = ("rank", "world_size") if world_size is None else ("world_size", "rank")
    value = rank if world_size is None else world_size
    check((rank is None) == (world_size is None), given, f"{value} and {lacking} is missing", "both, or none")
    if rank is None or world_size is None:
        return default
    check_rank(rank, world_size)
    return rank, world_size
