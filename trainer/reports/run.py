"""The report on runs of two streams, their fusion, or a joint network: one HTML file that needs nothing from
outside itself.

Charts are SVG drawn here, so that they take the page's colours in light and in dark; pictures are data URIs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flowprep import viz
from flowprep.errors import UsageError
from flowprep.reports import charts, html
from trainer.data.sampling import spaced_starts
from trainer.evaluation.scores import Scores
from trainer.training import checkpoint
from trainer.training.run_folder import LOG

if TYPE_CHECKING:
    from flowprep import Corpus, Video

# What is judged, in the order of columns; the last that there is is the one whose mistakes are shown.
WHAT = {
    "spatial": "RGB frames",
    "temporal": "stacks of optical flow",
    "fused": "both streams' scores",
    "both": "a joint network",
}
_NAMES = {
    "spatial": "spatial stream",
    "temporal": "temporal stream",
    "fused": "fusion",
    "both": "joint network",
}
_TITLES = {"spatial": "Spatial", "temporal": "Temporal", "fused": "Fused", "both": "Joint"}
_NUMBERED = 20  # classes up to which a confusion matrix has room for its numbers
_SHOTS = 4  # frames shown of a mistake


def write_report(
    path: Path,
    runs: Mapping[str, Path],
    scores: Mapping[str, Scores],
    corpus: Corpus,
    *,
    mistakes: int = 6,
) -> None:
    """Write the report.

    Args:
        path: the HTML file.
        runs: folders of the runs, by stream: "spatial", "temporal", "both" (of a joint network).
        scores: of the same videos, in any order: of each run, and "fused" of two.
        corpus: where the videos' frames and flow are.
        mistakes: how many of the worst mistakes to show.

    Raises:
        UsageError: the scores are of different videos or classes, or a folder is not a run.
    """
    names = [name for name in WHAT if name in scores]
    last = scores[names[-1]]
    order = {video: i for i, video in enumerate(last.ids.tolist())}
    for name, one in scores.items():
        if set(one.ids.tolist()) != set(order) or one.classes.tolist() != last.classes.tolist():
            raise UsageError(f"the {name} scores are of other videos or classes than the {names[-1]} ones")
    rows = {
        name: scores[name].scores[np.argsort([order[i] for i in scores[name].ids.tolist()])]  # as in `last`
        for name in names
    }
    kept = {name: checkpoint.load_selected(run) for name, run in runs.items()}
    for name, run in kept.items():
        if run.recipe.stream != name:
            raise UsageError(f"the {name} run that was given is a {run.recipe.stream} run")
    logs = {name: read_log(run) for name, run in runs.items()}
    parts = [
        _head(last, rows, corpus),
        _cards(last, rows),
        html.section(
            "Training",
            _curves(logs, kept),
            "Thin: training batches. With dots: held-out validation videos.",
        ),
        html.section(
            "Accuracy of each class",
            _per_class(last, rows),
            "Share of a class's test videos that are recognised; the best classes of the "
            f"{_NAMES[names[-1]]} first.",
        ),
        html.section(
            "What is taken for what",
            _confusion(last.confusion, last.classes.tolist()),
            f"Scores of the {_NAMES[names[-1]]}. Rows are true classes, columns what was said; the shade is "
            "the share of the row.",
        ),
        _mistakes(last, rows, corpus, mistakes),
        html.section("Settings", _settings(kept, corpus)),
    ]
    text = html.document("Two-stream report", "\n".join(p for p in parts if p), _STYLE)
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.write_whole(path, lambda file: file.write(text.encode()))


def interval(right: int, count: int) -> tuple[float, float]:
    """95% interval of a share, `right` of `count` (Wilson 1927)."""
    z, p = 1.96, right / count
    centre, spread = p + z * z / (2 * count), z * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
    return (centre - spread) / (1 + z * z / count), (centre + spread) / (1 + z * z / count)


def _head(last: Scores, rows: dict[str, np.ndarray], corpus: Corpus) -> str:
    count = len(last.ids)
    right = {name: _right(last, one) for name, one in rows.items()}
    name = list(rows)[-1]
    single = [right[s] for s in ("spatial", "temporal") if s in rows]
    beside = ""
    if name in ("fused", "both") and single:
        gain = 100 * (right[name] - max(single)) / count
        subject = "Fusing the streams" if name == "fused" else "The joint network"
        title = f"{subject} {'adds' if gain >= 0 else 'costs'} {abs(gain):.1f} points"
        beside = f", against the {'better' if len(single) > 1 else 'other'} stream alone"
    else:
        title = f"{100 * right[name] / count:.1f}% by the {_NAMES[name]}"
    return (
        "<header><p class=eyebrow>Two-stream report</p>"
        f"<h1>{title}</h1>"
        f"<p class=lead>{count} test videos of {len(last.classes)} classes, "
        f"from the corpus <b>{escape(corpus.path.name)}</b>{beside}.</p></header>"
    )


def _cards(last: Scores, rows: dict[str, np.ndarray]) -> str:
    cards = []
    for name, scores in rows.items():
        right, count = _right(last, scores), len(last.ids)
        low, high = interval(right, count)
        cards.append(
            f"<div class='card {name}'><h2>{_TITLES[name]}</h2><p class=subtitle>{WHAT[name]}</p>"
            f"<p class=big>{100 * right / count:.1f}<small>%</small></p>"
            f"<div class=meter><i style='width:{100 * right / count:.2f}%'></i>"
            f"<b style='left:{100 * low:.2f}%;width:{100 * (high - low):.2f}%'></b></div>"
            f"<p class=note>{right} of {count} &middot; 95% interval "
            f"{100 * low:.0f}&ndash;{100 * high:.0f}%</p></div>"
        )
    return f"<div class=cards>{''.join(cards)}</div>"


def _curves(logs: dict[str, list[dict[str, Any]]], runs: dict[str, checkpoint.Checkpoint]) -> str:
    figures = []
    for name, log in logs.items():
        milestones = runs[name].recipe.train.milestones
        judged = [row for row in log if "val_accuracy" in row]
        for what, train_key, val_key in (
            ("accuracy", "train_accuracy", "val_accuracy"),
            ("loss", "loss", "val_loss"),
        ):
            lines = [
                ("train", [(row["step"], row[train_key]) for row in log]),
                ("val", [(row["step"], row[val_key]) for row in judged]),
            ]
            figures.append(
                f"<figure class={name}><figcaption>{_TITLES[name]} {what}</figcaption>"
                f"{_chart(lines, milestones, share=what == 'accuracy')}</figure>"
            )
    return f"<div class=curves>{''.join(figures)}</div>"


def _chart(
    lines: list[tuple[str, list[tuple[int, float]]]], milestones: Sequence[int], *, share: bool
) -> str:
    """One line chart. `lines` are (CSS class, points); milestones of the learning rate are marked."""
    width, height, left, bottom, top, right = 460, 210, 44, 26, 8, 10
    points = [p for _, line in lines for p in line]
    if not points:
        return "<p class=note>no log</p>"
    x_most = max(x for x, _ in points)
    y_ticks = [0, 0.25, 0.5, 0.75, 1] if share else charts.ticks(max(y for _, y in points))
    y_most = y_ticks[-1]

    def place(x: float, y: float) -> str:
        px = left + x / x_most * (width - left - right)
        py = height - bottom - y / y_most * (height - top - bottom)
        return f"{px:.1f},{py:.1f}"

    out = [f"<svg viewBox='0 0 {width} {height}' role=img>"]
    for y in y_ticks:
        _, py = place(0, y).split(",")
        label = f"{100 * y:.0f}%" if share else f"{y:g}"
        out.append(f"<path class=grid d='M{left} {py}H{width - right}'/>")
        out.append(f"<text x={left - 7} y={py} dy=.35em text-anchor=end>{label}</text>")
    x_ticks = [x for x in charts.ticks(x_most) if x <= x_most]
    for x in x_ticks:
        px, _ = place(x, 0).split(",")
        anchor = "end" if float(px) > width - 30 else "middle"
        out.append(f"<text x={px} y={height - 7} text-anchor={anchor}>{x:,.0f}</text>")
    for x in (m for m in milestones if m < x_most):
        px, _ = place(x, 0).split(",")
        out.append(
            f"<path class=milestone d='M{px} {top}V{height - bottom}'>"
            "<title>lower learning rate</title></path>"
        )
    for kind, line in lines:
        thin = _thinned(line)
        out.append(f"<polyline class={kind} points='{' '.join(place(x, y) for x, y in thin)}'/>")
        if kind == "val" and len(thin) <= 40:
            for x, y in line:
                px, py = place(x, y).split(",")
                out.append(f"<circle cx={px} cy={py} r=3.2><title>step {x:.0f}: {y:.3f}</title></circle>")
    return "".join(out) + "</svg>"


def _thinned(line: list[tuple[int, float]], most: int = 300) -> list[tuple[float, float]]:
    """At most about `most` points, each the mean of its neighbourhood."""
    size = math.ceil(len(line) / most) or 1
    parts = [np.mean(line[i : i + size], axis=0) for i in range(0, len(line), size)]
    return [(float(x), float(y)) for x, y in parts]


def _per_class(last: Scores, rows: dict[str, np.ndarray]) -> str:
    lines = []
    for n, name in enumerate(last.classes.tolist()):
        mine = last.labels == n
        if mine.any():
            shares = {s: float((rows[s][mine].argmax(1) == n).mean()) for s in rows}
            lines.append((shares, name, int(mine.sum())))
    last_name = list(rows)[-1]
    lines.sort(key=lambda line: (-line[0][last_name], line[1]))
    out = ["<div class=scroll><table class=classes><thead><tr><th>Class<th class=num>Videos<th class=track>"]
    out += [f"<th class='num {s}'>{_TITLES[s]}" for s in rows]
    out.append("<tbody>")
    for shares, name, count in lines:
        low, high = min(shares.values()), max(shares.values())
        dots = "".join(f"<i class={s} style='left:{100 * shares[s]:.2f}%'></i>" for s in rows)
        span = f"<b style='left:{100 * low:.2f}%;width:{100 * (high - low):.2f}%'></b>"
        cells = "".join(f"<td class='num {s}'>{100 * shares[s]:.0f}%" for s in rows)
        out.append(
            f"<tr><th>{escape(name)}<td class=num>{count}<td class=track><div class=dots>{span}{dots}</div>"
            f"{cells}"
        )
    return "".join(out) + "</table></div>"


def _confusion(counts: np.ndarray, classes: list[str]) -> str:
    """The matrix as SVG: a square per pair of classes that occurs, its number where there is room."""
    n = len(classes)
    cell = 40 if n <= _NUMBERED else max(6, 800 // n)
    named = n <= 2 * _NUMBERED
    margin = 12 + (7.2 * max(len(c) for c in classes) if named else 0)
    side = margin + n * cell
    width = side + margin * 0.4
    out = [f"<svg class=confusion viewBox='0 0 {width:.0f} {side:.0f}' role=img "]
    out.append(f"style='width:{width:.0f}px;min-width:{min(width, 400):.0f}px'>")
    for i, name in enumerate(classes):
        middle = margin + (i + 0.5) * cell
        if named:
            out.append(
                f"<text x={margin - 8:.0f} y={middle:.1f} dy=.35em text-anchor=end>{escape(name)}</text>"
            )
            out.append(
                f"<text transform='translate({middle:.1f},{margin - 8:.0f}) rotate(-50)' dy=.35em>"
                f"{escape(name)}</text>"
            )
    out.append(f"<rect class=frame x={margin:.1f} y={margin:.1f} width={n * cell} height={n * cell} rx=6 />")
    for i, j in zip(*np.nonzero(counts), strict=True):
        share = counts[i, j] / counts[i].sum()
        kind = "hit" if i == j else "miss"
        x, y = margin + j * cell, margin + i * cell
        gap = 1.5 if n <= _NUMBERED else 0.3
        title = f"{escape(classes[i])} taken for {escape(classes[j])}: {counts[i, j]} of {counts[i].sum()}"
        out.append(
            f"<rect class={kind} x={x + gap:.1f} y={y + gap:.1f} width={cell - 2 * gap:.1f} "
            f"height={cell - 2 * gap:.1f} rx={3 if n <= _NUMBERED else 0} "
            f"fill-opacity={0.12 + 0.88 * share:.3f}><title>{title}</title></rect>"
        )
        if n <= _NUMBERED:
            tone = " class=strong" if share > 0.45 else ""
            out.append(
                f"<text{tone} x={x + cell / 2:.1f} y={y + cell / 2:.1f} dy=.35em text-anchor=middle>"
                f"{counts[i, j]}</text>"
            )
    return f"<div class=scroll>{''.join(out)}</svg></div>"


def _mistakes(last: Scores, rows: dict[str, np.ndarray], corpus: Corpus, most: int) -> str:
    """The videos whose wrong class is furthest above the true one."""
    name = list(rows)[-1]
    scores = rows[name]
    everyone = np.arange(len(last.ids))
    margin = scores.max(1) - scores[everyone, last.labels]
    wrong = [i for i in np.argsort(-margin, kind="stable") if scores[i].argmax() != last.labels[i]]
    if not wrong or not most:
        return "" if wrong else html.section("The worst mistakes", "<p class=lead>There are none.</p>")
    chosen = [int(i) for i in wrong[:most]]
    shown = {i: corpus[str(last.ids[i])] for i in chosen if str(last.ids[i]) in corpus}
    fields = {i: _fields(video) if corpus.settings.flow else [] for i, video in shown.items()}
    lengths = [np.hypot(*flow).ravel() for some in fields.values() for _, flow in some]
    # One scale of colours for all, in pixels.
    reach = max(0.5, float(np.percentile(np.concatenate(lengths), 99))) if lengths else 0.0
    cards = []
    for i in chosen:
        strip = "<p class=note>not in this corpus</p>"
        if i in shown:
            strip = _strip(shown[i], rgb=corpus.settings.rgb, fields=fields[i], reach=reach)
        cards.append(_mistake(i, last, rows, strip))
    wheel = html.picture(viz.legend(112, reach), "colours of flow") if lengths else ""
    note = (
        f"{len(chosen)} of {len(wrong)}: scores of the {_NAMES[name]} furthest on the wrong side. "
        "Above frames, below flow"
        + (f", full of colour from {reach:.3g} px on (99th percentile)." if lengths else ".")
    )
    return html.section(
        "The worst mistakes" if len(wrong) > 1 else "The only mistake",
        f"<div class=wheel>{wheel}<p class=note>{note}</p></div><div class=mistakes>{''.join(cards)}</div>",
    )


def _mistake(i: int, last: Scores, rows: dict[str, np.ndarray], strip: str) -> str:
    classes = last.classes.tolist()
    truth = int(last.labels[i])
    lines = []
    for name, scores in rows.items():
        score = scores[i]
        said = int(score.argmax())
        lines.append(
            f"<tr><th class={name}>{_TITLES[name]}<td class={'ok' if said == truth else 'no'}>"
            f"{escape(classes[said])}<td class=num>{score[said]:.2f}<td class=num>{score[truth]:.2f}"
        )
    return (
        f"<article><h3>{escape(classes[truth])} <span>taken for</span> "
        f"{escape(classes[int(list(rows.values())[-1][i].argmax())])}</h3>"
        f"<p class=id>{escape(str(last.ids[i]))}</p>{strip}"
        f"<table><thead><tr><th><th>said<th class=num>score<th class=num>of the truth<tbody>"
        f"{''.join(lines)}</table></article>"
    )


def _fields(video: Video) -> list[tuple[int, np.ndarray]]:
    """A few pairs of a video with their flow."""
    return [(int(s), video.flow(int(s), 1)[0]) for s in spaced_starts(video.num_pairs, 1, _SHOTS)]


def _strip(video: Video, *, rgb: bool, fields: list[tuple[int, np.ndarray]], reach: float) -> str:
    """A few frames above a few flows; `reach` pixels have full colour."""
    out = []
    if rgb:
        out += [
            html.picture(video.rgb(int(s)), f"frame {s}") for s in spaced_starts(video.num_frames, 1, _SHOTS)
        ]
    out += [html.picture(viz.flow_to_rgb(flow, reach), f"flow of pair {s}") for s, flow in fields]
    return f"<div class=strip>{''.join(out)}</div>"


def _settings(runs: dict[str, checkpoint.Checkpoint], corpus: Corpus) -> str:
    recipes = [html.flat(run.recipe.to_dict()) for run in runs.values()]
    lines = []
    for key in dict.fromkeys(key for recipe in recipes for key in recipe):
        values = [escape(json.dumps(recipe[key])) if key in recipe else "&ndash;" for recipe in recipes]
        cells = "".join(f"<td>{value}" for value in values)
        lines.append(f"<tr{' class=differs' if len(set(values)) > 1 else ''}><th>{escape(key)}{cells}")
    steps = "".join(f"<td>{run.step:,}" for run in runs.values())
    recipe = (
        "<details><summary>Recipes</summary><div class=scroll><table class=keys><thead><tr>"
        f"<th>Key{''.join(f'<th>{_TITLES[name]}' for name in runs)}<tbody>{''.join(lines)}"
        f"<tr><th>weights after step{steps}</table></div></details>"
    )
    stored = "".join(
        f"<tr><th>{escape(key)}<td>{escape(json.dumps(value))}"
        for key, value in html.flat(corpus.settings.to_dict()).items()
    )
    return (
        f"{recipe}<details><summary>Corpus</summary><div class=scroll><table class=keys><tbody>{stored}"
        f"<tr><th>videos<td>{len(corpus):,}"
        f"<tr><th>videos that failed<td>{len(corpus.failures):,}</table></div></details>"
    )


def read_log(run: Path) -> list[dict[str, Any]]:
    """The rows of a run's log; none where it has not been written."""
    path = run / LOG
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]  # a kill may tear the last row


def _right(judged: Scores, scores: np.ndarray) -> int:
    return int((scores.argmax(1) == judged.labels).sum())


_STYLE = """
.spatial { --c:var(--blue) } .temporal { --c:var(--orange) } .fused { --c:var(--green) }
.both { --c:color-mix(in srgb,var(--blue),var(--red)) }
.cards { grid-template-columns:repeat(auto-fit,minmax(210px,1fr)) }
.meter { position:relative; height:8px; border-radius:4px; background:var(--track); margin-bottom:10px }
.meter i { position:absolute; inset:0 auto 0 0; border-radius:4px; background:var(--c) }
.meter b { position:absolute; top:3px; height:2px; background:var(--ink); opacity:.55 }
.curves { display:grid; grid-template-columns:1fr 1fr; gap:22px 26px }
svg { display:block; width:100%; height:auto; overflow:visible }
svg text { fill:var(--soft); font-size:12.5px; font-variant-numeric:tabular-nums }
.grid { stroke:var(--line); fill:none } .milestone { stroke:var(--soft); stroke-dasharray:2 4; opacity:.7 }
polyline { fill:none; stroke:var(--c); stroke-linejoin:round; stroke-linecap:round }
polyline.train { stroke-width:1.4; opacity:.5 } polyline.val { stroke-width:2.4 }
circle { fill:var(--sheet); stroke:var(--c); stroke-width:2 }
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
.confusion { margin:0 auto; max-width:100% }
.confusion .frame { fill:var(--track); opacity:.5 } .hit { fill:var(--green) } .miss { fill:var(--red) }
.confusion text.strong { fill:var(--on); font-weight:600 }
.mistakes { display:grid; grid-template-columns:repeat(auto-fill,minmax(min(100%,430px),1fr)); gap:18px }
article table { font-size:14px } article th[class] { color:var(--c) }
.ok::after { content:" \\2713"; color:var(--green) }
.no { color:var(--red) }
.differs > * { background:color-mix(in srgb,var(--track) 60%,transparent) }
@media (max-width:760px) {
  .curves { grid-template-columns:1fr } .meter { grid-column:1/-1; margin-top:10px }
  .classes .track { width:auto; min-width:84px; padding:6px 12px } }
"""
