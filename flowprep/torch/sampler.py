"""The sampler of clips, and a loader with threads. Both know torch.distributed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.distributed

from flowprep.clips import epochs
from flowprep.clips.order import place_of_process
from flowprep.clips.source import ClipSource, Key
from flowprep.errors import SettingsError
from flowprep.torch.datasets import ClipDataset, as_dataset


class ClipSampler(epochs.ClipSampler):
    """Gives keys (epoch, clip) of a data set, for DataLoader(sampler=...).

    A clip then depends on the seed, the epoch and its number only, whatever the number of workers. Each loop
    is one epoch, and the next loop is the next one, also if the loop is left early.

    `torchdata.StatefulDataLoader` resumes exactly, by `state_dict` and `load_state_dict`. A plain DataLoader
    with workers draws keys ahead: count the clips that the training has seen, and resume it by
    `set_epoch(epoch, used)`.

    Args:
        clips: a data set, or its source.
        shuffle: give a random order in each epoch; None does so if the clips are random.
        rank: number of this process; by default that of torch.distributed.
        world_size: number of all processes, likewise. Each has the same number of clips.
        drop_last: if the clips cannot be divided equally, leave some out; else some are read twice.

    Attributes:
        epoch: the number of the epoch.
        used: the number of its clips that were given.
    """

    def __init__(
        self,
        clips: ClipDataset | ClipSource,
        shuffle: bool | None = None,
        *,
        rank: int | None = None,
        world_size: int | None = None,
        drop_last: bool = False,
    ) -> None:
        source = as_dataset(clips).source
        rank, world_size = place_in_group(rank, world_size)
        super().__init__(source, shuffle, rank=rank, world_size=world_size, drop_last=drop_last)


class ClipLoader(epochs.ClipBatches):
    """A loader with threads instead of worker processes: each loop over it is one epoch.

    A batch is that of DataLoader(clips, sampler=ClipSampler(clips), collate_fn=collate), whatever the number
    of threads. It goes through no shared memory, and its memory is used again when nobody refers to it any
    more. A transform in Python keeps other threads waiting: worker processes may then be faster.

    Args:
        clips: a data set, or its source.
        batch_size: clips in a batch.
        shuffle: give a random order in each epoch; None does so if the clips are random.
        threads: number of decoding threads; 0 decodes when a batch is asked for.
        rank: number of this process; by default that of torch.distributed.
        world_size: number of all processes, likewise. Each has the same number of clips.
        drop_last: leave out clips that do not fill a batch, or cannot be divided equally among processes;
            else the last batch is smaller, and some clips are read twice.

    Attributes:
        epoch: the number of the epoch.
        used: the number of its clips that were given.
    """

    def __init__(
        self,
        clips: ClipDataset | ClipSource,
        batch_size: int,
        shuffle: bool | None = None,
        *,
        threads: int = 2,
        rank: int | None = None,
        world_size: int | None = None,
        drop_last: bool = False,
        **unknown: Any,
    ) -> None:
        if unknown:
            raise SettingsError(f"there is no option {', '.join(unknown)}; threads= is that for num_workers=")
        self._clips = as_dataset(clips)
        rank, world_size = place_in_group(rank, world_size)
        options = {"threads": threads, "rank": rank, "world_size": world_size}
        super().__init__(self._clips.source, batch_size, shuffle, drop_last=drop_last, **options)

    def _batch(self, keys: Sequence[Key]) -> Any:
        return self._clips.__getitems__(keys).batch


def place_in_group(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """The number of this process and of all processes: as given, or as torch.distributed has them.

    Raises:
        SettingsError: one of the two is given and the other is not, or there is no such process.
    """
    grouped = torch.distributed.is_available() and torch.distributed.is_initialized()
    default = (torch.distributed.get_rank(), torch.distributed.get_world_size()) if grouped else (0, 1)
    return place_of_process(rank, world_size, default)
