"""What executors cost: runs of the same tasks, against the tasks alone, one after the other in one process.

python -m tests.faults.efficiency [VIDEOS ROUNDS]   48 and 3 if not given; some 12 minutes of two quiet cores

Each round runs all ways, one after the other, into new corpora. Printed are the medians over the rounds:

seconds    of the tasks alone, their sum; of a run, all of it
start      seconds of it before the first task begins, of workers or a Dask cluster, and behind the last one
overhead   processes x seconds / the tasks' sum alone - 1: what of the machine's time was lost in all, also
           because two processes share its memory and clock
executor   processes x (seconds - start) / the sum of what the tasks took in that very run - 1: what was lost
           between the tasks, where a process makes itself ready for its first and has nothing left to do
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import cv2

from flowprep.corpus.store import CorpusStore
from flowprep.extraction.task import TaskOptions, run_task
from tests.support.faults import FLOWPREP
from tests.support.videos import write_video

OPTIONS = ["--size", "source", "--preset", "fast", "--engine", "cpu", "--shard-pairs", "60"]
FRAMES, SIZE = 61, (340, 256)  # a task a video, of some seconds
WAYS = {
    "1 local worker": (1, ["--jobs", "1"]),
    "2 local workers": (2, ["--jobs", "2"]),
    "Dask, 2 processes": (2, ["--executor", "dask", "--local-cluster", "2"]),
}


def alone(videos: Path, corpus: Path) -> float:
    """Seconds of all tasks, one after the other in this process, without executor, lease or index."""
    subprocess.run([*FLOWPREP, "plan", videos, "--out", corpus, *OPTIONS], check=True, capture_output=True)
    plan = CorpusStore(corpus).read_plan()
    began = time.perf_counter()
    for task in plan.tasks:
        run_task(CorpusStore(corpus), task, plan.settings, TaskOptions())
    return time.perf_counter() - began


def run(videos: Path, corpus: Path, how: list[str]) -> tuple[float, float, float]:
    """Seconds of a run, of its start and end, and the sum of what its tasks took."""
    command = [*FLOWPREP, "extract", videos, "--out", corpus, *OPTIONS, *how, "--json"]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    facts = json.loads(ran.stdout)
    lines = CorpusStore(corpus).read_logs()
    first, last = (datetime.fromisoformat(lines[k].split()[0].removesuffix("Z")) for k in (0, -1))
    seconds = facts["run"]["seconds"]
    return seconds, seconds - (last - first).total_seconds(), facts["totals"]["total_seconds"]


def main(number: int, rounds: int) -> None:
    """Measure and print."""
    cv2.setNumThreads(1)  # as in a worker
    found: dict[str, list[tuple[float, float, float, float]]] = {way: [] for way in WAYS}
    sums: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for k in range(number):
            write_video(root / "in" / f"{k:03d}.mp4", FRAMES, size=SIZE, seed=k % 4)
        alone(root / "in", root / "warm")  # the solver is compiled, the files are in memory
        for n in range(rounds):
            sums.append(alone(root / "in", root / f"{n}-alone"))
            for way, (processes, how) in WAYS.items():
                seconds, start, tasks = run(root / "in", root / f"{n}-{way}", how)
                overhead = processes * seconds / sums[-1] - 1
                found[way].append((seconds, start, overhead, processes * (seconds - start) / tasks - 1))
    print(f"{number} tasks of {FRAMES - 1} pairs, {SIZE[0]}x{SIZE[1]}, medians of {rounds} rounds")
    print(f"{'tasks alone':20}{statistics.median(sums):9.1f} s")
    for way, rows in found.items():
        seconds, start, overhead, executor = map(statistics.median, zip(*rows, strict=True))
        print(f"{way:20}{seconds:9.1f} s{start:9.1f} s start{overhead:9.1%} overhead{executor:9.1%} executor")


if __name__ == "__main__":
    main(*(map(int, sys.argv[1:]) if sys.argv[1:] else (48, 3)))
