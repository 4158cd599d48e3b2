"""Memory of batches that is used again when nobody refers to a batch any more."""

from __future__ import annotations

import math
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt

_FREE = 4  # arrays of one size that wait to be used


class BufferPool:
    """Gives arrays. Their memory returns to the pool when the array and all its views are gone.

    Fresh memory costs as much as decoding: the system clears each page when it is first written.
    """

    def __init__(self) -> None:
        self._free: dict[int, list[memoryview]] = {}

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """An array of this shape and type, with any content."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if not size:
            return np.empty(shape, dtype)
        free = self._free.setdefault(size, [])
        try:
            memory = free.pop()
        except IndexError:
            memory = memoryview(np.empty(size, np.uint8))  # type: ignore[arg-type]  # it has the buffer protocol
        owner = np.frombuffer(memory, dtype)  # the base of all views of it, also of a tensor's
        weakref.finalize(owner, _give_back, free, memory).atexit = False
        return owner.reshape(shape)


def _give_back(free: list[memoryview], memory: memoryview) -> None:
    if len(free) < _FREE:
        free.append(memory)
