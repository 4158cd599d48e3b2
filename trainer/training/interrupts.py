"""Interruption of a training by Ctrl-C or SIGTERM, outside of blocks that must not be interrupted."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class _Interrupts:
    """The open blocks of `uninterrupted`, and whether a signal arrived in one of them."""

    def __init__(self) -> None:
        self.blocks = 0
        self.pending = False

    def handle(self, *_: object) -> None:
        """Handle a signal. Slurm sends it to the loaders, too; their end is no error then."""
        signal.signal(signal.SIGCHLD, lambda *_: None)  # torch's handler would raise another error
        self.pending = True
        self.raise_pending()

    def raise_pending(self) -> None:
        """Raise KeyboardInterrupt for a signal that arrived, unless a block is open."""
        if self.pending and not self.blocks:
            self.pending = False
            raise KeyboardInterrupt


_interrupts = _Interrupts()


def raise_on_signals() -> None:
    """Raise KeyboardInterrupt on SIGINT and SIGTERM, unless the process ignores the signal."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:  # a script's background process ignores Ctrl-C
            signal.signal(number, _interrupts.handle)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Delay the interruption of `raise_on_signals` to the end of the block.

    An interruption of a call of `queue.Queue` can leave its lock locked. A thread that reads the queue, such
    as that of tensorboard, would then wait without end.
    """
    _interrupts.blocks += 1
    try:
        yield
    finally:
        _interrupts.blocks -= 1
        _interrupts.raise_pending()
