"""A run: tasks to an executor until each is done, here or by another process that has claimed it."""

from __future__ import annotations

import dataclasses
import logging
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from flowprep.corpus.plan import Task
from flowprep.corpus.store import CorpusStore
from flowprep.engines.cuda.driver import chosen_gpus
from flowprep.errors import UsageError
from flowprep.executors import local
from flowprep.executors.progress import Progress, Watch
from flowprep.executors.worker import Job, Outcome, attempt
from flowprep.extraction.task import TaskOptions
from flowprep.settings import Settings
from flowprep.system.processes import owner

log = logging.getLogger(__name__)

# What an executor is: calls a function for each of some jobs, somewhere, and yields what it returns.
Executor = Callable[[Callable[[Job], Outcome], Sequence[Job]], Generator[Outcome, None, None]]

# Decoding, codes and JPEG hold the interpreter's lock for about a third of their time, so that one process
# feeds a GPU too little; and each has a context of its own in the GPU's memory, so that there cannot be many.
PROCESSES_A_GPU = 8

POLL_SECONDS = 2.0
GRACE_SECONDS = 7.0  # from a signal to the end, however busy this process is


def run_tasks(
    store: CorpusStore,
    tasks: Sequence[Task],
    settings: Settings,
    jobs: int,
    progress: Progress | None = None,
    *,
    options: TaskOptions | None = None,
    metrics: Path | None = None,
    executor: Executor | None = None,
    devices: str | None = None,
) -> dict[str, str]:
    """Run tasks on `jobs` cores: a process for each, or one for each task and its threads if tasks are few.

    A task that raises leaves the others running, but for a fault of the disk, after which none is begun.
    Tasks that other processes have claimed are waited for, and taken over if those die. SIGINT and SIGTERM
    drop what is running, with its files.

    Args:
        store: the corpus.
        tasks: of its plan.
        settings: the plan's.
        jobs: cores of this machine; without meaning for another executor.
        progress: told how far the run is.
        options: how a task is run.
        metrics: a file that is kept up to date in the text format of Prometheus.
        executor: where the tasks run; None for this machine.
        devices: GPUs of this machine for engine cuda, such as "0,1"; all of them if None or "all".

    Returns:
        task -> what broke. Such tasks, and those not begun, are still pending.

    Raises:
        KeyboardInterrupt: by a signal; its name is the argument.
    """
    if devices and settings.engine != "cuda":
        raise UsageError(
            f"devices is {devices}, and engine {settings.engine} uses no GPU; allowed: engine cuda"
        )
    options = options or TaskOptions()
    done = store.recorded_tasks()
    todo = [Job(t, store.record_stamp(t.id) if t.id in done else 0) for t in tasks]
    if executor is None:
        gpus = chosen_gpus(devices) if settings.flow and settings.engine == "cuda" else ()
        processes = max(1, min(jobs, len(todo), PROCESSES_A_GPU * len(gpus) or jobs))
        options = dataclasses.replace(options, threads=max(1, jobs // processes))
        executor = partial(local.run, processes=processes, killed=store.release, devices=gpus)
    faults: dict[str, str] = {}
    with (
        _signals(store),
        tempfile.TemporaryDirectory(prefix="flowprep-") as folder,
        Watch(Path(folder), progress, metrics) as watch,
    ):
        call = partial(attempt, store, settings, options, Path(folder))
        while todo:
            left = {job.task.id: job for job in todo}
            # Closed here also when a signal comes while an outcome is dealt with: what is running is dropped.
            with closing(executor(call, todo)) as outcomes:
                for outcome in outcomes:
                    if outcome.fault:
                        faults[outcome.task] = outcome.fault
                        watch.broke()
                    if outcome.stop:
                        left = {}
                    if outcome.record or outcome.fault:
                        left.pop(outcome.task, None)
                    if outcome.record:
                        watch.finished(outcome.record)
            todo = _wait(store, list(left.values()))
    return faults


def _wait(store: CorpusStore, held: list[Job]) -> list[Job]:
    """Wait while all of some tasks are claimed by living processes; then return what is left.

    Only one is looked at again and again, and each process draws its own, so that a thousand processes that
    wait for the last tasks do not wear out the file system.
    """
    random.shuffle(held)
    while held:
        if store.record_stamp(held[-1].task.id) != held[-1].seen:
            held.pop()
        elif store.is_leased(held[-1].task.id):
            log.info("waiting for task %s, which another process has claimed", held[-1].task.id)
            time.sleep(POLL_SECONDS)
        else:
            return held
    return []


@contextmanager
def _signals(store: CorpusStore) -> Iterator[None]:
    """Turn SIGINT and SIGTERM into KeyboardInterrupt, once; where that is not heard, end the process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ended = threading.Event()

    def give_up() -> None:
        if not ended.wait(GRACE_SECONDS):
            store.release(owner())
            print("error: stopped in the middle of a task, which is dropped", file=sys.stderr, flush=True)
            os._exit(1)

    def interrupt(number: int, _: FrameType | None) -> None:
        for name in before:
            signal.signal(name, signal.SIG_IGN)  # cleaning up is not interrupted
        threading.Thread(target=give_up, daemon=True).start()
        raise KeyboardInterrupt(signal.Signals(number).name)

    before: dict[signal.Signals, Any] = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    for name in before:
        signal.signal(name, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        store.release(owner())  # a signal between making a lease and holding it
        raise
    finally:
        ended.set()
        for name, handler in before.items():
            signal.signal(name, handler)
