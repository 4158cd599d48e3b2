"""The folder of a training run: its files, and the lease of the process that trains into it.

last.pt, best.pt        checkpoints: see trainer.training.checkpoint; best.pt only with train.keep = "best"
log.jsonl, tensorboard/ the log: see trainer.training.metrics_log
trainlist.txt           the videos that the run trains on
validationlist.txt      the videos that it is validated on
test_scores.npz, validation_scores.npz   scores: see trainer.evaluation.scores
running.0               the lease, while a process trains
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from flowprep.errors import UsageError
from flowprep.planning.list_entries import read_list
from flowprep.system.atomic import TEMPORARY
from flowprep.system.leases import Lease, find_leases
from flowprep.system.processes import describe_owner, is_dead, is_local
from trainer.data.annotations import Examples, write_list

log = logging.getLogger(__name__)

RUNNING = "running"
LAST, BEST = "last.pt", "best.pt"
LOG, TRAIN_LIST, VALIDATION_LIST = "log.jsonl", "trainlist.txt", "validationlist.txt"


def holds_something_else(folder: Path) -> bool:
    """Whether a folder has files, but none that a run leaves. Names that begin with a dot do not count."""
    if not folder.is_dir():
        return False
    names = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
    own = (LAST, LOG, TRAIN_LIST, "tensorboard", f"{RUNNING}.")
    return bool(names) and not any(name.startswith(own) for name in names)


def write_lists(run: Path, training: Examples, validation: Examples) -> None:
    """Write the lists of the videos to train on and to validate on; makes the folder."""
    run.mkdir(parents=True, exist_ok=True)
    write_list(run / TRAIN_LIST, training)
    write_list(run / VALIDATION_LIST, validation)


def read_held_out(run: Path, known: Collection[str]) -> set[str] | None:
    """Ids of the videos that a run with a checkpoint holds out; None if there is no such run.

    A run that is resumed keeps its lists, also if the rules that select the held-out videos have changed.

    Args:
        run: the run's folder.
        known: ids of the training videos.

    Raises:
        UsageError: the list cannot be read.
    """
    path, training = run / VALIDATION_LIST, run / TRAIN_LIST
    if not all(file.exists() for file in (run / LAST, path, training)):
        return None
    return {entry.id for entry in read_list(str(path), known)} if path.stat().st_size else set()


@contextmanager
def claim_run(run: Path) -> Iterator[None]:
    """Hold the lease of a run's folder while the block runs, so that no other process trains into it.

    Makes the folder, and removes it afterwards if it is empty. A lease whose owner died is replaced: at once
    if the owner ran on this machine, else after the lease was not renewed for a while. A job that a scheduler
    restarts on another machine therefore continues.

    Raises:
        UsageError: another process trains into the folder.
    """
    run.mkdir(parents=True, exist_ok=True)
    lease = _acquire(run)
    try:
        with lease.keep_alive():
            _remove_leftovers(run)
            yield
    finally:
        with suppress(OSError):
            run.rmdir()


def _acquire(run: Path) -> Lease:
    seen: dict[Lease, float] = {}
    while True:
        for other in find_leases(run, RUNNING):
            with suppress(FileNotFoundError):  # the lease was released in the meantime
                _refuse_living(run, other, seen)
        if lease := Lease.acquire(run, RUNNING):
            return lease
        time.sleep(0.5)


def _refuse_living(run: Path, lease: Lease, seen: dict[Lease, float]) -> None:
    """Raise UsageError if the owner of a lease is alive.

    Args:
        run: the run's folder.
        lease: the lease of another process.
        seen: when each lease was renewed last, as it was first seen; a later time shows that its owner lives.
    """
    owner, renewed = lease.owner, lease.touched()
    if lease not in seen and not is_local(owner):
        log.info("%s: waiting to see whether %s still trains into it", run, describe_owner(owner))
    if seen.setdefault(lease, renewed) != renewed or (is_local(owner) and not is_dead(owner)):
        raise UsageError(
            f"{run} is being trained by {describe_owner(owner)}: wait for it, or train into another --out"
        )


def _remove_leftovers(run: Path) -> None:
    """Remove unfinished checkpoints. The process that was writing them is dead: this one holds the lease."""
    for name in (LAST, BEST):
        for path in run.glob(f"{name}*{TEMPORARY}"):
            path.unlink(missing_ok=True)
