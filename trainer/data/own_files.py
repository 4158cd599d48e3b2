"""Lists that a command writes again, without ever replacing those of somebody else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import IO

from flowprep.errors import UsageError
from trainer.files import write_atomically

NOTE = "split.json"  # name of each file -> SHA-256 of the contents that were written to it


def write_own_files(folder: Path, texts: Mapping[str, str]) -> None:
    """Write files to a folder. The folder gets a note of their checksums.

    Args:
        folder: the folder; it is made.
        texts: name -> content.

    Raises:
        UsageError: a file exists with a content that neither the note has nor is to be written. Nothing was
            changed.
    """
    sums = {name: [_checksum(text.encode())] for name, text in texts.items()}
    known = _read_note(folder / NOTE)
    for name, allowed in sums.items():
        path = folder / name
        found = _checksum(path.read_bytes()) if path.exists() else allowed[0]
        if found not in (*allowed, *known.get(name, ())):
            raise UsageError(
                f"{path} exists, and `trainer split` did not write it, or it was changed since; allowed: a"
                " new folder as --out. Or delete the file"
            )
        allowed += {found} - set(allowed)  # a process that is killed below leaves this content
    folder.mkdir(parents=True, exist_ok=True)
    note = json.dumps({"written_by": "trainer split", "sha256": sums}, indent=1) + "\n"
    for name, text in {NOTE: note, **texts}.items():
        write_atomically(folder / name, partial(_write, text.encode()))


def _read_note(path: Path) -> dict[str, list[str]]:
    """The checksums in a note; none if it cannot be read."""
    try:
        values = json.loads(path.read_bytes())["sha256"]
        return {str(name): [str(each) for each in sums] for name, sums in values.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _checksum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _write(data: bytes, file: IO[bytes]) -> None:
    file.write(data)
