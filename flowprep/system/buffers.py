"""Memory of arrays that is used again when nobody refers to an array any more."""

from __future__ import annotations

import math
import threading
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt


class BufferPool:
    """Gives arrays. Their memory returns to the pool when the array and all its views are gone.

    Fresh memory costs as much as decoding: the system clears each page when it is first written.

    Args:
        most_free: the number of pieces of memory that may wait to be used.
    """

    def __init__(self, most_free: int = 8) -> None:
        self._most_free = most_free
        self._free: list[memoryview] = []
        self._lock = threading.RLock()  # a collection of garbage may give memory back at any point

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """An array of this shape and type, with any content."""
        count = math.prod(shape)
        size = count * np.dtype(dtype).itemsize
        if not size:
            return np.empty(shape, dtype)
        memory = self._take(size)
        owner = np.frombuffer(memory, dtype, count)  # what all views refer to, and tensors, too
        weakref.finalize(owner, self._give_back, memory).atexit = False
        return owner.reshape(shape)

    def _take(self, size: int) -> memoryview:
        """The smallest free memory of at least `size` bytes."""
        with self._lock:
            fitting = [(memory.nbytes, i) for i, memory in enumerate(self._free) if memory.nbytes >= size]
            if fitting:
                return self._free.pop(min(fitting)[1])
        return memoryview(np.empty(size, np.uint8))  # type: ignore[arg-type]  # it has the buffer protocol

    def _give_back(self, memory: memoryview) -> None:
        with self._lock:
            if len(self._free) < self._most_free:
                self._free.append(memory)
