"""Frames that show the picture of the frame before, and the words on their flow."""

from __future__ import annotations

import numpy as np

from flowprep.viz.canvas import GREY, Canvas, fitting
from flowprep.viz.colours import Flow, Image
from flowprep.viz.scaling import resized
from flowprep.viz.shots import FlowVideo

SIDE = 32  # pixels, the short side of the small copies that are compared
# A frame is repeated if its small copy differs from that of the frame before by coding noise alone: at most
# this many grey levels in any pixel, and this many on average. Moving things change a pixel by more.
REPEATED_MOST, REPEATED_MEAN = 3.0, 0.5
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
# A pair is still if at least this share of its pixels move by less than this many pixels.
STILL_SHARE, STILL_PX = 0.99, 0.05
_MARKED_SHARE = 0.9  # of the pixels of a flow that may get words


def is_repeat(first: Image, second: Image) -> bool:
    """Whether two frames of one size show the same picture, up to coding noise."""
    scale = SIDE / min(first.shape[:2])
    height, width = (max(1, round(side * scale)) for side in first.shape[:2])
    small = [resized(frame, width, height) @ LUMA for frame in (first, second)]
    change = np.abs(small[1] - small[0])
    return bool(change.max() <= REPEATED_MOST and change.mean() <= REPEATED_MEAN)


def mark_repeat(picture: Image, video: FlowVideo, pair: int, flow: Flow) -> Image:
    """The picture of a flow, with the words "same frame" if the two frames of the pair are the same picture.

    Args:
        picture: the flow in colours, (H, W, 3).
        video: a video with frames.
        pair: number of the pair.
        flow: its flow, (2, H, W) pixels.
    """
    # Noise of coding has some flow. But the words must not hide a flow that is to be seen.
    if (np.hypot(*flow) < STILL_PX).mean() < _MARKED_SHARE:
        return picture
    if not is_repeat(video.rgb(pair), video.rgb(pair + video.step)):
        return picture
    height, width = picture.shape[:2]
    size = max(9, round(min(height, width) * 0.13))
    canvas = Canvas(picture)
    at = (width / 2, (height - size) / 2)
    canvas.text(at, fitting(("same frame", "same", "="), size, 0.96 * width), size, GREY, anchor="ma")
    return canvas.image
