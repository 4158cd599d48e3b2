"""The speed of whole extractions, and the time of their stages."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from flowprep.corpus.plan import Segment, Task
from flowprep.corpus.store import CorpusStore
from flowprep.errors import EngineError
from flowprep.executors.base import RunOptions
from flowprep.executors.run import run_tasks
from flowprep.settings import Settings

MAX_PAIRS = 200  # of each video


class ExtractionSpeed(NamedTuple):
    """The speed of an extraction.

    Attributes:
        pairs_per_second: the rate of all processes together.
        stages: milliseconds per pair of each stage. "jpeg" encodes the frames; "codes" quantises the flow and
            encodes it.
    """

    pairs_per_second: float
    stages: dict[str, float]


def extraction_speed(videos: Sequence[Path], settings: Settings, folder: Path, jobs: int) -> ExtractionSpeed:
    """Extract videos again and again, at most `MAX_PAIRS` pairs of each.

    Args:
        videos: video files.
        settings: of the corpus.
        folder: an empty folder for two corpora.
        jobs: number of processes. They are started before the clock.

    Raises:
        EngineError: an extraction failed.
    """
    tasks = [
        Task(f"{i:04d}", (Segment(f"{i:04d}", str(video), video.name, "", 0, count=MAX_PAIRS),))
        for i, video in zip(range(max(len(videos), 4 * jobs)), itertools.cycle(videos), strict=False)
    ]
    first_pairs = [Task(task.id, (replace(task.segments[0], count=1),)) for task in tasks[: 2 * jobs]]
    _run(CorpusStore(folder / "start"), first_pairs, settings, jobs)  # starts the processes
    store = CorpusStore(folder / "corpus")
    seconds = _run(store, tasks, settings, jobs)
    totals = store.load_index().totals
    stages = {
        name.removesuffix("_seconds"): round(1e3 * value / totals["pairs"], 3)
        for name, value in totals.items()
        if name.endswith("_seconds") and name != "total_seconds"
    }
    return ExtractionSpeed(round(totals["pairs"] / seconds, 2), stages)


def _run(store: CorpusStore, tasks: Sequence[Task], settings: Settings, jobs: int) -> float:
    """Run the tasks. Returns the seconds."""
    store.make_folders()
    began = time.perf_counter()
    if faults := run_tasks(store, tasks, settings, RunOptions(jobs=jobs)).faults:
        raise EngineError("; ".join(faults.values()))
    return time.perf_counter() - began
