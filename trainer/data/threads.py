"""How much faster threads of this process load than one. Decoding releases the interpreter's lock."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_ROUNDS = 3  # of a measurement
_ROUND_SECONDS = 0.05


def thread_speedup(load: Callable[[int], object], threads: int) -> float:
    """How many times as fast as one thread several threads load, measured in about a third of a second.

    Args:
        load: loads an item by its number, 0, 1, ...
        threads: number of threads.
    """
    load(0)  # opens files and compiles
    rates = {1: 0.0, threads: 0.0}
    for _ in range(_ROUNDS):
        for count, rate in rates.items():
            rates[count] = max(rate, _rate(load, count))
    return rates[threads] / rates[1]


def _rate(load: Callable[[int], object], threads: int) -> float:
    """Items per second, without the time in which other programs had the cores."""
    numbers = itertools.count()
    began = time.perf_counter()

    def load_many(_: int) -> float:
        waited = _seconds_without_core()
        while time.perf_counter() < began + _ROUND_SECONDS:
            load(next(numbers))
        return _seconds_without_core() - waited

    with ThreadPoolExecutor(threads) as pool:
        waited = sum(pool.map(load_many, range(threads))) / threads
    seconds = time.perf_counter() - began
    return next(numbers) / max(seconds - waited, seconds / 10)


def _seconds_without_core() -> float:
    """How long this thread could run and had to wait for a core; 0 where the system does not tell it."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0
