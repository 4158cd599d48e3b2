"""Interruption of a training by Ctrl-C or SIGTERM, outside of blocks that must not be interrupted."""

from __future__ import annotations

import signal

from flowprep.system import signals
from flowprep.system.signals import uninterrupted

__all__ = ["raise_on_signals", "uninterrupted"]

# An interruption of a call of `queue.Queue` can leave its lock locked. A thread that reads the queue, such as
# that of tensorboard, would then wait without end. Such calls stand in a block of `uninterrupted`.


def raise_on_signals() -> None:
    """Raise KeyboardInterrupt on SIGINT and SIGTERM, unless the process ignores the signal."""
    signals.raise_on_signals(at_signal=_ignore_end_of_loaders)


def _ignore_end_of_loaders() -> None:
    """Slurm signals the loaders, too. Their end is no error then, but torch's handler would raise one."""
    signal.signal(signal.SIGCHLD, lambda *_: None)
