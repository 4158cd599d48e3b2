"""All checks and timings of engine cuda on a machine with a GPU.

    python pipelines/cuda/bring_up.py [VIDEO]...

Without VIDEO, sample clips are used. The script checks every kernel of every preset against the reference,
with and without bounds checks. It compares whole flows with engine cpu. It times tiles, batch sizes and a
whole extraction. At the end it prints a summary. The exit code is 1 if anything is wrong. All takes about 5
minutes.
"""

from __future__ import annotations

import itertools
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from flowprep.api import make_corpus
from flowprep.bench.cuda import (
    BATCHES,
    OPENCV_CUDA,
    SIZES,
    bench_cuda,
    ceilings,
    pairs_per_second,
    pixel_iterations,
)
from flowprep.corpus.store import CorpusStore
from flowprep.doctor import examine
from flowprep.engines import make_engine
from flowprep.engines.cuda import driver
from flowprep.engines.cuda.compiler import nvrtc_version
from flowprep.engines.cuda.engine import CudaEngine
from flowprep.engines.cuda.kernels import Tile, tile_for
from flowprep.engines.cuda.selfcheck import check_kernels
from flowprep.errors import EngineError
from flowprep.presets import PRESETS
from flowprep.settings import Settings
from flowprep.synthetic import write_samples
from flowprep.system.processes import usable_cores
from flowprep.video.decode import read_frames
from flowprep.video.frames import to_grey

SIZE = "340x256"
BATCH = 256  # pairs
CLIPS = 480  # of the extraction
# Largest mean distance between two engines with the same arithmetic, pixels. Rounding matters more with a
# stopping test.
MAX_DISTANCE = 0.02
SCHEDULES = {"OpenCV's CUDA schedule": OPENCV_CUDA, "accurate": PRESETS["accurate"]}
TILES = [
    Tile(stages, threads, blocks, rows)
    for stages, threads, blocks, rows in [
        (8, 192, 2, 256),
        (8, 192, 1, 256),
        (8, 128, 3, 256),
        (8, 192, 2, 128),
        (8, 256, 1, 256),
        (8, 384, 1, 256),
        (6, 192, 2, 256),
        (6, 128, 4, 256),
        (4, 192, 4, 256),
        (4, 384, 2, 256),
        (10, 192, 1, 256),
        (12, 256, 1, 256),
        (16, 192, 1, 256),
    ]
]


Frames = npt.NDArray[np.uint8]
began = time.perf_counter()
summary: list[str] = []
errors: list[str] = []


def main() -> int:
    """Run everything and print the summary. Returns the exit code."""
    print(json.dumps(examine(), indent=1))
    device = driver.open_device()
    report(f"{device.gpu.name}, {device.gpu.arch}, NVRTC {nvrtc_version()}", summarise=True)
    with tempfile.TemporaryDirectory(prefix="flowprep-bring-up-") as name:
        folder = Path(name)
        videos = [Path(argument) for argument in sys.argv[1:]] or sample_clips(folder)
        all_frames = itertools.chain.from_iterable(map(read, videos))
        frames = np.stack(list(itertools.islice(all_frames, BATCH + 1)))
        check(frames)
        compare(frames)
        time_tiles(frames)
        time_engines(frames)
        time_extraction(videos, folder)
    print("\n--- summary")
    print("\n".join(summary))
    print("\n".join(f"WRONG: {line}" for line in errors) or "nothing is wrong")
    return int(bool(errors))


def report(line: str, summarise: bool = False) -> None:
    """Print a line with the time, and optionally repeat it in the summary."""
    print(f"[{time.perf_counter() - began:5.0f} s] {line}", flush=True)
    if summarise:
        summary.append(line)


def check(frames: Frames) -> None:
    """Check every kernel of every preset against the reference."""
    for (preset, tvl1), bounds in itertools.product(PRESETS.items(), (True, False)):
        title = f"kernels, {preset}, {'bounds checked' if bounds else 'fast build'}"
        try:
            distances = check_kernels(driver.open_device(), tvl1, frames[:3, -64:, -81:], bounds)
            worst = max(distances, key=lambda kernel: distances[kernel])
            report(f"{title}: right; largest error {distances[worst]:.1e}, in {worst}")
        except EngineError as exc:
            errors.append(f"{title}: {exc}")
            report(errors[-1])


def compare(frames: Frames) -> None:
    """Compare whole flows with those of engine cpu, and with those of other batch sizes."""
    first = np.arange(0, min(96, len(frames) - 1), 12)
    for preset, tvl1 in PRESETS.items():
        flow, expected = (
            make_engine(engine, tvl1, usable_cores()).solve(frames, first, first + 1)
            for engine in ("cuda", "cpu")
        )
        distances = np.hypot(*(flow - expected).swapaxes(0, 1)).mean(axis=(1, 2))
        median, worst = np.median(distances), distances.max()
        line = f"{preset}: {median:.5f} px from engine cpu (worst pair {worst:.4f})"
        report(line, summarise=True)
        # With a stopping test, rounding decides the result at some places. So single pairs do not count.
        if not (median if tvl1.epsilon else worst) <= MAX_DISTANCE:
            errors.append(line)
        pairs = np.arange(min(40, len(frames) - 1))
        default, small_batches = (
            engine.solve(frames, pairs, pairs + 1)
            for engine in (CudaEngine(tvl1), CudaEngine(tvl1, max_batch_pairs=7))
        )
        if not np.array_equal(default, small_batches):
            errors.append(f"{preset}: results depend on the batch")


def time_tiles(frames: Frames) -> None:
    """Time the tiles. Each speed is also a share of the maximum of the GPU."""
    maximum = ceilings(driver.open_device())
    for key, value in maximum.items():
        report(f"{key.replace('_', ' ')}: {value:.3g}", summarise=True)
    height, width = frames.shape[1:]
    for title, tvl1 in SCHEDULES.items():
        rates = {}
        for tile in TILES:
            device = driver.open_device()
            if tile.threads * tile.thread_bytes > device.shared_bytes:
                continue
            try:
                rates[tile] = pairs_per_second(device, tvl1, frames, len(frames) - 1, tile)
            except EngineError as exc:
                report(f"{title}, {tile}: {exc}")
                continue
            reached = rates[tile] * (pixel_iterations(height, width, tvl1) or 0)
            share = reached / maximum["pixel_iterations_per_second"]
            report(f"{title}, {tile}: {rates[tile]:.0f} pairs/s, {share:.0%} of the maximum")
        fastest = max(rates, key=lambda tile: rates[tile])
        default = rates.get(tile_for(driver.open_device()), 0.0)
        report(
            f"{title}: {rates[fastest]:.0f} pairs/s with {fastest}, {default:.0f} with the default tile",
            summarise=True,
        )


def time_engines(frames: Frames) -> None:
    """Time engine cpu on all cores, and engine cuda by size, batch and kernel."""
    cpu = make_engine("cpu", PRESETS["accurate"], usable_cores())
    pairs = np.arange(min(64, len(frames) - 1))
    cpu.solve(frames, pairs[:2], pairs[:2] + 1)
    start = time.perf_counter()
    cpu.solve(frames, pairs, pairs + 1)
    rate = len(pairs) / (time.perf_counter() - start)
    report(f"engine cpu, accurate, {usable_cores()} cores: {rate:.1f} pairs/s", summarise=True)
    result = bench_cuda(frames, PRESETS["accurate"], None, SIZES, BATCHES)
    for size, by_batch in result["pairs_per_second"].items():
        report(f"accurate, {size}, pairs/s by batch: {by_batch}", summarise=True)
    shares = ", ".join(f"{kernel} {share:.1%}" for kernel, share in result["kernels"].items())
    report(f"kernels, accurate: {shares}", summarise=True)


def time_extraction(videos: list[Path], folder: Path) -> None:
    """Time a whole extraction twice. The second run uses the processes of the first one."""
    inputs = folder / "inputs"
    inputs.mkdir()
    for n in range(CLIPS):
        video = videos[n % len(videos)]
        shutil.copy(video, inputs / f"{n:04}{video.suffix}")
    settings = Settings(engine="cuda", size=SIZE)
    for run in ("first", "second"):
        start = time.perf_counter()
        result = make_corpus([inputs], folder / run, settings)
        seconds = time.perf_counter() - start
        pairs = CorpusStore(folder / run).load_index().totals["pairs"]
        report(
            f"extraction, {run} run: {pairs / seconds:.0f} pairs/s, {usable_cores()} cores", summarise=True
        )
        errors.extend(f"extraction: {fault}" for fault in result.faults.values())


def read(video: Path) -> Iterator[Frames]:
    """The grey frames of a video."""
    return (to_grey(frame.rgb) for _, frame in read_frames(video, SIZE))


def sample_clips(folder: Path) -> list[Path]:
    """Write sample clips."""
    samples = write_samples(folder / "clips", classes=4, clips=4)
    return [samples.directory / path for path in samples.train]


if __name__ == "__main__":
    sys.exit(main())
