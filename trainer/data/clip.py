"""A clip: image planes, and the scale and offset that turn them into the input of a network."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import torch

# A part of a frame in pixels: (top, left, height, width).
Window: TypeAlias = tuple[int, int, int, int]


class Clip(NamedTuple):
    """Planes as they are stored. The input of a network is planes * gain + bias.

    Planes stay uint8 until they are on the device: a quarter of the bytes of float32 to move.

    Attributes:
        planes: (..., C, H, W). The channels of a spatial clip are R, G, B as uint8. Those of a temporal clip
            are u1, v1, u2, v2, ...: stored codes as uint8, or pixels as float32 if the flow was resized or
            follows trajectories. A clip of both has R, G, B and then the flow. Time steps are an axis before
            C.
        gain, bias: (..., C) float32.
    """

    planes: torch.Tensor
    gain: torch.Tensor
    bias: torch.Tensor

    def to(self, device: torch.device) -> Clip:
        """The clip on a device."""
        return Clip(*(part.to(device, non_blocking=True) for part in self))

    def channels(self, begin: int, end: int | None) -> Clip:
        """The channels from `begin` to `end`."""
        planes = self.planes[..., begin:end, :, :]
        return Clip(planes, self.gain[..., begin:end], self.bias[..., begin:end])

    def normalised(self) -> torch.Tensor:
        """The input of the network, (..., C, H, W) float32. That of codes is channels last in memory."""
        if self.planes.dtype == torch.uint8 and self.planes.device.type == "cpu":
            from trainer.data.normalise import normalise  # compiled

            if (result := normalise(*self)) is not None:
                return result
        return (self.planes * self.gain[..., None, None]).add_(self.bias[..., None, None])
