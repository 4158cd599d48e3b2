"""Temperatures and weights of streams, fitted on scores."""

from __future__ import annotations

from collections import Counter

import numpy as np

from trainer.evaluation.scores import Scores

# Prior of the spatial stream's weight: a beta distribution with a mean of 1/3, as strong as six videos. Flow
# counts twice in Wang et al. 2015 (arXiv 1507.02159) and 1.5 times in Temporal Segment Networks (arXiv
# 1608.00859), both on UCF-101.
PRIOR = (2, 4)
# Correlation of the videos of one recording: if a network knows one of them, it knows most of the others.
GROUP_CORRELATION = 0.5
MIN_SCORE = 1e-12  # lower bound of a score in a logarithm


def evidence(scores: Scores) -> np.ndarray:
    """How many independent videos each video counts as, (N,).

    The m videos of a class that are of one group count as m / (1 + (m - 1) r) independent ones, with r =
    `GROUP_CORRELATION` (the design effect of Kish 1965, Survey Sampling). 45 held-out videos of nine
    recordings count as 15. Otherwise a stream that happens to know the nine scenes seems much better than it
    is.
    """
    keys = list(zip(scores.labels.tolist(), scores.group_names, strict=True))
    sizes = Counter(keys)
    return 1 / (1 + (np.array([sizes[key] for key in keys]) - 1) * GROUP_CORRELATION)


def with_temperature(scores: Scores, temperature: float) -> Scores:
    """Softmax scores p as if the logits had been divided by a temperature T: p^(1/T), scaled to a sum of 1.

    The order of the classes of a video stays. T > 1 reduces the confidence (Guo et al. 2017, arXiv
    1706.04599). The logits here are logarithms of scores that were averaged over clips and crops.
    """
    powers = np.log(np.maximum(scores.scores, MIN_SCORE)) / temperature
    powers = np.exp(powers - powers.max(1, keepdims=True))
    return scores.with_scores(powers / powers.sum(1, keepdims=True))


def best_temperature(scores: Scores) -> float:
    """The temperature from 0.1 to 100, in steps of 2%, with the smallest log loss.

    Targets are smoothed (Platt 1999, section 2.2, here for C classes): from N videos the true class has the
    target (N + 1) / (N + C) and each other class 1 / (N + C). Hard targets would give the lowest temperature
    to a stream that is right on all of the few videos. N is the sum of `evidence`, which also weights the
    videos.
    """
    classes, independent = scores.scores.shape[1], evidence(scores)
    count = independent.sum()
    targets = np.full(scores.scores.shape, 1 / (count + classes))
    targets[np.arange(len(targets)), scores.labels] *= count + 1

    def loss(temperature: float) -> float:
        calibrated = with_temperature(scores, temperature).scores
        return float(-independent @ (targets * np.log(np.maximum(calibrated, MIN_SCORE))).sum(1))

    return float(min(np.geomspace(0.1, 100, 350), key=loss))


def best_weight(a: Scores, b: Scores) -> float:
    """The posterior mean of w in w a + (1 - w) b, given the true classes of these videos.

    The likelihood of w is the product of the fused probabilities of the true classes, each to the power of
    the video's `evidence`. The prior is `PRIOR`. A weight that is fitted on few videos without a prior loses
    more than it gains (Clemen 1989; Claeskens et al. 2016). With this prior, few videos change the weight
    little, and many videos determine it.
    """
    weights = (np.arange(100) + 0.5) / 100
    rows = np.arange(len(a.labels)), a.labels
    true = weights[:, None] * a.scores[rows] + (1 - weights[:, None]) * b.scores[rows]  # (100, N)
    logs = np.log(np.maximum(true, MIN_SCORE)) @ evidence(a)
    logs += (PRIOR[0] - 1) * np.log(weights) + (PRIOR[1] - 1) * np.log(1 - weights)
    return float(np.average(weights, weights=np.exp(logs - logs.max())))
