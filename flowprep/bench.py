"""How fast this machine computes flow: engines against OpenCV, alternately, in one run.

Machines are noisy and shared, so what counts is the ratio of two times taken one after the other on the
same pair, and medians.
"""

from __future__ import annotations

import itertools
import platform
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from flowprep.corpus.index import load_index
from flowprep.engines import make_engine, resolve
from flowprep.errors import UsageError
from flowprep.executors import default_jobs, make_corpus
from flowprep.samples import write_samples
from flowprep.settings import PRESETS, Settings, Tvl1Settings
from flowprep.video import read_frames, to_grey

Grey = npt.NDArray[np.uint8]


def bench(
    videos: Sequence[Path] = (),
    engine: str = "auto",
    *,
    size: str = "short:256",
    pairs: int = 12,
    threads: int | None = None,
) -> dict[str, Any]:
    """Time an engine against OpenCV on pairs of real frames.

    Args:
        videos: files; sample clips if there are none.
        engine: the engine to time.
        size: as `Settings.size`.
        pairs: how many, spread over the videos.
        threads: of the run with all cores; one per core if None.

    Returns:
        `machine`; `ms_per_pair` of both, with the quartiles; `ratio` of the sums and its spread over pairs;
        `distance_px`, mean end-point distance to OpenCV's flow; `energy`, summed, as a multiple of OpenCV's;
        `pairs_per_second` with `threads` threads; and `stages`, seconds a pair of a whole extraction.

    Raises:
        UsageError: fewer than one pair, or the videos have none.
        VideoError: a video cannot be read.
    """
    if pairs < 1:
        raise UsageError(f"pairs is {pairs}; allowed: a whole number from 1")
    engine = resolve(engine)
    threads = threads or default_jobs()
    tvl1 = PRESETS["opencv"]
    with tempfile.TemporaryDirectory(prefix="flowprep-bench-") as folder:
        videos = list(videos) or _samples(Path(folder))
        taken = [p for v in videos for p in _pairs(v, size, -(-pairs // len(videos)))][:pairs]
        if not taken:
            raise UsageError(f"no pair of frames in {', '.join(map(str, videos))}")
        ours, theirs = make_engine(engine, tvl1), make_engine("opencv", tvl1)
        times, distances, energies = [], [], []
        for a, b in [taken[0], *taken]:  # the first one twice: it compiles and fills caches
            frames = np.stack([a, b])
            (mine, ms), (other, other_ms) = (_timed(e, frames) for e in (ours, theirs))
            times.append((ms, other_ms))
            distances.append(float(np.hypot(*(mine - other)).mean()))
            energies.append((energy(a, b, mine, tvl1), energy(a, b, other, tvl1)))
        return {
            "machine": {
                "processor": _processor(),
                "cores": default_jobs(),
                "python": platform.python_version(),
            },
            "engine": engine,
            "pairs": len(taken),
            "size": f"{taken[0][0].shape[1]}x{taken[0][0].shape[0]}",
            "ms_per_pair": {
                engine: _quartiles([t for t, _ in times[1:]]),
                "opencv": _quartiles([t for _, t in times[1:]]),
            },
            "ratio": round(sum(t for _, t in times[1:]) / sum(t for t, _ in times[1:]), 2),
            "ratio_per_pair": _quartiles([theirs / mine for mine, theirs in times[1:]]),
            "distance_px": round(float(np.mean(distances[1:])), 4),
            "energy": round(sum(e for e, _ in energies[1:]) / sum(e for _, e in energies[1:]), 5),
            "threads": threads,
            "pairs_per_second": _all_cores(engine, taken, threads),
            "stages": _stages(videos, engine, size, Path(folder)),
        }


def energy(first: Grey, second: Grey, flow: npt.NDArray[np.float32], tvl1: Tvl1Settings) -> float:
    """The TV-L1 energy of a flow: sum of lambda |I1(x + u) - I0(x)| + |grad u1| + |grad u2|.

    Zach, Pock, Bischof 2007, equation 3, with forward differences and a bicubic warp; lower is better.

    Args:
        first, second: (H, W) grey images, 0-255.
        flow: (2, H, W), pixels.
    """
    height, width = first.shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    warped = cv2.remap(second.astype(np.float32), x + flow[0], y + flow[1], cv2.INTER_CUBIC)
    total = tvl1.lambda_ * float(np.abs(warped - first).sum())
    for plane in flow:
        right = np.diff(plane, axis=1, append=plane[:, -1:])
        down = np.diff(plane, axis=0, append=plane[-1:])
        total += float(np.hypot(right, down).sum())
    return total


def _timed(engine: Any, frames: Grey) -> tuple[npt.NDArray[np.float32], float]:
    """Flow of a pair, and the milliseconds that it took."""
    began = time.perf_counter()
    flow = engine.solve(frames, [0], [1])[0]
    return flow, 1e3 * (time.perf_counter() - began)


def _all_cores(engine: str, taken: Sequence[tuple[Grey, Grey]], threads: int) -> float:
    """Pairs per second with a pair per thread, over enough pairs to be at least a second's work."""
    solver = make_engine(engine, PRESETS["opencv"], threads)
    shape = taken[0][0].shape
    frames = np.stack([f for pair in taken if pair[0].shape == shape for f in pair])
    first = np.arange(0, len(frames), 2)
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < 1:
        solver.solve(frames, first, first + 1)
        done += len(first)
    return round(done / (time.perf_counter() - began), 2)


def _stages(videos: Sequence[Path], engine: str, size: str, folder: Path) -> dict[str, float]:
    """Milliseconds a pair in each stage of `flowprep extract` in one process; stages overlap."""
    make_corpus(videos[:1], folder / "corpus", Settings(engine=engine, size=size), jobs=1)
    totals = load_index(folder / "corpus").totals
    stages = ("decode", "flow", "encode", "write", "total")
    return {s: round(1e3 * totals[f"{s}_seconds"] / totals["pairs"], 3) for s in stages}


def _pairs(video: Path, size: str, count: int) -> list[tuple[Grey, Grey]]:
    """Consecutive grey frames at `count` evenly spaced places in the first 200 frames of a video."""
    frames = [to_grey(f.rgb) for _, f in itertools.islice(read_frames(video, size), 200)]
    if len(frames) < 2:
        return []
    places = np.unique(np.linspace(0, len(frames) - 2, count).astype(int))
    return [(frames[i], frames[i + 1]) for i in places]


def _samples(folder: Path) -> list[Path]:
    made = write_samples(folder / "clips", classes=4, clips=2)
    return [made.directory / path for path in made.train]


def _quartiles(values: Sequence[float]) -> dict[str, float]:
    low, median, high = np.percentile(values, [25, 50, 75])
    return {"median": round(float(median), 2), "low": round(float(low), 2), "high": round(float(high), 2)}


def _processor() -> str:
    """The processor's name, where the system tells."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
