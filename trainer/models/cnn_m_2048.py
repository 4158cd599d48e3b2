"""CNN-M-2048, the network of both streams in "Two-Stream Convolutional Networks for Action Recognition in
Videos" (Simonyan, Zisserman 2014, figure 1), after Chatfield et al. 2014.

    224 -> conv1 96@7x7/2 -> 109 -> LRN, pool -> 54 -> conv2 256@5x5/2 pad 1 -> 26 -> LRN, pool -> 13
        -> conv3, conv4, conv5 512@3x3 pad 1 -> 13 -> pool -> 6 -> fc6 4096 -> fc7 2048 -> fc8

Pools are 3x3 with stride 2 and round up. The temporal network has no second LRN, as in the paper, to save
memory. For 101 classes it has 90.71 million parameters.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from trainer.models.layers import Tower, full, initialise
from trainer.models.spec import ModelSpec

SPEC = ModelSpec(
    paper="Simonyan, Zisserman 2014: Two-Stream Convolutional Networks for Action Recognition in Videos, "
    "arXiv 1406.2199",
    size=224,
    min_size=224,
    dense=True,
    published={
        "UCF-101 spatial, 3 splits": 73.0,
        "UCF-101 temporal, 3 splits": 83.7,
        "UCF-101 both, 3 splits": 88.0,
        "HMDB-51 both, 3 splits": 59.4,
    },
    first_layer="conv1",
    last_layers=("fc8",),
)


def build(in_channels: int, num_classes: int, *, dropout: float, width: int) -> CnnM2048:
    """The spatial network for three channels, else the temporal network."""
    return CnnM2048(in_channels, num_classes, dropout, width or 96, second_lrn=in_channels == 3)


class CnnM2048(Tower):
    """CNN-M-2048. Its layers are relu1, pool1, relu2, pool2, relu3 to relu5, pool5, relu6, relu7, fc8.

    Args:
        channels: Channels of the input: 3 for a frame, 2 L for a stack of flows.
        classes: Number of classes.
        dropout: Probability of dropping a unit after fc6 and after fc7.
        width: Channels of the first layer. All others scale with it.
        second_lrn: Whether a normalisation follows conv2. The spatial network has it.
    """

    def __init__(self, channels: int, classes: int, dropout: float, width: int, *, second_lrn: bool) -> None:
        super().__init__()
        c96, c256, c512, c2048, c4096 = (n * width // 96 for n in (96, 256, 512, 2048, 4096))
        # AlexNet's constants. Its alpha of 1e-4 is per element. torch divides alpha by the size 5: 5e-4 here.
        self.lrn = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)
        self.second_lrn = second_lrn
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv1 = nn.Conv2d(channels, c96, 7, 2)
        self.conv2 = nn.Conv2d(c96, c256, 5, 2, 1)
        self.conv3 = nn.Conv2d(c256, c512, 3, 1, 1)
        self.conv4 = nn.Conv2d(c512, c512, 3, 1, 1)
        self.conv5 = nn.Conv2d(c512, c512, 3, 1, 1)
        self.fc6 = nn.Linear(c512 * 6 * 6, c4096)
        self.fc7 = nn.Linear(c4096, c2048)
        self.fc8 = nn.Linear(c2048, classes)
        self.drop6, self.drop7 = nn.Dropout(dropout), nn.Dropout(dropout)
        # The paper does not give its initialisation.
        initialise(self, self.fc8)

    def steps(self) -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
        """The layers by name."""
        return {
            "relu1": lambda x: F.relu(self.conv1(x)),  # (N, 96, 109, 109)
            "pool1": lambda x: self.pool(self.lrn(x)),  # (N, 96, 54, 54)
            "relu2": lambda x: F.relu(self.conv2(x)),  # (N, 256, 26, 26)
            "pool2": lambda x: self.pool(self.lrn(x) if self.second_lrn else x),  # (N, 256, 13, 13)
            "relu3": lambda x: F.relu(self.conv3(x)),
            "relu4": lambda x: F.relu(self.conv4(x)),
            "relu5": lambda x: F.relu(self.conv5(x)),
            "pool5": self.pool,  # (N, 512, 6, 6)
            "relu6": lambda x: self.drop6(F.relu(full(self.fc6, x, 6))),  # (N, 4096, 1, 1)
            "relu7": lambda x: self.drop7(F.relu(full(self.fc7, x))),  # (N, 2048, 1, 1)
            "fc8": lambda x: full(self.fc8, x),
        }
