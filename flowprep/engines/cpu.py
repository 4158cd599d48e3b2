"""TV-L1 on the processor, compiled by numba: the algorithm of reference.py, one pair per thread.

The names are those of reference.py. The state of a solve lives in a workspace that is reused from pair
to pair.
"""

from __future__ import annotations

import itertools
import queue
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from flowprep.engines import base
from flowprep.engines.schedule import CUBIC_A, TINY_GRADIENT, level_sizes, stop_below
from flowprep.settings import Tvl1Settings

Image = NDArray[np.float32]
_A = np.float32(CUBIC_A)
_TINY = np.float32(TINY_GRADIENT)


class Engine(base.Engine):
    """The compiled engine."""

    def _solve(
        self, frames: NDArray[Any], first: list[int], second: list[int], flow: NDArray[np.float32]
    ) -> None:
        free: queue.LifoQueue[_Workspace] = queue.LifoQueue()
        for _ in range(max(1, min(self.threads, len(first)))):
            free.put(_Workspace(frames.shape[1], frames.shape[2], self.tvl1))

        def solve_one(i: int) -> None:
            workspace = free.get()
            workspace.solve(frames[first[i]], frames[second[i]], flow[i])
            free.put(workspace)

        self._each(len(first), solve_one)


class _Workspace:
    """The arrays of one solve, and the solve itself."""

    def __init__(self, height: int, width: int, tvl1: Tvl1Settings) -> None:
        self.tvl1 = tvl1
        self.sizes = level_sizes(height, width, tvl1)
        self.pyramids = [[np.empty(size, np.float32) for size in self.sizes] for _ in range(2)]
        self.flows = [np.empty((2, *size), np.float32) for size in self.sizes]
        self.planes = [np.empty((11, *size), np.float32) for size in self.sizes]

    def solve(self, before: NDArray[Any], after: NDArray[Any], flow: NDArray[np.float32]) -> None:
        """Fill `flow` (2, H, W) with the flow from one image to the other."""
        tvl1, zoom = self.tvl1, 1 / self.tvl1.scale_step
        for image, pyramid in zip((before, after), self.pyramids, strict=True):
            pyramid[0][...] = image
            for fine, coarse in itertools.pairwise(pyramid):
                _resize(fine, coarse, zoom, zoom, 1.0)
        self.flows[-1][...] = 0
        for level in reversed(range(len(self.sizes))):
            u, (height, width) = self.flows[level], self.sizes[level]
            if level + 1 < len(self.sizes):
                coarse_height, coarse_width = self.sizes[level + 1]
                for k in range(2):
                    _resize(
                        self.flows[level + 1][k], u[k], coarse_height / height, coarse_width / width, zoom
                    )
            _solve_level(
                self.pyramids[0][level],
                self.pyramids[1][level],
                u,
                self.planes[level],
                np.float32(tvl1.tau / tvl1.theta),
                np.float32(tvl1.lambda_ * tvl1.theta),
                np.float32(tvl1.theta),
                stop_below(height, width, tvl1),
                tvl1.warps,
                tvl1.outer_iterations,
                tvl1.inner_iterations,
                tvl1.median,
            )
        flow[...] = self.flows[0]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _resize(image: Image, out: Image, scale_y: float, scale_x: float, factor: float) -> None:
    height, width = image.shape
    for y in range(out.shape[0]):
        at_y = min(max((y + 0.5) * scale_y - 0.5, 0.0), height - 1.0)
        top = int(at_y)
        below = min(top + 1, height - 1)
        wy = np.float32(at_y - top)
        for x in range(out.shape[1]):
            at_x = min(max((x + 0.5) * scale_x - 0.5, 0.0), width - 1.0)
            left = int(at_x)
            right = min(left + 1, width - 1)
            wx = np.float32(at_x - left)
            one = np.float32(1)
            upper = image[top, left] * (one - wx) + image[top, right] * wx
            lower = image[below, left] * (one - wx) + image[below, right] * wx
            out[y, x] = (upper * (one - wy) + lower * wy) * np.float32(factor)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _solve_level(
    i0: Image,
    i1: Image,
    u: NDArray[np.float32],
    planes: NDArray[np.float32],
    taut: np.float32,
    lt: np.float32,
    theta: np.float32,
    stop: float,
    warps: int,
    outer: int,
    inner: int,
    median: int,
) -> None:
    planes[:] = 0
    p, constants, filtered = planes[:4], planes[4:8], planes[8]
    i1x, i1y = planes[9], planes[10]
    _gradient(i1, i1x, i1y)
    for _ in range(warps):
        _warp(i0, i1, i1x, i1y, u, constants)
        error = np.inf
        for _ in range(outer):
            if error <= stop:
                break
            if median > 1:
                for k in range(2):
                    _median(u[k], filtered, median)
                    u[k] = filtered
            for _ in range(inner):
                error = _iterate(u, p, constants, taut, lt, theta)
                if error <= stop:
                    break


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _gradient(image: Image, out_x: Image, out_y: Image) -> None:
    height, width = image.shape
    half = np.float32(0.5)
    for y in range(height):
        for x in range(width):
            out_x[y, x] = half * (image[y, min(x + 1, width - 1)] - image[y, max(x - 1, 0)])
            out_y[y, x] = half * (image[min(y + 1, height - 1), x] - image[max(y - 1, 0), x])


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _cubic(t: np.float32) -> tuple[np.float32, np.float32, np.float32, np.float32]:
    one = np.float32(1)
    a, s, r = _A, t + one, one - t
    far = ((a * s - 5 * a) * s + 8 * a) * s - 4 * a
    left = ((a + 2) * t - (a + 3)) * t * t + one
    right = ((a + 2) * r - (a + 3)) * r * r + one
    return np.float32(far), np.float32(left), np.float32(right), np.float32(one - far - left - right)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _warp(i0: Image, i1: Image, i1x: Image, i1y: Image, u: Image, constants: Image) -> None:
    """Fill constants with I1wx, I1wy, rho_c and 1 / |grad|^2 (0 where the data term is not solved)."""
    height, width = i0.shape
    zero = np.float32(0)
    for y in range(height):
        for x in range(width):
            at_x, at_y = u[0, y, x] + np.float32(x), u[1, y, x] + np.float32(y)
            whole_x, whole_y = np.floor(at_x), np.floor(at_y)
            wx, wy = _cubic(at_x - whole_x), _cubic(at_y - whole_y)
            column = int(min(max(whole_x, np.float32(-3)), np.float32(width + 1)))
            row = int(min(max(whole_y, np.float32(-3)), np.float32(height + 1)))
            w, ix, iy = zero, zero, zero
            for j in range(4):
                yy = row + j - 1
                if 0 <= yy < height:
                    for i in range(4):
                        xx = column + i - 1
                        if 0 <= xx < width:
                            weight = wy[j] * wx[i]
                            w += weight * i1[yy, xx]
                            ix += weight * i1x[yy, xx]
                            iy += weight * i1y[yy, xx]
            square = ix * ix + iy * iy
            constants[0, y, x] = ix
            constants[1, y, x] = iy
            constants[2, y, x] = w - ix * u[0, y, x] - iy * u[1, y, x] - i0[y, x]
            constants[3, y, x] = np.float32(1) / square if square > _TINY else zero


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _median(image: Image, out: Image, side: int) -> None:
    height, width = image.shape
    window = np.empty(side * side, np.float32)
    r = side // 2
    for y in range(height):
        for x in range(width):
            n = 0
            for j in range(y - r, y + r + 1):
                for i in range(x - r, x + r + 1):
                    value = image[min(max(j, 0), height - 1), min(max(i, 0), width - 1)]
                    k = n
                    while k > 0 and window[k - 1] > value:
                        window[k] = window[k - 1]
                        k -= 1
                    window[k] = value
                    n += 1
            out[y, x] = window[n // 2]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _iterate(
    u: Image, p: Image, constants: Image, taut: np.float32, lt: np.float32, theta: np.float32
) -> float:
    """One iteration of u and p in place, row by row; returns the sum of squared updates of u."""
    height, width = u.shape[1:]
    one, zero = np.float32(1), np.float32(0)
    error = 0.0
    for y in range(height + 1):
        if y < height:
            row_error = zero
            for x in range(width):
                ix, iy = constants[0, y, x], constants[1, y, x]
                rho = constants[2, y, x] + ix * u[0, y, x] + iy * u[1, y, x]
                step = min(max(-rho * constants[3, y, x], -lt), lt)
                for k in range(2):
                    div = p[2 * k, y, x] + p[2 * k + 1, y, x]
                    if x > 0:
                        div -= p[2 * k, y, x - 1]
                    if y > 0:
                        div -= p[2 * k + 1, y - 1, x]
                    new = u[k, y, x] + step * constants[k, y, x] + theta * div
                    row_error += (new - u[k, y, x]) ** 2
                    u[k, y, x] = new
            error += row_error
        if y > 0:
            r = y - 1  # the dual row that no primal row needs any more as it was
            for k in range(2):
                for x in range(width):
                    ux = u[k, r, x + 1] - u[k, r, x] if x < width - 1 else zero
                    uy = u[k, y, x] - u[k, r, x] if y < height else zero
                    factor = one / (one + taut * np.sqrt(ux * ux + uy * uy))
                    p[2 * k, r, x] = (p[2 * k, r, x] + taut * ux) * factor
                    p[2 * k + 1, r, x] = (p[2 * k + 1, r, x] + taut * uy) * factor
    return error
