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
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from flowprep.codec import decode, encode
from flowprep.corpus.index import load_index
from flowprep.engines import make_engine, resolve
from flowprep.engines.base import Engine
from flowprep.errors import UsageError
from flowprep.executors import default_jobs, make_corpus
from flowprep.flo import read_flo
from flowprep.samples import write_samples
from flowprep.settings import CODES, PRESETS, Settings, Tvl1Settings, default_preset
from flowprep.video import read_frames, read_image, to_grey

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
        threads: of the run with all cores; one per core if None.

    Returns:
        `machine`; `tvl1`; `ms_per_pair` of "ours" and "opencv" (OpenCV with its defaults), with the
        quartiles; `ratio` of the sums and its spread over pairs; `distance_px`, mean end-point distance to
        OpenCV's flow; `energy` with OpenCV's parameters, summed, as a multiple of OpenCV's;
        `pairs_per_second` with `threads` threads; `codes`, for each kind the `ratio` of float32 bytes to
        stored ones and the mean end-point error `error_px` after decoding; and `stages`, ms a pair of a
        whole extraction.

    Raises:
        UsageError: fewer than one pair, or the videos have none.
        VideoError: a video cannot be read.
    """
    if pairs < 1:
        raise UsageError(f"pairs is {pairs}; allowed: a whole number from 1")
    engine = resolve(engine)
    tvl1 = tvl1 or PRESETS[default_preset(engine)]
    threads = threads or default_jobs()
    defaults = PRESETS["opencv"]
    with tempfile.TemporaryDirectory(prefix="flowprep-bench-") as folder:
        videos = list(videos) or _samples(Path(folder))
        taken = [p for v in videos for p in _pairs(v, size, -(-pairs // len(videos)))][:pairs]
        if not taken:
            raise UsageError(f"no pair of frames in {', '.join(map(str, videos))}")
        ours, theirs = make_engine(engine, tvl1), make_engine("opencv", defaults)
        times, distances, energies, flows = [], [], [], []
        for a, b in [taken[0], *taken]:  # the first one twice: it compiles and fills caches
            frames = np.stack([a, b])
            (mine, ms), (other, other_ms) = (_timed(e, frames) for e in (ours, theirs))
            flows.append(mine)
            times.append((ms, other_ms))
            distances.append(float(np.hypot(*(mine - other)).mean()))
            energies.append((energy(a, b, mine, defaults), energy(a, b, other, defaults)))
        return {
            "machine": {
                "processor": _processor(),
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
            "pairs_per_second": _all_cores(make_engine(engine, tvl1, threads), taken),
            "codes": {codes: _fidelity(flows[1:], codes) for codes in CODES},
            "stages": _stages(videos, Settings(engine=engine, tvl1=tvl1, size=size), Path(folder)),
        }


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


def _fidelity(flows: Sequence[npt.NDArray[np.float32]], codes: str) -> dict[str, float]:
    """How much smaller flow is with these codes, and how far from what it was."""
    encoded = [encode(flow, codes) for flow in flows]
    errors = [np.hypot(*(decode(e) - flow)).mean() for e, flow in zip(encoded, flows, strict=True)]
    ratio = sum(flow.nbytes for flow in flows) / sum(e.nbytes for e in encoded)
    return {"ratio": round(ratio, 1), "error_px": round(float(np.mean(errors)), 4)}


def _timed(engine: Any, frames: Grey) -> tuple[npt.NDArray[np.float32], float]:
    """Flow of a pair, and the milliseconds that it took."""
    began = time.perf_counter()
    flow = engine.solve(frames, [0], [1])[0]
    return flow, 1e3 * (time.perf_counter() - began)


def _all_cores(solver: Engine, taken: Sequence[tuple[Grey, Grey]]) -> float:
    """Pairs per second with a pair per thread, over enough pairs to be at least a second's work."""
    shape = taken[0][0].shape
    frames = np.stack([f for pair in taken if pair[0].shape == shape for f in pair])
    first = np.arange(0, len(frames), 2)
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < 1:
        solver.solve(frames, first, first + 1)
        done += len(first)
    return round(done / (time.perf_counter() - began), 2)


def _stages(videos: Sequence[Path], settings: Settings, folder: Path) -> dict[str, float]:
    """Milliseconds a pair in each stage of `flowprep extract` in one process; stages overlap."""
    make_corpus(videos[:1], folder / "corpus", settings, jobs=1)
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
