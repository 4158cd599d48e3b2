"""Checkpoints: everything that a run needs to continue or to be evaluated, in one file.

A checkpoint is the archive that torch.save writes, followed by a seal: a mark and the CRC-32 of all bytes
before the mark. torch.load does not verify the checksums inside the archive, so the seal finds damage.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, Any

import torch

from flowprep import FlowprepError, Settings
from flowprep.errors import FileUnsuitable, UsageError
from flowprep.system.files import is_machine_error, open_regular
from trainer.errors import CheckpointDamaged
from trainer.files import write_atomically
from trainer.recipe.schema import Recipe
from trainer.training.interrupts import uninterrupted
from trainer.training.run_folder import BEST, LAST

VERSION = 3
UNSEALED = 2  # the same content without a seal
SEAL = struct.Struct("<4sI")
SEAL_MARK = b"\x89FPC"
MAX_BYTES = 1 << 34  # of a file of weights: four billion parameters
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Checkpoint:
    """The state after `step` optimiser steps.

    Neither the learning rate nor the state of a random generator is stored: both follow from the recipe and
    the step.

    Attributes:
        recipe: the whole recipe.
        classes: class names of the first data set, which are the first outputs of the network. Further
            outputs are of added classes and of further heads; evaluation ignores them.
        heads: number of outputs of each head.
        corpus: settings of the corpus of the first data set.
        examples: digest of the videos, of their classes and of the settings of further corpora.
        step: number of optimiser steps done.
        model: state dict of the network.
        optimizer: state dict of the optimiser; empty in `best.pt`.
        scaler: state of the loss scale of float16; else empty.
        best: (accuracy, -loss) of the best validation so far, or None.
        precision: the precision that the run computes in; it decides what "auto" in the recipe means.
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
    """Write a checkpoint. A kill at any moment leaves the previous file or the new one, whole.

    Raises:
        OSError: the file cannot be written.
    """
    # torch.load reads plain types and tensors without running code from the file; nothing else is stored.
    values = {f.name: getattr(checkpoint, f.name) for f in fields(checkpoint)}
    values |= {
        "recipe": checkpoint.recipe.to_dict(),
        "corpus": checkpoint.corpus.to_dict(),
        "version": VERSION,
    }

    def write(file: IO[bytes]) -> None:
        # torch.save turns an interruption of its writes into an error of its own.
        with uninterrupted():
            torch.save(values, file)
        file.write(SEAL.pack(SEAL_MARK, _checksum(file)))

    write_atomically(path, write)


def load(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        UsageError: the file does not exist.
        CheckpointDamaged: the file is damaged or was written by another version.
        OSError: the machine cannot read the file, which says nothing about it.
    """
    try:
        version = VERSION if is_sealed(path) else UNSEALED
        values = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as exc:
        raise UsageError(f"{path.parent} is not a training run: it has no {path.name}") from exc
    except FileUnsuitable:
        raise
    except Exception as exc:  # a damaged file can raise almost any error
        if isinstance(exc, OSError) and is_machine_error(exc):
            raise
        raise CheckpointDamaged(f"{path}: not a readable checkpoint: {exc}") from exc
    if not isinstance(values, dict) or values.get("version") != version:
        raise CheckpointDamaged(f"{path}: not a whole checkpoint of version {VERSION} or {UNSEALED}")
    del values["version"]
    try:
        records = {
            "recipe": Recipe.from_dict(values["recipe"]),
            "corpus": Settings.from_dict(values["corpus"]),
        }
        return Checkpoint(**values | records)
    except (FlowprepError, KeyError, TypeError) as exc:
        raise CheckpointDamaged(f"{path}: written by another version of trainer: {exc}") from exc


def load_selected(run: Path) -> Checkpoint:
    """The checkpoint that a run is evaluated with: the best or the last one, as its recipe says.

    Raises:
        UsageError, CheckpointDamaged: as load.
    """
    last = load(run / LAST)
    return load(run / BEST) if last.recipe.train.keep == "best" and last.best is not None else last


def stream_of_run(path: Path) -> str:
    """The stream in the recipe of a training run; "" if the path is not the folder of a run."""
    return load(path / LAST).recipe.stream if (path / LAST).exists() else ""


def is_sealed(path: Path) -> bool:
    """Whether a file of torch.save ends in a seal.

    Raises:
        ValueError: the checksum of the seal is wrong, or the archive is compressed.
        FileUnsuitable: it is no regular file, or is larger than any network's weights.
        OSError, zipfile.BadZipFile: the file cannot be read.
    """
    with open_regular(path, max_bytes=MAX_BYTES) as file:
        end = max(0, file.seek(0, os.SEEK_END) - SEAL.size)
        file.seek(end)
        mark, crc = SEAL.unpack(file.read().rjust(SEAL.size))
        if mark == SEAL_MARK and _checksum(file, end) != crc:
            raise ValueError("its checksum does not match")
        # Some published weights have an older format, which is not an archive.
        members = zipfile.ZipFile(file).infolist() if zipfile.is_zipfile(file) else []
        # torch.save never compresses. A compressed file could unpack to more than the memory holds.
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("it is compressed")
    return bool(mark == SEAL_MARK)


def _checksum(file: IO[bytes], end: int | None = None) -> int:
    """CRC-32 of the first `end` bytes of a file, or of all its bytes."""
    crc = position = 0
    file.seek(0)
    while block := file.read(_BLOCK_BYTES if end is None else min(_BLOCK_BYTES, end - position)):
        crc = zlib.crc32(block, crc)
        position += len(block)
    return crc
