"""Resampling of images of codes and of frames: a part of each, at another size, in one pass.

Each axis has its own filter, a table of weights. Where the result has fewer pixels than the part, a pixel is
the mean over its area: the weights of OpenCV's INTER_AREA, also for factors that are no whole numbers. Where
it has more, it is interpolated between the two nearest pixels: INTER_LINEAR. The arithmetic has a fixed
order, so that every processor gives the same bytes.

The work goes in tiles of 16 x 16 pixels. Sums over rows take 16 columns at a time. The tile is transposed, so
that sums over columns take 16 rows at a time.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from flowprep.codec.tiles import TILE, add_bytes, add_floats, put_bytes, put_pixels, set_row, transpose, zeros
from flowprep.system.jit import jit
from flowprep.system.simd import LANES

_NO_WEIGHT = 1e-6  # smaller ones are rounding errors of the positions


class Axis(NamedTuple):
    """The filter of one axis: pixel i of the result is the sum over k of weights[i, k] * line[first[i] + k].

    Attributes:
        first: (max(16, size),) int64. An axis of less than 16 pixels is filled up with its last pixel.
        weights: (max(16, size), taps) float32. Each row has the sum 1.
    """

    first: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32]


class Resampling(NamedTuple):
    """How a part of an image becomes the result.

    Attributes:
        window: the source pixels that the filters read: (top, left, height, width).
        size: (height, width) of the result.
        rows, columns: the filters of both axes, within `window`.
    """

    window: tuple[int, int, int, int]
    size: tuple[int, int]
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
    top, height, *rows = _axis(float(window[0]), float(window[2]), size[0], shape[0], antialias, False)
    left, width, *columns = _axis(float(window[1]), float(window[3]), size[1], shape[1], antialias, mirror)
    return Resampling((top, left, height, width), size, Axis(*rows), Axis(*columns))


def resample_images(
    images: npt.NDArray[np.uint8], resampling: Resampling, out: npt.NDArray[np.uint8]
) -> None:
    """Resample images, rounded to whole numbers.

    Args:
        images: (n, H, W) or (n, H, W, channels), the `window` of each image.
        resampling: the filters.
        out: (n, *size) or (n, *size, channels), C-contiguous, which is filled.
    """
    _resample(images, resampling, out, _resample_bytes)


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
        out: (n, *size), C-contiguous, which is filled.
    """
    _resample(codes, resampling, out, _resample_pixels, scale, zero_point)


def to_pixels(
    codes: npt.NDArray[np.uint8],
    scale: npt.NDArray[np.float32],
    zero_point: npt.NDArray[np.float32],
    out: npt.NDArray[np.float32],
) -> None:
    """Write the displacements of codes, (code - zero_point) * scale: the values of `quantise.to_pixels`.

    Args:
        codes: (n, H, W), C-contiguous.
        scale, zero_point: (n,), of each field.
        out: (n, H, W), C-contiguous, which is filled.
    """
    n = len(codes)
    _to_pixels(codes.reshape(n, -1), scale, zero_point, out.reshape(n, -1))


def _resample(
    images: npt.NDArray[np.uint8],
    resampling: Resampling,
    out: npt.NDArray[Any],
    kernel: Any,
    *quant_params: npt.NDArray[np.float32],
) -> None:
    """Call a kernel, which needs at least 16 rows in its result, and at least 16 values in each row."""
    n, height, width, channels = *images.shape[:3], math.prod(images.shape[3:])
    assert (height, width) == resampling.window[2:] and out.shape[1:3] == resampling.size
    (top, row_weights), (first, weights) = resampling.rows, resampling.columns
    if channels > 1:
        first = np.add.outer(first * channels, np.arange(channels)).ravel()
        weights = np.repeat(weights, channels, axis=0)
    lines = images.reshape(n, height, width * channels)
    if lines.shape[2] < LANES:
        lines = np.pad(lines, ((0, 0), (0, 0), (0, LANES - lines.shape[2])))
    rows = out.reshape(n, out.shape[1], -1)
    large = rows
    if min(rows.shape[1:]) < LANES:
        large = np.empty((n, max(LANES, rows.shape[1]), max(LANES, rows.shape[2])), rows.dtype)
    shapes = lines.shape[2], *large.shape[1:], row_weights.shape[1], weights.shape[1], channels
    tables = top, row_weights.ravel(), first, weights.ravel()
    kernel(lines.reshape(n, -1), *quant_params, large.reshape(-1), shapes, *tables)
    if large is not rows:
        rows[:] = large[:, : rows.shape[1], : rows.shape[2]]


@jit
def _resample_bytes(
    images: Any, out: Any, shapes: Any, top: Any, row_weights: Any, first: Any, weights: Any
) -> None:
    """Fill `out` with rounded values. The arguments are those of `_sum_rows` and `_sum_columns`."""
    width, height, length, row_taps, taps, spacing = shapes
    lines, tile = np.empty(LANES * width, np.float32), np.empty(TILE, np.float32)
    for n in range(len(images)):
        for i in range(0, height, LANES):
            row = min(i, height - LANES)
            _sum_rows(images[n], width, top, row_weights, row_taps, row, tile, lines)
            for j in range(0, length, LANES):
                column = min(j, length - LANES)
                _sum_columns(lines, first, weights, taps, spacing, column, tile)
                put_bytes(tile, out, (n * height + row) * length + column, length)


@jit
def _resample_pixels(
    images: Any,
    scale: Any,
    zero_point: Any,
    out: Any,
    shapes: Any,
    top: Any,
    row_weights: Any,
    first: Any,
    weights: Any,
) -> None:
    """Fill `out` with displacements. The arguments are those of `_sum_rows` and `_sum_columns`."""
    width, height, length, row_taps, taps, spacing = shapes
    lines, tile = np.empty(LANES * width, np.float32), np.empty(TILE, np.float32)
    for n in range(len(images)):
        for i in range(0, height, LANES):
            row = min(i, height - LANES)
            _sum_rows(images[n], width, top, row_weights, row_taps, row, tile, lines)
            for j in range(0, length, LANES):
                column = min(j, length - LANES)
                _sum_columns(lines, first, weights, taps, spacing, column, tile)
                put_pixels(tile, scale[n], zero_point[n], out, (n * height + row) * length + column, length)


@jit
def _sum_rows(
    image: Any, width: int, top: Any, weights: Any, taps: int, row: int, tile: Any, lines: Any
) -> None:
    """The sums over rows of an image, for 16 rows of the result.

    Args:
        image: rows of `width` values, one after the other.
        width: at least 16.
        top, weights, taps: the filter; the weights of a row follow those of the row before.
        row: the first of the 16 rows.
        tile: scratch.
        lines: (16 * width,): of each column the values in the 16 rows.
    """
    for begin in range(0, width, LANES):
        x = min(begin, width - LANES)
        for i in range(LANES):
            at = top[row + i] * width + x
            total = zeros()
            for k in range(taps):
                total = add_bytes(total, weights, (row + i) * taps + k, image, at + k * width)
            set_row(tile, i, total)
        transpose(tile, lines, x * LANES)


@jit
def _sum_columns(
    lines: Any, first: Any, weights: Any, taps: int, spacing: int, column: int, tile: Any
) -> None:
    """The sums over columns, for 16 columns of the result.

    Args:
        lines: from `_sum_rows`.
        first, weights, taps: the filter.
        spacing: from one column that the filter reads to the next: the number of channels.
        column: the first of the 16 columns.
        tile: a row for each column.
    """
    for j in range(LANES):
        at = first[column + j] * LANES
        total = zeros()
        for k in range(taps):
            total = add_floats(total, weights, (column + j) * taps + k, lines, at + k * spacing * LANES)
        set_row(tile, j, total)


@jit
def _to_pixels(codes: Any, scale: Any, zero_point: Any, out: Any) -> None:
    for n in range(len(codes)):
        for i in range(codes.shape[1]):
            out[n, i] = (np.float32(codes[n, i]) - zero_point[n]) * scale[n]


@jit
def _axis(start: float, extent: float, size: int, limit: int, antialias: bool, mirror: bool) -> Any:
    """The filter of one axis of an image.

    Args:
        start, extent: the part of the axis, in pixels.
        size: the number of pixels of the result.
        limit: the number of pixels of the image.
        antialias: whether to take means where the result is smaller.
        mirror: exchange first and last.

    Returns:
        The first pixel that is read, the number of pixels that are read, and `first` and `weights` of `Axis`.
    """
    step = extent / size
    means = antialias and step > 1
    taps = min(math.ceil(step) + 1 if means else 2, limit)
    length = max(size, LANES)
    first, wide = np.empty(length, np.int64), np.zeros((length, taps), np.float32)
    used = 1
    for i in range(length):
        pixel = min(i, size - 1)
        if mirror:
            pixel = size - 1 - pixel
        if means:
            first[i] = _fill_mean(start + pixel * step, start + (pixel + 1) * step, limit, wide[i])
        else:
            first[i] = _fill_linear(start + (pixel + 0.5) * step - 0.5, limit, wide[i])
        for k in range(used, taps):
            if wide[i, k] > 0:
                used = k + 1
    low = first.min()
    first -= low
    return low, first.max() + used, first, wide[:, :used].copy()


@jit
def _fill_mean(begin: float, end: float, limit: int, weights: Any) -> int:
    """The weights of a mean: the share of each pixel in the area from `begin` to `end`. Returns the first."""
    taps = len(weights)
    first = max(0, min(math.floor(begin + _NO_WEIGHT), limit - taps))
    total = 0.0
    for k in range(taps):
        total += max(0.0, min(end, first + k + 1.0) - max(begin, first + float(k)))
    for k in range(taps):
        share = max(0.0, min(end, first + k + 1.0) - max(begin, first + float(k))) / total
        weights[k] = share if share > _NO_WEIGHT else 0.0
    return first


@jit
def _fill_linear(centre: float, limit: int, weights: Any) -> int:
    """The weights of the two pixels nearest to `centre`. The border's are repeated. Returns the first."""
    below = math.floor(centre)
    first = max(0, min(below, limit - len(weights)))
    for k in range(2):
        nearest = max(0, min(below + k, limit - 1))
        weights[nearest - first] += (centre - below) if k else 1 - (centre - below)
    return first
