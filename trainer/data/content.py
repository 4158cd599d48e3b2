"""The frames and the pairs that a clip shows, after the controls of its input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from trainer.data.sampling import ClipSpec, apply_control, pairs_of

if TYPE_CHECKING:
    from flowprep import Video


class Side(NamedTuple):
    """The forward or the backward flows of the stacks of a clip.

    Attributes:
        pairs: (T, n) pairs of each time step, in the order of the stack.
        backward: whether their backward flow is shown.
    """

    pairs: np.ndarray
    backward: bool


class ClipContent(NamedTuple):
    """What a clip shows.

    Attributes:
        frames: the frame of each of the T time steps; none in a temporal clip.
        sides: the flows of each time step: none, one side, or two of a bidirectional stack.
        sign: the factor of the flow, 1 or -1.
    """

    frames: Sequence[int]
    sides: Sequence[Side]
    sign: int


def choose_content(
    video: Video, position: int | np.ndarray, spec: ClipSpec, control: str, rng: np.random.Generator
) -> ClipContent:
    """Find the frames and pairs of a clip. The flows of a stack are those of pairs_of.

    Args:
        video: a video of a corpus.
        position: the frame or pair at which the clip begins; or (T,), those of its time steps.
        spec: the clips of the recipe.
        control: input.control of the recipe.
        rng: random generator for the control.
    """
    positions = np.atleast_1d(position)
    if len(positions) > 1:
        positions = apply_control([(positions, False)], control, rng)[0][0][0]
    frames, stacks, sign = [], [], 1
    for start in positions.tolist():
        if spec.stream != "temporal":
            frames.append(min(spec.frame(start, video.step), video.num_frames - 1))
        if spec.stream != "spatial":
            forward, backward = pairs_of(
                start, spec.stack, video.num_pairs, video.step, bidirectional=spec.bidirectional
            )
            halves = [(forward, False), (backward, True)] if spec.bidirectional else [(forward, False)]
            sides, sign = apply_control(halves, control, rng)
            stacks.append(sides)
    together = [
        Side(np.array([pairs for pairs, _ in side]), side[0][1]) for side in zip(*stacks, strict=True)
    ]
    return ClipContent(frames, together, sign)
