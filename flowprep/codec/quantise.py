"""Flow to codes (0-255) to JPEG bytes, and back: the one place where a rounding rule or a table lives.

Codes are linear in displacement, `v = (code - zero_point) * scale` in pixels, with a scale and a zero point
stored beside each field (u or v of one pair):

=========  ====================================  ======  ==================================================
codes      scale                                 zero    code
=========  ====================================  ======  ==================================================
adaptive   least that spans the field            whole   round(v / scale) + zero, nothing clipped
fixed      R / 127                               128     round(v / scale) + 128, v clipped to [-R, R]
tsn        2 R / 255                             127.5   round(255 (v + R) / (2 R)), v clipped to [-R, R]
=========  ====================================  ======  ==================================================

Rounding is to the nearest, half to even. With adaptive and fixed codes no motion is the code `zero`, which
stands for exactly 0; `tsn` is the formula of older tools, in which it is code 128 and stands for R / 255.

Codes are stored as grey JPEG, which changes them where something moves, or as PNG, which does not. The JPEG
of adaptive codes is made for flow (`_adaptive_jpeg`): its error is a number of pixels whatever the field's
range, and blocks in which nothing moves decode to exactly 0.

Rescaling flow linearly to 0-255, storing it as JPEG and undoing the scale after decoding is the method of
Simonyan and Zisserman, "Two-stream convolutional networks for action recognition in videos", 2014, sec. 5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from flowprep.errors import CorpusDamaged, EngineError, UsageError
from flowprep.settings import MAX_RANGE, MAX_SIDE, Settings

# Adaptive codes' scale in pixels is never less: finer codes say nothing about flow.
LEAST_SCALE = 1e-5
# Displacements under this many pixels are stored as none in the JPEG of adaptive codes: mostly the solver's
# noise. Of the pixels under .05 px some 98% then decode to exactly 0; a smaller limit leaves fewer.
DEAD_ZONE_PX = 0.09
# Cost of a field's scale and zero point, as two float32.
SIDE_BYTES = 8


class EncodedField(NamedTuple):
    """One displacement component of one pair, encoded.

    Attributes:
        jpeg: a grey JPEG of the codes; a PNG if the settings' codec says so.
        scale, zero_point: pixels = (code - zero_point) * scale.
        mean: mean displacement before quantisation, pixels.
        clipped: share of the values that lay outside the range, 0 to 1.
    """

    jpeg: bytes
    scale: float
    zero_point: float
    mean: float
    clipped: float


@dataclass(frozen=True)
class Encoded:
    """Encoded flow, as `encode` returns it.

    Attributes:
        fields: u and v of pair 0, u and v of pair 1, ...
        shape: that of the flow: (2, H, W) or (N, 2, H, W).
    """

    fields: tuple[EncodedField, ...]
    shape: tuple[int, ...]

    @property
    def jpegs(self) -> tuple[bytes, ...]:
        """The JPEG (or PNG) of each field."""
        return tuple(f.jpeg for f in self.fields)

    @property
    def ranges(self) -> npt.NDArray[np.float32]:
        """Displacements, in pixels, that codes 0 and 255 stand for: (fields, 2) float32."""
        pairs = [((0 - f.zero_point) * f.scale, (255 - f.zero_point) * f.scale) for f in self.fields]
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
    codec: str = "jpeg",
) -> Encoded:
    """Encode flow just as it is stored in a shard.

    Args:
        flow: (2, H, W) or (N, 2, H, W) displacements in pixels, finite.
        codes: "adaptive", "fixed" or "tsn" (the table at the top of flowprep.codec.quantise).
        range: R of fixed and tsn codes, pixels.
        error_px: quantisation step of adaptive codes' JPEG, pixels; the mean end-point error comes to about
            an eighth of it on real flow.
        quality: JPEG quality of fixed and tsn codes, 1 to 100.
        codec: "jpeg", or "png", which stores the codes without loss.

    Raises:
        UsageError: the array has another shape or values that are not finite, or an option has a value that
            is not allowed.
    """
    settings = Settings(codes=codes, range=range, error_px=error_px, quality=quality, codec=codec)
    array = np.asarray(flow, np.float32)
    sides = array.shape[-2:]
    if array.ndim not in (3, 4) or array.shape[-3] != 2 or min(sides) < 1 or max(sides) > MAX_SIDE:
        raise UsageError(
            f"flow has shape {array.shape}; allowed: (2, H, W) or (N, 2, H, W), sides up to {MAX_SIDE}"
        )
    if not np.isfinite(array).all():
        raise UsageError("flow holds values that are not finite; no code stands for them")
    pairs = array.reshape(-1, 2, *sides)
    return Encoded(tuple(field for pair in pairs for field in encode_pair(pair, settings)), array.shape)


def decode(encoded: Encoded) -> npt.NDArray[np.float32]:
    """The flow again: float32 of `encoded.shape`, pixels."""
    flow = np.empty((len(encoded.fields), *encoded.shape[-2:]), np.float32)
    for out, field in zip(flow, encoded.fields, strict=True):
        decode_field(field.jpeg, field.scale, field.zero_point, out)
    return flow.reshape(encoded.shape)


def encode_pair(flow: npt.NDArray[np.float32], settings: Settings) -> tuple[EncodedField, EncodedField]:
    """Encode u and v of one pair, (2, H, W), with the settings' codes.

    Raises:
        EngineError: a displacement is not finite.
    """
    u, v = flow
    still = None
    if settings.codes == "adaptive" and settings.codec == "jpeg":
        still = u * u + v * v < DEAD_ZONE_PX * DEAD_ZONE_PX
    return encode_field(u, settings, still), encode_field(v, settings, still)


def encode_field(
    field: npt.NDArray[np.float32], settings: Settings, still: npt.NDArray[np.bool_] | None = None
) -> EncodedField:
    """Encode one (H, W) displacement component with the settings' codes, values at `still` as 0.

    Raises:
        EngineError: a displacement is not finite.
    """
    low, high = float(field.min()), float(field.max())
    if not math.isfinite(low + high):  # a NaN anywhere makes min and max NaN
        raise EngineError("the flow holds values that are not finite; no code stands for them")
    mean = float(field.mean(dtype=np.float64))
    zero_point: float
    if settings.codes == "adaptive":
        if settings.codec == "jpeg":
            return EncodedField(*_adaptive_jpeg(field, still, low, high, settings.error_px), mean, 0.0)
        scale, zero_point = _span(low, high, LEAST_SCALE)
        limit = math.inf
    else:
        limit = settings.range
        scale, zero_point = (limit / 127, 128) if settings.codes == "fixed" else (2 * limit / 255, 127.5)
    scale = _as_stored(scale)
    clipped = 0.0
    if max(-low, high) > limit:
        clipped = float(np.count_nonzero(np.abs(field) > limit)) / field.size
        field = np.clip(field, -limit, limit)
    codes = np.rint(field * np.float32(1 / scale) + np.float32(zero_point)).astype(np.uint8)
    image = encode_image(codes, settings.quality) if settings.codec == "jpeg" else _png(codes)
    return EncodedField(image, scale, zero_point, mean, clipped)


def outside(flow: npt.NDArray[np.float32], settings: Settings) -> npt.NDArray[np.int64]:
    """How many values fixed and tsn codes clip, counted by the whole range that would hold each, pixels."""
    if settings.codes == "adaptive":
        return np.zeros(MAX_RANGE + 1, np.int64)
    size = np.abs(flow)
    needed = np.ceil(np.minimum(size[size > settings.range], MAX_RANGE)).astype(np.int64)
    return np.bincount(needed, minlength=MAX_RANGE + 1)


def clipping_warning(counts: npt.NDArray[np.int64], values: int, settings: Settings) -> str:
    """What is wrong with the range, and the right one, if it clips more than 1% of a video; else "".

    Args:
        counts: sums of `outside` over the video.
        values: how many there are in all.
        settings: those with which they are clipped.
    """
    if counts.sum() <= 0.01 * values:
        return ""
    beyond = counts[::-1].cumsum()[::-1]  # clipped by a range of one pixel less
    right = int(np.argmax(np.append(beyond[1:], 0) <= 0.001 * values))
    return (
        f"{counts.sum() / values:.1%} of its displacements are clipped to +-{settings.range:g} px;"
        f" range {right} would clip at most 0.1%"
    )


def decode_field(jpeg: bytes, scale: float, zero_point: float, out: npt.NDArray[np.float32]) -> None:
    """Decode one field into `out`, (H, W) float32, in pixels.

    Raises:
        CorpusDamaged: the bytes are no JPEG of that size.
    """
    to_pixels(decode_codes(jpeg, (out.shape[0], out.shape[1])), scale, zero_point, out)


def to_pixels(
    codes: npt.NDArray[np.uint8], scale: float, zero_point: float, out: npt.NDArray[np.float32]
) -> None:
    """What codes stand for, in pixels, into `out` of their shape."""
    np.subtract(codes, np.float32(zero_point), out=out, dtype=np.float32)
    out *= np.float32(scale)


def decode_codes(jpeg: bytes, shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Codes of a grey JPEG: (H, W) uint8. Raises CorpusDamaged as `decode_field`."""
    return _decode(jpeg, cv2.IMREAD_GRAYSCALE, shape)


def decode_rgb(jpeg: bytes, shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """A colour JPEG: (H, W, 3) uint8, RGB. Raises CorpusDamaged as `decode_field`."""
    return _decode(jpeg, cv2.IMREAD_COLOR_RGB, shape)


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


def _png(codes: npt.NDArray[np.uint8]) -> bytes:
    done, png = cv2.imencode(".png", codes, [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE])
    if not done:
        raise EngineError(f"an image of shape {codes.shape} cannot be stored as PNG")
    return bytes(png)


def _as_stored(scale: float) -> float:
    """A scale in the precision in which it is stored, so that both directions use the same number."""
    return float(np.float32(scale))


def _span(low: float, high: float, least: float) -> tuple[float, int]:
    """The scale, from `least` on, and the zero_point with which codes 0 to 255 span a field and 0.

    Args:
        low, high: smallest and largest value of the field, pixels.
        least: least scale, pixels.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if max(-low / 128, high / 127) <= least:
        return least, 128
    below = min(max(math.floor(255 * -low / (high - low)), 1), 253)
    return min(
        (max(least, -low / zero_point, high / (255 - zero_point)), zero_point)
        for zero_point in (below, below + 1)
    )


def _adaptive_jpeg(
    field: npt.NDArray[np.float32],
    still: npt.NDArray[np.bool_] | None,
    low: float,
    high: float,
    error_px: float,
) -> tuple[bytes, float, int]:
    """A JPEG made for flow, its scale and its zero point.

    Steps grow with frequency as flow's energy falls with it: q[i, j] = error_px / scale (1 + 0.25 (i + j)).
    The first step, of 8 times a block's mean, is 1, 2, 4 or 8 codes: so a still block decodes to exactly the
    zero_point, whichever code that is, and with 8, the usual one, every flat block to a whole code.
    """
    from flowprep.codec import encode_jpeg  # compiled loops, which who only reads does not have to load

    # Finer codes would cost bytes, and leave fewer still pixels beside moving ones still.
    scale, zero_point = _span(low, high, max(LEAST_SCALE, error_px / (8 if error_px >= 0.25 else 4)))
    scale = _as_stored(scale)
    step = error_px / scale
    table = np.clip(np.rint(step * (1 + 0.25 * np.add.outer(np.arange(8), np.arange(8)))), 1, 255)
    table[0, 0] = 2 ** max(0, round(math.log2(step)))
    values = field * np.float32(1 / scale)
    if still is not None:
        values[still] = 0
    return encode_jpeg.encode(values, zero_point, table.astype(np.int64), step / 2), scale, zero_point
