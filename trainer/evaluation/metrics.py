"""Accuracies of splits, and their confusion matrix."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flowprep.errors import UsageError
from flowprep.system.atomic import atomic_path
from trainer.evaluation.scores import Scores


@dataclass(frozen=True)
class SplitSummary:
    """The accuracies of several splits.

    Attributes:
        accuracy: Accuracy of each split.
        mean_accuracy: Their mean, as accuracies on UCF-101 and HMDB-51 are reported.
        videos: Number of videos of each split.
        classes: C class names.
        class_accuracy: Accuracy of each class over the videos of all splits. None for a class without videos.
        confusion: (C, C) counts summed over the splits, true class by predicted class.
    """

    accuracy: list[float]
    mean_accuracy: float
    videos: list[int]
    classes: list[str]
    class_accuracy: list[float | None]
    confusion: list[list[int]]

    def to_dict(self) -> dict[str, Any]:
        """The object that `trainer scores --json` prints, without the names of the files."""
        return asdict(self)

    def write_confusion(self, path: Path) -> None:
        """Write the confusion matrix as CSV: a row for each true class, a column for each predicted class."""
        with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["", *self.classes])
            writer.writerows([name, *row] for name, row in zip(self.classes, self.confusion, strict=True))


def summarise(splits: Sequence[Scores]) -> SplitSummary:
    """Summarise the scores of several splits.

    Raises:
        UsageError: The splits have different classes.
    """
    classes = splits[0].classes.tolist()
    if any(s.classes.tolist() != classes for s in splits):
        raise UsageError("the files of scores have different classes, or a different order of classes")
    confusion = np.sum([s.confusion for s in splits], axis=0).tolist()
    return SplitSummary(
        accuracy=[s.accuracy for s in splits],
        mean_accuracy=float(np.mean([s.accuracy for s in splits])),
        videos=[len(s.ids) for s in splits],
        classes=classes,
        class_accuracy=[row[n] / sum(row) if sum(row) else None for n, row in enumerate(confusion)],
        confusion=confusion,
    )


def wilson_interval(correct: int, count: int) -> tuple[float, float]:
    """The 95% interval of the share `correct` / `count` (Wilson 1927)."""
    z, share = 1.96, correct / count
    centre = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return (centre - spread) / scale, (centre + spread) / scale
