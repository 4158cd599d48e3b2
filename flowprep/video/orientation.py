"""The display matrix: how a decoded picture is turned or mirrored before it is shown."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

_SMALLEST_SINE = 0.5  # of the angle between the shown axes: below it, a matrix neither turns nor mirrors


class Orientation(NamedTuple):
    """One of the eight turns and reflections of a picture: first transposed, then flipped.

    Attributes:
        transposed: rows become columns.
        flip_y, flip_x: the order of the rows, and of the columns, is reversed after that.
    """

    transposed: bool = False
    flip_y: bool = False
    flip_x: bool = False

    def apply(self, rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Turn and mirror a picture, (H, W, 3) uint8."""
        if self.transposed:
            rgb = rgb.transpose(1, 0, 2)
        return np.ascontiguousarray(rgb[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1])


def orientation_of(picture: Any) -> Orientation:
    """The orientation that the display matrix of a decoded picture demands; none if it has no matrix."""
    try:
        data = picture.side_data.get("DISPLAYMATRIX")
    except ValueError:  # the picture has other side data, which this version of PyAV does not know
        return _turned(picture.rotation)
    if data is None or data.buffer_size != 36:
        return Orientation()
    return nearest_orientation(np.frombuffer(data, np.int32).astype(np.float64).reshape(3, 3))


def nearest_orientation(matrix: npt.NDArray[np.float64]) -> Orientation:
    """The turn by a multiple of 90 degrees, with or without reflection, that is nearest to a display matrix.

    Scale, skew and translation have no influence. Exactly between two turns, the one by 0 or 180 degrees is
    nearest. A matrix that is zero, not finite, or maps the picture to a line gives no turn.

    Args:
        matrix: (3, 3), in the layout of MP4 and FFmpeg: a point (x, y) is shown at (x, y, 1) @ matrix.
    """
    axes = matrix[:2, :2]  # where the x axis and the y axis of the picture point when it is shown
    lengths = np.hypot(axes[:, 0], axes[:, 1])[:, None]
    if not np.isfinite(axes).all() or not lengths.all():
        return Orientation()
    (a, b), (c, d) = axes / lengths
    if abs(a * d - b * c) < _SMALLEST_SINE:
        return Orientation()
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Orientation(True, flip_y=bool(b < 0), flip_x=bool(c < 0))
    return Orientation(False, flip_y=bool(d < 0), flip_x=bool(a < 0))


def _turned(degrees: int) -> Orientation:
    """A turn, counterclockwise, as PyAV gives it. Out of range if the matrix was not finite."""
    if abs(degrees) > 360:
        return Orientation()
    quarter = round(degrees / 90) % 4
    return Orientation(quarter % 2 == 1, flip_y=quarter in (1, 2), flip_x=quarter in (2, 3))
