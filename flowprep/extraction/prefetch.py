"""Prefetching: a thread computes the next items of a stream while the caller works on the current one."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

from flowprep.errors import VideoUnsuitable

T = TypeVar("T")


def prefetch(items: Iterable[T], depth: int = 1, limit: float | None = None) -> Iterator[T]:
    """Yield the items, while a thread computes the next `depth` of them.

    An exception of the thread is raised in its turn, after the items before it.

    Args:
        items: the stream.
        depth: the number of items that may wait.
        limit: the time for all items, in seconds; None for no limit.

    Raises:
        VideoUnsuitable: the time is over. The thread may hang in a decoder, so it is abandoned.
    """
    deadline = time.monotonic() + limit if limit else None
    results: queue.Queue[tuple[str, Any]] = queue.Queue(depth)
    stop = threading.Event()
    thread = threading.Thread(target=_compute, args=(items, results, stop), daemon=True)
    thread.start()
    late = False
    try:
        while True:
            remaining = deadline - time.monotonic() if deadline else None
            try:
                if remaining is not None and remaining <= 0:
                    raise queue.Empty
                kind, value = results.get(timeout=remaining)
            except queue.Empty:
                late = True
                raise VideoUnsuitable(f"took longer than {limit:g} s") from None
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
    finally:
        stop.set()
        if not late:
            thread.join()


def _compute(items: Iterable[Any], results: queue.Queue[tuple[str, Any]], stop: threading.Event) -> None:
    def put(kind: str, value: Any) -> bool:
        while not stop.is_set():
            with suppress(queue.Full):
                results.put((kind, value), timeout=0.1)
                return True
        return False

    try:
        if all(put("item", item) for item in items):
            put("end", None)
    except BaseException as exc:
        put("error", exc)
