"""Clips in the order of the shards, for storage that reads in sequence much faster than at random."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from flowprep.clips.order import part_of, shard_order, shuffled_by_buffer
from flowprep.clips.source import ClipSource
from flowprep.errors import UsageError
from flowprep.torch.datasets import ClipDataset, as_dataset
from flowprep.torch.sampler import place_in_group
from flowprep.validation import check

log = logging.getLogger(__name__)


class ClipStream(IterableDataset[Any]):
    """The clips of a data set, shard after shard, through a shuffle buffer.

    The clips of an epoch are divided into one part for each worker of each process. Each clip is in one part,
    and parts differ by at most one clip. A part is a run of shards, of which only the first and the last may
    be shared with others. The buffer holds numbers of clips, not pixels: it takes no memory. The system is
    told to read a shard as soon as its first clip enters the buffer.

    With another number of workers an epoch has the same clips with the same random choices. Their order and
    their division into batches differ.

    `len` is the number of clips in this process, or of batches if batch_size is given. Without workers it is
    exact. With workers, each has its own last batch, so there may be up to one batch more or less for each.

    Call `set_epoch` before each epoch. For exact resumption use `torchdata.StatefulDataLoader`.

    Args:
        clips: the data set, or its source.
        batch_size: give batches of this size, for DataLoader(batch_size=None): they are decoded into one
            tensor. 0 gives clips.
        buffer: clips in the shuffle buffer, of each worker. 0 shuffles nothing, neither clips nor shards.
        rank: number of this process; by default that of torch.distributed.
        world_size: number of all processes, likewise.
        drop_last: leave out clips so that all parts are equal, and those that do not fill a batch.
    """

    def __init__(
        self,
        clips: ClipDataset | ClipSource,
        batch_size: int = 0,
        *,
        buffer: int = 1000,
        rank: int | None = None,
        world_size: int | None = None,
        drop_last: bool = False,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("buffer", buffer)):
            check(value >= 0, name, repr(value), "a whole number from 0")
        self.clips, self.batch_size, self.buffer, self.drop_last = (
            as_dataset(clips),
            batch_size,
            buffer,
            drop_last,
        )
        self.rank, self.world_size = place_in_group(rank, world_size)
        # Workers that live for several epochs see changes of shared memory only.
        self._epochs = torch.tensor([0, -1])  # the present one, and the one that began last
        self._epochs.share_memory_()  # type: ignore[no-untyped-call]

    def set_epoch(self, epoch: int) -> None:
        """Set the number of the epoch that the next loop reads."""
        self._epochs[0] = epoch

    def __len__(self) -> int:
        count, size = len(self.clips), max(1, self.batch_size)
        if self.drop_last:
            return count // self.world_size // size
        return -(-len(part_of(count, self.rank, self.world_size)) // size)

    def __iter__(self) -> StreamIterator:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        return StreamIterator(self, self.rank * workers + number, self.world_size * workers)

    def begin(self, *, first: bool) -> int:
        """The number of the epoch that begins. The first part warns if it begins again."""
        epoch, last = self._epochs.tolist()
        if first:
            if epoch == last:
                log.warning("epoch %d is read again, with the same clips: call set_epoch", epoch)
            self._epochs[1] = epoch
        return int(epoch)


class StreamIterator(Iterator[Any]):
    """One pass over one part of a stream, which can be resumed."""

    def __init__(self, stream: ClipStream, part: int, parts: int) -> None:
        self._stream, self._part, self._parts = stream, part, parts
        self._epoch, self._used = -1, 0
        self._order: list[int] | None = None
        self._shards: deque[tuple[int, int]] = deque()  # (clips that enter the buffer before, shard)

    def state_dict(self) -> dict[str, Any]:
        """The place that was reached, in plain types."""
        return {"epoch": self._epoch, "used": self._used, "of": self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue at the place of a state.

        Raises:
            UsageError: the state is of other clips, or of another number of workers or processes.
        """
        if state["of"] != self._identity():
            raise UsageError(f"the state is of {state['of']}; this is {self._identity()}")
        self._epoch, self._used, self._order = state["epoch"], state["used"], None

    def __next__(self) -> Any:
        if self._order is None:
            self._order = self._draw_order()
        stream = self._stream
        keys = self._order[self._used : self._used + max(1, stream.batch_size)]
        if not keys or (stream.drop_last and len(keys) < stream.batch_size):
            raise StopIteration
        self._read_ahead()
        self._used += len(keys)
        clips = stream.clips.__getitems__([(self._epoch, i) for i in keys])
        return clips.batch if stream.batch_size else clips[0]

    def _draw_order(self) -> list[int]:
        """The numbers of the clips of the part, in the order in which they are read."""
        stream, source = self._stream, self._stream.clips.source
        if self._epoch < 0:
            self._epoch = stream.begin(first=self._part == 0)
        shards = source.shards()
        order = shard_order(
            shards,
            self._epoch,
            shuffle=stream.buffer > 0,
            seed=source.seed,
            part=self._part,
            parts=self._parts,
        )
        if stream.drop_last:
            order = order[: len(source) // self._parts]
        rng = np.random.default_rng([source.seed, self._epoch, self._part])
        shuffled = shuffled_by_buffer(order, stream.buffer, rng)
        entering = shards[order]
        firsts = np.flatnonzero(np.diff(entering, prepend=-1)).tolist()
        needed = set(shards[shuffled[self._used :]].tolist())  # fewer than all after a resumption
        self._shards = deque((first, s) for first in firsts if (s := int(entering[first])) in needed)
        return [int(i) for i in shuffled]

    def _read_ahead(self) -> None:
        """Tell the system to read the shards whose first clip has entered the buffer."""
        while self._shards and self._shards[0][0] <= self._used + self._stream.buffer:
            path = self._stream.clips.source.shard_path(self._shards.popleft()[1])
            if hasattr(os, "posix_fadvise"):
                file = os.open(path, os.O_RDONLY)
                try:
                    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_WILLNEED)
                finally:
                    os.close(file)

    def _identity(self) -> str:
        stream = self._stream
        options = f"buffer={stream.buffer}, part {self._part} of {self._parts}, drop_last={stream.drop_last}"
        return f"{stream.clips.source!r}, {options}"
