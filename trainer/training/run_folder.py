"""The folder of a training run: names of its files, and the claim of the process that trains into it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from flowprep.errors import UsageError
from flowprep.system import leases
from flowprep.system.processes import described, is_dead, is_here

log = logging.getLogger(__name__)

RUNNING = "running"
LOG, TRAIN_LIST, VALIDATION_LIST = "log.jsonl", "trainlist.txt", "validationlist.txt"


@contextmanager
def claim_run(run: Path) -> Iterator[None]:
    """Keep other processes out of a run's folder, which is made, while the block runs.

    Who died without letting go is told at once on this machine, where one that only sleeps is not passed
    over; else by its silence, which is waited for: a job that is requeued goes on.

    Raises:
        UsageError: another process is at it.
    """
    run.mkdir(parents=True, exist_ok=True)
    seen: dict[leases.Lease, float] = {}
    while True:
        for other in leases.find_leases(run, RUNNING):
            with suppress(FileNotFoundError):  # it let go
                name, touched = other.owner, other.touched()
                who = described(name)
                if other not in seen and not is_here(name):
                    log.info("%s: waiting until it shows whether %s is still at it", run, who)
                if seen.setdefault(other, touched) != touched or (is_here(name) and not is_dead(name)):
                    raise UsageError(
                        f"{run} is being trained by {who}: wait for it, or train into another --out"
                    )
        if lease := leases.Lease.acquire(run, RUNNING):
            break
        time.sleep(0.5)
    try:
        with lease.keep_alive():
            yield
    finally:
        with suppress(OSError):
            run.rmdir()  # if nothing came of it
