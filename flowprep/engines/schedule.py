"""The coarse-to-fine schedule and the sampling rules that all engines share.

Sampling is OpenCV's, so that engines agree with it: bilinear resizing with pixel centres at +0.5 and no
antialiasing, and bicubic warping at exact positions (OpenCV 5; OpenCV 4 rounds them to 1/32 pixel).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flowprep.settings import MIN_SIDE, Tvl1Settings

CUBIC_A = -0.75  # the free parameter of the cubic convolution kernel
TINY_GRADIENT = float(np.finfo(np.float32).eps)  # |grad I1|^2 up to which the data term is not solved


def level_sizes(height: int, width: int, tvl1: Tvl1Settings) -> list[tuple[int, int]]:
    """(height, width) of each pyramid level, finest first.

    Each level is `scale_step` times the one before, rounded half to even; a level with a side under
    16 pixels is left out, and so are all after it.
    """
    sizes = [(height, width)]
    while len(sizes) < tvl1.scales:
        height, width = round(height * tvl1.scale_step), round(width * tvl1.scale_step)
        if min(height, width) < MIN_SIDE:
            break
        sizes.append((height, width))
    return sizes


def stop_below(height: int, width: int, tvl1: Tvl1Settings) -> float:
    """The sum of squared updates (pixels^2) at which a level's iterations stop: epsilon^2 a pixel."""
    return float(np.float32(tvl1.epsilon**2 * (height * width)))


def linear_taps(
    size: int, new_size: int, scale: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Where each of `new_size` samples lies among `size` pixels that are `1 / scale` samples wide.

    Returns:
        (left, right, weight): sample i is (1 - weight[i]) * pixel[left[i]] + weight[i] * pixel[right[i]];
        beyond the border the border pixel repeats.
    """
    centre = np.clip((np.arange(new_size) + 0.5) * scale - 0.5, 0, size - 1)
    left: NDArray[np.int64] = np.floor(centre).astype(np.int64)
    return left, np.minimum(left + 1, size - 1), (centre - left).astype(np.float32)
