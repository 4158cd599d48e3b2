"""The quality of the data of each video: repeated frames, still pairs, scene cuts and duplicates.

All figures come from the stored images. docs/guides/quality.md says what they mean, and how sure they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowprep.corpus.reader import Corpus
from flowprep.corpus.video import Video
from flowprep.reports.thumbnails import frame_changes
from flowprep.system.processes import usable_cores
from flowprep.system.progress import Progress, no_progress
from flowprep.viz.repeats import STILL_PX, STILL_SHARE

_BATCH = 16  # pairs in memory


@dataclass(frozen=True)
class VideoQuality:
    """The quality of one video. What needs a stream that is not stored is None.

    Attributes:
        repeated_frames: number of frames that show the picture of the frame before.
        cuts: number of scene cuts.
        cut_pairs: the pairs whose two frames lie on different sides of a cut. Their flow is noise.
        still_pairs: number of pairs in which at least 99% of the pixels move less than 0.05 px.
        motion_px: mean displacement of all pixels of all pairs, pixels.
    """

    repeated_frames: int | None
    cuts: int | None
    cut_pairs: tuple[int, ...] | None
    still_pairs: int | None
    motion_px: float | None


def measure_quality(video: Video) -> VideoQuality:
    """Read all images of a video and measure its quality.

    Raises:
        CorpusDamaged: an image does not match its checksum.
    """
    repeated = cuts = still = motion = None
    cut_pairs: tuple[int, ...] | None = None
    if "rgb" in video.streams:
        changes = frame_changes(video)
        repeated, cuts = int(changes.repeated.sum()), changes.num_cuts
        cut_pairs = pairs_across(changes.cuts, video.step, video.num_pairs)
    if "flow_u" in video.streams and video.num_pairs:
        still, motion = _measure_flow(video)
    return VideoQuality(repeated, cuts, cut_pairs, still, motion)


def pairs_across(cuts: NDArray[np.bool_], step: int, num_pairs: int) -> tuple[int, ...]:
    """The pairs whose two frames lie on different sides of a cut.

    Args:
        cuts: (N - 1,) whether there is a cut after each frame.
        step: number of frames from the first to the second frame of a pair.
        num_pairs: number of pairs.
    """
    across = {int(frame) - k for frame in np.flatnonzero(cuts) for k in range(step)}
    return tuple(sorted(pair for pair in across if 0 <= pair < num_pairs))


def _measure_flow(video: Video) -> tuple[int, float]:
    """The number of still pairs, and the mean displacement in pixels."""
    still, total = 0, 0.0
    levels = np.arange(256, dtype=np.float32)
    for start in range(0, video.num_pairs, _BATCH):
        count = min(_BATCH, video.num_pairs - start)
        scale, zero_point, _ = video.quant_params(start, count)
        squares = ((levels - zero_point[..., None]) * scale[..., None]) ** 2  # (count, 2, 256), of each code
        for codes, (u, v) in zip(video.codes(start, count), squares, strict=True):
            displacement = np.sqrt(u[codes[0]] + v[codes[1]])
            still += int((displacement < STILL_PX).mean() >= STILL_SHARE)
            total += float(displacement.mean())
    return still, total / video.num_pairs


def measure_all(
    corpus: Corpus, ids: Sequence[str], progress: Progress = no_progress, jobs: int | None = None
) -> dict[str, VideoQuality]:
    """Measure the quality of some videos, with a thread for each core.

    Args:
        corpus: an open corpus.
        ids: the videos.
        progress: called with the number of videos done, and of all.
        jobs: number of threads; None for one per core.

    Raises:
        CorpusDamaged: an image does not match its checksum.
    """

    def measure(video_id: str) -> VideoQuality:
        return measure_quality(corpus[video_id])

    qualities: dict[str, VideoQuality] = {}
    pool = ThreadPoolExecutor(jobs or usable_cores())
    try:
        for video_id, quality in zip(ids, pool.map(measure, ids), strict=True):
            qualities[video_id] = quality
            progress(len(qualities), len(ids))
    finally:
        pool.shutdown(cancel_futures=True)
    return qualities


def find_duplicates(corpus: Corpus) -> dict[str, str]:
    """The videos whose stored pictures are those of another video, with the id of the first such video."""
    first: dict[str, str] = {}
    duplicates = {}
    for video in corpus.values():
        original = first.setdefault(video.fingerprint(), video.id)
        if original != video.id:
            duplicates[video.id] = original
    return duplicates
