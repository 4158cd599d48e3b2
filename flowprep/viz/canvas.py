"""Text and legends around the pictures, and the PNG file."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from flowprep.errors import UsageError
from flowprep.system.atomic import atomic_path
from flowprep.video.frames import resize
from flowprep.viz.colours import Colour, Image, distance_to_rgb, flow_to_rgb

INK: Colour = (28, 28, 30)
GREY: Colour = (96, 96, 102)
EDGE: Colour = (205, 205, 210)
PAPER: Colour = (255, 255, 255)


def legend(size: int, max_px: float) -> Image:
    """The colour wheel of `flow_to_rgb` above its scale.

    A pixel has the colour of a motion from the centre to this pixel.

    Args:
        size: height and width of the image, pixels. The scale is readable from 48 on.
        max_px: displacement at the rim, pixels.

    Returns:
        (size, size, 3) uint8, RGB, on white.

    Raises:
        UsageError: `size` is under 16, or `max_px` is not above 0.
    """
    if size < 16:
        raise UsageError(f"size is {size}; allowed: pixels from 16")
    text = max(9, round(size * 0.14))
    side = size - round(text * 1.35)  # of the wheel
    oversampling = 3  # drawn larger, then averaged, for a smooth edge
    axis = (np.arange(side * oversampling) + 0.5) / (side * oversampling / 2) - 1
    flow = np.stack(np.meshgrid(axis, axis)).astype(np.float32) * 1.04  # room for the edge
    wheel = flow_to_rgb(flow * max_px, max_px)
    radius = np.hypot(*flow)
    wheel[radius > 1] = GREY
    wheel[radius > 1.04] = PAPER
    image = np.full((size, size, 3), 255, np.uint8)
    left = (size - side) // 2
    image[:side, left : left + side] = resize(wheel, side, side)
    canvas = Canvas(image)
    scale = f"{number(max_px)} px"
    canvas.text((size / 2, size), fitting((f"rim {scale}", scale), text, size), text, GREY, anchor="md")
    return canvas.image


def distance_legend(width: int, text: int, max_px: float) -> Image:
    """The colours of `distance_to_rgb` from 0 to `max_px`, above their scale.

    Args:
        width: width of the image, pixels. The scale is readable from 60 on.
        text: size of the text, pixels.
        max_px: the distance that is black, pixels.

    Returns:
        (H, width, 3) uint8, RGB, on white.
    """
    height = round(1.2 * text)
    heat = distance_to_rgb(np.tile(np.linspace(0, max_px, width - 2), (height, 1)), max_px)
    canvas = Canvas(np.full((2 * height + text, width, 3), 255, np.uint8))
    canvas.paste(heat, 1, 1, outline=EDGE)
    canvas.text((0, height + round(0.4 * text)), "0", text, GREY)
    canvas.text((width, height + round(0.4 * text)), f"from {number(max_px)} px", text, GREY, anchor="ra")
    return canvas.image


def save_png(image: Image, path: str | Path) -> None:
    """Write an (H, W, 3) uint8 RGB image as PNG. The file appears when it is complete.

    Raises:
        UsageError: the file cannot be written.
    """
    try:
        with atomic_path(Path(path)) as temporary:
            PillowImage.fromarray(image).save(temporary, "PNG")
    except OSError as exc:
        raise UsageError(f"{path} cannot be written: {exc.strerror}") from exc


def number(value: float, digits: int = 3) -> str:
    """A number with at most `digits` significant digits, without an exponent and trailing zeros."""
    return np.format_float_positional(value, precision=digits, fractional=False, trim="-")


def text_width(text: str, size: int) -> float:
    """Width of a line of text, pixels."""
    font = _font_for(text)
    if font is None:
        return float(_builtin_font(size).getlength(drawable(text)))
    box = cv2.getTextSize((0, 0), text, (0, 0), font, size)
    return float(box[2])


def fitting(texts: Iterable[str], size: int, room: float) -> str:
    """The first text that fits into the room, in pixels; "" if none fits."""
    return next((text for text in texts if text_width(text, size) <= room), "")


class Canvas:
    """An image to write on."""

    def __init__(self, image: Image) -> None:
        self._pillow = PillowImage.fromarray(image)
        self._draw = ImageDraw.Draw(self._pillow)

    @property
    def image(self) -> Image:
        """A copy of the image, (H, W, 3) uint8."""
        return np.array(self._pillow)

    def paste(self, image: Image, x: int, y: int, outline: Colour | None = None) -> None:
        """Put an image with its upper left corner at (x, y), and draw a line around it if wanted."""
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
        """Write one line.

        Args:
            at: the place, as (x, y).
            text: the line. A letter without a glyph is written as "?".
            size: size of the letters, pixels.
            colour: RGB.
            room: available width, pixels. A longer text loses its middle.
            anchor: what `at` is: l, m or r (left, middle, right), then a or d (top, bottom).
        """
        text = "".join(c if c.isprintable() else "?" for c in text)
        kept = len(text)
        shown = text
        while room is not None and kept > 1 and text_width(shown, size) > room:
            kept -= 1
            shown = f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
        font = _font_for(shown)
        if font is None:
            self._draw.text(at, drawable(shown), colour, _builtin_font(size), anchor)
            return
        # OpenCV places a line by its baseline, and only from the left.
        x = at[0] - {"l": 0, "m": 0.5, "r": 1}[anchor[0]] * text_width(shown, size)
        y = at[1] + (round(size * 0.95) if anchor[1] == "a" else -round(size * 0.2))
        image = self.image
        cv2.putText(image, shown, (round(x), round(y)), colour, font, size, 500)
        self._pillow.paste(PillowImage.fromarray(image))


# Glyphs of Pillow's built-in font beyond ASCII.
_BUILTIN_GLYPHS = frozenset("…·")


@cache
def _builtin_font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


@cache
def unicode_font() -> Any:
    """The font of OpenCV 5, which has the letters of most scripts; None before OpenCV 5."""
    return cv2.FontFace("sans") if hasattr(cv2, "FontFace") else None


def _font_for(text: str) -> Any:
    """The font for a text; None for Pillow's built-in font, which draws better where it has all letters."""
    return None if all(c.isascii() or c in _BUILTIN_GLYPHS for c in text) else unicode_font()


def drawable(text: str) -> str:
    """The text in glyphs of Pillow's built-in font: without accents, and with "?" for other letters."""
    text = "".join(c if c in _BUILTIN_GLYPHS else unicodedata.normalize("NFKD", c) for c in text)
    plain = (c for c in text if not unicodedata.combining(c))
    return "".join(c if c.isascii() or c in _BUILTIN_GLYPHS else "?" for c in plain)
