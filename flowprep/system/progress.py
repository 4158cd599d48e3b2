"""One way to report progress: a function that long operations call, and a bar that shows it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from flowprep.system.units import format_duration

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
    elif sys.stderr.isatty():
        bar = _Bar(unit, label, transient)
        try:
            yield bar
        finally:
            bar.close()
    else:
        yield _LogLines(unit, label)


class _Bar:
    """A bar of tqdm. It appears with the first report."""

    def __init__(self, unit: str, label: str, transient: bool) -> None:
        self._options = {
            "desc": label or None,
            "unit": f" {unit}",
            "delay": TRANSIENT_DELAY_SECONDS if transient else 0,
            "leave": not transient,
            "dynamic_ncols": True,
        }
        self._bar: Any = None

    def __call__(self, done: int, total: int, note: str = "") -> None:
        if self._bar is None:
            from tqdm import tqdm

            # tqdm's own pair of locks could stay locked after a signal. Closing the bar would wait forever.
            tqdm.set_lock(threading.RLock())
            self._bar = tqdm(**self._options)
        self._bar.total = total or None
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


class _LogLines:
    """Lines in a log."""

    def __init__(self, unit: str, label: str) -> None:
        self._unit = unit
        self._label = label
        self._began = self._printed = time.monotonic()

    def __call__(self, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        if now - self._printed < LOG_SECONDS:
            return
        self._printed = now
        counts = f"{done} of {total} {self._unit}" if total else f"{done} {self._unit}"
        texts = filter(None, [self._label, f"{counts} in {format_duration(now - self._began)}", note])
        print(", ".join(texts), file=sys.stderr, flush=True)
