"""A worker process, and what happens in it: one attempt of a task, its faults as values."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import cv2
from joblib.externals.loky.process_executor import ProcessPoolExecutor

from flowprep.corpus.files import owner, remove_leftovers
from flowprep.corpus.format import SHARDS, shard_path
from flowprep.corpus.lease import claimed, record_stamp
from flowprep.extract import Conditions, rehearse, run_task
from flowprep.plan import Segment, Task
from flowprep.settings import Settings

log = logging.getLogger(__name__)

T = TypeVar("T")

DEATHS = 3  # of workers over a task, until its videos are tried one by one; and of each video, then
# The cores are shared out already.
ONE_THREAD = dict.fromkeys(["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"], "1")
REHEARSAL = [sys.executable, "-c", "from flowprep.executors.worker import rehearsal; rehearsal()"]


class Outcome(NamedTuple):
    """What an attempt came to.

    Attributes:
        task: its id.
        record: as it was written; None if there is a fault, or another process has or had the task.
        fault: what broke, or "".
        stop: it would break every other task, too.
    """

    task: str
    record: dict[str, Any] | None
    fault: str = ""
    stop: bool = False


class Job(NamedTuple):
    """A task to attempt, and the `record_stamp` that it had when it was found to be pending."""

    task: Task
    seen: int = 0


def attempt(
    corpus: Path, settings: Settings, conditions: Conditions, progress: Path | None, job: Job
) -> Outcome:
    """Run a task in this process, if no other has it.

    Args:
        corpus: the corpus folder.
        settings: the plan's.
        conditions: how it is run.
        progress: a folder for a file that tells how far the task is.
        job: the task.
    """
    task = job.task
    opencv_threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with claimed(corpus, task.id, job.seen) as deaths:
            if deaths is None:
                return Outcome(task.id, None)
            conditions = dataclasses.replace(conditions, changed=conditions.changed or job.seen != 0)
            if deaths >= DEATHS:
                refused = _killers(corpus, task, settings, conditions)
                conditions = dataclasses.replace(conditions, refused=refused)
            record = run_task(corpus, task, settings, conditions, progress and progress / task.id)
            return Outcome(task.id, record)
    except OSError as exc:
        if record_stamp(corpus, task.id) != job.seen:  # this process slept, and who took over has it done
            return Outcome(task.id, None)
        return Outcome(task.id, None, f"{exc} (while writing {shard_path(corpus, task.id)})", stop=True)
    except Exception as exc:
        log.debug("task %s", task.id, exc_info=True)  # seen with one job; with more, its text must do
        return Outcome(task.id, None, f"{type(exc).__name__}: {exc}")
    finally:
        cv2.setNumThreads(opencv_threads)


def _killers(corpus: Path, task: Task, settings: Settings, conditions: Conditions) -> dict[str, str]:
    """Videos of a task that kill a process of their own every time, and what to say of them."""
    log.warning("task %s: its workers died %d times; trying its videos one by one", task.id, DEATHS)
    killers = {}
    for segment in task.segments:
        what = {
            "corpus": str(corpus),
            "task": task.id,
            "segment": dataclasses.asdict(segment),
            "settings": settings.to_dict(),
            "timeout_seconds": conditions.timeout_seconds,
            "scratch": conditions.scratch and str(conditions.scratch),
        }
        for _ in range(DEATHS):
            # An interpreter of its own: also a worker that may have no child processes can start it.
            run = subprocess.run(
                REHEARSAL, input=json.dumps(what), text=True, env={**os.environ, **ONE_THREAD}
            )
            if run.returncode >= 0:
                break
        else:
            killers[segment.id] = f"killed its worker {DEATHS} times, {_signal_name(-run.returncode)}"
        remove_leftovers(conditions.scratch or corpus / SHARDS)
    return killers


def rehearsal() -> None:
    """Take a segment that standard input describes, and store nothing."""
    end_with_parent(os.getppid())
    what = json.load(sys.stdin)
    scratch = what["scratch"] and Path(what["scratch"])
    rehearse(
        Path(what["corpus"]),
        what["task"],
        Segment(**what["segment"]),
        Settings.from_dict(what["settings"]),
        Conditions(timeout_seconds=what["timeout_seconds"], scratch=scratch, changed=True),
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class Worker:
    """A process that calls functions, one at a time. It ends with the process that made it.

    Attributes:
        owner: its name, as leases and temporary files have it.

    Raises:
        TerminatedWorkerError: (of all methods) it died.
    """

    def __init__(self) -> None:
        self._executor = ProcessPoolExecutor(
            max_workers=1, env=ONE_THREAD, initializer=_begin, initargs=(os.getpid(),)
        )
        self.owner = ""

    def start(self) -> None:
        """Wait until it runs."""
        if not self.owner:
            self.owner = self.call(owner)

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function there and wait for what it returns."""
        result: T = self._executor.submit(function, *args).result()
        return result

    def kill(self) -> None:
        """End it at once."""
        self._executor.shutdown(kill_workers=True)


def _begin(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent acts on it
    end_with_parent(parent)


def end_with_parent(parent: int) -> None:
    """End this process soon after its parent has; what it was doing is then lost."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
