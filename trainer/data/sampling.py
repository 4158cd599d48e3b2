"""The frames and pairs that a clip consists of.

A position in a video is the number of a frame (spatial) or of a pair (temporal, both). A clip is given by its
first position. A clip of several time steps is given by the first position of each step.
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
    """The clips that a network sees: as its module states them, changed by the recipe.

    Attributes:
        stream: "spatial", "temporal" or "both".
        time_steps: T, the number of time steps; 0 for a network without an axis of time.
        spacing: (least, greatest) number of frames from one time step to the next; (0, 0) spreads the steps
            over the video.
        stack: L, the number of flows of a time step.
        bidirectional: whether half of the flows are backward: see pairs_of.
        bgr: whether the network reads B, G, R instead of R, G, B.
    """

    stream: str
    time_steps: int
    spacing: tuple[int, int]
    stack: int
    bidirectional: bool
    bgr: bool = False

    @classmethod
    def from_recipe(cls, recipe: Recipe, *, evaluation: bool = False) -> ClipSpec:
        """The clips of a recipe's network in training, or in evaluation."""
        spec, given, test = find_module(recipe.model.name).SPEC, recipe.input, recipe.test
        steps = 0 if spec.frames == (1,) else given.time_steps or spec.frames[0]
        least, greatest = given.spacing or spec.spacing
        if evaluation:
            steps = steps and (test.time_steps or steps)
            least = greatest = test.spacing if test.spacing >= 0 else (least + greatest) // 2
        return cls(recipe.stream, steps, (least, greatest), given.stack, given.bidirectional, given.bgr)

    @property
    def planes(self) -> int:
        """Number of planes of a clip, over all time steps."""
        channels = {"spatial": 3, "temporal": 2 * self.stack, "both": 3 + 2 * self.stack}
        return channels[self.stream] * max(1, self.time_steps)

    def length(self, step: int) -> int:
        """Number of frames or pairs that a time step covers.

        Args:
            step: frames from the first to the second frame of a pair.
        """
        if self.stream == "spatial":
            return 1
        return span(self.stack, step, bidirectional=self.bidirectional)

    def draw(self, rng: np.random.Generator, available: int, step: int) -> np.ndarray:
        """Random positions of the time steps of a training sample, (T,) int64.

        The spacing is uniform, and then the start. Steps that are spread over the video are uniform, each in
        its part of the video.

        Args:
            rng: random generator.
            available: number of frames or pairs of the video.
            step: frames from the first to the second frame of a pair.
        """
        least, greatest = self.spacing
        greatest = min(greatest, self._greatest_spacing(available, step))
        if not least or greatest < least:
            edges = np.linspace(0, num_starts(available, self.length(step)), self.time_steps + 1)
            return rng.uniform(edges[:-1], edges[1:]).astype(np.int64)
        spacing = int(rng.integers(least, greatest + 1))
        first = int(rng.integers(num_starts(available, self._reach(spacing, step))))
        return first + spacing * np.arange(self.time_steps)

    def spaced(self, available: int, step: int, count: int) -> list[int] | list[np.ndarray]:
        """Positions of `count` equally spaced clips; each is a number, or (T,) for a network of time steps.

        Args:
            available: number of frames or pairs of the video.
            step: frames from the first to the second frame of a pair.
            count: number of clips.
        """
        spacing = self.spacing[0]
        if not self.time_steps:
            return [int(i) for i in spaced_starts(available, self.length(step), count)]
        if not spacing or spacing > self._greatest_spacing(available, step):
            return [spaced_starts(available, self.length(step), self.time_steps)] * count
        starts = spaced_starts(available, self._reach(spacing, step), count)
        return [first + spacing * np.arange(self.time_steps) for first in starts]

    def _reach(self, spacing: int, step: int) -> int:
        """Number of frames or pairs that all time steps cover together."""
        return self.length(step) + (self.time_steps - 1) * spacing

    def _greatest_spacing(self, available: int, step: int) -> int:
        """The greatest spacing for which the video is long enough."""
        if self.time_steps < 2:
            return sys.maxsize
        return max(0, available - self.length(step)) // (self.time_steps - 1)

    def frame(self, position: int, step: int) -> int:
        """The frame that a time step shows; with both streams, the frame in the middle of the stack."""
        if self.stream == "spatial":
            return position
        middle = step - 1 + self.stack // 2 if self.bidirectional else (self.stack + step - 1) // 2
        return position + middle

    def tensors(self, clip: Clip) -> list[torch.Tensor]:
        """The inputs of the network for a batch of clips.

        Returns:
            One float32 tensor, or two with both streams: (N, C, S, S), or (N, C, T, S, S) with time steps.
        """
        clips = [clip] if self.stream != "both" else [clip.channels(0, 3), clip.channels(3, None)]
        parts = [part.normalised() for part in clips]
        if self.time_steps:
            parts = [part.transpose(1, 2) for part in parts]
        if self.bgr:
            parts[0] = parts[0].flip(1)
        return [channels_last(part) for part in parts]


def num_starts(available: int, length: int) -> int:
    """Number of positions at which a clip of `length` frames or pairs can start.

    A video that is shorter than the clip has one: its beginning. Its last flow is then repeated (see
    pairs_of), so that no video is left out.

    Args:
        available: number of frames or pairs of the video.
        length: number of frames or pairs of the clip.
    """
    return max(1, available - length + 1)


def spaced_starts(available: int, length: int, count: int) -> np.ndarray:
    """`count` equally spaced positions, from the first possible one to the last, (count,) int64.

    A video with fewer positions repeats some of them.
    """
    last = num_starts(available, length) - 1
    if count == 1:
        return np.array([last // 2])
    return np.rint(np.linspace(0, last, count)).astype(np.int64)


def span(length: int, step: int, *, bidirectional: bool) -> int:
    """Number of consecutive pairs that a stack of `length` flows covers.

    Args:
        length: L, the number of flows.
        step: frames from the first to the second frame of a pair.
        bidirectional: see pairs_of.
    """
    return length + step - 1 if bidirectional else length


def pairs_of(
    start: int, length: int, available: int, step: int, *, bidirectional: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of a stack: those of forward flow and those of backward flow (Simonyan, Zisserman 2014).

    A one-directional stack has the forward flows of frames t, t + 1, ..., t + L - 1, with t = `start`.
    A bidirectional stack is centred on frame t, the middle of the `span` pairs from `start` on. It has the
    forward flows of frames t, ..., t + L/2 - 1. Its backward flows are those of frames t, t - 1, ...,
    t - L/2 + 1. With pairs of neighbouring frames this is all motion between frames t - L/2 and t + L/2.

    Args:
        start: first pair of the clip.
        length: L.
        available: number of pairs of the video. A pair outside the video is replaced by its first or last
            pair.
        step: frames from the first to the second frame of a pair.
        bidirectional: whether the stack is bidirectional.

    Returns:
        Pairs of forward flow, (L,) or (L/2,), and pairs of backward flow, (0,) or (L/2,), in the order of the
        stack. The backward flow of pair i is that of frame i + step.
    """
    if not bidirectional:
        return np.minimum(start + np.arange(length), available - 1), np.arange(0)
    half = np.arange(length // 2)
    excess = min(0, available - span(length, step, bidirectional=True))  # negative for a short video
    middle = start + step - 1 + length // 2 + excess // 2
    return (middle + half).clip(0, available - 1), (middle - step - half).clip(0, available - 1)


def apply_control(
    sides: Sequence[tuple[np.ndarray, bool]], control: str, rng: np.random.Generator
) -> tuple[list[tuple[np.ndarray, bool]], int]:
    """Remove information from a stack, to measure how much the network uses it.

    "reversed" shows the stack of the video played backward, approximately and from the same flow: forward
    flows are negated and in the opposite order; the two halves of a bidirectional stack change places.
    "shuffled" shows the flows in a random order; the two halves of a bidirectional stack separately.

    Args:
        sides: (pairs in the order of the stack, whether it is their backward flow): one, or the two halves of
            a bidirectional stack.
        control: "reversed", "shuffled", or "" for no change.
        rng: random generator.

    Returns:
        The changed `sides`, and the factor of their flow: 1 or -1.
    """
    if control == "reversed":
        return (list(sides[::-1]), 1) if len(sides) == 2 else ([(sides[0][0][::-1], sides[0][1])], -1)
    if control == "shuffled":
        return [(rng.permutation(pairs), backward) for pairs, backward in sides], 1
    return list(sides), 1
