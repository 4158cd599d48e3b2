"""Contact sheets: a video at a glance, and two flows of a video side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from flowprep.viz.canvas import distance_legend, legend, number
from flowprep.viz.colours import Flow, Image, distance_to_rgb, flow_to_rgb
from flowprep.viz.grid import Grid, Row
from flowprep.viz.repeats import mark_repeat
from flowprep.viz.scaling import (
    LEAST_FLOW_SCALE,
    PERCENTILE,
    distance_scale,
    flow_scale,
    limited,
    resized,
    resized_flow,
)
from flowprep.viz.shots import FlowVideo, check_comparable, even_times, stored_streams


def contact_sheet(video: FlowVideo, columns: int = 6, width: int = 1000) -> Image:
    """Frames of a video at even times, each above its flow, below a title with facts and a legend.

    The flow below a frame starts at this frame. All flow of a sheet has one colour scale. Colours are full
    from the 99th percentile of the shown displacements on. The flow to a repeated frame says "same frame". A
    stream that the corpus does not have is left out, and the sheet says so.

    Args:
        video: a video of a corpus, `corpus[id]`, or one that `flowprep.viz.sources` opened.
        columns: number of frames; fewer if the video has fewer pairs.
        width: width of the image, pixels.

    Returns:
        (H, width, 3) uint8, RGB. The height follows from the aspect ratio of the video.

    Raises:
        UsageError: `columns` is under 1, or `width` is under 200 or under 40 per column.
        CorpusDamaged: a shown image fails its checksum.
    """
    grid = Grid(video, columns, width)
    has_rgb, has_flow = stored_streams(video)
    shots = even_times(video.times_seconds, video.num_pairs if has_flow else video.num_frames, columns)
    size = grid.picture(len(shots))
    frames, flows, largest = [], [], 0.0
    for i in shots:  # one at a time, because a flow of a large video has tens of MB
        if has_rgb:
            frames.append(resized(video.rgb(i), *size))
        if has_flow:
            flow = video.flow(i, 1)[0]
            largest = max(largest, float(np.hypot(*flow).max()))
            flows.append(resized_flow(flow, *size))
    facts = video_facts(video, has_rgb, has_flow)
    rows = [Row(frames)] if frames else []
    legends = []
    if flows:
        scale = flow_scale(flows)
        facts.append(scale_fact(scale, largest))
        pictures = [flow_to_rgb(limited(flow, scale), scale) for flow in flows]
        if has_rgb:
            shown = zip(pictures, shots, flows, strict=True)
            pictures = [mark_repeat(picture, video, i, flow) for picture, i, flow in shown]
        rows.append(Row(pictures))
        legends.append(legend(grid.legend, scale))
    return grid.draw(video.id, facts, legends, grid.stamps(video, shots), rows)


def comparison_sheet(
    video: FlowVideo, other: FlowVideo, names: tuple[str, str], columns: int = 6, width: int = 1000
) -> Image:
    """Two flows of one video at even times, and the end-point distance between them.

    Both flows have one colour scale, as on a contact sheet. Distances have their own: they are black from
    the 99th percentile of the shown distances on.

    Args:
        video: a video, as for `contact_sheet`.
        other: the same frames with another flow.
        names: names of the two flows.
        columns, width: as for `contact_sheet`.

    Returns:
        (H, width, 3) uint8, RGB.

    Raises:
        UsageError: the videos differ in size or step, one has no flow, or `columns` or `width` is too small.
        CorpusDamaged: a shown image fails its checksum.
    """
    grid = Grid(video, columns, width)
    check_comparable(video, other, names)
    shots = even_times(video.times_seconds, min(video.num_pairs, other.num_pairs), columns)
    shown = _Comparison.read(video, other, shots, grid.picture(len(shots) if len(shots) > 1 else 4))
    rim, black = flow_scale([*shown.flows, *shown.other_flows]), distance_scale(shown.distances)
    rows = [Row(shown.frames)] if shown.frames else []
    for name, flows in zip(names, (shown.flows, shown.other_flows), strict=True):
        rows.append(Row([flow_to_rgb(limited(flow, rim), rim) for flow in flows], f"flow: {name}"))
    heat = [distance_to_rgb(distance, black) for distance in shown.distances]
    rows.append(Row(heat, "end-point distance between the two, px", shown.notes))
    stamps = grid.stamps(video, shots)
    if len(shots) == 1:  # side by side instead of below each other
        titles = [*(f"flow: {name}" for name in names), f"distance, px: {shown.notes[0]}"]
        stamps = [*stamps[: len(shown.frames)], *titles]
        rows = [Row([row.pictures[0] for row in rows])]
    facts = [
        *video_facts(video, has_rgb=bool(shown.frames), has_flow=True),
        scale_fact(rim, shown.largest),
        f"distance: black from {number(black)} px on, the {PERCENTILE}th percentile of those shown",
    ]
    legends = [legend(grid.legend, rim), distance_legend(round(1.7 * grid.legend), grid.small, black)]
    return grid.draw(video.id, facts, legends, stamps, rows)


class _Comparison(NamedTuple):
    """The shown frames and flows of two videos, at the size of a picture.

    Attributes:
        frames: frames; empty if none are stored.
        flows, other_flows: the two flows of each pair.
        distances: end-point distance of each pair, (H, W), pixels.
        notes: the mean and a percentile of each distance, as text.
        largest: the largest displacement in both flows, pixels.
    """

    frames: list[Image]
    flows: list[Flow]
    other_flows: list[Flow]
    distances: list[NDArray[np.floating]]
    notes: list[str]
    largest: float

    @classmethod
    def read(
        cls, video: FlowVideo, other: FlowVideo, shots: Sequence[int], size: tuple[int, int]
    ) -> _Comparison:
        has_rgb, _ = stored_streams(video)
        comparison = cls([], [], [], [], [], 0.0)
        for i in shots:
            if has_rgb:
                comparison.frames.append(resized(video.rgb(i), *size))
            flow, other_flow = video.flow(i, 1)[0], other.flow(i, 1)[0]
            comparison.flows.append(resized_flow(flow, *size))
            comparison.other_flows.append(resized_flow(other_flow, *size))
            distance = np.hypot(*(other_flow - flow))
            comparison.notes.append(distance_note(distance))
            comparison.distances.append(resized(distance, *size))
            longest = max(float(np.hypot(*field).max()) for field in (flow, other_flow))
            comparison = comparison._replace(largest=max(comparison.largest, longest))
        return comparison


def distance_note(distance: NDArray[np.floating]) -> str:
    """Mean and percentile of a distance in pixels, as text."""
    return f"mean {distance.mean():.3f} · p{PERCENTILE} {np.percentile(distance, PERCENTILE):.2f}"


def video_facts(video: FlowVideo, has_rgb: bool, has_flow: bool) -> list[str]:
    """The lines below the title of a sheet."""
    size = f"{video.width}x{video.height} pixels"
    rate = f"{number(video.frame_rate, 4)} frames/s" if video.frame_rate else ""
    frames = f"{video.num_frames} frames"
    flow = "no flow in this corpus"
    if has_flow:
        frames += f", {video.num_pairs} pair{'s' * (video.num_pairs != 1)}"
        second = "the next" if video.step == 1 else f"the one {video.step} later"
        flow = f"flow from each frame to {second}"
    if not has_rgb:
        flow += ", no frames in this corpus"
    lines = [" · ".join(filter(None, (video.label, size, frames, rate))), flow]
    if video.damage:
        lines.append(f"ends before a damage ({video.damage})")
    return lines


def scale_fact(rim: float, largest: float) -> str:
    """The line that explains the colour scale.

    Args:
        rim: displacement of full colour, pixels.
        largest: the largest displacement, pixels.
    """
    source = f"the {PERCENTILE}th percentile of those shown"
    if rim <= LEAST_FLOW_SCALE:
        source = "the least that a sheet uses"
    return f"colours are full from {number(rim)} px on, {source}; the largest is {number(largest)} px"
