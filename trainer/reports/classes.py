"""Accuracy by class, and the confusion matrix, of the report on training runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from flowprep.reports import html
from flowprep.reports.html import Markup, fragment, tag
from trainer.reports.run_data import PREDICTORS, ReportData

_MAX_NUMBERED = 20  # classes up to which the squares of a confusion matrix have room for numbers
_MAX_LETTERS = 24  # of a class name at a confusion matrix; its title has the whole name


def class_section(data: ReportData) -> Markup:
    """A table of the accuracy of each class, sorted by the accuracy of the main predictor."""
    titles = {name: PREDICTORS[name].title for name in data.scores}
    note = (
        "Share of the test videos of a class that get the right class. Sorted by the accuracy of the "
        f"{PREDICTORS[data.main].name}."
    )
    table = class_table(data.classes, data.labels, data.scores, titles)
    return html.section("Accuracy by class", table, note)


def class_table(
    classes: Sequence[str], labels: np.ndarray, scores: Mapping[str, np.ndarray], titles: Mapping[str, str]
) -> Markup:
    """The accuracy of each class under each predictor, sorted by that of the last predictor.

    Args:
        classes: names of the C classes.
        labels: (N,) true class of each video, as a position in `classes`.
        scores: (N, C) scores by predictor. The key is a CSS class, which sets the colour.
        titles: heading of each predictor.
    """
    rows = []
    for number, name in enumerate(classes):
        members = labels == number
        if members.any():
            shares = {key: float((rows[members].argmax(1) == number).mean()) for key, rows in scores.items()}
            rows.append((shares, name, int(members.sum())))
    main = list(scores)[-1]
    rows.sort(key=lambda row: (-row[0][main], row[1]))
    heads = [tag("th", html.breakable(titles[key]), class_=f"num {key}") for key in scores]
    heads = [tag("th", "Videos", class_="num"), tag("th", class_="track"), *heads]
    return html.table("classes", ["Class", *heads], [_class_row(*row) for row in rows])


def _class_row(shares: dict[str, float], name: str, count: int) -> Markup:
    low, high = min(shares.values()), max(shares.values())
    span = tag("b", style=f"left:{100 * low:.2f}%;width:{100 * (high - low):.2f}%")
    dots = [tag("i", class_=key, style=f"left:{100 * share:.2f}%") for key, share in shares.items()]
    return tag(
        "tr",
        tag("th", html.breakable(name)),
        tag("td", count, class_="num"),
        tag("td", tag("div", span, dots, class_="dots"), class_="track"),
        [tag("td", f"{100 * share:.0f}%", class_=f"num {key}") for key, share in shares.items()],
    )


def confusion_section(data: ReportData) -> Markup:
    """The confusion matrix of the main predictor."""
    counts = np.zeros((len(data.classes), len(data.classes)), np.int64)
    np.add.at(counts, (data.labels, data.scores[data.main].argmax(1)), 1)
    note = (
        f"Predictions of the {PREDICTORS[data.main].name}. Rows are true classes, columns are predicted "
        "classes. The shade is the share of the row."
    )
    return html.section("Confusion matrix", _matrix(counts, data.classes), note)


def _matrix(counts: np.ndarray, classes: list[str]) -> Markup:
    """An SVG with a square for each pair of classes that occurs, with its number if there is room."""
    count = len(classes)
    cell = 40 if count <= _MAX_NUMBERED else max(6, 800 // count)
    is_named = count <= 2 * _MAX_NUMBERED
    margin = 12 + (7.2 * min(_MAX_LETTERS, max(map(len, classes))) if is_named else 0)
    side = margin + count * cell
    width = side + margin * 0.4
    squares = f"{count * cell}"
    frame = tag(
        "rect", class_="frame", x=f"{margin:.1f}", y=f"{margin:.1f}", width=squares, height=squares, rx=6
    )
    svg = [_axis_names(name, margin, margin + (i + 0.5) * cell) for i, name in enumerate(classes) if is_named]
    svg.append(frame)
    for true, predicted in zip(*np.nonzero(counts), strict=True):
        number, total = int(counts[true, predicted]), int(counts[true].sum())
        title = f"{classes[true]} predicted as {classes[predicted]}: {number} of {total}"
        x, y = margin + predicted * cell, margin + true * cell
        kind = "hit" if true == predicted else "miss"
        svg.append(
            _square(x, y, cell, kind, number / total, title, number if count <= _MAX_NUMBERED else None)
        )
    box = f"0 0 {width:.0f} {side:.0f}"
    return tag("svg", svg, class_="confusion", viewBox=box, role="img", style=f"width:{width:.0f}px")


def _axis_names(name: str, margin: float, middle: float) -> Markup:
    """The name of a class at its row and, turned, at its column."""
    shown = name if len(name) <= _MAX_LETTERS else f"{name[: _MAX_LETTERS - 1]}…"
    at_column = f"translate({middle:.1f},{margin - 8:.0f}) rotate(-50)"
    return fragment(
        [
            tag("text", shown, x=f"{margin - 8:.0f}", y=f"{middle:.1f}", dy=".35em", text_anchor="end"),
            tag("text", shown, transform=at_column, dy=".35em"),
        ]
    )


def _square(x: float, y: float, cell: int, kind: str, share: float, title: str, number: int | None) -> Markup:
    gap, radius = (0.3, 0) if number is None else (1.5, 3)
    side = f"{cell - 2 * gap:.1f}"
    square = tag(
        "rect",
        tag("title", title),
        class_=kind,
        x=f"{x + gap:.1f}",
        y=f"{y + gap:.1f}",
        width=side,
        height=side,
        rx=radius,
        fill_opacity=f"{0.12 + 0.88 * share:.3f}",
    )
    if number is None:
        return square
    middle = {"x": f"{x + cell / 2:.1f}", "y": f"{y + cell / 2:.1f}", "dy": ".35em", "text_anchor": "middle"}
    return fragment([square, tag("text", number, class_="strong" if share > 0.45 else None, **middle)])


STYLE = """
.classes .track { width:45%; min-width:130px; padding:6px 22px }
.classes tbody .track ~ .num,thead .num { color:var(--c,var(--soft)) }
.classes thead th { white-space:normal; overflow-wrap:anywhere } .classes tbody th { overflow-wrap:anywhere }
.classes tbody .num:last-child { font-weight:650 }
.dots { position:relative; height:14px }
.dots::before { content:""; position:absolute; top:6px; left:0; right:0; height:2px;
  background:var(--track) }
.dots b { position:absolute; top:6px; height:2px; background:var(--soft); opacity:.5 }
.dots i { position:absolute; top:1.5px; width:11px; height:11px; margin-left:-5.5px; border-radius:50%;
  background:var(--c); opacity:.9 }
.dots i:last-child { top:0; width:14px; height:14px; margin-left:-7px; background:none;
  border:2.5px solid var(--c); opacity:1 }
.confusion { display:block; height:auto; overflow:visible; margin:0 auto; max-width:100% }
.confusion text { fill:var(--soft); font-size:12.5px; font-variant-numeric:tabular-nums }
.confusion .frame { fill:var(--track); opacity:.5 } .hit { fill:var(--green) } .miss { fill:var(--red) }
.confusion text.strong { fill:var(--on); font-weight:600 }
@media (max-width:760px) { .classes .track { width:auto; min-width:84px; padding:6px 12px } }
"""
