"""A linear SVM on what is known of videos: features of a network, or the scores of two streams."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from flowprep.errors import UsageError
from trainer.data.splits import recording_groups

log = logging.getLogger(__name__)

_C_GRID = tuple(10.0**k for k in range(-3, 4))


def decide(
    known: np.ndarray, labels: np.ndarray, ids: Sequence[str], classes: Sequence[str], asked: np.ndarray
) -> np.ndarray:
    """Decision values of a linear SVM, one class against the rest; its C by cross-validation.

    Args:
        known: (M, F), of the videos that it is fitted on.
        labels, ids: (M,), their classes and names.
        classes: names of the C classes.
        asked: (N, F), of those that it judges.

    Returns:
        (N, C).

    Raises:
        UsageError: a class has fewer than two groups of videos to fit on.
    """
    from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
    from sklearn.svm import LinearSVC

    # Clips of one recording in both halves would make every C look good: folds keep groups together.
    names = recording_groups(list(ids))
    by_class: dict[int, set[str]] = defaultdict(set)
    for label, name in zip(labels.tolist(), names, strict=True):
        by_class[label].add(name)
    if few := [str(c) for n, c in enumerate(classes) if len(by_class[n]) < 2]:
        raise UsageError(
            "the SVM is chosen by cross-validation and needs two groups of videos of each class to fit on; "
            f"too few of {', '.join(few[:5])}. Fit on the training list"
        )
    folds = min(5, *(len(names) for names in by_class.values()))
    search = GridSearchCV(
        LinearSVC(random_state=0, max_iter=100_000),
        {"C": _C_GRID},
        cv=StratifiedGroupKFold(folds, shuffle=True, random_state=0),
    )
    search.fit(known, labels, groups=names)
    log.info("SVM fitted on %d videos: C = %g by %d folds", len(ids), search.best_params_["C"], folds)
    values = np.asarray(search.decision_function(asked))
    return np.stack([-values, values], axis=1) if values.ndim == 1 else values


def unit_length(rows: np.ndarray) -> np.ndarray:
    """Each row of (N, F) with an L2 norm of 1; one of zeros stays."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(norms > 0, norms, 1))
