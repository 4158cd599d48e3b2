"""The quality of the data in a corpus report: repeated frames, still pairs, scene cuts and duplicates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from flowprep.reports import html
from flowprep.reports.corpus_data import CorpusData
from flowprep.reports.html import Markup, tag
from flowprep.reports.numbers import format_noun, format_share

_NAMED = 5  # videos that are named for each figure


class _Figure(NamedTuple):
    """One figure over some videos.

    Attributes:
        title: its name.
        counts: how often it occurs in each video with at least one.
        total: what it is a share of; 0 for none.
        meaning: a sentence.
    """

    title: str
    counts: Mapping[str, int]
    total: int
    meaning: str


def quality_section(data: CorpusData) -> Markup:
    """A table of the figures, each with the videos where it is highest."""
    figures = _figures(data)
    measured, total = len(data.quality), len(data.corpus)
    videos = f"all {total:,}" if measured == total else f"{measured:,} of {total:,}"
    command = tag("code", "flowprep info --table")
    note = ["From all images of ", videos, " videos; duplicates from all. ", command, " has each video."]
    heads = ["Figure", *(tag("th", title, class_="num") for title in ("Number", "Share", "Videos"))]
    table = html.table("quality", heads, [_row(figure) for figure in figures])
    return html.section("Data quality", [table, [_details(figure) for figure in figures]], note)


def _figures(data: CorpusData) -> list[_Figure]:
    settings = data.corpus.settings
    videos = [data.corpus[video] for video in data.quality]
    frames, pairs = (sum(getattr(video, name) for video in videos) for name in ("num_frames", "num_pairs"))

    def counts(name: str) -> dict[str, int]:
        by_video = {video: getattr(quality, name) for video, quality in data.quality.items()}
        return {video: count for video, count in by_video.items() if count}

    repeated = "They show the picture of the frame before. Flow to them is still."
    still = "At least 99% of the pixels move less than 0.05 px."
    figures = []
    if settings.rgb:
        figures.append(_Figure("Repeated frames", counts("repeated_frames"), frames, repeated))
    if settings.flow:
        figures.append(_Figure("Still pairs", counts("still_pairs"), pairs, still))
    if settings.rgb:
        figures.append(_Figure("Scene cuts", counts("cuts"), 0, "Flow across a cut is noise."))
    copies = "Their stored pictures are those of another video."
    figures.append(_Figure("Duplicate videos", dict.fromkeys(data.duplicates, 1), len(data.corpus), copies))
    return figures


def _row(figure: _Figure) -> Markup:
    number = sum(figure.counts.values())
    share = format_share(number / figure.total) if figure.total else "–"
    return tag(
        "tr",
        tag("th", figure.title, tag("p", figure.meaning, class_="note")),
        [tag("td", text, class_="num") for text in (f"{number:,}", share, f"{len(figure.counts):,}")],
    )


def _details(figure: _Figure) -> Markup | None:
    """The videos where a figure is highest."""
    if not figure.counts:
        return None
    highest = sorted(figure.counts.items(), key=lambda item: -item[1])
    names = [tag("li", html.breakable(video), f": {count:,}") for video, count in highest[:_NAMED]]
    if len(highest) > _NAMED:
        names.append(tag("li", f"and {format_noun(len(highest) - _NAMED, 'video')} more"))
    return tag("details", tag("summary", f"{figure.title}: where"), tag("ul", names), class_="where")


STYLE = """
.quality th .note { font-weight:400; font-size:13px } .quality th,.quality td { vertical-align:top }
.where summary { font-weight:400 } .where ul { margin:2px 0 8px; font-size:14px; color:var(--soft);
  overflow-wrap:anywhere }
"""
