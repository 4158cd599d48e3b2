"""TV-L1 in NumPy: slow, and meant to be read beside the papers. The oracle of the other engines.

C. Zach, T. Pock, H. Bischof, "A duality based approach for realtime TV-L1 optical flow", DAGM 2007.
J. Sanchez Perez, E. Meinhardt-Llopis, G. Facciolo, "TV-L1 optical flow estimation", IPOL 2013,
doi:10.5201/ipol.2013.26: the algorithm and the discretisation; equation numbers below are theirs.

The flow u = (u1, u2) from I0 to I1 minimises

    E(u) = sum  lambda |I1(x + u) - I0(x)| + |grad u1| + |grad u2|.

With an auxiliary flow v tied to u by |u - v|^2 / (2 theta) and the data term rho linearised around the
flow u0 of the last warp, it is solved by alternating a pointwise threshold (v) and a step of Chambolle's
projection for the total variation (u, with dual variables p1 and p2), from coarse to fine.

What OpenCV's code adds to the paper and is done here as well: u is median-filtered before each block of
inner iterations, the dual variables live on from one warp to the next, and samples outside I1 are 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from flowprep.engines import base
from flowprep.engines.schedule import CUBIC_A, TINY_GRADIENT, level_sizes, linear_taps, stop_below
from flowprep.settings import Tvl1Settings

Image = NDArray[np.float32]  # (h, w)
Flow = NDArray[np.float32]  # (2, h, w): u1 = right, u2 = down


class Engine(base.Engine):
    """The reference engine."""

    def _solve(
        self, frames: NDArray[Any], first: list[int], second: list[int], flow: NDArray[np.float32]
    ) -> None:
        pyramids = {i: pyramid(frames[i].astype(np.float32), self.tvl1) for i in {*first, *second}}

        def solve_one(i: int) -> None:
            flow[i] = solve_pair(pyramids[first[i]], pyramids[second[i]], self.tvl1)

        self._each(len(first), solve_one)


def pyramid(image: Image, tvl1: Tvl1Settings) -> list[Image]:
    """The levels of an image, finest first."""
    levels = [image]
    height, width = image.shape
    for size in level_sizes(height, width, tvl1)[1:]:
        levels.append(resize(levels[-1], size, (1 / tvl1.scale_step, 1 / tvl1.scale_step)))
    return levels


def solve_pair(levels0: list[Image], levels1: list[Image], tvl1: Tvl1Settings) -> Flow:
    """Flow from the first image to the second, from coarse to fine (Algorithm 2)."""
    u = np.zeros((2, *levels0[-1].shape), np.float32)
    for i0, i1 in zip(reversed(levels0), reversed(levels1), strict=True):
        size = i0.shape
        if u.shape[1:] != size:
            ratio = u.shape[1] / size[0], u.shape[2] / size[1]
            u = np.stack([resize(c, size, ratio) for c in u]) * np.float32(1 / tvl1.scale_step)
        u = solve_level(i0, i1, u, tvl1)
    return u


def solve_level(i0: Image, i1: Image, u: Flow, tvl1: Tvl1Settings) -> Flow:
    """Improve the flow u at one level (Algorithm 1)."""
    tau, lambda_, theta = (np.float32(x) for x in (tvl1.tau, tvl1.lambda_, tvl1.theta))
    height, width = i0.shape
    stop = stop_below(height, width, tvl1)
    i1x, i1y = centred_gradient(i1)
    p = np.zeros((2, 2, *i0.shape), np.float32)  # p[k] is the dual variable of u[k]: (x part, y part)
    for _ in range(tvl1.warps):
        i1w, i1wx, i1wy = (warp(image, u) for image in (i1, i1x, i1y))
        grad = np.stack([i1wx, i1wy])
        square = i1wx * i1wx + i1wy * i1wy
        rho_c = i1w - i1wx * u[0] - i1wy * u[1] - i0  # rho(u) without the part that changes with u
        error = np.inf
        for _ in range(tvl1.outer_iterations):
            if error <= stop:
                break
            u = np.stack([median(c, tvl1.median) for c in u])
            for _ in range(tvl1.inner_iterations):
                v = u + threshold(rho_c + i1wx * u[0] + i1wy * u[1], grad, square, lambda_ * theta)
                u_before, u = u, v + theta * np.stack([divergence(pk) for pk in p])
                for pk, uk in zip(p, u, strict=True):
                    du = forward_gradient(uk)
                    pk += tau / theta * du
                    pk /= 1 + tau / theta * np.hypot(*du)
                error = float(np.sum((u - u_before) ** 2, dtype=np.float64))
                if error <= stop:
                    break
    return u


def threshold(rho: Image, grad: Flow, square: Image, lt: np.float32) -> Flow:
    """The step from u to v: TH of equation (13), with lt = lambda theta and square = |grad|^2."""
    step = np.clip(-rho / np.maximum(square, TINY_GRADIENT), -lt, lt)
    solved: Flow = np.where(square > TINY_GRADIENT, step * grad, np.float32(0))
    return solved


def centred_gradient(image: Image) -> tuple[Image, Image]:
    """Half of the difference of the two neighbours; beyond the border the border pixel repeats."""
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
    """The negative adjoint of the forward gradient (equation 15): 0 enters before the first pixel."""
    div: Image = np.diff(p[0], axis=1, prepend=np.float32(0)) + np.diff(p[1], axis=0, prepend=np.float32(0))
    return div


def warp(image: Image, u: Flow) -> Image:
    """The image at x + u(x): bicubic, 0 outside."""
    height, width = image.shape
    # Four taps that all lie outside give 0 wherever they are, so that a margin of 4 zeros is enough.
    padded = np.pad(image, 4)
    taps = []
    for position, size in ((np.arange(height)[:, None] + u[1], height), (np.arange(width) + u[0], width)):
        whole = np.floor(position)
        first = np.clip(whole.astype(np.int64), -3, size + 1) + 3
        taps.append((first, cubic_weights(position - whole)))
    (row, row_weights), (column, column_weights) = taps
    total = np.zeros_like(image)
    for j in range(4):
        for i in range(4):
            total += row_weights[j] * column_weights[i] * padded[row + j, column + i]
    return total


def cubic_weights(t: Image) -> list[Image]:
    """Cubic convolution weights (Keys 1981) of the pixels at -1, 0, 1, 2 for a sample at t in [0, 1)."""
    a = np.float32(CUBIC_A)

    far_left: Image = ((a * (t + 1) - 5 * a) * (t + 1) + 8 * a) * (t + 1) - 4 * a
    left: Image = ((a + 2) * t - (a + 3)) * t * t + 1
    right: Image = ((a + 2) * (1 - t) - (a + 3)) * (1 - t) * (1 - t) + 1
    return [far_left, left, right, 1 - far_left - left - right]


def median(image: Image, side: int) -> Image:
    """Median of side x side pixels; beyond the border the border pixel repeats."""
    if side == 1:
        return image
    windows = sliding_window_view(np.pad(image, side // 2, mode="edge"), (side, side))
    middle = side * side // 2
    flat = windows.reshape(*image.shape, side * side)
    middle_one: Image = np.partition(flat, middle, axis=-1)[..., middle]
    return middle_one


def resize(image: Image, size: tuple[int, int], scale: tuple[float, float]) -> Image:
    """Bilinear; `scale` is the width of a new pixel in old ones, (vertically, horizontally)."""
    left, right, weight = linear_taps(image.shape[1], size[1], scale[1])
    image = image[:, left] * (1 - weight) + image[:, right] * weight
    left, right, weight = linear_taps(image.shape[0], size[0], scale[0])
    return image[left] * (1 - weight[:, None]) + image[right] * weight[:, None]
