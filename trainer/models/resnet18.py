"""ResNet-18 (He et al. 2016, table 1), with torchvision's parameter names so that its weights load.

`width` is the number of channels of the first stage: 64 as published, less for a processor without a GPU.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from trainer.recipe import Recipe

SIZE: int | None = None
MIN_SIZE = 32
STREAMS = ("spatial", "temporal")
WIDTHS = True
LAST = "fc"


def build(recipe: Recipe, classes: int) -> ResNet18:
    """The network of the recipe's stream."""
    return ResNet18(recipe.channels, classes, recipe.model.dropout, recipe.model.width or 64)


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut; the first may halve the size."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + self.downsample(x))


class ResNet18(nn.Module):
    """See the module.

    Args:
        channels: of the input: 3, or 2 L.
        classes: number of classes.
        dropout: before the fully connected layer.
        width: channels of the first stage; the later ones have 2, 4 and 8 times as many.
    """

    def __init__(self, channels: int, classes: int, dropout: float, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(Block(width, width, 1), Block(width, width, 1))
        self.layer2 = nn.Sequential(Block(width, 2 * width, 2), Block(2 * width, 2 * width, 1))
        self.layer3 = nn.Sequential(Block(2 * width, 4 * width, 2), Block(4 * width, 4 * width, 1))
        self.layer4 = nn.Sequential(Block(4 * width, 8 * width, 2), Block(8 * width, 8 * width, 1))
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(8 * width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, channels, S, S) to logits (N, classes)."""
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))  # (N, width, S/4, S/4)
        x = self.layer1(x)
        x = self.layer2(x)  # (N, 2 width, S/8, S/8)
        x = self.layer3(x)
        x = self.layer4(x)  # (N, 8 width, S/32, S/32)
        logits: torch.Tensor = self.fc(self.dropout(x.mean((2, 3))))
        return logits
