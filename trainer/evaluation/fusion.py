"""Fusion of the scores of two streams (Simonyan, Zisserman 2014, section 4.3 and table 4).

The weight of a stream, its temperature and the SVM are fitted. They are never fitted on the evaluated videos.
The held-out validation videos serve best; the training videos are allowed.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from flowprep.errors import UsageError
from trainer.evaluation import svm
from trainer.evaluation.calibration import best_temperature, best_weight, with_temperature
from trainer.evaluation.scores import FOLD_SCORES, VALIDATION_SCORES, Scores

log = logging.getLogger(__name__)

METHODS = ("average", "weighted", "svm")
_FIT_SCORES = "scores of both streams for training or validation videos"


@dataclass(frozen=True)
class Fusion:
    """A function from the scores of a spatial and of a temporal stream to fused scores.

    Attributes:
        method: "average"; "weighted", w a + (1 - w) b; or "svm", a linear SVM. The input of the SVM is the
            concatenation of both softmax scores, each divided by its L2 norm.
        fit: Scores of both streams for other videos, on which temperatures, weights and the SVM are fitted.
        temperatures: Divisor of the logits of each stream before the fusion.
        weights: w and 1 - w.
    """

    method: str
    fit: tuple[Scores, Scores] | None = None
    temperatures: tuple[float, float] = (1.0, 1.0)
    weights: tuple[float, float] = (0.5, 0.5)

    def __post_init__(self) -> None:
        """Check the method, and that it has scores to fit on."""
        if self.method not in METHODS:
            raise UsageError(f"method is {self.method!r}; allowed: {' | '.join(METHODS)}")
        if self.method != "average" and self.fit is None:
            raise UsageError(f"{self.method} needs --fit: {_FIT_SCORES}")

    def __call__(self, a: Scores, b: Scores) -> Scores:
        """Fuse the scores of two streams for the same videos. The rows follow the order of `a`.

        The SVM is fitted here.

        Raises:
            UsageError: `a` and `b` have other videos or classes, or `fit` has one of their videos or has
                other classes.
        """
        b = match_videos(a, b)
        if self.fit:
            _check_fit(self.fit[0], a)
        a, b = self.calibrated(a, b)
        if self.method == "svm" and self.fit:
            fit = self.calibrated(*self.fit)
            scores = svm.decision_values(
                svm_features(*fit),
                fit[0].labels,
                fit[0].group_names,
                a.classes.tolist(),
                svm_features(a, b),
            )
        else:
            scores = self.weights[0] * a.scores + self.weights[1] * b.scores
        return a.with_scores(scores)

    def calibrated(self, a: Scores, b: Scores) -> tuple[Scores, Scores]:
        """The scores of both streams at the temperatures of this fusion."""
        if self.temperatures == (1.0, 1.0):
            return a, b
        return with_temperature(a, self.temperatures[0]), with_temperature(b, self.temperatures[1])


@dataclass(frozen=True)
class FusionResult:
    """Fused scores, and the accuracies before and after.

    Attributes:
        fusion: The fusion.
        first: Scores of the spatial stream.
        second: Scores of the temporal stream.
        fused: The fused scores.
        calibrated: Whether temperatures were fitted.
        out: The file of the fused scores, if it was written.
    """

    fusion: Fusion
    first: Scores
    second: Scores
    fused: Scores
    calibrated: bool
    out: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """The object that `trainer fuse --json` prints."""
        return {
            "method": self.fusion.method,
            "calibrated": self.calibrated,
            "temperatures": self.fusion.temperatures,
            "weights": None if self.fusion.method == "svm" else self.fusion.weights,
            "videos": len(self.fused.ids),
            "first_accuracy": self.first.accuracy,
            "second_accuracy": self.second.accuracy,
            "fused_accuracy": self.fused.accuracy,
            "out": str(self.out) if self.out else None,
        }


def fit_fusion(
    method: str, fit: tuple[Scores, Scores] | None = None, *, calibrate: bool = False, groups: str = ""
) -> Fusion:
    """A fusion with fitted temperatures and weights.

    Args:
        method: One of `METHODS`.
        fit: Scores of both streams for videos that will not be evaluated.
        calibrate: Fit a temperature for each stream: see `calibration.best_temperature`.
        groups: A pattern that finds the groups of these videos, instead of those that the scores have.

    Raises:
        UsageError: There is no such method, or `fit` is missing, not needed, or not of the same videos.
    """
    if fit is None:
        if calibrate:
            raise UsageError(f"calibration needs --fit: {_FIT_SCORES}")
        return Fusion(method)
    if method == "average" and not calibrate:
        raise UsageError(
            "the average has nothing to fit: leave out --fit, or add --calibrate or --method weighted"
        )
    fit = fit[0], match_videos(*fit)
    if groups:
        fit = fit[0].with_groups(groups), fit[1].with_groups(groups)
    fusion = Fusion(method, fit)
    if calibrate:
        fusion = replace(fusion, temperatures=(best_temperature(fit[0]), best_temperature(fit[1])))
        log.info("temperatures fitted on %d videos: %.2f and %.2f", len(fit[0].ids), *fusion.temperatures)
    if method == "weighted":
        w = best_weight(*fusion.calibrated(*fit))
        fusion = replace(fusion, weights=(w, 1 - w))
        log.info("weights fitted on %d videos: %.2f and %.2f", len(fit[0].ids), *fusion.weights)
    return fusion


def fit_on_runs(
    method: str, spatial: Path, temporal: Path, *, calibrate: bool = False, groups: str = ""
) -> Fusion:
    """A fusion of two training runs, fitted on scores of their training videos.

    These are the scores of the folds if both runs have them, else those of the held-out videos.

    Raises:
        UsageError: as `fit_fusion`, or a run has no such scores.
    """
    if method == "average" and not calibrate:
        return fit_fusion(method)
    has_folds = all((run / FOLD_SCORES).exists() for run in (spatial, temporal))
    name = FOLD_SCORES if has_folds else VALIDATION_SCORES
    first, second = _fit_scores(spatial, name), _fit_scores(temporal, name)
    try:
        return fit_fusion(method, (first, second), calibrate=calibrate, groups=groups)
    except UsageError as exc:
        raise UsageError(f"{name} of {spatial} and {temporal}: {exc}") from exc


def _fit_scores(run: Path, name: str) -> Scores:
    if not (run / name).exists():
        raise UsageError(
            f"{run} has no {name} to fit on: its recipe holds out no videos (train.validation_share), or it "
            "is not finished. Train it with --fit-folds, or give other scores: trainer fuse --fit"
        )
    return Scores.load(run / name)


def svm_features(a: Scores, b: Scores) -> np.ndarray:
    """(N, 2 C): the scores of both streams, each divided by its L2 norm, concatenated."""
    return np.concatenate([svm.unit_length(s.scores) for s in (a, b)], axis=1)


def match_videos(a: Scores, b: Scores) -> Scores:
    """`b` in the order of the videos of `a`.

    Raises:
        UsageError: The two have different classes, videos or labels.
    """
    if a.classes.tolist() != b.classes.tolist():
        raise UsageError("the two files of scores have different classes, or a different order of classes")
    ids_of_b = set(b.ids.tolist())
    only_first = [video for video in a.ids.tolist() if video not in ids_of_b]
    only_second = sorted(ids_of_b - set(a.ids.tolist()))
    if only_first or only_second:
        parts = [
            f"{len(ids)} only in the {position} ({', '.join(ids[:3])}{', ...' if len(ids) > 3 else ''})"
            for position, ids in (("first", only_first), ("second", only_second))
            if ids
        ]
        raise UsageError(f"the two files of scores have other videos: {'; '.join(parts)}")
    b = b.in_order(a.ids)
    if different := [str(v) for v, x, y in zip(a.ids, a.labels, b.labels, strict=True) if x != y]:
        raise UsageError(f"the two files of scores have other labels for {', '.join(different[:5])}")
    return b


def _check_fit(fit: Scores, evaluated: Scores) -> None:
    if shared := sorted(set(fit.ids.tolist()) & set(evaluated.ids.tolist())):
        raise UsageError(
            f"{len(shared)} videos of --fit are among the evaluated videos: {', '.join(shared[:5])}; "
            "give scores of other videos"
        )
    if fit.classes.tolist() != evaluated.classes.tolist():
        raise UsageError("the classes of the --fit scores differ from those of the evaluated scores")
