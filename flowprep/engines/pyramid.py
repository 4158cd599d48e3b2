"""The coarse-to-fine schedule and the sampling rules that all engines share.

Sampling is OpenCV's, so that engines agree with it: bilinear resizing with pixel centres at +0.5, and
bicubic warping at exact positions (OpenCV 5; OpenCV 4 rounds them to 1/32 pixel). Settings that OpenCV does
not have add Gaussians before the resizing and a spline in place of the bicubic kernel; at borders, their
filters see the image mirrored.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flowprep.presets import Tvl1Settings
from flowprep.settings import MIN_SIDE

CUBIC_A = -0.75  # the free parameter of the cubic convolution kernel
SPLINE_POLE = np.sqrt(3) - 2  # of the filter that gives a cubic B-spline's coefficients
LONGEST_TAPS = 15  # pixels that a filter reaches to each side: the smallest level can be mirrored that far
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


def gaussian_taps(sigma: float) -> NDArray[np.float32]:
    """Weights of the pixels at 0, 1, 2, ... of a Gaussian, to 3 sigma; the other side is the same."""
    reach = np.arange(min(int(np.ceil(3 * sigma)), LONGEST_TAPS) + 1)
    weights = np.exp(-0.5 * (reach / sigma) ** 2)
    return np.asarray(weights / (2 * weights.sum() - weights[0]), np.float32)


def spline_taps() -> NDArray[np.float32]:
    """Weights of the pixels at 0, 1, 2, ... that turn an image into the coefficients of a cubic B-spline.

    M. Unser, "Splines: a perfect fit for signal and image processing", IEEE Signal Processing Magazine 1999:
    the inverse of (1, 4, 1) / 6 falls off with the powers of its pole; behind the 12th they are below
    float32's resolution.
    """
    scale = 6 * SPLINE_POLE / (SPLINE_POLE**2 - 1)
    return np.asarray(scale * SPLINE_POLE ** np.arange(13), np.float32)


def antialias_sigma(tvl1: Tvl1Settings) -> float:
    """Sigma, in pixels, of the Gaussian before a level is made from the next finer one."""
    return float(tvl1.antialias * np.sqrt(tvl1.scale_step**-2 - 1))
