"""The speed of engine cuda: by batch and size, compared with the limits of the GPU, and by kernel."""

from __future__ import annotations

import ctypes
import dataclasses
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from flowprep.engines.cuda import driver
from flowprep.engines.cuda.device import Launch
from flowprep.engines.cuda.engine import IN_FLIGHT, CudaEngine
from flowprep.engines.cuda.kernels import Tile
from flowprep.engines.cuda.layout import BatchLayout, BatchShape
from flowprep.engines.pyramid import level_sizes
from flowprep.presets import PRESETS, Tvl1Settings

SIZES = ((340, 256), (640, 480), (1920, 1080))
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
MAX_PIXELS = 70_000_000  # of a batch: the host has the flow of three batches in memory, 8 bytes per pixel
SECONDS = 0.5  # shortest time of a measurement

# The schedule of OpenCV's CUDA code: 300 iterations per warp, no median.
OPENCV_CUDA = dataclasses.replace(
    PRESETS["opencv"], outer_iterations=1, inner_iterations=300, epsilon=0.0, median=1
)

# Instructions of one iteration of one pixel, counted in the machine code of `iterate` for sm_90. SPECIAL of
# them run on the special function units: 2 square roots and 2 reciprocals.
INSTRUCTIONS, SPECIAL = 45, 4

RATES = """
struct Work { float* out; long long size; };
extern "C" __global__ void fma_rate(const Work w) {
    float v[8];
    for (int k = 0; k < 8; ++k) v[k] = threadIdx.x + k;
    #pragma unroll 16
    for (int i = 0; i < 4096; ++i)
        #pragma unroll
        for (int k = 0; k < 8; ++k) v[k] = fmaf(v[k], 0.999f, 1e-3f);
    float sum = 0;
    for (int k = 0; k < 8; ++k) sum += v[k];
    w.out[(blockIdx.x * blockDim.x + threadIdx.x) % w.size] = sum;
}
extern "C" __global__ void special_rate(const Work w) {
    float v[8];
    for (int k = 0; k < 8; ++k) v[k] = threadIdx.x + k + 1;
    #pragma unroll 16
    for (int i = 0; i < 1024; ++i)
        #pragma unroll
        for (int k = 0; k < 8; ++k) asm volatile("rsqrt.approx.ftz.f32 %0, %0;" : "+f"(v[k]));
    float sum = 0;
    for (int k = 0; k < 8; ++k) sum += v[k];
    w.out[(blockIdx.x * blockDim.x + threadIdx.x) % w.size] = sum;
}
extern "C" __global__ void copy_rate(const Work w) {
    const long long half = w.size / 8;  // float4, from one half to the other
    float4* all = (float4*)w.out;
    const long long first = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    for (long long i = first; i < half; i += gridDim.x * blockDim.x) all[half + i] = all[i];
}
"""


class _Work(ctypes.Structure):
    _fields_ = (("out", ctypes.c_void_p), ("size", ctypes.c_longlong))


@dataclass(frozen=True)
class Ceilings:
    """The limits of a GPU.

    Attributes:
        fp32_instructions_per_second_by_properties: computed from its number of multiprocessors and its clock.
        fp32_instructions_per_second, special_functions_per_second, copied_bytes_per_second: measured.
        pixel_iterations_per_second: the limit of `iterate` that follows from the measured rates.
    """

    fp32_instructions_per_second_by_properties: float
    fp32_instructions_per_second: float
    special_functions_per_second: float
    copied_bytes_per_second: float
    pixel_iterations_per_second: float


@dataclass(frozen=True)
class CudaBenchmark:
    """The speed of engine cuda.

    Attributes:
        device: the GPU.
        ceilings: its limits.
        pixel_iterations_per_second: the highest rate at the first size; None if a stopping test decides.
        share_of_ceiling: this rate as a share of its limit.
        pairs_per_second: size ("340x256") -> pairs of a batch ("8") -> rate, with copies to and from the GPU.
        kernels: share of the time of each kernel at the first size, the largest first.
    """

    device: driver.Gpu
    ceilings: Ceilings
    pixel_iterations_per_second: float | None
    share_of_ceiling: float | None
    pairs_per_second: dict[str, dict[str, float]]
    kernels: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """The values for --json."""
        return dataclasses.asdict(self)

    def rows(self) -> list[dict[str, str]]:
        """The rates as a table, with a row for each batch."""
        batches = dict.fromkeys(batch for rates in self.pairs_per_second.values() for batch in rates)
        return [
            {
                "pairs a batch": batch,
                **{
                    size: f"{rates[batch]:g}" if batch in rates else "-"
                    for size, rates in self.pairs_per_second.items()
                },
            }
            for batch in batches
        ]


def bench_cuda(
    frames: npt.NDArray[np.uint8],
    tvl1: Tvl1Settings,
    device: Any = None,
    sizes: Sequence[tuple[int, int]] = SIZES,
    batches: Sequence[int] = BATCHES,
) -> CudaBenchmark:
    """Time engine cuda.

    Args:
        frames: grey images (F, H, W) of a video, at least two. They are resized to each size.
        tvl1: the solver's parameters.
        device: the device to time; the first GPU if None.
        sizes: (width, height), pixels.
        batches: numbers of pairs.

    Raises:
        EngineError: no GPU works on this machine.
    """
    device = device or driver.open_device()
    rates: dict[str, dict[str, float]] = {}
    for width, height in sizes:
        resized = _resized(frames, width, height, max(batches) + 1)
        rates[f"{width}x{height}"] = {
            str(batch): round(pairs_per_second(device, tvl1, resized, batch), 1)
            for batch in batches
            if batch * width * height <= MAX_PIXELS
        }
    width, height = sizes[0]
    iterations = pixel_iterations(height, width, tvl1)
    limits = ceilings(device)
    rate = max(rates[f"{width}x{height}"].values()) * iterations if iterations else None
    return CudaBenchmark(
        device.gpu,
        limits,
        rate,
        rate and round(rate / limits.pixel_iterations_per_second, 3),
        rates,
        kernel_shares(device, tvl1, _resized(frames, width, height, max(batches) + 1)),
    )


def pairs_per_second(
    device: Any, tvl1: Tvl1Settings, frames: npt.NDArray[np.uint8], batch: int, tile: Tile | None = None
) -> float:
    """The rate of an engine with batches of `batch` pairs, with as many in flight as it allows."""
    engine = CudaEngine(tvl1, device=device, max_batch_pairs=batch)
    if tile:
        engine.use_tile(tile)
    first = np.tile(np.arange(batch), IN_FLIGHT)
    for _ in range(2):  # the first run compiles and allocates, the second one makes graphs
        engine.solve(frames, first, first + 1)
    pairs, began = 0, time.perf_counter()
    while pairs == 0 or time.perf_counter() - began < SECONDS:
        engine.solve(frames, first, first + 1)
        pairs += len(first)
    return pairs / (time.perf_counter() - began)


def pixel_iterations(height: int, width: int, tvl1: Tvl1Settings) -> int | None:
    """The iterations of a pair, summed over its pixels; None if a stopping test decides."""
    if tvl1.epsilon:
        return None
    return sum(
        h * w * tvl1.warps_of(i) * tvl1.outer_iterations * tvl1.iterations_of(i)
        for i, (h, w) in enumerate(level_sizes(height, width, tvl1))
    )


def ceilings(device: Any) -> Ceilings:
    """Compute and measure the limits of a GPU."""
    gpu = device.gpu
    lanes = 64 if gpu.capability in ((7, 5), (8, 0)) else 128
    blocks = 32 * gpu.multiprocessors
    size = 1 << 28  # floats: 1 GiB, much more than the cache
    address = device.allocate(4 * size)
    work = _Work(address, size)
    try:
        times = {}
        for kernel in ("fma_rate", "special_rate", "copy_rate"):
            launch = Launch(kernel, blocks, 1, 256, 0, work)
            times[kernel] = min(device.queue().timed(RATES, [launch] * 5)) / 1e3
    finally:
        device.release(address)
    fma = blocks * 256 * 8 * 4096 / times["fma_rate"]
    special = blocks * 256 * 8 * 1024 / times["special_rate"]
    return Ceilings(
        fp32_instructions_per_second_by_properties=gpu.multiprocessors * lanes * gpu.clock_hz,
        fp32_instructions_per_second=fma,
        special_functions_per_second=special,
        copied_bytes_per_second=4 * size / times["copy_rate"],  # half of them read, half of them written
        pixel_iterations_per_second=min(fma / INSTRUCTIONS, special / SPECIAL),
    )


def kernel_shares(device: Any, tvl1: Tvl1Settings, frames: npt.NDArray[np.uint8]) -> dict[str, float]:
    """The share of each kernel in the time of a batch of consecutive frames, the largest first."""
    engine = CudaEngine(tvl1, device=device)
    pairs = len(frames) - 1
    shape = BatchShape(frames.shape[1], frames.shape[2], len(frames), pairs, False)
    layout = BatchLayout(shape, tvl1, engine.tile)
    address, memory = device.allocate(layout.bytes), device.pinned(layout.input_bytes)
    layout.write_input(memory, frames, range(pairs), range(1, pairs + 1))
    queue, launches = device.queue(), layout.launches(address)
    queue.upload(address, memory[: layout.input_bytes])
    queue.run(engine.source, launches)
    times: defaultdict[str, float] = defaultdict(float)
    for launch, milliseconds in zip(launches, queue.timed(engine.source, launches), strict=True):
        times[launch.kernel] += milliseconds
    device.release(address)
    device.unpin(memory)
    whole = sum(times.values())
    return {kernel: round(t / whole, 4) for kernel, t in sorted(times.items(), key=lambda item: -item[1])}


def _resized(frames: npt.NDArray[np.uint8], width: int, height: int, count: int) -> npt.NDArray[np.uint8]:
    """`count` frames of this size: the frames forwards and backwards, as often as needed."""
    resized = [cv2.resize(f, (width, height), interpolation=cv2.INTER_LINEAR) for f in frames[:count]]
    order = [*range(len(resized)), *range(len(resized) - 2, 0, -1)]
    return np.stack([resized[order[i % len(order)]] for i in range(count)])
