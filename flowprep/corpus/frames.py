"""From stored frames to arrays."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from flowprep.codec import images
from flowprep.corpus.segments import Segments
from flowprep.corpus.selection import Geometry
from flowprep.corpus.shard_reader import Shard


def read_frame(
    segments: Segments, frame: npt.NDArray[np.int64], factor: int, geometry: Geometry
) -> npt.NDArray[np.uint8]:
    """Decode one frame, (1,), to a new array, (*geometry.size, 3). A whole frame is not copied.

    The arguments and errors are those of `read_frames`.
    """
    if geometry.resampling is None:
        ((_, shard, rows),) = segments.image_runs(["rgb"], frame)
        window = _decode(segments, shard, int(rows[0, 0]), factor, geometry)
        if not geometry.mirror:
            return np.ascontiguousarray(window)
    out = np.empty((*geometry.size, 3), np.uint8)
    read_frames(segments, frame, factor, geometry, out[None])
    return out


def read_frames(
    segments: Segments,
    frames: npt.NDArray[np.int64],
    factor: int,
    geometry: Geometry,
    out: npt.NDArray[np.uint8],
) -> None:
    """Decode frames.

    Args:
        segments: those of the video.
        frames: (n,).
        factor: decode pictures that are smaller by this factor: 1, 2, 4 or 8.
        geometry: the part of each picture of that size.
        out: (n, *geometry.size, 3), which is filled.

    Raises:
        CorpusDamaged: an image does not match its checksum, or is not whole.
    """
    for place, shard, rows in segments.image_runs(["rgb"], frames):
        for result, row in zip(out[place], rows[:, 0].tolist(), strict=True):
            window = _decode(segments, shard, row, factor, geometry)
            if geometry.resampling is None and geometry.mirror:
                cv2.flip(window, 1, result)  # five times as fast as a copy by NumPy
            elif geometry.resampling is None:
                result[:] = window
            else:
                from flowprep.codec import resample  # compiled loops: whole frames do not need them

                resample.resample_images(window[None], geometry.resampling, result[None])


def _decode(
    segments: Segments, shard: Shard, row: int, factor: int, geometry: Geometry
) -> npt.NDArray[np.uint8]:
    """The window of a frame, a part of the decoded picture, not mirrored."""
    top, left, height, width = geometry.window
    whole = images.decode_rgb(segments.image(shard, row), geometry.shape, factor)
    return whole[top : top + height, left : left + width]
