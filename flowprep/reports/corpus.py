"""The report on a corpus: one HTML page that says what is in it, at a glance.

Counts, sizes, clipping and mean flow are of all videos, from the index, the records and the shards' tables.
How far things move can only be told from decoded flow, so a bounded sample of videos is decoded; the page
says how many.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from flowprep import viz
from flowprep.corpus.index import load_index
from flowprep.corpus.reader import Corpus, Video, open_corpus
from flowprep.reports import html
from flowprep.reports.statistics import (
    MEANS,
    PAIRS_SAMPLED,
    Measured,
    Span,
    measure,
    planned,
    rate_over_time,
    read_spans,
)
from flowprep.system.atomic import atomic_path
from flowprep.system.progress import Progress, no_progress
from flowprep.system.units import format_bytes, format_duration

_STILL = 0.1  # pixels: what no one sees move
_CLIPPED = (0.0, 1e-4, 1e-3, 0.01, 0.05)  # shares at which a video's clipping is called more
_WARNED = 0.01  # share of clipped values from which a range is too small
# In the order in which they follow each other.
_STAGES = ("decode", "resize", "flow", "stabilise", "jpeg", "codes", "write")
_SHOTS = 4  # frames shown of a video
_SHEETS = 2  # videos shown of each kind
_OPEN_ROWS = 30  # classes that are shown without being asked for
_NAMED = 5  # failed videos named for each reason


def write_report(
    corpus: Path, output: Path, *, sample: int = 1000, progress: Progress = no_progress
) -> dict[str, Any]:
    """Write the report on a corpus.

    Args:
        corpus: its folder.
        output: the HTML file.
        sample: videos whose flow is decoded, at most, spread evenly over all.
        progress: called with the videos done and to do.

    Returns:
        `output`, and in numbers what the page says first: `videos`, `totals`, `ratio`, `sampled_videos`,
        `displacement_px` (percentiles), `clipped_videos`.

    Raises:
        CorpusFormatError: the folder is no corpus.
        CorpusDamaged: a table or an image fails its checksum.
    """
    opened, index = open_corpus(corpus), load_index(corpus)
    labels, summary = planned(opened, index)
    measured = measure(opened, sample, progress)
    spans = read_spans(opened, index)
    tiles = [
        _motion(opened, measured),
        _mean_flow(measured),
        _clipping(opened, measured),
        _sizes(opened, summary, measured),
        _rate(summary, spans),
    ]
    body = [
        _head(opened, summary, measured),
        _cards(opened, summary, measured, spans),
        _failures(summary),
        f"<div class=tiles>{''.join(tiles)}</div>",
        _sheets(opened, measured),
        _classes(opened, labels, summary, measured),
        _settings(opened),
    ]
    text = html.document(f"Corpus {opened.path.name}", "\n".join(filter(None, body)), _STYLE)
    output.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(output) as temporary:
        temporary.write_text(text, "utf-8")
    return {
        "output": str(output),
        "videos": summary["videos"],
        "totals": summary["totals"],
        "ratio": _ratio(summary["totals"]),
        "sampled_videos": len(measured.sampled),
        "displacement_px": {f"p{p}": round(measured.percentile(p), 4) for p in (50, 90, 99)}
        if measured.lengths.any()
        else None,
        "clipped_videos": sum(share > _WARNED for share in measured.clipped),
    }


def _head(corpus: Corpus, summary: dict[str, Any], measured: Measured) -> str:
    videos = summary["videos"]
    all_in = videos["ok"] == videos["total"]
    title = (
        f"All {videos['ok']:,} videos are in"
        if all_in
        else f"{videos['ok']:,} of {videos['total']:,} videos are in"
    )
    settings = corpus.settings
    what = " and ".join(["frames"] * settings.rgb + [f"TV-L1 flow ({settings.engine})"] * settings.flow)
    common = measured.sizes.most_common(1)
    size = f" at {common[0][0][0]}x{common[0][0][1]}" if len(measured.sizes) == 1 else ""
    classes = len(set(corpus.labels.values()) - {""})
    of = f", {classes:,} classes" if classes else ""
    return (
        f"<header><p class=eyebrow>Corpus report</p><h1>{title}</h1>"
        f"<p class=lead><b>{escape(corpus.path.name)}</b>: {what}{size}{of}.</p></header>"
    )


def _cards(corpus: Corpus, summary: dict[str, Any], measured: Measured, spans: Sequence[Span]) -> str:
    videos, totals = summary["videos"], summary["totals"]
    length = float(np.nansum(measured.seconds))
    kinds = [f"{videos[kind]:,} {kind}" for kind in ("failed", "partial", "pending") if videos[kind]]
    rest = " &middot; ".join(kinds) or "none failed, none pending"
    cards = [
        _card("blue", "Videos", "taken", _short(videos["ok"]), rest),
        _card(
            "orange",
            "Pairs" if corpus.settings.flow else "Frames",
            f"of frames {corpus.settings.step} apart" if corpus.settings.flow else "stored",
            _short(totals.get("pairs" if corpus.settings.flow else "frames", 0)),
            f"{totals.get('frames', 0):,.0f} frames &middot; {format_duration(length)} of video",
        ),
    ]
    stored = [
        f"{format_bytes(totals[k + '_bytes'])} {name}" for k, name in _STREAMS if totals.get(k + "_bytes")
    ]
    ratio = _ratio(totals)
    big = f"{ratio:.0f}<small>&times;</small>" if ratio else format_bytes(totals.get("shard_bytes", 0))
    cards.append(
        _card(
            "green",
            "Size",
            "flow smaller than float32" if ratio else "in shards",
            big,
            " &middot; ".join(stored),
        )
    )
    if spans:
        seconds, _, pauses = rate_over_time(spans)
        pairs = sum(span[2] for span in spans)
        note = f"{format_duration(seconds)} of work" + (f" &middot; {len(pauses)} pauses" if pauses else "")
        cards.append(_card("violet", "Rate", "pairs a second", _short(pairs / seconds), note))
    return f"<div class=cards>{''.join(cards)}</div>"


_STREAMS = (("flow", "flow"), ("rgb", "frames"))


def _card(colour: str, title: str, what: str, big: str, note: str) -> str:
    return (
        f"<div class='card {colour}'><h2>{title}</h2><p class=what>{what}</p><p class=big>{big}</p>"
        f"<p class=note>{note}</p></div>"
    )


def _failures(summary: dict[str, Any]) -> str:
    parts = []
    for kind, what in (("failures", "Failed"), ("partial", "Kept up to a damage")):
        groups: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
        for video, reason in summary[kind].items():
            groups[re.sub(r"\d+", "N", reason)].append((video, reason))
        rows = []
        for alike, videos in sorted(groups.items(), key=lambda group: -len(group[1])):
            reason = videos[0][1] if len(videos) == 1 else alike
            named = "".join(f"<li>{escape(video)}" for video, _ in videos[:_NAMED])
            more = f"<li>and {len(videos) - _NAMED:,} more" if len(videos) > _NAMED else ""
            rows.append(
                f"<details><summary><b>{len(videos):,}</b> {escape(reason)}</summary>"
                f"<ul>{named}{more}</ul></details>"
            )
        if rows:
            parts.append(f"<h3>{what}: {len(summary[kind]):,}</h3><div class=reasons>{''.join(rows)}</div>")
    note = "By reason; N stands for a number. <code>flowprep status</code> lists them all."
    return html.section("What could not be taken", "".join(parts), note) if parts else ""


def _motion(corpus: Corpus, measured: Measured) -> str:
    total = int(measured.lengths.sum())
    if not total:
        return ""
    edges = [0, _STILL, 0.25, 0.5, 1, 2, 4, 8, 16, 32]
    below = [measured.share_below(edge) for edge in edges] + [1.0]
    names = [
        f"under {_STILL} px",
        *(f"{a:g}&ndash;{b:g} px" for a, b in pairwise(edges[1:])),
        "32 px and more",
    ]
    shares = np.diff(below).tolist()
    while len(shares) > 6 and shares[-1] == 0:  # ranges that nothing reaches
        shares.pop()
    p = {k: f"{viz.canvas.number(measured.percentile(k), 2)} px" for k in (50, 90, 99)}
    said = ""
    lead = (
        f"<p class=lead>Half of all pixels move less than <b>{p[50]}</b> from frame to frame, nine in ten"
        f" less than <b>{p[90]}</b>, 99% less than <b>{p[99]}</b>.</p>"
    )
    if not any(measured.clipped):
        said = "<p class=after>No displacement lay outside the range of its codes: nothing is clipped.</p>"
    note = _sampled(measured, corpus)
    return html.section(
        "How far things move", lead + _bars(zip(names, shares, strict=False), _percent) + said, note
    )


def _sampled(measured: Measured, corpus: Corpus) -> str:
    count = len(measured.sampled)
    which = (
        f"all {count:,} videos"
        if count == len(corpus)
        else f"{count:,} of {len(corpus):,} videos, evenly spread"
    )
    return f"Displacement of each pixel, decoded: {PAIRS_SAMPLED} pairs each of {which}."


def _clipping(corpus: Corpus, measured: Measured) -> str:
    if not corpus.settings.flow or not measured.videos:
        return ""
    clipped = np.array(measured.clipped)
    if not clipped.any():
        return ""
    counts = [int((clipped == 0).sum())]
    counts += [
        int(((clipped > a) & (clipped <= b)).sum())
        for a, b in zip(_CLIPPED, (*_CLIPPED[1:], 1.0), strict=True)
    ]
    names = [
        "nothing",
        *(f"up to {_percent(b)}" for b in _CLIPPED[1:]),
        f"more than {_percent(_CLIPPED[-1])}",
    ]
    many = int((clipped > _WARNED).sum())
    said = (
        f"<p class=lead><b>{many:,}</b> of {len(clipped):,} videos lose more than {_percent(_WARNED)}"
        f" of their values to the range of &plusmn;{corpus.settings.range:g} px.</p>"
    )
    shares = [count / len(clipped) for count in counts]
    bars = _bars(zip(names, shares, strict=True), lambda share: f"{share * len(clipped):,.0f}")
    return html.section(
        "Clipping", said + bars, "Videos by the share of their values outside the range of the codes."
    )


def _mean_flow(measured: Measured) -> str:
    total = int(measured.mean_u.sum())
    if not total:
        return ""
    below = np.cumsum(measured.mean_u + measured.mean_v) / (2 * total)
    low, high = MEANS[np.searchsorted(below, [0.005, 0.995])]
    most = html.ticks(max(0.1, -float(low), float(high)))[-1]
    # About 41 bars, of as many bins each: an odd number of both, so that 0 is in the middle of one.
    wide = float(MEANS[1] - MEANS[0]) * (2 * int(most / 41 / (MEANS[1] - MEANS[0])) + 1)
    count = 2 * int(most / wide + 0.5) + 1
    reach = count * wide / 2
    edges = np.linspace(-reach, reach, count + 1)
    both = measured.mean_u, measured.mean_v
    rows = [np.histogram(MEANS, edges, weights=bins)[0] / total for bins in both]
    highest = max(float(np.max(rows)), 1e-9)
    y_ticks = html.ticks(highest)
    lines = ""
    for colour, row in zip(("blue", "orange"), rows, strict=True):
        points = "".join(
            f"{'H' if i else 'M0,100 H'}{100 * i / count:.2f} V{100 - 100 * y / y_ticks[-1]:.2f} "
            for i, y in enumerate(row)
        )
        lines += f"<path class='line {colour}' d='{points}H100 V100'/>"
    x_ticks = [(0.5 + 0.5 * x / reach, f"{x:g}") for x in (-most, -most / 2, 0, most / 2, most)]
    outside = 1 - sum(float(row.sum()) for row in rows) / 2
    note = "Mean of u (right) and of v (down) over each pair, px, before quantisation; all pairs." + (
        f" {_percent(outside)} lie further out." if outside > 5e-5 else ""
    )
    means = [float((bins * MEANS).sum() / total) for bins in both]
    key = "".join(
        f"<span class={colour}>{name}, on average {mean:+.2f} px</span>"
        for colour, name, mean in zip(("blue", "orange"), "uv", means, strict=True)
    )
    chart = _plot(
        lines,
        x_ticks,
        [(y / y_ticks[-1], _percent(y)) for y in y_ticks],
        "mean of a pair, px",
        "share of pairs",
    )
    return html.section("Mean flow", f"<p class=key>{key}</p>{chart}", note)


def _sizes(corpus: Corpus, summary: dict[str, Any], measured: Measured) -> str:
    totals = summary["totals"]
    if not totals.get("shard_bytes"):
        return ""
    rows = []
    for key, name, images in (
        ("rgb", "Frames", totals.get("frames", 0)),
        ("flow", "Flow", totals.get("pairs", 0) * (1 + corpus.settings.backward)),
    ):
        size = totals.get(f"{key}_bytes", 0)
        if size:
            each = f"{format_bytes(size / max(1, images))} each"
            rows.append((name, size, each))
    rows.append(("Tables", totals["shard_bytes"] - sum(row[1] for row in rows), ""))
    bars = _bars(
        ((f"{name}", size / totals["shard_bytes"]) for name, size, _ in rows),
        lambda share: format_bytes(share * totals["shard_bytes"]),
    )
    ratio = _ratio(totals)
    sizes = ", ".join(f"{w}x{h} ({n:,})" for (w, h), n in measured.sizes.most_common(4))
    said = "".join(
        f"<li>{text}"
        for text in (
            f"A frame takes {rows[0][2].removesuffix(' each')}." if totals.get("rgb_bytes") else "",
            f"The flow of a pair takes {next(r[2] for r in rows if r[0] == 'Flow').removesuffix(' each')},"
            f" {ratio:.0f} times less than as float32 ({format_bytes(totals['flow_float32_bytes'])} in all)."
            if ratio
            else "",
            f"Stored sizes (videos): {sizes}"
            + (f", and {len(measured.sizes) - 4:,} others." if len(measured.sizes) > 4 else "."),
        )
        if text
    )
    return html.section(
        "Size", f"{bars}<ul class=said>{said}</ul>", f"{format_bytes(totals['shard_bytes'])} in shards."
    )


def _rate(summary: dict[str, Any], spans: Sequence[Span]) -> str:
    seconds = {k.removesuffix("_seconds"): v for k, v in summary["totals"].items() if k.endswith("_seconds")}
    stages = {stage: seconds[stage] for stage in (*_STAGES, *seconds) if seconds.get(stage)}
    stages.pop("total", None)
    parts = []
    total, rates, pauses = rate_over_time(spans)
    if rates and max(rates) > 0:
        y_ticks = html.ticks(max(rates))
        unit, name = next(
            (u, n)
            for u, n in ((86400, "days"), (3600, "hours"), (60, "minutes"), (1, "seconds"))
            if total > 2 * u or u == 1
        )
        x_ticks = [x for x in html.ticks(total / unit) if x <= total / unit]
        shape = "M0,100 " + "".join(
            f"H{100 * i / len(rates):.2f} V{100 - 100 * y / y_ticks[-1]:.2f} " for i, y in enumerate(rates)
        )
        marks = "".join(f"<path class=pause d='M{100 * at / total:.2f},0 V100'/>" for at in pauses)
        parts.append(
            _plot(
                f"<path class='area violet' d='{shape}H100 V100 Z'/>{marks}",
                [(x * unit / total, f"{x:g}") for x in x_ticks],
                [(y / y_ticks[-1], f"{y:,.0f}" if y_ticks[1] >= 1 else f"{y:g}") for y in y_ticks],
                f"{name} of work" + (", pauses left out where the lines are" if pauses else ""),
                "pairs a second",
            )
        )
    if stages and sum(stages.values()):
        whole = sum(stages.values())
        parts.append("<h3>Where the time goes</h3>")
        parts.append(_bars(((name, value / whole) for name, value in stages.items()), _percent))
    if not parts:
        return ""
    note = "From when each task ended and how long it took." if rates else "The records hold no times of day."
    return html.section("Throughput", "".join(parts), note)


def _classes(corpus: Corpus, labels: dict[str, str], summary: dict[str, Any], measured: Measured) -> str:
    failed = [labels.get(video, "") for video in summary["failures"]]  # without a plan no one knows
    names = sorted({*labels.values(), *corpus.labels.values(), *failed})
    if names in ([], [""]):
        return ""
    rows: dict[str, dict[str, Any]] = {
        name: {"videos": 0, "failed": 0, "pairs": 0, "clipped": 0.0, "motion": []} for name in names
    }
    for video, pairs, clipped in zip(measured.videos, measured.pairs, measured.clipped, strict=True):
        row = rows[corpus.labels[video]]
        row["videos"] += 1
        row["pairs"] += pairs
        row["clipped"] += clipped * pairs
    for i, moved in zip(measured.sampled, measured.motion, strict=True):
        rows[corpus.labels[measured.videos[i]]]["motion"].append(moved)
    for name in failed:
        rows[name]["failed"] += 1
    most = max(row["videos"] for row in rows.values()) or 1
    lines = []
    for name, row in rows.items():
        motion = f"{np.mean(row['motion']):.2f}" if row["motion"] else "&ndash;"
        share = row["clipped"] / max(1, row["pairs"])
        lines.append(
            f"<tr><th>{escape(name) or 'no class'}<td class=num>{row['videos']:,}"
            f"<td class=track><div class=bar><i style='width:{100 * row['videos'] / most:.1f}%'></i></div>"
            f"<td class='num{' bad' if row['failed'] else ''}'>{row['failed']:,}"
            f"<td class=num>{row['pairs']:,}<td class=num>{motion}<td class=num>{_percent(share)}"
        )
    head = (
        "<div class=scroll><table class=classes><thead><tr><th>Class<th class=num>Videos<th class=track>"
        "<th class=num>Failed<th class=num>Pairs<th class=num>Motion, px<th class=num>Clipped<tbody>"
    )
    shown, rest = lines[:_OPEN_ROWS], lines[_OPEN_ROWS:]
    table = f"{head}{''.join(shown)}</table></div>"
    if rest:
        table += (
            f"<details><summary>{len(rest):,} more</summary>{head}{''.join(rest)}</table></div></details>"
        )
    note = "Motion is the mean displacement over the decoded pairs."
    return html.section(f"{len(names):,} classes" if len(names) > 1 else "One class", table, note)


def _sheets(corpus: Corpus, measured: Measured) -> str:
    """Typical and extreme videos, the flow of each in its own scale."""
    chosen = _choose(measured, len(corpus))
    motion = dict(zip(measured.sampled, measured.motion, strict=True))
    parts = []
    for title, places in chosen.items():
        cards = []
        for i in places:
            video = corpus[measured.videos[i]]
            facts = [escape(video.label)] if video.label else []
            facts += [f"{video.num_frames:,} frames" + (", to a damage" if video.damage else "")]
            facts += [f"moves {motion[i]:.2f} px on average"] if i in motion else []
            facts += [f"{_percent(measured.clipped[i])} clipped"] if measured.clipped[i] else []
            wheel, strip = _strip(video)
            cards.append(
                f"<article><div class=about><div><p class=name>{escape(video.id)}</p>"
                f"<p class=id>{' &middot; '.join(facts)}</p></div>{wheel}</div>{strip}</article>"
            )
        if cards:
            parts.append(f"<h3>{title}</h3><div class=sheets>{''.join(cards)}</div>")
    if not parts:
        return ""
    note = "Frames, and the flow to the next, each video in a scale of its own: that of its wheel."
    return html.section("Videos, typical and extreme", "".join(parts), note if corpus.settings.flow else "")


def _choose(measured: Measured, videos: int) -> dict[str, list[int]]:
    """Positions of the videos to show, each once, by what they are shown for."""
    if not measured.sampled:  # no flow: the first, the middle, the last
        places = sorted({0, videos // 2, videos - 1}) if videos else []
        return {"Some of them": places}
    if len(measured.sampled) <= 4:
        return {"All of them": measured.sampled}
    each = min(_SHEETS, len(measured.sampled) // 4)
    motion = np.array(measured.motion)
    order = [measured.sampled[i] for i in np.argsort(motion, kind="stable")]
    middle = [measured.sampled[i] for i in np.argsort(np.abs(motion - np.median(motion)), kind="stable")]
    clipped = [
        int(i) for i in np.argsort(-np.array(measured.clipped), kind="stable") if measured.clipped[i] > 0
    ]
    taken: set[int] = set()
    chosen = {}
    for title, candidates in (
        ("Most motion", order[::-1]),
        ("Least motion", order),
        ("Most clipped", clipped),
        ("Typical: nearest to the median motion", middle),
    ):
        chosen[title] = [i for i in candidates if i not in taken][:each]
        taken |= set(chosen[title])
    last = list(chosen)[-1]
    return {last: chosen.pop(last), **chosen}


def _strip(video: Video) -> tuple[str, str]:
    """The wheel of a video's colours, if it has flow, and a few frames above their flow."""
    has_rgb, has_flow = viz.sheet.stored_streams(video)
    shots = viz.sheet.even_times(
        video.times_seconds, video.num_pairs if has_flow else video.num_frames, _SHOTS
    )
    pictures = [html.picture(video.rgb(i), f"frame {i}") for i in shots] if has_rgb else []
    wheel = ""
    if has_flow:
        flows = [video.flow(i, 1)[0] for i in shots]
        scale = viz.sheet.flow_scale(flows)
        wheel = html.picture(viz.legend(176, scale), f"colours of flow, up to {scale:.3g} px")
        for i, flow in zip(shots, flows, strict=True):
            image = viz.flow_to_rgb(viz.sheet.limited(flow, scale), scale)
            pictures.append(html.picture(image, f"flow of pair {i}"))
    return wheel, f"<div class=strip style='--shots:{len(shots)}'>{''.join(pictures)}</div>"


def _settings(corpus: Corpus) -> str:
    facts = corpus.facts()
    return html.section(
        "Settings",
        f"<details><summary>What it was made with</summary>{html.key_table(facts['settings'])}</details>"
        f"<details><summary>Software</summary>{html.key_table(facts['software'])}</details>",
    )


def _bars(rows: Any, said: Callable[[float], str]) -> str:
    """Horizontal bars of (name, share), the longest over the whole width."""
    rows = list(rows)
    most = max((share for _, share in rows), default=0) or 1
    lines = (
        f"<span>{name}</span><div class=bar><i style='width:{100 * share / most:.2f}%'></i></div>"
        f"<b>{said(share)}</b>"
        for name, share in rows
    )
    return f"<div class=bars>{''.join(lines)}</div>"


def _plot(
    shapes: str,
    x_ticks: Sequence[tuple[float, str]],
    y_ticks: Sequence[tuple[float, str]],
    x_title: str,
    y_title: str,
) -> str:
    """A chart: SVG shapes in a box of 100 x 100 that takes any width, and labels that keep their size."""
    grid = "".join(f"<path class=grid d='M0,{100 - 100 * at:.2f} H100'/>" for at, _ in y_ticks)
    labels = "".join(f"<i class=x style='left:{100 * at:.2f}%'>{text}</i>" for at, text in x_ticks)
    labels += "".join(f"<i class=y style='bottom:{100 * at:.2f}%'>{text}</i>" for at, text in y_ticks)
    return (
        f"<figure class=chart><p class=note>{y_title}</p><div class=plot><svg viewBox='0 0 100 100'"
        f" preserveAspectRatio=none role=img aria-label='{y_title} over {x_title}'>{grid}{shapes}</svg>"
        f"{labels}</div>"
        f"<p class='note under'>{x_title}</p></figure>"
    )


def _ratio(totals: dict[str, float]) -> float | None:
    """How many times smaller than float32 flow is stored."""
    flow = totals.get("flow_bytes", 0)
    return round(totals["flow_float32_bytes"] / flow, 1) if flow else None


def _percent(share: float) -> str:
    """A share with two digits that count, as "1.2%"; never 0% or 100% for what is not."""
    if share in (0, 1):
        return f"{100 * share:.0f}%"
    if share < 1e-4:
        return "&lt;0.01%"
    if share > 0.9995:
        return "&gt;99.9%"
    percent = 100 * share
    return f"{percent:.0f}%" if percent >= 99.5 else f"{percent:.3g}%" if percent >= 10 else f"{percent:.2g}%"


def _short(value: float) -> str:
    """A number with three digits that count and its thousands as k or M."""
    for unit in ("", "k", "M"):
        if value < 999.5:
            return f"{value:.3g}" + (f"<small>{unit}</small>" if unit else "")
        value /= 1000
    return f"{value:,.3g}<small>G</small>"


_STYLE = """
.blue { --c:var(--blue) } .orange { --c:var(--orange) } .green { --c:var(--green) }
.violet { --c:var(--violet) }
:root { --violet:#7a4fc9 } @media (prefers-color-scheme: dark) { :root { --violet:#b197f0 } }
.cards { grid-template-columns:repeat(auto-fit,minmax(220px,1fr)) }
.card .big { font-size:clamp(36px,5vw,50px) }
section .lead { font-size:17px; margin-bottom:14px } section h3 { margin:20px 0 8px }
section h2 + h3 { margin-top:8px }
.bars { display:grid; grid-template-columns:max-content 1fr max-content; gap:7px 12px; align-items:center;
  font-size:14px; font-variant-numeric:tabular-nums }
.bars b { font-weight:500; text-align:right }
.bar { height:12px; border-radius:4px; background:var(--track) }
.bar i { display:block; height:100%; min-width:1px; border-radius:4px; background:var(--c,var(--blue)) }
.chart > .note { font-size:13px } .under { text-align:center; margin-left:52px }
.plot { position:relative; height:210px; margin:10px 8px 30px 52px }
.plot svg { position:absolute; width:100%; height:100%; overflow:visible }
.plot path { vector-effect:non-scaling-stroke } .grid { stroke:var(--line); fill:none }
.line { stroke:var(--c); stroke-width:2; fill:var(--c); fill-opacity:.1 }
.area { fill:var(--c); fill-opacity:.75 } .pause { stroke:var(--ink); stroke-dasharray:3 4; opacity:.6 }
.plot i { position:absolute; font-style:normal; font-size:12.5px; color:var(--soft);
  font-variant-numeric:tabular-nums }
.plot .x { top:100%; transform:translate(-50%,6px) } .plot .y { right:100%; transform:translate(-8px,50%) }
.key span { display:inline-block; color:var(--c); font-weight:600; font-size:14px; margin-right:18px }
.tiles { display:grid; grid-template-columns:repeat(auto-fit,minmax(min(100%,430px),1fr)); gap:20px;
  margin-top:20px }
.tiles > section { margin:0 } .tiles > :last-child:nth-child(odd) { grid-column:1/-1 }
.after { margin-top:14px; font-size:15px }
.said { margin:14px 0 0; padding-left:18px; font-size:15px }
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
  .classes .track { display:none } .plot { height:180px; margin-left:44px } .under { margin-left:44px } }
"""
