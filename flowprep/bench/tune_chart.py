"""The chart of `flowprep tune`: ratio against error, both on logarithmic axes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from flowprep.bench.fidelity import Fidelity
from flowprep.bench.tune import Tuning
from flowprep.viz.canvas import EDGE, GREY, INK, PAPER, Canvas, number, text_width
from flowprep.viz.colours import Colour, Image

_COLOURS: dict[str, Colour] = {
    "adaptive": (0, 98, 178),
    "fixed": (200, 90, 0),
    "tsn": (120, 60, 150),
    "png": (70, 130, 70),
}
Place = tuple[int, int]
Label = tuple[Place, str, Colour]
Box = tuple[int, int, int, int]  # left, top, right, bottom

_LETTERS = 13  # pixels, the size of labels
_RADIUS = 6  # pixels, of the points
_POINTS_OF_LINE = 12  # points of a line that labels avoid
# Places of a label around its point, the best first: pixels down to its top, and the side.
_SPOTS = [
    (down, side)
    for down in (-8, -18, 2, -28, 12, -38, 22, -48, 32, -58, 42)
    for side in ("right", "left", "middle")
    if side != "middle" or not -20 < down < 8
]
_LEAST_ERROR_PX = 1e-4  # smaller errors, and 0, are drawn there
_ROOM_RIGHT = 150  # pixels for the labels of the rightmost points


def draw_tuning(tuning: Tuning, width: int = 900, height: int = 560) -> Image:
    """Draw how many times smaller each quantisation is, against its mean error.

    Returns:
        (height, width, 3) uint8, RGB.
    """
    chosen = [tuning.chosen] if tuning.chosen else []
    points = np.array([_point(result) for result in (*tuning.choices, *chosen)])
    axes = _Axes(points, width, height)
    image = np.full((height, width, 3), PAPER, np.uint8)
    axes.draw_grid(image)
    labels = []
    drawn: list[Place] = [axes.place(point) for point in points]
    for i, result in enumerate(tuning.choices):
        colour, place = _colour(result), axes.place(points[i])
        if i and _colour(tuning.choices[i - 1]) == colour and "codec" not in result.choice:
            before = axes.place(points[i - 1])
            cv2.line(image, before, place, colour, 2, cv2.LINE_AA)
            drawn += [tuple(at) for at in np.linspace(before, place, _POINTS_OF_LINE).astype(int).tolist()]
        cv2.circle(image, place, 5, colour, -1, cv2.LINE_AA)
        choice = result.choice
        value = choice.get("error_px", choice.get("quality", choice.get("codec")))
        labels.append((place, f"{choice['codes']} {value}", colour))
    for point in points[len(tuning.choices) :]:
        cv2.circle(image, axes.place(point), 9, INK, 2, cv2.LINE_AA)
    canvas = Canvas(image)
    canvas.text((axes.left, 16), "Times smaller than float32, and mean error in pixels", 17, INK)
    facts = f"{tuning.pairs} pairs of {tuning.size}; adaptive by error_px, fixed and tsn by quality"
    canvas.text((axes.left, 38), facts + ("; circle: chosen" if chosen else ""), 13, GREY)
    for at, text, anchor in axes.labels():
        canvas.text(at, text, 13, GREY, anchor=anchor)
    for (x, y), text, colour in place_labels(labels, drawn, (width, height - 40)):
        canvas.text((x, y), text, _LETTERS, colour)
    middle = (axes.left + axes.right) / 2
    canvas.text((middle, height - 22), "mean end-point error, px", 13, GREY, anchor="ma")
    return canvas.image


def place_labels(labels: Sequence[Label], drawn: Sequence[Place], size: tuple[int, int]) -> list[Label]:
    """Places for labels beside their points, where they cover no other label and no point if there is room.

    Args:
        labels: point, text and colour of each label.
        drawn: all points, and some on the lines between them.
        size: width and height of the room, pixels.

    Returns:
        The labels with the upper left corners of their texts, in the same order.
    """
    taken = [(x - _RADIUS, y - _RADIUS, x + _RADIUS, y + _RADIUS) for x, y in drawn]
    placed = []
    for (x, y), text, colour in labels:
        width = round(text_width(text, _LETTERS))
        lefts = {"right": x + 10, "left": x - 10 - width, "middle": x - width // 2}
        spots = [(lefts[side], y + down) for down, side in _SPOTS]
        boxes = [(left, top, left + width, top + _LETTERS + 2) for left, top in spots]
        inside = [
            box for box in boxes if box[0] >= 0 and box[1] >= 0 and box[2] <= size[0] and box[3] <= size[1]
        ]
        best = min(inside or boxes, key=lambda box: sum(_overlap(box, other) for other in taken))
        taken.append(best)
        placed.append(((best[0], best[1]), text, colour))
    return placed


def _overlap(box: Box, other: Box) -> int:
    """The area that two boxes share, pixels."""
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    return max(0, width) * max(0, height)


def _point(result: Fidelity) -> tuple[float, float]:
    """Powers of ten of error and ratio."""
    return float(np.log10(max(result.error_px, _LEAST_ERROR_PX))), float(np.log10(result.ratio))


def _colour(result: Fidelity) -> Colour:
    return _COLOURS["png" if "codec" in result.choice else result.choice["codes"]]


class _Axes:
    """Two logarithmic axes around some points, which are powers of ten."""

    def __init__(self, points: npt.NDArray[np.float64], width: int, height: int) -> None:
        self.low = np.floor(points.min(axis=0) * 4) / 4
        self.high = np.ceil(points.max(axis=0) * 4 + 0.1) / 4
        self.left, self.right, self.top, self.bottom = 70, width - _ROOM_RIGHT, 60, height - 56

    def place(self, point: npt.NDArray[np.float64]) -> tuple[int, int]:
        """The pixel of a point, as (x, y)."""
        x, y = (point - self.low) / (self.high - self.low)
        return (
            round(self.left + x * (self.right - self.left)),
            round(self.bottom + y * (self.top - self.bottom)),
        )

    def ticks(self, axis: int) -> list[float]:
        """The numbers 1, 2 and 5 of each power of ten on an axis."""
        values = [digit * 10.0**power for power, digit in itertools.product(range(-4, 5), (1, 2, 5))]
        return [value for value in values if self.low[axis] <= np.log10(value) <= self.high[axis]]

    def line(self, axis: int, value: float) -> tuple[tuple[int, int], tuple[int, int]]:
        """The grid line of a value: its lower or left end, and its other end."""
        ends = np.stack([self.low, self.high])
        ends[:, axis] = np.log10(value)
        return self.place(ends[0]), self.place(ends[1])

    def draw_grid(self, image: Image) -> None:
        """Draw a grid line for each tick."""
        for axis in (0, 1):
            for value in self.ticks(axis):
                cv2.line(image, *self.line(axis, value), EDGE, 1, cv2.LINE_AA)

    def labels(self) -> list[tuple[tuple[int, int], str, str]]:
        """Place, text and anchor of the label of each tick."""
        below = [(self.line(0, value)[0], number(value)) for value in self.ticks(0)]
        beside = [(self.line(1, value)[0], number(value)) for value in self.ticks(1)]
        return [((x, y + 10), text, "ma") for (x, y), text in below] + [
            ((x - 8, y + 7), text, "rd") for (x, y), text in beside
        ]
