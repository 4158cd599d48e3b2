"""The videos and the classes of a corpus report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from flowprep import viz
from flowprep.corpus.reader import Corpus
from flowprep.corpus.video import Video
from flowprep.reports import charts, html
from flowprep.reports.corpus_data import CorpusData
from flowprep.reports.html import Markup, tag
from flowprep.reports.numbers import format_noun, format_share
from flowprep.reports.statistics import CorpusStatistics
from flowprep.viz.repeats import mark_repeat
from flowprep.viz.scaling import flow_scale, limited
from flowprep.viz.shots import even_times, stored_streams

_SHOTS = 4  # frames shown of a video
_VIDEOS_PER_GROUP = 2
_OPEN_ROWS = 30  # classes in the open table; the others are in one that unfolds


def video_section(corpus: Corpus, statistics: CorpusStatistics) -> Markup | None:
    """Typical and extreme videos, with a few frames and flows of each."""
    motion = dict(zip(statistics.sampled, statistics.motion, strict=True))
    groups = []
    for title, positions in _choose(statistics, len(corpus)).items():
        cards = [
            _video_card(corpus[statistics.videos[i]], motion.get(i), statistics.clipped[i]) for i in positions
        ]
        if cards:
            groups.append([tag("h3", title), tag("div", cards, class_="sheets")])
    if not groups:
        return None
    note = "Each frame stands above the flow that starts at it. The wheel is the colour scale of the video."
    return html.section("Typical and extreme videos", groups, note if corpus.settings.flow else None)


def _choose(statistics: CorpusStatistics, num_videos: int) -> dict[str, list[int]]:
    """Positions of the videos to show, by title. No video is shown twice."""
    if not statistics.sampled:
        positions = sorted({0, num_videos // 2, num_videos - 1}) if num_videos else []
        return {"Examples": positions}
    if len(statistics.sampled) <= 4:
        return {"All videos": statistics.sampled}
    motion, clipped = np.array(statistics.motion), np.array(statistics.clipped)
    by_motion = [statistics.sampled[i] for i in np.argsort(motion, kind="stable")]
    by_distance = np.argsort(np.abs(motion - np.median(motion)), kind="stable")
    by_clipping = [int(i) for i in np.argsort(-clipped, kind="stable") if clipped[i] > 0]
    count = min(_VIDEOS_PER_GROUP, len(statistics.sampled) // 4)
    chosen: dict[str, list[int]] = {}
    used: set[int] = set()
    typical = "Typical: closest to the median motion"
    for title, candidates in (
        ("Most motion", by_motion[::-1]),
        ("Least motion", by_motion),
        ("Most clipped", by_clipping),
        (typical, [statistics.sampled[i] for i in by_distance]),  # last, so that it gets no extreme video
    ):
        chosen[title] = [i for i in candidates if i not in used][:count]
        used.update(chosen[title])
    return {typical: chosen.pop(typical), **chosen}


def _video_card(video: Video, motion: float | None, clipped: float) -> Markup:
    facts = [video.label] if video.label else []
    damage = ", ends early because of damage" if video.damage else ""
    facts.append(format_noun(video.num_frames, "frame") + damage)
    if motion is not None:
        facts.append(f"mean motion {motion:.2f} px")
    if clipped:
        facts.append(f"{format_share(clipped)} clipped")
    name = tag("p", html.breakable(video.id), class_="name")
    about = tag("div", name, tag("p", html.breakable(" · ".join(facts)), class_="id"))
    wheel, strip = _wheel_and_strip(video)
    return tag("article", tag("div", about, wheel, class_="about"), strip)


def _wheel_and_strip(video: Video) -> tuple[Markup | None, Markup]:
    """The legend of a video's flow colours, None without flow, and a few frames above their flow."""
    has_rgb, has_flow = stored_streams(video)
    count = video.num_pairs if has_flow else video.num_frames
    shots = even_times(video.times_seconds, count, _SHOTS)
    pictures = [html.picture(video.rgb(i), f"frame {i}") for i in shots] if has_rgb else []
    wheel = None
    if has_flow:
        flows = [video.flow(i, 1)[0] for i in shots]
        scale = flow_scale(flows)
        wheel = html.picture(viz.legend(176, scale), f"colours of flow, up to {scale:.3g} px")
        for i, flow in zip(shots, flows, strict=True):
            colours = viz.flow_to_rgb(limited(flow, scale), scale)
            if has_rgb:
                colours = mark_repeat(colours, video, i, flow)
            pictures.append(html.picture(colours, f"flow of pair {i}"))
    return wheel, tag("div", pictures, class_="strip", style=f"--shots:{len(shots)}")


@dataclass
class ClassCounts:
    """Sums over the videos of one class.

    Attributes:
        videos, failed, pairs: numbers.
        clipped: number of pairs times share of clipped values, summed.
        motion: mean displacement of each decoded video, pixels.
    """

    videos: int = 0
    failed: int = 0
    pairs: int = 0
    clipped: float = 0.0
    motion: list[float] = field(default_factory=list)


def class_section(data: CorpusData) -> Markup | None:
    """A table of the classes; None if no video has a label."""
    classes = _count_classes(data)
    if not set(classes) - {""}:
        return None
    most_videos = max(counts.videos for counts in classes.values()) or 1
    rows = [_class_row(name, counts, counts.videos / most_videos) for name, counts in classes.items()]
    blocks = [_class_table(rows[:_OPEN_ROWS])]
    if hidden := rows[_OPEN_ROWS:]:
        blocks.append(tag("details", tag("summary", f"{len(hidden):,} more"), _class_table(hidden)))
    note = "Motion is the mean displacement over the decoded pairs."
    return html.section(format_noun(len(classes), "class"), blocks, note)


def _count_classes(data: CorpusData) -> Mapping[str, ClassCounts]:
    labels, statistics = data.corpus.labels, data.statistics
    # Only the plan has the labels of failed videos.
    failed = [data.labels.get(video, "") for video in data.status.failures]
    classes = {name: ClassCounts() for name in sorted({*data.labels.values(), *labels.values(), *failed})}
    for video, pairs, clipped in zip(statistics.videos, statistics.pairs, statistics.clipped, strict=True):
        counts = classes[labels[video]]
        counts.videos += 1
        counts.pairs += pairs
        counts.clipped += clipped * pairs
    for i, motion in zip(statistics.sampled, statistics.motion, strict=True):
        classes[labels[statistics.videos[i]]].motion.append(motion)
    for name in failed:
        classes[name].failed += 1
    return classes


def _class_row(name: str, counts: ClassCounts, share: float) -> Markup:
    motion = f"{np.mean(counts.motion):.2f}" if counts.motion else "–"
    return tag(
        "tr",
        tag("th", html.breakable(name) if name else "no class"),
        tag("td", f"{counts.videos:,}", class_="num"),
        tag("td", charts.bar(share), class_="track"),
        tag("td", f"{counts.failed:,}", class_="num bad" if counts.failed else "num"),
        tag("td", f"{counts.pairs:,}", class_="num"),
        tag("td", motion, class_="num"),
        tag("td", format_share(counts.clipped / max(1, counts.pairs)), class_="num"),
    )


def _class_table(rows: list[Markup]) -> Markup:
    titles = ("Videos", "", "Failed", "Pairs", "Motion, px", "Clipped")
    heads = [tag("th", title, class_="num" if title else "track") for title in titles]
    return html.table("classes", ["Class", *heads], rows)
