"""Tasks on a Dask cluster, as futures: an existing cluster, one on this machine, or one of Slurm jobs.

The tasks of a lost worker run again on another. Leases keep each task with one process, as on one machine.
The quarantine of tasks that kill their workers is also the same: see attempt.py.
"""

from __future__ import annotations

import logging
import socket
import time
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from flowprep.errors import ClusterError, UsageError
from flowprep.executors.base import MAX_DEATHS, Attempt, Job, Outcome, RunOptions
from flowprep.executors.dask_workers import Workers, check_slurm_configured, local_workers, slurm_workers

log = logging.getLogger(__name__)

MAX_SUBMITTED = 1000  # tasks that the scheduler holds at the same time
CONNECT_SECONDS = 30
POLL_SECONDS = 0.02
IDLE_SECONDS = 10.0  # without a worker, until a warning


def check_dask(options: RunOptions) -> None:
    """Check what can be checked before a cluster is used.

    Raises:
        UsageError: a library is not installed, no scheduler answers, or the configuration of Slurm jobs is
            not complete.
    """
    distributed = _library("distributed")
    if options.scheduler:
        try:
            address = distributed.comm.get_address_host_port(options.scheduler)
            socket.create_connection(address, timeout=CONNECT_SECONDS).close()
        except NotImplementedError:  # a protocol without hosts and ports
            pass
        except (OSError, ValueError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else exc
            raise UsageError(
                f"no Dask scheduler answers at --scheduler {options.scheduler}: {reason}. `dask scheduler`"
                " prints the address of the one that it starts, such as tcp://host:8786"
            ) from exc
    if options.slurm:
        _library("dask_jobqueue")
        if fault := check_slurm_configured():
            raise UsageError(fault)


@contextmanager
def connect_cluster(options: RunOptions, logs: Path, gpu: bool = False) -> Iterator[DaskExecutor]:
    """Connect to a cluster. A new cluster ends with the block.

    Args:
        options: names the cluster.
        logs: folder for the logs of the workers of a new cluster.
        gpu: submit tasks only to workers that were started with `--resources GPU=1`.

    Raises:
        UsageError: Dask is not installed, or no scheduler answers.
        ClusterError: a new cluster does not start.
    """
    check_dask(options)
    # Distributed reports every lost worker with tracebacks. This program reports them itself.
    level = "warning" if log.isEnabledFor(logging.INFO) else "critical"
    _library("dask").config.set({"logging.distributed": level})  # read when distributed is imported
    distributed = _library("distributed")
    logging.getLogger("distributed").setLevel(level.upper())
    with ExitStack() as stack:
        address: Any = options.scheduler
        workers: Workers | None = None
        if not address:
            address = stack.enter_context(_new_scheduler(options))
            if options.slurm:
                workers = stack.enter_context(slurm_workers(address.job_script(), options.slurm, logs))
            else:
                count = options.local_cluster or 1
                starting = local_workers(address.scheduler_address, count, gpu, logs)
                workers = stack.enter_context(starting)
        try:
            client = stack.enter_context(distributed.Client(address, timeout=CONNECT_SECONDS))
        except (OSError, ValueError) as exc:
            raise UsageError(f"no Dask scheduler answers at {options.scheduler}: {exc}") from exc
        yield DaskExecutor(client, {"GPU": 1} if gpu else {}, workers)


@contextmanager
def _new_scheduler(options: RunOptions) -> Iterator[Any]:
    """Start a scheduler in this process, without workers."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a port that is in use
            if options.slurm:
                cluster = _library("dask_jobqueue").SLURMCluster(n_workers=0)
            else:
                cluster = _library("distributed").LocalCluster(n_workers=0, dashboard_address=":0")
    except Exception as exc:
        raise ClusterError(f"Dask's scheduler does not start: {' '.join(str(exc).split())}") from exc
    with cluster:
        yield cluster


@dataclass(frozen=True)
class DaskExecutor:
    """Runs jobs on the workers of a cluster.

    Attributes:
        client: a distributed.Client.
        resources: resources that a worker must have.
        workers: the workers of a new cluster; None for an existing cluster.
    """

    client: Any
    resources: dict[str, int] = field(default_factory=dict)
    workers: Workers | None = None

    @property
    def dashboard(self) -> str:
        """Address of the dashboard of the cluster."""
        return str(self.client.dashboard_link)

    def __call__(self, attempt: Attempt, jobs: Sequence[Job]) -> Generator[Outcome, None, None]:
        """Run the jobs, and yield each outcome when the job ends.

        Raises:
            ClusterError: all workers of a new cluster have ended.
        """
        distributed = _library("distributed")
        deaths: dict[str, int] = {}
        waiting = iter(jobs)
        running: dict[Any, Job] = {}
        completed = distributed.as_completed()

        def submit(job: Job | None) -> None:
            if job:
                future = self.client.submit(attempt, job, pure=False, resources=self.resources)
                running[future] = job
                completed.add(future)

        for _ in range(MAX_SUBMITTED):
            submit(next(waiting, None))
        try:
            while running:
                future = self._next(completed)
                job = running.pop(future)
                error = future.exception()
                if isinstance(error, distributed.KilledWorker):
                    # The scheduler gives up after fewer deaths than this program.
                    count = deaths.get(job.task.id, 0) + error.allowed_failures + 1
                    deaths[job.task.id] = count
                    if count < MAX_DEATHS:
                        submit(job)
                        continue
                outcome = _outcome(job, future, error, deaths.get(job.task.id, 0))
                yield outcome
                if outcome.stop:
                    return
                submit(next(waiting, None))
        finally:
            self.client.cancel(list(running))

    def _next(self, completed: Any) -> Any:
        """Return the next future that has ended. Meanwhile, watch the workers."""
        began, warned = time.monotonic(), False
        while not completed.has_ready():
            if self.workers:
                self.workers.check()
            elif not warned and time.monotonic() - began > IDLE_SECONDS:
                warned = True
                if not self.client.nthreads():
                    log.warning("the Dask cluster has no worker: waiting for one")
            time.sleep(POLL_SECONDS)
        return next(completed)


def _outcome(job: Job, future: Any, error: BaseException | None, deaths: int) -> Outcome:
    """Return the outcome of a future that has ended."""
    if error is None:
        outcome: Outcome = future.result()
        return outcome
    if deaths >= MAX_DEATHS:
        return Outcome(job.task.id, None, f"its workers died {deaths} times")
    # The job or its outcome could not be sent.
    return Outcome(job.task.id, None, f"{type(error).__name__}: {error}", stop=True)


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as exc:
        raise UsageError(f"{name} is not installed; run pip install '.[dask]' in the clone") from exc
