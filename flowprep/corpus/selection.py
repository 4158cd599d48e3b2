"""What a user wants to read of a video: which pairs or frames, which part of each, and at which size."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from flowprep.errors import OutOfRange, UsageError
from flowprep.settings import MAX_SIDE

if TYPE_CHECKING:
    from flowprep.codec.resample import Resampling

# top, left, height, width; whole pixels unless the part is resized
Window = tuple[int, int, int, int] | tuple[float, float, float, float]
Size = tuple[int, int]  # height, width
# The first pair or frame, or a sequence of them.
Positions = int | Sequence[int] | npt.NDArray[np.integer[Any]]

_BEYOND = 1e-6  # pixels: a window of fractions may reach this far beyond the picture, by rounding


class Geometry(NamedTuple):
    """The part of each picture that is read, and how it is shown.

    Attributes:
        shape: (height, width) of the stored picture.
        window: the pixels that are decoded: (top, left, height, width).
        size: (height, width) of the result.
        part: the part that is shown, (top, left, height, width), not necessarily whole.
        mirror: exchange left and right.
        resampling: the filters from `window` to `size`, which mirror, too. None if each pixel of the window
            is a pixel of the result.
    """

    shape: Size
    window: tuple[int, int, int, int]
    size: Size
    part: tuple[float, float, float, float]
    mirror: bool
    resampling: Resampling | None

    @property
    def displacement_factors(self) -> npt.NDArray[np.float32]:
        """The factors of u and of v that make stored displacements those of the result: (2,)."""
        u, v = self.size[1] / self.part[3], self.size[0] / self.part[2]
        return np.array([-u if self.mirror else u, v], np.float32)


def select(
    start: Positions, count: int | None, total: int, kind: str, video_id: str
) -> npt.NDArray[np.int64]:
    """The numbers of the pairs or frames to read.

    Args:
        start: the first one; or a sequence, in any order and with repeats.
        count: their number from `start` on; None for a sequence.
        total: how many the video has.
        kind: "pair" or "frame", for messages.
        video_id: for messages.

    Raises:
        OutOfRange: the video does not have all of them.
        UsageError: a number is missing or has another type.
    """
    try:
        first = operator.index(start)  # type: ignore[arg-type]
    except TypeError:
        return _sequence(start, count, total, kind, video_id)
    if count is None:
        raise UsageError(
            f"{kind} {first} without count: give the number of {kind}s, or a sequence such as [{first}]"
        )
    try:
        count = operator.index(count)
    except TypeError:
        raise UsageError(f"count is {count!r}; allowed: the number of {kind}s") from None
    if first < 0 or count < 0 or first + count > total:
        raise OutOfRange(f"{count} {kind}s from {kind} {first} of {video_id}; it has {total} {kind}s")
    return np.arange(first, first + count)


def _sequence(values: Any, count: int | None, total: int, kind: str, video_id: str) -> npt.NDArray[np.int64]:
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise UsageError(f"start is {values!r}; allowed: the first {kind}, or a sequence of {kind}s")
    if count is not None:
        raise UsageError(f"count is {count} and start is a sequence; allowed: one of them")
    positions = array.astype(np.int64)
    if positions.size and positions.view(np.uint64).max() >= total:  # without its sign, -1 is a large number
        wrong = next(int(value) for value in array if not 0 <= value < total)
        raise OutOfRange(f"{kind} {wrong} of {video_id}; it has {kind}s 0 to {total - 1}")
    return positions


def lay_out(
    window: Window | None,
    size: Size | None,
    antialias: bool,
    mirror: bool,
    shape: tuple[int, int],
    video_id: str,
) -> Geometry:
    """Check a window and a size, and make the filters that they need.

    Args:
        window: (top, left, height, width) in stored pixels; None for the whole picture.
        size: (height, width) of the result; None for that of the window.
        antialias, mirror: as of `Video.flow`.
        shape: (height, width) of a stored picture.
        video_id: for messages.

    Raises:
        OutOfRange: the window is empty, not in the picture, or not whole without a size.
        UsageError: the size is not allowed.
    """
    part = (0, 0, *shape) if window is None else _checked_window(window, shape, video_id)
    if size is None:
        size = int(part[2]), int(part[3])
        if (int(part[0]), int(part[1]), *size) != part:
            raise OutOfRange(f"window is {window}; allowed: whole pixels, or fractions with a size")
    else:
        size = _checked_size(size)
    # Compiled functions are compiled once more for arguments of another type, such as 1 for True.
    return _geometry(shape, part, size, bool(antialias), bool(mirror))


def reduce(geometry: Geometry, antialias: bool) -> tuple[int, Geometry]:
    """The greatest factor by which a smaller decoded picture is enough, and the geometry in that picture.

    Args:
        geometry: that in the whole picture.
        antialias: as of `Video.rgb`.

    Returns:
        8, 4, 2 or 1, and the geometry.
    """
    for factor in (8, 4, 2):
        if all(factor * size <= part for size, part in zip(geometry.size, geometry.part[2:], strict=True)):
            shape = (-(-geometry.shape[0] // factor), -(-geometry.shape[1] // factor))
            top, left, height, width = (value / factor for value in geometry.part)
            part = (top, left, height, width)
            return factor, _geometry(shape, part, geometry.size, bool(antialias), geometry.mirror)
    return 1, geometry


def _geometry(
    shape: Size, part: tuple[float, float, float, float], size: Size, antialias: bool, mirror: bool
) -> Geometry:
    window = int(part[0]), int(part[1]), int(part[2]), int(part[3])
    if window == part and window[2:] == size:
        return Geometry(shape, window, size, part, mirror, None)
    from flowprep.codec import resample  # compiled loops: reading whole pictures does not have to load them

    resampling = resample.make_resampling(part, size, shape, antialias, mirror)
    return Geometry(shape, resampling.window, size, part, mirror, resampling)


def _checked_window(window: Any, shape: Size, video_id: str) -> tuple[float, float, float, float]:
    try:
        top, left, height, width = map(float, window)
    except (TypeError, ValueError):
        raise OutOfRange(f"window is {window}; allowed: (top, left, height, width)") from None
    inside = top >= 0 and left >= 0 and height >= 0 and width >= 0
    if not inside or top + height > shape[0] + _BEYOND or left + width > shape[1] + _BEYOND:
        raise OutOfRange(
            f"window {window} (top, left, height, width) of {video_id}; the video is {shape[0]} pixels"
            f" high and {shape[1]} wide"
        )
    if not (height and width):
        raise OutOfRange(f"window is {window}, which is empty; allowed: a height and a width above 0")
    return top, left, height, width


def _checked_size(size: Any) -> Size:
    try:
        height, width = map(operator.index, size)
    except (TypeError, ValueError):
        height = width = 0
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise UsageError(f"size is {size!r}; allowed: (height, width), each 1 to {MAX_SIDE} pixels")
    return height, width


def output(out: Any, shape: tuple[int, ...], dtype: npt.DTypeLike, name: str = "out") -> npt.NDArray[Any]:
    """The array to fill: `out` after a check, or a new one. Messages call it `name`.

    Raises:
        UsageError: `out` has another shape or type, is not C-contiguous or aligned, or is read-only.
    """
    if out is None:
        return np.empty(shape, dtype)
    if not isinstance(out, np.ndarray):
        raise UsageError(
            f"{name} is a {type(out).__name__}; allowed: a NumPy array (of a tensor: `.numpy()`)"
        )
    if out.shape != shape or out.dtype != dtype:
        wanted = f"{np.dtype(dtype).name} of the shape {shape}"
        raise UsageError(f"{name} is {out.dtype.name} of the shape {out.shape}; allowed here: {wanted}")
    if not out.flags.carray:
        raise UsageError(
            f"{name} is not C-contiguous, not aligned or read-only; allowed: an array as of np.empty"
        )
    return out
