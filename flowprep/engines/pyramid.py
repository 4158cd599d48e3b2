"""The pyramid, the rules of sampling, and constants that all engines share.

Sampling is that of OpenCV: bilinear resizing with pixel centres at +0.5, and bicubic warping at exact
positions (OpenCV 5; OpenCV 4 rounds them to 1/32 pixel). Settings that OpenCV lacks add a Gaussian before the
resizing, and a spline instead of the bicubic kernel. Their filters mirror the image at its borders.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flowprep.presets import Tvl1Settings
from flowprep.settings import MIN_SIDE

CUBIC_A = -0.75  # the free parameter of the cubic convolution kernel
SPLINE_POLE = np.sqrt(3) - 2  # pole of the filter that computes the coefficients of a cubic B-spline
LONGEST_TAPS = 15  # reach of a filter to each side, pixels: the smallest level can be mirrored that far
TINY_GRADIENT = float(np.finfo(np.float32).eps)  # |grad I1|^2 up to which the data term is ignored
LEAST_VISIBLE = 1 / 16  # share of its weight in a median that an occluded pixel keeps: no window is empty


def level_sizes(height: int, width: int, tvl1: Tvl1Settings) -> list[tuple[int, int]]:
    """(height, width) of each pyramid level, finest first.

    Each level is `scale_step` times the next finer one, rounded half to even. A level with a side under 16
    pixels is left out, with all coarser ones.
    """
    sizes = [(height, width)]
    while len(sizes) < tvl1.scales:
        height, width = round(height * tvl1.scale_step), round(width * tvl1.scale_step)
        if min(height, width) < MIN_SIDE:
            break
        sizes.append((height, width))
    return sizes


def stop_below(height: int, width: int, tvl1: Tvl1Settings) -> float:
    """The sum of squared updates (pixels^2) at which the iterations of a level stop: epsilon^2 per pixel."""
    return float(np.float32(tvl1.epsilon**2 * (height * width)))


def linear_taps(
    size: int, new_size: int, scale: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """The pixels and weights of a bilinear resizing along one axis.

    Args:
        size: number of pixels.
        new_size: number of samples.
        scale: width of a sample in pixels.

    Returns:
        (left, right, weight): sample i is (1 - weight[i]) * pixel[left[i]] + weight[i] * pixel[right[i]]. The
        border pixel repeats beyond the border.
    """
    centre = np.clip((np.arange(new_size) + 0.5) * scale - 0.5, 0, size - 1)
    left: NDArray[np.int64] = np.floor(centre).astype(np.int64)
    return left, np.minimum(left + 1, size - 1), (centre - left).astype(np.float32)


def gaussian_taps(sigma: float) -> NDArray[np.float32]:
    """Weights of the pixels at 0, 1, 2, ... to each side, for a Gaussian that is cut at 3 sigma."""
    reach = np.arange(min(int(np.ceil(3 * sigma)), LONGEST_TAPS) + 1)
    weights = np.exp(-0.5 * (reach / sigma) ** 2)
    return np.asarray(weights / (2 * weights.sum() - weights[0]), np.float32)


def spline_taps() -> NDArray[np.float32]:
    """Weights of the pixels at 0, 1, 2, ... to each side, for the coefficients of a cubic B-spline.

    M. Unser, "Splines: a perfect fit for signal and image processing", IEEE Signal Processing Magazine 1999.
    The inverse of (1, 4, 1) / 6 falls with the powers of its pole. After the 12th power it is below the
    resolution of float32.
    """
    scale = 6 * SPLINE_POLE / (SPLINE_POLE**2 - 1)
    return np.asarray(scale * SPLINE_POLE ** np.arange(13), np.float32)


def antialias_sigma(tvl1: Tvl1Settings) -> float:
    """Sigma of the Gaussian that smooths a level before the next coarser one is made, pixels."""
    return float(tvl1.antialias * np.sqrt(tvl1.scale_step**-2 - 1))
