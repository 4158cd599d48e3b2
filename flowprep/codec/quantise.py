"""Quantisation: flow to codes (0-255) and codes to flow. All rounding rules and tables are in this module.

Codes are linear in displacement: `v = (code - zero_point) * scale`, in pixels. A scale and a zero point are
stored with each field. A field is u or v of one pair.

=========  ==============================  ===========  ==================================================
codes      scale                           zero point   code
=========  ==============================  ===========  ==================================================
adaptive   the least that spans the field  whole        round(v / scale) + zero_point, nothing is clipped
fixed      R / 127                         128          round(v / scale) + 128, v clipped to [-R, R]
tsn        2 R / 255                       127.5        round(255 (v + R) / (2 R)), v clipped to [-R, R]
=========  ==============================  ===========  ==================================================

Ties round to the even number. With adaptive and fixed codes, the code `zero_point` means no motion and
decodes to exactly 0. `tsn` is the formula of older tools. Its code for no motion is 128 and decodes to
R / 255.

Codes are stored as a grey JPEG, which changes them where there is motion, or as a PNG, which does not. The
JPEG of adaptive codes is made for flow (see `_adaptive_jpeg`). Its error does not depend on the range of the
field, and blocks without motion decode to exactly 0.

Source of the method (scale linearly to 0-255, store as JPEG, undo the scale after decoding): Simonyan and
Zisserman, "Two-stream convolutional networks for action recognition in videos", 2014, section 5.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flowprep.codec.images import decode_codes, encode_image, encode_png
from flowprep.errors import EngineError, UsageError
from flowprep.settings import MAX_SIDE, Settings

# Least scale of adaptive codes, pixels. Flow is not precise enough for finer codes.
LEAST_SCALE = 1e-5
# The JPEG of adaptive codes stores displacements shorter than this as 0: they are mostly noise of the solver.
# Then about 98% of the pixels under 0.05 px decode to exactly 0; a smaller dead zone gives fewer.
DEAD_ZONE_PX = 0.09
# Bytes of a field's scale and zero point, two float32.
SIDE_BYTES = 8


class EncodedField(NamedTuple):
    """One displacement component of one pair, encoded.

    Attributes:
        jpeg: a grey JPEG of the codes, or a PNG if the settings say so.
        scale, zero_point: pixels = (code - zero_point) * scale.
        mean: mean displacement before quantisation, pixels.
        clipped: share of the values outside the range, 0 to 1.
    """

    jpeg: bytes
    scale: float
    zero_point: float
    mean: float
    clipped: float

    @property
    def zero(self) -> float:
        """The old name of `zero_point`. It works one version longer."""
        warnings.warn("zero is deprecated; use zero_point", DeprecationWarning, stacklevel=2)
        return self.zero_point


@dataclass(frozen=True)
class Encoded:
    """Encoded flow, the result of `encode`.

    Attributes:
        fields: u and v of pair 0, u and v of pair 1, ...
        shape: shape of the flow: (2, H, W) or (N, 2, H, W).
    """

    fields: tuple[EncodedField, ...]
    shape: tuple[int, ...]

    @property
    def jpegs(self) -> tuple[bytes, ...]:
        """The JPEG (or PNG) of each field."""
        return tuple(f.jpeg for f in self.fields)

    @property
    def ranges(self) -> npt.NDArray[np.float32]:
        """The displacements of codes 0 and 255, pixels: (fields, 2) float32."""
        ranges = [((0 - f.zero_point) * f.scale, (255 - f.zero_point) * f.scale) for f in self.fields]
        return np.array(ranges, np.float32).reshape(-1, 2)

    @property
    def nbytes(self) -> int:
        """Stored bytes: the images, and the scale and the zero point of each field."""
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
    """Encode flow as it is stored in a shard.

    Args:
        flow: (2, H, W) or (N, 2, H, W) displacements in pixels, finite.
        codes: "adaptive", "fixed" or "tsn"; see the table in `flowprep.codec.quantise`.
        range: R of fixed and tsn codes, pixels.
        error_px: quantisation step of the JPEG of adaptive codes, pixels. On real flow, the mean end-point
            error is about a tenth of it.
        quality: JPEG quality of fixed and tsn codes, 1 to 100.
        codec: "jpeg", or "png", which stores the codes without loss.

    Raises:
        UsageError: the shape is not allowed, or a value is not finite.
        SettingsError: an option has a value that is not allowed.
    """
    settings = Settings(codes=codes, range=range, error_px=error_px, quality=quality, codec=codec)
    array = np.asarray(flow, np.float32)
    sides = array.shape[-2:]
    if array.ndim not in (3, 4) or array.shape[-3] != 2 or min(sides) < 1 or max(sides) > MAX_SIDE:
        raise UsageError(
            f"flow has shape {array.shape}; allowed: (2, H, W) or (N, 2, H, W), sides up to {MAX_SIDE}"
        )
    if not np.isfinite(array).all():
        raise UsageError("flow holds values that are not finite; allowed: finite displacements in pixels")
    pairs = array.reshape(-1, 2, *sides)
    return Encoded(tuple(field for pair in pairs for field in encode_pair(pair, settings)), array.shape)


def decode(encoded: Encoded) -> npt.NDArray[np.float32]:
    """Decode to flow: float32 of `encoded.shape`, pixels."""
    flow = np.empty((len(encoded.fields), *encoded.shape[-2:]), np.float32)
    for out, field in zip(flow, encoded.fields, strict=True):
        decode_field(field.jpeg, field.scale, field.zero_point, out)
    return flow.reshape(encoded.shape)


def encode_pair(flow: npt.NDArray[np.float32], settings: Settings) -> tuple[EncodedField, EncodedField]:
    """Encode u and v of one pair, (2, H, W).

    Raises:
        EngineError: a displacement is not finite.
    """
    u, v = flow
    dead_zone = None
    if settings.codes == "adaptive" and settings.codec == "jpeg":
        dead_zone = u * u + v * v < DEAD_ZONE_PX * DEAD_ZONE_PX
    return encode_field(u, settings, dead_zone), encode_field(v, settings, dead_zone)


def encode_field(
    field: npt.NDArray[np.float32], settings: Settings, dead_zone: npt.NDArray[np.bool_] | None = None
) -> EncodedField:
    """Encode one displacement component.

    Args:
        field: (H, W) displacements, pixels.
        settings: they name the codes and their options.
        dead_zone: (H, W), true where adaptive codes store no motion.

    Raises:
        EngineError: a displacement is not finite.
    """
    low, high = float(field.min()), float(field.max())
    if not math.isfinite(low + high):  # a NaN anywhere makes min and max NaN
        raise EngineError("the flow holds values that are not finite; no code can store them")
    mean = float(field.mean(dtype=np.float64))
    if settings.codes == "adaptive" and settings.codec == "jpeg":
        return EncodedField(*_adaptive_jpeg(field, dead_zone, low, high, settings.error_px), mean, 0.0)
    scale, zero_point = _scale_and_zero_point(low, high, settings)
    clipped = 0.0
    if settings.codes != "adaptive" and max(-low, high) > settings.range:
        limit = settings.range
        clipped = float(np.count_nonzero(np.abs(field) > limit)) / field.size
        field = np.clip(field, -limit, limit)
    codes = np.rint(field * np.float32(1 / scale) + np.float32(zero_point)).astype(np.uint8)
    image = encode_image(codes, settings.quality) if settings.codec == "jpeg" else encode_png(codes)
    return EncodedField(image, scale, zero_point, mean, clipped)


def decode_field(data: bytes, scale: float, zero_point: float, out: npt.NDArray[np.float32]) -> None:
    """Decode one field into `out`, (H, W) float32, pixels.

    Raises:
        CorpusDamaged: the bytes are no image of that size.
    """
    to_pixels(decode_codes(data, (out.shape[0], out.shape[1])), scale, zero_point, out)


def to_pixels(
    codes: npt.NDArray[np.uint8], scale: float, zero_point: float, out: npt.NDArray[np.float32]
) -> None:
    """Write the displacements of codes, pixels, to `out`, which has the same shape."""
    np.subtract(codes, np.float32(zero_point), out=out, dtype=np.float32)
    out *= np.float32(scale)


def _scale_and_zero_point(low: float, high: float, settings: Settings) -> tuple[float, float]:
    """Scale and zero point of the codes for a field from `low` to `high`, pixels."""
    if settings.codes == "adaptive":
        scale, zero_point = _spanning(low, high, LEAST_SCALE)
        return _as_stored(scale), zero_point
    if settings.codes == "fixed":
        return _as_stored(settings.range / 127), 128
    return _as_stored(2 * settings.range / 255), 127.5


def _as_stored(scale: float) -> float:
    """A scale in the precision in which it is stored, so that encoding and decoding use one number."""
    return float(np.float32(scale))


def _spanning(low: float, high: float, least_scale: float) -> tuple[float, int]:
    """The least scale, and its zero point, with which codes 0 to 255 span both a field and 0.

    Args:
        low, high: least and greatest value of the field, pixels.
        least_scale: lower bound of the scale, pixels.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if max(-low / 128, high / 127) <= least_scale:
        return least_scale, 128
    below = min(max(math.floor(255 * -low / (high - low)), 1), 253)
    return min((max(least_scale, -low / z, high / (255 - z)), z) for z in (below, below + 1))


def _adaptive_jpeg(
    field: npt.NDArray[np.float32],
    dead_zone: npt.NDArray[np.bool_] | None,
    low: float,
    high: float,
    error_px: float,
) -> tuple[bytes, float, int]:
    """A JPEG made for flow, its scale and its zero point.

    The energy of flow falls with frequency, so the steps grow with it:
    q[i, j] = error_px / scale (1 + 0.25 (i + j)).

    The first step quantises the DC coefficient, which is 8 times the mean of a block. The step is 1, 2, 4 or
    8 codes. So a block without motion decodes to exactly the zero point, whichever code that is. With 8, the
    usual step, every flat block decodes to a whole code.
    """
    from flowprep.codec import encode_jpeg  # compiled loops: reading a corpus does not have to load them

    # Finer codes would cost bytes. They would also make more pixels beside moving ones move.
    scale, zero_point = _spanning(low, high, max(LEAST_SCALE, error_px / (8 if error_px >= 0.25 else 4)))
    scale = _as_stored(scale)
    step = error_px / scale
    table = np.clip(np.rint(step * (1 + 0.25 * np.add.outer(np.arange(8), np.arange(8)))), 1, 255)
    table[0, 0] = 2 ** max(0, round(math.log2(step)))
    values = field * np.float32(1 / scale)
    if dead_zone is not None:
        values[dead_zone] = 0
    return encode_jpeg.encode(values, zero_point, table.astype(np.int64), step / 2), scale, zero_point
