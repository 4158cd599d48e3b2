"""The worst mistakes of a predictor, with frames and flow, for the report on training runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flowprep import viz
from flowprep.reports import html
from flowprep.reports.html import Markup, tag
from flowprep.reports.numbers import format_noun
from trainer.data.sampling import spaced_starts
from trainer.reports.run_data import PREDICTORS, ReportData

if TYPE_CHECKING:
    from flowprep import Video

_SHOTS = 4  # frames, and flows, shown of a video
_LEAST_SCALE = 0.5  # pixels; a video without motion stays pale
_PERCENTILE = 99

# A pair and its flow.
Field = tuple[int, np.ndarray]


def mistake_section(data: ReportData, maximum: int) -> Markup | None:
    """The videos whose score of a wrong class is furthest above the score of the true class.

    Args:
        data: of the report.
        maximum: number of videos to show; 0 leaves the section out if there are mistakes.
    """
    scores = data.scores[data.main]
    margins = scores.max(1) - scores[np.arange(data.num_videos), data.labels]
    by_margin = np.argsort(-margins, kind="stable")
    wrong = [int(i) for i in by_margin if scores[i].argmax() != data.labels[i]]
    if not wrong:
        return html.section("Worst mistakes", tag("p", "There are none.", class_="lead"))
    if not maximum:
        return None
    chosen = wrong[:maximum]
    ids = {i: str(data.ids[i]) for i in chosen}
    videos = {i: data.corpus[video] for i, video in ids.items() if video in data.corpus}
    fields = {i: _fields(video) if data.corpus.settings.flow else [] for i, video in videos.items()}
    scale = _scale([flow for few in fields.values() for _, flow in few])
    cards = [_card(data, i, _strip(data, videos.get(i), fields.get(i, []), scale)) for i in chosen]
    wheel = html.picture(viz.legend(112, scale), "colours of flow") if scale else None
    note = (
        f"{len(chosen)} of {format_noun(len(wrong), 'mistake')} of the {PREDICTORS[data.main].name}, sorted"
        " by how far the predicted class scores above the true class. Frames are above, flow is below."
    )
    if scale:
        note += f" Colours are full from {scale:.3g} px on, the {_PERCENTILE}th percentile."
    title = "Worst mistakes" if len(wrong) > 1 else "The only mistake"
    legend = tag("div", wheel, tag("p", note, class_="note"), class_="wheel")
    return html.section(title, [legend, tag("div", cards, class_="mistakes")])


def _fields(video: Video) -> list[Field]:
    """A few pairs of a video."""
    return [(int(pair), video.flow(int(pair), 1)[0]) for pair in spaced_starts(video.num_pairs, 1, _SHOTS)]


def _scale(flows: list[np.ndarray]) -> float:
    """The displacement of full colour in all flows, in pixels; 0 without flow."""
    if not flows:
        return 0.0
    displacements = np.concatenate([np.hypot(*flow).ravel() for flow in flows])
    return max(_LEAST_SCALE, float(np.percentile(displacements, _PERCENTILE)))


def _strip(data: ReportData, video: Video | None, fields: list[Field], scale: float) -> Markup:
    """A few frames of a video above a few flows."""
    if video is None:
        return tag("p", "not in this corpus", class_="note")
    pictures = []
    if data.corpus.settings.rgb:
        frames = [int(frame) for frame in spaced_starts(video.num_frames, 1, _SHOTS)]
        pictures += [html.picture(video.rgb(frame), f"frame {frame}") for frame in frames]
    pictures += [html.picture(viz.flow_to_rgb(flow, scale), f"flow of pair {pair}") for pair, flow in fields]
    return tag("div", pictures, class_="strip")


def _card(data: ReportData, i: int, strip: Markup) -> Markup:
    """One video: its true and its predicted class, its pictures, and a table of the predictions."""
    true = int(data.labels[i])
    rows = []
    for name, scores in data.scores.items():
        predicted = int(scores[i].argmax())
        rows.append(
            tag(
                "tr",
                tag("th", PREDICTORS[name].title, class_=name),
                tag(
                    "td", html.breakable(data.classes[predicted]), class_="ok" if predicted == true else "no"
                ),
                tag("td", f"{scores[i, predicted]:.2f}", class_="num"),
                tag("td", f"{scores[i, true]:.2f}", class_="num"),
            )
        )
    predicted = int(data.scores[data.main][i].argmax())
    names = (html.breakable(data.classes[k]) for k in (true, predicted))
    title = tag("h3", next(names), " ", tag("span", "predicted as"), " ", next(names))
    heads = [tag("th", text, class_="num") for text in ("score", "score of the true class")]
    table = html.table("predictions", ["", "predicted", *heads], rows)
    return tag("article", title, tag("p", html.breakable(str(data.ids[i])), class_="id"), strip, table)


STYLE = """
.mistakes { display:grid; grid-template-columns:repeat(auto-fill,minmax(min(100%,430px),1fr)); gap:18px }
article table { font-size:14px } article th[class] { color:var(--c) }
.ok::after { content:" \\2713"; color:var(--green) }
.no { color:var(--red) }
"""
