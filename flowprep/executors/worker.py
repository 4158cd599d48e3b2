"""A worker process, and what happens in it: one attempt of a task, its faults as values."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import cv2
from joblib.externals.loky.backend import get_context
from joblib.externals.loky.backend.reduction import dumps

from flowprep.corpus.format import SHARDS
from flowprep.corpus.plan import Segment, Task
from flowprep.corpus.records import TaskRecord
from flowprep.corpus.store import CorpusStore
from flowprep.extraction.task import TaskOptions, dry_run, run_task
from flowprep.settings import Settings
from flowprep.system.atomic import remove_leftovers
from flowprep.system.processes import owner

log = logging.getLogger(__name__)

GOODBYE_SECONDS = 5.0  # for a worker that ends by itself

T = TypeVar("T")

_loky = get_context("loky")

DEATHS = 3  # of workers over a task, until its videos are tried one by one; and of each video, then
# The cores are shared out already.
ONE_THREAD = dict.fromkeys(["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"], "1")
DRY_RUN = [
    sys.executable,
    "-c",
    "from flowprep.executors import worker; worker.dry_run_from_stdin()",
]


class Outcome(NamedTuple):
    """What an attempt came to.

    Attributes:
        task: its id.
        record: as it was written; None if there is a fault, or another process has or had the task.
        fault: what broke, or "".
        stop: it would break every other task, too.
    """

    task: str
    record: TaskRecord | None
    fault: str = ""
    stop: bool = False


class Job(NamedTuple):
    """A task to attempt.

    Attributes:
        task: one of the plan's.
        seen: the `record_stamp` of the task when it was found to be pending.
        device: the number of the GPU to use; the first one if None.
    """

    task: Task
    seen: int = 0
    device: int | None = None


def attempt(
    store: CorpusStore, settings: Settings, options: TaskOptions, progress: Path | None, job: Job
) -> Outcome:
    """Run a task in this process, if no other has it.

    Args:
        store: the corpus.
        settings: the plan's.
        options: how it is run.
        progress: a folder for a file that tells how far the task is.
        job: the task.
    """
    task = job.task
    opencv_threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with store.lease(task.id, job.seen) as deaths:
            if deaths is None:
                return Outcome(task.id, None)
            options = dataclasses.replace(
                options,
                accept_changed=options.accept_changed or job.seen != 0,
                device=options.device if job.device is None else job.device,
            )
            if deaths >= DEATHS:
                refused = _killers(store, task, settings, options)
                options = dataclasses.replace(options, refused=refused)
            record = run_task(store, task, settings, options, progress and progress / task.id)
            return Outcome(task.id, record)
    except OSError as exc:
        if store.record_stamp(task.id) != job.seen:  # this process slept, and who took over has it done
            return Outcome(task.id, None)
        return Outcome(task.id, None, f"{exc} (while writing {store.shard_path(task.id)})", stop=True)
    except Exception as exc:
        log.debug("task %s", task.id, exc_info=True)  # seen with one job; with more, its text must do
        return Outcome(task.id, None, f"{type(exc).__name__}: {exc}")
    finally:
        cv2.setNumThreads(opencv_threads)


def _killers(store: CorpusStore, task: Task, settings: Settings, options: TaskOptions) -> dict[str, str]:
    """Videos of a task that kill a process of their own every time, and what to say of them."""
    log.warning("task %s: its workers died %d times; trying its videos one by one", task.id, DEATHS)
    store.log(task.id, "trying its videos one by one")
    killers = {}
    for segment in task.segments:
        what = {
            "corpus": str(store.path),
            "task": task.id,
            "segment": dataclasses.asdict(segment),
            "settings": settings.to_dict(),
            "timeout_seconds": options.timeout_seconds,
            "scratch": options.scratch and str(options.scratch),
            "device": options.device,
        }
        for _ in range(DEATHS):
            # An interpreter of its own: also a worker that may have no child processes can start it.
            run = subprocess.run(DRY_RUN, input=json.dumps(what), text=True, env={**os.environ, **ONE_THREAD})
            if run.returncode >= 0:
                break
        else:
            killers[segment.id] = f"killed its worker {DEATHS} times, {_signal_name(-run.returncode)}"
        remove_leftovers(options.scratch or store.path / SHARDS)
    return killers


def dry_run_from_stdin() -> None:
    """Take a segment that standard input describes, and store nothing."""
    end_with_parent(os.getppid())
    what = json.load(sys.stdin)
    scratch = what["scratch"] and Path(what["scratch"])
    dry_run(
        CorpusStore(Path(what["corpus"])),
        what["task"],
        Segment(**what["segment"]),
        Settings.from_dict(what["settings"]),
        TaskOptions(
            timeout_seconds=what["timeout_seconds"],
            scratch=scratch,
            accept_changed=True,
            device=what["device"],
        ),
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class WorkerDied(Exception):
    """The process of a worker has ended, and what it was doing is lost."""


class Worker:
    """A process that calls functions, one at a time. It ends with the process that made it.

    A process of loky: a fresh interpreter, as `spawn` makes it, that needs no guard in the main module. Its
    pool is not used, as that may break when it is killed while it takes a call.

    Attributes:
        owner: its name, as leases and temporary files have it; "" before it is started.
    """

    def __init__(self) -> None:
        self.owner = ""
        self._here, self._there = _loky.Pipe()
        # A daemon, so that the interpreter does not wait for it when it ends.
        self._process = _loky.Process(
            target=_serve, args=(self._there, os.getpid()), env=ONE_THREAD, daemon=True
        )
        self._starting = threading.Lock()
        self._killed = False

    def start(self) -> None:
        """Start it, if it is not yet.

        Raises:
            WorkerDied: it was killed before.
        """
        with self._starting:
            if self._killed:
                raise WorkerDied
            if not self.owner:
                self._process.start()
                self.owner = owner(self._process.pid)
                self._there.close()  # else its end would not be noticed here

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function there and wait for what it returns, or raise what it raises.

        Raises:
            WorkerDied: it died, or was killed.
        """
        message = dumps((function, args))
        try:
            self._here.send_bytes(message)
            returned, value = pickle.loads(self._here.recv_bytes())
        except (EOFError, OSError) as exc:
            raise WorkerDied from exc
        if not returned:
            raise value
        result: T = value
        return result

    def end(self) -> None:
        """Let it end, as it waits for a call; what does not is killed with this process."""
        self._here.close()
        if self.owner:
            self._process.join(GOODBYE_SECONDS)

    def kill(self) -> None:
        """End it at once, or never start it."""
        with self._starting:
            self._killed = True
            if self.owner and self._process.exitcode is None:
                os.kill(self._process.pid, signal.SIGKILL)
                self._process.join()


def _serve(calls: Connection, parent: int) -> None:
    """Call what comes until nothing will."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent acts on it
    end_with_parent(parent)
    while True:
        try:
            message = calls.recv_bytes()
        except EOFError:
            return
        try:
            function, args = pickle.loads(message)
            answer = dumps((True, function(*args)))
        except Exception as exc:
            answer = dumps((False, exc))
        calls.send_bytes(answer)


def end_with_parent(parent: int) -> None:
    """End this process soon after its parent has; what it was doing is then lost."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
