"""Charts of the HTML reports, drawn in the page's own colours.

Every function returns HTML or SVG. A page that uses one adds `STYLE` to its rules.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

Point = tuple[float, float]
Tick = tuple[float, str]

_MAX_POINTS = 300  # of a drawn line; more cannot be told apart
_MAX_MARKERS = 40  # points of a line that still get a marker each
# The line chart in its own units: the size, and the margins that hold its labels.
_WIDTH, _HEIGHT = 460, 210
_LEFT, _BOTTOM, _TOP, _RIGHT = 44, 26, 8, 10


def ticks(maximum: float) -> list[float]:
    """Four to six round numbers from 0 to at least `maximum`."""
    step = 10.0 ** math.floor(math.log10(max(maximum, 1e-9) / 4))
    step *= next(k for k in (1, 2, 2.5, 5, 10) if step * k * 5 >= maximum)
    return [k * step for k in range(math.ceil(maximum / step - 1e-9) + 1)]


def bar(share: float) -> str:
    """One horizontal bar.

    Args:
        share: part of the available width, from 0 to 1.
    """
    return f"<div class=bar><i style='width:{100 * share:.2f}%'></i></div>"


def bars(rows: Iterable[tuple[str, float]], label: Callable[[float], str]) -> str:
    """Horizontal bars below each other; the longest fills the width.

    Args:
        rows: name (HTML) and share of each bar.
        label: text of a share, shown at the end of its bar.
    """
    rows = list(rows)
    longest = max((share for _, share in rows), default=0) or 1
    lines = (f"<span>{name}</span>{bar(share / longest)}<b>{label(share)}</b>" for name, share in rows)
    return f"<div class=bars>{''.join(lines)}</div>"


def meter(share: float, low: float, high: float) -> str:
    """A share as a bar from 0 to 1, with its interval from `low` to `high` as a thin line on it."""
    return (
        f"<div class=meter><i style='width:{100 * share:.2f}%'></i>"
        f"<b style='left:{100 * low:.2f}%;width:{100 * (high - low):.2f}%'></b></div>"
    )


def outline(heights: Iterable[float]) -> str:
    """The upper edge of a histogram as an SVG path, from the left to the right edge of a `plot`.

    Args:
        heights: heights of bins of equal width, from 0 to 1.
    """
    heights = list(heights)
    return "".join(
        f"H{100 * i / len(heights):.2f} V{100 - 100 * height:.2f} " for i, height in enumerate(heights)
    )


def plot(shapes: str, x_ticks: Sequence[Tick], y_ticks: Sequence[Tick], x_title: str, y_title: str) -> str:
    """A chart that stretches to any width, with labels that keep their size.

    Args:
        shapes: SVG in a box of 100 x 100, y downwards.
        x_ticks, y_ticks: place from 0 to 1, and label.
        x_title, y_title: text below and above the chart.
    """
    grid = "".join(f"<path class=grid d='M0,{100 - 100 * at:.2f} H100'/>" for at, _ in y_ticks)
    labels = "".join(f"<i class=x style='left:{100 * at:.2f}%'>{text}</i>" for at, text in x_ticks)
    labels += "".join(f"<i class=y style='bottom:{100 * at:.2f}%'>{text}</i>" for at, text in y_ticks)
    return (
        f"<figure class=chart><p class=note>{y_title}</p><div class=plot><svg viewBox='0 0 100 100'"
        f" preserveAspectRatio=none role=img aria-label='{y_title} over {x_title}'>{grid}{shapes}</svg>"
        f"{labels}</div>"
        f"<p class='note under'>{x_title}</p></figure>"
    )


def line_chart(
    lines: Sequence[tuple[str, Sequence[Point]]], milestones: Sequence[int], *, share: bool
) -> str:
    """Lines over training steps, as one SVG image.

    Args:
        lines: CSS class and points (step, value) of each line; class `val` gets markers.
        milestones: steps at which the learning rate drops; each is marked.
        share: values are shares from 0 to 1, and are labelled in percent.
    """
    points = [point for _, line in lines for point in line]
    if not points:
        return "<p class=note>no log</p>"
    last_step = max(x for x, _ in points)
    y_ticks = [0, 0.25, 0.5, 0.75, 1] if share else ticks(max(y for _, y in points))

    def place(x: float, y: float) -> tuple[str, str]:
        right = _LEFT + x / last_step * (_WIDTH - _LEFT - _RIGHT)
        down = _HEIGHT - _BOTTOM - y / y_ticks[-1] * (_HEIGHT - _TOP - _BOTTOM)
        return f"{right:.1f}", f"{down:.1f}"

    svg = [f"<svg class=lines viewBox='0 0 {_WIDTH} {_HEIGHT}' role=img>"]
    for value in y_ticks:
        _, y = place(0, value)
        label = f"{100 * value:.0f}%" if share else f"{value:g}"
        svg.append(f"<path class=grid d='M{_LEFT} {y}H{_WIDTH - _RIGHT}'/>")
        svg.append(f"<text x={_LEFT - 7} y={y} dy=.35em text-anchor=end>{label}</text>")
    for step in (tick for tick in ticks(last_step) if tick <= last_step):
        x, _ = place(step, 0)
        anchor = "end" if float(x) > _WIDTH - 30 else "middle"
        svg.append(f"<text x={x} y={_HEIGHT - 7} text-anchor={anchor}>{step:,.0f}</text>")
    for step in (milestone for milestone in milestones if milestone < last_step):
        x, _ = place(step, 0)
        svg.append(
            f"<path class=milestone d='M{x} {_TOP}V{_HEIGHT - _BOTTOM}'>"
            "<title>lower learning rate</title></path>"
        )
    for kind, line in lines:
        thinned = _thinned(line)
        svg.append(
            f"<polyline class={kind} points='{' '.join(','.join(place(*point)) for point in thinned)}'/>"
        )
        if kind == "val" and len(thinned) <= _MAX_MARKERS:
            for step, value in line:
                x, y = place(step, value)
                svg.append(
                    f"<circle cx={x} cy={y} r=3.2><title>step {step:.0f}: {value:.3f}</title></circle>"
                )
    return "".join(svg) + "</svg>"


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
.plot i { position:absolute; font-style:normal; font-size:12.5px; color:var(--soft);
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
