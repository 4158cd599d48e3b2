"""How long a run will take on this machine, and how large its shards will be: measured on a few frames."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import tempfile
import threading
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flowprep.codec.quantise import encode_pair
from flowprep.corpus.plan import Segment, Task
from flowprep.corpus.shard_writer import ShardWriter
from flowprep.engines import make_engine
from flowprep.executors.local import keep_idle
from flowprep.executors.worker import Worker, WorkerDied
from flowprep.extraction.pipeline import Pipeline
from flowprep.extraction.task import TaskOptions, store_segment
from flowprep.settings import Settings
from flowprep.system.processes import usable_cores
from flowprep.system.units import count_noun, format_bytes, format_duration

log = logging.getLogger(__name__)

MIN_PAIRS = 2000  # of a run that takes long enough for an estimate
SAMPLES = 4  # videos that are measured
SAMPLE_FRAMES = 6  # of each
MEASURE_SECONDS = 1.5  # after which no further video is measured
LIMIT_SECONDS = 10.0  # for all videos: one may hang in its decoder
COMPILE_SECONDS = 120.0  # for a process to start, and to compile the engine if this machine never did


@dataclass(frozen=True)
class Estimate:
    """What a run will need.

    Attributes:
        seconds: the duration on the cores of this machine, if they have no other work.
        core_seconds: the time of one core.
        bytes: the size of the shards.
        cores: cores of this machine that the run uses.
        videos, frames: how much was measured.
    """

    seconds: float
    core_seconds: float
    bytes: int
    cores: int
    videos: int
    frames: int

    def to_dict(self) -> dict[str, Any]:
        """Return the values for --json."""
        return {**vars(self), "seconds": round(self.seconds, 1), "core_seconds": round(self.core_seconds, 1)}

    def __str__(self) -> str:
        measured = f"{self.frames} frames of {count_noun(self.videos, 'video')}"
        return (
            f"about {format_duration(self.seconds)} on {count_noun(self.cores, 'core')} of this machine, and"
            f" {format_bytes(self.bytes)} of shards; measured on {measured}"
        )


def estimate_tasks(tasks: Sequence[Task], settings: Settings, cores: int | None = None) -> Estimate | None:
    """Measure a few frames of the videos of tasks, in a process of their own, and extrapolate.

    Args:
        tasks: the tasks of a run.
        settings: of the corpus.
        cores: that the run uses; all of this machine if None.

    Returns:
        None if the run is short, if its videos cannot be measured, or if that takes too long.
    """
    segments = [segment for task in tasks for segment in task.segments]
    total = sum(map(_length, segments))
    if total < MIN_PAIRS:
        return None
    worker = Worker()
    measured: list[Measured] = []
    try:
        with _killed_after(COMPILE_SECONDS, worker):
            worker.start()
            worker.call(warm_up, settings)
        with _killed_after(LIMIT_SECONDS, worker):
            measured = worker.call(measure, choose_samples(segments), settings)
    except WorkerDied:
        log.info("no estimate: a video needs too long, or ends the process that decodes it")
    except Exception as exc:  # the run itself reports it
        log.info("no estimate: %s", exc)
    finally:
        if measured:
            keep_idle(worker)
        else:
            worker.kill()
    if not measured:
        return None
    # Samples lie at equal distances in the pairs of the run. So each stands for the same number of pairs.
    cores = cores or usable_cores()
    core_seconds = total * sum(m.seconds / m.frames for m in measured) / len(measured)
    size = total * sum(m.bytes / m.frames for m in measured) / len(measured)
    frames = sum(m.frames for m in measured)
    return Estimate(core_seconds / cores, core_seconds, round(size), cores, len(measured), frames)


@contextmanager
def _killed_after(seconds: float, worker: Worker) -> Iterator[None]:
    """Kill a worker if the block takes longer."""
    timer = threading.Timer(seconds, worker.kill)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def choose_samples(segments: Sequence[Segment]) -> list[Segment]:
    """Return segments at equal distances in the pairs of all; of each video at most one."""
    ends = list(itertools.accumulate(map(_length, segments)))
    places = [bisect_right(ends, (2 * k + 1) * ends[-1] // (2 * SAMPLES)) for k in range(SAMPLES)]
    chosen: dict[str, Segment] = {}
    for place in places:
        chosen.setdefault(segments[place].path, segments[place])
    return list(chosen.values())


def _length(segment: Segment) -> int:
    """The expected pairs of a segment; 1 if its length is not known."""
    return max(1, segment.estimate)


@dataclass(frozen=True)
class Measured:
    """The frames of one video that were extracted, the processor time, and the bytes of their images."""

    frames: int
    seconds: float
    bytes: int


def warm_up(settings: Settings) -> None:
    """Load the engine and compile it, on a pair of small frames."""
    if settings.flow:
        frames = np.random.default_rng(0).integers(0, 255, (2, 64, 64)).astype(np.uint8)
        flow = make_engine(settings.engine, settings.tvl1).solve(frames, np.array([0]), np.array([1]))
        encode_pair(flow[0], settings)


def measure(segments: Sequence[Segment], settings: Settings) -> list[Measured]:
    """Extract the first frames of each video, and store nothing."""
    measured = []
    with tempfile.TemporaryDirectory(prefix="flowprep-") as folder:
        _extract(segments[0], settings, Path(folder))  # loads libraries
        began = time.perf_counter()
        for segment in segments:
            before = time.process_time(), time.perf_counter()
            frames, size = _extract(segment, settings, Path(folder))
            used = time.process_time() - before[0], time.perf_counter() - before[1]
            if frames:
                # Of all threads, and other processes do not count. A GPU works without the processor.
                seconds = max(used) if settings.engine == "cuda" else used[0]
                measured.append(Measured(frames, seconds, size))
            if time.perf_counter() - began > MEASURE_SECONDS:
                break
    return measured


def _extract(segment: Segment, settings: Settings, folder: Path) -> tuple[int, int]:
    """Return the number of frames and the bytes of their images and flow."""
    sample = dataclasses.replace(segment, segment=0, segments=1, first_frame=0, count=SAMPLE_FRAMES)
    with ShardWriter(folder / "sample.h5", settings, {}) as writer:
        pipeline = Pipeline(writer, settings, TaskOptions(accept_changed=True))
        record = store_segment(sample, writer, pipeline.write_segment)
    return record.frames, sum(record.bytes.values())
