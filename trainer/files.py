"""Writing files: whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import IO

from flowprep.system.atomic import atomic_path


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file so that a kill at any moment leaves either the previous file or the new one, whole.

    Args:
        path: the file.
        write: writes the content to a binary file that is open for writing and reading.

    Raises:
        OSError: the file cannot be written; its `filename` is set.
    """
    with atomic_path(path) as temporary, temporary.open("w+b") as file:
        write(file)
