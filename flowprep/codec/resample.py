"""Resampling of images of codes and of frames: a part of each, at another size, in one pass.

Each axis has its own filter, a table of weights. Where the result has fewer pixels than the part, a pixel is
the mean over its area: the weights of OpenCV's INTER_AREA, also for factors that are no whole numbers. Where
it has more, it is interpolated between the two nearest pixels: INTER_LINEAR. The arithmetic has a fixed
order, so that every processor gives the same bytes.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from flowprep.system.jit import jit

_NO_WEIGHT = 1e-6  # smaller ones are rounding errors of the positions


class Axis(NamedTuple):
    """The filter of one axis: pixel i of the result is the sum over k of weights[i, k] * line[first[i] + k].

    Attributes:
        first: (size,) int64.
        weights: (size, taps) float32. Each row has the sum 1.
    """

    first: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32]


class Resampling(NamedTuple):
    """How a part of an image becomes the result.

    Attributes:
        window: the source pixels that the filters read: (top, left, height, width).
        rows, columns: the filters of both axes, within `window`.
    """

    window: tuple[int, int, int, int]
    rows: Axis
    columns: Axis


def make_resampling(
    window: tuple[float, float, float, float],
    size: tuple[int, int],
    shape: tuple[int, int],
    antialias: bool = True,
    mirror: bool = False,
) -> Resampling:
    """Make the filters that turn a part of an image into the result.

    Args:
        window: the part: (top, left, height, width) in pixels of the image, not necessarily whole.
        size: (height, width) of the result.
        shape: (height, width) of the image. Interpolation reads pixels beside the window, if there are any.
        antialias: false: interpolate where the result is smaller, too.
        mirror: exchange left and right of the result.
    """
    starts, filters = [], []
    for axis in range(2):
        first, weights = _axis(
            float(window[axis]), float(window[axis + 2]), int(size[axis]), int(shape[axis]), antialias
        )
        starts.append(int(first[0]))
        filters.append(Axis(first - first[0], weights))
    if mirror:
        filters[1] = Axis(filters[1].first[::-1].copy(), filters[1].weights[::-1].copy())
    extents = [int(part.first.max()) + part.weights.shape[1] for part in filters]
    return Resampling((starts[0], starts[1], extents[0], extents[1]), *filters)


def resample_images(
    images: npt.NDArray[np.uint8], resampling: Resampling, out: npt.NDArray[np.uint8]
) -> None:
    """Resample images, rounded to whole numbers.

    Args:
        images: (n, H, W) or (n, H, W, channels), the `window` of each image.
        resampling: the filters.
        out: (n, *size) or (n, *size, channels), which is filled.
    """
    _resample_bytes(_with_channels(images), *resampling.rows, *resampling.columns, _with_channels(out))


def resample_flow(
    codes: npt.NDArray[np.uint8],
    resampling: Resampling,
    scale: npt.NDArray[np.float32],
    zero_point: npt.NDArray[np.float32],
    out: npt.NDArray[np.float32],
) -> None:
    """Resample codes, and write displacements: (code - zero_point) * scale.

    Args:
        codes: (n, H, W), the `window` of each field.
        resampling: the filters.
        scale, zero_point: (n,), of each field.
        out: (n, *size), which is filled.
    """
    _resample_pixels(codes[..., None], *resampling.rows, *resampling.columns, scale, zero_point, out)


def to_pixels(
    codes: npt.NDArray[np.uint8],
    scale: npt.NDArray[np.float32],
    zero_point: npt.NDArray[np.float32],
    out: npt.NDArray[np.float32],
) -> None:
    """Write the displacements of codes, (code - zero_point) * scale: the values of `quantise.to_pixels`.

    Args:
        codes: (n, H, W).
        scale, zero_point: (n,), of each field.
        out: (n, H, W), which is filled.
    """
    n = len(codes)
    _to_pixels(codes.reshape(n, -1), scale, zero_point, out.reshape(n, -1))


def _with_channels(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return images if images.ndim == 4 else images[..., None]


def _axis(start: float, extent: float, size: int, limit: int, antialias: bool) -> Any:
    """The filter of one axis of an image.

    Args:
        start, extent: the part of the axis, in pixels.
        size: the number of pixels of the result.
        limit: the number of pixels of the image.
        antialias: whether to take means where the result is smaller.

    Returns:
        (first, weights), as `Axis`.
    """
    shrinks = antialias and extent > size
    taps = min(math.ceil(extent / size) + 1 if shrinks else 2, limit)
    first, weights = np.empty(size, np.int64), np.zeros((size, taps), np.float32)
    (_fill_means if shrinks else _fill_linear)(start, extent / size, limit, first, weights)
    used = int(np.flatnonzero(weights.max(axis=0) > _NO_WEIGHT)[-1]) + 1  # whole factors need one tap less
    return first, np.ascontiguousarray(weights[:, :used])


@jit
def _fill_means(start: float, step: float, limit: int, first: Any, weights: Any) -> None:
    """The filter of means: the weight of a pixel is its share of the area."""
    taps = weights.shape[1]
    for i in range(len(first)):
        begin, end = start + i * step, start + (i + 1) * step
        first[i] = max(0, min(math.floor(begin + _NO_WEIGHT), limit - taps))
        total = 0.0
        for k in range(taps):
            total += max(0.0, min(end, first[i] + k + 1.0) - max(begin, first[i] + float(k)))
        for k in range(taps):
            share = max(0.0, min(end, first[i] + k + 1.0) - max(begin, first[i] + float(k))) / total
            weights[i, k] = share if share > _NO_WEIGHT else 0.0


@jit
def _fill_linear(start: float, step: float, limit: int, first: Any, weights: Any) -> None:
    """The filter of interpolation between the centres of pixels. The border's pixels are repeated."""
    taps = weights.shape[1]
    for i in range(len(first)):
        centre = start + (i + 0.5) * step - 0.5
        below = math.floor(centre)
        first[i] = max(0, min(below, limit - taps))
        for k in range(2):
            nearest = max(0, min(below + k, limit - 1))
            weights[i, nearest - first[i]] += (centre - below) if k else 1 - (centre - below)


@jit
def _resample_row(
    image: Any, top: int, row_weights: Any, first: Any, weights: Any, line: Any, result: Any
) -> None:
    """One row of the result, (width, channels): the sum over rows into `line`, then that over columns."""
    taps, width, channels = weights.shape[1], image.shape[1], image.shape[2]
    for x in range(width):
        for c in range(channels):
            line[x * channels + c] = row_weights[0] * np.float32(image[top, x, c])
    for k in range(1, len(row_weights)):
        for x in range(width):
            for c in range(channels):
                line[x * channels + c] += row_weights[k] * np.float32(image[top + k, x, c])
    for j in range(len(first)):
        for c in range(channels):
            total = weights[j, 0] * line[first[j] * channels + c]
            for k in range(1, taps):
                total += weights[j, k] * line[(first[j] + k) * channels + c]
            result[j * channels + c] = total


@jit
def _resample_bytes(images: Any, top: Any, row_weights: Any, first: Any, weights: Any, out: Any) -> None:
    height, width, channels = out.shape[1:]
    line = np.empty(images.shape[2] * channels, np.float32)
    result = np.empty(width * channels, np.float32)
    for n in range(len(images)):
        for i in range(height):
            _resample_row(images[n], top[i], row_weights[i], first, weights, line, result)
            for j in range(width):
                for c in range(channels):
                    out[n, i, j, c] = np.uint8(result[j * channels + c] + np.float32(0.5))


@jit
def _resample_pixels(
    codes: Any, top: Any, row_weights: Any, first: Any, weights: Any, scale: Any, zero_point: Any, out: Any
) -> None:
    height, width = out.shape[1:]
    line, result = np.empty(codes.shape[2], np.float32), np.empty(width, np.float32)
    for n in range(len(codes)):
        for i in range(height):
            _resample_row(codes[n], top[i], row_weights[i], first, weights, line, result)
            for j in range(width):
                out[n, i, j] = (result[j] - zero_point[n]) * scale[n]


@jit
def _to_pixels(codes: Any, scale: Any, zero_point: Any, out: Any) -> None:
    for n in range(len(codes)):
        for i in range(codes.shape[1]):
            out[n, i] = (np.float32(codes[n, i]) - zero_point[n]) * scale[n]
