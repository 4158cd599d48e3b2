"""Publishing files so that a reader sees the whole of one or nothing, whenever the writer dies."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from flowprep.corpus.format import TEMPORARY


def temporary_path(path: Path) -> Path:
    """A name beside `path` that no other process uses: `.tmp` is what marks a file as unfinished."""
    return path.with_name(f"{path.name}.{socket.gethostname()}.{os.getpid()}{TEMPORARY}")


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


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files whose writer, a process of this host, no longer lives."""
    for path in folder.glob(f"*.{socket.gethostname()}.*{TEMPORARY}"):
        owner = path.name.removesuffix(TEMPORARY).rpartition(".")[2]
        if owner.isdigit() and not _alive(int(owner)):
            path.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    with suppress(OSError):  # where there is /proc: one that ended but was not waited for is dead too
        if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return False
    with suppress(ProcessLookupError):
        with suppress(PermissionError):  # of another user, but there
            os.kill(process, 0)
        return True
    return False


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
