"""A linear SVM that classifies videos by feature vectors, or by the scores of two streams."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from flowprep.errors import UsageError

log = logging.getLogger(__name__)

C_GRID = tuple(10.0**k for k in range(-3, 4))
MAX_FOLDS = 5


def decision_values(
    training: np.ndarray,
    labels: np.ndarray,
    groups: Sequence[str],
    classes: Sequence[str],
    queries: np.ndarray,
) -> np.ndarray:
    """Decision values of a linear SVM, one class against the rest. C is selected by cross-validation.

    Args:
        training: (M, F), vectors to fit on.
        labels: (M,), their classes.
        groups: (M,), names of their groups. Videos of one group are in one fold.
        classes: C class names.
        queries: (N, F), vectors to classify.

    Returns:
        (N, C).

    Raises:
        UsageError: A class has fewer than two groups of videos to fit on.
    """
    from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
    from sklearn.svm import LinearSVC

    # Folds keep the clips of one recording together. Otherwise every C would look good.
    folds = _count_folds(labels, groups, classes)
    search = GridSearchCV(
        LinearSVC(random_state=0, max_iter=100_000),
        {"C": C_GRID},
        cv=StratifiedGroupKFold(folds, shuffle=True, random_state=0),
    )
    search.fit(training, labels, groups=groups)
    log.info("SVM fitted on %d videos: C = %g by %d folds", len(labels), search.best_params_["C"], folds)
    values = np.asarray(search.decision_function(queries))
    return np.stack([-values, values], axis=1) if values.ndim == 1 else values


def _count_folds(labels: np.ndarray, groups: Sequence[str], classes: Sequence[str]) -> int:
    by_class: dict[int, set[str]] = defaultdict(set)
    for label, group in zip(labels.tolist(), groups, strict=True):
        by_class[label].add(group)
    if too_few := [str(name) for n, name in enumerate(classes) if len(by_class[n]) < 2]:
        raise UsageError(
            "C of the SVM is selected by cross-validation, which needs two groups of videos in each class; "
            f"too few in {', '.join(too_few[:5])}. Fit on the training list"
        )
    return min(MAX_FOLDS, *map(len, by_class.values()))


def unit_length(rows: np.ndarray) -> np.ndarray:
    """Divide each row of (N, F) by its L2 norm. A row of zeros stays."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(norms > 0, norms, 1))
