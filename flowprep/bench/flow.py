"""How fast this machine computes flow: engines against OpenCV, alternately, in one run.

Machines are noisy and shared, so what counts is the ratio of two times taken one after the other on the
same pair, and medians.
"""

from __future__ import annotations

import dataclasses
import itertools
import platform
import re
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from flowprep.api import default_jobs
from flowprep.bench.cuda import bench_cuda
from flowprep.bench.tune import fidelity, sample_pairs
from flowprep.corpus.plan import Segment, Task
from flowprep.corpus.store import CorpusStore
from flowprep.doctor import processor_name
from flowprep.engines import make_engine, resolve
from flowprep.errors import EngineError, UsageError
from flowprep.executors.run import run_tasks
from flowprep.flo import read_flo
from flowprep.presets import PRESETS, Tvl1Settings, default_preset
from flowprep.settings import CODES, Settings
from flowprep.synthetic import write_samples
from flowprep.video.decode import read_frames
from flowprep.video.frames import read_image, to_grey

EXTRACTED_PAIRS = 200  # at most, of each video

Grey = npt.NDArray[np.uint8]


def bench(
    videos: Sequence[Path] = (),
    engine: str = "auto",
    *,
    tvl1: Tvl1Settings | None = None,
    size: str = "short:256",
    pairs: int = 12,
    threads: int | None = None,
) -> dict[str, Any]:
    """Time an engine against OpenCV, with its default parameters, on pairs of real frames.

    Args:
        videos: files; sample clips if there are none.
        engine: the engine to time.
        tvl1: its parameters; those of its default preset if None.
        size: as `Settings.size`.
        pairs: how many, spread over the videos.
        threads: of the runs with all cores, and their processes; one per core if None.

    Returns:
        `machine`; `tvl1`; `ms_per_pair` of "ours" and "opencv" (OpenCV with its defaults), with the
        quartiles; `ratio` of the sums and its spread over pairs; `distance_px`, mean end-point distance to
        OpenCV's flow; `energy` with OpenCV's parameters, summed, as a multiple of OpenCV's;
        `pairs_per_second` of "ours" and "opencv" with `threads` threads, a pair each, and of "extraction",
        a whole one in as many processes; `stages`, the milliseconds a pair of its stages ("jpeg" is that of
        frames, "codes" quantising and JPEG of the flow, in one pass); and `codes`, for each kind what
        flowprep.bench.tune.fidelity says. With engine cuda `cuda`, too: what flowprep.bench.cuda says.

    Raises:
        UsageError: fewer than one pair, or the videos have none.
        VideoError: a video cannot be read.
    """
    engine = resolve(engine)
    tvl1 = tvl1 or PRESETS[default_preset(engine)]
    threads = threads or default_jobs()
    defaults = PRESETS["opencv"]
    with tempfile.TemporaryDirectory(prefix="flowprep-bench-") as folder:
        videos = list(videos) or _samples(Path(folder))
        taken = sample_pairs(videos, size, pairs)
        ours, theirs = make_engine(engine, tvl1), make_engine("opencv", defaults)
        times, distances, energies, flows = [], [], [], []
        for a, b in [taken[0], *taken]:  # the first one twice: it compiles and fills caches
            frames = np.stack([a, b])
            (mine, ms), (other, other_ms) = (_timed(e, frames) for e in (ours, theirs))
            flows.append(mine)
            times.append((ms, other_ms))
            distances.append(float(np.hypot(*(mine - other)).mean()))
            energies.append((energy(a, b, mine, defaults), energy(a, b, other, defaults)))
        rates = _rates({"ours": (engine, tvl1), "opencv": ("opencv", defaults)}, taken, threads)
        settings = Settings(engine=engine, tvl1=tvl1, size=size)
        extraction, stages = _extraction(videos, settings, Path(folder), threads)
        return {
            "machine": {
                "processor": processor_name(),
                "cores": default_jobs(),
                "python": platform.python_version(),
            },
            "engine": engine,
            "tvl1": dataclasses.asdict(tvl1),
            "pairs": len(taken),
            "size": f"{taken[0][0].shape[1]}x{taken[0][0].shape[0]}",
            "ms_per_pair": {
                "ours": _quartiles([t for t, _ in times[1:]]),
                "opencv": _quartiles([t for _, t in times[1:]]),
            },
            "ratio": round(sum(t for _, t in times[1:]) / sum(t for t, _ in times[1:]), 2),
            "ratio_per_pair": _quartiles([theirs / mine for mine, theirs in times[1:]]),
            "distance_px": round(float(np.mean(distances[1:])), 4),
            "energy": round(sum(e for e, _ in energies[1:]) / sum(e for _, e in energies[1:]), 5),
            "threads": threads,
            "pairs_per_second": {**rates, "extraction": extraction},
            "codes": {codes: fidelity(flows[1:], codes=codes) for codes in CODES},
            "stages": stages,
            **({"cuda": bench_cuda(_greys(videos[0], size), tvl1)} if engine == "cuda" else {}),
        }


def bench_gpu(videos: Sequence[Path], size: str, tvl1: Tvl1Settings) -> dict[str, Any]:
    """Time engine cuda on the first GPU, as `bench_cuda` does.

    Args:
        videos: files, of which the first is used; a sample clip if there are none.
        size: size of the frames for the shares of the kernels.
        tvl1: parameters of TV-L1.
    """
    with tempfile.TemporaryDirectory(prefix="flowprep-bench-") as folder:
        videos = list(videos) or _samples(Path(folder))
        return bench_cuda(_greys(videos[0], size), tvl1)


def endpoint_errors(folder: Path, engine: str = "auto", tvl1: Tvl1Settings | None = None) -> dict[str, Any]:
    """Mean end-point errors of an engine, and of OpenCV with its default parameters, where motion is known.

    Args:
        folder: searched for .flo files. The frames lie beside each: flow10.flo is from frame10.png to
            frame11.png, frame_0002.flo from frame_0002.png to frame_0003.png.
        engine: the engine to judge.
        tvl1: its parameters; those of its default preset if None.

    Returns:
        `engine`, `tvl1`; `errors_px`: of each .flo file, and their mean, for "ours" and "opencv".

    Raises:
        UsageError: there is no .flo file, or one has no frames of its size beside it.
    """
    engine = resolve(engine)
    tvl1 = tvl1 or PRESETS[default_preset(engine)]
    solvers = {"ours": make_engine(engine, tvl1), "opencv": make_engine("opencv", PRESETS["opencv"])}
    errors: dict[str, dict[str, float]] = {}
    for path in sorted(folder.rglob("*.flo")):
        truth = read_flo(path)
        frames = np.stack([to_grey(read_image(frame)) for frame in _frames_of(path)])
        if frames.shape[1:] != truth.shape[1:]:
            raise UsageError(
                f"{path} is {truth.shape[1:]} pixels (height, width), its frames {frames.shape[1:]}"
            )
        name = path.relative_to(folder).as_posix()
        flows = {which: solver.solve(frames, [0], [1])[0] for which, solver in solvers.items()}
        errors[name] = {which: float(np.nanmean(np.hypot(*(f - truth)))) for which, f in flows.items()}
    if not errors:
        raise UsageError(f"no .flo file in {folder}")
    errors["mean"] = {which: float(np.mean([e[which] for e in errors.values()])) for which in solvers}
    rounded = {name: {which: round(e, 4) for which, e in found.items()} for name, found in errors.items()}
    return {"engine": engine, "tvl1": dataclasses.asdict(tvl1), "errors_px": rounded}


def _frames_of(path: Path) -> tuple[Path, Path]:
    """The two frames of a .flo file, named by its number and the next."""
    match = re.fullmatch(r"(?:flow|frame)(\D*)(\d+)", path.stem)
    if match:
        separator, number = match.groups()
        names = [f"frame{separator}{int(number) + i:0{len(number)}d}.png" for i in (0, 1)]
        first, second = (path.with_name(name) for name in names)
        if first.exists() and second.exists():
            return first, second
    raise UsageError(f"{path} has no two frames beside it: flow10.flo needs frame10.png and frame11.png")


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


def _rates(
    solvers: dict[str, tuple[str, Tvl1Settings]], taken: Sequence[tuple[Grey, Grey]], threads: int
) -> dict[str, float]:
    """Pairs per second of each solver with a pair per thread: two rounds, alternately."""
    shape = taken[0][0].shape
    alike = [pair for pair in taken if pair[0].shape == shape]
    pairs = [alike[i % len(alike)] for i in range(max(len(alike), 2 * threads))]
    frames = np.stack([f for pair in pairs for f in pair])
    first = np.arange(0, len(frames), 2)
    engines = {which: make_engine(*solver, threads) for which, solver in solvers.items()}
    seconds = dict.fromkeys(engines, 0.0)
    for _ in range(2):
        for which, engine in engines.items():
            began = time.perf_counter()
            engine.solve(frames, first, first + 1)
            seconds[which] += time.perf_counter() - began
    return {which: round(2 * len(first) / s, 2) for which, s in seconds.items()}


def _extraction(
    videos: Sequence[Path], settings: Settings, folder: Path, jobs: int
) -> tuple[float, dict[str, float]]:
    """Pairs per second of whole extraction in `jobs` processes, and the milliseconds a pair of each stage.

    At most EXTRACTED_PAIRS pairs of each video; the processes have been started before.
    """
    tasks = [
        Task(f"{i:04d}", (Segment(f"{i:04d}", str(video), video.name, "", 0, count=EXTRACTED_PAIRS),))
        for i, video in zip(range(max(len(videos), 4 * jobs)), itertools.cycle(videos), strict=False)
    ]
    starting = [Task(t.id, (replace(t.segments[0], count=1),)) for t in tasks[: 2 * jobs]]
    seconds = 0.0
    for name, some in (("start", starting), ("corpus", tasks)):
        store = CorpusStore(folder / name)
        store.make_folders()
        began = time.perf_counter()
        if faults := run_tasks(store, some, settings, jobs):
            raise EngineError("; ".join(faults.values()))
        seconds = time.perf_counter() - began
    totals = store.load_index().totals
    stages = {
        name.removesuffix("_seconds"): round(1e3 * value / totals["pairs"], 3)
        for name, value in totals.items()
        if name.endswith("_seconds") and name != "total_seconds"
    }
    return round(totals["pairs"] / seconds, 2), stages


def _greys(video: Path, size: str) -> Grey:
    """The first grey frames of a video (F, H, W)."""
    return np.stack([to_grey(frame.rgb) for _, frame in itertools.islice(read_frames(video, size), 100)])


def _samples(folder: Path) -> list[Path]:
    made = write_samples(folder / "clips", classes=4, clips=2)
    return [made.directory / path for path in made.train]


def _quartiles(values: Sequence[float]) -> dict[str, float]:
    low, median, high = np.percentile(values, [25, 50, 75])
    return {"median": round(float(median), 2), "low": round(float(low), 2), "high": round(float(high), 2)}
