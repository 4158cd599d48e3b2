"""TV-L1 in NumPy: slow, and written to be read with the papers. The other engines are tested against it.

C. Zach, T. Pock, H. Bischof, "A duality based approach for realtime TV-L1 optical flow", DAGM 2007.
J. Sanchez Perez, E. Meinhardt-Llopis, G. Facciolo, "TV-L1 optical flow estimation", IPOL 2013,
doi:10.5201/ipol.2013.26. The algorithm, the discretisation and the equation numbers below are those of IPOL.

The flow u = (u1, u2) from I0 to I1 minimises

    E(u) = sum  lambda |I1(x + u) - I0(x)| + |grad u1| + |grad u2|.

An auxiliary flow v is coupled to u by |u - v|^2 / (2 theta). The data term rho is linearised around u0, the
flow at the last warp. Two steps alternate, from coarse to fine: a pointwise threshold computes v, and a step
of Chambolle's projection for the total variation computes u, with dual variables p1 and p2.

Settings that OpenCV lacks, in the order of the computation:

* structure: A. Wedel, T. Pock, C. Zach, H. Bischof, D. Cremers, "An improved algorithm for TV-L1 optical
  flow", Dagstuhl Motion Workshop 2008. Shadows and shading are in the structure; motion shows in the texture.
* blend: the gradient of both images. mask: no data term where the flow points outside the image.
* spline: M. Unser, "Splines: a perfect fit for signal and image processing", 1999.
* coupled: one total variation for both components, sum |(grad u1, grad u2)|. X. Bresson, T. Chan, "Fast dual
  minimization of the vectorial total variation norm and applications to color image processing", Inverse
  Problems and Imaging 2008. B. Goldluecke, E. Strekalovskiy, D. Cremers, "The natural vectorial total
  variation which arises from geometric measure theory", SIAM Journal on Imaging Sciences 2012, compare it
  with others.
* huber and edge: M. Werlberger, W. Trobin, T. Pock, A. Wedel, D. Cremers, H. Bischof, "Anisotropic Huber-L1
  optical flow", BMVC 2009. The weights here are isotropic.
* median_grey, median_stride, median_occlusion: D. Sun, S. Roth, M. J. Black, "Secrets of optical flow
  estimation and their principles", CVPR 2010.
* still and settle: `flowprep.engines.tiles`.
* keep_dual: a level begins with the dual variables of the coarser one. The gradient of the flow is about the
  same there, as pixels and flow shrink alike.

OpenCV differs from the paper in three points, and so does this engine. u is median-filtered before each block
of inner iterations. The dual variables continue from one warp to the next. Samples outside I1 are 0.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from flowprep.engines import base
from flowprep.engines.pyramid import (
    CUBIC_A,
    LEAST_VISIBLE,
    TINY_GRADIENT,
    antialias_sigma,
    gaussian_taps,
    level_sizes,
    linear_taps,
    spline_taps,
    stop_below,
)
from flowprep.engines.tiles import (
    LEAST_NOISE,
    SETTLE_EVERY,
    SIGNIFICANT,
    TILE_HEIGHT,
    TILE_WIDTH,
    VISIBLE_PX,
    Tiles,
    coarser,
    grown,
    tile_counts,
    with_open,
)
from flowprep.presets import Tvl1Settings

Image = NDArray[np.float32]  # (h, w)
Flow = NDArray[np.float32]  # (2, h, w): u1 = right, u2 = down


class ReferenceEngine(base.Engine):
    """The engine with which the others are tested."""

    def _solve(
        self, frames: NDArray[Any], first: list[int], second: list[int], flow: NDArray[np.float32]
    ) -> None:
        pyramids = {i: pyramid(frames[i].astype(np.float32), self.tvl1) for i in {*first, *second}}

        def solve_one(i: int) -> None:
            flow[i] = solve_pair(pyramids[first[i]], pyramids[second[i]], self.tvl1)

        self._map(solve_one, range(len(first)))


def pyramid(image: Image, tvl1: Tvl1Settings) -> list[Image]:
    """The levels of an image, finest first."""
    levels = [prepare(image, tvl1)]
    height, width = image.shape
    for size in level_sizes(height, width, tvl1)[1:]:
        smooth = levels[-1]
        if tvl1.antialias:
            smooth = symmetric_filter(smooth, gaussian_taps(antialias_sigma(tvl1)))
        levels.append(resize(smooth, size, (1 / tvl1.scale_step, 1 / tvl1.scale_step)))
    return levels


def prepare(image: Image, tvl1: Tvl1Settings) -> Image:
    """Smooth an image, and remove its structure."""
    if tvl1.blur:
        image = symmetric_filter(image, gaussian_taps(tvl1.blur))
    if tvl1.structure:
        image = image - np.float32(tvl1.structure) * structure(image, tvl1)
    return image


def structure(image: Image, tvl1: Tvl1Settings) -> Image:
    """The image without its texture: s minimises sum |grad s| + (s - image)^2 / (2 theta).

    This is the denoising of Rudin, Osher and Fatemi, solved like the total variation of the flow.
    """
    tau, theta = np.float32(tvl1.tau), np.float32(tvl1.structure_theta)
    p = np.zeros((2, *image.shape), np.float32)
    for _ in range(tvl1.structure_iterations):
        ds = forward_gradient(image + theta * divergence(p))
        p = (p + tau / theta * ds) / (1 + tau / theta * np.hypot(*ds))
    smooth: Image = image + theta * divergence(p)
    return smooth


def solve_pair(levels0: list[Image], levels1: list[Image], tvl1: Tvl1Settings) -> Flow:
    """Flow from the first image to the second, from coarse to fine (Algorithm 2)."""
    tiles = moving_tiles(levels0[0], levels1[0], tvl1)
    u = np.zeros((2, *levels0[-1].shape), np.float32)
    p = np.zeros((2, *u.shape), np.float32)  # p[k] is the dual variable of u[k]: (x part, y part)
    for level in reversed(range(len(levels0))):
        size = levels0[level].shape
        if u.shape[1:] != size:
            ratio = u.shape[1] / size[0], u.shape[2] / size[1]
            u = np.stack([resize(c, size, ratio) for c in u]) * np.float32(1 / tvl1.scale_step)
            p = np.stack([[resize(c, size, ratio) for c in pk] for pk in p])
            p[:, 0, :, -1] = p[:, 1, -1] = 0  # no gradient across the border
        if not tvl1.keep_dual:
            p = np.zeros_like(p)
        work = coarser(tiles, levels0[0].shape, size) if level else tiles
        u, p = solve_level(levels0[level], levels1[level], u, p, work, tvl1, level)
    return u


def solve_level(
    i0: Image, i1: Image, u: Flow, p: Flow, tiles: Tiles, tvl1: Tvl1Settings, level: int
) -> tuple[Flow, Flow]:
    """Improve the flow u (2, h, w) and its dual variables p (2, 2, h, w) at one level (Algorithm 1).

    Args:
        i0: the first image.
        i1: the second image.
        u: flow of the coarser level.
        p: dual variables to begin with.
        tiles: where the solver works; the flow of the other tiles is 0.
        tvl1: the parameters.
        level: number of the level; 0 is the finest.
    """
    lambda_, theta = np.float32(tvl1.lambda_), np.float32(tvl1.theta)
    height, width = i0.shape
    # Without a stopping test, an update of 0 does not stop either: all tiles may have settled.
    stop = stop_below(height, width, tvl1) if tvl1.epsilon else -math.inf
    weight = edge_weights(i0, tvl1)
    moves = in_pixels(tiles, i0.shape)
    u, p = np.where(moves, u, np.float32(0)), np.where(in_pixels(tiles, i0.shape, 1), p, np.float32(0))
    for warp_number in range(tvl1.warps_of(level)):
        grad, rho_c, mismatch = linearise(i0, i1, u, tvl1)
        square = grad[0] * grad[0] + grad[1] * grad[1]
        mismatch = np.where(moves, mismatch, np.float32(0))  # still tiles agree but for noise

        weighted = tvl1.weights_median(level, warp_number)
        error = np.inf
        for _ in range(tvl1.outer_iterations):
            if error <= stop:
                break
            if not tvl1.median_after:
                u = np.where(moves, filtered(u, i0, mismatch, weighted, tvl1), u)
            working = tiles
            for iteration in range(tvl1.iterations_of(level)):
                v = u + threshold(rho_c + grad[0] * u[0] + grad[1] * u[1], grad, square, lambda_ * theta)
                u_before, u = u, v + theta * np.stack([divergence(pk) for pk in p])
                u = np.where(in_pixels(working, i0.shape), u, u_before)
                p = np.where(in_pixels(working, i0.shape, 1), dual_step(p, u, weight, tvl1), p)
                update = np.sum((u - u_before) ** 2, axis=0)
                error = float(np.sum(update, dtype=np.float64))
                if error <= stop:
                    break
                if tvl1.settle and (iteration + 1) % SETTLE_EVERY == 0:
                    working = tiles & grown(restless(update, tvl1.settle))
            if tvl1.median_after:
                u = np.where(moves, filtered(u, i0, mismatch, weighted, tvl1), u)
    return u, p


def linearise(i0: Image, i1: Image, u: Flow, tvl1: Tvl1Settings) -> tuple[Flow, Image, Image]:
    """Warp the second image by u, and linearise the data term there.

    Returns:
        The gradient of the data term (2, h, w), rho(u) without the part that changes with u, and the
        difference of the warped second image and the first one.
    """
    i1w, *grad = warp(i1, u, tvl1.warp)
    if tvl1.blend:
        blend = np.float32(tvl1.blend)
        grad = [(1 - blend) * g1 + blend * g0 for g1, g0 in zip(grad, centred_gradient(i0), strict=True)]
    if tvl1.mask:
        grad = [np.where(outside(u), np.float32(0), g) for g in grad]
    difference = i1w - i0
    return np.stack(grad), difference - grad[0] * u[0] - grad[1] * u[1], difference


def dual_step(p: Flow, u: Flow, weight: Image, tvl1: Tvl1Settings) -> Flow:
    """The dual variables p (2, 2, h, w) of the next iteration: a step of Chambolle's fixed-point iteration.

    With a weight g, |p| <= g. With Huber's norm, the gradient of the dual energy is grad u - huber p.
    """
    taut = np.float32(tvl1.tau / tvl1.theta)
    gradient = np.stack([forward_gradient(uk) for uk in u]) - np.float32(tvl1.huber) * p
    norm = np.sqrt(np.sum(gradient**2, axis=(0, 1) if tvl1.coupled else 1, keepdims=True))
    stepped: Flow = (p + taut * gradient) / (1 + taut / weight * norm)
    return stepped


def edge_weights(i0: Image, tvl1: Tvl1Settings) -> Image:
    """The weight of the regulariser, (h, w) in [edge_least, 1]; 1 - t / 32 to the 32nd is nearly exp(-t)."""
    steepness = np.float32(tvl1.edge / 32) * np.hypot(*centred_gradient(i0))
    weight: Image = np.maximum(np.maximum(1 - steepness, 0) ** 32, np.float32(tvl1.edge_least))
    return weight if tvl1.edge else np.ones_like(i0)


def moving_tiles(i0: Image, i1: Image, tvl1: Tvl1Settings) -> Tiles:
    """The tiles that may move, by the test of `flowprep.engines.tiles`; all of them without `still`."""
    rows, columns = tile_counts(*i0.shape)
    if not tvl1.still:
        return np.ones((rows, columns), bool)
    gx, gy = centred_gradient((i0 + i1) * np.float32(0.5))
    d = i1 - i0

    def tile_sums(image: Image) -> NDArray[np.float32]:
        height, width = image.shape
        padded = np.pad(image, ((0, rows * TILE_HEIGHT - height), (0, columns * TILE_WIDTH - width)))
        sums: NDArray[np.float32] = padded.reshape(rows, TILE_HEIGHT, columns, TILE_WIDTH).sum(axis=(1, 3))
        return sums

    xx, xy, yy = tile_sums(gx * gx) + 1, tile_sums(gx * gy), tile_sums(gy * gy) + 1
    xd, yd, energy = tile_sums(gx * d), tile_sums(gy * d), tile_sums(d * d)
    count = tile_sums(np.ones_like(d))
    determinant = xx * yy - xy * xy
    explained = (yy * xd * xd - 2 * xy * xd * yd + xx * yd * yd) / determinant
    noise = np.maximum((energy - explained) / count, np.float32(LEAST_NOISE**2))
    moving = (energy > np.float32(tvl1.still**2) * count) | (explained > np.float32(SIGNIFICANT) * noise)
    weaker = np.float32(0.5) * (xx + yy - np.sqrt((xx - yy) ** 2 + 4 * xy * xy))  # A's smaller eigenvalue
    is_open = ~moving & (weaker * np.float32(VISIBLE_PX**2) < np.float32(SIGNIFICANT) * noise)
    return with_open(moving, is_open)


def restless(update: Image, settle: float) -> Tiles:
    """The tiles whose mean square update (h, w) is above settle^2."""
    rows, columns = tile_counts(*update.shape)
    result = np.zeros((rows, columns), bool)
    for row, column in np.ndindex(rows, columns):
        top, left = row * TILE_HEIGHT, column * TILE_WIDTH
        result[row, column] = update[top : top + TILE_HEIGHT, left : left + TILE_WIDTH].mean() > settle**2
    return result


def in_pixels(tiles: Tiles, size: tuple[int, ...], up: int = 0) -> NDArray[np.bool_]:
    """The tiles as a mask of pixels (h, w), moved up by `up` rows; the last rows are those of the last tile.

    The dual step needs the next row, so its tiles lie one row higher.
    """
    pixels = np.repeat(np.repeat(tiles, TILE_HEIGHT, axis=0), TILE_WIDTH, axis=1)
    rows = np.minimum(np.arange(size[0]) + up, size[0] - 1)
    return pixels[rows, : size[1]]


def threshold(rho: Image, grad: Flow, square: Image, lt: np.float32) -> Flow:
    """The step from u to v: TH of equation (13), with lt = lambda theta and square = |grad|^2."""
    step = np.clip(-rho / np.maximum(square, TINY_GRADIENT), -lt, lt)
    solved: Flow = np.where(square > TINY_GRADIENT, step * grad, np.float32(0))
    return solved


def centred_gradient(image: Image) -> tuple[Image, Image]:
    """(x, y) half differences of the two neighbours; the border pixel repeats beyond the border."""
    padded = np.pad(image, 1, mode="edge")
    half = np.float32(0.5)
    return half * (padded[1:-1, 2:] - padded[1:-1, :-2]), half * (padded[2:, 1:-1] - padded[:-2, 1:-1])


def forward_gradient(u: Image) -> Flow:
    """(x, y) differences to the next pixel; 0 at the last column and row (equation 14)."""
    gradient = np.zeros((2, *u.shape), np.float32)
    gradient[0, :, :-1] = u[:, 1:] - u[:, :-1]
    gradient[1, :-1, :] = u[1:, :] - u[:-1, :]
    return gradient


def divergence(p: Flow) -> Image:
    """The negative adjoint of the forward gradient (equation 15): p is 0 before the first pixel."""
    div: Image = np.diff(p[0], axis=1, prepend=np.float32(0)) + np.diff(p[1], axis=0, prepend=np.float32(0))
    return div


def outside(u: Flow) -> NDArray[np.bool_]:
    """A mask (h, w): x + u(x) is outside the image."""
    height, width = u.shape[1:]
    x, y = np.arange(width) + u[0], np.arange(height)[:, None] + u[1]
    mask: NDArray[np.bool_] = (x < 0) | (x > width - 1) | (y < 0) | (y > height - 1)
    return mask


def warp(image: Image, u: Flow, kind: str) -> tuple[Image, Image, Image]:
    """The image and its gradient, (x, y), at x + u(x)."""
    height, width = image.shape
    x, y = np.arange(width) + u[0], np.arange(height)[:, None] + u[1]
    along: Image
    down: Image
    planes: list[tuple[Image, list[Image], list[Image]]]
    if kind == "spline":
        # The coefficients are mirrored at the border, like the image.
        padded = np.pad(symmetric_filter(image, spline_taps()), 2, mode="reflect")
        x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
        column, row = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
        along, down = (x - column).astype(np.float32), (y - row).astype(np.float32)
        planes = [
            (padded, spline_weights(along), spline_weights(down)),
            (padded, spline_slopes(along), spline_weights(down)),
            (padded, spline_weights(along), spline_slopes(down)),
        ]
        column, row = column + 1, row + 1
    else:
        # Four taps outside give 0 wherever they are, so a margin of 4 zeros is enough.
        column = np.clip(np.floor(x).astype(np.int64), -3, width + 1) + 3
        row = np.clip(np.floor(y).astype(np.int64), -3, height + 1) + 3
        along, down = (x - np.floor(x)).astype(np.float32), (y - np.floor(y)).astype(np.float32)
        weights = cubic_weights(along), cubic_weights(down)
        planes = [(np.pad(plane, 4), *weights) for plane in (image, *centred_gradient(image))]
    warped = []
    for plane, column_weights, row_weights in planes:
        total = np.zeros_like(image)
        for j in range(4):
            for i in range(4):
                total += row_weights[j] * column_weights[i] * plane[row + j, column + i]
        warped.append(total)
    return warped[0], warped[1], warped[2]


def spline_weights(t: Image) -> list[Image]:
    """Weights of the B-spline coefficients at -1, 0, 1, 2 for a sample at t in [0, 1]."""
    r: Image = 1 - t
    sixth, half, two_thirds = (np.float32(x) for x in (1 / 6, 1 / 2, 2 / 3))
    left: Image = two_thirds - half * t * t * (2 - t)
    right: Image = two_thirds - half * r * r * (2 - r)
    return [sixth * r * r * r, left, right, sixth * t * t * t]


def spline_slopes(t: Image) -> list[Image]:
    """The derivatives of spline_weights."""
    r: Image = 1 - t
    half = np.float32(0.5)
    left: Image = half * t * (3 * t - 4)
    right: Image = half * r * (4 - 3 * r)
    return [-half * r * r, left, right, half * t * t]


def cubic_weights(t: Image) -> list[Image]:
    """Cubic convolution weights (Keys 1981) of the pixels at -1, 0, 1, 2 for a sample at t in [0, 1)."""
    a = np.float32(CUBIC_A)

    far_left: Image = ((a * (t + 1) - 5 * a) * (t + 1) + 8 * a) * (t + 1) - 4 * a
    left: Image = ((a + 2) * t - (a + 3)) * t * t + 1
    right: Image = ((a + 2) * (1 - t) - (a + 3)) * (1 - t) * (1 - t) + 1
    return [far_left, left, right, 1 - far_left - left - right]


def symmetric_filter(image: Image, taps: NDArray[np.float32]) -> Image:
    """Convolve along both axes; taps[k] weighs the pixels at k to each side. The border is mirrored."""
    reach = len(taps) - 1
    for axis in (0, 1):
        padded = np.pad(np.moveaxis(image, axis, 0), ((reach, reach), (0, 0)), mode="reflect")
        size = image.shape[axis]
        total = taps[0] * padded[reach : reach + size]
        for k in range(1, reach + 1):
            total += taps[k] * (padded[reach - k : reach - k + size] + padded[reach + k : reach + k + size])
        image = np.moveaxis(total, 0, axis)
    return image


def filtered(u: Flow, i0: Image, mismatch: Image, weighted: bool, tvl1: Tvl1Settings) -> Flow:
    """Filter both components of u by a median.

    Args:
        u: the flow (2, h, w).
        i0: the first image; the weights follow it.
        mismatch: difference of the warped second image and the first one.
        weighted: whether the median is weighted; a plain one has at most 5 x 5 pixels.
        tvl1: the parameters.
    """
    side, stride = tvl1.median, tvl1.median_stride
    if not weighted:
        return np.stack([median(c, min(side, 5)) for c in u])
    weights = median_weights(i0, side, tvl1.median_grey, stride)
    if tvl1.median_occlusion:
        difference = windows(mismatch, side, stride) * np.float32(1 / tvl1.median_occlusion)
        near: Image = np.maximum(1 - difference * difference / np.float32(8), 0)
        weights = weights * np.maximum(near**4, np.float32(LEAST_VISIBLE))
    return np.stack([weighted_median(c, weights, stride) for c in u])


def median(image: Image, side: int) -> Image:
    """Median of side x side pixels; the border pixel repeats beyond the border."""
    if side == 1:
        return image
    middle = side * side // 2
    filtered_image: Image = np.partition(windows(image, side), middle, axis=-1)[..., middle]
    return filtered_image


def windows(image: Image, side: int, stride: int = 1) -> Image:
    """The side x side pixels around each pixel: (h, w, side * side). The border pixel repeats.

    Neighbours in a window are `stride` pixels apart.
    """
    reach = side // 2 * stride
    around = sliding_window_view(np.pad(image, reach, mode="edge"), (2 * reach + 1, 2 * reach + 1))
    return around[..., ::stride, ::stride].reshape(*image.shape, side * side)


def median_weights(guide: Image, side: int, grey: float, stride: int = 1) -> Image:
    """The weight of each pixel of a window: (h, w, side * side), 1 for the central pixel.

    The weight is (1 - d^2 / 8)^4, or 0 where d^2 > 8, for a difference d in units of `grey`. This is nearly
    exp(-d^2 / 2). After D. Sun, S. Roth, M. J. Black, "Secrets of optical flow estimation and their
    principles", CVPR 2010. Their weights also have a factor for distance, which hardly matters here.
    """
    difference = (windows(guide, side, stride) - guide[..., None]) * np.float32(1 / grey)
    near: Image = np.maximum(1 - difference * difference / np.float32(8), 0)
    return near**4


def weighted_median(image: Image, weights: Image, stride: int = 1) -> Image:
    """The smallest value of each window at which the pixels up to it have half of the weight."""
    values = windows(image, math.isqrt(weights.shape[-1]), stride)
    order = np.argsort(values, axis=-1)
    reached = np.cumsum(np.take_along_axis(weights, order, -1), axis=-1)
    place = (reached < reached[..., -1:] / 2).sum(axis=-1, keepdims=True)
    half: Image = np.take_along_axis(values, np.take_along_axis(order, place, -1), -1)[..., 0]
    return half


def resize(image: Image, size: tuple[int, int], scale: tuple[float, float]) -> Image:
    """Resize bilinearly; `scale` is the (height, width) of a new pixel in old pixels."""
    left, right, weight = linear_taps(image.shape[1], size[1], scale[1])
    image = image[:, left] * (1 - weight) + image[:, right] * weight
    left, right, weight = linear_taps(image.shape[0], size[0], scale[0])
    return image[left] * (1 - weight[:, None]) + image[right] * weight[:, None]
