"""NVIDIA GPUs: what cuda.py needs of the driver and of the compiler, and nothing of optical flow.

Machine code is made by NVRTC for the GPU that is there, and kept on disk by source, options, architecture
and version of the compiler. No CUDA toolkit has to be installed: `pip install flowprep[cuda]` brings all.
"""

from __future__ import annotations

import ctypes
import itertools
import logging
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flowprep.engines.cuda.compiler import INSTALL, compile_source, nvrtc_version
from flowprep.engines.cuda.device import Launch
from flowprep.errors import EngineError, UsageError

log = logging.getLogger(__name__)

DRIVER = "install NVIDIA's driver, version 580 or newer"
OLDEST = (7, 5)  # compute capability: Turing, the oldest that NVRTC 13 compiles for
KEPT_GRAPHS = 8  # a queue's, of as many sequences


class Gpu(NamedTuple):
    """What the driver says of a GPU.

    Attributes:
        number: of the GPU, among those that this process may see.
        name: of the product.
        capability: compute capability.
        multiprocessors: how many it has.
        clock_hz: highest clock of the multiprocessors; 0 if not told.
        memory_bytes: of the device.
    """

    number: int
    name: str
    capability: tuple[int, int]
    multiprocessors: int
    clock_hz: float
    memory_bytes: int

    @property
    def arch(self) -> str:
        """What the compiler calls it."""
        return "sm_{}{}".format(*self.capability)


def gpus() -> list[Gpu]:
    """The GPUs that this process may see.

    Raises:
        EngineError: there is no driver, or no GPU; the message says what to install.
    """
    driver = _driver()
    attribute = driver.CUdevice_attribute
    found = []
    for number in range(_check(driver.cuDeviceGetCount())):
        device = _check(driver.cuDeviceGet(number))

        def ask(name: str, device: Any = device) -> int:
            full = f"CU_DEVICE_ATTRIBUTE_{name}"
            return int(_check(driver.cuDeviceGetAttribute(getattr(attribute, full), device)))

        name = _check(driver.cuDeviceGetName(200, device)).decode().rstrip("\0 ")
        capability = ask("COMPUTE_CAPABILITY_MAJOR"), ask("COMPUTE_CAPABILITY_MINOR")
        memory = int(_check(driver.cuDeviceTotalMem(device)))
        found.append(
            Gpu(number, name, capability, ask("MULTIPROCESSOR_COUNT"), 1e3 * ask("CLOCK_RATE"), memory)
        )
    if not found:
        raise EngineError("engine cuda: the driver finds no GPU; see what nvidia-smi says")
    return found


def chosen_gpus(devices: str | None) -> tuple[int, ...]:
    """The numbers of GPUs that an option names: "0,1", or all that there are if it is "all" or None.

    Raises:
        UsageError: it is neither, or there is no such GPU.
        EngineError: as `gpus`.
    """
    found = gpus()
    if devices in (None, "all"):
        return tuple(gpu.number for gpu in found)
    numbers = tuple(int(n) if n.strip().isdecimal() else -1 for n in str(devices).split(","))
    if not set(numbers) <= {gpu.number for gpu in found} or len(set(numbers)) < len(numbers):
        there = ", ".join(f"{gpu.number} ({gpu.name})" for gpu in found)
        raise UsageError(f"devices is {devices!r}; allowed: all, or numbers with commas of {there}")
    return numbers


def driver_version() -> str:
    """The CUDA version that the driver has, such as "13.0". Raises EngineError without a driver."""
    version = int(_check(_driver().cuDriverGetVersion()))
    return f"{version // 1000}.{version % 1000 // 10}"


def _driver() -> Any:
    try:
        from cuda.bindings import driver
    except ImportError as exc:
        raise EngineError(f"engine cuda needs packages that are not installed ({exc}); {INSTALL}") from exc
    try:
        error = driver.cuInit(0)[0]
    except RuntimeError as exc:  # libcuda was not found
        raise EngineError(f"engine cuda: no NVIDIA driver was found; {DRIVER}") from exc
    if error == driver.CUresult.CUDA_ERROR_NO_DEVICE:
        raise EngineError("engine cuda: the driver finds no GPU; see what nvidia-smi says")
    if error:
        raise EngineError(f"engine cuda: the NVIDIA driver does not start ({error.name}); {DRIVER}")
    return driver


def _check(answer: tuple[Any, ...]) -> Any:
    """What the driver answered, but for its error, which is raised."""
    error, *values = answer
    if error:
        if error.name in ("CUDA_ERROR_OUT_OF_MEMORY", "CUDA_ERROR_MEMORY_ALLOCATION"):
            raise MemoryError(error.name)
        raise EngineError(f"the GPU's driver: {error.name}")
    return values[0] if len(values) == 1 else values


_open: dict[int, CudaDevice] = {}
_opening = threading.Lock()


def open_device(number: int = 0) -> CudaDevice:
    """A GPU, ready to use; the same object for all who ask for it in this process.

    Args:
        number: of the GPU, among those that this process may see.

    Raises:
        EngineError: there is none of this number, or it cannot be used; the message says what to do.
    """
    with _opening:
        device = _open.get(number)
        if device is None or device.broken:
            if device is not None:
                device.reset()
            found = gpus()
            if number >= len(found):
                raise EngineError(
                    f"engine cuda: there is no GPU {number}; allowed: 0 to {len(found) - 1} "
                    f"({', '.join(gpu.name for gpu in found)})"
                )
            gpu = found[number]
            if gpu.capability < OLDEST:
                found_, oldest = (".".join(map(str, c)) for c in (gpu.capability, OLDEST))
                raise EngineError(
                    f"engine cuda: {gpu.name} has compute capability {found_}; allowed: {oldest} and above"
                )
            device = _open[number] = CudaDevice(gpu)
        return device


class CudaDevice:
    """A GPU. After a fault it is `broken`, and of no use until `open_device` opens it again.

    Attributes:
        gpu: what it is.
        idle: batches that are ready to be used again, for whoever solves on this device.
    """

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu
        self.broken = False
        self.idle: deque[Any] = deque()
        self._cuda = _driver()
        self._device = _check(self._cuda.cuDeviceGet(gpu.number))
        self._context = _check(self._cuda.cuDevicePrimaryCtxRetain(self._device))
        most = self._cuda.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
        self.shared_bytes = int(_check(self._cuda.cuDeviceGetAttribute(most, self._device))) - 1024
        self._functions: dict[tuple[str, str], Any] = {}
        self._modules: dict[str, Any] = {}
        self._compiling = threading.Lock()

    def call(self, name: str, *values: Any) -> Any:
        """A function of the driver, in this device's context, from whichever thread.

        Raises:
            MemoryError: the device's memory does not suffice.
            EngineError: anything else; the device is then broken.
        """
        _check(self._cuda.cuCtxSetCurrent(self._context))
        try:
            return _check(getattr(self._cuda, name)(*values))
        except EngineError:
            self.broken = True
            raise

    def reset(self) -> None:
        """Give up everything on this device, after a fault."""
        self.idle.clear()
        with suppress(EngineError):
            _check(self._cuda.cuDevicePrimaryCtxReset(self._device))

    def free_bytes(self) -> int:
        """Memory that can still be allocated."""
        free, _ = self.call("cuMemGetInfo")
        return int(free)

    def allocate(self, size: int) -> int:
        """The address of `size` bytes. Raises MemoryError."""
        return int(self.call("cuMemAlloc", size))

    def release(self, address: int) -> None:
        """Give memory back."""
        self.call("cuMemFree", address)

    def pinned(self, size: int) -> NDArray[np.uint8]:
        """Host memory that is copied from and to directly. Raises MemoryError."""
        address = int(self.call("cuMemHostAlloc", size, 0))
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))

    def unpin(self, memory: NDArray[np.uint8]) -> None:
        """Give pinned memory back."""
        if len(memory):
            self.call("cuMemFreeHost", memory.ctypes.data)

    def queue(self) -> CudaQueue:
        """A new queue."""
        return CudaQueue(self)

    def function(self, source: str, launch: Launch) -> Any:
        """A kernel of a source, which is compiled if it must be."""
        key = source, launch.kernel
        with self._compiling:
            if key not in self._functions:
                self._functions[key] = self._load(source, launch)
        return self._functions[key]

    def _load(self, source: str, launch: Launch) -> Any:
        if source not in self._modules:
            code = compile_source(source, self.gpu.arch)
            try:
                self._modules[source] = self.call("cuModuleLoadData", code)
            except EngineError as exc:
                made = f"what NVRTC {nvrtc_version()} made for {self.gpu.name}"
                raise EngineError(f"the driver does not take {made} ({exc}); {DRIVER}") from exc
        function = self.call("cuModuleGetFunction", self._modules[source], launch.kernel.encode())
        if launch.shared:
            names = self._cuda.CUfunction_attribute
            most = names.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            self.call("cuFuncSetAttribute", function, most, self.shared_bytes)
            share = names.CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT
            self.call("cuFuncSetAttribute", function, share, 100)  # per cent: all that there is
        return function


class CudaQueue:
    """A stream of a device. What comes again and again becomes a graph, which is launched at one blow."""

    def __init__(self, device: CudaDevice) -> None:
        self._device = device
        cuda = device._cuda
        self._stream = device.call("cuStreamCreate", cuda.CUstream_flags.CU_STREAM_NON_BLOCKING)
        # A thread that waits leaves its core to others.
        flags = cuda.CUevent_flags
        self._done = device.call(
            "cuEventCreate", flags.CU_EVENT_BLOCKING_SYNC | flags.CU_EVENT_DISABLE_TIMING
        )
        # id -> the sequence itself, so that no other can have its id, and its graph from the second time on
        self._known: dict[int, tuple[Sequence[Launch], Any]] = {}

    def upload(self, address: int, values: NDArray[Any]) -> None:
        """Copy from pinned memory."""
        self._device.call("cuMemcpyHtoDAsync", address, values.ctypes.data, values.nbytes, self._stream)
        self._record()

    def download(self, values: NDArray[Any], address: int) -> None:
        """Copy to pinned memory."""
        self._device.call("cuMemcpyDtoHAsync", values.ctypes.data, address, values.nbytes, self._stream)
        self._record()

    def run(self, source: str, sequence: Sequence[Launch]) -> None:
        """Run kernels of a source. The same list object may come again."""
        _, graph = self._known.get(id(sequence), (None, None))
        if id(sequence) not in self._known:
            while len(self._known) >= KEPT_GRAPHS:
                _, old = self._known.pop(next(iter(self._known)))
                if old is not None:
                    self._device.call("cuGraphExecDestroy", old)
            self._known[id(sequence)] = sequence, None
            self._launch(source, sequence)
        else:
            if graph is None:
                graph = self._capture(source, sequence)
                self._known[id(sequence)] = sequence, graph
            self._device.call("cuGraphLaunch", graph, self._stream)
        self._record()

    def wait(self) -> None:
        """Until all is done. Raises EngineError if something failed."""
        self._device.call("cuEventSynchronize", self._done)

    def timed(self, source: str, sequence: Sequence[Launch]) -> list[float]:
        """Run a sequence, and return the milliseconds of each launch."""
        device, default = self._device, self._device._cuda.CUevent_flags.CU_EVENT_DEFAULT
        events = [device.call("cuEventCreate", default) for _ in range(len(sequence) + 1)]
        device.call("cuEventRecord", events[0], self._stream)
        for launch, event in zip(sequence, events[1:], strict=True):
            self._launch(source, [launch])
            device.call("cuEventRecord", event, self._stream)
        self._record()
        self.wait()
        times = [float(device.call("cuEventElapsedTime", *two)) for two in itertools.pairwise(events)]
        for event in events:
            device.call("cuEventDestroy", event)
        return times

    def _record(self) -> None:
        self._device.call("cuEventRecord", self._done, self._stream)

    def _launch(self, source: str, sequence: Sequence[Launch]) -> None:
        for launch in sequence:
            record = (ctypes.c_void_p * 1)(ctypes.addressof(launch.record))
            try:
                self._device.call(
                    "cuLaunchKernel",
                    self._device.function(source, launch),
                    *(launch.blocks, launch.planes, 1),
                    *(launch.threads, 1, 1),
                    launch.shared,
                    self._stream,
                    ctypes.addressof(record),
                    0,
                )
            except EngineError as exc:
                raise EngineError(f"kernel {launch.kernel}: {exc}") from exc

    def _capture(self, source: str, sequence: Sequence[Launch]) -> Any:
        cuda, device = self._device._cuda, self._device
        mode = cuda.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        device.call("cuStreamBeginCapture", self._stream, mode)
        try:
            self._launch(source, sequence)
        finally:
            graph = device.call("cuStreamEndCapture", self._stream)
        ready = device.call("cuGraphInstantiate", graph, 0)
        device.call("cuGraphDestroy", graph)
        return ready
