"""Which frames and pairs of a video a sample is made of.

A clip is given by its first frame: the spatial stream sees that frame, the temporal stream the L
consecutive flows that start there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def num_starts(available: int, length: int) -> int:
    """In how many places a clip of `length` frames or pairs can start among `available` ones.

    A video shorter than the clip has one place, its beginning; what is missing at its end is filled by
    repeating its last flow (see inputs.load_clip). No video is left out.
    """
    return max(1, available - length + 1)


def spaced_starts(available: int, length: int, count: int) -> np.ndarray:
    """`count` equally spaced places, from the first possible one to the last, (count,) int64.

    A video with fewer places than `count` has some of them more than once.
    """
    last = num_starts(available, length) - 1
    if count == 1:
        return np.array([last // 2])
    return np.rint(np.linspace(0, last, count)).astype(np.int64)


class BalancedClips:
    """Training samples, uniform over classes, then over a class's videos, then over places in the video.

    Sample `i` of step `s` follows from (seed, s, i) alone, so neither the number of loader processes nor
    where a run was interrupted changes what is seen.

    Args:
        labels: class of each video, (N,).
        available: frames or pairs of each video, (N,).
        length: frames or pairs of one clip.
        seed: the run's seed.
    """

    def __init__(self, labels: Sequence[int], available: Sequence[int], length: int, seed: int) -> None:
        by_class: dict[int, list[int]] = {}
        for video, label in enumerate(labels):
            by_class.setdefault(label, []).append(video)
        self._classes = [by_class[label] for label in sorted(by_class)]
        self._starts = [num_starts(n, length) for n in available]
        self._seed = seed

    def draw(self, step: int, i: int) -> tuple[int, int, np.random.Generator]:
        """(position of the video, place where the clip starts, generator for the sample's augmentation)."""
        rng = np.random.default_rng([self._seed, step, i])
        videos = self._classes[rng.integers(len(self._classes))]
        video = videos[rng.integers(len(videos))]
        return video, int(rng.integers(self._starts[video])), rng
