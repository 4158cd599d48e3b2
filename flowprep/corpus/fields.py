"""From stored fields to arrays: codes and displacements, many fields at once."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flowprep.codec import images, quantise
from flowprep.corpus.segments import Segments
from flowprep.corpus.selection import Geometry, Size
from flowprep.corpus.shard_reader import Shard

# OpenCV decodes the first fields of a process. To load the compiled decoder takes as long as 10,000 of them,
# and to compile it, once on a machine, as long as 300,000.
_BEFORE_LOADING = 1000
_DECODER = "flowprep.codec.decode_jpeg"
_seen = 0

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
            _decode(segments, _Fields.locate(shard, rows), geometry, out[place].reshape(-1, *geometry.size))
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
    results = out.reshape(-1, *geometry.size)
    scale, zero_point = (values.ravel() for values in quant_params)
    for place, codes in _decoded(segments, streams, pairs, geometry):
        values = scale[place], zero_point[place], results[place]
        if geometry.resampling is None and not _is_loaded():
            for field in zip(codes, *values, strict=True):
                quantise.to_pixels(*field)
            continue
        from flowprep.codec import resample

        if geometry.resampling is None:
            resample.to_pixels(codes, *values)
        else:
            resample.resample_flow(codes, geometry.resampling, *values)


def not_decoded(shard: Shard, rows: npt.NDArray[np.int64], shape: Size) -> Iterator[int]:
    """The fields that need a library, or are damaged. All others are whole, and match their checksums.

    Args:
        shard: the shard.
        rows: (n,) of its table of images.
        shape: (height, width) of a field.
    """
    fields, at_once = _Fields.locate(shard, rows), _at_once(*shape)
    scratch = np.empty((min(at_once, len(rows)), *shape), np.uint8)
    for begin in range(0, len(rows), at_once):
        part = fields.part(begin, begin + at_once)
        places = part.decode(shape, (0, 0, *shape), scratch[: len(part.rows)])
        yield from part.rows[places].tolist()


def _is_loaded() -> bool:
    return _DECODER in sys.modules


def _at_once(height: int, width: int) -> int:
    """The number of decoded fields that stay in the processor's cache; 1 if one is too large."""
    return max(1, _CACHE_BYTES // max(1, height * width))


def _decoded(
    segments: Segments, streams: Sequence[str], pairs: npt.NDArray[np.int64], geometry: Geometry
) -> Iterator[tuple[slice, npt.NDArray[np.uint8]]]:
    """Decode the window of some fields at a time: their place among all fields, and their codes."""
    height, width = geometry.window[2:]
    at_once = _at_once(height, width)
    scratch = np.empty((min(at_once, len(pairs) * len(streams)), height, width), np.uint8)
    for place, shard, rows in segments.image_runs(streams, pairs):
        first, fields = place.start * len(streams), _Fields.locate(shard, rows)
        for begin in range(0, rows.size, at_once):
            end = min(begin + at_once, rows.size)
            codes = scratch[: end - begin]
            _decode(segments, fields.part(begin, end), geometry, codes)
            yield slice(first + begin, first + end), codes


class _Fields(NamedTuple):
    """Fields of one shard: their rows in its table of images, and their places in its file. Each is (n,)."""

    shard: Shard
    rows: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    checksums: npt.NDArray[np.int64]

    @classmethod
    def locate(cls, shard: Shard, rows: npt.NDArray[np.int64]) -> _Fields:
        """Find fields in the file. If the table ends before one of them, no field is in the file."""
        rows = rows.ravel()
        try:
            return cls(shard, rows, *shard.locate(rows))
        except IndexError:
            nowhere = np.full(len(rows), -1)
            return cls(shard, rows, nowhere, nowhere, nowhere)

    def part(self, begin: int, end: int) -> _Fields:
        """Some of the fields."""
        return _Fields(self.shard, *(values[begin:end] for values in self[1:]))

    def decode(
        self, shape: Size, window: tuple[int, int, int, int], out: npt.NDArray[np.uint8], mirror: bool = False
    ) -> npt.NDArray[np.int64]:
        """Decode the window of fields of a shape to `out`, (n, height, width).

        Returns:
            The places of the fields that were not decoded: they are damaged, or need a library.
        """
        global _seen
        if not _is_loaded() and _seen + len(self.rows) <= _BEFORE_LOADING:
            _seen += len(self.rows)
            return np.arange(len(self.rows))
        from flowprep.codec.decode_jpeg import decode_fields

        where = self.offsets, self.sizes, self.checksums
        return np.flatnonzero(decode_fields(self.shard.data, *where, shape, window, out, mirror))


def _decode(segments: Segments, fields: _Fields, geometry: Geometry, out: npt.NDArray[np.uint8]) -> None:
    """Decode the window of fields to `out`, (fields, height, width)."""
    top, left, height, width = geometry.window
    mirror = geometry.mirror and geometry.resampling is None  # filters mirror themselves
    for k in fields.decode(geometry.shape, geometry.window, out, mirror).tolist():
        # It is damaged, or a PNG, or a JPEG of another program.
        whole = images.decode_codes(segments.image(fields.shard, int(fields.rows[k])), geometry.shape)
        part = whole[top : top + height, left : left + width]
        out[k] = part[:, ::-1] if mirror else part
