"""Test engine cuda on a machine with a GPU: its results, its speed, and which tile is the fastest.

    python pipelines/cuda/bring_up.py [VIDEO]...

Without VIDEO, it uses sample clips. It checks every kernel of every preset, also in the build that checks
bounds. It compares whole flows with engine cpu. It times tiles, batch sizes and a whole extraction. Its last
output is a summary. The exit status is 1 if anything is wrong. It takes about 5 minutes.
"""

from __future__ import annotations

import dataclasses
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
    OPENCV_CUDA,
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
from flowprep.presets import PRESET_VERSIONS, PRESETS
from flowprep.settings import Settings
from flowprep.synthetic import write_samples
from flowprep.system.processes import usable_cores
from flowprep.video.decode import read_frames
from flowprep.video.frames import to_grey

SIZE = "340x256"
BATCH = 256  # pairs
CLIPS = 480  # of the extraction
# Largest mean distance of two engines that do the same arithmetic, pixels.
MEAN_DISTANCE = 0.02
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
summary_lines: list[str] = []
wrong: list[str] = []


def main() -> int:
    """Run all checks and measurements, and print the summary."""
    print(json.dumps(examine().to_dict(), indent=1))
    device = driver.open_device()
    report(f"{device.gpu.name}, {device.gpu.arch}, NVRTC {nvrtc_version()}", summary=True)
    with tempfile.TemporaryDirectory(prefix="flowprep-bring-up-") as name:
        folder = Path(name)
        videos = [Path(v) for v in sys.argv[1:]] or sample_clips(folder)
        everything = itertools.chain.from_iterable(map(grey_frames, videos))
        frames = np.stack(list(itertools.islice(everything, BATCH + 1)))
        check(frames)
        compare(frames)
        time_tiles(frames)
        time_engines(frames)
        time_extraction(videos, folder)
    print("\n--- summary")
    print("\n".join(summary_lines))
    print("\n".join(f"WRONG: {line}" for line in wrong) or "nothing is wrong")
    return int(bool(wrong))


def report(line: str, summary: bool = False) -> None:
    """Print a line, and repeat it in the summary if `summary` is true."""
    print(f"[{time.perf_counter() - began:5.0f} s] {line}", flush=True)
    if summary:
        summary_lines.append(line)


def check(frames: Frames) -> None:
    """Check every kernel of every version of every preset against engine reference."""
    for (preset, tvl1), bounds in itertools.product(PRESET_VERSIONS.items(), (True, False)):
        title = f"kernels, {preset}, {'bounds checked' if bounds else 'fast build'}"
        try:
            errors = check_kernels(driver.open_device(), tvl1, frames[:3, -64:, -81:], bounds)
            worst = max(errors, key=lambda kernel: errors[kernel])
            report(f"{title}: right; largest error {errors[worst]:.1e}, in {worst}")
        except EngineError as exc:
            wrong.append(f"{title}: {exc}")
            report(wrong[-1])


def compare(frames: Frames) -> None:
    """Compare whole flows with engine cpu, and with other batches."""
    indices = np.arange(0, min(96, len(frames) - 1), 12)
    for preset, tvl1 in PRESET_VERSIONS.items():
        flow, expected = (
            make_engine(engine, tvl1, usable_cores()).solve(frames, indices, indices + 1)
            for engine in ("cuda", "cpu")
        )
        distances = np.hypot(*(flow - expected).swapaxes(0, 1)).mean(axis=(1, 2))
        line = f"{preset}: {np.median(distances):.5f} px from engine cpu (worst pair {distances.max():.4f})"
        report(line, summary=True)
        # With a stopping test, single pairs mean nothing: some pixels depend on rounding.
        if not (np.median(distances) if tvl1.epsilon else distances.max()) <= MEAN_DISTANCE:
            wrong.append(line)
        first = range(min(40, len(frames) - 1))
        engine = CudaEngine(tvl1)
        whole = engine.solve(frames, first, range(1, len(first) + 1))
        engine = CudaEngine(tvl1, max_batch_pairs=7)
        if not np.array_equal(whole, engine.solve(frames, first, range(1, len(first) + 1))):
            wrong.append(f"{preset}: results depend on the batch")


def time_tiles(frames: Frames) -> None:
    """Time all tiles, and compare the fastest one with the limit of the GPU."""
    limits = ceilings(driver.open_device())
    for key, value in dataclasses.asdict(limits).items():
        report(f"{key.replace('_', ' ')}: {value:.3g}", summary=True)
    height, width = frames.shape[1:]
    for title, tvl1 in SCHEDULES.items():
        rates = {}
        for tile in TILES:
            device = driver.open_device()
            if tile.threads * tile.thread_bytes(tvl1) > device.shared_bytes:
                continue
            try:
                rates[tile] = pairs_per_second(device, tvl1, frames, len(frames) - 1, tile)
            except EngineError as exc:
                report(f"{title}, {tile}: {exc}")
                continue
            reached = rates[tile] * (pixel_iterations(height, width, tvl1) or 0)
            share = reached / limits.pixel_iterations_per_second
            report(f"{title}, {tile}: {rates[tile]:.0f} pairs/s, {share:.0%} of the limit")
        fastest = max(rates, key=lambda tile: rates[tile])
        default = rates.get(tile_for(driver.open_device(), tvl1), 0.0)
        report(
            f"{title}: {rates[fastest]:.0f} pairs/s with {fastest}, {default:.0f} with the default",
            summary=True,
        )


def time_engines(frames: Frames) -> None:
    """Time engine cpu on all cores, and engine cuda by size, batch and kernel."""
    cpu = make_engine("cpu", PRESETS["accurate"], usable_cores())
    first = np.arange(min(64, len(frames) - 1))
    cpu.solve(frames, first[:2], first[:2] + 1)  # compiles
    start = time.perf_counter()
    cpu.solve(frames, first, first + 1)
    rate = len(first) / (time.perf_counter() - start)
    report(f"engine cpu, accurate, {usable_cores()} cores: {rate:.1f} pairs/s", summary=True)
    result = bench_cuda(frames, PRESETS["accurate"])
    for size, by_batch in result.pairs_per_second.items():
        report(f"accurate, {size}, pairs/s by batch: {by_batch}", summary=True)
    shares = ", ".join(f"{kernel} {share:.1%}" for kernel, share in result.kernels.items())
    report(f"kernels, accurate: {shares}", summary=True)


def time_extraction(videos: list[Path], folder: Path) -> None:
    """Time two whole extractions. The second one uses the worker processes of the first again."""
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
        report(f"extraction, {run} run: {pairs / seconds:.0f} pairs/s, {usable_cores()} cores", summary=True)
        wrong.extend(f"extraction: {fault}" for fault in result.faults.values())


def grey_frames(video: Path) -> Iterator[Frames]:
    """The grey frames of a video."""
    return (to_grey(frame.rgb) for _, frame in read_frames(video, SIZE))


def sample_clips(folder: Path) -> list[Path]:
    """Write sample clips."""
    samples = write_samples(folder / "clips", classes=4, clips=4)
    return [samples.directory / path for path in samples.train]


if __name__ == "__main__":
    sys.exit(main())
