"""Publishing files so that a reader sees the whole of one or nothing, whenever the writer dies."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from flowprep.corpus.format import TEMPORARY


def owner(process: int | None = None) -> str:
    """This process, or another one of this machine, by a name that no other ever has.

    `host.machine.process.start`: `machine` stands for the boot and the process namespace, `start` is the
    process's start in clock ticks since the boot; "0" where the system does not tell.
    """
    process = process or os.getpid()
    return f"{_machine()}.{process}.{_state(process)[1]}"


def is_dead(name: str) -> bool:
    """Whether an `owner` is a process of this machine that has ended; of others it cannot be told."""
    machine, _, rest = name.rpartition(".")[0].rpartition(".")
    start = name.rpartition(".")[2]
    if machine != _machine() or not rest.isdigit():
        return False
    state, now = _state(int(rest))
    return state in "ZX" or (state != "?" and now != start)


def temporary_path(path: Path, name: str = "") -> Path:
    """A name beside `path` that only one process uses, this one if no `owner` is named.

    `.tmp` is what marks a file as unfinished.
    """
    return path.with_name(f"{path.name}.{name or owner()}{TEMPORARY}")


@contextmanager
def published(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; on success it is synced and renamed to `path`, else removed."""
    temporary = temporary_path(path)
    try:
        yield temporary
        publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def publish(temporary: Path, path: Path) -> None:
    """Sync a finished file, rename it to its place and sync the folder."""
    _sync(temporary)
    temporary.replace(path)
    _sync(path.parent)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def remove_leftovers(folder: Path, name: str = "") -> None:
    """Remove temporary files and folders of an `owner`, or of all processes of this machine that ended."""
    for path in folder.glob(f"*.{name or _machine() + '.*'}{TEMPORARY}"):
        if name or is_dead(".".join(path.name.removesuffix(TEMPORARY).rsplit(".", 4)[1:])):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


@functools.cache
def _machine() -> str:
    """The host with a digest of what tells apart its boots, and containers that share its name."""
    facts = ""
    with suppress(OSError):
        facts = Path("/proc/sys/kernel/random/boot_id").read_text()
        facts += str(Path("/proc/self/ns/pid").readlink())
    return f"{socket.gethostname().replace('.', '-')}.{hashlib.sha256(facts.encode()).hexdigest()[:8]}"


def _state(process: int) -> tuple[str, str]:
    """State of a process (X: there is none, ?: not to be told) and when it started."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return fields[0], fields[19]
    except OSError:
        pass
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return "X", "0"
    except PermissionError:  # of another user, but there
        pass
    return "?", "0"


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
