"""The speed of flow on this machine: an engine and OpenCV in turn.

Machines are noisy and shared. So both engines compute the same pair directly after each other. The times of a
pair are medians. The speed-up is the ratio of both total times.
"""

from __future__ import annotations

import dataclasses
import itertools
import platform
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from flowprep.bench.cuda import CudaBenchmark, bench_cuda
from flowprep.bench.extraction import extraction_speed
from flowprep.bench.fidelity import Fidelity, Flow, Grey, fidelity, sample_pairs
from flowprep.doctor import processor_name
from flowprep.engines import make_engine, resolve
from flowprep.planning.inputs import spread, video_paths
from flowprep.presets import PRESETS, Tvl1Settings, default_preset, preset_name
from flowprep.settings import CODES, Settings
from flowprep.synthetic import write_samples
from flowprep.system.processes import usable_cores
from flowprep.video.decode import read_frames
from flowprep.video.frames import to_grey

_RATE_ROUNDS = 2  # of the engines with all threads
_CUDA_FRAMES = 100


@dataclass(frozen=True)
class Machine:
    """The machine of a measurement."""

    processor: str
    cores: int
    python: str

    @classmethod
    def current(cls) -> Machine:
        """This machine."""
        return cls(processor_name(), usable_cores(), platform.python_version())


@dataclass(frozen=True)
class Quartiles:
    """Median and quartiles of repeated measurements."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Quartiles:
        """The quartiles of the values, with two decimals."""
        low, median, high = (round(float(value), 2) for value in np.percentile(values, [25, 50, 75]))
        return cls(median, low, high)


@dataclass(frozen=True)
class FlowBenchmark:
    """The speed and the accuracy of an engine, beside OpenCV with its default parameters.

    Attributes:
        machine: the machine.
        engine: name of the engine.
        tvl1: its parameters.
        pairs: number of pairs.
        size: size of a frame, such as "341x256".
        ms_per_pair: milliseconds of "ours" and "opencv" on one thread.
        ratio: total time of OpenCV, divided by the total time of the engine.
        ratio_per_pair: the same by pair.
        distance_px: mean end-point distance to the flow of OpenCV, pixels.
        energy: TV-L1 energy with OpenCV's parameters, divided by the energy of OpenCV's flow.
        threads: number of threads, and of processes, of the next attribute.
        pairs_per_second: rates of "ours" and "opencv" with one pair per thread, and of a whole "extraction".
        codes: size and error of each quantisation.
        stages: milliseconds per pair of each stage of the extraction.
        cuda: the figures of `flowprep.bench.cuda`, for engine cuda only.
    """

    machine: Machine
    engine: str
    tvl1: Tvl1Settings
    pairs: int
    size: str
    ms_per_pair: Mapping[str, Quartiles]
    ratio: float
    ratio_per_pair: Quartiles
    distance_px: float
    energy: float
    threads: int
    pairs_per_second: Mapping[str, float]
    codes: Mapping[str, Fidelity]
    stages: Mapping[str, float]
    cuda: CudaBenchmark | None = None

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON values, and the name of the preset; `cuda` is left out if it is None."""
        values = {**dataclasses.asdict(self), "preset": preset_name(self.tvl1)}
        if self.cuda is None:
            del values["cuda"]
        return values


class _Comparison(NamedTuple):
    """One pair, computed by both engines."""

    flow: Flow
    ms: float
    opencv_ms: float
    distance: float
    energy: float
    opencv_energy: float


def bench(
    videos: Sequence[Path] = (),
    engine: str = "auto",
    *,
    tvl1: Tvl1Settings | None = None,
    size: str = "short:256",
    pairs: int = 12,
    threads: int | None = None,
) -> FlowBenchmark:
    """Time an engine and OpenCV, with its default parameters, on pairs of real frames.

    Args:
        videos: inputs as for an extraction; sample clips if empty.
        engine: name of the engine.
        tvl1: its parameters; None for its default preset.
        size: as `Settings.size`.
        pairs: number of pairs, spread over the videos.
        threads: number of threads and of processes; None for one per core.

    Raises:
        UsageError: `pairs` is under 1, or the videos have no pairs.
        VideoError: a video cannot be read.
    """
    engine = resolve(engine)
    tvl1 = tvl1 or PRESETS[default_preset(engine)]
    threads = threads or usable_cores()
    with tempfile.TemporaryDirectory(prefix="flowprep-bench-") as folder:
        videos = spread(video_paths(videos), pairs) if videos else sample_clips(Path(folder))
        sampled = sample_pairs(videos, size, pairs)
        compared = _compare(sampled, make_engine(engine, tvl1))
        rates = _rates({"ours": (engine, tvl1), "opencv": ("opencv", PRESETS["opencv"])}, sampled, threads)
        settings = Settings(engine=engine, tvl1=tvl1, size=size)
        extraction = extraction_speed(videos, settings, Path(folder), threads)
        times, opencv_times = [pair.ms for pair in compared], [pair.opencv_ms for pair in compared]
        energy = sum(pair.energy for pair in compared) / sum(pair.opencv_energy for pair in compared)
        flows = [pair.flow for pair in compared]
        return FlowBenchmark(
            machine=Machine.current(),
            engine=engine,
            tvl1=tvl1,
            pairs=len(sampled),
            size=f"{sampled[0][0].shape[1]}x{sampled[0][0].shape[0]}",
            ms_per_pair={"ours": Quartiles.of(times), "opencv": Quartiles.of(opencv_times)},
            ratio=round(sum(opencv_times) / sum(times), 2),
            ratio_per_pair=Quartiles.of([pair.opencv_ms / pair.ms for pair in compared]),
            distance_px=round(float(np.mean([pair.distance for pair in compared])), 4),
            energy=round(energy, 5),
            threads=threads,
            pairs_per_second={**rates, "extraction": extraction.pairs_per_second},
            codes={codes: fidelity(flows, codes=codes) for codes in CODES},
            stages=extraction.stages,
            cuda=bench_cuda(_first_frames(videos[0], size), tvl1) if engine == "cuda" else None,
        )


def bench_gpu(videos: Sequence[Path], size: str, tvl1: Tvl1Settings) -> CudaBenchmark:
    """Time engine cuda on the first GPU, as `flowprep.bench.cuda.bench_cuda` does.

    Args:
        videos: inputs as for an extraction; only the first video is used. A sample clip is
            used if there are none.
        size: as `Settings.size`.
        tvl1: parameters of TV-L1.
    """
    with tempfile.TemporaryDirectory(prefix="flowprep-bench-") as folder:
        videos = video_paths(videos) if videos else sample_clips(Path(folder))
        return bench_cuda(_first_frames(videos[0], size), tvl1)


def _compare(pairs: Sequence[tuple[Grey, Grey]], engine: Any) -> list[_Comparison]:
    """Compute each pair by the engine and by OpenCV, directly after each other."""
    defaults = PRESETS["opencv"]
    opencv = make_engine("opencv", defaults)
    results = []
    for first, second in [pairs[0], *pairs]:  # the first pair twice: it compiles and fills the caches
        frames = np.stack([first, second])
        flow, ms = _timed(engine, frames)
        opencv_flow, opencv_ms = _timed(opencv, frames)
        results.append(
            _Comparison(
                flow,
                ms,
                opencv_ms,
                float(np.hypot(*(flow - opencv_flow)).mean()),
                energy(first, second, flow, defaults),
                energy(first, second, opencv_flow, defaults),
            )
        )
    return results[1:]


def energy(first: Grey, second: Grey, flow: npt.NDArray[np.float32], tvl1: Tvl1Settings) -> float:
    """The TV-L1 energy of a flow; lower is better.

    It is the sum of lambda |I1(x + u) - I0(x)| + |grad u1| + |grad u2| over all pixels (Zach, Pock, Bischof
    2007, equation 3), with forward differences and a bicubic warp.

    Args:
        first, second: (H, W) grey images, 0-255.
        flow: (2, H, W), pixels.
        tvl1: parameters; only lambda is used.
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


def _timed(engine: Any, frames: Grey) -> tuple[Flow, float]:
    """Flow of a pair, and the milliseconds of its computation."""
    began = time.perf_counter()
    flow = engine.solve(frames, [0], [1])[0]
    return flow, 1e3 * (time.perf_counter() - began)


def _rates(
    solvers: dict[str, tuple[str, Tvl1Settings]], sampled: Sequence[tuple[Grey, Grey]], threads: int
) -> dict[str, float]:
    """Pairs per second of each engine with one pair per thread, the engines in turn."""
    shape = sampled[0][0].shape
    same_size = [pair for pair in sampled if pair[0].shape == shape]
    pairs = [same_size[i % len(same_size)] for i in range(max(len(same_size), 2 * threads))]
    frames = np.stack([frame for pair in pairs for frame in pair])
    first = np.arange(0, len(frames), 2)
    engines = {name: make_engine(*solver, threads) for name, solver in solvers.items()}
    seconds = dict.fromkeys(engines, 0.0)
    for _ in range(_RATE_ROUNDS):
        for name, engine in engines.items():
            began = time.perf_counter()
            engine.solve(frames, first, first + 1)
            seconds[name] += time.perf_counter() - began
    return {name: round(_RATE_ROUNDS * len(first) / total, 2) for name, total in seconds.items()}


def _first_frames(video: Path, size: str) -> Grey:
    """The first grey frames of a video, (F, H, W)."""
    stream = itertools.islice(read_frames(video, size), _CUDA_FRAMES)
    return np.stack([to_grey(frame.rgb) for _, frame in stream])


def sample_clips(folder: Path) -> list[Path]:
    """Write some synthetic clips to a folder."""
    samples = write_samples(folder / "clips", classes=4, clips=2)
    return [samples.directory / path for path in samples.train]
