"""Tasks on this machine: one process per core through joblib."""

from __future__ import annotations

import logging
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import joblib
from joblib.externals.loky.process_executor import TerminatedWorkerError

from flowprep.corpus.format import shard_path
from flowprep.corpus.index import recorded_tasks
from flowprep.extract import run_task
from flowprep.plan import Task
from flowprep.settings import Settings

log = logging.getLogger(__name__)

# Called with the pairs that tasks have done and the videos of finished tasks, taken and failed.
Progress = Callable[[int, int, int], None]

RESTARTS = 3  # times that workers may die without a task done in between
INTERVAL_SECONDS = 0.5


def run_tasks(
    corpus: Path, tasks: Sequence[Task], settings: Settings, jobs: int, progress: Progress | None = None
) -> dict[str, str]:
    """Run tasks in `jobs` processes, or in this one if that is 1.

    A task that raises leaves the others running, but for a fault of the disk, after which none is begun.
    When a worker process dies, the run starts again with what has no record.

    Returns:
        task -> what broke. Such tasks, and those not begun, are still pending.
    """
    pending = list(tasks)
    faults: dict[str, str] = {}
    restarts = 0
    with tempfile.TemporaryDirectory(prefix="flowprep-") as folder, _Watch(Path(folder), progress) as watch:
        while pending:
            try:
                faults.update(_run(corpus, pending, settings, min(jobs, len(pending)), Path(folder), watch))
                break
            except TerminatedWorkerError:
                done = recorded_tasks(corpus)
                left = [t for t in pending if t.id not in done and t.id not in faults]
                restarts = restarts + 1 if len(left) == len(pending) else 1
                pending = left
                log.warning("a worker process died; going on with the %d tasks that are left", len(left))
                if restarts > RESTARTS:
                    faults["workers"] = f"worker processes died {restarts} times in a row without a task done"
                    break
    return faults


def _run(
    corpus: Path, tasks: Sequence[Task], settings: Settings, jobs: int, folder: Path, watch: _Watch
) -> dict[str, str]:
    faults: dict[str, str] = {}
    stop = folder / "stop"
    calls = (joblib.delayed(_attempt)(corpus, task, settings, folder / task.id, stop) for task in tasks)
    # pre_dispatch keeps only few tasks with the workers, so that `stop` is soon obeyed
    parallel = joblib.Parallel(
        n_jobs=jobs, return_as="generator_unordered", pre_dispatch="2*n_jobs", batch_size=1
    )
    for task, videos, fault in parallel(calls):
        if fault:
            faults[task] = fault
        watch.finished(videos)
    return faults


def _attempt(
    corpus: Path, task: Task, settings: Settings, progress: Path, stop: Path
) -> tuple[str, list[str], str]:
    """Run a task in a worker. Returns its id, the status of its videos, and its fault or ""."""
    if stop.exists():
        return task.id, [], ""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # there is a process for each core already
    try:
        record: dict[str, Any] = run_task(corpus, task, settings, progress)
    except OSError as exc:
        stop.touch()  # a disk that is full or gone would fail every other task too
        return task.id, [], f"{exc} (while writing {shard_path(corpus, task.id)})"
    except Exception as exc:
        log.debug("task %s", task.id, exc_info=True)  # seen with one job; with more, its text must do
        return task.id, [], f"{type(exc).__name__}: {exc}"
    finally:
        cv2.setNumThreads(threads)
    return task.id, [v["status"] for v in record["videos"] if v["segment"] == 0], ""


class _Watch:
    """Tells `progress` what the tasks' progress files say, twice a second."""

    def __init__(self, folder: Path, progress: Progress | None) -> None:
        self._folder = folder
        self._progress = progress
        self._taken = self._failed = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def finished(self, videos: Sequence[str]) -> None:
        """Count the videos of a finished task."""
        self._failed += videos.count("failed")
        self._taken += len(videos) - videos.count("failed")

    def __enter__(self) -> _Watch:
        if self._progress:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        if self._progress:
            self._thread.join()
            self._tell()

    def _run(self) -> None:
        while not self._end.wait(INTERVAL_SECONDS):
            self._tell()

    def _tell(self) -> None:
        pairs = 0
        for path in self._folder.iterdir():
            with suppress(OSError, ValueError):  # not written yet, or just now
                pairs += int(path.read_text())
        if self._progress:
            self._progress(pairs, self._taken, self._failed)
