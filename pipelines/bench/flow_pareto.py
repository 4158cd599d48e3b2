"""The chart of error against time, on logarithmic axes, as an SVG file for light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from flowprep.bench.tune_chart import place_labels
from flowprep.viz.canvas import number

TITLE = "Error against time; the lower left is best"
TIME = "time a pair, as a multiple of OpenCV's TV-L1"
ERROR = "error J, as a multiple of accurate@1"

_WIDTH, _HEIGHT = 400, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 42, 14, 48, 42
_LONGEST_LABEL = 26  # letters
_MAX_TICKS = 7
_STEPS = (1, 1.2, 1.5, 2, 3, 5, 7)  # possible ticks of each power of ten; every second or third if too many
# Colours by theme: background, letters, faint letters, grid, points of flowprep, other points.
_THEMES = {
    "light": ("#ffffff", "#263238", "#546e7a", "#dfe5e8", "#1565c0", "#b3471d"),
    "dark": ("#1e2327", "#eceff1", "#b0bec5", "#3a444a", "#64b5f6", "#ffab91"),
}
_RULES = (
    "text{{font:12px system-ui,sans-serif;fill:{1}}}.faint{{fill:{2}}}"
    ".middle{{text-anchor:middle}}.end{{text-anchor:end}}"
    "text.title{{font-weight:600;font-size:13px}}"
    ".paper{{fill:{0}}}.grid{{stroke:{3}}}.front{{fill:none;stroke:{2};stroke-dasharray:3 3}}"
    "circle.ours{{fill:{4}}}text.ours{{fill:{4}}}"
    "circle.other{{fill:{0};stroke:{5};stroke-width:2}}text.other{{fill:{5}}}"
)


@dataclass(frozen=True)
class Point:
    """A method in the chart.

    Attributes:
        name: its label.
        time: processor time, relative to OpenCV's TV-L1.
        error: J, the error relative to accurate@1.
        ours: whether it is an engine of flowprep.
    """

    name: str
    time: float
    error: float
    ours: bool


class _Axis:
    """A logarithmic axis around some values, from pixel `start` to pixel `end`."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        logs = [math.log10(value) for value in values]
        margin = 0.07 * max(max(logs) - min(logs), 0.1)
        self.low, self.high = min(logs) - margin, max(logs) + margin
        self.start, self.end = start, end

    def place(self, value: float) -> float:
        """The pixel of a value."""
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        """At most `_MAX_TICKS` round values on the axis."""
        for steps in (_STEPS, (1, 1.5, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
            values = [step * 10.0**power for power in range(-5, 5) for step in steps]
            ticks = [value for value in values if self.low <= math.log10(value) <= self.high]
            if len(ticks) <= _MAX_TICKS:
                break
        return ticks


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """The points than which no other is both faster and better, the fastest first."""
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point.time, point.error)):
        if not front or point.error < front[-1].error:
            front.append(point)
    return front


def draw_pareto(points: Sequence[Point]) -> str:
    """The chart as the text of an SVG file. Both axes are logarithmic; the best place is the lower left.

    Args:
        points: at least one.
    """
    x = _Axis([point.time for point in points], _LEFT, _WIDTH - _RIGHT)
    y = _Axis([point.error for point in points], _HEIGHT - _BOTTOM, _TOP)
    svg = _Svg()
    svg.add("title", TITLE)
    svg.add("style", _style())
    svg.add("rect", class_="paper", width=_WIDTH, height=_HEIGHT, rx=6)
    svg.add("text", TITLE, class_="title", x=10, y=20)
    for value in x.ticks():
        at = x.place(value)
        svg.add("path", class_="grid", d=f"M{at} {_TOP}V{_HEIGHT - _BOTTOM}")
        svg.add("text", number(value), class_="faint middle", x=at, y=_HEIGHT - _BOTTOM + 15)
    for value in y.ticks():
        at = y.place(value)
        svg.add("path", class_="grid", d=f"M{_LEFT} {at}H{_WIDTH - _RIGHT}")
        svg.add("text", number(value), class_="faint end", x=_LEFT - 6, y=at + 4)
    svg.add("text", ERROR, class_="faint", x=10, y=37)
    svg.add("text", TIME, class_="faint middle", x=_WIDTH / 2, y=_HEIGHT - 9)
    front = [f"{x.place(point.time)},{y.place(point.error)}" for point in pareto_front(points)]
    svg.add("polyline", class_="front", points=" ".join(front))
    _add_points(svg, points, x, y)
    return svg.text()


class _Svg:
    """An SVG image."""

    def __init__(self) -> None:
        self.root = ElementTree.Element(
            "svg", xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img"
        )

    def add(self, kind: str, text: str | None = None, **attributes: Any) -> ElementTree.Element:
        """Add an element; `class_` is "class"."""
        values = {key.rstrip("_"): str(value) for key, value in attributes.items()}
        element = ElementTree.SubElement(self.root, kind, values)
        element.text = text
        return element

    def text(self) -> str:
        """The content of the file."""
        return ElementTree.tostring(self.root, encoding="unicode") + "\n"


def _add_points(svg: _Svg, points: Sequence[Point], x: _Axis, y: _Axis) -> None:
    places = [(round(x.place(point.time)), round(y.place(point.error))) for point in points]
    names = [
        name if len(name) <= _LONGEST_LABEL else f"{name[: _LONGEST_LABEL - 1]}…"
        for name in (point.name for point in points)
    ]
    labels = [(place, name, (0, 0, 0)) for place, name in zip(places, names, strict=True)]
    spots = place_labels(labels, places, (_WIDTH - 4, _HEIGHT - _BOTTOM))
    for point, (left, top), name in zip(points, (spot[0] for spot in spots), names, strict=True):
        kind = "ours" if point.ours else "other"
        circle = svg.add("circle", class_=kind, r=4.5, cx=x.place(point.time), cy=y.place(point.error))
        tip = ElementTree.SubElement(circle, "title")
        tip.text = f"{point.name}: time {point.time:.3g}, error {point.error:.3f}"
        svg.add("text", name, class_=kind, x=left, y=top + 12)


def _style() -> str:
    light, dark = (_RULES.format(*_THEMES[theme]) for theme in ("light", "dark"))
    return f"{light}@media (prefers-color-scheme:dark){{{dark}}}"
