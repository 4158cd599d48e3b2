"""ResNet-50 (He et al. 2016, table 1), with torchvision's parameter names so that its weights load.

As in torchvision, a unit that halves the size does so in its 3x3 convolution, not in the 1x1 before it: the
published weights' shapes are the same, but the two are other networks. `width` is the number of inner
channels of the first stage, 64 as published.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from trainer.models.resnet18 import ResNet, Unit
from trainer.models.spec import ModelSpec

SPEC = ModelSpec(
    paper="He, Zhang, Ren, Sun 2016: Deep Residual Learning for Image Recognition, arXiv 1512.03385",
    streams=("spatial", "temporal"),
    min_size=32,
    dense=True,
    first_layer="conv1",
    last_layers=("fc",),
)


def build(in_channels: int, num_classes: int, *, dropout: float, width: int) -> ResNet:
    """The same network for both streams."""
    return ResNet(Bottleneck, (3, 4, 6, 3), in_channels, num_classes, dropout, width or 64)


class Bottleneck(Unit):
    """A unit of a 1x1 convolution to fewer channels, a 3x3 one that may halve the size, and a 1x1 one."""

    expansion = 4

    def __init__(self, inputs: int, inner: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, 4 * inner, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * inner)
        self._shortcut(inputs, 4 * inner, stride)

    def branch(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return self.bn3(self.conv3(y))  # type: ignore[no-any-return]
