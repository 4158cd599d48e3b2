"""What engine cuda needs of a device: memory, queues and launches.

`driver.py` implements it for NVIDIA GPUs, and the tests implement it for the host.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from ctypes import Structure
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class Launch(NamedTuple):
    """One launch of a kernel.

    Attributes:
        kernel: the kernel's name.
        blocks: number of thread blocks for each plane.
        planes: number of frames or pairs.
        threads: number of threads in a block.
        shared_bytes: dynamic shared memory of a block.
        arguments: the only argument of the kernel.
    """

    kernel: str
    blocks: int
    planes: int
    threads: int
    shared_bytes: int
    arguments: Structure


class Queue(Protocol):
    """A sequence of work for a device. The host does not wait for it."""

    def upload(self, address: int, values: NDArray[Any]) -> None:
        """Copy pinned host memory to the device."""

    def run(self, source: str, launches: Sequence[Launch]) -> None:
        """Launch kernels of a source. A device may run the same list object faster the second time."""

    def download(self, values: NDArray[Any], address: int) -> None:
        """Copy memory of the device to pinned host memory."""

    def timed(self, source: str, launches: Sequence[Launch]) -> list[float]:
        """Run launches, and return the milliseconds that each took."""

    def wait(self) -> None:
        """Wait until all work is done. Raises EngineError if some of it failed."""


class Device(Protocol):
    """A GPU, or its replacement in tests.

    Attributes:
        shared_bytes: largest shared memory of a thread block.
        idle: batches that wait for their next use, of all engines that use this device.
    """

    shared_bytes: int
    idle: deque[Any]

    def free_bytes(self) -> int:
        """Size of the memory that can still be allocated."""

    def allocate(self, size: int) -> int:
        """Allocate `size` bytes, and return their address. Raises MemoryError."""

    def release(self, address: int) -> None:
        """Free allocated memory."""

    def pinned(self, size: int) -> NDArray[np.uint8]:
        """Allocate host memory that the device can copy directly. Raises MemoryError."""

    def unpin(self, memory: NDArray[np.uint8]) -> None:
        """Free pinned memory."""

    def queue(self) -> Queue:
        """Make a new queue."""
