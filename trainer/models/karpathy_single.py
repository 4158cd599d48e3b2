"""The single-frame network of "Large-scale Video Classification with Convolutional Neural Networks" (Karpathy
et al. 2014, section 3.1), and the layers that its siblings share.

    170 -> conv1 96@11x11/3 -> 54 -> LRN, pool -> 27 -> conv2 256@5x5 -> LRN, pool -> 14
        -> conv3, conv4 384@3x3, conv5 256@3x3 -> pool -> 7 -> fc6 4096 -> fc7 4096 -> fc8

Pools are 2x2 and do not overlap; they round up, for only so do both streams of the network with context and
fovea end in 7x7 cells, as the paper says of them. Convolutions but the first keep the size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from trainer.models.layers import initialise
from trainer.models.spec import ModelSpec

PAPER = (
    "Karpathy, Toderici, Shetty, Leung, Sukthankar, Fei-Fei 2014: Large-scale Video Classification with "
    "Convolutional Neural Networks, CVPR"
)
SPEC = ModelSpec(
    paper=PAPER, streams=("spatial",), size=170, min_size=170, published={"Sports-1M, hit@1 by video": 59.3}
)
FIRST, LAST = "features.conv1", ("head.fc8",)


def build(in_channels: int, num_classes: int, *, dropout: float, width: int) -> Single:
    """The network of one frame."""
    return Single(in_channels, num_classes, dropout, width or 96)


class Features(nn.Module):
    """From frames to the cells that the full connections see: (N, C, 170, 170) to (N, 256, 7, 7).

    Args:
        channels: of the input.
        width: channels of the first layer; all others scale with it.
        last_pool: with the pool after conv5.
    """

    def __init__(self, channels: int, width: int, *, last_pool: bool = True) -> None:
        super().__init__()
        c256, c384 = 256 * width // 96, 384 * width // 96
        # The paper's constants: k = 2, n = 5, alpha = 1e-4 per element (torch divides by n), beta = 0.5.
        self.lrn = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.5, k=2.0)
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.conv1 = nn.Conv2d(channels, width, 11, 3)
        self.conv2 = nn.Conv2d(width, c256, 5, padding=2)
        self.conv3 = nn.Conv2d(c256, c384, 3, padding=1)
        self.conv4 = nn.Conv2d(c384, c384, 3, padding=1)
        self.conv5 = nn.Conv2d(c384, c256, 3, padding=1)
        self.last_pool = last_pool

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See the class."""
        x = self.pool(self.lrn(F.relu(self.conv1(x))))
        x = self.pool(self.lrn(F.relu(self.conv2(x))))
        x = F.relu(self.conv4(F.relu(self.conv3(x))))
        x = F.relu(self.conv5(x))
        return self.pool(x) if self.last_pool else x


class Head(nn.Module):
    """The three full connections: (N, inputs) to logits (N, classes)."""

    def __init__(self, inputs: int, classes: int, dropout: float, width: int) -> None:
        super().__init__()
        hidden = 4096 * width // 96
        self.fc6 = nn.Linear(inputs, hidden)
        self.fc7 = nn.Linear(hidden, hidden)
        self.fc8 = nn.Linear(hidden, classes)
        self.drop6, self.drop7 = nn.Dropout(dropout), nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See the class."""
        x = self.drop6(F.relu(self.fc6(x)))
        x = self.drop7(F.relu(self.fc7(x)))
        return self.fc8(x)  # type: ignore[no-any-return]


class Single(nn.Module):
    """See the module.

    Args:
        channels: of the input.
        classes: number of classes.
        dropout: after fc6 and fc7.
        width: channels of the first layer; all others scale with it.
    """

    def __init__(self, channels: int, classes: int, dropout: float, width: int) -> None:
        super().__init__()
        self.features = Features(channels, width)
        self.head = Head(256 * width // 96 * 7 * 7, classes, dropout, width)
        initialise(self, self.head.fc8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, channels, 170, 170) to logits (N, classes)."""
        return self.head(self.features(x).flatten(1))  # type: ignore[no-any-return]
