"""Accuracies of splits, and their confusion matrix."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flowprep.errors import UsageError
from trainer.evaluation.scores import Scores


def summarise(splits: Sequence[Scores]) -> dict[str, Any]:
    """Accuracy of each split and their mean, in plain types; and the confusion matrix summed over them.

    Returns:
        accuracy: a number per split; mean_accuracy: their mean, as UCF-101 and HMDB-51 are reported;
        videos: a number per split; classes: their names; class_accuracy: of all splits' videos of a class,
        None for a class without any; confusion: (C, C), true class by class said.

    Raises:
        UsageError: the splits have other classes.
    """
    classes = splits[0].classes.tolist()
    if any(s.classes.tolist() != classes for s in splits):
        raise UsageError("the files of scores have other classes, or another order of them")
    confusion = np.sum([s.confusion for s in splits], axis=0)
    return {
        "accuracy": [s.accuracy for s in splits],
        "mean_accuracy": float(np.mean([s.accuracy for s in splits])),
        "videos": [len(s.ids) for s in splits],
        "classes": classes,
        "class_accuracy": [
            row[n] / sum(row) if sum(row) else None for n, row in enumerate(confusion.tolist())
        ],
        "confusion": confusion.tolist(),
    }


def wilson_interval(correct: int, count: int) -> tuple[float, float]:
    """The 95% interval of the share `correct` of `count` (Wilson 1927)."""
    z, share = 1.96, correct / count
    centre = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return (centre - spread) / scale, (centre + spread) / scale


def write_confusion(path: Path, found: dict[str, Any]) -> None:
    """Write the confusion matrix of a summary as CSV: a row per true class, a column per class said."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["", *found["classes"]])
        writer.writerows([name, *row] for name, row in zip(found["classes"], found["confusion"], strict=True))
