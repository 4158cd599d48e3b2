"""Accuracy by class, and the confusion matrix, of the report on training runs."""

from __future__ import annotations

from html import escape

import numpy as np

from flowprep.reports import html
from trainer.reports.run_data import PREDICTORS, ReportData

_MAX_NUMBERED = 20  # classes up to which the squares of a confusion matrix have room for numbers


def class_section(data: ReportData) -> str:
    """A table of the accuracy of each class, sorted by the accuracy of the main predictor."""
    rows = []
    for number, name in enumerate(data.classes):
        members = data.labels == number
        if members.any():
            shares = {
                predictor: float((scores[members].argmax(1) == number).mean())
                for predictor, scores in data.scores.items()
            }
            rows.append((shares, name, int(members.sum())))
    rows.sort(key=lambda row: (-row[0][data.main], row[1]))
    heads = "".join(f"<th class='num {name}'>{PREDICTORS[name].title}" for name in data.scores)
    table = (
        "<div class=scroll><table class=classes><thead>"
        f"<tr><th>Class<th class=num>Videos<th class=track>{heads}"
        f"<tbody>{''.join(_class_row(*row) for row in rows)}</table></div>"
    )
    note = (
        "Share of the test videos of a class that get the right class. Sorted by the accuracy of the "
        f"{PREDICTORS[data.main].name}."
    )
    return html.section("Accuracy by class", table, note)


def _class_row(shares: dict[str, float], name: str, count: int) -> str:
    low, high = min(shares.values()), max(shares.values())
    span = f"<b style='left:{100 * low:.2f}%;width:{100 * (high - low):.2f}%'></b>"
    dots = "".join(f"<i class={key} style='left:{100 * share:.2f}%'></i>" for key, share in shares.items())
    cells = "".join(f"<td class='num {key}'>{100 * share:.0f}%" for key, share in shares.items())
    return (
        f"<tr><th>{escape(name)}<td class=num>{count}"
        f"<td class=track><div class=dots>{span}{dots}</div>{cells}"
    )


def confusion_section(data: ReportData) -> str:
    """The confusion matrix of the main predictor."""
    counts = np.zeros((len(data.classes), len(data.classes)), np.int64)
    np.add.at(counts, (data.labels, data.scores[data.main].argmax(1)), 1)
    note = (
        f"Predictions of the {PREDICTORS[data.main].name}. Rows are true classes, columns are predicted "
        "classes. The shade is the share of the row."
    )
    return html.section("Confusion matrix", _matrix(counts, data.classes), note)


def _matrix(counts: np.ndarray, classes: list[str]) -> str:
    """An SVG with a square for each pair of classes that occurs, with its number if there is room."""
    count = len(classes)
    cell = 40 if count <= _MAX_NUMBERED else max(6, 800 // count)
    named = count <= 2 * _MAX_NUMBERED
    margin = 12 + (7.2 * max(map(len, classes)) if named else 0)
    side = margin + count * cell
    width = side + margin * 0.4
    svg = [
        f"<svg class=confusion viewBox='0 0 {width:.0f} {side:.0f}' role=img "
        f"style='width:{width:.0f}px;min-width:{min(width, 400):.0f}px'>"
    ]
    if named:
        svg += [_axis_names(name, margin, margin + (i + 0.5) * cell) for i, name in enumerate(classes)]
    svg.append(
        f"<rect class=frame x={margin:.1f} y={margin:.1f} width={count * cell} height={count * cell} rx=6 />"
    )
    for true, predicted in zip(*np.nonzero(counts), strict=True):
        number, total = int(counts[true, predicted]), int(counts[true].sum())
        title = f"{escape(classes[true])} predicted as {escape(classes[predicted])}: {number} of {total}"
        x, y = margin + predicted * cell, margin + true * cell
        kind = "hit" if true == predicted else "miss"
        svg.append(
            _square(x, y, cell, kind, number / total, title, number if count <= _MAX_NUMBERED else None)
        )
    return f"<div class=scroll>{''.join(svg)}</svg></div>"


def _axis_names(name: str, margin: float, middle: float) -> str:
    """The name of a class at its row and, turned, at its column."""
    return (
        f"<text x={margin - 8:.0f} y={middle:.1f} dy=.35em text-anchor=end>{escape(name)}</text>"
        f"<text transform='translate({middle:.1f},{margin - 8:.0f}) rotate(-50)' dy=.35em>"
        f"{escape(name)}</text>"
    )


def _square(x: float, y: float, cell: int, kind: str, share: float, title: str, number: int | None) -> str:
    gap, radius = (0.3, 0) if number is None else (1.5, 3)
    square = (
        f"<rect class={kind} x={x + gap:.1f} y={y + gap:.1f} width={cell - 2 * gap:.1f} "
        f"height={cell - 2 * gap:.1f} rx={radius} fill-opacity={0.12 + 0.88 * share:.3f}>"
        f"<title>{title}</title></rect>"
    )
    if number is None:
        return square
    tone = " class=strong" if share > 0.45 else ""
    return (
        f"{square}<text{tone} x={x + cell / 2:.1f} y={y + cell / 2:.1f} dy=.35em text-anchor=middle>"
        f"{number}</text>"
    )


STYLE = """
.classes .track { width:45%; min-width:130px; padding:6px 22px }
.classes tbody .track ~ .num,thead .num { color:var(--c,var(--soft)) }
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
