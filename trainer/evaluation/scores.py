"""Class scores of videos, and the files that hold them."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flowprep.errors import UsageError
from trainer.files import write_atomically
from trainer.training import checkpoint, distributed

TEST_SCORES, VALIDATION_SCORES = "test_scores.npz", "validation_scores.npz"


@dataclass(frozen=True)
class Scores:
    """What a network, or a fusion, says of each video. Stored as an .npz file of these four arrays.

    Attributes:
        ids: (N,) text: ids in the corpus.
        labels: (N,) int64: true class, as its position in `classes`.
        classes: (C,) text: class names.
        scores: (N, C) float32: higher is more likely. Of a stream, and of their average, probabilities
            that add up to 1; of an SVM, its decision values.
    """

    ids: np.ndarray
    labels: np.ndarray
    classes: np.ndarray
    scores: np.ndarray

    @property
    def accuracy(self) -> float:
        """Share of videos whose highest score is their class's."""
        return float((self.scores.argmax(1) == self.labels).mean())

    @property
    def confusion(self) -> np.ndarray:
        """How often videos of class i are taken for class j: (C, C) int64."""
        counts = np.zeros((len(self.classes), len(self.classes)), np.int64)
        np.add.at(counts, (self.labels, self.scores.argmax(1)), 1)
        return counts

    def with_scores(self, scores: np.ndarray) -> Scores:
        """The same videos and classes with other scores, (N, C)."""
        return Scores(self.ids, self.labels, self.classes, scores.astype(np.float32))

    def save(self, path: Path) -> None:
        """Write the .npz file, whole or not at all; of several processes, the first does."""
        if distributed.rank():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {"ids": self.ids, "labels": self.labels, "classes": self.classes, "scores": self.scores}
        write_atomically(path, lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> Scores:
        """Read an .npz file; of a training run's folder, its test_scores.npz.

        Raises:
            UsageError: it cannot be read or lacks an array, or the run has not been judged.
        """
        run, path = path, path / TEST_SCORES if path.is_dir() else path
        if (run / checkpoint.LAST).exists() and not path.exists():
            raise UsageError(
                f"{run} has not been judged: the command that trained it does that, with --resume, or "
                f"trainer evaluate --out {path}"
            )
        try:
            with np.load(path, allow_pickle=False) as file:
                scores = cls(*(file[name] for name in ("ids", "labels", "classes", "scores")))
        except OSError as exc:
            raise UsageError(f"{path}: cannot be read: {exc.strerror or exc}") from exc
        except KeyError as exc:
            raise UsageError(f"{path}: not a file of scores: {exc}") from exc
        except (ValueError, zipfile.BadZipFile) as exc:  # NumPy's advice is to trust the file
            raise UsageError(f"{path}: not a file of scores, as trainer evaluate writes them") from exc
        if scores.scores.shape != (len(scores.ids), len(scores.classes)) or len(scores.labels) != len(
            scores.ids
        ):
            raise UsageError(f"{path}: not a file of scores: the arrays' shapes do not agree")
        return scores
