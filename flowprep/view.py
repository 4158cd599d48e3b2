"""Pictures of flow: colours, their legend, and contact sheets of a video's frames and flow."""

from __future__ import annotations

import io
import os
import unicodedata
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from flowprep.errors import OutOfRange, UsageError

if TYPE_CHECKING:
    from flowprep.corpus.reader import Video

Image = NDArray[np.uint8]
Flow = NDArray[np.float32]
Colour = tuple[int, int, int]

INK: Colour = (28, 28, 30)
GREY: Colour = (110, 110, 116)
EDGE: Colour = (205, 205, 210)
PAPER: Colour = (255, 255, 255)

# Displacements under this are mostly the solver's noise; a sheet does not blow them up to full colour.
LEAST_SCALE = 0.25  # pixels


def flow_to_rgb(flow: NDArray[np.floating], max_px: float | None = None) -> Image:
    """Colour each displacement: the hue is its direction, the strength of the colour its length.

    The colours are those of the Middlebury benchmark: Baker, Scharstein, Lewis, Roth, Black, Szeliski, "A
    database and evaluation methodology for optical flow", IJCV 2011, with the wheel of 55 hues of its colour
    code. No motion is white, right is red, down yellow, left blue, up violet; beyond `max_px` colours are a
    quarter darker; values that are not finite are black.

    Args:
        flow: (2, H, W), u = right and v = down, pixels.
        max_px: displacement of full colour, pixels; None for the largest in the flow.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        UsageError: the flow has another shape, or max_px is not above 0.
    """
    flow = np.asarray(flow, np.float32)
    if flow.ndim != 3 or flow.shape[0] != 2:
        raise UsageError(f"flow has shape {flow.shape}; allowed: (2, H, W)")
    known = np.isfinite(flow).all(axis=0)
    u, v = np.where(known, flow, 0)
    length = np.hypot(u, v)
    if max_px is None:
        max_px = float(length.max(initial=0)) or 1.0  # all still: any scale shows white
    if not 0 < max_px < np.inf:
        raise UsageError(f"max_px is {max_px}; allowed: pixels above 0")
    radius = (length / max_px)[..., None]

    # The paper's code puts its first hue at the angle -pi, its last at pi: both are motion to the right.
    wheel = _wheel()
    place = (np.arctan2(-v, -u) / np.pi + 1) / 2 * (len(wheel) - 1) % (len(wheel) - 1)
    below = place.astype(np.intp)
    part = (place - below)[..., None]
    hue = (1 - part) * wheel[below] + part * wheel[below + 1]
    colour = np.where(radius <= 1, 1 - radius * (1 - hue), 0.75 * hue)
    colour[~known] = 0
    # A length that equals max_px must not come out one level lower for the rounding of 255 * x.
    return np.asarray(colour * 255 + 1e-3, np.uint8)


def _wheel() -> Flow:
    """The 55 hues, (55, 3) RGB from 0 to 1: ramps between six corners, more hues where eyes tell more."""
    ramps = [  # hues, channel that changes, whether it rises; the next corner has it changed
        (15, 1, True),  # red to yellow
        (6, 0, False),  # yellow to green
        (4, 2, True),  # green to cyan
        (11, 1, False),  # cyan to blue
        (13, 0, True),  # blue to magenta
        (6, 2, False),  # magenta to red
    ]
    hues = []
    corner = np.array([255, 0, 0])
    for count, channel, rises in ramps:
        steps = np.tile(corner, (count, 1))
        ramp = 255 * np.arange(count) // count
        steps[:, channel] = ramp if rises else 255 - ramp
        hues.append(steps)
        corner[channel] = 255 if rises else 0
    return (np.concatenate(hues) / 255).astype(np.float32)


def legend(size: int, max_px: float) -> Image:
    """The wheel of flow_to_rgb, each place coloured as a motion from the centre to there, over its scale.

    Args:
        size: height and width of the image, pixels; from 48 its scale is readable.
        max_px: displacement at the wheel's edge, pixels.

    Returns:
        (size, size, 3) uint8, RGB, on white.

    Raises:
        UsageError: size is under 16, or max_px is not above 0.
    """
    if size < 16:
        raise UsageError(f"size is {size}; allowed: pixels from 16")
    text = max(9, round(size * 0.14))
    side = size - round(text * 1.35)  # of the wheel
    finer = 3  # drawn larger, then averaged, for a smooth edge
    axis = (np.arange(side * finer) + 0.5) / (side * finer / 2) - 1
    flow = np.stack(np.meshgrid(axis, axis)).astype(np.float32) * 1.04  # room for the edge
    wheel = flow_to_rgb(flow * max_px, max_px)
    length = np.hypot(*flow)
    wheel[length > 1] = GREY
    wheel[length > 1.04] = PAPER
    image = np.full((size, size, 3), 255, np.uint8)
    left = (size - side) // 2
    image[:side, left : left + side] = cv2.resize(wheel, (side, side), interpolation=cv2.INTER_AREA)
    canvas = _Canvas(image)
    scale = f"{_number(max_px)} px"
    canvas.text((size / 2, size), _fitting((f"{scale}/pair", scale), text, size), text, GREY, anchor="md")
    return canvas.image


def contact_sheet(video: Video, columns: int = 6, width: int = 1000) -> Image:
    """Frames of a video at even times, each over its flow, with the facts and a legend on top.

    All flow on a sheet has one scale, at the legend: the 99th percentile of the displacements shown, beyond
    which colours stay as they are at its edge. The flow under a frame goes from that frame to the one `step`
    later. What a corpus was made without is left out, and the sheet says so.

    Args:
        video: of a corpus, `corpus[id]`.
        columns: how many frames; fewer where the video has fewer pairs.
        width: of the image, pixels.

    Returns:
        (H, width, 3) uint8, RGB; the height follows from the video's shape.

    Raises:
        UsageError: columns is under 1, or width is under 200 or under 40 per column.
        CorpusDamaged: what is shown fails its checksum.
    """
    if columns < 1 or width < max(200, 40 * columns):
        raise UsageError(
            f"{columns} columns in {width} pixels; allowed: from 1, in 200 pixels or 40 per column"
        )
    has_flow = _if_stored(lambda: video.flow(0, 1)) is not None
    has_rgb = _if_stored(lambda: video.rgb(0)) is not None
    times = video.times_seconds
    shots = _even_times(times, video.num_pairs if has_flow else video.num_frames, columns)

    small = max(11, round(width * 0.013))
    margin, gap, line = round(width * 0.016) + 4, max(4, small // 2), round(small * 1.5)
    # A few pictures alone on a sheet may be larger, to a third of it.
    cell = min(
        (width - 2 * margin + gap) // len(shots) - gap,
        max((width - 2 * margin + gap) // columns - gap, width // 3),
    )
    thumb_width, thumb_height = _fit(video.width, video.height, cell, round(1.8 * cell))

    frames = [_resized(video.rgb(i), thumb_width, thumb_height) for i in shots] if has_rgb else []
    flows, largest = [], 0.0
    if has_flow:
        for i in shots:  # one at a time: a single one of a large video is tens of MB
            flow = video.flow(i, 1)[0]
            largest = max(largest, float(np.hypot(*flow).max()))
            flows.append(_resized(flow.transpose(1, 2, 0), thumb_width, thumb_height).transpose(2, 0, 1))
    scale = max(LEAST_SCALE, float(np.percentile([np.hypot(*flow) for flow in flows], 99))) if flows else 1.0
    rows = [frames, [flow_to_rgb(_limited(flow, scale), scale) for flow in flows]]

    wheel = 7 * small
    facts = _facts(video, largest if has_flow else None, has_rgb)
    facts_top = margin + round(2.6 * small)
    top = max(facts_top + len(facts) * line, margin + wheel * has_flow) + 2 * gap
    height = top + line + sum(thumb_height + gap for row in rows if row) - gap + margin
    canvas = _Canvas(np.full((height, width, 3), 255, np.uint8))
    room = width - 2 * margin - (wheel + gap if has_flow else 0)
    canvas.text((margin, margin), _drawable(video.id), round(1.6 * small), INK, room)
    for i, fact in enumerate(facts):
        canvas.text((margin, facts_top + i * line), fact, small, GREY, room)
    if has_flow:
        canvas.paste(legend(wheel, scale), width - margin - wheel, margin)
    for column, i in enumerate(shots):
        x, y = margin + column * (cell + gap), top
        canvas.text((x, y), _stamp(i, times[i], small, cell), small, GREY)
        y += line
        for row in rows:
            if row:
                canvas.paste(row[column], x, y, outline=EDGE)
                y += thumb_height + gap
    return canvas.image


def save_png(image: Image, path: str | Path) -> None:
    """Write an (H, W, 3) uint8 RGB image as PNG, under a temporary name that is then renamed.

    Raises:
        UsageError: the file cannot be written there.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    buffer = io.BytesIO()
    PillowImage.fromarray(image).save(buffer, "PNG")
    try:
        temporary.write_bytes(buffer.getvalue())
        temporary.replace(path)
    except OSError as exc:
        temporary.unlink(missing_ok=True)
        raise UsageError(f"{path} cannot be written: {exc.strerror}") from exc


_T = TypeVar("_T")


def _if_stored(read: Callable[[], _T]) -> _T | None:
    try:
        return read()
    except OutOfRange:
        return None


def _even_times(times: NDArray[np.float64], count: int, columns: int) -> list[int]:
    """At most `columns` different indices under `count`, evenly spread in time, first and last included."""
    times = times[:count] if np.isfinite(times[:count]).all() else np.arange(count, dtype=np.float64)
    if count <= columns:
        return list(range(count))
    wanted = np.linspace(times[0], times[-1], columns)
    return sorted({int(np.abs(times - time).argmin()) for time in wanted})


def _stamp(index: int, seconds: float, size: int, room: int) -> str:
    """When and which a frame is, as far as there is room."""
    time = f"{seconds:.2f} s" if np.isfinite(seconds) else ""
    return _fitting((" · ".join(filter(None, (time, f"frame {index}"))), time or f"{index}"), size, room)


def _facts(video: Video, largest: float | None, has_rgb: bool) -> list[str]:
    """The lines under the title."""
    size = f"{video.width}x{video.height} pixels"
    rate = f"{_number(video.frame_rate, 4)} frames/s" if video.frame_rate else ""
    frames = f"{video.num_frames} frames" + (" (cut off before damage)" if video.partial else "")
    lines = [" · ".join(filter(None, (_drawable(video.label), size, frames, rate)))]
    if largest is None:
        lines.append("no flow in this corpus")
    else:
        apart = "the next" if video.step == 1 else f"the one {video.step} later"
        pairs = f"{video.num_pairs} pair{'s' * (video.num_pairs != 1)}"
        lines.append(f"{pairs} · flow from each frame to {apart} · largest shown {_number(largest)} px")
    if not has_rgb:
        lines.append("no frames in this corpus")
    return lines


def _number(value: float, digits: int = 3) -> str:
    """So many significant digits, without an exponent or zeros that say nothing."""
    return np.format_float_positional(value, precision=digits, fractional=False, trim="-")


def _fit(width: int, height: int, most_width: int, most_height: int) -> tuple[int, int]:
    """The largest size of the same shape in a box."""
    scale = min(most_width / width, most_height / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _limited(flow: Flow, most: float) -> Flow:
    """The same directions, and no displacement as long as `most`, so that none is rounded to more."""
    return np.asarray(flow * ((1 - 1e-6) * most / np.maximum(np.hypot(*flow), most)), np.float32)


def _resized(image: NDArray[Any], width: int, height: int) -> NDArray[Any]:
    """Averaged when smaller; when far larger, pixels are shown as the squares that they are."""
    scale = height / image.shape[0]
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST if scale >= 4 else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=method)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def _length(text: str, size: int) -> float:
    return _font(size).getlength(text)


def _fitting(texts: Iterable[str], size: int, room: float) -> str:
    """The first that has room; "" if none has."""
    return next((text for text in texts if _length(text, size) <= room), "")


def _drawable(text: str) -> str:
    """Letters without their accents, and "?" for what else Pillow's font lacks."""
    plain = (c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in plain)


class _Canvas:
    """An image to write on."""

    def __init__(self, image: Image) -> None:
        self._pillow = PillowImage.fromarray(image)
        self._draw = ImageDraw.Draw(self._pillow)

    @property
    def image(self) -> Image:
        return np.array(self._pillow)

    def paste(self, image: Image, x: int, y: int, outline: Colour | None = None) -> None:
        """Put an image with its upper left corner at (x, y), and a line around it."""
        height, width = image.shape[:2]
        self._pillow.paste(PillowImage.fromarray(image), (x, y))
        if outline:
            self._draw.rectangle((x - 1, y - 1, x + width, y + height), outline=outline)

    def text(
        self,
        at: tuple[float, float],
        text: str,
        size: int,
        colour: Colour,
        room: float | None = None,
        anchor: str = "la",
    ) -> None:
        """Write a line; what has no room loses its middle."""
        keep = len(text)
        shown = text
        while room is not None and keep > 1 and _length(shown, size) > room:
            keep -= 1
            shown = f"{text[: (keep + 1) // 2]}…{text[len(text) - keep // 2 :]}"
        self._draw.text(at, shown, colour, _font(size), anchor)
