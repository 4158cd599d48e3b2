"""Which frames and pairs of a video a sample is made of, and what it is on its way to the network.

A clip is given by its first frame or pair: the spatial stream sees that frame, the temporal stream the
flows of `pairs_of`. Of a network of several time steps it is given by that of each.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from trainer.data.clip import Clip
from trainer.models.layers import channels_last
from trainer.models.registry import find_module
from trainer.recipe.schema import Recipe


@dataclass(frozen=True)
class ClipSpec:
    """What a network sees of a video at once: what its module states, and what the recipe makes of it.

    Places in a video count the frames (spatial) or the pairs (temporal, both) that a time step begins with.

    Attributes:
        stream: "spatial", "temporal" or "both".
        time_steps: T, the number of time steps; 0 for a network without an axis of time.
        spacing: frames from one time step to the next, least and most; (0, 0): spread over the video.
        stack: L.
        bidirectional: see pairs_of.
    """

    stream: str
    time_steps: int
    spacing: tuple[int, int]
    stack: int
    bidirectional: bool

    @classmethod
    def from_recipe(cls, recipe: Recipe, *, evaluation: bool = False) -> ClipSpec:
        """What a recipe's network sees in training, or in evaluation."""
        spec, given, test = find_module(recipe.model.name).SPEC, recipe.input, recipe.test
        steps = 0 if spec.frames == (1,) else given.time_steps or spec.frames[0]
        least, most = given.spacing or spec.spacing
        if evaluation:
            steps = steps and (test.time_steps or steps)
            least = most = test.spacing if test.spacing >= 0 else (least + most) // 2
        return cls(recipe.stream, steps, (least, most), given.stack, given.bidirectional)

    @property
    def planes(self) -> int:
        """How many planes a clip has, over all time steps."""
        channels = {"spatial": 3, "temporal": 2 * self.stack, "both": 3 + 2 * self.stack}
        return channels[self.stream] * max(1, self.time_steps)

    def length(self, step: int) -> int:
        """Frames or pairs that a time step reaches over, with `step` frames to a pair."""
        if self.stream == "spatial":
            return 1
        return span(self.stack, step, bidirectional=self.bidirectional)

    def draw(self, rng: np.random.Generator, available: int, step: int) -> np.ndarray:
        """Places of the time steps of a training sample, (T,): its spacing is uniform, then where it starts.

        Steps that are spread over the video are uniform, each in its part of it.

        Args:
            rng: where chance comes from.
            available: frames or pairs of the video.
            step: frames from the first to the second of a pair.
        """
        least, most = self.spacing
        most = min(most, self._widest(available, step))
        if not least or most < least:  # one of each of T equal parts
            edges = np.linspace(0, num_starts(available, self.length(step)), self.time_steps + 1)
            return rng.uniform(edges[:-1], edges[1:]).astype(np.int64)
        spacing = int(rng.integers(least, most + 1))
        first = int(rng.integers(num_starts(available, self._reach(spacing, step))))
        return first + spacing * np.arange(self.time_steps)

    def spaced(self, available: int, step: int, count: int) -> list[int] | list[np.ndarray]:
        """Places of `count` equally spaced clips; each is one, or (T,) for a network of time steps."""
        spacing = self.spacing[0]
        if not self.time_steps:
            return [int(i) for i in spaced_starts(available, self.length(step), count)]
        if not spacing or spacing > self._widest(available, step):
            return [self._spread(available, step)] * count
        starts = spaced_starts(available, self._reach(spacing, step), count)
        return [first + spacing * np.arange(self.time_steps) for first in starts]

    def _reach(self, spacing: int, step: int) -> int:
        return self.length(step) + (self.time_steps - 1) * spacing

    def _widest(self, available: int, step: int) -> int:
        """The greatest spacing for which the video is long enough."""
        return (
            max(0, available - self.length(step)) // (self.time_steps - 1)
            if self.time_steps > 1
            else sys.maxsize
        )

    def _spread(self, available: int, step: int) -> np.ndarray:
        return spaced_starts(available, self.length(step), self.time_steps)

    def frame(self, place: int, step: int) -> int:
        """The frame that a time step shows: of a joint network, that in the middle of its stack."""
        if self.stream == "spatial":
            return place
        return place + (step - 1 + self.stack // 2 if self.bidirectional else (self.stack + step - 1) // 2)

    def tensors(self, clip: Clip) -> list[torch.Tensor]:
        """The network's inputs, of a batch of clips: float32, each (N, C, S, S) or (N, C, T, S, S)."""
        x = clip.normalised()
        if self.time_steps:
            x = x.transpose(1, 2)
        parts = [x] if self.stream != "both" else [x[:, :3], x[:, 3:]]
        return [channels_last(part) for part in parts]


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


def controlled(
    sides: Sequence[tuple[np.ndarray, bool]], control: str, rng: np.random.Generator
) -> tuple[list[tuple[np.ndarray, bool]], int]:
    """The pairs of a stack from which a control has taken something: what it did not need is not missed.

    "reversed": about what the video would give if it were played backwards, from the same flow. Forward flows
    come in the opposite order and negated; the two halves of a bi-directional stack change places.
    "shuffled": the flows in a random order; of a bi-directional stack, in each half.

    Args:
        sides: pairs, in the order of the stack, and whether it is their backward flow: one such, or the two
            of a bi-directional stack.
        control: see above; "" changes nothing.
        rng: where chance comes from.

    Returns:
        Pairs as `sides` has them, and what to multiply their flow by: 1 or -1.
    """
    if control == "reversed":
        return (list(sides[::-1]), 1) if len(sides) == 2 else ([(sides[0][0][::-1], sides[0][1])], -1)
    if control == "shuffled":
        return [(rng.permutation(pairs), backward) for pairs, backward in sides], 1
    return list(sides), 1
