"""Engine cuda on a machine with a GPU, in one go: is it right, how fast is it, and which tile is the best?

    python pipelines/cuda/bring_up.py [VIDEO]...

Without VIDEO, on sample clips. Checks every kernel of every preset against the reference, in the build that
checks bounds, too; compares whole flows with the cpu engine; times tiles, batch sizes and a whole extraction.
Ends with a short table, and with 1 if anything is wrong. Takes about 5 minutes.
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
CLIPS = 480  # of the whole extraction
# Of two engines that do the same arithmetic, in pixels; with a stopping test, rounding decides more.
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
summary: list[str] = []
wrong: list[str] = []


def main() -> int:
    """Everything, and what to print last."""
    print(json.dumps(examine(), indent=1))
    device = driver.open_device()
    say(f"{device.gpu.name}, {device.gpu.arch}, NVRTC {nvrtc_version()}", last=True)
    with tempfile.TemporaryDirectory(prefix="flowprep-bring-up-") as name:
        folder = Path(name)
        videos = [Path(v) for v in sys.argv[1:]] or clips(folder)
        everything = itertools.chain.from_iterable(map(read, videos))
        frames = np.stack(list(itertools.islice(everything, BATCH + 1)))
        check(frames)
        compare(frames)
        time_tiles(frames)
        time_engines(frames)
        time_extraction(videos, folder)
    print("\n--- in short")
    print("\n".join(summary))
    print("\n".join(f"WRONG: {line}" for line in wrong) or "nothing is wrong")
    return int(bool(wrong))


def say(line: str, last: bool = False) -> None:
    """Print a line; again at the end if it belongs to what is last."""
    print(f"[{time.perf_counter() - began:5.0f} s] {line}", flush=True)
    if last:
        summary.append(line)


def check(frames: Frames) -> None:
    """Every kernel of every preset, against the reference."""
    for (preset, tvl1), bounds in itertools.product(PRESETS.items(), (True, False)):
        what = f"kernels, {preset}, {'bounds checked' if bounds else 'fast build'}"
        try:
            errors = check_kernels(driver.open_device(), tvl1, frames[:3, -64:, -81:], bounds)
            worst = max(errors, key=lambda kernel: errors[kernel])
            say(f"{what}: right; largest error {errors[worst]:.1e}, in {worst}")
        except EngineError as exc:
            wrong.append(f"{what}: {exc}")
            say(wrong[-1])


def compare(frames: Frames) -> None:
    """Whole flows with engine cpu, and with other batches."""
    where = np.arange(0, min(96, len(frames) - 1), 12)
    for preset, tvl1 in PRESETS.items():
        found, expected = (
            make_engine(engine, tvl1, usable_cores()).solve(frames, where, where + 1)
            for engine in ("cuda", "cpu")
        )
        apart = np.hypot(*(found - expected).swapaxes(0, 1)).mean(axis=(1, 2))
        line = f"{preset}: {np.median(apart):.5f} px from engine cpu (worst pair {apart.max():.4f})"
        say(line, last=True)
        # With a stopping test single pairs say nothing: there are places where rounding decides.
        if not (np.median(apart) if tvl1.epsilon else apart.max()) <= MEAN_DISTANCE:
            wrong.append(line)
        some = range(min(40, len(frames) - 1))
        engine = CudaEngine(tvl1)
        whole = engine.solve(frames, some, range(1, len(some) + 1))
        engine = CudaEngine(tvl1, max_batch_pairs=7)
        if not np.array_equal(whole, engine.solve(frames, some, range(1, len(some) + 1))):
            wrong.append(f"{preset}: results depend on the batch")


def time_tiles(frames: Frames) -> None:
    """Which tile is the fastest, and what it reaches of the ceiling."""
    roof = ceilings(driver.open_device())
    for key, value in roof.items():
        say(f"{key.replace('_', ' ')}: {value:.3g}", last=True)
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
                say(f"{title}, {tile}: {exc}")
                continue
            reached = rates[tile] * (pixel_iterations(height, width, tvl1) or 0)
            share = reached / roof["pixel_iterations_per_second"]
            say(f"{title}, {tile}: {rates[tile]:.0f} pairs/s, {share:.0%} of the ceiling")
        fastest = max(rates, key=lambda tile: rates[tile])
        default = rates.get(tile_for(driver.open_device()), 0.0)
        say(f"{title}: {rates[fastest]:.0f} pairs/s with {fastest}, {default:.0f} as it is", last=True)


def time_engines(frames: Frames) -> None:
    """Engine cpu on all cores; engine cuda by size and batch, and the share of its kernels."""
    cpu = make_engine("cpu", PRESETS["accurate"], usable_cores())
    some = np.arange(min(64, len(frames) - 1))
    cpu.solve(frames, some[:2], some[:2] + 1)
    start = time.perf_counter()
    cpu.solve(frames, some, some + 1)
    rate = len(some) / (time.perf_counter() - start)
    say(f"engine cpu, accurate, {usable_cores()} cores: {rate:.1f} pairs/s", last=True)
    found = bench_cuda(frames, PRESETS["accurate"], None, SIZES, BATCHES)
    for size, by_batch in found["pairs_per_second"].items():
        say(f"accurate, {size}, pairs/s by batch: {by_batch}", last=True)
    shares = ", ".join(f"{kernel} {share:.1%}" for kernel, share in found["kernels"].items())
    say(f"kernels, accurate: {shares}", last=True)


def time_extraction(videos: list[Path], folder: Path) -> None:
    """A whole extraction, with the processes that another one has started."""
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
        say(f"extraction, {run} run: {pairs / seconds:.0f} pairs/s, {usable_cores()} cores", last=True)
        wrong.extend(f"extraction: {fault}" for fault in result.faults.values())


def read(video: Path) -> Iterator[Frames]:
    """The grey frames of a video."""
    return (to_grey(frame.rgb) for _, frame in read_frames(video, SIZE))


def clips(folder: Path) -> list[Path]:
    """Sample clips."""
    made = write_samples(folder / "clips", classes=4, clips=4)
    return [made.directory / path for path in made.train]


if __name__ == "__main__":
    sys.exit(main())
