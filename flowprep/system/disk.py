"""Errors of a full disk: they name the file, the bytes that are needed, and those that are free."""

from __future__ import annotations

import errno
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# The disk is full, the user's quota is used up, or a file is larger than the process may write (`ulimit -f`).
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DiskFull(OSError):
    """A file could not be written for lack of room. The message has the bytes that are needed, and free."""


@contextmanager
def naming_file(
    path: Path, needed: int | Callable[[], int] = 0, built_in: Path | None = None
) -> Iterator[None]:
    """Let an error of writing name the file, and a lack of room also the bytes.

    Args:
        path: the file, or the folder, that the block writes.
        needed: its size, or a function that gives how much of it was written until then; bytes.
        built_in: another folder in which it is built first; None for that of `path`.

    Raises:
        DiskFull: there is no room.
        OSError: another error; its `filename` is set.
    """
    try:
        yield
    except DiskFull:
        raise
    except OSError as exc:
        if exc.errno not in FULL:
            try:
                exc.filename = exc.filename or str(path)
            except AttributeError:  # errors of PyAV keep their name
                raise OSError(exc.errno, exc.strerror, str(path)) from exc
            raise
        size = f"more than {needed()}" if callable(needed) else f"{needed}"
        raise DiskFull(exc.errno, _describe(exc.errno, size, path, built_in), str(path)) from exc


def written_bytes(path: Path) -> int:
    """The bytes of a file, or of all files of a folder, as far as they are written; 0 if there is none."""
    if path.is_dir():
        return sum(written_bytes(child) for child in path.iterdir())
    return path.stat().st_size if path.exists() else 0


def _describe(number: int, size: str, path: Path, built_in: Path | None) -> str:
    text = os.strerror(number)
    if number == errno.EFBIG:
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        return f"{text}: {size} bytes are needed, and this process may write {limit} to a file (ulimit -f)"
    folders = [folder for folder in (built_in, path.parent) if folder is not None and folder.exists()]
    free, folder = min((shutil.disk_usage(each).free, each) for each in folders)
    return f"{text}: {size} bytes are needed in {folder}, {free} are free"
