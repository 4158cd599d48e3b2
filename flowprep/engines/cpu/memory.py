"""The arrays of engine cpu: where everything lies in them, and the records that the kernels get."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from flowprep.engines.cpu.clock import Clock
from flowprep.engines.cpu.simd import LANES, load, store
from flowprep.engines.pyramid import linear_taps
from flowprep.system.jit import jit

Floats = NDArray[np.float32]  # 1-D, except where a shape is given
Shorts = NDArray[np.int16]
Ints = NDArray[np.int32]
Tiles = NDArray[np.uint8]  # (tile rows, tile columns): 1 where the solver works; a tile column is a block

# The vectors of a block of the state, as offsets in floats.
U1, U2, P11, P12, P21, P22, I1X, I1Y, RHO, INVERSE, TAUT = range(0, 11 * LANES, LANES)
BLOCK = 11 * LANES
DUAL_PARTS = 4  # P11 to P22

# Rows around a plane that repeat its border, for a median of 7 pixels, 3 apart; LANES columns on each side.
MARGIN = 9
TEXEL = 4  # floats of a texel: I1, dI1/dx, dI1/dy, 0
TEXEL_MARGIN = 4  # zero texels around I1: four taps outside are 0 wherever they are

LONGEST_SWEEP = 10  # iterations: the rows of many more do not fit in the second-level cache

ONE = np.float32(1)
HALF = np.float32(0.5)


class LevelLayout(NamedTuple):
    """The size of a pyramid level, and the offsets in its flat arrays.

    A plane is an image with its margin. Lengths are in floats.

    Attributes:
        height, width: size in pixels.
        blocks: number of blocks with pixels in a row.
        row: length of a row of blocks, with the block of the ghost column.
        stride: length of a row of a plane.
        origin: offset of the first pixel in a plane.
        texels: length of a row of texels.
    """

    height: int
    width: int
    blocks: int
    row: int
    stride: int
    origin: int
    texels: int


class SolverParameters(NamedTuple):
    """The parameters of the solver at one level, in the types of the kernels.

    Attributes:
        taut: tau / theta.
        huber: gradient up to which the regulariser is quadratic.
        edge: of the weights of the regulariser: edge / 32; 0 for equal weights.
        edge_least: the least of these weights.
        settle: sum of squared updates of a tile up to which it has settled; 0 to work on all tiles.
        lt: lambda theta.
        theta: coupling of the flow and its auxiliary variable.
        stop: sum of squared updates at which the iterations stop.
        warps, outer, inner: numbers of iterations.
        median: side of the median.
        weighted_from: number of the first warp with a weighted median.
        fade: of the weights of a weighted median: 1 / (8 median_grey^2); 0 for a plain one.
        occlusion: of the weights for occlusions: 1 / (8 median_occlusion^2); 0 for none.
        stride: distance of the pixels in the window of a weighted median.
        median_after, spline, blend, mask, coupled, keep_dual: as in the settings.
    """

    taut: np.float32
    huber: np.float32
    edge: np.float32
    edge_least: np.float32
    settle: np.float32
    lt: np.float32
    theta: np.float32
    stop: float
    warps: int
    outer: int
    inner: int
    median: int
    weighted_from: int
    fade: np.float32
    occlusion: np.float32
    stride: int
    median_after: bool
    spline: bool
    blend: np.float32
    mask: bool
    coupled: bool
    keep_dual: bool


class LinearTaps(NamedTuple):
    """The pixels and weights of a bilinear resizing.

    Attributes:
        top, below: rows above and below the centre of each new row.
        down_weight: weight of the row below.
        left: columns left of the centre of each new column. At the end of the last block, they are two
            columns right of the image, which are 0.
        along_weight: weight of the columns on their right.
    """

    top: NDArray[np.int64]
    below: NDArray[np.int64]
    down_weight: Floats
    left: Ints
    along_weight: Floats


class PreparedFrame(NamedTuple):
    """The work on a frame that all its pairs share: planes of each level, finest first.

    Attributes:
        images: the pyramid, with the border repeated.
        samples: the input of a warp: the pyramid itself, or spline coefficients with the border mirrored.
    """

    images: list[Floats]
    samples: list[Floats]


class Scratch(NamedTuple):
    """Arrays whose content lasts for one level.

    Attributes:
        state: height + 2 rows of blocks: a ghost row, the image, a ghost row.
        texels: the texels, or the spline coefficients of four rows side by side.
        ranks: 5 rows of a plane: the sorted columns of a median's window, or the places of a row's samples.
        steps: two rows of pixels: zeros, and tau / theta inside the image's columns.
        updates: a row of pixels for each tile row: sums of squared updates of a column in a tile.
        spans: for each tile row, a list of spans of blocks: the first one and the one after the last; a span
            that begins at the end of the row ends the list.
        restless: the tiles that have not settled, with one more on each side.
        pixels: values of 16 pixels.
        indices: indices of a row of pixels.
        mismatch: a plane: the warped second image minus the first one; only with weights for occlusions.
        flow1, flow2, guide, visible: planes of a weighted median in 16 bits: u1, u2, the first image, and
            the weights for occlusions.
        windows: rows of the flow, and weights, as in weighted.py.
        clock: the time of each stage.
    """

    state: Floats
    texels: Floats
    ranks: Floats
    steps: Floats
    updates: Floats
    spans: Ints
    restless: Tiles
    pixels: Floats
    indices: Ints
    mismatch: Floats
    flow1: Shorts
    flow2: Shorts
    guide: Shorts
    visible: Shorts
    windows: Shorts
    clock: Clock


def level_layout(height: int, width: int) -> LevelLayout:
    """The layout of a level of this size."""
    with_ghost = width // LANES + 1
    # A weighted median reads two blocks at once, and so an even number of them.
    stride = (with_ghost + 2 + with_ghost % 2) * LANES
    return LevelLayout(
        height,
        width,
        blocks=-(-width // LANES),
        row=with_ghost * BLOCK,
        stride=stride,
        origin=MARGIN * stride + LANES,
        texels=(width + 2 * TEXEL_MARGIN) * TEXEL + LANES * TEXEL,
    )


def aligned(size: int) -> Floats:
    """Zeros that begin at a cache line."""
    memory = np.zeros(size + LANES, np.float32)
    start = -memory.ctypes.data % 64 // 4
    return memory[start : start + size]


def aligned_shorts(size: int) -> Shorts:
    """Zeros of 16 bits that begin at a cache line; `size` is even."""
    return aligned(size // 2).view(np.int16)


@jit
def plane_length(level: LevelLayout) -> int:
    """Length of a plane in floats."""
    return (level.height + 2 * MARGIN) * level.stride


def new_plane(level: LevelLayout) -> Floats:
    """A plane of zeros."""
    return aligned(plane_length(level))


def pixels_of(plane: Floats, level: LevelLayout) -> Floats:
    """The image (h, w) inside a plane."""
    rows = plane.reshape(-1, level.stride)
    return rows[MARGIN : MARGIN + level.height, LANES : LANES + level.width]


def resizing_taps(level: LevelLayout, new_level: LevelLayout, down: float, along: float) -> LinearTaps:
    """The taps for resizing one level to the size of another.

    Args:
        level: the layout of the level.
        new_level: the other layout.
        down: height of a sample in pixels.
        along: width of a sample in pixels.
    """
    left, _, weight = linear_taps(level.width, new_level.width, along)
    padding = (0, new_level.blocks * LANES - new_level.width)
    return LinearTaps(
        *linear_taps(level.height, new_level.height, down),
        np.pad(left.astype(np.int32), padding, constant_values=level.width + 1),
        np.pad(weight, padding),
    )


@jit
def make_steps(level: LevelLayout, taut: np.float32, steps: Floats) -> None:
    """Fill `Scratch.steps`."""
    steps[: level.blocks * LANES] = 0
    for x in range(level.blocks * LANES):
        steps[level.blocks * LANES + x] = taut if x < level.width else np.float32(0)


@jit
def copy_out(level: LevelLayout, state: Floats, k: int, plane: Floats) -> None:
    """Copy the vector at offset k of each block to a plane."""
    for y in range(level.height):
        for b in range(level.blocks):
            value = load(state, (y + 1) * level.row + b * BLOCK + k)
            store(plane, level.origin + y * level.stride + b * LANES, value)


@jit
def copy_duals_out(level: LevelLayout, state: Floats, duals: Floats) -> None:
    """Copy the dual variables to DUAL_PARTS planes, one after the other."""
    length = plane_length(level)
    for part in range(DUAL_PARTS):
        for y in range(level.height):
            for b in range(level.blocks):
                value = load(state, (y + 1) * level.row + b * BLOCK + P11 + part * LANES)
                store(duals, part * length + level.origin + y * level.stride + b * LANES, value)
