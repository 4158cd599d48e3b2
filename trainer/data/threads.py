"""Loading in threads of this process. Decoding releases the interpreter's lock."""

from __future__ import annotations

import atexit
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from flowprep.system.signals import SIGNALS, blocked

_Key = TypeVar("_Key")
_Result = TypeVar("_Result")

_ROUNDS = 3  # of a measurement
_ROUND_SECONDS = 0.05


def in_threads(
    work: Callable[[int, _Key], _Result], keys: Iterable[_Key], threads: int, slots: int, held: int = 1
) -> Generator[tuple[int, _Result], None, None]:
    """Results of keys, in their order, computed in threads.

    A key is computed with the number of a slot, which nobody else uses meanwhile. A request for the next
    result gives back all but `held` - 1 of the slots that the caller has.

    Args:
        work: computes the result of a slot and a key.
        keys: the keys.
        threads: number of threads.
        slots: number of slots, more than `held`: that many keys are in work, wait, or are with the caller.
        held: number of slots with the caller.

    Yields:
        (slot, result) of each key. An error of `work` is raised in place of the result.
    """
    numbered, submitted = iter(keys), 0
    finished: dict[int, tuple[int, Any]] = {}
    free, with_caller = deque(range(slots)), deque[int]()
    with closing(_Pool(work, threads)) as pool:
        for number in itertools.count():
            for key in itertools.islice(numbered, len(free)):
                pool.tasks.put((submitted, free.popleft(), key))
                submitted += 1
            if number == submitted:
                return
            while number not in finished:
                done, slot, result = pool.results.get()
                finished[done] = slot, result
            slot, result = finished.pop(number)
            if isinstance(result, _Failure):
                raise result.error
            yield slot, result
            with_caller.append(slot)
            if len(with_caller) == held:
                free.append(with_caller.popleft())


class _Failure:
    """An error of a thread, which its result is replaced by."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class _Pool(Generic[_Key, _Result]):
    """Threads that compute the results of tasks.

    The queues have no lock that an interruption of the main thread could leave locked.

    Attributes:
        tasks: (number, slot, key) of each task.
        results: (number, slot, result or failure), in the order in which they are finished.
    """

    def __init__(self, work: Callable[[int, _Key], _Result], threads: int) -> None:
        self.tasks: SimpleQueue[tuple[int, int, _Key] | None] = SimpleQueue()
        self.results: SimpleQueue[tuple[int, int, Any]] = SimpleQueue()
        self._work = work
        self._threads = [
            threading.Thread(target=self._run, name=f"loader-{number}", daemon=True)
            for number in range(threads)
        ]
        atexit.register(self.close)  # a script may leave a loader running
        with blocked(*SIGNALS):  # the main thread handles signals: it would not wake up for those of others
            for thread in self._threads:
                thread.start()

    def _run(self) -> None:
        while task := self.tasks.get():
            number, slot, key = task
            try:
                result: Any = self._work(slot, key)
            except BaseException as error:
                result = _Failure(error)
            self.results.put((number, slot, result))

    def close(self) -> None:
        """End the threads, after the tasks that they are working on."""
        with suppress(Empty):
            while True:
                self.tasks.get_nowait()
        for _ in self._threads:
            self.tasks.put(None)
        for thread in self._threads:
            thread.join()
        atexit.unregister(self.close)


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
