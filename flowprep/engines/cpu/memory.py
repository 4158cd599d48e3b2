"""The memory of engine cpu: where the arrays of a solve lie, and their types."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from flowprep.engines.cpu.simd import LANES, load, store
from flowprep.system.jit import jit

Floats = NDArray[np.float32]  # 1-D, wherever no shape is given
Ints = NDArray[np.int32]

# The vectors of a block, as offsets in floats.
U1, U2, P11, P12, P21, P22, I1X, I1Y, RHO, INVERSE = range(0, 10 * LANES, LANES)
BLOCK = 10 * LANES

MARGIN = 3  # rows around a plane that repeat its border, for the median; LANES columns on each side
TEXEL = 4  # floats of a texel: I1, dI1/dx, dI1/dy, 0
TEXEL_MARGIN = 4  # zero texels around I1: four taps outside are 0 wherever they are

LONGEST_SWEEP = 6  # more rows at a time leave the cache

ONE = np.float32(1)
HALF = np.float32(0.5)


class Level(NamedTuple):
    """Sizes of a pyramid level and where things lie in its flat arrays."""

    height: int
    width: int
    blocks: int  # blocks that hold pixels, in a row
    row: int  # floats in a row of blocks: also one that holds the ghost column
    stride: int  # floats in a row of a plane
    origin: int  # of the first pixel in a plane
    texels: int  # floats in a row of texels


class Parameters(NamedTuple):
    """The solver's parameters, as the kernels want them."""

    taut: np.float32  # tau / theta
    lt: np.float32  # lambda theta
    theta: np.float32
    stop: float
    warps: int
    outer: int
    inner: int
    median: int
    fade: np.float32  # of the median's weights: 1 / (8 median_grey^2), or 0 for none
    median_after: bool
    spline: bool
    blend: np.float32
    mask: bool


class Frame(NamedTuple):
    """What is computed once a frame, however many pairs it is in: planes of each level, finest first."""

    images: list[Floats]  # prepared; the border repeated
    samples: list[Floats]  # what a warp reads: the same, or a spline's coefficients with the border mirrored


class Scratch(NamedTuple):
    """Arrays that hold nothing from one level to the next."""

    state: Floats  # (height + 2) rows of blocks: a ghost, the image, a ghost
    texels: Floats
    ranks: Floats  # 5 rows of a plane: the columns of a median's window, sorted
    steps: Floats  # two rows of pixels: 0, and tau / theta inside the image's columns
    pixels: Floats  # of 16 pixels
    indices: Ints  # of 16 pixels


def level_of(height: int, width: int) -> Level:
    """The layout of a level of this size."""
    with_ghost = width // LANES + 1
    stride = (with_ghost + 2) * LANES
    return Level(
        height,
        width,
        blocks=-(-width // LANES),
        row=with_ghost * BLOCK,
        stride=stride,
        origin=MARGIN * stride + LANES,
        texels=(width + 2 * TEXEL_MARGIN) * TEXEL + LANES * TEXEL,
    )


def aligned(size: int) -> Floats:
    """Zeros that start at a cache line."""
    memory = np.zeros(size + LANES, np.float32)
    start = -memory.ctypes.data % 64 // 4
    return memory[start : start + size]


def plane_of(level: Level) -> Floats:
    """A plane of zeros, with its margin."""
    return aligned((level.height + 2 * MARGIN) * level.stride)


def pixels_of(plane: Floats, level: Level) -> Floats:
    """The image (h, w) inside a plane."""
    rows = plane.reshape(-1, level.stride)
    return rows[MARGIN : MARGIN + level.height, LANES : LANES + level.width]


@jit
def make_steps(level: Level, taut: np.float32, steps: Floats) -> None:
    """Fill `steps`: a row of zeros, then tau / theta inside the image's columns and 0 beyond."""
    steps[: level.blocks * LANES] = 0
    for x in range(level.blocks * LANES):
        steps[level.blocks * LANES + x] = taut if x < level.width else np.float32(0)


@jit
def copy_out(level: Level, state: Floats, k: int, plane: Floats) -> None:
    """Copy vector k of each block of the state to a plane."""
    for y in range(level.height):
        for b in range(level.blocks):
            value = load(state, (y + 1) * level.row + b * BLOCK + k)
            store(plane, level.origin + y * level.stride + b * LANES, value)
