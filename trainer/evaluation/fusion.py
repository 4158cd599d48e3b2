"""Fusing the scores of two streams (Simonyan, Zisserman 2014, section 4.3 and table 4).

Whatever is fitted - the weight of a stream, its temperature, the SVM - is fitted on scores of other videos
than those that are judged: of the training or, better, the held-out validation list.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from flowprep.errors import UsageError
from trainer.evaluation import svm
from trainer.evaluation.calibration import best_temperature, best_weight, with_temperature
from trainer.evaluation.scores import VALIDATION_SCORES, Scores

log = logging.getLogger(__name__)

METHODS = ("average", "weighted", "svm")
_FIT = "scores of both streams for training or validation videos"


@dataclass(frozen=True)
class Fusion:
    """How the scores of a spatial and of a temporal stream become one; a function of both.

    Attributes:
        method: "average"; "weighted": w a + (1 - w) b; "svm": a linear SVM on the two softmax scores, each
            L2-normalised, one beside the other.
        fit: scores of both streams for other videos, which everything was fitted on.
        temperatures: what the logits of each stream are divided by before they are fused.
        weights: w and 1 - w.
    """

    method: str
    fit: tuple[Scores, Scores] | None = None
    temperatures: tuple[float, float] = (1.0, 1.0)
    weights: tuple[float, float] = (0.5, 0.5)

    def __post_init__(self) -> None:
        """Refuse what is no fusion."""
        if self.method not in METHODS:
            raise UsageError(f"method is {self.method!r}; allowed: {' | '.join(METHODS)}")
        if self.method != "average" and self.fit is None:
            raise UsageError(f"{self.method} needs --fit: {_FIT}")

    def __call__(self, a: Scores, b: Scores) -> Scores:
        """Fuse the scores of two streams for the same videos; rows follow the order of `a`.

        The SVM is fitted here: its fit takes what it is fitted on and gives decisions at once.

        Raises:
            UsageError: the files do not cover each other, or `fit` is not of other videos of the classes.
        """
        b = _matched(a, b)
        if self.fit:
            if shared := sorted(set(self.fit[0].ids.tolist()) & set(a.ids.tolist())):
                raise UsageError(
                    f"{len(shared)} videos that are fitted on are among those judged: {', '.join(shared[:5])}"
                )
            if self.fit[0].classes.tolist() != a.classes.tolist():
                raise UsageError("the scores that are fitted on are of other classes than the judged ones")
        a, b = self._warm(a, b)
        if self.method == "svm" and self.fit:
            fit = self._warm(*self.fit)
            known, asked = _features(*fit), _features(a, b)
            scores = svm.decide(known, fit[0].labels, fit[0].ids.tolist(), a.classes.tolist(), asked)
        else:
            scores = self.weights[0] * a.scores + self.weights[1] * b.scores
        return a.with_scores(scores)

    def _warm(self, a: Scores, b: Scores) -> tuple[Scores, Scores]:
        if self.temperatures == (1.0, 1.0):
            return a, b
        return with_temperature(a, self.temperatures[0]), with_temperature(b, self.temperatures[1])


def fit_fusion(method: str, fit: tuple[Scores, Scores] | None = None, *, calibrate: bool = False) -> Fusion:
    """A fusion whose temperatures and weights are fitted.

    Args:
        method: see Fusion.
        fit: scores of both streams for other videos than it will judge, to fit on.
        calibrate: give each stream's scores the temperature that fits (see best_temperature).

    Raises:
        UsageError: there is no such method, or `fit` is missing, superfluous, or not of the same videos.
    """
    if fit is None:
        if calibrate:
            raise UsageError(f"calibration needs --fit: {_FIT}")
        return Fusion(method)
    if method == "average" and not calibrate:
        raise UsageError("the average has nothing to fit: leave out --fit, or calibrate, or weigh")
    fit = fit[0], _matched(*fit)
    fusion = Fusion(method, fit)
    if calibrate:
        fusion = replace(fusion, temperatures=(best_temperature(fit[0]), best_temperature(fit[1])))
        log.info("temperatures fitted on %d videos: %.2f and %.2f", len(fit[0].ids), *fusion.temperatures)
    if method == "weighted":
        w = best_weight(*fusion._warm(*fit))
        fusion = replace(fusion, weights=(w, 1 - w))
        log.info("weights fitted on %d videos: %.2f and %.2f", len(fit[0].ids), *fusion.weights)
    return fusion


def fit_on_runs(method: str, spatial: Path, temporal: Path, *, calibrate: bool = False) -> Fusion:
    """A fusion of two training runs, fitted on the scores of the videos that they held out.

    Raises:
        UsageError: as fit_fusion, or a run has no such scores.
    """
    if method == "average" and not calibrate:
        return fit_fusion(method)
    held = []
    for run in (spatial, temporal):
        if not (run / VALIDATION_SCORES).exists():
            raise UsageError(
                f"{run} has no {VALIDATION_SCORES} to fit on: its recipe held no videos out "
                "(train.validation_share), or it is not finished; trainer fuse --fit takes other scores"
            )
        held.append(Scores.load(run / VALIDATION_SCORES))
    try:
        return fit_fusion(method, (held[0], held[1]), calibrate=calibrate)
    except UsageError as exc:
        raise UsageError(f"validation scores of {spatial} and {temporal}: {exc}") from exc


def _features(a: Scores, b: Scores) -> np.ndarray:
    """(N, 2 C): each stream's scores with an L2 norm of 1, one beside the other."""
    return np.concatenate([svm.unit_length(s.scores) for s in (a, b)], axis=1)


def _matched(a: Scores, b: Scores) -> Scores:
    """`b` in the order of `a`'s videos."""
    if a.classes.tolist() != b.classes.tolist():
        raise UsageError("the two files of scores have other classes, or another order of them")
    place = {video: i for i, video in enumerate(b.ids.tolist())}
    only_a = [video for video in a.ids.tolist() if video not in place]
    only_b = sorted(set(place) - set(a.ids.tolist()))
    if only_a or only_b:
        parts = [
            f"{len(ids)} only in the {which} ({', '.join(ids[:3])}{', ...' if len(ids) > 3 else ''})"
            for which, ids in (("first", only_a), ("second", only_b))
            if ids
        ]
        raise UsageError(f"the two files of scores are of different videos: {'; '.join(parts)}")
    order = [place[video] for video in a.ids.tolist()]
    if differs := [str(v) for v, x, y in zip(a.ids, a.labels, b.labels[order], strict=True) if x != y]:
        raise UsageError(f"the two files of scores give another class to {', '.join(differs[:5])}")
    return Scores(b.ids[order], b.labels[order], b.classes, b.scores[order])
