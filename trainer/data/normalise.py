"""The float32 input of a network from codes, in one pass over memory.

Torch makes it in four passes: a conversion, a product, a sum, and the order in memory. The result is the same
bit by bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from flowprep.system.buffers import BufferPool
from flowprep.system.jit import jit

_memory = BufferPool(most_free=2)


def normalise(planes: torch.Tensor, gain: torch.Tensor, bias: torch.Tensor) -> torch.Tensor | None:
    """planes * gain + bias, with the channels innermost in memory.

    Args:
        planes: (..., C, H, W) uint8, on the CPU.
        gain, bias: (..., C) float32.

    Returns:
        (..., C, H, W) float32; None if clips, or pixels, do not follow each other in memory.
    """
    channels, height, width = planes.shape[-3:]
    try:
        codes = planes.view(-1, channels, height * width)  # of planes, or of pixels
    except RuntimeError:
        return None
    out = _memory.empty((*planes.shape[:-3], height, width, channels), np.float32)
    scale, offset = (part.reshape(-1, channels).contiguous().numpy() for part in (gain, bias))
    _multiply_and_add(codes.numpy(), scale, offset, out.reshape(len(codes), -1, channels))
    return torch.from_numpy(out).movedim(-1, -3)


@jit
def _multiply_and_add(codes: Any, scale: Any, offset: Any, out: Any) -> None:
    """Fill `out`, (clips, pixels, channels), from codes (clips, channels, pixels)."""
    clips, channels, pixels = codes.shape
    for clip in range(clips):
        for pixel in range(np.uint64(pixels)):
            for channel in range(np.uint64(channels)):
                code = np.float32(codes[clip, channel, pixel])
                out[clip, pixel, channel] = code * scale[clip, channel] + offset[clip, channel]
