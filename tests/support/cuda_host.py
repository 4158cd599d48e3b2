"""A device for tests: the kernels of engine cuda, compiled for the host and run by cuda_on_host.h."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections import deque
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from flowprep.engines.cuda.device import Launch
from flowprep.errors import EngineError
from tests.support.cached import cached_file

HEADER = Path(__file__).with_name("cuda_on_host.h")
FLAGS = ["-O2", "-fPIC", "-shared", "-std=c++17", "-w", "-ffp-contract=off"]


def compiler() -> str:
    """The host's C++ compiler; without one the test is skipped."""
    path = shutil.which("g++") or shutil.which("c++")
    if path is None:
        pytest.skip("no C++ compiler to run the kernels on the host with")
    return path


@lru_cache
def library(source: str) -> Path:
    """A shared library with the kernels of a source, which check their indices. It is compiled once."""
    code = HEADER.read_text() + source.replace("#define BOUNDS 0", "#define BOUNDS 1")
    version = subprocess.run([compiler(), "--version"], capture_output=True, text=True, check=True).stdout

    def compile_to(path: Path) -> None:
        command = [compiler(), *FLAGS, "-x", "c++", "-", "-o", str(path)]
        subprocess.run(command, input=code, text=True, check=True)

    return cached_file(repr((code, FLAGS, version)).encode(), ".so", compile_to)


@lru_cache
def compiled(source: str) -> Any:
    """The function `run_kernel` of a source."""
    run = ctypes.CDLL(str(library(source))).run_kernel
    run.restype = ctypes.c_char_p
    run.argtypes = [
        ctypes.c_char_p,
        *[ctypes.c_int] * 3,
        ctypes.c_long,
        ctypes.c_void_p,
        ctypes.c_long,
        ctypes.c_uint,
    ]
    return run


class HostQueue:
    """A queue that does all work at once."""

    def __init__(self, device: HostDevice) -> None:
        self.device = device

    def upload(self, address: int, values: NDArray[Any]) -> None:
        self.device.at(address, values.nbytes)[:] = values.view(np.uint8)

    def run(self, source: str, launches: Sequence[Launch]) -> None:
        run = compiled(source)
        for launch in launches:
            arguments = launch.arguments
            failed = run(
                launch.kernel.encode(),
                launch.blocks,
                launch.planes,
                launch.threads,
                launch.shared_bytes,
                ctypes.addressof(arguments),
                ctypes.sizeof(arguments),
                self.device.seed,
            )
            if failed:
                raise EngineError(f"{launch.kernel}: {failed.decode()}")
            if self.device.watch:
                self.device.watch(launch)

    def timed(self, source: str, launches: Sequence[Launch]) -> list[float]:
        self.run(source, launches)
        return [1.0] * len(launches)

    def download(self, values: NDArray[Any], address: int) -> None:
        values.view(np.uint8)[:] = self.device.at(address, values.nbytes)

    def wait(self) -> None:
        pass


class HostDevice:
    """A device that runs kernels on the host. Its memory starts as NaN.

    Args:
        size: bytes of its memory.
        shared_bytes: largest shared memory of a thread block.
        seed: shuffles the threads of a block; 0 keeps their order.
        watch: is called after each launch.
        claimed_free_bytes: what `free_bytes` returns; None for the true number.
    """

    name = "host"

    def __init__(
        self,
        size: int = 1 << 34,
        shared_bytes: int = 227 << 10,
        seed: int = 0,
        watch: Callable[[Launch], None] | None = None,
        claimed_free_bytes: int | None = None,
    ) -> None:
        self.claimed_free_bytes = claimed_free_bytes
        self.size, self.shared_bytes, self.seed, self.watch = size, shared_bytes, seed, watch
        self.memory: dict[int, NDArray[np.uint8]] = {}
        self.idle: deque[Any] = deque()

    def free_bytes(self) -> int:
        return self._free_bytes() if self.claimed_free_bytes is None else self.claimed_free_bytes

    def _free_bytes(self) -> int:
        return self.size - sum(len(m) for m in self.memory.values())

    def allocate(self, size: int) -> int:
        if size > self._free_bytes():
            raise MemoryError("the host device is full")
        memory = np.full(size + 256, 0xFF, np.uint8)
        address = -(-memory.ctypes.data // 256) * 256
        self.memory[address] = memory
        return address

    def release(self, address: int) -> None:
        del self.memory[address]

    def at(self, address: int, size: int) -> NDArray[np.uint8]:
        """Memory of the device."""
        for start, memory in self.memory.items():
            if start <= address and address + size <= start + len(memory):
                offset = address - memory.ctypes.data
                return memory[offset : offset + size]
        raise EngineError(f"{size} bytes at {address} were not allocated")

    def pinned(self, size: int) -> NDArray[np.uint8]:
        return np.empty(size, np.uint8)

    def unpin(self, memory: NDArray[np.uint8]) -> None:
        pass

    def queue(self) -> HostQueue:
        return HostQueue(self)
