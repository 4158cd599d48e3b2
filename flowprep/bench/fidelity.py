"""The size and the error of flow after quantisation."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from flowprep.codec.quantise import decode, encode
from flowprep.errors import UsageError, VideoError, VideoUnreadable
from flowprep.planning.inputs import spread, video_paths
from flowprep.video.decode import read_frames
from flowprep.video.frames import to_grey

log = logging.getLogger(__name__)

Grey = npt.NDArray[np.uint8]
Flow = npt.NDArray[np.float32]

# A pixel with a smaller displacement is still. It should decode to exactly 0.
STILL_PX = 0.05
_MAX_FRAMES = 200  # that are read of a video


@dataclass(frozen=True)
class Fidelity:
    """Size and error of one quantisation.

    Attributes:
        choice: arguments of `encode`.
        bytes_per_pair: mean number of bytes.
        ratio: bytes as float32, divided by the encoded bytes.
        error_px: mean end-point error after decoding, pixels.
        error_px_99: 99th percentile of the end-point error over all pixels.
        clipped: share of the values outside the range of the codes.
        still_exact: share of the still pixels that decode to exactly 0; None without still pixels.
        encode_ms: median time to encode a pair, milliseconds.
    """

    choice: Mapping[str, Any]
    bytes_per_pair: int
    ratio: float
    error_px: float
    error_px_99: float
    clipped: float
    still_exact: float | None
    encode_ms: float

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return asdict(self)


def fidelity(flows: Sequence[Flow], **choice: Any) -> Fidelity:
    """Encode and decode flow, and measure size and error.

    Args:
        flows: (2, H, W) float32 each, pixels.
        choice: arguments of `encode`.
    """
    encode(flows[0], **choice)  # compiles on the first call
    sizes, times, clipped, errors, exact = [], [], [], [], []
    for flow in flows:
        began = time.perf_counter()
        encoded = encode(flow, **choice)
        times.append(time.perf_counter() - began)
        sizes.append(encoded.nbytes)
        clipped += [field.clipped for field in encoded.fields]
        decoded = decode(encoded)
        errors.append(np.hypot(*(decoded - flow)).ravel())
        exact.append(np.all(decoded == 0, axis=0)[np.hypot(*flow) < STILL_PX])
    still = np.concatenate(exact)
    return Fidelity(
        choice=choice,
        bytes_per_pair=round(float(np.mean(sizes))),
        ratio=round(sum(flow.nbytes for flow in flows) / sum(sizes), 1),
        error_px=round(float(np.mean([error.mean() for error in errors])), 4),
        error_px_99=round(float(np.percentile(np.concatenate(errors), 99)), 3),
        clipped=round(float(np.mean(clipped)), 6),
        still_exact=round(float(still.mean()), 4) if still.size else None,
        encode_ms=round(1e3 * float(np.median(times)), 2),
    )


def sample_pairs(videos: Sequence[Path], size: str, count: int) -> list[tuple[Grey, Grey]]:
    """Consecutive grey frames, spread evenly over the videos.

    Args:
        videos: inputs as for an extraction. The first 200 frames of a video are used. If there are more
            videos than pairs, some of them are used, evenly spread. A video that cannot be read is left out,
            with a warning.
        size: as `Settings.size`.
        count: number of pairs in total. Short videos may give fewer.

    Raises:
        UsageError: `count` is under 1, or the videos have no pairs.
        VideoError: the only video cannot be read.
    """
    if count < 1:
        raise UsageError(f"pairs is {count}; allowed: a whole number from 1")
    pairs: list[tuple[Grey, Grey]] = []
    videos = spread(video_paths(videos), count)
    for n, video in enumerate(videos):
        share = count * (n + 1) // len(videos) - count * n // len(videos)
        stream = itertools.islice(read_frames(video, size), _MAX_FRAMES)
        try:
            frames = [to_grey(frame.rgb) for _, frame in stream]
        except VideoError as exc:
            if len(videos) == 1:
                raise VideoUnreadable(f"{video}: {exc}") from exc
            log.warning("%s is left out: %s", video, exc)
            continue
        if len(frames) > 1:
            positions = np.unique(np.linspace(0, len(frames) - 2, share + 2).astype(int)[1:-1])
            pairs += [(frames[i], frames[i + 1]) for i in positions]
    if not pairs:
        raise UsageError(
            f"no pair of frames in {', '.join(map(str, videos))}; give videos of two frames or more"
        )
    return pairs
