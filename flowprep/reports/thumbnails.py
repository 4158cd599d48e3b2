"""Repeated frames and scene cuts, from small copies of the stored frames.

A thumbnail has a short side of 32 pixels. JPEG decoders make one without the full picture, so a frame takes a
fraction of a millisecond. All figures are in grey levels of 8 bits, and do not depend on the stored size.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from flowprep.corpus.video import Video
from flowprep.errors import CorpusDamaged
from flowprep.viz.repeats import LUMA, REPEATED_MEAN, REPEATED_MOST, SIDE

_LONGEST = 128  # pixels, the long side of a thumbnail

# A cut needs a residual of at least this many levels, of this share of the contrast on average and in half of
# the picture, and this many times the median residual of the pairs around it. Noise and darkness fail the
# first condition, a thing that moves fast the third, and a camera that moves fast the last.
CUT_LEVELS, CUT_CONTRAST, CUT_HALF, CUT_TIMES = 8.0, 0.35, 0.3, 2.0
_BLACK = 24  # levels; what is darker in both pictures says nothing, such as bars
_AROUND = 5  # pairs on each side
_REACH = 5  # pixels of a thumbnail that things can move from a frame to the next: a sixth of the short side
_BOX = 7  # pixels, the side of a block that moves as one
_RETURN = 2  # frames after which a flash may be over
_CHUNK = 2048  # frames in memory

Thumbnails = NDArray[np.uint8]  # (N, h, w, 3)


class FrameChanges(NamedTuple):
    """What happens from each frame to the next.

    Attributes:
        repeated: (N - 1,) bool: the next frame shows the same picture.
        cuts: (N - 1,) bool: the next frame belongs to another scene. A cut with a mixed frame in between is
            two of them.
    """

    repeated: NDArray[np.bool_]
    cuts: NDArray[np.bool_]

    @property
    def num_cuts(self) -> int:
        """Number of cuts; neighbours are one."""
        return int(self.cuts[:1].sum() + (self.cuts[1:] & ~self.cuts[:-1]).sum())


def frame_changes(video: Video) -> FrameChanges:
    """Look at all frames of a video. Memory does not grow with its length.

    Raises:
        OutOfRange: the corpus has no frames.
        CorpusDamaged: a frame does not match its checksum.
    """
    parts = []
    for first in range(0, video.num_frames - 1, _CHUNK):
        last = min(first + _CHUNK, video.num_frames - 1)  # pairs, from `first` on
        margin = min(first, _RETURN)
        end = min(video.num_frames, last + 1 + _RETURN)
        thumbnails = np.stack([thumbnail(video, i) for i in range(first - margin, end)])
        parts.append([column[margin : margin + last - first] for column in _measure(thumbnails)])
    if not parts:
        return FrameChanges(np.zeros(0, bool), np.zeros(0, bool))
    repeated, residuals, differs = map(np.concatenate, zip(*parts, strict=True))
    cuts = differs & (residuals >= CUT_TIMES * _usual(residuals, repeated, differs))
    return FrameChanges(repeated, cuts)


def thumbnail(video: Video, index: int) -> Thumbnails:
    """A small copy of a stored frame, (h, w, 3), blue first."""
    short = min(video.width, video.height)
    factor = next(factor for factor in (8, 4, 2, 1) if factor == 1 or short >= factor * SIDE)
    image = cv2.imdecode(np.frombuffer(video.stored("rgb", index), np.uint8), _DECODERS[factor])
    if image is None:
        raise CorpusDamaged(f"{video.id}: frame {index} is no image that can be decoded")
    scale = SIDE / short
    width, height = (min(_LONGEST, max(1, round(side * scale))) for side in (video.width, video.height))
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


_DECODERS = {
    8: cv2.IMREAD_REDUCED_COLOR_8,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    1: cv2.IMREAD_COLOR,
}


def _measure(thumbnails: Thumbnails) -> tuple[NDArray[np.bool_], NDArray[np.float32], NDArray[np.bool_]]:
    """For each pair of neighbours: whether the second is a repeat, the residual in levels, and whether the
    second is another picture for good."""
    grey = thumbnails @ LUMA[::-1]
    change = np.abs(np.diff(grey, axis=0))
    repeated = (change.max((1, 2)) <= REPEATED_MOST) & (change.mean((1, 2)) <= REPEATED_MEAN)
    residuals: NDArray[np.float32] = np.zeros(len(change), np.float32)
    differs: NDArray[np.bool_] = np.zeros(len(change), bool)
    contrast = thumbnails.reshape(len(thumbnails), -1, 3).std(axis=1).mean(axis=1)
    for i in np.flatnonzero(change.mean((1, 2)) > CUT_LEVELS / 4):
        differences = block_differences(thumbnails[i], thumbnails[i + 1])
        residuals[i] = differences.mean()
        scale = max(1.0, (contrast[i] + contrast[i + 1]) / 2)
        is_lit = np.maximum(thumbnails[i], thumbnails[i + 1]).max(axis=2) > _BLACK
        half = float(np.median(differences[is_lit])) if is_lit.any() else 0.0
        differs[i] = residuals[i] >= max(CUT_LEVELS, CUT_CONTRAST * scale) and half >= CUT_HALF * scale
        if differs[i] and _is_flash(thumbnails, int(i), float(residuals[i])):
            differs[i] = False
    return repeated, residuals, differs


def block_differences(first: Thumbnails, second: Thumbnails) -> NDArray[np.float32]:
    """The difference between a picture and the next, after each block has moved to its best place: (h, w)."""
    height, width = first.shape[:2]
    padded = cv2.copyMakeBorder(second, _REACH, _REACH, _REACH, _REACH, cv2.BORDER_REPLICATE)
    best = np.full(first.shape, np.inf, np.float32)
    for down in range(2 * _REACH + 1):
        for right in range(2 * _REACH + 1):
            moved = padded[down : down + height, right : right + width]
            difference = cv2.boxFilter(cv2.absdiff(first, moved), cv2.CV_32F, (_BOX, _BOX))
            np.minimum(best, difference, out=best)
    return np.asarray(best.mean(axis=2), np.float32)


def _is_flash(thumbnails: Thumbnails, pair: int, size: float) -> bool:
    """Whether the picture before a change comes back after it, or the one after it was there before."""
    after = range(pair + 2, min(len(thumbnails), pair + 2 + _RETURN))
    before = range(max(0, pair - _RETURN), pair)
    comparisons = [(pair, k) for k in after] + [(k, pair + 1) for k in before]
    return any(block_differences(*thumbnails[[i, k]]).mean() < size / 2 for i, k in comparisons)


def _usual(
    residuals: NDArray[np.float32], repeated: NDArray[np.bool_], wanted: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """The median residual of the pairs around each wanted pair, without repeated frames."""
    usual = np.zeros_like(residuals)
    for i in np.flatnonzero(wanted):
        around = np.arange(max(0, i - _AROUND), min(len(residuals), i + _AROUND + 1))
        around = around[(around != i) & ~repeated[around]]
        usual[i] = np.median(residuals[around]) if len(around) else 0.0
    return usual
