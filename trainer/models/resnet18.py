"""ResNet-18 (He et al. 2016, table 1), with torchvision's parameter names so that its weights load.

`width` is the number of channels of the first stage. 64 is the published number; fewer suit a CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from trainer.models.layers import Tower, full
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
    return ResNet(Block, (2, 2, 2, 2), in_channels, num_classes, dropout, width or 64)


class Sparse1x1(nn.Conv2d):
    """A 1x1 convolution with a stride, in two steps: select the pixels that it reads, then convolve them.

    In one step PyTorch may use a faulty gradient of oneDNN 3.12 (with AVX-512, channels last, from at most 8
    channels to 16). It writes outside its memory: the process dies, or learns from wrong numbers.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        return F.conv2d(x[..., :: self.stride[0], :: self.stride[1]], self.weight)


class Unit(nn.Module):
    """A residual unit: the sum of a branch and a shortcut. A subclass defines the branch.

    Attributes:
        expansion: Output channels of a unit, in multiples of its inner channels.
        downsample: The shortcut.
    """

    expansion = 1

    def __init__(self) -> None:
        super().__init__()
        self.downsample: nn.Module = nn.Identity()

    def _shortcut(self, inputs: int, outputs: int, stride: int) -> None:
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                Sparse1x1(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def branch(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        return F.relu(self.branch(x) + self.downsample(x))


class Block(Unit):
    """A unit of two 3x3 convolutions. The first may halve the size."""

    def __init__(self, inputs: int, inner: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, inner, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self._shortcut(inputs, inner, stride)

    def branch(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        return self.bn2(self.conv2(y))  # type: ignore[no-any-return]


class ResNet(Tower):
    """A residual network. Its layers are conv1, pool1, layer1.0, layer1.1, ..., fc.

    Args:
        unit: A subclass of Unit.
        counts: Number of units in each of the four stages.
        channels: Channels of the input: 3 for a frame, 2 L for a stack of flows.
        classes: Number of classes.
        dropout: Probability of dropping a unit before the fully connected layer.
        width: Inner channels of the first stage. The later stages have 2, 4 and 8 times as many.
    """

    def __init__(
        self,
        unit: Callable[[int, int, int], Unit],
        counts: Sequence[int],
        channels: int,
        classes: int,
        dropout: float,
        width: int,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs = width
        self.stages: list[str] = []
        for number, count in enumerate(counts):
            units = []
            for k in range(count):
                units.append(unit(inputs, width << number, 2 if number and not k else 1))
                inputs = (width << number) * units[0].expansion
            self.stages.append(f"layer{number + 1}")
            self.add_module(self.stages[-1], nn.Sequential(*units))
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def steps(self) -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
        """The layers by name. From a side S the maps have S/2, S/4, then S/4 to S/32 by stage, and 1."""
        units = {f"{stage}.{k}": unit for stage in self.stages for k, unit in enumerate(getattr(self, stage))}
        return {
            "conv1": lambda x: F.relu(self.bn1(self.conv1(x))),
            "pool1": self.maxpool,
            **units,
            "fc": lambda x: full(self.fc, self.dropout(x.mean((2, 3), keepdim=True))),
        }
