"""The page that shows runs side by side: figures, training curves, and the accuracy of each class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flowprep.reports import charts, html
from flowprep.reports.html import Markup, tag
from flowprep.reports.numbers import format_noun
from trainer.evaluation.scores import TEST_SCORES, Scores
from trainer.models.summary import format_count
from trainer.reports.classes import STYLE as CLASSES_STYLE
from trainer.reports.classes import class_table
from trainer.reports.compare import RunFigures, describe_network, format_accuracy, format_speed
from trainer.reports.curves import STYLE as CURVES_STYLE
from trainer.reports.curves import curves
from trainer.training.metrics_log import read_log

_COLOURS = ("blue", "orange", "green", "red", "violet", "ochre", "teal", "grey")  # of the runs, in turn


def write_page(path: Path, runs: Sequence[RunFigures]) -> None:
    """Write the runs as one HTML page."""
    sections = [
        html.header("Comparison of runs", f"{format_noun(len(runs), 'run')} side by side"),
        _figure_section(runs),
        _curve_section(runs),
        _class_section(runs),
    ]
    style = charts.STYLE + CURVES_STYLE + CLASSES_STYLE + _STYLE
    html.write_document(path, "Comparison of runs", sections, style)


def _figure_section(runs: Sequence[RunFigures]) -> Markup:
    titles = ("Accuracy", "Parameters", "Multiply-adds", "Training, clips/s", "Inference, clips/s")
    heads = [
        *(tag("th", title, class_="num") for title in titles),
        tag("th", "Published", class_="published"),
    ]
    rows = [_row(run, _colour(i), titles) for i, run in enumerate(runs)]
    note = (
        "Accuracy is that of the test videos of each run, with its 95% interval. Multiply-adds are those of "
        "one clip and one crop, in convolutions and matrix products. Training speed includes loading; it is "
        "the median of the run's log. Inference speed excludes loading; it was measured for this page. Small "
        "figures below are those of the published network, for 101 classes."
    )
    return html.section("Figures", html.table("runs", ["Run", *heads], rows), note)


def _row(run: RunFigures, colour: str, titles: Sequence[str]) -> Markup:
    accuracy: list[str] = [format_accuracy(run.accuracy)]
    if run.accuracy is not None and run.interval:
        low, high = run.interval
        videos = f"{format_noun(run.videos, 'video')}, {100 * low:.0f}–{100 * high:.0f}%"
        accuracy += [charts.meter(run.accuracy, low, high), tag("p", videos, class_="note")]
    cells = [
        accuracy,
        [format_count(run.parameters), _note(format_count(run.published_parameters))],
        [format_count(run.multiply_adds), _note(format_count(run.published_multiply_adds))],
        format_speed(run.train_clips_per_second),
        format_speed(run.clips_per_second),
    ]
    shares = [tag("div", f"{name} ", tag("b", f"{share:g}%")) for name, share in run.published.items()]
    return tag(
        "tr",
        tag("th", html.breakable(run.run), _note(describe_network(run)), class_=colour),
        [
            tag("td", cell, class_=f"num{' accuracy' * (title == 'Accuracy')}", data_title=title)
            for title, cell in zip(titles, cells, strict=True)
        ],
        tag("td", shares or "–", _note(run.paper), class_="published", data_title="Published"),
    )


def _note(text: str) -> Markup:
    return tag("p", text, class_="note")


def _curve_section(runs: Sequence[RunFigures]) -> Markup | None:
    """The training curves of all runs that have a log, each quantity in one chart."""
    logs = [(run, _colour(i), read_log(Path(run.run))) for i, run in enumerate(runs)]
    logs = [(run, colour, log) for run, colour, log in logs if log]
    if not logs:
        return None
    figures = []
    for quantity in ("accuracy", "loss"):
        lines = [
            (f"{kind} {colour}", line) for _, colour, log in logs for kind, line in curves(log, quantity)
        ]
        chart = charts.line_chart(lines, [], share=quantity == "accuracy")
        figures.append(tag("figure", tag("figcaption", quantity.capitalize()), chart))
    names = [tag("span", html.breakable(run.run), class_=colour) for run, colour, _ in logs]
    note = "Thin lines: training batches. Thick lines with dots: held-out videos."
    blocks = [tag("p", names, class_="legend"), tag("div", figures, class_="curves")]
    return html.section("Training", blocks, note)


def _class_section(runs: Sequence[RunFigures]) -> Markup | None:
    """The accuracy of each class, of the runs that were scored on the same videos as the first scored run."""
    first: Scores | None = None
    rows, titles, others = {}, {}, []
    for i, run in enumerate(runs):
        if not (Path(run.run) / TEST_SCORES).exists():
            continue
        scores = Scores.load(Path(run.run))
        first = first or scores
        if sorted(scores.ids) != sorted(first.ids) or scores.classes.tolist() != first.classes.tolist():
            others.append(run.run)
            continue
        key = f"run{i} {_colour(i)}"
        rows[key], titles[key] = scores.in_order(first.ids).scores, run.run
    if first is None:
        return None
    note = (
        "Share of the test videos of a class that get the right class. Sorted by the accuracy of the last "
        "run."
    )
    if others:
        note += f" Left out, because their test videos or classes differ: {', '.join(others)}."
    table = class_table(first.classes.tolist(), first.labels, rows, titles)
    return html.section("Accuracy by class", table, note)


def _colour(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]


_STYLE = """
main { max-width:1280px }
:root { --violet:#7a4fc9; --ochre:#9a7b0a; --teal:#0e7f9c; --grey:#6b7280 }
@media (prefers-color-scheme: dark) {
  :root { --violet:#b197f0; --ochre:#d9b93b; --teal:#4cc3e0; --grey:#a5adba } }
.blue { --c:var(--blue) } .orange { --c:var(--orange) } .green { --c:var(--green) } .red { --c:var(--red) }
.violet { --c:var(--violet) } .ochre { --c:var(--ochre) } .teal { --c:var(--teal) } .grey { --c:var(--grey) }
.legend { margin-bottom:14px }
.legend span { display:inline-block; color:var(--c); font-weight:600; font-size:14px; margin-right:18px;
  overflow-wrap:anywhere }
.runs { --c:var(--green) } .runs .meter { margin:6px 0 } .runs th[class] { color:var(--c) }
.runs td,.runs th { vertical-align:top } .runs .published { padding-left:14px; min-width:210px }
.runs th .note { font-weight:400 } .accuracy { min-width:120px }
@media (max-width:760px) {
  .runs,.runs tbody,.runs tr { display:block } .runs thead { display:none }
  .runs tr + tr { margin-top:18px; border-top:1px solid var(--line); padding-top:12px }
  .runs th,.runs td { display:block; border:0; padding:3px 0 } .runs td { display:flex; flex-wrap:wrap;
    justify-content:space-between; gap:2px 10px } .runs td > .note { flex-basis:100%; text-align:right }
  .runs td::before { content:attr(data-title); color:var(--soft); font-size:13px; margin-right:auto }
  .runs td > div { flex-basis:100% } .runs .published { min-width:0; padding-left:0 } }
"""
