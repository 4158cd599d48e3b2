"""Loaders of training batches and of clips to evaluate, in threads or in processes.

The samples and their order do not depend on the number and the kind of workers.
"""

from __future__ import annotations

import itertools
import logging
import mmap
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence, Sized
from contextlib import closing
from typing import Any, Protocol, TypeVar, cast

import cv2
import numpy as np
import torch

from flowprep.system.processes import usable_cores
from flowprep.system.threads import in_threads
from trainer.data.clip import Clip
from trainer.data.dataset import BatchParts, TrainingClips
from trainer.data.processes import make_loader, workers_that_fit
from trainer.data.threads import thread_speedup

log = logging.getLogger(__name__)

AUTO, THREADS, PROCESSES = LOADERS = ("auto", "threads", "processes")
_SINGULAR = {THREADS: "thread", PROCESSES: "process"}
_WORTHWHILE = 0.6  # share of the speed-up of ideal threads from which on threads load, not processes
_PREFETCH = 2  # batches that a loader process has waiting or in work

Keys = Sequence[tuple[int, int]]  # (step, sample) of the samples of a batch
Batch = tuple[Clip, torch.Tensor, torch.Tensor]
_Item = TypeVar("_Item", covariant=True)


class Items(Sized, Protocol[_Item]):
    """Items by their numbers."""

    def __getitem__(self, number: int, /) -> _Item:
        """Load an item."""


def pick_loader(loader: str, workers: int, load: Callable[[int], object]) -> str:
    """The kind of loader: "threads" or "processes".

    Threads share their memory and start at once. Processes are better where Python itself takes most of the
    time, since only one thread at a time runs Python.

    Args:
        loader: the wish of the user: "auto", "threads" or "processes". With "auto", a short measurement
            decides.
        workers: number of threads or processes, from 1.
        load: loads an item by its number.
    """
    reason = ""
    if loader == AUTO:
        loader = THREADS
        if workers > 1:
            speedup = thread_speedup(load, workers)
            loader = THREADS if speedup >= _WORTHWHILE * min(workers, usable_cores()) else PROCESSES
            reason = f": {workers} threads load {speedup:.1f} times as fast as one"
    log.info("loading in %d %s%s", workers, loader if workers > 1 else _SINGULAR[loader], reason)
    return loader


class BatchLoader:
    """Loads batches of training samples into tensors that are used again.

    Args:
        clips: the samples.
        size: samples in a batch.
        workers: number of threads or processes; 0 loads when a batch is asked for.
        loader: as of pick_loader.
        pin: load into pinned memory, from which a GPU copies faster. The memory of processes is not pinned.

    Attributes:
        kind: "threads" or "processes"; "" without workers.
    """

    def __init__(
        self, clips: TrainingClips, size: int, workers: int, loader: str = AUTO, *, pin: bool = False
    ) -> None:
        cv2.setNumThreads(1)
        self._clips, self._size, self._workers, self._pin = clips, size, workers, pin
        self.kind = pick_loader(loader, workers, lambda i: clips[0, i % size]) if workers else ""
        # A GPU may still copy from the batch before the last one.
        self._held = 2 if pin or self.kind == PROCESSES else 1
        self._planes: list[torch.Tensor] = []
        self._ring: _Ring | None = None

    def batches(self, keys: Iterable[Keys]) -> Generator[Batch, None, None]:
        """Load batches. The planes of a batch change when the next one is asked for.

        Args:
            keys: the samples of each batch.

        Yields:
            A clip with planes (B, ..., S, S), classes (B,) and heads (B,).
        """
        copied = deque[torch.cuda.Event]()
        with closing(self._filled(keys)) as filled:
            for slot, parts in filled:
                clip = self._clips.as_clip(self._planes[slot], parts)
                yield clip, torch.from_numpy(parts.classes), torch.from_numpy(parts.heads)
                if self._pin:
                    copied.append(torch.cuda.Event())  # type: ignore[no-untyped-call]
                    copied[-1].record()
                    if len(copied) == self._held:
                        copied.popleft().synchronize()

    def _filled(self, keys: Iterable[Keys]) -> Generator[tuple[int, BatchParts], None, None]:
        """The number of the filled planes of each batch, and what it has beside them."""
        if self.kind == PROCESSES:
            if not self._ring:
                self._planes = self._allocate(_PREFETCH * self._workers + self._held, shared=True)
                self._ring = _Ring(self._clips, self._planes, self._workers)
            return self._ring.filled(keys)
        if not self._planes:
            self._planes = self._allocate(self._workers + 1 + self._held)
        slots = len(self._planes)
        if self.kind == THREADS:
            return in_threads(self._fill, keys, self._workers, slots, self._held)
        return ((i % slots, self._fill(i % slots, batch)) for i, batch in enumerate(keys))

    def _fill(self, slot: int, keys: Keys) -> BatchParts:
        return self._clips.fill(keys, self._planes[slot].numpy())

    def _allocate(self, count: int, *, shared: bool = False) -> list[torch.Tensor]:
        """Planes of `count` batches; shared ones are those of all processes that are forked later."""
        shape, dtype = self._clips.shape(self._size), self._clips.dtype
        if not shared:
            return [torch.empty(shape, dtype=dtype, pin_memory=self._pin) for _ in range(count)]
        # Not in /dev/shm, which is small in containers.
        bytes_each = int(np.prod(shape)) * dtype.itemsize
        memory = [mmap.mmap(-1, bytes_each) for _ in range(count)]
        return [torch.frombuffer(part, dtype=dtype).view(shape) for part in memory]

    def close(self) -> None:
        """End the processes and free the memory."""
        self._ring = None
        self._planes = []


class _Ring:
    """Processes that fill planes in turn. They return all but the planes through a pipe.

    At most _PREFETCH batches of each process wait or are in work, and there are two planes more. So the
    planes of a batch stay unchanged until the one after the next is asked for.
    """

    def __init__(self, clips: TrainingClips, planes: Sequence[torch.Tensor], workers: int) -> None:
        self._planes = planes
        self._keys: Iterable[Keys] = ()
        self._loader = make_loader(
            _Slots(clips, planes),
            workers,
            batch_size=None,
            sampler=self,
            collate_fn=_unchanged,
            prefetch_factor=_PREFETCH,
            persistent_workers=True,
        )

    def __iter__(self) -> Iterator[tuple[int, Keys]]:
        return zip(itertools.cycle(range(len(self._planes))), self._keys, strict=False)

    def filled(self, keys: Iterable[Keys]) -> Generator[tuple[int, BatchParts], None, None]:
        """The number of the filled planes of each batch, and what it has beside them."""
        self._keys = keys
        yield from self._loader


class _Slots(torch.utils.data.Dataset[tuple[int, BatchParts]]):
    """Fills planes by their number."""

    def __init__(self, clips: TrainingClips, planes: Sequence[torch.Tensor]) -> None:
        self._clips, self._planes = clips, planes

    def __getitem__(self, key: tuple[int, Keys]) -> tuple[int, BatchParts]:
        slot, keys = key
        return slot, self._clips.fill(keys, self._planes[slot].numpy())


def _unchanged(item: Any) -> Any:
    return item


def load_items(items: Items[_Item], workers: int, loader: str, size: int) -> Generator[_Item, None, None]:
    """All items, in order.

    Args:
        items: loads an item by its number.
        workers: number of threads or processes; 0 loads when an item is asked for.
        loader: as of pick_loader.
        size: bytes of the largest item.
    """
    cv2.setNumThreads(1)
    workers = min(workers, len(items))
    if workers:
        loader = pick_loader(loader, workers, lambda i: items[i % len(items)])
    if workers and loader == THREADS:
        with closing(in_threads(lambda _, i: items[i], range(len(items)), workers, workers + 2)) as loaded:
            yield from (item for _, item in loaded)
    else:
        # Single clips, not batches: frames of different videos may differ in size until they are cropped.
        dataset = cast("torch.utils.data.Dataset[_Item]", items)
        yield from make_loader(dataset, workers_that_fit(workers, size), batch_size=None)
