#!/usr/bin/env python3
"""Compare rules of fusion on simulated scores: `fusion_rules.py [DRAWS]`.

A draw has a spatial and a temporal stream, with random accuracies and confidences. The logits of a video are
a margin for the true class, a part that all videos of its recording share, and a part of its own. Fusions are
fitted on held-out videos of a few recordings, and tested on videos of others. For each rule the table has the
mean difference to the better stream in points, the mean of the losses only, and the share of the draws in
which the fusion is more than one point below the better stream.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from trainer.evaluation.fusion import Fusion, fit_fusion
from trainer.evaluation.scores import Scores

CLASSES = np.array(["a", "b", "c"])
Streams = tuple[Scores, Scores]


@dataclass(frozen=True)
class Setting:
    """What a draw is from.

    Attributes:
        title: its name.
        margins: ranges of the margins of the spatial and of the temporal stream.
        recordings, clips: recordings of a class that are held out, and clips of each.
        optimism: what is added to the spatial margin of the held-out videos.
    """

    title: str
    margins: tuple[tuple[float, float], tuple[float, float]]
    recordings: int = 3
    clips: int = 5
    optimism: float = 0.0


FLOW_IS_BETTER, EQUAL, RGB_IS_BETTER = (
    ((0.8, 1.8), (2.5, 3.8)),
    ((1.3, 2.8), (1.3, 2.8)),
    ((2.3, 3.6), (0.5, 1.6)),
)
SETTINGS = (
    Setting("flow is better", FLOW_IS_BETTER),
    Setting("held-out RGB misleads", FLOW_IS_BETTER, optimism=1.2),
    Setting("9 clips, misleading", FLOW_IS_BETTER, clips=1, optimism=1.2),
    Setting("equal", EQUAL),
    Setting("RGB is better", RGB_IS_BETTER),
    Setting("flow is better, folds", FLOW_IS_BETTER, recordings=18),
)


def without_groups(fit: Streams) -> Streams:
    """The same scores, each video its own recording."""
    return fit[0].with_groups("none"), fit[1].with_groups("none")


def one_to_two(fit: Streams) -> Fusion:
    """Calibrated scores, in which flow counts twice."""
    return replace(fit_fusion("average", fit, calibrate=True), weights=(1 / 3, 2 / 3))


RULES: dict[str, Callable[[Streams], Fusion]] = {
    "average": lambda fit: fit_fusion("average"),
    "weights": lambda fit: fit_fusion("weighted", without_groups(fit)),
    "calibrated, 1 : 2": one_to_two,
    "calibrated weights, clips": lambda fit: fit_fusion("weighted", without_groups(fit), calibrate=True),
    "calibrated weights, recordings": lambda fit: fit_fusion("weighted", fit, calibrate=True),
}


def draw(rng: np.random.Generator, setting: Setting) -> tuple[Streams, Streams]:
    """Scores of both streams for held-out videos and for test videos of seven recordings of a class."""
    margins = [float(rng.uniform(*bounds)) for bounds in setting.margins]
    confidences = [float(rng.uniform(1.5, 4)), float(rng.uniform(1, 3))]
    parts: list[Streams] = []
    for prefix, recordings, clips in (("v", setting.recordings, setting.clips), ("t", 7, 5)):
        labels = np.repeat(np.arange(3), recordings * clips)
        groups = np.tile(np.repeat(np.arange(recordings), clips), 3)
        common = 0.4 * rng.normal(size=(len(labels), 3))  # a hard video is hard for both streams
        ids = np.array([f"{prefix}{n}" for n in range(len(labels))])
        streams = []
        for margin, confidence, optimism in zip(margins, confidences, (setting.optimism, 0.0), strict=True):
            scene = rng.normal(size=(3, recordings, 3))[labels, groups]
            logits = scene + rng.normal(size=(len(labels), 3)) + common
            logits[np.arange(len(labels)), labels] += margin + optimism * (prefix == "v")
            odds = np.exp(confidence * (logits - logits.max(1, keepdims=True)))
            names = np.array([f"{prefix}{group}" for group in groups])
            streams.append(Scores(ids, labels, CLASSES, odds / odds.sum(1, keepdims=True), names))
        parts.append((streams[0], streams[1]))
    return parts[0], parts[1]


def main() -> None:
    """Print the tables."""
    draws = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    for setting in SETTINGS:
        rng, results = np.random.default_rng(0), {name: [] for name in RULES}  # type: ignore[var-annotated]
        accuracies = []
        for _ in range(draws):
            fit, test = draw(rng, setting)
            accuracies.append([100 * stream.accuracy for stream in test])
            for name, rule in RULES.items():
                results[name].append(100 * rule(fit)(*test).accuracy - max(accuracies[-1]))
        spatial, temporal = np.mean(accuracies, 0)
        print(f"{setting.title}: spatial {spatial:.0f}, temporal {temporal:.0f}")
        for name, values in results.items():
            gains = np.array(values)
            losses, below = np.minimum(gains, 0).mean(), (gains < -1).mean()
            print(f"  {name:32} {gains.mean():+5.1f} {losses:+5.1f} {below:4.0%}")


if __name__ == "__main__":
    main()
