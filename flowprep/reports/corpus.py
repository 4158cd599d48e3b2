"""The report on a corpus: one HTML page with its counts, failures, motion, sizes, speed and classes."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flowprep.reports import charts, html
from flowprep.reports.corpus_charts import (
    CLIPPING_WARNING,
    clipping_section,
    displacement_section,
    mean_flow_section,
    size_section,
    throughput_section,
)
from flowprep.reports.corpus_data import CorpusData
from flowprep.reports.corpus_quality import STYLE as QUALITY_STYLE
from flowprep.reports.corpus_quality import quality_section
from flowprep.reports.corpus_videos import class_section, video_section
from flowprep.reports.html import Markup, fragment, tag
from flowprep.reports.numbers import format_count, format_noun
from flowprep.reports.statistics import throughput
from flowprep.system.progress import Progress, no_progress
from flowprep.system.units import format_bytes, format_duration

_NAMED = 5  # failed videos that are named for each reason
_PERCENTILES = (50, 90, 99)


@dataclass(frozen=True)
class ReportSummary:
    """What a report says first, in numbers.

    Attributes:
        output: the HTML file.
        videos: number of videos by status.
        totals: sums over all records, by name.
        ratio: bytes of the flow as float32, divided by its stored bytes; None without flow.
        sampled_videos: number of videos whose flow was decoded.
        displacement_px: percentiles of the decoded displacements, pixels; None if nothing was decoded.
        clipped_videos: number of videos with more than 1% of their values outside the range of the codes.
        quality: sums over the videos whose images were read: their number, repeated frames, still pairs and
            scene cuts; and the duplicates of the whole corpus.
    """

    output: str
    videos: dict[str, int]
    totals: dict[str, Any]
    ratio: float | None
    sampled_videos: int
    displacement_px: dict[str, float] | None
    clipped_videos: int
    quality: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """The summary as JSON values."""
        return asdict(self)


def write_report(
    corpus: Path, output: Path, *, sample: int = 1000, progress: Progress = no_progress
) -> ReportSummary:
    """Write the report on a corpus.

    Args:
        corpus: the corpus folder.
        output: the HTML file.
        sample: number of videos whose flow is decoded, at most. They are spread evenly over the corpus.
        progress: called with the number of videos done, and of all.

    Raises:
        CorpusFormatError: the folder is not a corpus.
        CorpusDamaged: a table or an image fails its checksum.
    """
    data = CorpusData.read(corpus, sample, progress)
    tiles = [
        displacement_section(data),
        mean_flow_section(data.statistics),
        clipping_section(data),
        size_section(data),
        throughput_section(data),
    ]
    body = [
        _header(data),
        _cards(data),
        _failure_section(data),
        tag("div", tiles, class_="tiles"),
        quality_section(data),
        video_section(data.corpus, data.statistics),
        class_section(data),
        _settings_section(data),
    ]
    title = f"Corpus {data.corpus.path.name}"
    html.write_document(output, title, body, charts.STYLE + QUALITY_STYLE + _STYLE)
    return _summary(data, output)


def _summary(data: CorpusData, output: Path) -> ReportSummary:
    statistics = data.statistics
    percentiles = None
    if statistics.displacements.any():
        percentiles = {f"p{p}": round(statistics.percentile(p), 4) for p in _PERCENTILES}
    return ReportSummary(
        output=str(output),
        videos=asdict(data.status.videos),
        totals=dict(data.status.totals),
        ratio=data.ratio,
        sampled_videos=len(statistics.sampled),
        displacement_px=percentiles,
        clipped_videos=sum(share > CLIPPING_WARNING for share in statistics.clipped),
        quality={
            "videos": len(data.quality),
            "repeated_frames": sum(quality.repeated_frames or 0 for quality in data.quality.values()),
            "still_pairs": sum(quality.still_pairs or 0 for quality in data.quality.values()),
            "cuts": sum(quality.cuts or 0 for quality in data.quality.values()),
            "duplicates": len(data.duplicates),
        },
    )


def _header(data: CorpusData) -> Markup:
    counts, settings = data.status.videos, data.corpus.settings
    number = f"All {counts.ok:,}" if data.status.complete else f"{counts.ok:,} of {counts.total:,}"
    is_one = counts.total == 1
    title = f"{number} videos are extracted" if not is_one else f"{counts.ok} of 1 video is extracted"
    streams = ["frames"] * settings.rgb + [f"TV-L1 flow ({settings.solver})"] * settings.flow
    sizes = data.statistics.sizes
    size = "".join(f" at {width}x{height}" for width, height in sizes) if len(sizes) == 1 else ""
    classes = len(set(data.corpus.labels.values()) - {""})
    of_classes = f", {format_noun(classes, 'class')}" if classes else ""
    name = tag("b", html.breakable(data.corpus.path.name))
    return html.header("Corpus report", title, [name, f": {' and '.join(streams)}{size}{of_classes}."])


def _cards(data: CorpusData) -> Markup:
    counts, totals, settings = data.status.videos, data.status.totals, data.corpus.settings
    statuses = (("failed", counts.failed), ("partial", counts.partial), ("pending", counts.pending))
    others = [f"{count:,} {status}" for status, count in statuses if count]
    note = " · ".join(others) or "none failed, none pending"
    cards = [html.card("blue", "Videos", "extracted", format_count(counts.ok), note)]

    title, subtitle, unit = "Frames", "stored", "frames"
    if settings.flow:
        title, subtitle, unit = "Pairs", f"of two frames, step {settings.step}", "pairs"
    duration = float(np.nansum(data.statistics.seconds))
    facts = [format_noun(int(totals.get("frames", 0)), "frame")]
    facts += [f"{format_duration(duration)} of video"] if duration else []
    cards.append(html.card("orange", title, subtitle, format_count(totals.get(unit, 0)), " · ".join(facts)))

    streams = [("flow_bytes", "flow"), ("rgb_bytes", "frames")]
    sizes = [f"{format_bytes(totals[key])} {name}" for key, name in streams if totals.get(key)]
    subtitle, value = "in shards", fragment(format_bytes(totals.get("shard_bytes", 0)))
    if data.ratio:
        subtitle, value = "smaller than float32 flow", fragment([f"{data.ratio:.0f}", tag("small", "×")])
    cards.append(html.card("green", "Size", subtitle, value, " · ".join(sizes)))

    seconds, _, pauses = throughput(data.spans)
    if pairs := sum(span.pairs for span in data.spans):
        note = f"{format_duration(seconds)} of work"
        note += f" · {format_noun(len(pauses), 'pause')}" if pauses else ""
        cards.append(html.card("violet", "Speed", "pairs per second", format_count(pairs / seconds), note))
    return tag("div", cards, class_="cards")


def _failure_section(data: CorpusData) -> Markup | None:
    groups = [
        [tag("h3", f"{title}: {len(reasons):,}"), tag("div", _grouped(reasons), class_="reasons")]
        for title, reasons in (
            ("Failed", data.status.failures),
            ("Partial: kept up to the damage", data.status.partial),
        )
        if reasons
    ]
    if not groups:
        return None
    command = tag("code", "flowprep status")
    note = fragment(["Grouped by reason; N stands for any number. ", command, " lists all of them."])
    return html.section("Failed and partial videos", groups, note)


def _grouped(reasons: Mapping[str, str]) -> list[Markup]:
    """Videos by reason, the most frequent first. Reasons that differ only in numbers are one group."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for video, reason in reasons.items():
        groups[re.sub(r"\d+", "N", reason)].append(video)
    rows = []
    for pattern, videos in sorted(groups.items(), key=lambda group: -len(group[1])):
        reason = reasons[videos[0]] if len(videos) == 1 else pattern
        names = [tag("li", html.breakable(video)) for video in videos[:_NAMED]]
        if len(videos) > _NAMED:
            names.append(tag("li", f"and {len(videos) - _NAMED:,} more"))
        summary = tag("summary", tag("b", f"{len(videos):,}"), " ", reason)
        rows.append(tag("details", summary, tag("ul", names)))
    return rows


def _settings_section(data: CorpusData) -> Markup:
    facts = data.corpus.info()
    titles = {"settings": "Settings of the corpus", "software": "Software"}
    blocks = [
        tag("details", tag("summary", title), html.key_table(facts[key])) for key, title in titles.items()
    ]
    return html.section("Settings", blocks)


_STYLE = """
.blue { --c:var(--blue) } .orange { --c:var(--orange) } .green { --c:var(--green) }
.violet { --c:var(--violet) }
:root { --violet:#7a4fc9 } @media (prefers-color-scheme: dark) { :root { --violet:#b197f0 } }
.cards { grid-template-columns:repeat(auto-fit,minmax(220px,1fr)) }
.card .big { font-size:clamp(36px,5vw,50px) }
section .lead { font-size:17px; margin-bottom:14px } section h3 { margin:20px 0 8px }
section h2 + h3 { margin-top:8px }
.key span { display:inline-block; color:var(--c); font-weight:600; font-size:14px; margin-right:18px }
.tiles { display:grid; grid-template-columns:repeat(auto-fit,minmax(min(100%,430px),1fr)); gap:20px;
  margin-top:20px }
.tiles > section { margin:0 } .tiles > :last-child:nth-child(odd) { grid-column:1/-1 }
.remark { margin-top:14px; font-size:15px }
.facts { margin:14px 0 0; padding-left:18px; font-size:15px }
.reasons summary { font-weight:400; overflow-wrap:anywhere }
.reasons summary b { font-variant-numeric:tabular-nums }
.reasons ul { margin:2px 0 8px; font-size:14px; color:var(--soft); overflow-wrap:anywhere }
.reasons details + details { margin-top:4px }
.classes .track { width:30%; min-width:90px } .bad { color:var(--red) }
.sheets { display:grid; grid-template-columns:repeat(auto-fill,minmax(min(100%,420px),1fr)); gap:16px }
.name { font-weight:600; font-size:15px; overflow-wrap:anywhere }
.strip { grid-template-columns:repeat(var(--shots),1fr); margin-bottom:0 }
.strip img { outline:1px solid var(--line); outline-offset:-1px }
.about { display:flex; gap:12px; justify-content:space-between } .about img { width:88px; flex:none }
@media (max-width:760px) {
  .cards { grid-template-columns:1fr } .card .big { font-size:38px } article { padding:12px }
  .classes .track { display:none } }
"""
