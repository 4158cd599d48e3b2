"""Checkpoints: all that a run needs to go on or to be judged, in one file that is whole or not there.

A run's folder holds `last.pt` (to resume from), with `keep = "best"` also `best.pt`, the log, the lists of
videos that it trained and validated on, and the scores of its test; and `running.0` while a process is at it.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, Any

import torch

from flowprep import FlowprepError, Settings
from flowprep.errors import UsageError
from trainer.errors import CheckpointDamaged
from trainer.recipe.schema import Recipe

VERSION = 3
UNSEALED = 2  # as 3, but without what follows
# The last bytes of a checkpoint, behind the archive that torch.save writes and whose own checksums torch.load
# passes over: a mark, and the CRC-32 of all bytes before.
SEAL = struct.Struct("<4sI")
SEAL_MARK = b"\x89FPC"
LAST, BEST = "last.pt", "best.pt"


@dataclass(frozen=True)
class Checkpoint:
    """The state after `step` optimiser steps.

    Neither the learning rate nor a random state is stored: they follow from the recipe and the step.

    Attributes:
        recipe: the whole recipe.
        classes: class names in the order of the network's outputs, of which they are the first; the
            others are added classes and further heads, which play no part in judging.
        heads: outputs of each head.
        corpus: settings of the corpus that the run is trained from.
        examples: digest of all that it learns from: videos, their classes, settings of further corpora.
        step: optimiser steps done.
        model: the network's state dict.
        optimizer: the optimiser's state dict; empty in `best.pt`.
        scaler: state of the loss scale of float16; else empty.
        best: (accuracy, -loss) of the best validation until here, or None.
        precision: what the run computes in, where its recipe says "auto".
    """

    recipe: Recipe
    classes: tuple[str, ...]
    heads: tuple[int, ...]
    corpus: Settings
    examples: str
    step: int
    model: dict[str, Any]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    best: tuple[float, float] | None
    precision: str


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint so that a kill at any moment leaves the former or the new one, whole."""
    # Plain types and tensors only: that is what torch.load reads without running code from the file.
    values = {f.name: getattr(checkpoint, f.name) for f in fields(checkpoint)}
    values |= {
        "recipe": checkpoint.recipe.to_dict(),
        "corpus": checkpoint.corpus.to_dict(),
        "version": VERSION,
    }

    def write(file: IO[bytes]) -> None:
        torch.save(values, file)
        file.write(SEAL.pack(SEAL_MARK, _sum(file)))

    write_whole(path, write)


def load(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        UsageError: there is none.
        CheckpointDamaged: the file is damaged or of a newer version.
    """
    try:
        version = VERSION if is_sealed(path) else UNSEALED
        values = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as exc:
        raise UsageError(f"{path.parent} is not a training run: it has no {path.name}") from exc
    except Exception as exc:  # a damaged file raises whatever its first wrong byte leads to
        raise CheckpointDamaged(f"{path}: not a readable checkpoint: {exc}") from exc
    if not isinstance(values, dict) or values.get("version") != version:
        raise CheckpointDamaged(f"{path}: not a whole checkpoint of version {VERSION} or {UNSEALED}")
    del values["version"]
    try:
        read = {"recipe": Recipe.from_dict(values["recipe"]), "corpus": Settings.from_dict(values["corpus"])}
        return Checkpoint(**values | read)
    except (FlowprepError, KeyError, TypeError) as exc:
        raise CheckpointDamaged(f"{path}: written by another version of trainer: {exc}") from exc


def _sum(file: IO[bytes], end: int | None = None) -> int:
    """CRC-32 of a file's bytes, of the first `end` if that is given."""
    crc = done = 0
    file.seek(0)
    while block := file.read(1 << 20 if end is None else min(1 << 20, end - done)):
        crc = zlib.crc32(block, crc)
        done += len(block)
    return crc


def is_sealed(path: Path) -> bool:
    """Whether a file of torch.save ends in a seal, which holds.

    Raises:
        ValueError: it does not hold, or the archive is compressed.
        OSError, zipfile.BadZipFile: the file cannot be read.
    """
    with path.open("rb") as file:
        end = max(0, file.seek(0, os.SEEK_END) - SEAL.size)
        file.seek(end)
        mark, crc = SEAL.unpack(file.read().rjust(SEAL.size))
        if mark == SEAL_MARK and _sum(file, end) != crc:
            raise ValueError("it does not have its checksum")
        # Some published weights are of a former format, which is no archive.
        members = zipfile.ZipFile(file).infolist() if zipfile.is_zipfile(file) else []
        # What is compressed, as nothing of torch.save's is, might take more memory than there is.
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("it is compressed")
    return bool(mark == SEAL_MARK)


def load_selected(run: Path) -> Checkpoint:
    """The checkpoint by which a run is judged: its best or last one, as its recipe says.

    Raises:
        as load.
    """
    last = load(run / LAST)
    return load(run / BEST) if last.recipe.train.keep == "best" and last.best is not None else last


def stream_of_run(path: Path) -> str:
    """The stream of a training run's recipe; "" of what is no run's folder."""
    return load(path / LAST).recipe.stream if (path / LAST).exists() else ""


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file under a temporary name, to the disk, and only then under its own.

    Raises:
        OSError: it cannot be written; its `filename` says which.
    """
    temporary = path.with_name(path.name + ".tmp")
    with named(path):
        with temporary.open("w+b") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Give an error of writing, such as of a full disk, the name of the file."""
    try:
        yield
    except OSError as exc:
        exc.filename = exc.filename or str(path)
        raise
