"""How fast a GPU computes flow: by batch and size, against what it can do, and where the time goes."""

from __future__ import annotations

import ctypes
import dataclasses
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from flowprep.engines.cuda import driver
from flowprep.engines.cuda.device import Launch
from flowprep.engines.cuda.engine import IN_FLIGHT, CudaEngine
from flowprep.engines.cuda.kernels import Tile
from flowprep.engines.cuda.layout import BatchLayout, BatchShape
from flowprep.engines.pyramid import level_sizes
from flowprep.presets import PRESETS, Tvl1Settings
from flowprep.video.frames import resize

SIZES = ((340, 256), (640, 480), (1920, 1080))
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
MOST_PIXELS = 70_000_000  # of a batch: the flow of three of them is in the host's memory, at 8 bytes a pixel
SECONDS = 0.5  # of each measurement, at least

# OpenCV's CUDA code: 300 iterations a warp, no median.
OPENCV_CUDA = dataclasses.replace(
    PRESETS["opencv"], outer_iterations=1, inner_iterations=300, epsilon=0.0, median=1
)

# Of a pixel's iteration, counted in the machine code of `iterate` for sm_90: instructions, and those among
# them that the special function units do (2 square roots, 2 reciprocals).
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


def bench_cuda(
    frames: npt.NDArray[np.uint8],
    tvl1: Tvl1Settings,
    device: Any = None,
    sizes: Sequence[tuple[int, int]] = SIZES,
    batches: Sequence[int] = BATCHES,
) -> dict[str, Any]:
    """Time engine cuda.

    Args:
        frames: grey images (F, H, W) of a video, two at least; resized to each size.
        tvl1: the solver's parameters.
        device: the one to time; the first GPU if None.
        sizes: (width, height), pixels.
        batches: numbers of pairs.

    Returns:
        `device`: what it is, its `ceilings`, and what it was found to reach of them; `pairs_per_second`, by
        size and batch, with copies to and from the device; `kernels`: share of a batch's time of each, at the
        first size.

    Raises:
        EngineError: no GPU works here.
    """
    device = device or driver.open_device()
    rates: dict[str, dict[str, float]] = {}
    for width, height in sizes:
        at_size = _resized(frames, width, height, max(batches) + 1)
        rates[f"{width}x{height}"] = {
            str(batch): round(pairs_per_second(device, tvl1, at_size, batch), 1)
            for batch in batches
            if batch * width * height <= MOST_PIXELS
        }
    width, height = sizes[0]
    best = max(rates[f"{width}x{height}"].values())
    iterations = pixel_iterations(height, width, tvl1)
    roof = ceilings(device)
    reached = best * iterations if iterations else None
    return {
        "device": device.gpu._asdict(),
        "ceilings": roof,
        "pixel_iterations_per_second": reached,
        "share_of_ceiling": reached and round(reached / roof["pixel_iterations_per_second"], 3),
        "pairs_per_second": rates,
        "kernels": kernel_shares(device, tvl1, _resized(frames, width, height, max(batches) + 1)),
    }


def pairs_per_second(
    device: Any, tvl1: Tvl1Settings, frames: npt.NDArray[np.uint8], batch: int, tile: Tile | None = None
) -> float:
    """The rate of an engine with batches of this size, as many in flight as it has."""
    engine = CudaEngine(tvl1, device=device, max_batch_pairs=batch)
    if tile:
        engine.use_tile(tile)
    first = np.tile(np.arange(batch), IN_FLIGHT)
    for _ in range(2):  # compiles and allocates; makes what comes again into graphs
        engine.solve(frames, first, first + 1)
    done, began = 0, time.perf_counter()
    while done == 0 or time.perf_counter() - began < SECONDS:
        engine.solve(frames, first, first + 1)
        done += len(first)
    return done / (time.perf_counter() - began)


def pixel_iterations(height: int, width: int, tvl1: Tvl1Settings) -> int | None:
    """Iterations of a pair, summed over pixels; None if a stopping test decides."""
    if tvl1.epsilon:
        return None
    pixels = sum(h * w for h, w in level_sizes(height, width, tvl1))
    return pixels * tvl1.warps * tvl1.outer_iterations * tvl1.inner_iterations


def ceilings(device: Any) -> dict[str, float]:
    """What a device can do: by its properties, and as measured."""
    gpu = device.gpu
    lanes = 64 if gpu.capability in ((7, 5), (8, 0)) else 128
    blocks = 32 * gpu.multiprocessors
    size = 1 << 28  # floats: 1 GiB, far more than a cache holds
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
    return {
        "fp32_instructions_per_second_by_properties": gpu.multiprocessors * lanes * gpu.clock_hz,
        "fp32_instructions_per_second": fma,
        "special_functions_per_second": special,
        "copied_bytes_per_second": 4 * size / times["copy_rate"],  # half is read, half written
        "pixel_iterations_per_second": min(fma / INSTRUCTIONS, special / SPECIAL),
    }


def kernel_shares(device: Any, tvl1: Tvl1Settings, frames: npt.NDArray[np.uint8]) -> dict[str, float]:
    """The share of each kernel in the time of a batch of consecutive frames, the largest first."""
    engine = CudaEngine(tvl1, device=device)
    pairs = len(frames) - 1
    shape = BatchShape(frames.shape[1], frames.shape[2], len(frames), pairs, False)
    layout = BatchLayout(shape, tvl1, engine.tile)
    address, memory = device.allocate(layout.bytes), device.pinned(layout.input_bytes)
    layout.write_input(memory, frames, range(pairs), range(1, pairs + 1))
    queue, sequence = device.queue(), layout.launches(address)
    queue.upload(address, memory[: layout.input_bytes])
    queue.run(engine.source, sequence)
    times: defaultdict[str, float] = defaultdict(float)
    for launch, milliseconds in zip(sequence, queue.timed(engine.source, sequence), strict=True):
        times[launch.kernel] += milliseconds
    device.release(address)
    device.unpin(memory)
    whole = sum(times.values())
    return {kernel: round(t / whole, 4) for kernel, t in sorted(times.items(), key=lambda item: -item[1])}


def as_rows(found: dict[str, Any]) -> list[dict[str, str]]:
    """`pairs_per_second` as a table: a row for each batch."""
    rates = found["pairs_per_second"]
    batches = dict.fromkeys(batch for rate in rates.values() for batch in rate)
    return [
        {
            "pairs a batch": batch,
            **{size: f"{rate[batch]:g}" if batch in rate else "-" for size, rate in rates.items()},
        }
        for batch in batches
    ]


def _resized(frames: npt.NDArray[np.uint8], width: int, height: int, count: int) -> npt.NDArray[np.uint8]:
    """`count` frames of this size, to and fro through those that are there."""
    there = [resize(f, width, height) for f in frames[:count]]
    turn = [*range(len(there)), *range(len(there) - 2, 0, -1)]
    return np.stack([there[turn[i % len(turn)]] for i in range(count)])
