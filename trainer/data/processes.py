"""Loading in forked processes, by torch's DataLoader."""

from __future__ import annotations

import logging
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader

from flowprep.system.signals import SIGNALS, blocked
from trainer.errors import LOADER_DIED

log = logging.getLogger(__name__)

# Items that a loader process keeps in shared memory: two that wait and one in work.
_ITEMS_IN_MEMORY = 3


def workers_that_fit(workers: int, size: int) -> int:
    """The number of loader processes for which shared memory has room, at most `workers`.

    The processes pass items in shared memory, and the system kills a process that finds it full.

    Args:
        workers: the wanted number.
        size: bytes of an item.
    """
    shared = Path("/dev/shm")
    if not workers or not shared.is_dir():
        return workers
    free = shutil.disk_usage(shared).free
    if free >= _ITEMS_IN_MEMORY * workers * size:
        return workers
    fit = int(free // (_ITEMS_IN_MEMORY * size))
    log.warning("/dev/shm has %d MB left, room for %d loader processes, not %d", free >> 20, fit, workers)
    return fit


def make_loader(clips: torch.utils.data.Dataset[Any], workers: int, **options: Any) -> DataLoader[Any]:
    """A loader of a data set.

    Args:
        clips: the data set.
        workers: forked processes; 0 loads in this process.
        options: further options of torch's DataLoader.
    """
    # OpenCV's threads do not survive a fork: a child that uses them, or changes their number, waits for ever.
    # Their number is therefore set before the fork.
    cv2.setNumThreads(1)
    return _ClipLoader(
        clips,
        num_workers=workers,
        generator=torch.Generator(),  # loading then leaves the random state of the training unchanged
        worker_init_fn=_leave_interrupts_to_parent,
        **options,
    )


class _ClipLoader(DataLoader[Any]):
    """A loader with one error for a killed process: torch may see the closed connection before the death."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # torch's iterator needs no other method
        try:
            with blocked(*SIGNALS):  # a loader that is being forked would report an interruption
                batches = super().__iter__()
            yield from batches
        except (ConnectionError, EOFError) as exc:
            if "DataLoader worker process" in str(exc):  # the process lives and reports its own error
                raise
            raise RuntimeError(f"{LOADER_DIED}one of {self.num_workers}) ended unexpectedly: {exc}") from exc


def _leave_interrupts_to_parent(_: int) -> None:
    """Ignore the interrupt that a terminal sends to all processes: the parent ends its loaders itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    previous_hook = sys.excepthook

    def hook(kind: type[BaseException], *details: Any) -> None:
        # An interrupted parent closes its connections; an error of a loader that finds one closed is not
        # reported.
        if not issubclass(kind, (ConnectionError, EOFError)):
            previous_hook(kind, *details)

    sys.excepthook = hook
