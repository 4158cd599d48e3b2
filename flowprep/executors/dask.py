"""Tasks on a Dask cluster, as futures: an existing cluster, one on this machine, or one of Slurm jobs.

The tasks of a lost worker run again on another. Leases keep each task with one process, as on one machine.
The quarantine of tasks that kill their workers is also the same: see attempt.py.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from flowprep.errors import UsageError
from flowprep.executors.base import MAX_DEATHS, Attempt, Job, Outcome, RunOptions

log = logging.getLogger(__name__)

MAX_SUBMITTED = 1000  # tasks that the scheduler holds at the same time
CONNECT_SECONDS = 30


@contextmanager
def connect_cluster(options: RunOptions, gpu: bool = False) -> Iterator[DaskExecutor]:
    """Connect to a cluster. A new cluster ends with the block.

    Args:
        options: names the cluster.
        gpu: submit tasks only to workers that were started with `--resources GPU=1`.

    Raises:
        UsageError: Dask is not installed, or no scheduler answers.
    """
    _library("dask").config.set({"logging.distributed": "warning"})  # read when distributed is imported
    distributed = _library("distributed")
    resources = {"GPU": 1} if gpu else {}
    with ExitStack() as stack:
        address: Any = options.scheduler
        if options.slurm:
            address = stack.enter_context(_library("dask_jobqueue").SLURMCluster())
            address.scale(jobs=options.slurm)
        elif options.local_cluster:
            address = stack.enter_context(
                distributed.LocalCluster(
                    n_workers=options.local_cluster,
                    threads_per_worker=1,
                    dashboard_address=":0",
                    resources=resources,
                )
            )
        try:
            client = stack.enter_context(distributed.Client(address, timeout=CONNECT_SECONDS))
        except (OSError, ValueError) as exc:
            raise UsageError(f"no Dask scheduler answers at {options.scheduler}: {exc}") from exc
        yield DaskExecutor(client, resources)


@dataclass(frozen=True)
class DaskExecutor:
    """Runs jobs on the workers of a cluster.

    Attributes:
        client: a distributed.Client.
        resources: resources that a worker must have.
    """

    client: Any
    resources: dict[str, int] = field(default_factory=dict)

    @property
    def dashboard(self) -> str:
        """Address of the dashboard of the cluster."""
        return str(self.client.dashboard_link)

    def __call__(self, attempt: Attempt, jobs: Sequence[Job]) -> Generator[Outcome, None, None]:
        """Run the jobs, and yield each outcome when the job ends."""
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
            for future in completed:
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
