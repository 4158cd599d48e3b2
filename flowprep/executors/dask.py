"""Tasks on a Dask cluster, as native futures: one that is there, one of this machine, or one of Slurm jobs.

A lost worker's tasks run again elsewhere. That each is done by one process, and what happens to a task that
kills its workers, is the same as on one machine: see worker.py and corpus/lease.py.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple

from flowprep.errors import UsageError
from flowprep.executors.local import MOST_DEATHS
from flowprep.executors.run import Executor
from flowprep.executors.worker import Job, Outcome

log = logging.getLogger(__name__)

WINDOW = 1000  # tasks that the scheduler knows at a time
CONNECT_SECONDS = 30


class Cluster(NamedTuple):
    """A cluster that tasks may run on, and where its dashboard is."""

    executor: Executor
    dashboard: str


@contextmanager
def connected(
    scheduler: str | None = None, workers: int | None = None, slurm: int | None = None, gpu: bool = False
) -> Iterator[Cluster]:
    """Connect to a cluster; one that is made here ends with the block.

    Args:
        scheduler: address of one that is there; or else
        workers: worker processes of a new one on this machine; or else
        slurm: Slurm jobs of a new one, as the `jobqueue` part of Dask's own configuration describes them.
        gpu: tasks go only to workers that were started with `--resources GPU=1`.

    Raises:
        UsageError: Dask is not installed, or no scheduler answers.
    """
    _library("dask").config.set({"logging.distributed": "warning"})  # read when distributed is imported
    distributed = _library("distributed")
    with ExitStack() as stack:
        address: Any = scheduler
        if slurm:
            address = stack.enter_context(_library("dask_jobqueue").SLURMCluster())
            address.scale(jobs=slurm)
        elif workers:
            resources = {"GPU": 1} if gpu else {}
            address = stack.enter_context(
                distributed.LocalCluster(
                    n_workers=workers, threads_per_worker=1, dashboard_address=":0", resources=resources
                )
            )
        try:
            client = stack.enter_context(distributed.Client(address, timeout=CONNECT_SECONDS))
        except (OSError, ValueError) as exc:
            raise UsageError(f"no Dask scheduler answers at {scheduler}: {exc}") from exc
        yield Cluster(partial(run, client=client, resources={"GPU": 1} if gpu else {}), client.dashboard_link)


def run(
    call: Callable[[Job], Outcome], jobs: Sequence[Job], client: Any, resources: dict[str, int]
) -> Generator[Outcome, None, None]:
    """Call for each job on a worker of the cluster; after an outcome that says `stop`, no more are sent.

    Yields:
        What the calls return, in the order in which they end.
    """
    distributed = _library("distributed")
    deaths: dict[str, int] = {}
    waiting = iter(jobs)
    running: dict[Any, Job] = {}
    completed = distributed.as_completed()

    def send(job: Job | None) -> None:
        if job:
            future = client.submit(call, job, pure=False, resources=resources)
            running[future] = job
            completed.add(future)

    for _ in range(WINDOW):
        send(next(waiting, None))
    try:
        for future in completed:
            job = running.pop(future)
            exc = future.exception()
            if isinstance(exc, distributed.KilledWorker):  # the scheduler gives up sooner than we do
                deaths[job.task.id] = deaths.get(job.task.id, 0) + exc.allowed_failures + 1
                if deaths[job.task.id] < MOST_DEATHS:
                    send(job)
                    continue
                outcome = Outcome(job.task.id, None, f"its workers died {deaths[job.task.id]} times")
            elif exc is not None:  # the call could not be sent, or its result back
                outcome = Outcome(job.task.id, None, f"{type(exc).__name__}: {exc}", stop=True)
            else:
                outcome = future.result()
            yield outcome
            if outcome.stop:
                waiting = iter(())
                client.cancel(list(running))
                return
            send(next(waiting, None))
    finally:
        client.cancel(list(running))


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as exc:
        raise UsageError(f"{name} is not installed; to install: pip install 'flowprep[dask]'") from exc
