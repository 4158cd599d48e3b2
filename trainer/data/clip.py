"""A clip: planes and the affine map that turns them into a network's input."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Clip(NamedTuple):
    """Planes as they are read, and how a network sees them: planes * gain + bias.

    They stay whole numbers, where they are, until they are on the device: a quarter of the bytes to move.

    Attributes:
        planes: (..., C, H, W): R, G, B as uint8; or u1, v1, u2, v2, ... as uint8, the stored codes, or as
            float32, pixels, where they had to be resized or followed along trajectories; for a joint network
            R, G, B and then these. Several time steps are an axis before that of the planes.
        gain, bias: (..., C) float32.
    """

    planes: torch.Tensor
    gain: torch.Tensor
    bias: torch.Tensor

    def to(self, device: torch.device) -> Clip:
        """The clip on a device."""
        return Clip(*(part.to(device, non_blocking=True) for part in self))

    def normalised(self) -> torch.Tensor:
        """What the network sees, (..., C, H, W) float32."""
        return (self.planes * self.gain[..., None, None]).add_(self.bias[..., None, None])
