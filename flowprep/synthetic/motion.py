"""Motions of a sheet: its pose in each frame."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# Pixels per frame of the sheet, or of its rim if it turns or grows: least and greatest.
SPEED = (1.5, 3.0)


class Pose(NamedTuple):
    """Position of a sheet.

    Attributes:
        right, down: shift, pixels.
        angle: radians, from right to down.
        octave: binary logarithm of the scale.
    """

    right: float
    down: float
    angle: float
    octave: float


PoseAtFrame = Callable[[int], Pose]
# Draws speed and phase at random. The second argument is the radius of the window in pixels.
Motion = Callable[[np.random.Generator, float], PoseAtFrame]


def _steady(
    right: float = 0, down: float = 0, angle: float = 0, octave: float = 0, either_way: bool = False
) -> Motion:
    """Constant speed in one direction; with `either_way`, in this or in the opposite one."""

    def start(rng: np.random.Generator, radius: float) -> PoseAtFrame:
        speed = rng.uniform(*SPEED) * (rng.choice((-1, 1)) if either_way else 1)
        turn, growth = speed / radius, speed / radius / math.log(2)
        return lambda t: Pose(right * speed * t, down * speed * t, angle * turn * t, octave * growth * t)

    return start


def _swinging(right: float = 0, down: float = 0, angle: float = 0, octave: float = 0) -> Motion:
    """To and fro from any phase, with the same mean square speed as `_steady`."""

    def start(rng: np.random.Generator, radius: float) -> PoseAtFrame:
        period, phase = rng.uniform(11, 15), rng.uniform(0, 2 * math.pi)
        amplitude = rng.uniform(*SPEED) * math.sqrt(2) * period / (2 * math.pi)
        turn, growth = amplitude / radius, amplitude / radius / math.log(2)

        def pose(t: int) -> Pose:
            swing = math.sin(2 * math.pi * t / period + phase)
            return Pose(
                right * amplitude * swing,
                down * amplitude * swing,
                angle * turn * swing,
                octave * growth * swing,
            )

        return pose

    return start


MOTIONS: dict[str, Motion] = {
    "Sliding": _steady(right=1, either_way=True),
    "Spinning": _steady(angle=1, either_way=True),
    "Growing": _steady(octave=1),
    "Swaying": _swinging(right=1),
    "Rising": _steady(down=-1),
    "Rocking": _swinging(angle=1),
    "Shrinking": _steady(octave=-1),
    "Bobbing": _swinging(down=1),
}
