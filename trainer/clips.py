"""Which frames and pairs of a video a sample is made of, and what it is on its way to the network.

A clip is given by its first frame or pair: the spatial stream sees that frame, the temporal stream the
flows of `pairs_of`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch


class Clip(NamedTuple):
    """Planes as they are read, and how a network sees them: planes * gain + bias.

    They stay whole numbers, where they are, until they are on the device: a quarter of the bytes to move.

    Attributes:
        planes: (..., C, H, W): R, G, B as uint8; or u1, v1, u2, v2, ... as uint8, the stored codes, or as
            float32, pixels, where they had to be resized or followed along trajectories.
        gain, bias: (..., C) float32.
    """

    planes: torch.Tensor
    gain: torch.Tensor
    bias: torch.Tensor

    def to(self, device: torch.device) -> Clip:
        """The clip on a device."""
        return Clip(*(part.to(device, non_blocking=True) for part in self))

    def normalised(self) -> torch.Tensor:
        """What the network sees, (..., C, H, W) float32."""
        return (self.planes * self.gain[..., None, None]).add_(self.bias[..., None, None])


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


def span(length: int, step: int, *, bidirectional: bool) -> int:
    """How many consecutive pairs a stack of `length` flows reaches over, `step` frames to a pair."""
    return length + step - 1 if bidirectional else length


def pairs_of(
    start: int, length: int, available: int, step: int, *, bidirectional: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The pairs whose forward and whose backward flow a temporal clip is made of (Simonyan, Zisserman 2014).

    One-directional: the forward flows of frames t, t + 1, ..., t + L - 1, with t = `start`.
    Bi-directional: the forward flows of frames t, ..., t + L/2 - 1, and the flows back from frames
    t, t - 1, ..., t - L/2 + 1, where t is the middle of the `span` pairs from `start` on. With pairs of
    neighbouring frames that is all motion between frames t - L/2 and t + L/2.

    Args:
        start: first pair of the clip.
        length: L.
        available: pairs of the video. What lies outside of it is replaced by its first or last pair.
        step: frames from the first to the second of a pair.
        bidirectional: see above.

    Returns:
        Pairs of forward flow, (L,) or (L/2,), and of backward flow, (0,) or (L/2,), in the order of the
        stack. The backward flow of pair i is that of frame i + step.
    """
    if not bidirectional:
        return np.minimum(start + np.arange(length), available - 1), np.arange(0)
    half = np.arange(length // 2)
    spare = min(0, available - span(length, step, bidirectional=True))
    middle = start + step - 1 + length // 2 + spare // 2
    return (middle + half).clip(0, available - 1), (middle - step - half).clip(0, available - 1)


class BalancedClips:
    """Training samples, uniform over classes, then over a class's videos, then over places in the video.

    Sample `i` of step `s` follows from (seed, s, i) alone, so neither the number of loader processes nor
    where a run was interrupted changes what is seen.

    Args:
        labels: class of each video, (N,).
        starts: in how many places a clip can start in each video, (N,): see num_starts.
        seed: the run's seed.
    """

    def __init__(self, labels: Sequence[int], starts: Sequence[int], seed: int) -> None:
        by_class: dict[int, list[int]] = {}
        for video, label in enumerate(labels):
            by_class.setdefault(label, []).append(video)
        self._classes = [by_class[label] for label in sorted(by_class)]
        self._starts = starts
        self._seed = seed

    def draw(self, step: int, i: int) -> tuple[int, int, np.random.Generator]:
        """(position of the video, place where the clip starts, generator for the sample's augmentation)."""
        rng = np.random.default_rng([self._seed, step, i])
        videos = self._classes[rng.integers(len(self._classes))]
        video = videos[rng.integers(len(videos))]
        return video, int(rng.integers(self._starts[video])), rng
