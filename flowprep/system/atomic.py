"""Atomic writing: a reader sees a whole file or none, even if the writer dies."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flowprep.system.disk import naming_file, written_bytes
from flowprep.system.files import open_regular
from flowprep.system.processes import is_dead, machine, owner

TEMPORARY = ".tmp"  # the suffix of an unfinished file


def temporary_path(path: Path, name: str = "") -> Path:
    """A temporary name in the folder of `path`, which only one process uses.

    Args:
        path: the final path.
        name: the process, as `processes.owner` names it; "" for this process.
    """
    return path.with_name(f"{path.name}.{name or owner()}{TEMPORARY}")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to. If the block succeeds, sync the file and rename it to `path`.

    If the block raises, the temporary file is removed, and `path` stays as it was.

    Raises:
        DiskFull: there is no room for the file. The message has the bytes that are needed.
        OSError: the file cannot be written, synced or renamed; its `filename` is set.
    """
    temporary = temporary_path(path)
    try:
        with naming_file(path, lambda: written_bytes(temporary)):
            yield temporary
            publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def publish(temporary: Path, path: Path) -> None:
    """Sync a finished file, rename it to `path`, and sync the folder."""
    _sync(temporary)
    temporary.replace(path)
    _sync(path.parent)


def file_digest(path: Path) -> str:
    """SHA-256 of a regular file, as hexadecimal digits."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def remove_leftovers(folder: Path, name: str = "") -> None:
    """Remove the temporary files and folders of processes that have ended.

    Args:
        folder: the folder; its subfolders are not searched.
        name: remove those of this process, as `processes.owner` names it; "" for all processes of this
            machine that have ended.
    """
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
