"""Every error that trainer raises on purpose, beside those of flowprep, in one tree.

    FlowprepError
    ├── UsageError            the request cannot be carried out (exit code 2)
    ├── NotFinite             a loss, a weight or a score is infinite or not a number
    │   └── TrainingDiverged  it happened in training
    ├── CheckpointDamaged     a checkpoint cannot be read
    └── ExportDiffers         an exported network computes other outputs than the trained one

Importing this module does not load torch.
"""

from __future__ import annotations

from flowprep.errors import FlowprepError, UsageError

__all__ = [
    "CheckpointDamaged",
    "ExportDiffers",
    "FlowprepError",
    "NotFinite",
    "TrainingDiverged",
    "UsageError",
]

# How torch's errors begin that report a loader process which ended unexpectedly.
LOADER_DIED = "DataLoader worker ("


class NotFinite(FlowprepError):
    """A loss, a weight or a score is infinite or not a number."""


class TrainingDiverged(NotFinite):
    """A loss or a weight became infinite or not a number in training."""


class CheckpointDamaged(FlowprepError):
    """A checkpoint cannot be read, or its checksum does not match its content."""


class ExportDiffers(FlowprepError):
    """An exported network computes other outputs than the trained one; the file was not written."""
