"""One frame: its record, an image file as pixels, its stored size, resizing and grey levels."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from flowprep.errors import VideoError, VideoUnreadable, VideoUnsuitable
from flowprep.settings import MAX_PIXELS, MAX_SIDE, MIN_SIDE, stored_size
from flowprep.system.files import read_regular
from flowprep.system.paths import printable

MAX_IMAGE_BYTES = 1 << 29  # an image of MAX_PIXELS with 8 bytes a pixel

Pixels = TypeVar("Pixels", np.uint8, np.float32)


class Frame(NamedTuple):
    """One decoded frame.

    Attributes:
        rgb: (H, W, 3) uint8.
        pts_seconds: presentation time by the container's clock; NaN if the source has no clock.
    """

    rgb: npt.NDArray[np.uint8]
    pts_seconds: float


class SourceFormat(NamedTuple):
    """Size and frame rate of a source video, known once its first frame is decoded.

    Attributes:
        width, height: pixels as shown, after rotation.
        frame_rate: declared frames per second; 0 if unknown.
        warning: what a user should know about the file, as far as it was decoded; or "".
    """

    width: int
    height: int
    frame_rate: float
    warning: str = ""


def check_pixels(width: int, height: int, max_pixels: int = MAX_PIXELS) -> None:
    """Refuse a frame that would need too much memory. Call this before the frame is decoded.

    Args:
        width, height: the size that the file declares, pixels.
        max_pixels: the largest allowed product of the two.

    Raises:
        VideoUnsuitable: the frame is larger.
    """
    if width * height > max_pixels:
        raise VideoUnsuitable(f"{width}x{height} pixels are declared; allowed: at most {max_pixels}")


def fit_size(source: SourceFormat, size: str) -> tuple[int, int]:
    """The (width, height) at which the frames of a source are stored.

    Args:
        source: format of the video.
        size: as in `Settings.size`.

    Raises:
        VideoUnsuitable: a side is under MIN_SIDE, or the frame exceeds MAX_SIDE or MAX_PIXELS.
    """
    width, height = stored_size(size, source.width, source.height)
    if min(width, height) < MIN_SIDE:
        raise VideoUnsuitable(
            f"too small: {width}x{height} pixels at size {size}; allowed: at least {MIN_SIDE} on each side."
            " A size such as short:256 enlarges the frames"
        )
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise VideoUnsuitable(
            f"too large: {width}x{height} pixels at size {size}; allowed: at most {MAX_SIDE} on a side and"
            f" {MAX_PIXELS} in all. A size such as short:256 shrinks the frames"
        )
    return width, height


def resize(image: npt.NDArray[Pixels], width: int, height: int) -> npt.NDArray[Pixels]:
    """Resize (H, W) or (H, W, C): pixel-area averages to shrink (no aliasing), bilinear to enlarge.

    An image that has the size already is returned as it is.
    """
    if image.shape[:2] == (height, width):
        return image
    shrinks = width * height < image.shape[0] * image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized: Any = cv2.resize(image, (width, height), interpolation=method)
    return np.asarray(resized, image.dtype)


def to_grey(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """(H, W, 3) RGB to (H, W) luma of ITU-R BT.601, rounded. Flow is computed from it."""
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)


def read_image(path: Path, max_pixels: int = MAX_PIXELS) -> npt.NDArray[np.uint8]:
    """Read an image file as (H, W, 3) uint8, RGB.

    Raises:
        FileUnsuitable: it is no regular file, or too large.
        OSError: the file cannot be read.
        VideoUnreadable: OpenCV cannot decode it.
        VideoUnsuitable: it has more than `max_pixels` pixels.
    """
    try:
        return decode_image(read_regular(path, max_bytes=MAX_IMAGE_BYTES), max_pixels)
    except VideoError as exc:
        raise type(exc)(f"{path} cannot be read: {exc}") from exc


def decode_image(data: bytes, max_pixels: int = MAX_PIXELS) -> npt.NDArray[np.uint8]:
    """Decode the bytes of an image file to (H, W, 3) uint8, RGB.

    Raises:
        VideoUnreadable: OpenCV cannot decode them.
        VideoUnsuitable: the image has more than `max_pixels` pixels. It is not decoded, as far as Pillow
            knows its header.
    """
    _check_header(data, max_pixels)
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error as exc:
        raise VideoUnreadable(reason(exc)) from exc
    if bgr is None:
        raise VideoUnreadable("it is not a whole image in a known format")
    check_pixels(bgr.shape[1], bgr.shape[0], max_pixels)
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def _check_header(data: bytes, max_pixels: int) -> None:
    """Refuse an image by the size in its header. A header that Pillow does not know passes."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
    except Image.DecompressionBombError as exc:
        raise VideoUnsuitable(f"{exc}; allowed: at most {max_pixels} pixels") from exc
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
        return
    check_pixels(width, height, max_pixels)


def reason(exc: Exception) -> str:
    """The cause of an error without the file's path, which the caller adds."""
    text = getattr(exc, "strerror", None) or str(exc)
    return printable(str(text).strip()) or type(exc).__name__
