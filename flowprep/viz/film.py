"""Films: frame, flow colours and arrows side by side, with the times of the video."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from flowprep.errors import UsageError
from flowprep.viz.canvas import GREY, INK, Canvas, distance_legend, legend, number
from flowprep.viz.colours import Flow, Image, distance_to_rgb, draw_arrows, flow_to_rgb
from flowprep.viz.scaling import (
    PERCENTILE,
    distance_scale,
    fit,
    flow_scale,
    limited,
    resized,
    resized_flow,
)
from flowprep.viz.shots import FlowVideo, check_comparable, even_times, stored_streams

_SCALE_PAIRS = 12  # pairs, spread over the film, that set the colour scale
_BATCH = 8  # pairs that are computed or read together


def film_frames(
    video: FlowVideo,
    other: FlowVideo | None = None,
    names: tuple[str, str] = ("", ""),
    width: int = 1200,
    first: int = 0,
    count: int | None = None,
) -> Iterator[tuple[float, Image]]:
    """The pictures of a film: for each pair its frame, and its flow as colours and as arrows.

    With `other`, a picture has the frame, the two flows as colours, and the end-point distance between them.
    Colours are full from the 99th percentile of a dozen pairs on. The picture says this number.

    Args:
        video: a video, as for `contact_sheet`.
        other: the same frames with another flow.
        names: names of the two flows.
        width: width of the pictures in pixels; an odd one is rounded down.
        first: the first pair.
        count: number of pairs, at most; None for all.

    Yields:
        Seconds from the start of the film, and an (H, width, 3) uint8 RGB image with even sides.

    Raises:
        UsageError: `width` is under 200, the video has no flow, `first` does not exist, or the two videos
            differ in size or step.
        CorpusDamaged: a shown image fails its checksum.
    """
    if width < 200:
        raise UsageError(f"width is {width}; allowed: pixels from 200")
    if other:
        check_comparable(video, other, names)
    has_rgb, has_flow = stored_streams(video)
    if not has_flow:
        raise UsageError(f"{video.id} has no flow to play; a contact sheet (.png) shows its frames")
    pairs = min(video.num_pairs, other.num_pairs) if other else video.num_pairs
    if not 0 <= first < pairs:
        raise UsageError(f"first is {first}; {video.id} has pairs 0 to {pairs - 1}")
    last = pairs if count is None else min(pairs, first + count)
    layout = _Layout(video, other, names, width, has_rgb, range(first, last))
    times = video.times_seconds[first:last]
    if not np.isfinite(times).all():
        times = np.arange(first, last) / (video.frame_rate or 25)
    for start in range(first, last, _BATCH):
        size = min(_BATCH, last - start)
        frames = [video.rgb(i) for i in range(start, start + size)] if has_rgb else [None] * size
        flows = video.flow(start, size)
        other_flows = other.flow(start, size) if other else [None] * size
        for k in range(size):
            seconds = float(times[start + k - first])
            picture = layout.draw(start + k, seconds, frames[k], flows[k], other_flows[k])
            yield seconds - float(times[0]), picture


class _Layout:
    """The parts that all pictures of a film share. They are drawn once.

    Attributes:
        size: width and height of a panel, pixels.
        rim: displacement of full colour, pixels.
        black: distance that is drawn black, pixels; 0 without a second flow.
        shrink: length of a motion in the picture, divided by its length in the video.
        arrow_length: length of an arrow, divided by the length of the motion in the picture.
    """

    def __init__(
        self,
        video: FlowVideo,
        other: FlowVideo | None,
        names: tuple[str, str],
        width: int,
        has_rgb: bool,
        pairs: range,
    ) -> None:
        self.width = width - width % 2
        self.small = max(11, round(width * 0.0125))
        self.margin, self.gap = round(1.4 * self.small), max(4, self.small // 2)
        titles = ["frame"] * has_rgb
        titles += [f"flow: {names[0]}", f"flow: {names[1]}", "distance"] if other else ["flow", "arrows"]
        cell = (self.width - 2 * self.margin + self.gap) // len(titles) - self.gap
        self.size = fit(video.width, video.height, cell, round(1.2 * cell))
        self._set_scales(video, other, pairs)
        if not other:
            times = f", {self.arrow_length:g} times the motion"
            titles[-1] += " as long as the motion" if self.arrow_length == 1 else times
        self.stamp_at = self.margin, self.margin + round(2.2 * self.small)
        self.lefts = [self.margin + i * (cell + self.gap) for i in range(len(titles))]
        self.page = self._draw_page(video.id, titles, cell)

    def _set_scales(self, video: FlowVideo, other: FlowVideo | None, pairs: range) -> None:
        flows, distances = [], []
        times = video.times_seconds[pairs.start : pairs.stop]
        for i in even_times(times, len(pairs), _SCALE_PAIRS):
            flow = video.flow(pairs.start + i, 1)[0]
            flows.append(resized_flow(flow, *self.size))
            if other:
                other_flow = other.flow(pairs.start + i, 1)[0]
                flows.append(resized_flow(other_flow, *self.size))
                distances.append(resized(np.hypot(*(other_flow - flow)), *self.size))
        self.rim = flow_scale(flows)
        self.black = distance_scale(distances) if distances else 0.0
        self.shrink = self.size[0] / video.width
        self.spacing = max(12, self.size[0] // 18)
        # The longest arrows are 1.6 spacings long. The title names the factor, so it is a round number.
        wanted = 1.6 * self.spacing / (self.rim * self.shrink)
        self.arrow_length = float(next((factor for factor in (50, 20, 10, 5, 2) if factor <= wanted), 1))

    def _draw_page(self, title: str, panel_titles: Sequence[str], cell: int) -> Image:
        """A picture without its panels. Also sets `top`, the upper edge of the panels."""
        side = round(4.6 * self.small)  # of the legend
        legends = [legend(side, self.rim)]
        if self.black:
            legends.insert(0, distance_legend(round(2.4 * side), self.small, self.black))
        line = round(1.5 * self.small)
        self.top = self.margin + side + 2 * self.gap + line
        height = self.top + self.size[1] + self.margin
        canvas = Canvas(np.full((height + height % 2, self.width, 3), 255, np.uint8))
        x = self.width - self.margin
        for image in reversed(legends):
            x -= image.shape[1]
            canvas.paste(image, x, self.margin + (side - len(image)) // 2)
            x -= 2 * self.gap
        room = x - self.margin
        canvas.text((self.margin, self.margin), title, round(1.5 * self.small), INK, room)
        scale = f"full colour from {number(self.rim)} px on, the {PERCENTILE}th percentile"
        scale += f"; distance black from {number(self.black)} px on, likewise" if self.black else ""
        canvas.text((self.margin, self.margin + round(3.6 * self.small)), scale, self.small, GREY, room)
        for x, text in zip(self.lefts, panel_titles, strict=True):
            canvas.text((x, self.top - line - self.gap // 2), text, self.small, GREY, cell)
        return canvas.image

    def draw(
        self, pair: int, seconds: float, frame: Image | None, flow: Flow, other_flow: Flow | None
    ) -> Image:
        """One picture."""
        width, height = self.size
        picture = None if frame is None else np.asarray(resized(frame, width, height), np.uint8)
        flows = [resized_flow(field, width, height) for field in (flow, other_flow) if field is not None]
        panels = [] if picture is None else [picture]
        panels += [flow_to_rgb(limited(field, self.rim), self.rim) for field in flows]
        if other_flow is not None:
            distance = resized(np.hypot(*(other_flow - flow)), width, height)
            panels.append(distance_to_rgb(distance, self.black))
        else:
            background = np.full((height, width, 3), 90, np.uint8) if picture is None else picture
            panels.append(draw_arrows(background, flows[0] * self.shrink, self.arrow_length, self.spacing))
        canvas = Canvas(self.page)
        canvas.text(self.stamp_at, f"{seconds:.2f} s · frame {pair}", self.small, GREY)
        for x, panel in zip(self.lefts, panels, strict=True):
            canvas.paste(panel, x, self.top)
        return canvas.image
