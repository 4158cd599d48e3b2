"""CNN-M-2048, the network of both streams in "Two-Stream Convolutional Networks for Action Recognition in
Videos" (Simonyan, Zisserman 2014, figure 1), after Chatfield et al. 2014.

    224 -> conv1 96@7x7/2 -> 109 -> LRN, pool -> 54 -> conv2 256@5x5/2 pad 1 -> 26 -> LRN, pool -> 13
        -> conv3, conv4, conv5 512@3x3 pad 1 -> 13 -> pool -> 6 -> fc6 4096 -> fc7 2048 -> fc8

Pools are 3x3 with stride 2 in ceil mode. The temporal network leaves out the second LRN, as the paper does
to save memory. For 101 classes it holds 90.71 million parameters.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from trainer.recipe import Recipe

SIZE: int | None = 224
MIN_SIZE = 224
STREAMS = ("spatial", "temporal")
WIDTHS = False
LAST = "fc8"


def build(recipe: Recipe, classes: int) -> CnnM2048:
    """The network of the recipe's stream."""
    return CnnM2048(recipe.channels, classes, recipe.model.dropout, second_lrn=recipe.stream == "spatial")


class CnnM2048(nn.Module):
    """See the module.

    Args:
        channels: of the input: 3, or 2 L.
        classes: number of classes.
        dropout: after fc6 and fc7.
        second_lrn: with the normalisation after conv2 (spatial) or without (temporal).
    """

    def __init__(self, channels: int, classes: int, dropout: float, *, second_lrn: bool) -> None:
        super().__init__()
        # AlexNet's constants. torch divides alpha by the size; AlexNet's 1e-4 is per element, so 5e-4 here.
        self.lrn = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)
        self.second_lrn = second_lrn
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv1 = nn.Conv2d(channels, 96, 7, 2)
        self.conv2 = nn.Conv2d(96, 256, 5, 2, 1)
        self.conv3 = nn.Conv2d(256, 512, 3, 1, 1)
        self.conv4 = nn.Conv2d(512, 512, 3, 1, 1)
        self.conv5 = nn.Conv2d(512, 512, 3, 1, 1)
        self.fc6 = nn.Linear(512 * 6 * 6, 4096)
        self.fc7 = nn.Linear(4096, 2048)
        self.fc8 = nn.Linear(2048, classes)
        self.dropout = nn.Dropout(dropout)
        for module in self.modules():
            # The paper does not give its initialisation; this one keeps the variance through ReLU layers.
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.fc8.weight, std=0.01)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, channels, 224, 224) to logits (N, classes)."""
        x = self.pool(self.lrn(F.relu(self.conv1(x))))  # (N, 96, 54, 54)
        x = F.relu(self.conv2(x))  # (N, 256, 26, 26)
        x = self.pool(self.lrn(x) if self.second_lrn else x)  # (N, 256, 13, 13)
        x = F.relu(self.conv3(x))
        x = F.relu(self.conv4(x))
        x = self.pool(F.relu(self.conv5(x)))  # (N, 512, 6, 6)
        x = self.dropout(F.relu(self.fc6(x.flatten(1))))  # (N, 4096)
        x = self.dropout(F.relu(self.fc7(x)))  # (N, 2048)
        logits: torch.Tensor = self.fc8(x)
        return logits
