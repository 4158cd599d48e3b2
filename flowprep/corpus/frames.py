"""From stored frames to arrays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flowprep.codec import images
from flowprep.corpus.segments import Segments
from flowprep.corpus.selection import Geometry


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
    top, left, height, width = geometry.window
    for place, shard, rows in segments.image_runs(["rgb"], frames):
        for result, row in zip(out[place], rows[:, 0].tolist(), strict=True):
            whole = images.decode_rgb(segments.image(shard, row), geometry.shape, factor)
            part = whole[top : top + height, left : left + width]
            if geometry.resampling is None:
                result[:] = part[:, ::-1] if geometry.mirror else part
            else:
                from flowprep.codec import resample  # compiled loops: whole frames do not need them

                window = np.ascontiguousarray(part)
                resample.resample_images(window[None], geometry.resampling, result[None])
