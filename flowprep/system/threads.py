"""Results in order, computed in threads of this process: for work that releases the interpreter's lock."""

from __future__ import annotations

import atexit
import itertools
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import closing, suppress
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from flowprep.system.signals import SIGNALS, blocked

_Key = TypeVar("_Key")
_Result = TypeVar("_Result")


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
            del result  # else its memory would be in use during the next one
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
            threading.Thread(target=self._run, name=f"flowprep-{number}", daemon=True)
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
