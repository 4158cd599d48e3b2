"""From stored fields to arrays: codes and displacements, many fields at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from flowprep.codec import images
from flowprep.corpus.segments import Segments
from flowprep.corpus.selection import Geometry
from flowprep.corpus.shard_reader import Shard

_CACHE_BYTES = 1 << 18  # of decoded codes before they are resampled: they stay in the processor's cache


def read_codes(
    segments: Segments,
    streams: Sequence[str],
    pairs: npt.NDArray[np.int64],
    geometry: Geometry,
    out: npt.NDArray[np.uint8],
) -> None:
    """Decode fields to codes.

    Args:
        segments: those of the video.
        streams: the streams of u and of v.
        pairs: (n,).
        geometry: the part of each field.
        out: (n, 2, *geometry.size), which is filled.

    Raises:
        CorpusDamaged: an image does not match its checksum, or is not whole.
    """
    if geometry.resampling is None:
        for place, shard, rows in segments.image_runs(streams, pairs):
            _decode(segments, shard, rows.ravel(), geometry, out[place].reshape(-1, *geometry.size))
        return
    from flowprep.codec import resample

    results = out.reshape(-1, *geometry.size)
    for place, codes in _decoded(segments, streams, pairs, geometry):
        resample.resample_images(codes, geometry.resampling, results[place])


def read_flow(
    segments: Segments,
    streams: Sequence[str],
    pairs: npt.NDArray[np.int64],
    geometry: Geometry,
    quant_params: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
    out: npt.NDArray[np.float32],
) -> None:
    """Decode fields to displacements.

    Args:
        segments, streams, pairs, geometry: as of `read_codes`.
        quant_params: scale and zero point, each (n, 2).
        out: (n, 2, *geometry.size), which is filled.

    Raises:
        CorpusDamaged: as `read_codes`.
    """
    from flowprep.codec import resample

    results = out.reshape(-1, *geometry.size)
    scale, zero_point = (values.ravel() for values in quant_params)
    for place, codes in _decoded(segments, streams, pairs, geometry):
        values = scale[place], zero_point[place], results[place]
        if geometry.resampling is None:
            resample.to_pixels(codes, *values)
        else:
            resample.resample_flow(codes, geometry.resampling, *values)


def _decoded(
    segments: Segments, streams: Sequence[str], pairs: npt.NDArray[np.int64], geometry: Geometry
) -> Iterator[tuple[slice, npt.NDArray[np.uint8]]]:
    """Decode the window of some fields at a time: their place among all fields, and their codes."""
    height, width = geometry.window[2:]
    at_once = max(1, _CACHE_BYTES // max(1, height * width))
    scratch = np.empty((min(at_once, len(pairs) * len(streams)), height, width), np.uint8)
    for place, shard, rows in segments.image_runs(streams, pairs):
        first, fields = place.start * len(streams), rows.ravel()
        for begin in range(0, len(fields), at_once):
            chunk = fields[begin : begin + at_once]
            codes = scratch[: len(chunk)]
            _decode(segments, shard, chunk, geometry, codes)
            yield slice(first + begin, first + begin + len(chunk)), codes


def _decode(
    segments: Segments,
    shard: Shard,
    rows: npt.NDArray[np.int64],
    geometry: Geometry,
    out: npt.NDArray[np.uint8],
) -> None:
    """Decode the window of fields of one shard to `out`, (rows, height, width)."""
    top, left, height, width = geometry.window
    mirror = geometry.mirror and geometry.resampling is None  # filters mirror themselves
    for codes, row in zip(out, rows.tolist(), strict=True):
        whole = images.decode_codes(segments.image(shard, row), geometry.shape)
        part = whole[top : top + height, left : left + width]
        codes[:] = part[:, ::-1] if mirror else part
