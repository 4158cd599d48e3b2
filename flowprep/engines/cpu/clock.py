"""The clock of the solver: the time of each stage of a level, and the blocks on which it worked.

It always runs: a lap takes some ten nanoseconds, and a pair has a few hundred. So `bench flow --stages` times
the engine itself, not a copy of its loop.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flowprep.engines.cpu.simd import ticks
from flowprep.system.jit import jit

BEGIN, TEXELS, WARP, PLAIN_MEDIAN, WEIGHTED_MEDIAN, ITERATIONS, END = range(7)
LAST = 7  # row of the tick at which the last lap ended
TICKS, BLOCKS = range(2)  # columns

Clock = NDArray[np.int64]  # (8, 2): ticks and blocks of each stage; a block in two iterations counts twice


def new_clock() -> Clock:
    """A clock that shows nothing yet."""
    return np.zeros((LAST + 1, 2), np.int64)


@jit
def start(clock: Clock) -> None:
    """Begin the first lap."""
    clock[LAST, TICKS] = ticks()


@jit
def lap(clock: Clock, stage: int, blocks: int) -> None:
    """Add the time since the last lap to a stage, and the blocks that it worked on."""
    now = ticks()
    clock[stage, TICKS] += now - clock[LAST, TICKS]
    clock[stage, BLOCKS] += blocks
    clock[LAST, TICKS] = now
