"""Charts of the HTML reports, drawn in the page's own colours.

Every function returns HTML or SVG. A page that uses one adds `STYLE` to its rules.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from flowprep.reports.html import Content, Markup, tag

Point = tuple[float, float]
Tick = tuple[float, str]

_MAX_POINTS = 300  # of a drawn line; more cannot be told apart
_MAX_MARKERS = 40  # points of a line that still get a marker each
# The line chart in its own units: the size, and the margins that hold its labels.
_WIDTH, _HEIGHT = 460, 226
_LEFT, _BOTTOM, _TOP, _RIGHT = 48, 42, 8, 10


def ticks(maximum: float, *, whole: bool = False) -> list[float]:
    """Up to six round numbers from 0 to at least `maximum`.

    Args:
        maximum: the largest value of the axis.
        whole: only whole numbers: for values that are counted.
    """
    step = 10.0 ** math.floor(math.log10(max(maximum, 1e-9) / 4))
    step *= next(k for k in (1, 2, 2.5, 5, 10) if step * k * 5 >= maximum)
    if whole and step % 1:
        step = math.ceil(step)
    return [k * step for k in range(math.ceil(maximum / step - 1e-9) + 1)]


def percent(share: float) -> str:
    """A share as a length in CSS or SVG; what is no finite number is 0."""
    return f"{100 * share if math.isfinite(share) else 0.0:.2f}"


def bar(share: float) -> Markup:
    """One horizontal bar.

    Args:
        share: part of the available width, from 0 to 1.
    """
    return tag("div", tag("i", style=f"width:{percent(share)}%"), class_="bar")


def bars(rows: Iterable[tuple[str, float]], label: Callable[[float], str]) -> Markup:
    """Horizontal bars below each other; the longest fills the width.

    Args:
        rows: name and share of each bar.
        label: text of a share, shown at the end of its bar.
    """
    rows = list(rows)
    longest = max((share for _, share in rows), default=0) or 1
    lines = ((tag("span", name), bar(share / longest), tag("b", label(share))) for name, share in rows)
    return tag("div", lines, class_="bars")


def meter(share: float, low: float, high: float) -> Markup:
    """A share as a bar from 0 to 1, with its interval from `low` to `high` as a thin line on it."""
    interval = f"left:{percent(low)}%;width:{percent(high - low)}%"
    return tag("div", tag("i", style=f"width:{percent(share)}%"), tag("b", style=interval), class_="meter")


def outline(heights: Iterable[float]) -> str:
    """The upper edge of a histogram as an SVG path, from the left to the right edge of a `plot`.

    Args:
        heights: heights of bins of equal width, from 0 to 1.
    """
    heights = list(heights)
    return "".join(
        f"H{percent(i / len(heights))} V{percent(1 - height)} " for i, height in enumerate(heights)
    )


def plot(
    shapes: Content, x_ticks: Sequence[Tick], y_ticks: Sequence[Tick], x_title: str, y_title: str
) -> Markup:
    """A chart that stretches to any width, with labels that keep their size.

    Args:
        shapes: SVG in a box of 100 x 100, y downwards.
        x_ticks, y_ticks: place from 0 to 1, and label.
        x_title, y_title: text below and above the chart.
    """
    grid = [tag("path", class_="grid", d=f"M0,{percent(1 - at)} H100") for at, _ in y_ticks]
    svg = tag(
        "svg",
        grid,
        shapes,
        viewBox="0 0 100 100",
        preserveAspectRatio="none",
        role="img",
        aria_label=f"{y_title} over {x_title}",
    )
    labels = [tag("i", text, class_="x", style=f"left:{percent(at)}%") for at, text in x_ticks]
    labels += [tag("i", text, class_="y", style=f"bottom:{percent(at)}%") for at, text in y_ticks]
    return tag(
        "figure",
        tag("p", y_title, class_="note"),
        tag("div", svg, labels, class_="plot"),
        tag("p", x_title, class_="note under"),
        class_="chart",
    )


def line_chart(
    lines: Sequence[tuple[str, Sequence[Point]]], milestones: Sequence[int], *, share: bool
) -> Markup:
    """Lines over training steps, as one SVG image.

    Args:
        lines: CSS class and points (step, value) of each line; class `val` gets markers.
        milestones: steps at which the learning rate drops; each is marked.
        share: values are shares from 0 to 1, and are labelled in percent.
    """
    lines = [(kind, [point for point in line if np.isfinite(point).all()]) for kind, line in lines]
    points = [point for _, line in lines for point in line]
    if not points:
        return tag("p", "no log", class_="note")
    scale = _Scale(max(x for x, _ in points) or 1, 1 if share else max(y for _, y in points))
    svg: list[Markup] = []
    for value in [0, 0.25, 0.5, 0.75, 1] if share else ticks(scale.highest):
        _, y = scale.place(0, value)
        label = f"{100 * value:.0f}%" if share else f"{value:g}"
        svg.append(tag("path", class_="grid", d=f"M{_LEFT} {y}H{_WIDTH - _RIGHT}"))
        svg.append(tag("text", label, x=_LEFT - 7, y=y, dy=".35em", text_anchor="end"))
    for step in (tick for tick in ticks(scale.last_step, whole=True) if tick <= scale.last_step):
        x, _ = scale.place(step, 0)
        anchor = "end" if float(x) > _WIDTH - 30 else "middle"
        svg.append(tag("text", f"{step:,.0f}", x=x, y=_HEIGHT - _BOTTOM + 18, text_anchor=anchor))
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    svg.append(tag("text", "training steps", x=middle, y=_HEIGHT - 6, text_anchor="middle"))
    for step in (milestone for milestone in milestones if milestone < scale.last_step):
        x, _ = scale.place(step, 0)
        title = tag("title", "lower learning rate")
        svg.append(tag("path", title, class_="milestone", d=f"M{x} {_TOP}V{_HEIGHT - _BOTTOM}"))
    for kind, line in lines:
        svg += _line(kind, line, scale)
    return tag("svg", svg, class_="lines", viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img")


class _Scale:
    """The places of points in a line chart."""

    def __init__(self, last_step: float, maximum: float) -> None:
        self.last_step, self.highest = last_step, ticks(maximum)[-1]

    def place(self, x: float, y: float) -> tuple[str, str]:
        right = _LEFT + x / self.last_step * (_WIDTH - _LEFT - _RIGHT)
        down = _HEIGHT - _BOTTOM - y / self.highest * (_HEIGHT - _TOP - _BOTTOM)
        return f"{right:.1f}", f"{down:.1f}"


def _line(kind: str, line: Sequence[Point], scale: _Scale) -> list[Markup]:
    """A line of the chart, with a marker on each point if there are few."""
    thinned = _thinned(line)
    svg = [tag("polyline", class_=kind, points=" ".join(",".join(scale.place(*point)) for point in thinned))]
    if "val" in kind.split() and len(thinned) <= _MAX_MARKERS:
        for step, value in line:
            x, y = scale.place(step, value)
            svg.append(
                tag("circle", tag("title", f"step {step:.0f}: {value:.3f}"), cx=x, cy=y, r=3.2, class_=kind)
            )
    return svg


def _thinned(line: Sequence[Point]) -> list[Point]:
    """A line of at most about `_MAX_POINTS` points; each is the mean of its neighbourhood."""
    size = math.ceil(len(line) / _MAX_POINTS) or 1
    means = [np.mean(line[i : i + size], axis=0) for i in range(0, len(line), size)]
    return [(float(x), float(y)) for x, y in means]


STYLE = """
.bars { display:grid; grid-template-columns:max-content 1fr max-content; gap:7px 12px; align-items:center;
  font-size:14px; font-variant-numeric:tabular-nums }
.bars b { font-weight:500; text-align:right }
.bar { height:12px; border-radius:4px; background:var(--track) }
.bar i { display:block; height:100%; min-width:1px; border-radius:4px; background:var(--c,var(--blue)) }
.meter { position:relative; height:8px; border-radius:4px; background:var(--track); margin-bottom:10px }
.meter i { position:absolute; inset:0 auto 0 0; border-radius:4px; background:var(--c) }
.meter b { position:absolute; top:3px; height:2px; background:var(--ink); opacity:.55 }
.grid { stroke:var(--line); fill:none }
.chart > .note { font-size:13px } .under { text-align:center; margin-left:52px }
.plot { position:relative; height:210px; margin:10px 8px 30px 52px }
.plot svg { position:absolute; width:100%; height:100%; overflow:visible }
.plot path { vector-effect:non-scaling-stroke }
.plot i { position:absolute; white-space:nowrap; font-style:normal; font-size:12.5px; color:var(--soft);
  font-variant-numeric:tabular-nums }
.plot .x { top:100%; transform:translate(-50%,6px) } .plot .y { right:100%; transform:translate(-8px,50%) }
.line { stroke:var(--c); stroke-width:2; fill:var(--c); fill-opacity:.1 }
.area { fill:var(--c); fill-opacity:.75 } .pause { stroke:var(--ink); stroke-dasharray:3 4; opacity:.6 }
.lines { display:block; width:100%; height:auto; overflow:visible }
.lines text { fill:var(--soft); font-size:12.5px; font-variant-numeric:tabular-nums }
.lines polyline { fill:none; stroke:var(--c); stroke-linejoin:round; stroke-linecap:round }
.lines .train { stroke-width:1.4; opacity:.5 } .lines .val { stroke-width:2.4 }
.lines circle { fill:var(--sheet); stroke:var(--c); stroke-width:2 }
.milestone { stroke:var(--soft); stroke-dasharray:2 4; opacity:.7 }
@media (max-width:760px) { .plot { height:180px; margin-left:44px } .under { margin-left:44px } }
"""
