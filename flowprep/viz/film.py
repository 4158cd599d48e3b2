"""Films: frame, flow colours and arrows side by side, as long as the video."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flowprep.errors import UsageError
from flowprep.system.progress import Progress, no_progress
from flowprep.viz.canvas import GREY, INK, Canvas, distance_legend, legend, number
from flowprep.viz.colours import Flow, Image, distance_to_rgb, draw_arrows, flow_to_rgb
from flowprep.viz.sheet import (
    PERCENTILE,
    check_alike,
    distance_scale,
    even_times,
    fit,
    flow_scale,
    limited,
    resized,
    resized_flow,
    stored_streams,
)

if TYPE_CHECKING:
    from flowprep.corpus.reader import Video

log = logging.getLogger(__name__)

# In the order of preference; what browsers play, but for the last one.
ENCODERS: dict[str, dict[str, str]] = {
    "libx264": {"crf": "18", "preset": "veryfast"},
    "libopenh264": {"b": "6000000"},
    "libvpx-vp9": {"crf": "24", "b": "0", "deadline": "realtime", "cpu-used": "6"},
    "mpeg4": {"b": "6000000"},
}
_SCALED_BY = 12  # pairs, spread over the film, whose displacements set the scale
_BATCH = 8  # pairs computed or read at a time
_CLOCK = 60_000  # ticks a second: whole ones for the usual rates, and few enough for MPEG-4


def film_frames(
    video: Video,
    other: Video | None = None,
    names: tuple[str, str] = ("", ""),
    width: int = 1200,
    first: int = 0,
    count: int | None = None,
) -> Iterator[tuple[float, Image]]:
    """The pictures of a film: per pair the frame, its flow in colour, and as arrows.

    With `other`: the frame, the two flows in colour, and the end-point distance between them. Scales are the
    99th percentile over a dozen pairs spread over the film, and the picture says them.

    Args:
        video: as for contact_sheet.
        other: the same frames with another flow.
        names: what to call the two.
        width: of the pictures, pixels; an odd one is rounded down.
        first: the first pair.
        count: pairs at most; None for all.

    Yields:
        When it is shown, seconds from the film's start, and a (H, width, 3) uint8 RGB image of even sides.

    Raises:
        UsageError: width under 200, no flow, a first pair that is not there, or two that are not alike.
        CorpusDamaged: what is shown fails its checksum.
    """
    if width < 200:
        raise UsageError(f"width is {width}; allowed: pixels from 200")
    if other:
        check_alike(video, other, names)
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
        some = min(_BATCH, last - start)
        frames = [video.rgb(i) for i in range(start, start + some)] if has_rgb else [None] * some
        flows = video.flow(start, some)
        others = other.flow(start, some) if other else [None] * some
        for k in range(some):
            seconds = float(times[start + k - first])
            picture = layout.draw(start + k, seconds, frames[k], flows[k], others[k])
            yield seconds - float(times[0]), picture


class _Layout:
    """What is the same in all pictures of a film, drawn once."""

    def __init__(
        self,
        video: Video,
        other: Video | None,
        names: tuple[str, str],
        width: int,
        has_rgb: bool,
        shown: range,
    ) -> None:
        self.width = width - width % 2
        self.small = max(11, round(width * 0.0125))
        self.margin, self.gap = round(1.4 * self.small), max(4, self.small // 2)
        titles = [f"flow: {names[0]}", f"flow: {names[1]}", "distance"] if other else ["flow", "arrows"]
        self.has_rgb, self.has_other = has_rgb, other is not None
        titles = ["frame"] * has_rgb + titles
        cell = (self.width - 2 * self.margin + self.gap) // len(titles) - self.gap
        self.size = fit(video.width, video.height, cell, round(1.2 * cell))
        self._scale(video, other, shown)

        key = round(4.6 * self.small)
        keys = [legend(key, self.rim)]
        if other:
            keys.insert(0, distance_legend(round(2.4 * key), self.small, self.black))
        else:
            titles[-1] += (
                " as long as the motion" if self.times == 1 else f", {self.times:g} times the motion"
            )
        self.line = round(1.5 * self.small)
        self.top = self.margin + key + 2 * self.gap + self.line
        height = self.top + self.size[1] + self.margin
        canvas = Canvas(np.full((height + height % 2, self.width, 3), 255, np.uint8))
        x = self.width - self.margin
        for picture in reversed(keys):
            x -= picture.shape[1]
            canvas.paste(picture, x, self.margin + (key - len(picture)) // 2)
            x -= 2 * self.gap
        self.places = [self.margin + i * (cell + self.gap) for i in range(len(titles))]
        room = x - self.margin
        canvas.text((self.margin, self.margin), video.id, round(1.5 * self.small), INK, room)
        scale = f"full colour from {number(self.rim)} px on, the {PERCENTILE}th percentile"
        scale += f"; distance black from {number(self.black)} px on, likewise" if other else ""
        canvas.text((self.margin, self.margin + round(3.6 * self.small)), scale, self.small, GREY, room)
        for x, title in zip(self.places, titles, strict=True):
            canvas.text((x, self.top - self.line - self.gap // 2), title, self.small, GREY, cell)
        self.stamp_at = self.margin, self.margin + round(2.2 * self.small)
        self.page = canvas.image

    def _scale(self, video: Video, other: Video | None, shown: range) -> None:
        flows, distances = [], []
        times = video.times_seconds[shown.start : shown.stop]
        for i in even_times(times, len(shown), _SCALED_BY):
            flow = video.flow(shown.start + i, 1)[0]
            flows.append(resized_flow(flow, *self.size))
            if other:
                second = other.flow(shown.start + i, 1)[0]
                flows.append(resized_flow(second, *self.size))
                distances.append(resized(np.hypot(*(second - flow)), *self.size))
        self.rim = flow_scale(flows)
        self.black = distance_scale(distances) if distances else 0.0
        self.shrunk = self.size[0] / video.width  # a motion is this much shorter in the picture
        self.spacing = max(12, self.size[0] // 18)
        # The longest reach the next arrow but one; a round number, since it is said.
        wanted = 1.6 * self.spacing / (self.rim * self.shrunk)
        self.times = float(next((k for k in (50, 20, 10, 5, 2) if k <= wanted), 1))

    def draw(self, pair: int, seconds: float, frame: Image | None, flow: Flow, second: Flow | None) -> Image:
        """One picture."""
        width, height = self.size
        picture = None if frame is None else np.asarray(resized(frame, width, height), np.uint8)
        flows = [resized_flow(f, width, height) for f in (flow, second) if f is not None]
        panels = [] if picture is None else [picture]
        panels += [flow_to_rgb(limited(f, self.rim), self.rim) for f in flows]
        if second is not None:
            panels.append(distance_to_rgb(resized(np.hypot(*(second - flow)), width, height), self.black))
        else:
            under = np.full((height, width, 3), 90, np.uint8) if picture is None else picture
            panels.append(draw_arrows(under, flows[0] * self.shrunk, self.times, self.spacing))
        canvas = Canvas(self.page)
        canvas.text(self.stamp_at, f"{seconds:.2f} s · frame {pair}", self.small, GREY)
        for x, panel in zip(self.places, panels, strict=True):
            canvas.paste(panel, x, self.top)
        return canvas.image


def save_film(
    pictures: Iterable[tuple[float, Image]],
    path: str | Path,
    progress: Progress = no_progress,
    total: int = 0,
) -> dict[str, Any]:
    """Write pictures with their times as .mp4, under a temporary name that is then renamed.

    H.264 in yuv420p, which browsers play; where FFmpeg has no such encoder, the next of `ENCODERS`.

    Args:
        pictures: (seconds, (H, W, 3) uint8 RGB of even sides), times rising from 0.
        path: the file.
        progress: called after each picture.
        total: pictures to expect, for `progress` only; 0 if not known.

    Returns:
        `encoder`, `frames`, `width`, `height`.

    Raises:
        UsageError: the file cannot be written there.
    """
    import av

    path = Path(path)
    encoder = next(name for name in ENCODERS if _has(name))
    if encoder == "mpeg4":
        log.warning("FFmpeg has no encoder here that browsers play: %s is MPEG-4 part 2", path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    frames = width = height = 0
    try:
        with av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            stream: Any = container.add_stream(encoder, options=ENCODERS[encoder])
            for seconds, picture in pictures:
                if not frames:
                    height, width = picture.shape[:2]
                    _set_up(stream, width, height)
                frame = av.VideoFrame.from_ndarray(picture, "rgb24")
                frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
                frame.pts, frame.time_base = round(seconds * _CLOCK), Fraction(1, _CLOCK)
                container.mux(stream.encode(frame))
                frames += 1
                progress(frames, total)
            container.mux(stream.encode(None))
        temporary.replace(path)
    except OSError as exc:
        raise UsageError(f"{path} cannot be written: {exc.strerror or exc}") from exc
    finally:
        temporary.unlink(missing_ok=True)
    return {"encoder": encoder, "frames": frames, "width": width, "height": height}


def _set_up(stream: Any, width: int, height: int) -> None:
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    context = stream.codec_context
    context.time_base = Fraction(1, _CLOCK)
    context.framerate = Fraction(25)
    # ITU-R BT.709, and said so: a player that guesses would shift the colours of the wheel.
    context.colorspace = context.color_primaries = context.color_trc = 1
    context.color_range = 1


def _has(encoder: str) -> bool:
    import av

    try:
        av.Codec(encoder, "w")
    except ValueError:
        return False
    return True
