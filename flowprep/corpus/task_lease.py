"""Leases: the claims of processes on tasks, in a corpus's folder `leases`.

A lease saves work and is no lock: an owner that was only asleep publishes, late, the same bytes.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flowprep.corpus import format as fmt
from flowprep.corpus.task_log import note
from flowprep.system.atomic import remove_leftovers, temporary_path
from flowprep.system.leases import Lease, is_leased

log = logging.getLogger(__name__)


def record_stamp(corpus: Path, task: str) -> int:
    """What changes when a task's record is written again; 0 where there is none."""
    try:
        with fmt.record_path(corpus, task).open("rb") as file:  # opening makes a network file system look
            return os.fstat(file.fileno()).st_mtime_ns
    except FileNotFoundError:
        return 0


@contextmanager
def claimed(corpus: Path, task: str, seen: int = 0) -> Iterator[int | None]:
    """Hold the lease of a task while the block runs, and log when it begins and how it breaks off.

    Args:
        corpus: the corpus folder.
        task: id of the task.
        seen: the task's `record_stamp` when it was found to be pending.

    Yields:
        How many owners died over the task before; None if it is not to be done: a living process holds it,
        or its record has been written meanwhile.

    Raises:
        OSError: the lease cannot be made.
    """
    folder = corpus / fmt.LEASES
    folder.mkdir(exist_ok=True)
    lease = Lease.acquire(folder, task)
    if lease is None:
        yield None
        return
    with lease.keep_alive():
        deaths = lease.epoch
        for predecessor in lease.predecessors():
            if name := predecessor.owner:
                _take_over(corpus, task, name)
        # Looked at behind the claim: who was first has published before it let go of the lease.
        if record_stamp(corpus, task) != seen:
            yield None
            return
        note(corpus, task, f"begun; owners that died over it: {deaths}" if deaths else "begun")
        try:
            yield deaths
        except BaseException as exc:
            note(corpus, task, f"broken off: {type(exc).__name__}: {exc}")
            raise


def is_held(corpus: Path, task: str) -> bool:
    """Whether a living process holds a task's lease."""
    return is_leased(corpus / fmt.LEASES, task)


def release(corpus: Path, name: str) -> None:
    """Remove the leases and the temporary files of an `owner` who was stopped on purpose."""
    for folder in (corpus / fmt.SHARDS, corpus / fmt.RECORDS):
        remove_leftovers(folder, name)
    for path in (corpus / fmt.LEASES).glob("*"):
        if Lease(path).owner == name:
            path.unlink(missing_ok=True)


def remove_dead(corpus: Path) -> None:
    """Remove the leases of tasks that are done whose owner died between publishing and letting go."""
    for path in (corpus / fmt.LEASES).glob("*.*[0-9]"):
        if record_stamp(corpus, path.stem) and Lease(path).is_over():
            path.unlink(missing_ok=True)


def _take_over(corpus: Path, task: str, name: str) -> None:
    """Remove what an owner that died over a task has left unfinished."""
    log.info("task %s: taking over from %s", task, name)
    shard = fmt.shard_path(corpus, task)
    for unfinished in (shard, shard.with_suffix(".bytes"), fmt.record_path(corpus, task)):
        temporary_path(unfinished, name).unlink(missing_ok=True)
