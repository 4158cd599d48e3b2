"""Temperatures and weights of streams, fitted on scores."""

from __future__ import annotations

import numpy as np

from trainer.evaluation.scores import Scores

# Parameters of the beta distribution of the spatial stream's weight before anything is fitted: a third, as if
# six videos had told it. Flow counts twice in Wang et al. 2015 (arXiv 1507.02159), 1.5 times in Temporal
# Segment Networks (arXiv 1608.00859), both found on UCF-101.
PRIOR = (2, 4)
_LEAST = 1e-12  # scores below count as this in logarithms


def with_temperature(scores: Scores, temperature: float) -> Scores:
    """Softmax scores as if their logits had been divided by a temperature: p^(1/T), to a sum of 1.

    It changes no order within a video. Above 1 it takes back confidence (Guo et al. 2017, arXiv 1706.04599).
    The logits here are logarithms of scores that were averaged over clips and crops.
    """
    powers = np.log(np.maximum(scores.scores, _LEAST)) / temperature
    powers = np.exp(powers - powers.max(1, keepdims=True))
    return scores.with_scores(powers / powers.sum(1, keepdims=True))


def best_temperature(scores: Scores) -> float:
    """The temperature from 0.1 to 100, in steps of 2%, with the smallest mean log loss.

    The loss is against what N videos can tell of the next one: its class has (N + 1) / (N + C), each of the
    other C - 1 has 1 / (N + C) (Platt 1999, section 2.2, here of C classes). With hard labels a stream that
    is right on the few videos it is fitted on would be made as sure as can be. At 100 a stream that knows
    nothing has nothing to say.
    """
    count, classes = scores.scores.shape
    targets = np.full((count, classes), 1 / (count + classes))
    targets[np.arange(count), scores.labels] *= count + 1

    def loss(temperature: float) -> float:
        warm = with_temperature(scores, temperature).scores
        return float(-(targets * np.log(np.maximum(warm, _LEAST))).sum(1).mean())

    return float(min(np.geomspace(0.1, 100, 350), key=loss))


def best_weight(a: Scores, b: Scores) -> float:
    """The w of w a + (1 - w) b that is to be expected, from these videos and from what is known without them.

    The mean of w given how probable the videos' classes are with it, from a prior: weights fitted on few
    videos lose more than they gain (Clemen 1989; Claeskens et al. 2016), and these leave the prior only as
    far as there are videos that tell.
    """
    weights = (np.arange(100) + 0.5) / 100
    rows = np.arange(len(a.labels)), a.labels
    true = weights[:, None] * a.scores[rows] + (1 - weights[:, None]) * b.scores[rows]  # (100, N)
    logs = np.log(np.maximum(true, _LEAST)).sum(1)
    logs += (PRIOR[0] - 1) * np.log(weights) + (PRIOR[1] - 1) * np.log(1 - weights)
    return float(np.average(weights, weights=np.exp(logs - logs.max())))
