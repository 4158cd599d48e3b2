"""What stands around the pictures: text, legends, and the PNG file."""

from __future__ import annotations

import io
import os
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
from flowprep.viz.colours import Colour, Image, distance_to_rgb, flow_to_rgb

INK: Colour = (28, 28, 30)
GREY: Colour = (96, 96, 102)
EDGE: Colour = (205, 205, 210)
PAPER: Colour = (255, 255, 255)


def legend(size: int, max_px: float) -> Image:
    """The wheel of flow_to_rgb, each place coloured as a motion from the centre to there, over its scale.

    Args:
        size: height and width of the image, pixels; from 48 its scale is readable.
        max_px: displacement at the wheel's rim, pixels.

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
    radius = np.hypot(*flow)
    wheel[radius > 1] = GREY
    wheel[radius > 1.04] = PAPER
    image = np.full((size, size, 3), 255, np.uint8)
    left = (size - side) // 2
    image[:side, left : left + side] = cv2.resize(wheel, (side, side), interpolation=cv2.INTER_AREA)
    canvas = Canvas(image)
    scale = f"{number(max_px)} px"
    canvas.text((size / 2, size), fitting((f"rim {scale}", scale), text, size), text, GREY, anchor="md")
    return canvas.image


def distance_legend(width: int, text: int, max_px: float) -> Image:
    """The heat of distance_to_rgb from 0 to `max_px`, over its scale.

    Args:
        width: of the image, pixels; from 60 its scale is readable.
        text: size of the scale's text, pixels.
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


def number(value: float, digits: int = 3) -> str:
    """So many significant digits, without an exponent or zeros that say nothing."""
    return np.format_float_positional(value, precision=digits, fractional=False, trim="-")


def text_width(text: str, size: int) -> float:
    """Width of a line of text, pixels."""
    font = _font_for(text)
    if font is None:
        return float(_builtin(size).getlength(_drawable(text)))
    box = cv2.getTextSize((0, 0), text, (0, 0), font, size)
    return float(box[2])


def fitting(texts: Iterable[str], size: int, room: float) -> str:
    """The first that has room; "" if none has."""
    return next((text for text in texts if text_width(text, size) <= room), "")


class Canvas:
    """An image to write on."""

    def __init__(self, image: Image) -> None:
        self._pillow = PillowImage.fromarray(image)
        self._draw = ImageDraw.Draw(self._pillow)

    @property
    def image(self) -> Image:
        """A copy of what is on it, (H, W, 3) uint8."""
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
        """Write a line; what has no room loses its middle. Letters that no font has become "?"."""
        text = "".join(c if c.isprintable() else "?" for c in text)
        keep = len(text)
        shown = text
        while room is not None and keep > 1 and text_width(shown, size) > room:
            keep -= 1
            shown = f"{text[: (keep + 1) // 2]}…{text[len(text) - keep // 2 :]}"
        font = _font_for(shown)
        if font is None:
            self._draw.text(at, _drawable(shown), colour, _builtin(size), anchor)
            return
        # OpenCV places a line by its baseline, and only from the left.
        x = at[0] - {"l": 0, "m": 0.5, "r": 1}[anchor[0]] * text_width(shown, size)
        y = at[1] + (round(size * 0.95) if anchor[1] == "a" else -round(size * 0.2))
        image = self.image
        cv2.putText(image, shown, (round(x), round(y)), colour, font, size, 500)
        self._pillow.paste(PillowImage.fromarray(image))


# What Pillow's built-in font has beyond ASCII and is used here.
_BUILTIN = frozenset("…·")


@cache
def _builtin(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


@cache
def _unicode() -> Any:
    """OpenCV's font for most of the world's letters; None before OpenCV 5."""
    return cv2.FontFace("sans") if hasattr(cv2, "FontFace") else None


def _font_for(text: str) -> Any:
    """None for Pillow's font, where it has the letters."""
    return None if all(c.isascii() or c in _BUILTIN for c in text) else _unicode()


def _drawable(text: str) -> str:
    """Letters without their accents, and "?" for what else Pillow's font lacks."""
    text = "".join(c if c in _BUILTIN else unicodedata.normalize("NFKD", c) for c in text)
    plain = (c for c in text if not unicodedata.combining(c))
    return "".join(c if c.isascii() or c in _BUILTIN else "?" for c in plain)
