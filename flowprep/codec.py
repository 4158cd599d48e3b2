"""Flow to codes (0-255) to JPEG bytes, and back: the one place where a rounding rule or a table lives.

Codes are linear in displacement, `v = (code - zero) * scale` in pixels, with a scale and a zero stored
beside each field (u or v of one pair):

=========  ====================================  ======  ==================================================
codes      scale                                 zero    code
=========  ====================================  ======  ==================================================
adaptive   max|v| / 127, per field               128     round(v / scale) + 128, nothing clipped
fixed      R / 127                               128     round(v / scale) + 128, v clipped to [-R, R]
tsn        2 R / 255                             127.5   round(255 (v + R) / (2 R)), v clipped to [-R, R]
=========  ====================================  ======  ==================================================

Rounding is to the nearest, half to even. With adaptive and fixed codes no motion is code 128, which stands
for exactly 0; `tsn` is the formula of older tools, in which it is code 128 and stands for R / 255. JPEG
then changes codes in blocks where something moves; blocks that are still as a whole stay exactly so.

Rescaling flow linearly to 0-255, storing it as JPEG and undoing the scale after decoding is the method of
Simonyan and Zisserman, "Two-stream convolutional networks for action recognition in videos", 2014, sec. 5.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from flowprep.errors import CorpusDamaged, EngineError, UsageError
from flowprep.settings import MAX_SIDE, Settings

# A field that never leaves +-LEAST px is stored as if it reached it: its codes mean nothing finer.
LEAST = 1e-3
# Cost of a field's scale and zero, as two float32.
SIDE_BYTES = 8


class Field(NamedTuple):
    """One displacement component of one pair, encoded.

    Attributes:
        jpeg: a grey JPEG of the codes.
        scale, zero: pixels = (code - zero) * scale.
        mean: mean displacement before quantisation, pixels.
        clipped: share of the values that lay outside the range, 0 to 1.
    """

    jpeg: bytes
    scale: float
    zero: float
    mean: float
    clipped: float


@dataclass(frozen=True)
class Encoded:
    """Encoded flow, as `encode` returns it.

    Attributes:
        fields: u and v of pair 0, u and v of pair 1, ...
        shape: that of the flow: (2, H, W) or (N, 2, H, W).
    """

    fields: tuple[Field, ...]
    shape: tuple[int, ...]

    @property
    def jpegs(self) -> tuple[bytes, ...]:
        """The JPEG of each field."""
        return tuple(f.jpeg for f in self.fields)

    @property
    def ranges(self) -> npt.NDArray[np.float32]:
        """Displacements, in pixels, that codes 0 and 255 stand for: (fields, 2) float32."""
        pairs = [((0 - f.zero) * f.scale, (255 - f.zero) * f.scale) for f in self.fields]
        return np.array(pairs, np.float32).reshape(-1, 2)

    @property
    def nbytes(self) -> int:
        """Bytes stored: the JPEGs, and scale and zero of each field."""
        return sum(len(f.jpeg) + SIDE_BYTES for f in self.fields)


def encode(
    flow: npt.ArrayLike,
    codes: str = "adaptive",
    *,
    range: float = 20.0,
    error_px: float = 0.4,
    quality: int = 95,
) -> Encoded:
    """Encode flow just as it is stored in a shard.

    Args:
        flow: (2, H, W) or (N, 2, H, W) displacements in pixels, finite.
        codes: "adaptive", "fixed" or "tsn" (the table at the top of flowprep.codec).
        range: R of fixed and tsn codes, pixels.
        error_px: adaptive codes' quantisation step, pixels; the mean end-point error comes to about an
            eighth of it on real flow.
        quality: JPEG quality of fixed and tsn codes, 1 to 100.

    Raises:
        UsageError: the array has another shape or values that are not finite, or an option has a value that
            is not allowed.
    """
    settings = Settings(codes=codes, range=range, error_px=error_px, quality=quality)
    array = np.asarray(flow, np.float32)
    sides = array.shape[-2:]
    if array.ndim not in (3, 4) or array.shape[-3] != 2 or min(sides) < 1 or max(sides) > MAX_SIDE:
        raise UsageError(
            f"flow has shape {array.shape}; allowed: (2, H, W) or (N, 2, H, W), sides up to {MAX_SIDE}"
        )
    if not np.isfinite(array).all():
        raise UsageError("flow holds values that are not finite; no code stands for them")
    fields = array.reshape(-1, *array.shape[-2:])
    return Encoded(tuple(encode_field(f, settings) for f in fields), array.shape)


def decode(encoded: Encoded) -> npt.NDArray[np.float32]:
    """The flow again: float32 of `encoded.shape`, pixels."""
    flow = np.empty((len(encoded.fields), *encoded.shape[-2:]), np.float32)
    for out, field in zip(flow, encoded.fields, strict=True):
        decode_field(field.jpeg, field.scale, field.zero, out)
    return flow.reshape(encoded.shape)


def encode_field(field: npt.NDArray[np.float32], settings: Settings) -> Field:
    """Encode one (H, W) displacement component with the settings' codes.

    Raises:
        EngineError: a displacement is not finite.
    """
    largest = float(max(-field.min(), field.max()))
    if not np.isfinite(largest):  # a NaN anywhere makes min and max NaN
        raise EngineError("the flow holds values that are not finite; no code stands for them")
    mean = float(field.mean(dtype=np.float64))
    clipped = 0.0
    if settings.codes == "adaptive":
        scale, zero = max(largest, LEAST) / 127, 128.0
    else:
        limit = settings.range
        if largest > limit:
            clipped = float(np.count_nonzero(np.abs(field) > limit)) / field.size
            field = np.clip(field, -limit, limit)
        scale, zero = (limit / 127, 128.0) if settings.codes == "fixed" else (2 * limit / 255, 127.5)
    scale = float(np.float32(scale))  # as it is stored, so that both directions use the same number
    codes = np.rint(field * np.float32(1 / scale) + np.float32(zero)).astype(np.uint8)
    if settings.codes == "adaptive":
        jpeg = _jpeg_with_table(codes, _table(settings.error_px / scale))
    else:
        jpeg = encode_image(codes, settings.quality)
    return Field(jpeg, scale, zero, mean, clipped)


def decode_field(jpeg: bytes, scale: float, zero: float, out: npt.NDArray[np.float32]) -> None:
    """Decode one field into `out`, (H, W) float32, in pixels.

    Raises:
        CorpusDamaged: the bytes are no JPEG of that size.
    """
    codes = decode_codes(jpeg, (out.shape[0], out.shape[1]))
    np.subtract(codes, np.float32(zero), out=out, dtype=np.float32)
    out *= np.float32(scale)


def decode_codes(jpeg: bytes, shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Codes of a grey JPEG: (H, W) uint8. Raises CorpusDamaged as `decode_field`."""
    return _decode(jpeg, cv2.IMREAD_GRAYSCALE, shape)


def decode_rgb(jpeg: bytes, shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """A colour JPEG: (H, W, 3) uint8, RGB. Raises CorpusDamaged as `decode_field`."""
    bgr = _decode(jpeg, cv2.IMREAD_COLOR, shape)
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=bgr), np.uint8)


def encode_rgb(rgb: npt.NDArray[np.uint8], quality: int) -> bytes:
    """A (H, W, 3) RGB frame as a colour JPEG (4:2:0)."""
    return encode_image(np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), np.uint8), quality)


def encode_image(image: npt.NDArray[np.uint8], quality: int) -> bytes:
    """(H, W) grey or (H, W, 3) BGR as a baseline JPEG with the standard tables."""
    done, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise EngineError(f"an image of shape {image.shape} cannot be stored as JPEG")
    return bytes(jpeg)


def _decode(jpeg: bytes, flags: int, shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), flags) if len(jpeg) else None
    if image is None:
        raise CorpusDamaged(f"{len(jpeg)} bytes that are no whole JPEG")
    if image.shape[:2] != shape:
        raise CorpusDamaged(f"a JPEG of {image.shape[1]}x{image.shape[0]}, not {shape[1]}x{shape[0]} pixels")
    return np.asarray(image, np.uint8)


def _table(step: float) -> list[int]:
    """Quantisation table for a step of `step` codes at the lowest frequencies, in row order.

    q[i, j] = step (1 + 0.4 (i + j)): since `step` is a number of pixels over the field's scale, the error
    comes out the same in pixels whatever the field's range. Steps grow with frequency as flow's energy
    falls with it.
    """
    i, j = np.mgrid[:8, :8]
    return [int(q) for q in np.clip(np.rint(step * (1 + 0.4 * (i + j))), 1, 255).ravel()]


def _jpeg_with_table(codes: npt.NDArray[np.uint8], table: Sequence[int]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(codes).save(file, "JPEG", qtables=[list(table)], optimize=True)
    return file.getvalue()
