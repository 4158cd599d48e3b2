"""The report on runs of two streams, their fusion or a joint network: one HTML page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from flowprep.reports import charts, html
from trainer.evaluation.metrics import wilson_interval
from trainer.evaluation.scores import Scores
from trainer.reports.classes import STYLE as CLASSES_STYLE
from trainer.reports.classes import class_section, confusion_section
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
    style = charts.STYLE + _STYLE + CLASSES_STYLE + MISTAKES_STYLE
    html.write_document(path, "Two-stream report", "\n".join(filter(None, sections)), style)


def _header(data: ReportData) -> str:
    main, count = data.main, data.num_videos
    streams = [data.num_correct(name) for name in ("spatial", "temporal") if name in data.scores]
    baseline = ""
    if main in ("fused", "both") and streams:
        gain = 100 * (data.num_correct(main) - max(streams)) / count
        subject = "Fusion" if main == "fused" else "The joint network"
        title = f"{subject} {'adds' if gain >= 0 else 'costs'} {abs(gain):.1f} points"
        better = "better " if len(streams) > 1 else ""
        baseline = f" The gain is in percentage points, against the {better}stream alone."
    else:
        title = f"{100 * data.num_correct(main) / count:.1f}% accuracy of the {PREDICTORS[main].name}"
    return (
        "<header><p class=eyebrow>Two-stream report</p>"
        f"<h1>{title}</h1>"
        f"<p class=lead>{count} test videos of {len(data.classes)} classes, "
        f"from the corpus <b>{escape(data.corpus.path.name)}</b>.{baseline}</p></header>"
    )


def _cards(data: ReportData) -> str:
    cards = []
    for name in data.scores:
        correct, count = data.num_correct(name), data.num_videos
        low, high = wilson_interval(correct, count)
        cards.append(
            f"<div class='card {name}'><h2>{PREDICTORS[name].title}</h2>"
            f"<p class=subtitle>{PREDICTORS[name].input}</p>"
            f"<p class=big>{100 * correct / count:.1f}<small>%</small></p>"
            f"{charts.meter(correct / count, low, high)}"
            f"<p class=note>{correct} of {count} &middot; 95% interval "
            f"{100 * low:.0f}&ndash;{100 * high:.0f}%</p></div>"
        )
    return f"<div class=cards>{''.join(cards)}</div>"


def _training_section(data: ReportData) -> str:
    """The curves of accuracy and loss of each run."""
    figures = []
    for stream, log in data.logs.items():
        validations = [(row.step, row.validation) for row in log if row.validation]
        accuracy = [
            ("train", [(row.step, row.train_accuracy) for row in log]),
            ("val", [(step, validation.accuracy) for step, validation in validations]),
        ]
        loss = [
            ("train", [(row.step, row.loss) for row in log]),
            ("val", [(step, validation.loss) for step, validation in validations]),
        ]
        for quantity, lines in (("accuracy", accuracy), ("loss", loss)):
            chart = charts.line_chart(
                lines, data.runs[stream].recipe.train.milestones, share=quantity == "accuracy"
            )
            title = f"{PREDICTORS[stream].title} {quantity}"
            figures.append(f"<figure class={stream}><figcaption>{title}</figcaption>{chart}</figure>")
    note = "Thin lines: training batches. Thick lines with dots: held-out videos."
    return html.section("Training", f"<div class=curves>{''.join(figures)}</div>", note)


def _settings_section(data: ReportData) -> str:
    """The recipes side by side, with differing rows marked, and the settings of the corpus."""
    recipes = [html.flat(run.recipe.to_dict()) for run in data.runs.values()]
    rows = []
    for key in dict.fromkeys(key for recipe in recipes for key in recipe):
        values = [escape(json.dumps(recipe[key])) if key in recipe else "&ndash;" for recipe in recipes]
        differs = " class=differs" if len(set(values)) > 1 else ""
        rows.append(f"<tr{differs}><th>{escape(key)}{''.join(f'<td>{value}' for value in values)}")
    titles = "".join(f"<th>{PREDICTORS[stream].title}" for stream in data.runs)
    steps = "".join(f"<td>{run.step:,}" for run in data.runs.values())
    corpus = {
        **data.corpus.settings.to_dict(),
        "videos": len(data.corpus),
        "failed videos": len(data.corpus.failures),
    }
    return html.section(
        "Settings",
        "<details><summary>Recipes</summary><div class=scroll><table class=keys><thead>"
        f"<tr><th>Key{titles}<tbody>{''.join(rows)}"
        f"<tr><th>weights after step{steps}</table></div></details>"
        f"<details><summary>Corpus</summary>{html.key_table(corpus)}</details>",
    )


_STYLE = """
.spatial { --c:var(--blue) } .temporal { --c:var(--orange) } .fused { --c:var(--green) }
.both { --c:color-mix(in srgb,var(--blue),var(--red)) }
.cards { grid-template-columns:repeat(auto-fit,minmax(210px,1fr)) }
.curves { display:grid; grid-template-columns:1fr 1fr; gap:22px 26px }
.differs > * { background:color-mix(in srgb,var(--track) 60%,transparent) }
@media (max-width:760px) {
  .curves { grid-template-columns:1fr } .meter { grid-column:1/-1; margin-top:10px } }
"""
