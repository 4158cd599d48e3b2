"""The report on runs of two streams, their fusion or a joint network: one HTML page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from flowprep.reports import charts, html
from flowprep.reports.html import Markup, fragment, tag
from flowprep.reports.numbers import format_noun
from trainer.evaluation.metrics import wilson_interval
from trainer.evaluation.scores import Scores
from trainer.reports.classes import STYLE as CLASSES_STYLE
from trainer.reports.classes import class_section, confusion_section
from trainer.reports.curves import STYLE as CURVES_STYLE
from trainer.reports.curves import curves
from trainer.reports.mistakes import STYLE as MISTAKES_STYLE
from trainer.reports.mistakes import mistake_section
from trainer.reports.run_data import PREDICTORS, ReportData

if TYPE_CHECKING:
    from flowprep import Corpus


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
        runs: run folders by stream: "spatial", "temporal" and "both", which is a joint network.
        scores: scores of the same videos, in any order: of each run, and "fused" of two runs.
        corpus: the corpus with the frames and the flow of the videos.
        mistakes: number of the worst mistakes to show.

    Raises:
        UsageError: the scores are of different videos or classes, or a folder is not a run of its stream.
    """
    data = ReportData.read(runs, scores, corpus)
    sections = [
        _header(data),
        _cards(data),
        _training_section(data),
        class_section(data),
        confusion_section(data),
        mistake_section(data, mistakes),
        _settings_section(data),
    ]
    style = charts.STYLE + _STYLE + CURVES_STYLE + CLASSES_STYLE + MISTAKES_STYLE
    html.write_document(path, "Two-stream report", sections, style)


def _header(data: ReportData) -> Markup:
    main, count = data.main, data.num_videos
    streams = [data.num_correct(name) for name in ("spatial", "temporal") if name in data.scores]
    baseline = ""
    if main in ("fused", "both") and streams:
        gain = 100 * (data.num_correct(main) - max(streams)) / count
        subject = "Fusion" if main == "fused" else "The joint network"
        better = "better " if len(streams) > 1 else ""
        title = f"{subject} {'adds' if gain >= 0 else 'costs'} {abs(gain):.1f} points"
        if not gain:
            title = f"{subject} is as good as the {better}stream"
        baseline = f" The gain is in percentage points, against the {better}stream alone."
    else:
        title = f"{100 * data.num_correct(main) / count:.1f}% accuracy of the {PREDICTORS[main].name}"
    sizes = f"{format_noun(count, 'test video')} of {format_noun(len(data.classes), 'class')}"
    name = tag("b", html.breakable(data.corpus.path.name))
    return html.header("Two-stream report", title, [f"{sizes}, from the corpus ", name, f".{baseline}"])


def _cards(data: ReportData) -> Markup:
    cards = []
    for name in data.scores:
        correct, count = data.num_correct(name), data.num_videos
        low, high = wilson_interval(correct, count)
        accuracy = fragment([f"{100 * correct / count:.1f}", tag("small", "%")])
        interval = f"{correct} of {count} · 95% interval {100 * low:.0f}–{100 * high:.0f}%"
        meter = charts.meter(correct / count, low, high)
        title, _, source = PREDICTORS[name]
        cards.append(html.card(name, title, source, accuracy, meter, interval))
    return tag("div", cards, class_="cards")


def _training_section(data: ReportData) -> Markup:
    """The curves of accuracy and loss of each run."""
    figures = []
    for stream, log in data.logs.items():
        milestones = data.runs[stream].recipe.train.milestones
        for quantity in ("accuracy", "loss"):
            chart = charts.line_chart(curves(log, quantity), milestones, share=quantity == "accuracy")
            caption = tag("figcaption", f"{PREDICTORS[stream].title} {quantity}")
            figures.append(tag("figure", caption, chart, class_=stream))
    note = "Thin lines: training batches. Thick lines with dots: held-out videos."
    return html.section("Training", tag("div", figures, class_="curves"), note)


def _settings_section(data: ReportData) -> Markup:
    """The recipes side by side, with differing rows marked, and the settings of the corpus."""
    recipes = [html.flat(run.recipe.to_dict()) for run in data.runs.values()]
    rows = []
    for key in dict.fromkeys(key for recipe in recipes for key in recipe):
        values = [json.dumps(recipe[key]) if key in recipe else "–" for recipe in recipes]
        cells = tag("th", key), [tag("td", value) for value in values]
        rows.append(tag("tr", cells, class_="differs" if len(set(values)) > 1 else None))
    steps = [tag("td", f"{run.step:,}") for run in data.runs.values()]
    rows.append(tag("tr", tag("th", "weights after step"), steps))
    titles = [PREDICTORS[stream].title for stream in data.runs]
    corpus = {
        **data.corpus.settings.to_dict(),
        **({"preset": preset} if (preset := data.corpus.settings.preset) else {}),
        "videos": len(data.corpus),
        "failed videos": len(data.corpus.failures),
    }
    blocks = {"Recipes": html.table("keys", ["Key", *titles], rows), "Corpus": html.key_table(corpus)}
    return html.section(
        "Settings", [tag("details", tag("summary", title), block) for title, block in blocks.items()]
    )


_STYLE = """
.spatial { --c:var(--blue) } .temporal { --c:var(--orange) } .fused { --c:var(--green) }
.both { --c:color-mix(in srgb,var(--blue),var(--red)) }
.cards { grid-template-columns:repeat(auto-fit,minmax(210px,1fr)) }
.differs > * { background:color-mix(in srgb,var(--track) 60%,transparent) }
@media (max-width:760px) {
  .meter { grid-column:1/-1; margin-top:10px } }
"""
