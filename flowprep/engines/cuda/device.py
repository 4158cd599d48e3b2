"""What a device must do for engine cuda: memory, queues, launches. It knows neither side."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from ctypes import Structure
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class Launch(NamedTuple):
    """A kernel, its grid and its record."""

    kernel: str
    blocks: int  # of threads, for each plane
    planes: int  # frames or pairs
    threads: int
    shared: int  # bytes of shared memory
    record: Structure


class Queue(Protocol):
    """Work that a device does one after the other, while the host goes on."""

    def upload(self, address: int, values: NDArray[Any]) -> None:
        """Copy from pinned memory."""

    def run(self, source: str, sequence: Sequence[Launch]) -> None:
        """Run kernels of a source. The same list object may come again."""

    def download(self, values: NDArray[Any], address: int) -> None:
        """Copy to pinned memory."""

    def wait(self) -> None:
        """Until all is done. Raises EngineError if something failed."""


class Device(Protocol):
    """A GPU, or what stands in for one."""

    shared_bytes: int  # of shared memory that a block of threads may have
    idle: deque[Any]  # batches that are ready to be used again, for all engines of this device

    def free_bytes(self) -> int:
        """Memory that can still be allocated."""

    def allocate(self, size: int) -> int:
        """The address of `size` bytes. Raises MemoryError."""

    def release(self, address: int) -> None:
        """Give memory back."""

    def pinned(self, size: int) -> NDArray[np.uint8]:
        """Host memory that is copied from and to directly. Raises MemoryError."""

    def unpin(self, memory: NDArray[np.uint8]) -> None:
        """Give pinned memory back."""

    def queue(self) -> Queue:
        """A new queue."""
