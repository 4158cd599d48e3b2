"""NVIDIA's driver: the GPUs of this machine, and a `Device` for engine cuda."""

from __future__ import annotations

import ctypes
import itertools
import logging
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowprep.engines.cuda.compiler import INSTALL, compile_source, nvrtc_version
from flowprep.engines.cuda.device import Launch
from flowprep.errors import EngineError, UsageError

log = logging.getLogger(__name__)

DRIVER = "install NVIDIA's driver, version 580 or newer"
OLDEST = (7, 5)  # compute capability of Turing, the oldest architecture that NVRTC 13 supports
NO_GPU = "engine cuda: the driver finds no GPU; look at the output of nvidia-smi"
KEPT_GRAPHS = 8  # of a queue: one for each list of launches


@dataclass(frozen=True)
class Gpu:
    """The properties of a GPU.

    Attributes:
        number: its number among the GPUs that this process may see.
        name: the name of the product.
        capability: the compute capability.
        multiprocessors: the number of multiprocessors.
        clock_hz: the highest clock of the multiprocessors; 0 if unknown.
        memory_bytes: the size of its memory.
    """

    number: int
    name: str
    capability: tuple[int, int]
    multiprocessors: int
    clock_hz: float
    memory_bytes: int

    @property
    def arch(self) -> str:
        """The compiler's name of the architecture, such as "sm_90"."""
        return "sm_{}{}".format(*self.capability)


def gpus() -> list[Gpu]:
    """The GPUs that this process may see.

    Raises:
        EngineError: there is no driver, or no GPU; the message says what to install.
    """
    driver = _driver()
    attribute = driver.CUdevice_attribute
    visible = []
    for number in range(_check(driver.cuDeviceGetCount())):
        device = _check(driver.cuDeviceGet(number))

        def property_of(name: str, device: Any = device) -> int:
            full = f"CU_DEVICE_ATTRIBUTE_{name}"
            return int(_check(driver.cuDeviceGetAttribute(getattr(attribute, full), device)))

        name = _check(driver.cuDeviceGetName(200, device)).decode().rstrip("\0 ")
        capability = property_of("COMPUTE_CAPABILITY_MAJOR"), property_of("COMPUTE_CAPABILITY_MINOR")
        memory = int(_check(driver.cuDeviceTotalMem(device)))
        clock_hz = 1e3 * property_of("CLOCK_RATE")
        visible.append(Gpu(number, name, capability, property_of("MULTIPROCESSOR_COUNT"), clock_hz, memory))
    if not visible:
        raise EngineError(NO_GPU)
    return visible


def chosen_gpus(devices: str | None) -> tuple[int, ...]:
    """Read the option `devices`: the numbers of GPUs, such as "0,1".

    Args:
        devices: numbers with commas; "all" or None for all GPUs.

    Raises:
        UsageError: it is neither, a number is repeated, or there is no GPU of that number.
        EngineError: there is no driver, or no GPU.
    """
    visible = gpus()
    if devices in (None, "all"):
        return tuple(gpu.number for gpu in visible)
    numbers = tuple(int(n) if n.strip().isdecimal() else -1 for n in str(devices).split(","))
    if not set(numbers) <= {gpu.number for gpu in visible} or len(set(numbers)) < len(numbers):
        names = ", ".join(f"{gpu.number} ({gpu.name})" for gpu in visible)
        raise UsageError(f"devices is {devices!r}; allowed: all, or numbers with commas of {names}")
    return numbers


def driver_version() -> str:
    """The CUDA version of the driver, such as "13.0". Raises EngineError without a driver."""
    version = int(_check(_driver().cuDriverGetVersion()))
    return f"{version // 1000}.{version % 1000 // 10}"


def _driver() -> Any:
    try:
        from cuda.bindings import driver
    except ImportError as exc:
        raise EngineError(f"engine cuda needs packages that are not installed ({exc}); {INSTALL}") from exc
    try:
        error = driver.cuInit(0)[0]
    except RuntimeError as exc:  # libcuda is missing
        raise EngineError(f"engine cuda: no NVIDIA driver was found; {DRIVER}") from exc
    if error == driver.CUresult.CUDA_ERROR_NO_DEVICE:
        raise EngineError(NO_GPU)
    if error:
        raise EngineError(f"engine cuda: the NVIDIA driver does not start ({error.name}); {DRIVER}")
    return driver


def _check(answer: tuple[Any, ...]) -> Any:
    """The values of an answer of the driver. Its error is raised."""
    error, *values = answer
    if error:
        if error.name in ("CUDA_ERROR_OUT_OF_MEMORY", "CUDA_ERROR_MEMORY_ALLOCATION"):
            raise MemoryError(error.name)
        raise EngineError(f"the GPU's driver: {error.name}")
    return values[0] if len(values) == 1 else values


_open: dict[int, CudaDevice] = {}
_opening = threading.Lock()


def open_device(number: int = 0) -> CudaDevice:
    """Open a GPU. All callers in this process share one object for it.

    Args:
        number: its number among the GPUs that this process may see.

    Raises:
        EngineError: there is no GPU of this number, or it cannot be used; the message says what to do.
    """
    with _opening:
        device = _open.get(number)
        if device is None or device.broken:
            if device is not None:
                device.reset()
            visible = gpus()
            if number >= len(visible):
                raise EngineError(
                    f"engine cuda: there is no GPU {number}; allowed: 0 to {len(visible) - 1} "
                    f"({', '.join(gpu.name for gpu in visible)})"
                )
            gpu = visible[number]
            if gpu.capability < OLDEST:
                actual, oldest = (".".join(map(str, c)) for c in (gpu.capability, OLDEST))
                raise EngineError(
                    f"engine cuda: {gpu.name} has compute capability {actual}; allowed: {oldest} and above"
                )
            device = _open[number] = CudaDevice(gpu)
        return device


class CudaDevice:
    """A GPU as a `Device`.

    Attributes:
        gpu: its properties.
        broken: whether a call failed. The device then works only after `open_device` has opened it again.
        shared_bytes: largest shared memory of a thread block.
        idle: batches that wait for their next use, of all engines that use this device.
    """

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu
        self.broken = False
        self.idle: deque[Any] = deque()
        self._cuda = _driver()
        self._device = _check(self._cuda.cuDeviceGet(gpu.number))
        self._context = _check(self._cuda.cuDevicePrimaryCtxRetain(self._device))
        attribute = self._cuda.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
        self.shared_bytes = int(_check(self._cuda.cuDeviceGetAttribute(attribute, self._device))) - 1024
        self._functions: dict[tuple[str, str], Any] = {}
        self._modules: dict[str, Any] = {}
        self._compiling = threading.Lock()

    def call(self, name: str, *values: Any) -> Any:
        """Call a function of the driver, in this device's context and from any thread.

        Raises:
            MemoryError: the device's memory is full.
            EngineError: any other error; the device is then broken.
        """
        _check(self._cuda.cuCtxSetCurrent(self._context))
        try:
            return _check(getattr(self._cuda, name)(*values))
        except EngineError:
            self.broken = True
            raise

    def reset(self) -> None:
        """Release everything on this device, after a fault."""
        self.idle.clear()
        with suppress(EngineError):
            _check(self._cuda.cuDevicePrimaryCtxReset(self._device))

    def free_bytes(self) -> int:
        """Size of the memory that can still be allocated."""
        free, _ = self.call("cuMemGetInfo")
        return int(free)

    def allocate(self, size: int) -> int:
        """Allocate `size` bytes, and return their address. Raises MemoryError."""
        return int(self.call("cuMemAlloc", size))

    def release(self, address: int) -> None:
        """Free allocated memory."""
        self.call("cuMemFree", address)

    def pinned(self, size: int) -> NDArray[np.uint8]:
        """Allocate host memory that the device can copy directly. Raises MemoryError."""
        address = int(self.call("cuMemHostAlloc", size, 0))
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))

    def unpin(self, memory: NDArray[np.uint8]) -> None:
        """Free pinned memory."""
        if len(memory):
            self.call("cuMemFreeHost", memory.ctypes.data)

    def queue(self) -> CudaQueue:
        """Make a new queue."""
        return CudaQueue(self)

    def function(self, source: str, launch: Launch) -> Any:
        """The kernel of a launch. Its source is compiled at first use."""
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
                code_name = f"the code that NVRTC {nvrtc_version()} compiled for {self.gpu.name}"
                raise EngineError(f"the driver cannot load {code_name} ({exc}); {DRIVER}") from exc
        function = self.call("cuModuleGetFunction", self._modules[source], launch.kernel.encode())
        if launch.shared_bytes:
            names = self._cuda.CUfunction_attribute
            size = names.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            self.call("cuFuncSetAttribute", function, size, self.shared_bytes)
            share = names.CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT
            self.call("cuFuncSetAttribute", function, share, 100)  # per cent
        return function


class CudaQueue:
    """A stream of a GPU as a `Queue`. A list of launches that comes again is run as one CUDA graph."""

    def __init__(self, device: CudaDevice) -> None:
        self._device = device
        cuda = device._cuda
        self._stream = device.call("cuStreamCreate", cuda.CUstream_flags.CU_STREAM_NON_BLOCKING)
        # A waiting thread leaves its core to others.
        flags = cuda.CUevent_flags
        self._done = device.call(
            "cuEventCreate", flags.CU_EVENT_BLOCKING_SYNC | flags.CU_EVENT_DISABLE_TIMING
        )
        # id -> the list itself, so that no other list can have its id, and its graph from the second run on.
        self._known: dict[int, tuple[Sequence[Launch], Any]] = {}

    def upload(self, address: int, values: NDArray[Any]) -> None:
        """Copy pinned host memory to the device."""
        self._device.call("cuMemcpyHtoDAsync", address, values.ctypes.data, values.nbytes, self._stream)
        self._record()

    def download(self, values: NDArray[Any], address: int) -> None:
        """Copy memory of the device to pinned host memory."""
        self._device.call("cuMemcpyDtoHAsync", values.ctypes.data, address, values.nbytes, self._stream)
        self._record()

    def run(self, source: str, launches: Sequence[Launch]) -> None:
        """Launch kernels of a source. The same list object runs as a graph from the second time on."""
        _, graph = self._known.get(id(launches), (None, None))
        if id(launches) not in self._known:
            while len(self._known) >= KEPT_GRAPHS:
                _, old = self._known.pop(next(iter(self._known)))
                if old is not None:
                    self._device.call("cuGraphExecDestroy", old)
            self._known[id(launches)] = launches, None
            self._launch(source, launches)
        else:
            if graph is None:
                graph = self._capture(source, launches)
                self._known[id(launches)] = launches, graph
            self._device.call("cuGraphLaunch", graph, self._stream)
        self._record()

    def wait(self) -> None:
        """Wait until all work is done. Raises EngineError if some of it failed."""
        self._device.call("cuEventSynchronize", self._done)

    def timed(self, source: str, launches: Sequence[Launch]) -> list[float]:
        """Run launches, and return the milliseconds that each took."""
        device, default = self._device, self._device._cuda.CUevent_flags.CU_EVENT_DEFAULT
        events = [device.call("cuEventCreate", default) for _ in range(len(launches) + 1)]
        device.call("cuEventRecord", events[0], self._stream)
        for launch, event in zip(launches, events[1:], strict=True):
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

    def _launch(self, source: str, launches: Sequence[Launch]) -> None:
        for launch in launches:
            arguments = (ctypes.c_void_p * 1)(ctypes.addressof(launch.arguments))
            try:
                self._device.call(
                    "cuLaunchKernel",
                    self._device.function(source, launch),
                    *(launch.blocks, launch.planes, 1),
                    *(launch.threads, 1, 1),
                    launch.shared_bytes,
                    self._stream,
                    ctypes.addressof(arguments),
                    0,
                )
            except EngineError as exc:
                raise EngineError(f"kernel {launch.kernel}: {exc}") from exc

    def _capture(self, source: str, launches: Sequence[Launch]) -> Any:
        cuda, device = self._device._cuda, self._device
        mode = cuda.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        device.call("cuStreamBeginCapture", self._stream, mode)
        try:
            self._launch(source, launches)
        finally:
            graph = device.call("cuStreamEndCapture", self._stream)
        ready = device.call("cuGraphInstantiate", graph, 0)
        device.call("cuGraphDestroy", graph)
        return ready
