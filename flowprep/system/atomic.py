"""Publishing files so that a reader sees the whole of one or nothing, whenever the writer dies."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flowprep.system.processes import is_dead, machine, owner

TEMPORARY = ".tmp"  # how the name of an unfinished file ends


def temporary_path(path: Path, name: str = "") -> Path:
    """A name beside `path` that only one process uses, this one if no `owner` is named.

    `.tmp` is what marks a file as unfinished.
    """
    return path.with_name(f"{path.name}.{name or owner()}{TEMPORARY}")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
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
    for path in folder.glob(f"*.{name or machine() + '.*'}{TEMPORARY}"):
        if name or is_dead(".".join(path.name.removesuffix(TEMPORARY).rsplit(".", 4)[1:])):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
