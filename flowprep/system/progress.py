"""One way to report progress: a function that long operations call, and a bar that shows it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

TERMINAL_SECONDS = 0.1  # between two updates of a bar
LOG_SECONDS = 30.0  # between two lines in a log
TRANSIENT_DELAY_SECONDS = 2.0


class Progress(Protocol):
    """A function that an operation calls each time it has done more."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Report progress.

        Args:
            done: units done so far.
            total: units to do; 0 if not known.
            note: further text to show, such as a number of failures.
        """


def no_progress(done: int, total: int, note: str = "") -> None:
    """Ignore the report: the default where a function accepts a Progress."""


@contextmanager
def progress_bar(
    unit: str, *, label: str = "", transient: bool = False, hidden: bool = False
) -> Iterator[Progress]:
    """Show progress on standard error while the block runs.

    On a terminal, a bar moves. In a log, there is a line twice a minute, and none for a short operation.

    Args:
        unit: plural noun of what is counted, such as "videos".
        label: text in front of the bar.
        transient: the bar appears after two seconds only, and disappears at the end.
        hidden: show nothing.

    Yields:
        The function to call. Its counts are totals, not increments. Any thread may call it.
    """
    if hidden:
        yield no_progress
        return
    terminal = sys.stderr.isatty()
    interval = TERMINAL_SECONDS if terminal else LOG_SECONDS
    delay = (TRANSIENT_DELAY_SECONDS if transient else 0) if terminal else LOG_SECONDS
    bars: list[Any] = []  # none before the first report

    def show(done: int, total: int, note: str = "") -> None:
        if not bars:
            from tqdm import tqdm

            # tqdm's own pair of locks could stay locked after a signal. Closing the bar would wait forever.
            tqdm.set_lock(threading.RLock())
            bars.append(
                tqdm(
                    desc=label or None,
                    unit=f" {unit}",
                    mininterval=interval,
                    maxinterval=max(interval, 10.0),
                    delay=delay,
                    leave=not (transient and terminal),
                    dynamic_ncols=True,
                )
            )
        bar = bars[0]
        bar.total = total or None
        bar.set_postfix_str(note, refresh=False)
        bar.update(done - bar.n)

    try:
        yield show
    finally:
        for bar in bars:
            bar.close()
