"""The float32 input of a network from codes, in one pass over memory.

Torch makes it in three passes: a conversion, a product and a sum. The result is the same bit by bit.
"""

from __future__ import annotations

import numpy as np
import torch

from flowprep.system.jit import jit


def normalise(planes: torch.Tensor, gain: torch.Tensor, bias: torch.Tensor) -> torch.Tensor | None:
    """planes * gain + bias, in the order in memory of the planes.

    Args:
        planes: (..., C, H, W) uint8, on the CPU.
        gain, bias: (..., C) float32.

    Returns:
        (..., C, H, W) float32; None if the planes are neither contiguous nor channels last.
    """
    channels = gain.shape[-1]
    # One row per channel if each has its pixels together, else one per clip: (rows, pixels, channels).
    if planes.is_contiguous():
        shape = (gain.numel(), planes.shape[-2] * planes.shape[-1], 1)
    elif (planes := planes.movedim(-3, -1)).is_contiguous():
        shape = (gain.numel() // channels, planes.shape[-3] * planes.shape[-2], channels)
    else:
        return None
    out = torch.empty(planes.shape)
    scale, offset = (part.contiguous().numpy().reshape(shape[0], shape[2]) for part in (gain, bias))
    _multiply_and_add(planes.numpy().reshape(shape), scale, offset, out.numpy().reshape(shape))
    return out if shape[2] == 1 else out.movedim(-1, -3)


@jit
def _multiply_and_add(planes: np.ndarray, gain: np.ndarray, bias: np.ndarray, out: np.ndarray) -> None:
    """Fill `out`, (rows, pixels, channels), from planes of this shape; gain and bias are (rows, channels)."""
    rows, pixels, channels = planes.shape
    for row in range(rows):
        if channels == 1:
            scale, offset = gain[row, 0], bias[row, 0]
            for pixel in range(pixels):
                out[row, pixel, 0] = np.float32(planes[row, pixel, 0]) * scale + offset
        else:
            for pixel in range(pixels):
                for channel in range(channels):
                    value = np.float32(planes[row, pixel, channel])
                    out[row, pixel, channel] = value * gain[row, channel] + bias[row, channel]
