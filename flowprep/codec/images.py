"""Images in memory as JPEG or PNG bytes, and back, by OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from flowprep.errors import CorpusDamaged, EngineError

# By factor. OpenCV has no reduced decoding to RGB.
_COLOUR_FLAGS = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


def encode_rgb(rgb: npt.NDArray[np.uint8], quality: int) -> bytes:
    """Encode a (H, W, 3) RGB frame as a colour JPEG (4:2:0)."""
    return encode_image(np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), np.uint8), quality)


def encode_image(image: npt.NDArray[np.uint8], quality: int) -> bytes:
    """Encode (H, W) grey or (H, W, 3) BGR as a baseline JPEG with the standard tables.

    Raises:
        EngineError: OpenCV cannot encode it.
    """
    return _encode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])


def encode_png(codes: npt.NDArray[np.uint8]) -> bytes:
    """Encode (H, W) codes as a PNG, without loss.

    Raises:
        EngineError: OpenCV cannot encode it.
    """
    return _encode(".png", codes, [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE])


def decode_codes(data: bytes, shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Decode a grey JPEG or PNG to codes: (H, W) uint8.

    Raises:
        CorpusDamaged: the bytes are no whole image, or its size is not `shape`.
    """
    return _decode(data, cv2.IMREAD_GRAYSCALE, shape)


def decode_rgb(data: bytes, shape: tuple[int, int], factor: int = 1) -> npt.NDArray[np.uint8]:
    """Decode a colour JPEG to (H, W, 3) uint8, RGB.

    Args:
        data: the JPEG.
        shape: (H, W) of the result.
        factor: 2, 4 or 8: decode to means over squares of that side, in less time. The last ones of a row or
            a column may be narrower.

    Raises:
        CorpusDamaged: the bytes are no whole image, or its size is not `shape`.
    """
    image = _decode(data, _COLOUR_FLAGS[factor], shape)
    return image if factor == 1 else np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def _encode(suffix: str, image: npt.NDArray[np.uint8], options: list[int]) -> bytes:
    done, data = cv2.imencode(suffix, image, options)
    if not done:
        raise EngineError(f"an image of shape {image.shape} cannot be stored as {suffix[1:].upper()}")
    return bytes(data)


def _decode(data: bytes, flags: int, shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if len(data) else None
    except cv2.error as exc:  # such as more pixels than OpenCV accepts
        raise CorpusDamaged(f"{len(data)} bytes that OpenCV refuses: {exc}") from exc
    if image is None:
        raise CorpusDamaged(f"{len(data)} bytes that are not a complete JPEG or PNG")
    if image.shape[:2] != shape:
        raise CorpusDamaged(
            f"an image of {image.shape[1]}x{image.shape[0]}, not {shape[1]}x{shape[0]} pixels"
        )
    return np.asarray(image, np.uint8)
