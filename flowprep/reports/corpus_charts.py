"""The charts of a corpus report: displacements, mean flow, clipping, size and throughput.

Each function returns one section of the page, or None if the corpus has nothing to show there.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from flowprep.reports import charts, html
from flowprep.reports.corpus_data import CorpusData
from flowprep.reports.html import Markup, tag
from flowprep.reports.numbers import format_noun, format_share
from flowprep.reports.statistics import MEANS, PAIRS_SAMPLED, CorpusStatistics, throughput
from flowprep.system.units import format_bytes
from flowprep.viz.canvas import number

CLIPPING_WARNING = 0.01  # a video with a larger share of clipped values needs a larger range
_STILL_PX = 0.1  # smaller displacements are invisible
_DISPLACEMENT_EDGES = (0, _STILL_PX, 0.25, 0.5, 1, 2, 4, 8, 16, 32)  # pixels
_MIN_RANGES = 6  # of displacements; larger empty ones are left out
_CLIPPING_EDGES = (0.0, 1e-4, 1e-3, 0.01, 0.05)  # shares of clipped values
_MEAN_BARS = 41
# The order in which a task goes through them.
_STAGES = ("decode", "resize", "flow", "stabilise", "jpeg", "codes", "write")
_TIME_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def displacement_section(data: CorpusData) -> Markup | None:
    """How far the pixels move, from the decoded pairs."""
    statistics = data.statistics
    if not statistics.displacements.any():
        return None
    shares = np.diff([*map(statistics.share_below, _DISPLACEMENT_EDGES), 1.0]).tolist()
    while len(shares) > _MIN_RANGES and shares[-1] == 0:
        shares.pop()
    names = [f"under {_STILL_PX} px"]
    names += [f"{low:g}–{high:g} px" for low, high in pairwise(_DISPLACEMENT_EDGES[1:])]
    names += [f"{_DISPLACEMENT_EDGES[-1]} px and more"]
    half, most, nearly_all = (tag("b", f"{number(statistics.percentile(p), 2)} px") for p in (50, 90, 99))
    lead = tag(
        "p",
        ["Half of all pixels move less than ", half, " per pair, 90% less than ", most],
        [", and 99% less than ", nearly_all, "."],
        class_="lead",
    )
    remark = None
    if not any(statistics.clipped):
        text = "No displacement is outside the range of its codes: none is clipped."
        remark = tag("p", text, class_="remark")
    decoded, total = len(statistics.sampled), len(data.corpus)
    videos = f"all {total:,}" if decoded == total else f"{decoded:,} of {total:,}"
    note = f"Displacements of all pixels in {PAIRS_SAMPLED} decoded pairs per video, from {videos} videos."
    bars = charts.bars(zip(names, shares, strict=False), format_share)
    return html.section("How far pixels move", [lead, bars, remark], note)


def clipping_section(data: CorpusData) -> Markup | None:
    """How many videos have displacements outside the range of their codes."""
    clipped = np.array(data.statistics.clipped)
    if not data.corpus.settings.flow or not clipped.any():
        return None
    uppers = (*_CLIPPING_EDGES[1:], 1.0)
    counts = [int((clipped == 0).sum())]
    counts += [
        int(((clipped > low) & (clipped <= high)).sum())
        for low, high in zip(_CLIPPING_EDGES, uppers, strict=True)
    ]
    names = ["nothing"]
    names += [f"up to {format_share(high)}" for high in uppers[:-1]]
    names += [f"more than {format_share(_CLIPPING_EDGES[-1])}"]
    lead = tag(
        "p",
        ["In ", tag("b", f"{int((clipped > CLIPPING_WARNING).sum()):,}")],
        f" of {format_noun(len(clipped), 'video')}, more than {format_share(CLIPPING_WARNING)} of the values"
        f" are outside the range of ±{data.corpus.settings.range:g} px.",
        class_="lead",
    )
    shares = [count / len(clipped) for count in counts]
    bars = charts.bars(zip(names, shares, strict=True), lambda share: f"{share * len(clipped):,.0f}")
    return html.section("Clipping", [lead, bars], "Number of videos by their share of clipped values.")


def mean_flow_section(statistics: CorpusStatistics) -> Markup | None:
    """Histograms of the mean of u and of v over each pair."""
    total = int(statistics.mean_u.sum())
    if not total:
        return None
    counts = statistics.mean_u, statistics.mean_v
    below = np.cumsum(counts[0] + counts[1]) / (2 * total)
    low, high = MEANS[np.searchsorted(below, [0.005, 0.995])]
    maximum = charts.ticks(max(0.1, -float(low), float(high)))[-1]
    edges = _mean_edges(maximum)
    reach = float(edges[-1])
    rows = [np.histogram(MEANS, edges, weights=bins)[0] / total for bins in counts]
    y_ticks = charts.ticks(max(float(np.max(rows)), 1e-9))
    lines = [
        tag("path", class_=f"line {colour}", d=f"M0,100 {charts.outline(row / y_ticks[-1])}H100 V100")
        for colour, row in zip(("blue", "orange"), rows, strict=True)
    ]
    # Adding 0.0 makes -0.0 positive.
    means = [round(float((bins * MEANS).sum() / total), 2) + 0.0 for bins in counts]
    key = [
        tag("span", f"{name}: mean {mean:+.2f} px", class_=colour)
        for colour, name, mean in zip(("blue", "orange"), "uv", means, strict=True)
    ]
    chart = charts.plot(
        lines,
        [(0.5 + 0.5 * x / reach, f"{x:g} px") for x in (-maximum, -maximum / 2, 0, maximum / 2, maximum)],
        [(y / y_ticks[-1], format_share(y)) for y in y_ticks],
        "mean of a pair",
        "share of pairs",
    )
    outside = 1 - sum(float(row.sum()) for row in rows) / 2
    note = "Mean of u (right) and of v (down) over each pair, before quantisation. All pairs are counted."
    if outside > 5e-5:
        note += f" {format_share(outside)} are outside the chart."
    return html.section("Mean flow", [tag("p", key, class_="key"), chart], note)


def _mean_edges(maximum: float) -> np.ndarray:
    """Edges of about `_MEAN_BARS` bars that reach at least to `maximum` on both sides of 0.

    Every bar covers the same odd number of bins of `MEANS`, and the number of bars is odd. So 0 is in the
    middle of a bar, and even values give even bars.
    """
    bin_width = float(MEANS[1] - MEANS[0])
    width = bin_width * (2 * int(maximum / _MEAN_BARS / bin_width) + 1)
    count = 2 * int(maximum / width + 0.5) + 1
    return np.linspace(-count * width / 2, count * width / 2, count + 1)


def size_section(data: CorpusData) -> Markup | None:
    """How the bytes are shared between frames, flow and tables."""
    totals = data.status.totals
    total = totals.get("shard_bytes")
    if not total:
        return None
    frames, flow = totals.get("rgb_bytes", 0), totals.get("flow_bytes", 0)
    rows = [(name, size / total) for name, size in (("Frames", frames), ("Flow", flow)) if size]
    rows.append(("Tables", (total - frames - flow) / total))
    facts = []
    if frames:
        facts.append(f"A frame takes {format_bytes(frames / max(1, totals.get('frames', 0)))} on average.")
    if flow:
        flows = totals.get("pairs", 0) * (1 + data.corpus.settings.backward)
        facts.append(
            f"The flow of a pair takes {format_bytes(flow / max(1, flows))} on average,"
            f" {data.ratio:.0f} times less than in float32."
            f" All flow would take {format_bytes(totals['flow_float32_bytes'])} in float32."
        )
    sizes = data.statistics.sizes
    listed = ", ".join(f"{width}x{height} ({count:,})" for (width, height), count in sizes.most_common(4))
    more = f", and {len(sizes) - 4:,} others" if len(sizes) > 4 else ""
    facts.append(f"Stored sizes, with the number of videos: {listed}{more}.")
    bars = charts.bars(rows, lambda share: format_bytes(share * total))
    items = tag("ul", [tag("li", fact) for fact in facts], class_="facts")
    return html.section("Size", [bars, items], f"{format_bytes(total)} in all shards.")


def throughput_section(data: CorpusData) -> Markup | None:
    """Pairs per second over the working time, and the time of each stage."""
    parts: list[Markup] = []
    seconds, rates, pauses = throughput(data.spans)
    has_rates = bool(rates) and max(rates) > 0
    if has_rates:
        parts.append(_rate_chart(seconds, rates, pauses))
    stages = _stage_seconds(data)
    if total := sum(stages.values()):
        shares = ((stage, value / total) for stage, value in stages.items())
        parts += [tag("h3", "Time by stage"), charts.bars(shares, format_share)]
    if not parts:
        return None
    note = "From the end and the duration of each task." if has_rates else "The records hold no end times."
    return html.section("Throughput", parts, note)


def _rate_chart(seconds: float, rates: list[float], pauses: list[float]) -> Markup:
    y_ticks = charts.ticks(max(rates), whole=max(rates) >= 4)
    unit, name = next((unit, name) for unit, name in _TIME_UNITS if seconds > 2 * unit or unit == 1)
    x_ticks = [x for x in charts.ticks(seconds / unit, whole=True) if x <= seconds / unit]
    shape = f"M0,100 {charts.outline([rate / y_ticks[-1] for rate in rates])}H100 V100 Z"
    marks = [tag("path", class_="pause", d=f"M{charts.percent(at / seconds)},0 V100") for at in pauses]
    return charts.plot(
        [tag("path", class_="area violet", d=shape), marks],
        [(x * unit / seconds, f"{x:g} {name}") for x in x_ticks],
        [(y / y_ticks[-1], f"{y:,g}") for y in y_ticks],
        "time of work" + ("; a dashed line marks a pause that is cut out" if pauses else ""),
        "pairs per second",
    )


def _stage_seconds(data: CorpusData) -> dict[str, float]:
    """Seconds of each stage, summed over all tasks, in the order of the work."""
    suffix = "_seconds"
    seconds = {
        key.removesuffix(suffix): value for key, value in data.status.totals.items() if key.endswith(suffix)
    }
    seconds.pop("total", None)
    return {stage: seconds[stage] for stage in (*_STAGES, *seconds) if seconds.get(stage)}
