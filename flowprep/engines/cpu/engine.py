"""TV-L1 on the processor: the algorithm of reference.py in vectors of 16 pixels, one pair per thread.

Names are those of reference.py. Three things make it fast, beside the vectors of simd.py:

* Layout. What the iterations touch lies together: a row of the state is a row of blocks of 16 pixels, and a
  block is 10 vectors (u1, u2, the four parts of p, and the four constants of a warp). Everything has its
  place relative to two pointers, and a row of blocks streams through the cache.
* Sweeps. The primal step of row y needs p of rows y and y - 1, the dual step of row y - 1 needs u of rows
  y - 1 and y. So one pass does both, and the next iteration may follow one row behind: one sweep over the
  image does several iterations while their rows are in the cache. The order of arithmetic is that of whole
  iterations one after the other.
* Ghosts. A row above and below the image and a column to its right hold what makes the border's gradients
  and divergences come out right, so that no loop has a special case.

What depends on one frame alone (smoothing, structure, pyramid, spline coefficients) is done once a frame.

The stopping test is made once per sweep; how many iterations a sweep does is foreseen from how fast the
updates shrink, so that it ends about where a test in every iteration would have ended.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flowprep.engines import base
from flowprep.engines.cpu.simd import (
    LANES,
    choose_above,
    floor,
    flush_denormals,
    fma,
    from_left,
    from_right,
    lane_numbers,
    load,
    load_each_four_times,
    load_interleaved,
    maximum,
    median_of_columns_3,
    median_of_columns_5,
    minimum,
    restore_mode,
    sort_columns_3,
    sort_columns_5,
    splat,
    splat_ints,
    square_root,
    store,
    store_interleaved,
    store_ints,
    sums_of_fours,
    to_ints,
    total,
    where_above,
)
from flowprep.engines.pyramid import (
    CUBIC_A,
    TINY_GRADIENT,
    antialias_sigma,
    gaussian_taps,
    level_sizes,
    linear_taps,
    spline_taps,
    stop_below,
)
from flowprep.settings import Tvl1Settings
from flowprep.system.jit import jit

Floats = NDArray[np.float32]  # 1-D, wherever no shape is given
Ints = NDArray[np.int32]

# The vectors of a block, as offsets in floats.
U1, U2, P11, P12, P21, P22, I1X, I1Y, RHO, INVERSE = range(0, 10 * LANES, LANES)
BLOCK = 10 * LANES

MARGIN = 3  # rows around a plane that repeat its border, for the median; LANES columns on each side
TEXEL = 4  # floats of a texel: I1, dI1/dx, dI1/dy, 0
TEXEL_MARGIN = 4  # zero texels around I1: four taps outside are 0 wherever they are

WINDOW = 50 * LANES  # floats of the largest median's windows: 49 pixels, and one to make them even
HALVINGS = 10  # of the interval in which a weighted median is sought, at first its window's range

FIRST_SWEEP = 2  # iterations of the sweep after a median, when nothing is known of how the updates shrink
LONGEST_SWEEP = 6  # more rows at a time leave the cache
CAUTION = 0.35  # share of the iterations foreseen to the stop that a sweep does: few then run past it

# What a warp keeps of 16 pixels, as offsets in floats: weights of the columns, four a pixel; weights of the
# rows, 16 of each; warped texels. A spline's: weights and slopes of the columns; the sums that they give.
WX, WY, WARPED = 0, 4 * LANES, 8 * LANES
SLOPE_X, SLOPED = 4 * LANES, 12 * LANES

# The vectors of a block of _structure, as offsets in floats.
STRUCTURE, ALONG, DOWN, IMAGE = range(0, 4 * LANES, LANES)
STRUCTURE_BLOCK = 4 * LANES

PAIRS_AT_ONCE = 16  # per thread: their frames are prepared together, and memory is bounded

A = np.float32(CUBIC_A)
ONE = np.float32(1)
HALF = np.float32(0.5)
TINY = np.float32(TINY_GRADIENT)


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


class Engine(base.Engine):
    """The compiled engine: fastest on a processor, and what "auto" stands for."""

    def __init__(self, tvl1: Tvl1Settings, threads: int = 1, device: int | None = None) -> None:
        super().__init__(tvl1, threads, device)
        self._idle: list[_Workspace] = []
        self._spare: list[Frame] = []

    def _solve(
        self, frames: NDArray[Any], first: list[int], second: list[int], flow: NDArray[np.float32]
    ) -> None:
        height, width = frames.shape[1:]
        prepared: dict[int, Frame] = {}

        def prepare_one(index: int) -> Frame:
            workspace = self._take(height, width)
            frame = workspace.prepare(frames[index], self._spare.pop() if self._spare else workspace.frame())
            self._idle.append(workspace)
            return frame

        def solve_one(i: int) -> None:
            workspace = self._take(height, width)
            workspace.solve(prepared[first[i]], prepared[second[i]], flow[i])
            self._idle.append(workspace)

        for start in range(0, len(first), PAIRS_AT_ONCE * self.threads):
            pairs = range(start, min(start + PAIRS_AT_ONCE * self.threads, len(first)))
            needed = {index for i in pairs for index in (first[i], second[i])}
            self._spare += [prepared.pop(index) for index in prepared.keys() - needed]
            missing = sorted(needed - prepared.keys())
            prepared.update(zip(missing, self._each(missing, prepare_one), strict=True))
            self._each(pairs, solve_one)
        self._spare += prepared.values()

    def _take(self, height: int, width: int) -> _Workspace:
        while self._idle:
            workspace = self._idle.pop()
            if workspace.size == (height, width):
                return workspace
            self._spare.clear()
        return _Workspace(height, width, self.tvl1)


class _Workspace:
    """The arrays of one solve, kept from pair to pair: fresh memory costs a page fault per 4 KB."""

    def __init__(self, height: int, width: int, tvl1: Tvl1Settings) -> None:
        self.size = height, width
        self.zoom = np.float32(1 / tvl1.scale_step)
        self.levels = [_level(*size) for size in level_sizes(height, width, tvl1)]
        finest = self.levels[0]
        self.parameters = [
            Parameters(
                np.float32(tvl1.tau / tvl1.theta),
                np.float32(tvl1.lambda_ * tvl1.theta),
                np.float32(tvl1.theta),
                stop_below(level.height, level.width, tvl1),
                tvl1.warps,
                tvl1.outer_iterations,
                tvl1.inner_iterations,
                tvl1.median,
                np.float32(1 / (8 * tvl1.median_grey**2)) if tvl1.median_grey else np.float32(0),
                tvl1.median_after,
                tvl1.warp == "spline",
                np.float32(tvl1.blend),
                tvl1.mask,
            )
            for level in self.levels
        ]
        self.tvl1 = tvl1
        self.blur = gaussian_taps(tvl1.blur) if tvl1.blur else None
        self.antialias = gaussian_taps(antialias_sigma(tvl1)) if tvl1.antialias else None
        self.spline = spline_taps() if tvl1.warp == "spline" else None
        self.flows = [[_plane(level) for _ in range(2)] for level in self.levels]
        self.scratch = Scratch(
            _aligned((height + 2) * finest.row + BLOCK),
            _aligned((height + 2 * TEXEL_MARGIN) * finest.texels),
            _aligned(5 * finest.stride),
            _aligned(2 * finest.blocks * LANES),
            _aligned(3 * WINDOW),
            np.zeros(LANES, np.int32),
        )
        self.row = _aligned(finest.stride)
        shrink = 1 / tvl1.scale_step
        self.down = [
            (*linear_taps(fine.height, coarse.height, shrink), *linear_taps(fine.width, coarse.width, shrink))
            for fine, coarse in itertools.pairwise(self.levels)
        ]
        self.up = [
            (
                *linear_taps(coarse.height, fine.height, coarse.height / fine.height),
                *linear_taps(coarse.width, fine.width, coarse.width / fine.width),
            )
            for fine, coarse in itertools.pairwise(self.levels)
        ]

    def frame(self) -> Frame:
        """Room for a frame."""
        images = [_plane(level) for level in self.levels]
        return Frame(images, images if self.spline is None else [_plane(level) for level in self.levels])

    def prepare(self, image: NDArray[Any], frame: Frame) -> Frame:
        """Fill `frame` with the pyramid of an image."""
        levels, images, tvl1 = self.levels, frame.images, self.tvl1
        # The planes of the flow, not in use now, take what is on its way to the frame.
        source, spare = self.flows[0] if tvl1.structure else (images[0], self.flows[0][0])
        _pixels(spare if self.blur is not None else source, levels[0])[...] = image
        if self.blur is not None:
            _filter(spare, levels[0], self.blur, source, self.row)
        if tvl1.structure:
            _remove_structure(
                source,
                levels[0],
                np.float32(tvl1.tau / tvl1.structure_theta),
                np.float32(tvl1.structure_theta),
                tvl1.structure_iterations,
                np.float32(tvl1.structure),
                images[0],
                self.scratch,
            )
        for i, level in enumerate(levels):
            if i:
                smooth, finer = images[i - 1], levels[i - 1]
                if self.antialias is not None:
                    smooth = self.flows[i - 1][0]
                    _filter(images[i - 1], finer, self.antialias, smooth, self.row)
                _resize(smooth, finer, images[i], level, self.down[i - 1], ONE, self.row)
            _repeat_border(images[i], level)
            if self.spline is not None:
                _filter(images[i], level, self.spline, frame.samples[i], self.row)
                _mirror_border(frame.samples[i], level)
        return frame

    def solve(self, before: Frame, after: Frame, flow: NDArray[np.float32]) -> None:
        """Fill `flow` (2, H, W) with the flow from one frame to the other."""
        levels = self.levels
        for plane in self.flows[-1]:
            plane[:] = 0
        for i in reversed(range(len(levels))):
            u1, u2 = self.flows[i]
            _solve_level(
                before.images[i], after.samples[i], u1, u2, levels[i], self.parameters[i], self.scratch
            )
            if i:
                for coarse, fine in zip(self.flows[i], self.flows[i - 1], strict=True):
                    _resize(coarse, levels[i], fine, levels[i - 1], self.up[i - 1], self.zoom, self.row)
        for k in range(2):
            flow[k] = _pixels(self.flows[0][k], levels[0])


def _level(height: int, width: int) -> Level:
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


def _aligned(size: int) -> Floats:
    """Zeros that start at a cache line."""
    memory = np.zeros(size + LANES, np.float32)
    start = -memory.ctypes.data % 64 // 4
    return memory[start : start + size]


def _plane(level: Level) -> Floats:
    return _aligned((level.height + 2 * MARGIN) * level.stride)


def _pixels(plane: Floats, level: Level) -> Floats:
    """The image (h, w) inside a plane."""
    rows = plane.reshape(-1, level.stride)
    return rows[MARGIN : MARGIN + level.height, LANES : LANES + level.width]


@jit
def _resize(
    image: Floats, level: Level, out: Floats, new_level: Level, taps: Any, factor: np.float32, row: Floats
) -> None:
    """Bilinear, times `factor`: first down each column, which vectorises, then along the row."""
    top, below, down_weight, left, right, along_weight = taps
    for y in range(new_level.height):
        upper = level.origin + top[y] * level.stride
        lower = level.origin + below[y] * level.stride
        w = down_weight[y]
        v = ONE - w
        for x in range(level.width):
            row[x] = image[upper + x] * v + image[lower + x] * w
        at = new_level.origin + y * new_level.stride
        for x in range(new_level.width):
            w = along_weight[x]
            out[at + x] = (row[left[x]] * (ONE - w) + row[right[x]] * w) * factor


@jit
def _repeat_border(plane: Floats, level: Level) -> None:
    """Fill the margin: the outermost pixels repeat."""
    for y in range(level.height):
        start = level.origin + y * level.stride
        end = start + level.width - 1
        for k in range(1, MARGIN + 1):
            plane[start - k], plane[end + k] = plane[start], plane[end]
    first, length = level.origin - LANES, level.stride
    last = first + (level.height - 1) * length
    for k in range(1, MARGIN + 1):
        for x in range(length):
            plane[first - k * length + x] = plane[first + x]
            plane[last + k * length + x] = plane[last + x]


@jit
def _mirror_border(plane: Floats, level: Level) -> None:
    """Fill the margin: the image mirrored at its outermost pixels, for 2 rows and 2 columns."""
    for y in range(level.height):
        start = level.origin + y * level.stride
        end = start + level.width - 1
        for k in range(1, 3):
            plane[start - k], plane[end + k] = plane[start + k], plane[end - k]
    first, length = level.origin - LANES, level.stride
    last = first + (level.height - 1) * length
    for k in range(1, 3):
        for x in range(length):
            plane[first - k * length + x] = plane[first + k * length + x]
            plane[last + k * length + x] = plane[last - k * length + x]


@jit
def _filter(image: Floats, level: Level, taps: Floats, out: Floats, row: Floats) -> None:
    """Convolve with `taps`, the weights at 0, 1, ... to each side, down and along; the border is mirrored."""
    reach, bottom, right = len(taps) - 1, level.height - 1, LANES + level.width - 1
    for y in range(level.height):
        for b in range(level.blocks):
            at = level.origin + b * LANES
            value = splat(taps[0]) * load(image, at + y * level.stride)
            for k in range(1, reach + 1):
                above, below = abs(y - k), bottom - abs(bottom - y - k)
                both = load(image, at + above * level.stride) + load(image, at + below * level.stride)
                value = fma(splat(taps[k]), both, value)
            store(row, LANES + b * LANES, value)
        for k in range(1, reach + 1):
            row[LANES - k], row[right + k] = row[LANES + k], row[right - k]
        for b in range(level.blocks):
            at = LANES + b * LANES
            value = splat(taps[0]) * load(row, at)
            for k in range(1, reach + 1):
                value = fma(splat(taps[k]), load(row, at - k) + load(row, at + k), value)
            store(out, level.origin + y * level.stride + b * LANES, value)


@jit
def _structure_row(
    state: Floats, above: int, here: int, blocks: int, steps: Floats, steps_at: int, theta: np.float32
) -> None:
    """An iteration of the structure: its values in the row at `here`, and the dual step of the one above."""
    theta_, one = splat(theta), splat(ONE)
    along_left = splat(np.float32(0))
    s_above = load(state, above + STRUCTURE)
    for b in range(blocks):
        i, j = here + b * STRUCTURE_BLOCK, above + b * STRUCTURE_BLOCK
        taut = load(steps, steps_at + b * LANES)
        along, down_above = load(state, i + ALONG), load(state, j + DOWN)
        divergence = (along - from_left(along_left, along)) + (load(state, i + DOWN) - down_above)
        s = fma(theta_, divergence, load(state, i + IMAGE))
        store(state, i + STRUCTURE, s)
        along_left = along

        s_right = load(state, j + STRUCTURE_BLOCK + STRUCTURE)
        sx, sy = from_right(s_above, s_right) - s_above, s - s_above
        shrink = one / fma(taut, square_root(fma(sx, sx, sy * sy)), one)
        store(state, j + ALONG, fma(taut, sx, load(state, j + ALONG)) * shrink)
        store(state, j + DOWN, fma(taut, sy, down_above) * shrink)
        s_above = s_right


@jit
def _remove_structure(
    image: Floats,
    level: Level,
    taut: np.float32,
    theta: np.float32,
    iterations: int,
    share: np.float32,
    out: Floats,
    scratch: Scratch,
) -> None:
    """The image less `share` of its structure, in sweeps as the flow's (see _sweep)."""
    mode = flush_denormals()
    state, row = scratch.state, (level.width // LANES + 1) * STRUCTURE_BLOCK
    _make_steps(level, taut, scratch.steps)
    state[: (level.height + 2) * row + STRUCTURE_BLOCK] = 0
    for y in range(level.height):
        for b in range(level.blocks):
            at = (y + 1) * row + b * STRUCTURE_BLOCK
            store(state, at + IMAGE, load(image, level.origin + y * level.stride + b * LANES))
    ghost = (level.width // LANES) * STRUCTURE_BLOCK + level.width % LANES
    edge = ((level.width - 1) // LANES) * STRUCTURE_BLOCK + (level.width - 1) % LANES
    done = 0
    while done <= iterations:  # the last one for what the dual variables come to
        sweep = min(LONGEST_SWEEP, iterations + 1 - done)
        for front in range(level.height + sweep):
            for k in range(sweep):
                y = front - k
                if y < 0 or y > level.height:
                    continue
                above = y * row
                here = above + row
                if y == level.height:
                    for b in range(0, row, STRUCTURE_BLOCK):
                        store(state, here + b + IMAGE, load(state, above + b + STRUCTURE))
                steps_at = 0 if y == 0 else level.blocks * LANES
                _structure_row(state, above, here, level.blocks, scratch.steps, steps_at, theta)
                state[here + ghost + STRUCTURE] = state[here + edge + STRUCTURE]
        done += sweep
    share_ = splat(share)
    for y in range(level.height):
        for b in range(level.blocks):
            i, at = (y + 1) * row + b * STRUCTURE_BLOCK, level.origin + y * level.stride + b * LANES
            store(out, at, load(state, i + IMAGE) - share_ * load(state, i + STRUCTURE))
    restore_mode(mode)


@jit
def _make_steps(level: Level, taut: np.float32, steps: Floats) -> None:
    steps[: level.blocks * LANES] = 0
    for x in range(level.blocks * LANES):
        steps[level.blocks * LANES + x] = taut if x < level.width else np.float32(0)


@jit
def _make_spline_texels(samples: Floats, level: Level, texels: Floats) -> None:
    """Lay the coefficients of four rows side by side: the 4 x 4 of a sample then lie together."""
    stride = level.stride
    for y in range(level.height):
        row = (y + TEXEL_MARGIN) * level.texels + TEXEL_MARGIN * TEXEL
        for x in range(-1, level.width + 2, LANES):
            i = level.origin + y * stride + x
            c0, c1, c2, c3 = (
                load(samples, i - stride),
                load(samples, i),
                load(samples, i + stride),
                load(samples, i + 2 * stride),
            )
            store_interleaved(texels, row + x * TEXEL, c0, c1, c2, c3)


@jit
def _make_texels(i1: Floats, level: Level, texels: Floats) -> None:
    """Lay I1 and its centred gradient side by side, so that a warp reads them together."""
    texels[: (level.height + 2 * TEXEL_MARGIN) * level.texels] = 0
    half, nothing = splat(HALF), splat(np.float32(0))
    for y in range(level.height):
        row = (y + TEXEL_MARGIN) * level.texels + TEXEL_MARGIN * TEXEL
        for b in range(level.blocks):
            i = level.origin + y * level.stride + b * LANES
            i1x = (load(i1, i + 1) - load(i1, i - 1)) * half
            i1y = (load(i1, i + level.stride) - load(i1, i - level.stride)) * half
            store_interleaved(texels, row + b * LANES * TEXEL, load(i1, i), i1x, i1y, nothing)
        for x in range(row + level.width * TEXEL, row + level.blocks * LANES * TEXEL):
            texels[x] = 0


@jit
def _cubic_weights(t: Any) -> tuple[Any, Any, Any, Any]:
    """Weights of the pixels at -1, 0, 1, 2 for samples at t (a vector) between pixels 0 and 1.

    Those of reference.py, multiplied out: a t (1 - t)^2, ((a + 2) t - (a + 3)) t^2 + 1, and so on.
    """
    one, a = splat(ONE), splat(A)
    r = one - t
    far_left, far_right = a * t * r * r, a * t * t * r
    left = fma(splat(A + np.float32(2)) * t - splat(A + np.float32(3)), t * t, one)
    return far_left, left, one - far_left - left - far_right, far_right


@jit
def _taps(texels: Floats, row: int, pixels: Floats, indices: Ints, k: int) -> Any:
    """Texels of a pixel's four columns of taps, each times its weight: their sum is I1(x + u), and so on."""
    at = np.int64(indices[k])
    columns = load(texels, at) * splat(pixels[WY + k])
    columns = fma(load(texels, at + row), splat(pixels[WY + LANES + k]), columns)
    columns = fma(load(texels, at + 2 * row), splat(pixels[WY + 2 * LANES + k]), columns)
    columns = fma(load(texels, at + 3 * row), splat(pixels[WY + 3 * LANES + k]), columns)
    return columns * load_each_four_times(pixels, WX + 4 * k)


@jit
def _warp(i0: Floats, level: Level, parameters: Parameters, scratch: Scratch) -> None:
    """Fill a warp's constants in the state, through cubic convolution."""
    state, texels, pixels, indices = scratch.state, scratch.texels, scratch.pixels, scratch.indices
    lowest = splat(np.float32(-3))
    last_x, last_y = splat(np.float32(level.width + 1)), splat(np.float32(level.height + 1))
    margin = splat(np.float32(TEXEL_MARGIN - 1))
    row_length, texel = splat_ints(np.int32(level.texels)), splat_ints(np.int32(TEXEL))
    for y in range(level.height):
        y_here = splat(np.float32(y))
        for b in range(level.blocks):
            i = (y + 1) * level.row + b * BLOCK
            u1, u2 = load(state, i + U1), load(state, i + U2)
            x_to = u1 + (splat(np.float32(b * LANES)) + lane_numbers())
            y_to = u2 + y_here
            column, line = floor(x_to), floor(y_to)

            w0, w1, w2, w3 = _cubic_weights(x_to - column)
            store_interleaved(pixels, WX, w0, w1, w2, w3)
            w0, w1, w2, w3 = _cubic_weights(y_to - line)
            store(pixels, WY, w0)
            store(pixels, WY + LANES, w1)
            store(pixels, WY + 2 * LANES, w2)
            store(pixels, WY + 3 * LANES, w3)

            column = maximum(minimum(column, last_x), lowest) + margin
            line = maximum(minimum(line, last_y), lowest) + margin
            store_ints(indices, 0, to_ints(line) * row_length + to_ints(column) * texel)
            for k in range(0, LANES, 4):
                four = sums_of_fours(
                    _taps(texels, level.texels, pixels, indices, k),
                    _taps(texels, level.texels, pixels, indices, k + 1),
                    _taps(texels, level.texels, pixels, indices, k + 2),
                    _taps(texels, level.texels, pixels, indices, k + 3),
                )
                store(pixels, WARPED + TEXEL * k, four)
            i1w, i1wx, i1wy, _ = load_interleaved(pixels, WARPED)

            _set_warped(i0, y, b, x_to, y_to, i1w, i1wx, i1wy, level, parameters, scratch)


@jit
def _spline_weights(t: Any) -> tuple[Any, Any, Any, Any]:
    """Weights of the coefficients at -1, 0, 1, 2 for samples at t (a vector) from 0 to 1."""
    r = splat(ONE) - t
    sixth, half, two_thirds = splat(np.float32(1 / 6)), splat(HALF), splat(np.float32(2 / 3))
    left = two_thirds - t * t * (half + half * r)
    right = two_thirds - r * r * (half + half * t)
    return r * r * r * sixth, left, right, t * t * t * sixth


@jit
def _spline_slopes(t: Any) -> tuple[Any, Any, Any, Any]:
    """The derivatives of _spline_weights."""
    r = splat(ONE) - t
    half, three_halves, two = splat(HALF), splat(np.float32(1.5)), splat(np.float32(2))
    outer_left, outer_right = (t - splat(ONE)) * r * half, t * t * half
    return outer_left, t * (three_halves * t - two), r * (two - three_halves * r), outer_right


@jit
def _four_rows(texels: Floats, pixels: Floats, indices: Ints, weights: int, k: int) -> Any:
    """The sums along the four rows of coefficients of pixels k to k + 3: four a pixel."""
    return sums_of_fours(
        load(texels, np.int64(indices[k])) * load_each_four_times(pixels, weights + 4 * k),
        load(texels, np.int64(indices[k + 1])) * load_each_four_times(pixels, weights + 4 * (k + 1)),
        load(texels, np.int64(indices[k + 2])) * load_each_four_times(pixels, weights + 4 * (k + 2)),
        load(texels, np.int64(indices[k + 3])) * load_each_four_times(pixels, weights + 4 * (k + 3)),
    )


@jit
def _warp_spline(i0: Floats, level: Level, parameters: Parameters, scratch: Scratch) -> None:
    """As _warp, through a cubic B-spline."""
    state, texels, pixels, indices = scratch.state, scratch.texels, scratch.pixels, scratch.indices
    zero = splat(np.float32(0))
    last_x, last_y = splat(np.float32(level.width - 1)), splat(np.float32(level.height - 1))
    row_length, texel = splat_ints(np.int32(level.texels)), splat_ints(np.int32(TEXEL))
    start = splat_ints(np.int32(TEXEL_MARGIN * level.texels + (TEXEL_MARGIN - 1) * TEXEL))
    for y in range(level.height):
        y_here = splat(np.float32(y))
        for b in range(level.blocks):
            i = (y + 1) * level.row + b * BLOCK
            x_to = load(state, i + U1) + (splat(np.float32(b * LANES)) + lane_numbers())
            y_to = load(state, i + U2) + y_here
            x_in = maximum(minimum(x_to, last_x), zero)
            y_in = maximum(minimum(y_to, last_y), zero)
            column, line = floor(x_in), floor(y_in)
            store_ints(indices, 0, to_ints(line) * row_length + (to_ints(column) * texel + start))

            w0, w1, w2, w3 = _spline_weights(x_in - column)
            store_interleaved(pixels, WX, w0, w1, w2, w3)
            s0, s1, s2, s3 = _spline_slopes(x_in - column)
            store_interleaved(pixels, SLOPE_X, s0, s1, s2, s3)
            for k in range(0, LANES, 4):
                store(pixels, WARPED + 4 * k, _four_rows(texels, pixels, indices, WX, k))
                store(pixels, SLOPED + 4 * k, _four_rows(texels, pixels, indices, SLOPE_X, k))

            w0, w1, w2, w3 = _spline_weights(y_in - line)
            s0, s1, s2, s3 = _spline_slopes(y_in - line)
            r0, r1, r2, r3 = load_interleaved(pixels, WARPED)
            i1w = fma(w0, r0, fma(w1, r1, fma(w2, r2, w3 * r3)))
            i1wy = fma(s0, r0, fma(s1, r1, fma(s2, r2, s3 * r3)))
            r0, r1, r2, r3 = load_interleaved(pixels, SLOPED)
            i1wx = fma(w0, r0, fma(w1, r1, fma(w2, r2, w3 * r3)))
            _set_warped(i0, y, b, x_to, y_to, i1w, i1wx, i1wy, level, parameters, scratch)


@jit
def _set_warped(
    i0: Floats,
    y: int,
    b: int,
    x_to: Any,
    y_to: Any,
    i1w: Any,
    i1wx: Any,
    i1wy: Any,
    level: Level,
    parameters: Parameters,
    scratch: Scratch,
) -> None:
    """Fill the constants of a block: the data term's gradient, rho without u, and -1 / |grad|^2."""
    one, zero = splat(ONE), splat(np.float32(0))
    state, at = scratch.state, level.origin + y * level.stride + b * LANES
    i = (y + 1) * level.row + b * BLOCK
    if parameters.blend > 0:
        keep, add = splat(ONE - parameters.blend), splat(HALF * parameters.blend)
        i1wx = fma(keep, i1wx, add * (load(i0, at + 1) - load(i0, at - 1)))
        i1wy = fma(keep, i1wy, add * (load(i0, at + level.stride) - load(i0, at - level.stride)))
    if parameters.mask:
        right, below = splat(np.float32(level.width - 1)), splat(np.float32(level.height - 1))
        away = maximum(maximum(zero - x_to, x_to - right), maximum(zero - y_to, y_to - below))
        i1wx, i1wy = i1wx - where_above(away, zero, i1wx), i1wy - where_above(away, zero, i1wy)
    inside = load(scratch.steps, (level.blocks + b) * LANES)  # 0 right of the image
    i1wx, i1wy = where_above(inside, zero, i1wx), where_above(inside, zero, i1wy)
    square = fma(i1wx, i1wx, i1wy * i1wy)
    store(state, i + I1X, i1wx)
    store(state, i + I1Y, i1wy)
    rho = i1w - i1wx * load(state, i + U1) - i1wy * load(state, i + U2) - load(i0, at)
    store(state, i + RHO, rho)
    store(state, i + INVERSE, where_above(square, splat(TINY), (zero - one) / square))


@jit
def _iterate_row(
    state: Floats,
    above: int,
    here: int,
    blocks: int,
    steps: Floats,
    steps_at: int,
    lt: np.float32,
    theta: np.float32,
) -> float:
    """The primal step of the row at `here` and the dual step of the one above; the sum of squared updates."""
    upper, lower, theta_, one = splat(lt), splat(-lt), splat(theta), splat(ONE)
    error = splat(np.float32(0))
    p11_left, p21_left = splat(np.float32(0)), splat(np.float32(0))
    u1_above, u2_above = load(state, above + U1), load(state, above + U2)
    for b in range(blocks):
        i, j = here + b * BLOCK, above + b * BLOCK
        taut = load(steps, steps_at + b * LANES)

        u1, u2 = load(state, i + U1), load(state, i + U2)
        i1wx, i1wy = load(state, i + I1X), load(state, i + I1Y)
        rho = fma(i1wx, u1, fma(i1wy, u2, load(state, i + RHO)))
        step = maximum(minimum(rho * load(state, i + INVERSE), upper), lower)
        p11, p21 = load(state, i + P11), load(state, i + P21)
        p12_above, p22_above = load(state, j + P12), load(state, j + P22)
        div1 = (p11 - from_left(p11_left, p11)) + (load(state, i + P12) - p12_above)
        div2 = (p21 - from_left(p21_left, p21)) + (load(state, i + P22) - p22_above)
        u1_new = fma(theta_, div1, fma(step, i1wx, u1))
        u2_new = fma(theta_, div2, fma(step, i1wy, u2))
        store(state, i + U1, u1_new)
        store(state, i + U2, u2_new)
        du1, du2 = u1_new - u1, u2_new - u2
        error = fma(du1, du1, fma(du2, du2, error))
        p11_left, p21_left = p11, p21

        u1_right, u2_right = load(state, j + BLOCK + U1), load(state, j + BLOCK + U2)
        u1x, u1y = from_right(u1_above, u1_right) - u1_above, u1_new - u1_above
        u2x, u2y = from_right(u2_above, u2_right) - u2_above, u2_new - u2_above
        norm1 = square_root(fma(u1x, u1x, u1y * u1y))
        norm2 = square_root(fma(u2x, u2x, u2y * u2y))
        shrink1, shrink2 = one / fma(taut, norm1, one), one / fma(taut, norm2, one)
        store(state, j + P11, fma(taut, u1x, load(state, j + P11)) * shrink1)
        store(state, j + P12, fma(taut, u1y, p12_above) * shrink1)
        store(state, j + P21, fma(taut, u2x, load(state, j + P21)) * shrink2)
        store(state, j + P22, fma(taut, u2y, p22_above) * shrink2)
        u1_above, u2_above = u1_right, u2_right
    return float(total(error))


@jit
def _sweep(level: Level, parameters: Parameters, scratch: Scratch, iterations: int) -> tuple[float, float]:
    """`iterations` iterations in one pass; the sums of squared updates of the first and of the last."""
    state, row = scratch.state, level.row
    ghost = (level.width // LANES) * BLOCK + level.width % LANES
    edge = ((level.width - 1) // LANES) * BLOCK + (level.width - 1) % LANES
    first, last = 0.0, 0.0
    for front in range(level.height + iterations):
        for k in range(iterations):
            y = front - k
            if y < 0 or y > level.height:
                continue
            above = y * row
            here = above + row
            if y == level.height:  # the ghost below repeats the last row, so that the gradient is 0
                for b in range(0, row, BLOCK):
                    store(state, here + b + U1, load(state, above + b + U1))
                    store(state, here + b + U2, load(state, above + b + U2))
            steps_at = 0 if y == 0 else level.blocks * LANES  # p of the ghost above stays 0
            error = _iterate_row(
                state, above, here, level.blocks, scratch.steps, steps_at, parameters.lt, parameters.theta
            )
            # The ghost column repeats the last one.
            state[here + ghost + U1] = state[here + edge + U1]
            state[here + ghost + U2] = state[here + edge + U2]
            if k == 0:
                first += error
            if k == iterations - 1:
                last += error
    return first, last


@jit
def _next_sweep(stop: float, before: float, now: float, iterations: int) -> int:
    """How long the next sweep may be without going beyond the stop.

    In the last `iterations` iterations the sum of squared updates went from `before` to `now`; it will
    shrink on at a lower rate.
    """
    if stop <= 0 or iterations == 0 or now >= before:
        return LONGEST_SWEEP
    needed = math.log(stop / now) / math.log(now / before) * iterations
    return int(min(max(needed * CAUTION, 1.0), float(LONGEST_SWEEP)))


@jit
def _copy_out(level: Level, state: Floats, k: int, plane: Floats) -> None:
    for y in range(level.height):
        for b in range(level.blocks):
            value = load(state, (y + 1) * level.row + b * BLOCK + k)
            store(plane, level.origin + y * level.stride + b * LANES, value)


@jit
def _median(level: Level, scratch: Scratch, k: int, plane: Floats, side: int) -> None:
    """Median-filter u1 or u2 of the state; `plane` is overwritten."""
    state, ranks, stride = scratch.state, scratch.ranks, level.stride
    _copy_out(level, state, k, plane)
    _repeat_border(plane, level)
    for y in range(level.height):
        row = level.origin - LANES + y * stride
        for x in range(0, (level.blocks + 2) * LANES, LANES):
            if side == 5:
                sort_columns_5(plane, row - 2 * stride + x, stride, ranks, x, stride)
            else:
                sort_columns_3(plane, row - stride + x, stride, ranks, x, stride)
        for b in range(level.blocks):
            x = (b + 1) * LANES
            if side == 5:
                value = median_of_columns_5(ranks, x - 2, stride)
            else:
                value = median_of_columns_3(ranks, x - 1, stride)
            store(state, (y + 1) * level.row + b * BLOCK + k, value)


@jit
def _medians(
    i0: Floats, level: Level, scratch: Scratch, u1: Floats, u2: Floats, parameters: Parameters
) -> None:
    """Median-filter the state's u1 and u2; the planes u1 and u2 are overwritten."""
    side = parameters.median
    if parameters.fade == 0:
        _median(level, scratch, U1, u1, side)
        _median(level, scratch, U2, u2, side)
        return
    for k, plane in ((U1, u1), (U2, u2)):
        _copy_out(level, scratch.state, k, plane)
        _repeat_border(plane, level)
    reach, windows = side // 2, scratch.pixels
    one, zero, fade = splat(ONE), splat(np.float32(0)), splat(parameters.fade)
    last = side * side * LANES
    store(windows, last, zero)  # the pixel that makes them even has no weight
    for y in range(level.height):
        for b in range(level.blocks):
            middle, n = level.origin + y * level.stride + b * LANES, 0
            here = load(i0, middle)
            for down in range(-reach, reach + 1):
                for along in range(-reach, reach + 1):
                    at = middle + down * level.stride + along
                    difference = load(i0, at) - here
                    near = maximum(one - difference * difference * fade, zero)
                    near = near * near
                    store(windows, n, near * near)
                    store(windows, WINDOW + n, load(u1, at))
                    store(windows, 2 * WINDOW + n, load(u2, at))
                    n += LANES
            store(windows, WINDOW + last, load(u1, middle))
            store(windows, 2 * WINDOW + last, load(u2, middle))
            first, second = _weighted_medians(windows, last)
            i = (y + 1) * level.row + b * BLOCK
            store(scratch.state, i + U1, first)
            store(scratch.state, i + U2, second)


@jit
def _weighted_medians(windows: Floats, last: int) -> tuple[Any, Any]:
    """The weighted medians of u1 and of u2 in 16 windows, by halving the intervals that hold them.

    Two pixels of two windows at a time: additions then need not wait for each other.
    """
    half, nothing = splat(HALF), splat(np.float32(0))
    low1 = high1 = load(windows, WINDOW)
    low2 = high2 = load(windows, 2 * WINDOW)
    whole = nothing
    for n in range(0, last, LANES):
        value1, value2 = load(windows, WINDOW + n), load(windows, 2 * WINDOW + n)
        low1, high1 = minimum(low1, value1), maximum(high1, value1)
        low2, high2 = minimum(low2, value2), maximum(high2, value2)
        whole = whole + load(windows, n)
    half_weight = half * whole
    for _ in range(HALVINGS):
        middle1, middle2 = half * (low1 + high1), half * (low2 + high2)
        above1, above2, more1, more2 = nothing, nothing, nothing, nothing
        for n in range(0, last, 2 * LANES):
            weight, next_weight = load(windows, n), load(windows, n + LANES)
            above1 = above1 + where_above(load(windows, WINDOW + n), middle1, weight)
            above2 = above2 + where_above(load(windows, 2 * WINDOW + n), middle2, weight)
            more1 = more1 + where_above(load(windows, WINDOW + n + LANES), middle1, next_weight)
            more2 = more2 + where_above(load(windows, 2 * WINDOW + n + LANES), middle2, next_weight)
        above1, above2 = above1 + more1, above2 + more2
        low1 = choose_above(above1, half_weight, middle1, low1)
        high1 = choose_above(above1, half_weight, high1, middle1)
        low2 = choose_above(above2, half_weight, middle2, low2)
        high2 = choose_above(above2, half_weight, high2, middle2)
    # The largest values that are not above the intervals.
    found1 = found2 = splat(np.float32(-np.inf))
    for n in range(0, last, LANES):
        value1, value2 = load(windows, WINDOW + n), load(windows, 2 * WINDOW + n)
        found1 = maximum(found1, choose_above(value1, high1, found1, value1))
        found2 = maximum(found2, choose_above(value2, high2, found2, value2))
    return found1, found2


@jit
def _solve_level(
    i0: Floats,
    samples: Floats,
    u1: Floats,
    u2: Floats,
    level: Level,
    parameters: Parameters,
    scratch: Scratch,
) -> None:
    """Improve the flow in the planes u1 and u2 at one level."""
    mode = flush_denormals()
    state = scratch.state
    state[: (level.height + 2) * level.row + BLOCK] = 0
    _make_steps(level, parameters.taut, scratch.steps)
    for y in range(level.height):
        for b in range(level.blocks):
            i, at = (y + 1) * level.row + b * BLOCK, level.origin + y * level.stride + b * LANES
            store(state, i + U1, load(u1, at))
            store(state, i + U2, load(u2, at))
    if parameters.spline:
        _make_spline_texels(samples, level, scratch.texels)
    else:
        _make_texels(samples, level, scratch.texels)

    for _ in range(parameters.warps):
        if parameters.spline:
            _warp_spline(i0, level, parameters, scratch)
        else:
            _warp(i0, level, parameters, scratch)
        error = np.inf
        for _ in range(parameters.outer):
            if error <= parameters.stop:
                break
            if parameters.median > 1 and not parameters.median_after:
                _medians(i0, level, scratch, u1, u2, parameters)
            done, sweep = 0, FIRST_SWEEP
            while done < parameters.inner:
                iterations = min(sweep, parameters.inner - done)
                before = error
                first, error = _sweep(level, parameters, scratch, iterations)
                if error <= parameters.stop:
                    break
                if done == 0:
                    sweep = _next_sweep(parameters.stop, first, error, iterations - 1)
                else:
                    sweep = _next_sweep(parameters.stop, before, error, iterations)
                done += iterations
            if parameters.median > 1 and parameters.median_after:
                _medians(i0, level, scratch, u1, u2, parameters)
    _copy_out(level, state, U1, u1)
    _copy_out(level, state, U2, u2)
    restore_mode(mode)
