"""Contact sheets: a video at a glance, and two flows of it beside each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from flowprep.errors import OutOfRange, UsageError
from flowprep.viz.canvas import EDGE, GREY, INK, Canvas, distance_legend, fitting, legend, number
from flowprep.viz.colours import Flow, Image, distance_to_rgb, flow_to_rgb

if TYPE_CHECKING:
    from flowprep.corpus.reader import Video

# Displacements under this are mostly the solver's noise; a sheet does not blow them up to full colour.
LEAST_SCALE = 0.25  # pixels
# The same for distances: this is about what the default codes change.
LEAST_DISTANCE = 0.1  # pixels
PERCENTILE = 99  # of what is shown: single outliers do not pale all the rest


class Row(NamedTuple):
    """Pictures that stand beside each other.

    Attributes:
        pictures: one per column, all of one size.
        title: a line above them, or "".
        notes: a line under each, or none.
    """

    pictures: list[Image]
    title: str = ""
    notes: Sequence[str] = ()


def contact_sheet(video: Video, columns: int = 6, width: int = 1000) -> Image:
    """Frames of a video at even times, each over its flow, with the facts and a legend on top.

    All flow on a sheet has one scale, at the legend: the 99th percentile of the displacements shown, from
    which on colours stay as they are at the wheel's rim. The flow under a frame goes from that frame to the
    one `step` later. What a corpus was made without is left out, and the sheet says so.

    Args:
        video: of a corpus, `corpus[id]`, or what `flowprep.viz.sources` opens.
        columns: how many frames; fewer where the video has fewer pairs.
        width: of the image, pixels.

    Returns:
        (H, width, 3) uint8, RGB; the height follows from the video's shape.

    Raises:
        UsageError: columns is under 1, or width is under 200 or under 40 per column.
        CorpusDamaged: what is shown fails its checksum.
    """
    grid = _Grid(video, columns, width)
    has_rgb, has_flow = stored_streams(video)
    shots = even_times(video.times_seconds, video.num_pairs if has_flow else video.num_frames, columns)
    size = grid.picture(len(shots))
    frames, flows, lengths = [], [], []
    for i in shots:  # one at a time: a single flow of a large video is tens of MB
        if has_rgb:
            frames.append(resized(video.rgb(i), *size))
        if has_flow:
            flow = video.flow(i, 1)[0]
            lengths.append(float(np.hypot(*flow).max()))
            flows.append(resized_flow(flow, *size))
    facts = _facts(video, has_rgb, has_flow)
    rows = [Row(frames)] if frames else []
    keys = []
    if flows:
        rim = flow_scale(flows)
        facts.append(_scale_fact(rim, max(lengths)))
        rows.append(Row([flow_to_rgb(limited(flow, rim), rim) for flow in flows]))
        keys.append(legend(grid.key, rim))
    stamps = [stamp(i, video.times_seconds[i], grid.small, grid.cell(len(shots))) for i in shots]
    return grid.draw(video.id, facts, keys, stamps, rows)


def comparison_sheet(
    one: Video, other: Video, names: tuple[str, str], columns: int = 6, width: int = 1000
) -> Image:
    """Two flows of one video at even times, and the end-point distance between them.

    Both flows have one scale, as on a contact sheet; distances have their own, the 99th percentile of those
    shown, from which on they are black.

    Args:
        one, other: the same frames with two flows.
        names: what to call them.
        columns, width: as for contact_sheet.

    Returns:
        (H, width, 3) uint8, RGB.

    Raises:
        UsageError: the two are not alike (`check_alike`), or columns or width as for contact_sheet.
        CorpusDamaged: what is shown fails its checksum.
    """
    grid = _Grid(one, columns, width)
    check_alike(one, other, names)
    pairs = min(one.num_pairs, other.num_pairs)
    shots = even_times(one.times_seconds, pairs, columns)
    size = grid.picture(len(shots) if len(shots) > 1 else 4)
    frames, notes, distances = [], [], []
    flows: tuple[list[Flow], list[Flow]] = ([], [])
    largest = 0.0
    for i in shots:
        if stored_streams(one)[0]:
            frames.append(resized(one.rgb(i), *size))
        both = one.flow(i, 1)[0], other.flow(i, 1)[0]
        for some, flow in zip(flows, both, strict=True):
            some.append(resized_flow(flow, *size))
            largest = max(largest, float(np.hypot(*flow).max()))
        distance = np.hypot(*(both[1] - both[0]))
        notes.append(distance_note(distance))
        distances.append(resized(distance, *size))
    rim, black = flow_scale([*flows[0], *flows[1]]), distance_scale(distances)
    rows = [Row(frames)] if frames else []
    for name, some in zip(names, flows, strict=True):
        rows.append(Row([flow_to_rgb(limited(flow, rim), rim) for flow in some], f"flow: {name}"))
    heat = [distance_to_rgb(distance, black) for distance in distances]
    rows.append(Row(heat, "end-point distance between the two, px", notes))
    stamps = [stamp(i, one.times_seconds[i], grid.small, grid.cell(len(shots))) for i in shots]
    if len(shots) == 1:  # beside each other instead of one below the other
        stamps = [*stamps[: len(frames)], *(f"flow: {name}" for name in names), f"distance, px: {notes[0]}"]
        rows = [Row([row.pictures[0] for row in rows])]
    facts = [
        *_facts(one, has_rgb=bool(frames), has_flow=True),
        _scale_fact(rim, largest),
        f"distance: black from {number(black)} px on, the {PERCENTILE}th percentile of those shown",
    ]
    keys = [legend(grid.key, rim), distance_legend(round(1.7 * grid.key), grid.small, black)]
    return grid.draw(one.id, facts, keys, stamps, rows)


def check_alike(one: Video, other: Video, names: tuple[str, str]) -> None:
    """Refuse to compare what has no flow, or another size or step.

    Raises:
        UsageError: it says which.
    """
    for video, name in zip((one, other), names, strict=True):
        if not stored_streams(video)[1]:
            raise UsageError(f"{name} has no flow of {video.id}: there is nothing to compare")
    for what, a, b in (
        ("size", f"{one.width}x{one.height}", f"{other.width}x{other.height}"),
        ("step", one.step, other.step),
    ):
        if a != b:
            raise UsageError(
                f"{one.id} has {what} {a} in {names[0]} and {b} in {names[1]}; only the same can be compared"
            )


def stored_streams(video: Video) -> tuple[bool, bool]:
    """Whether a video has frames, and whether it has flow."""
    has_rgb, has_flow = (
        _if_stored(read) is not None for read in (lambda: video.rgb(0), lambda: video.flow(0, 1))
    )
    return has_rgb, has_flow


def flow_scale(flows: Sequence[Flow]) -> float:
    """The displacement that gets full colour, pixels."""
    return max(LEAST_SCALE, float(np.percentile([np.hypot(*flow) for flow in flows], PERCENTILE)))


def distance_scale(distances: Sequence[NDArray[np.floating]]) -> float:
    """The distance that is drawn black, pixels."""
    return max(LEAST_DISTANCE, float(np.percentile(distances, PERCENTILE)))


def distance_note(distance: NDArray[np.floating]) -> str:
    """A distance in numbers, pixels."""
    return f"mean {distance.mean():.3f} · p{PERCENTILE} {np.percentile(distance, PERCENTILE):.2f}"


def even_times(times: NDArray[np.float64], count: int, columns: int) -> list[int]:
    """At most `columns` different indices under `count`, evenly spread in time, first and last included."""
    times = times[:count] if np.isfinite(times[:count]).all() else np.arange(count, dtype=np.float64)
    if count <= columns:
        return list(range(count))
    wanted = np.linspace(times[0], times[-1], columns)
    return sorted({int(np.abs(times - time).argmin()) for time in wanted})


def stamp(index: int, seconds: float, size: int, room: float) -> str:
    """When and which a frame is, as far as there is room."""
    time = f"{seconds:.2f} s" if np.isfinite(seconds) else ""
    return fitting((" · ".join(filter(None, (time, f"frame {index}"))), time or f"{index}"), size, room)


def limited(flow: Flow, most: float) -> Flow:
    """The same directions, and no displacement as long as `most`, so that none is rounded to more."""
    return np.asarray(flow * ((1 - 1e-6) * most / np.maximum(np.hypot(*flow), most)), np.float32)


def resized(image: NDArray[Any], width: int, height: int) -> NDArray[Any]:
    """Averaged when smaller; when far larger, pixels are shown as the squares that they are."""
    scale = height / image.shape[0]
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST if scale >= 4 else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=method)


def resized_flow(flow: Flow, width: int, height: int) -> Flow:
    """A (2, H, W) flow at another size, its displacements still in pixels of the first."""
    return np.asarray(resized(flow.transpose(1, 2, 0), width, height).transpose(2, 0, 1), np.float32)


def fit(width: int, height: int, most_width: int, most_height: int) -> tuple[int, int]:
    """The largest size of the same shape in a box."""
    scale = min(most_width / width, most_height / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


class _Grid:
    """The measures of a sheet, pixels.

    Attributes:
        small: size of the text.
        key: side of the legend.
    """

    def __init__(self, video: Video, columns: int, width: int) -> None:
        if columns < 1 or width < max(200, 40 * columns):
            raise UsageError(
                f"{columns} columns in {width} pixels; allowed: from 1, in 200 pixels or 40 per column"
            )
        self.shape = video.width, video.height
        self.columns, self.width = columns, width
        self.small = max(11, round(width * 0.013))
        self.margin, self.gap = round(width * 0.016) + 4, max(4, self.small // 2)
        self.line = round(self.small * 1.5)
        self.key = 7 * self.small

    def cell(self, shots: int) -> int:
        """Width of a column. A few pictures alone on a sheet may be larger, to a third of it."""
        room = self.width - 2 * self.margin + self.gap
        return min(room // shots - self.gap, max(room // self.columns - self.gap, self.width // 3))

    def picture(self, shots: int) -> tuple[int, int]:
        """Width and height of a picture."""
        cell = self.cell(shots)
        return fit(*self.shape, cell, round(1.8 * cell))

    def draw(
        self,
        title: str,
        facts: Sequence[str],
        keys: Sequence[Image],
        stamps: Sequence[str],
        rows: Sequence[Row],
    ) -> Image:
        """Title and facts, the keys at their right, then the rows under the stamps."""
        cell, margin, gap, line = self.cell(len(stamps)), self.margin, self.gap, self.line
        facts_top = margin + round(2.6 * self.small)
        key_heights = sum(len(key) + gap for key in keys)
        top = max(facts_top + len(facts) * line, margin + key_heights - gap) + 2 * gap
        height = top + line + margin - gap
        for row in rows:
            height += (line + gap) * bool(row.title) + len(row.pictures[0]) + gap + line * bool(row.notes)
        canvas = Canvas(np.full((height, self.width, 3), 255, np.uint8))
        widest = max((key.shape[1] + gap for key in keys), default=0)
        room = self.width - 2 * margin - widest
        canvas.text((margin, margin), title, round(1.6 * self.small), INK, room)
        for i, fact in enumerate(facts):
            canvas.text((margin, facts_top + i * line), fact, self.small, GREY, room)
        y = margin
        for key in keys:
            canvas.paste(key, self.width - margin - key.shape[1], y)
            y += len(key) + gap
        places = [margin + column * (cell + gap) for column in range(len(stamps))]
        for x, text in zip(places, stamps, strict=True):
            canvas.text((x, top), text, self.small, GREY, cell)
        y = top + line
        for row in rows:
            if row.title:
                canvas.text((margin, y + gap), row.title, self.small, INK, self.width - 2 * margin)
                y += line + gap
            for x, picture in zip(places, row.pictures, strict=True):
                canvas.paste(picture, x, y, outline=EDGE)
            y += len(row.pictures[0]) + gap
            for x, note in zip(places, row.notes, strict=False):
                canvas.text((x, y), note, self.small, GREY, cell)
            y += line * bool(row.notes)
        return canvas.image


def _facts(video: Video, has_rgb: bool, has_flow: bool) -> list[str]:
    """The lines under the title."""
    size = f"{video.width}x{video.height} pixels"
    rate = f"{number(video.frame_rate, 4)} frames/s" if video.frame_rate else ""
    frames = f"{video.num_frames} frames"
    if has_flow:
        apart = "the next" if video.step == 1 else f"the one {video.step} later"
        frames += f", {video.num_pairs} pair{'s' * (video.num_pairs != 1)}"
        flow = f"flow from each frame to {apart}"
    else:
        flow = "no flow in this corpus"
    lines = [" · ".join(filter(None, (video.label, size, frames, rate))), flow]
    if not has_rgb:
        lines[1] += ", no frames in this corpus"
    if video.damage:
        lines.append(f"ends before a damage ({video.damage})")
    return lines


def _scale_fact(rim: float, largest: float) -> str:
    """What the wheel's rim is."""
    which = (
        f"the {PERCENTILE}th percentile of those shown"
        if rim > LEAST_SCALE
        else "the least that a sheet uses"
    )
    return f"colours are full from {number(rim)} px on, {which}; the largest is {number(largest)} px"


_T = TypeVar("_T")


def _if_stored(read: Callable[[], _T]) -> _T | None:
    try:
        return read()
    except OutOfRange:
        return None
