"""Leases: which process works on a task, told by files alone, so that any number may share a corpus.

A lease is the file `leases/<task>.<generation>`, made by exclusive creation, named after its owner inside and
touched by it all the time. It is dead when its owner is a process of this machine that has ended, or when it
was not touched for EXPIRY_SECONDS. Then the next generation may be made: of many who try, one succeeds. So
the generation also tells how many owners have died over the task. All times are those that the file system
gives to files, so that clocks may differ and jump.

A lease saves work and is no lock: an owner that was only asleep publishes, late, the same bytes.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flowprep.corpus import format as fmt
from flowprep.corpus.files import remove_leftovers, temporary_path
from flowprep.corpus.logs import note
from flowprep.processes import is_dead, owner

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 10.0
EXPIRY_SECONDS = 60.0


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
    lease = _create(corpus, task)
    if lease is None:
        yield None
        return
    end = threading.Event()
    heart = threading.Thread(target=_beat, args=(lease, end), daemon=True)
    heart.start()
    try:
        # Looked at behind the claim: who was first has published before it let go of the lease.
        if record_stamp(corpus, task) != seen:
            yield None
            return
        deaths = _generation(lease)
        note(corpus, task, f"begun; owners that died over it: {deaths}" if deaths else "begun")
        try:
            yield deaths
        except BaseException as exc:
            note(corpus, task, f"broken off: {type(exc).__name__}: {exc}")
            raise
    finally:
        end.set()
        heart.join()
        for path in sorted(_leases(corpus, task), key=_generation):
            if _generation(path) <= _generation(lease):
                path.unlink(missing_ok=True)


def is_held(corpus: Path, task: str) -> bool:
    """Whether a living process holds a task's lease."""
    return any(not _dead(path) for path in _leases(corpus, task))


def release(corpus: Path, name: str) -> None:
    """Remove the leases and the temporary files of an `owner` who was stopped on purpose."""
    for folder in (corpus / fmt.SHARDS, corpus / fmt.RECORDS):
        remove_leftovers(folder, name)
    for path in (corpus / fmt.LEASES).glob("*"):
        if _owner(path) == name:
            path.unlink(missing_ok=True)


def remove_dead(corpus: Path) -> None:
    """Remove the leases of tasks that are done whose owner died between publishing and letting go."""
    for path in (corpus / fmt.LEASES).glob("*.*[0-9]"):
        if record_stamp(corpus, path.stem) and _dead(path):
            path.unlink(missing_ok=True)


def _create(corpus: Path, task: str) -> Path | None:
    """Make the lease behind those that are dead; None if one is alive or another process was faster."""
    dead = _leases(corpus, task)
    if not all(map(_dead, dead)):
        return None
    folder = corpus / fmt.LEASES
    folder.mkdir(exist_ok=True)
    lease = folder / f"{task}.{1 + max(map(_generation, dead), default=-1)}"
    try:
        with lease.open("x", encoding="utf-8") as file:
            file.write(json.dumps({"owner": owner()}))
    except FileExistsError:
        return None
    except OSError:
        lease.unlink(missing_ok=True)  # made, but the disk is full
        raise
    # Had the dead leases gone before this one was made, another process may have begun with generation 0.
    if any(path != lease and not _dead(path) for path in _leases(corpus, task)):
        lease.unlink(missing_ok=True)
        return None
    for path in dead:
        if name := _owner(path):
            log.info("task %s: taking over from %s", task, name)
            for unfinished in (fmt.shard_path(corpus, task), fmt.record_path(corpus, task)):
                temporary_path(unfinished, name).unlink(missing_ok=True)
            temporary_path(fmt.shard_path(corpus, task).with_suffix(".bytes"), name).unlink(missing_ok=True)
    return lease


def _leases(corpus: Path, task: str) -> list[Path]:
    return list((corpus / fmt.LEASES).glob(f"{task}.*[0-9]"))


def _generation(lease: Path) -> int:
    return int(lease.suffix[1:])


def _owner(lease: Path) -> str:
    """Who made a lease; "" while that is not written yet."""
    try:
        return str(json.loads(lease.read_text("utf-8"))["owner"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _dead(lease: Path) -> bool:
    try:
        with lease.open("rb") as file:
            touched = os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        return True
    return is_dead(_owner(lease)) or _now(lease.parent) - touched > EXPIRY_SECONDS


def _now(folder: Path) -> float:
    """The time by the clock that stamps the files of a folder."""
    path = temporary_path(folder / f"now-{threading.get_ident()}")
    with path.open("wb") as file:
        file.write(b"0")  # by the clock of the machine that stores it
        file.flush()
        now = os.fstat(file.fileno()).st_mtime
    path.unlink(missing_ok=True)
    return now


def _beat(lease: Path, end: threading.Event) -> None:
    while not end.wait(HEARTBEAT_SECONDS):
        try:
            os.utime(lease)
        except FileNotFoundError:
            log.warning("lease %s was taken over: this process was out for too long", lease.name)
            return
        except OSError as exc:
            log.warning("lease %s cannot be renewed: %s", lease.name, exc)
