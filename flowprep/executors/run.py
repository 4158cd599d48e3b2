"""A run: it gives tasks to an executor until each is done, here or by another process that leased it."""

from __future__ import annotations

import dataclasses
import errno
import logging
import os
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

from flowprep.corpus.plan import Task
from flowprep.corpus.store import CorpusStore
from flowprep.engines import engine_class, gpu_fault
from flowprep.engines.cuda.driver import chosen_gpus
from flowprep.errors import EngineError, UsageError
from flowprep.executors.attempt import attempt_task
from flowprep.executors.base import DEFAULT_RUN, Attempt, Executor, Job, RunOptions, RunResult
from flowprep.executors.local import LocalExecutor
from flowprep.executors.progress import ProgressReporter
from flowprep.extraction.stored import pairs_to_compute
from flowprep.extraction.task import TaskOptions
from flowprep.settings import Settings
from flowprep.system.processes import owner, usable_cores
from flowprep.system.progress import Progress, no_progress
from flowprep.system.signals import end_now, signals_as_exceptions, stopped

log = logging.getLogger(__name__)

# Decoding, quantisation and JPEG hold the interpreter's lock for about a third of their time. So one process
# is too few for a GPU. Each process has its own context in the memory of the GPU, so there cannot be many.
PROCESSES_PER_GPU = 8

POLL_SECONDS = 2.0
GRACE_SECONDS = 7.0  # from a signal to the end of this process, however busy it is


def check_run(options: RunOptions, settings: Settings) -> None:
    """Check what can be checked before a plan is written: a request that is refused leaves none.

    Args:
        options: of the run.
        settings: of the corpus.

    Raises:
        UsageError: `options` and `settings` contradict each other, or the cluster cannot be used.
        EngineError, SettingsError: this machine is to run the engine, and cannot.
        FileNotFoundError: the folder of the metrics does not exist.
    """
    _check_devices(options, settings)
    if options.metrics and not options.metrics.absolute().parent.is_dir():
        folder = options.metrics.absolute().parent
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
    if options.executor == "dask":
        from flowprep.executors.dask import check_dask

        check_dask(options)
    elif settings.flow:
        engine_class(settings.engine)
        if settings.engine == "cuda":
            if fault := gpu_fault():
                raise EngineError(fault)
            chosen_gpus(options.devices)


def _check_devices(options: RunOptions, settings: Settings) -> None:
    if options.devices and (settings.engine != "cuda" or not settings.flow):
        uses = f"engine {settings.engine}" if settings.flow else "a corpus without flow"
        raise UsageError(f"--devices is {options.devices}, and {uses} uses no GPU; allowed: --engine cuda")


def run_tasks(
    store: CorpusStore,
    tasks: Sequence[Task],
    settings: Settings,
    options: RunOptions = DEFAULT_RUN,
    progress: Progress = no_progress,
    executor: Executor | None = None,
) -> RunResult:
    """Run tasks until each is done.

    On this machine there is one process for each core. If there are fewer tasks than cores, there is one
    process for each task, with several threads. An error ends its task only. But after an error of the disk,
    no further task begins. Tasks that other processes have leased are waited for. If such a process dies, its
    task is taken over. SIGINT and SIGTERM drop the running tasks, with their files.

    Args:
        store: the corpus.
        tasks: tasks of its plan.
        settings: the settings of the plan.
        options: where and how the tasks run.
        progress: called with the pairs done and to do.
        executor: runs the tasks; this machine if None.

    Raises:
        KeyboardInterrupt: by a signal; its name is the argument.
        UsageError: `options` names GPUs that the engine does not use, or that do not exist.
    """
    began = time.monotonic()
    _check_devices(options, settings)
    recorded = store.recorded_tasks()
    jobs = [Job(task, store.record_stamp(task.id) if task.id in recorded else 0) for task in tasks]
    task_options = options.task_options()
    if executor is None:
        executor, task_options = _local_executor(store, len(jobs), settings, options, task_options)
    faults: dict[str, str] = {}
    expected_pairs = sum(pairs_to_compute(store, job.task) if job.seen else job.task.estimate for job in jobs)
    with (
        _signals_as_exceptions(store),
        tempfile.TemporaryDirectory(prefix="flowprep-") as folder,
        ProgressReporter(
            Path(folder), progress if tasks else no_progress, expected_pairs, options.metrics
        ) as reporter,
    ):
        attempt = partial(attempt_task, store, settings, task_options, Path(folder))
        while jobs:
            jobs = _wait_for_others(store, _run_jobs(executor, attempt, jobs, reporter, faults))
        pairs = reporter.pairs()
    return RunResult(faults, pairs, reporter.stored, reporter.failed, time.monotonic() - began)


def _local_executor(
    store: CorpusStore, jobs: int, settings: Settings, options: RunOptions, task_options: TaskOptions
) -> tuple[LocalExecutor, TaskOptions]:
    """Return an executor for this machine, and the options of tasks with their share of the cores."""
    cores = options.jobs or usable_cores()
    gpus = chosen_gpus(options.devices) if settings.flow and settings.engine == "cuda" else ()
    processes = max(1, min(cores, jobs, PROCESSES_PER_GPU * len(gpus) or cores))
    task_options = dataclasses.replace(task_options, threads=max(1, cores // processes))
    return LocalExecutor(processes, store.release, gpus), task_options


def _run_jobs(
    executor: Executor,
    attempt: Attempt,
    jobs: Sequence[Job],
    reporter: ProgressReporter,
    faults: dict[str, str],
) -> list[Job]:
    """Run jobs once. Add errors to `faults`. Return the jobs that other processes have."""
    remaining = {job.task.id: job for job in jobs}
    # A signal can come while an outcome is handled. Then `closing` drops the running tasks.
    with closing(executor(attempt, jobs)) as outcomes:
        for outcome in outcomes:
            if outcome.fault:
                faults[outcome.task] = outcome.fault
                reporter.add_fault()
            if outcome.stop:
                remaining = {}
            if outcome.record or outcome.fault:
                remaining.pop(outcome.task, None)
            if outcome.record:
                reporter.add_record(outcome.record)
    return list(remaining.values())


def _wait_for_others(store: CorpusStore, jobs: list[Job]) -> list[Job]:
    """Wait while living processes hold the leases of all these jobs. Return the jobs that are still to do.

    Only one lease is polled, and each process chooses it at random. So a thousand processes that wait for the
    last tasks do not overload the file system.
    """
    random.shuffle(jobs)
    while jobs:
        task, seen, _ = jobs[-1]
        if store.record_stamp(task.id) != seen:
            jobs.pop()
        elif store.is_leased(task.id):
            log.info("waiting for task %s, which another process has leased", task.id)
            time.sleep(POLL_SECONDS)
        else:
            return jobs
    return []


@contextmanager
def _signals_as_exceptions(store: CorpusStore) -> Iterator[None]:
    """Raise KeyboardInterrupt on the first SIGINT or SIGTERM. If that is not handled, end the process."""

    def end_process() -> None:
        store.release(owner())
        end_now("stopped during a task, which is dropped")

    with signals_as_exceptions(GRACE_SECONDS, end_process):
        try:
            yield
        except BaseException:
            if stopped():
                store.release(owner())  # the signal may have come while a lease was being acquired
            raise
