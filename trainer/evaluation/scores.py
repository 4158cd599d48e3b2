"""Class scores of videos, and the files that hold them."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from flowprep.errors import FileUnsuitable, UsageError
from flowprep.system.files import TEXT_BYTES, open_regular
from trainer.data.groups import recording_groups
from trainer.files import write_atomically
from trainer.training.run_folder import LAST

TEST_SCORES, VALIDATION_SCORES, FOLD_SCORES = "test_scores.npz", "validation_scores.npz", "fold_scores.npz"
ARRAYS = ("ids", "labels", "classes", "scores")
GROUPS = "groups"
FUSED_BY = "fused_by"  # of a file of fused scores: the method


@dataclass(frozen=True)
class Scores:
    """Class scores that a network or a fusion gives to videos. A file of scores (.npz) holds these four
    arrays.

    Attributes:
        ids: (N,) text, video ids in the corpus.
        labels: (N,) int64, index of the true class in `classes`.
        classes: (C,) text, class names.
        scores: (N, C) float32, higher is more likely. Scores of a stream, and their average, are
            probabilities with a sum of 1. Scores of an SVM are its decision values.
        groups: (N,) text, the group of each video: see trainer.data.groups. None, as in the files of earlier
            versions, stands for the groups of UCF-101 and HMDB-51 by the ids. The file has the array if it is
            not None.
    """

    ids: np.ndarray
    labels: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    groups: np.ndarray | None = None

    @property
    def accuracy(self) -> float:
        """Share of videos whose true class has the highest score."""
        return float((self.scores.argmax(1) == self.labels).mean())

    @property
    def confusion(self) -> np.ndarray:
        """(C, C) int64: element (i, j) counts the videos of class i that are predicted as class j."""
        counts = np.zeros((len(self.classes), len(self.classes)), np.int64)
        np.add.at(counts, (self.labels, self.scores.argmax(1)), 1)
        return counts

    def with_scores(self, scores: np.ndarray) -> Scores:
        """The same videos and classes with other scores, (N, C)."""
        return replace(self, scores=scores.astype(np.float32))

    def in_order(self, ids: np.ndarray) -> Scores:
        """The rows of these videos, in this order. Every id must be one of `self.ids`."""
        row_of = {video: row for row, video in enumerate(self.ids.tolist())}
        rows = [row_of[video] for video in ids.tolist()]
        return self.subset(rows)

    def subset(self, rows: Sequence[int]) -> Scores:
        """Some of the rows, in the given order."""
        index = np.asarray(rows, np.int64)
        groups = None if self.groups is None else self.groups[index]
        return Scores(self.ids[index], self.labels[index], self.classes, self.scores[index], groups)

    def with_groups(self, pattern: str) -> Scores:
        """The same scores with the groups that a pattern finds in the ids."""
        return replace(self, groups=np.array(recording_groups(self.ids.tolist(), pattern)))

    @property
    def group_names(self) -> list[str]:
        """(N,) the group of each video."""
        if self.groups is None:
            return recording_groups(self.ids.tolist())
        return [str(name) for name in self.groups]

    def save(self, path: Path, fused_by: str = "") -> None:
        """Write the file of scores. An interrupted write leaves no partial file.

        Args:
            path: The file.
            fused_by: The method, if these are fused scores. The file gets one more array with it.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {name: getattr(self, name) for name in ARRAYS}
        if self.groups is not None:
            arrays[GROUPS] = self.groups
        if fused_by:
            arrays[FUSED_BY] = np.array(fused_by)
        write_atomically(path, lambda file: np.savez(file, **arrays))

    @staticmethod
    def fused_by(path: Path) -> str:
        """The method by which the scores of a file were fused; "" for scores of one network."""
        with np.load(path, allow_pickle=False) as file:
            return str(file[FUSED_BY]) if FUSED_BY in file.files else ""

    @classmethod
    def load(cls, path: Path) -> Scores:
        """Read a file of scores, or the test scores of a training run.

        Args:
            path: A file of scores, or the folder of a training run.

        Raises:
            UsageError: The file is missing or not a file of scores, or the run has no test scores.
        """
        run, path = path, path / TEST_SCORES if path.is_dir() else path
        if (run / LAST).exists() and not path.exists():
            raise UsageError(
                f"{run} has no test scores: run the command that trained it with --resume, or "
                f"trainer evaluate --out {path}"
            )
        try:
            with open_regular(path, max_bytes=TEXT_BYTES) as raw, np.load(raw, allow_pickle=False) as file:
                if sum(member.file_size for member in file.zip.infolist()) > TEXT_BYTES:
                    raise ValueError("it would become very large")
                arrays = {name: file[name] for name in ARRAYS}
                scores = cls(**arrays, groups=file[GROUPS] if GROUPS in file.files else None)
        except OSError as exc:
            raise UsageError(f"{path}: cannot be read: {exc.strerror or exc}") from exc
        except KeyError as exc:
            raise UsageError(f"{path}: not a file of scores: {exc}") from exc
        except FileUnsuitable:
            raise
        except (
            ValueError,
            TypeError,
            AttributeError,
            MemoryError,
            zipfile.BadZipFile,
        ) as exc:  # NumPy's own message suggests to trust the file
            raise UsageError(f"{path}: not a file of scores, as trainer evaluate writes them") from exc
        count = len(scores.ids)
        sizes = {len(scores.labels), count if scores.groups is None else len(scores.groups)}
        if scores.scores.shape != (count, len(scores.classes)) or sizes != {count}:
            raise UsageError(f"{path}: not a file of scores: the shapes of its arrays do not agree")
        return scores


def join_scores(parts: Sequence[Scores]) -> Scores:
    """The rows of several files of the same classes, one after the other."""
    ids, labels, scores, groups = (
        np.concatenate([np.asarray(values) for values in column])
        for column in zip(*((p.ids, p.labels, p.scores, p.group_names) for p in parts), strict=True)
    )
    return Scores(ids, labels, parts[0].classes, scores, groups)
