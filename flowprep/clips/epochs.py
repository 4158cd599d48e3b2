"""One epoch of clips after the other, for loaders: exact resumption, and equal shares for processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

from flowprep.clips.layout import is_count
from flowprep.clips.order import epoch_order, place_of_process
from flowprep.clips.source import ClipSource, Key
from flowprep.errors import UsageError
from flowprep.system.threads import in_threads
from flowprep.validation import check


class _Epochs:
    """The clips of one epoch after the other, and the place that a loop has reached.

    Attributes:
        epoch: the number of the epoch.
        used: the number of its clips that were given.
    """

    def __init__(
        self,
        source: ClipSource,
        shuffle: bool | None = None,
        *,
        rank: int | None = None,
        world_size: int | None = None,
        drop_last: bool = False,
    ) -> None:
        allowed = "a ClipSource; for a data set of torch use flowprep.torch.ClipLoader"
        check(isinstance(source, ClipSource), "source", f"a {type(source).__name__}", allowed)
        self.source, self.epoch, self.used = source, 0, 0
        self._shuffle = source.layout.random if shuffle is None else shuffle
        self._rank, self._world_size = place_of_process(rank, world_size)
        self._drop_last = drop_last
        self._begun = False  # whether a loop has gone on from the place

    def state_dict(self) -> dict[str, Any]:
        """The place that the loop has reached, in plain types. All processes have the same."""
        return {"epoch": self.epoch, "used": self.used, "of": self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue at the place of a state, with the same clips as without an interruption.

        Raises:
            UsageError: the state is of other clips, or of another number of processes.
        """
        missing = {"epoch", "used", "of"} - set(state)
        check(not missing, "state", f"without {', '.join(sorted(missing))}", "what state_dict() returned")
        if state["of"] != self._identity():
            raise UsageError(f"the state is of {state['of']}; this is {self._identity()}")
        self.set_epoch(state["epoch"], state["used"])

    def set_epoch(self, epoch: int, used: int = 0) -> None:
        """Begin at a place of an epoch: after `used` clips. Without it, each loop is the next epoch.

        Raises:
            SettingsError: a number is negative or no whole number, or the epoch has fewer clips.
        """
        check(is_count(epoch, 0), "epoch", repr(epoch), "a whole number from 0")
        share = self._share()
        allowed = f"0 to {share}, the number of clips of an epoch in this process"
        check(is_count(used, 0) and used <= share, "used", repr(used), allowed)
        self.epoch, self.used, self._begun = int(epoch), int(used), False

    def _identity(self) -> str:
        options = f"shuffle={self._shuffle}, drop_last={self._drop_last}, world_size={self._world_size}"
        return f"{self.source!r}, {options}"

    def _share(self) -> int:
        """The number of clips of an epoch in this process."""
        count = len(self.source)
        return count // self._world_size if self._drop_last else -(-count // self._world_size)

    def _begin(self) -> None:
        """Begin a loop: at the place that was set, or with the next epoch if a loop was left early."""
        if self._begun:
            self.set_epoch(self.epoch + 1)

    def _rest(self, epoch: int, used: int) -> list[Key]:
        """The keys (epoch, clip) of an epoch after `used` of them."""
        order = epoch_order(
            len(self.source),
            epoch,
            shuffle=self._shuffle,
            seed=self.source.seed,
            rank=self._rank,
            world_size=self._world_size,
            drop_last=self._drop_last,
        )
        return [(epoch, i) for i in order[used:].tolist()]

    def _reach(self, epoch: int, used: int) -> None:
        """Note the place that a loop has reached."""
        self.epoch, self.used, self._begun = epoch, used, True


class ClipSampler(_Epochs):
    """Gives keys (epoch, clip) of a source: a sampler for loaders of other libraries.

    A clip then depends on the seed, the epoch and its number only, whatever the number of workers. Each loop
    is one epoch, and the next loop is the next one, also if the loop is left early.

    A loader with workers draws keys ahead. `torchdata.StatefulDataLoader` takes that into account. With other
    loaders, count the clips that the training has seen, and call `set_epoch(epoch, used)`.

    Args:
        source: the clips.
        shuffle: give a random order in each epoch; None does so if the source is random.
        rank: number of this process; give it and `world_size`, or none of them.
        world_size: number of all processes. Each has the same number of clips.
        drop_last: if the clips cannot be divided equally, leave some out; else some are read twice.

    Attributes:
        epoch: the number of the epoch.
        used: the number of its clips that were given.
    """

    def __len__(self) -> int:
        return self._share()

    def __iter__(self) -> Iterator[Key]:
        self._begin()
        return _Keys(self)


class _Keys(Iterator[Key]):
    """One loop over a sampler.

    `StatefulDataLoader` saves the place of a loop beside that of its sampler. After the last key, the sampler
    is at the next epoch, and the loop is at the end of its own. A loop that is loaded has begun. So it is
    followed by the next epoch, also if the loader drops it because the saved loop was over.
    """

    def __init__(self, sampler: ClipSampler) -> None:
        self._sampler, self._epoch, self._used = sampler, sampler.epoch, sampler.used
        self._keys: Iterator[Key] | None = None

    def __next__(self) -> Key:
        if self._keys is None:
            self._keys = self._draw()
        return next(self._keys)

    def _draw(self) -> Iterator[Key]:
        for key in self._sampler._rest(self._epoch, self._used):
            self._used += 1
            self._sampler._reach(self._epoch, self._used)
            yield key
        self._sampler.set_epoch(self._epoch + 1)

    def state_dict(self) -> dict[str, int]:
        """The place that this loop has reached."""
        return {"epoch": self._epoch, "used": self._used}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue this loop at a place."""
        self._epoch, self._used, self._keys = state["epoch"], state["used"], None
        self._sampler._reach(self._epoch, self._used)


class ClipBatches(_Epochs):
    """Batches of clips as NumPy arrays: each loop over it is one epoch.

    A batch is what `source.batch` returns. Threads decode the next batches while one is in use. The memory of
    a batch is used again when nobody refers to it any more.

    Args:
        source: the clips.
        batch_size: clips in a batch.
        shuffle: give a random order in each epoch; None does so if the source is random.
        threads: number of decoding threads; 0 decodes when a batch is asked for.
        rank: number of this process; give it and `world_size`, or none of them.
        world_size: number of all processes. Each has the same number of clips.
        drop_last: leave out clips that do not fill a batch, or cannot be divided equally among processes;
            else the last batch is smaller, and some clips are read twice.

    Attributes:
        epoch: the number of the epoch.
        used: the number of its clips that were given.
    """

    def __init__(
        self,
        source: ClipSource,
        batch_size: int,
        shuffle: bool | None = None,
        *,
        threads: int = 2,
        rank: int | None = None,
        world_size: int | None = None,
        drop_last: bool = False,
    ) -> None:
        check(batch_size >= 1, "batch_size", repr(batch_size), "a whole number from 1")
        check(threads >= 0, "threads", repr(threads), "a whole number from 0")
        super().__init__(source, shuffle, rank=rank, world_size=world_size, drop_last=drop_last)
        self._batch_size, self._threads = batch_size, threads

    def __len__(self) -> int:
        share = self._share()
        return share // self._batch_size if self._drop_last else -(-share // self._batch_size)

    def __iter__(self) -> Iterator[Any]:
        self._begin()
        keys, size = self._rest(self.epoch, self.used), self._batch_size
        groups = [keys[i : i + size] for i in range(0, len(keys), size)]
        if self._drop_last and groups and len(groups[-1]) < size:
            groups.pop()
        for group, batch in zip(groups, self._read(groups), strict=True):
            self._reach(self.epoch, self.used + len(group))
            yield batch
        self.set_epoch(self.epoch + 1)

    def _batch(self, keys: Sequence[Key]) -> Any:
        """The batch of some clips."""
        return self.source.batch(keys)

    def _read(self, groups: Sequence[Sequence[Key]]) -> Iterator[Any]:
        """The batches in their order, decoded ahead by threads."""
        if not self._threads:
            yield from map(self._batch, groups)
            return
        work = in_threads(lambda _, group: self._batch(group), groups, self._threads, self._threads + 2)
        with closing(work) as results:
            for _, batch in results:
                yield batch
                del batch  # else its memory would be in use during the next one
