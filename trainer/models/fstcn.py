"""FstCN, of "Human Action Recognition using Factorized Spatio-Temporal Convolutional Networks" (Sun, Jia,
Yeung, Shi 2015): convolutions over space, then convolutions over time.

    224 -> conv1 96@7x7/2 -> 109 -> LRN, pool -> 54 -> conv2 256@5x5/2 -> 26 -> LRN, pool -> 13
        -> conv3, conv4 512@3x3 -> 13, for each of five time steps; then two paths:
    space, middle time step: 128@3x3 -> pool 3x3/3 -> 4 -> fc 4096 -> fc 2048
    time, all time steps: 128@3x3 -> pool 3x3/3 -> 4 -> transformation and permutation
        -> 32 filters over 3 time steps and 32 over 5 -> fc 4096 -> fc 2048
    both paths, concatenated -> fc8

The transformation is a learnt 128x128 matrix that mixes the channels. It starts as the identity. The
permutation turns the maps into one sequence for each cell, so that temporal filters are one-dimensional. The
input of a time step is a frame and its difference to the next frame, six channels. Six frames give five time
steps.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from trainer.models.layers import fold, initialise, unfold
from trainer.models.spec import ModelSpec

SPEC = ModelSpec(
    paper="Sun, Jia, Yeung, Shi 2015: Human Action Recognition using Factorized Spatio-Temporal "
    "Convolutional Networks, arXiv 1510.00562",
    streams=("spatial",),
    size=224,
    min_size=224,
    frames=(6,),
    spacing=(5, 5),
    published={"UCF-101, 3 splits": 88.1, "HMDB-51, 3 splits": 59.1},
    first_layer="conv1",
    last_layers=("fc8",),
)


def build(in_channels: int, num_classes: int, *, dropout: float, width: int) -> FstCN:
    """The network of six frames."""
    return FstCN(in_channels, num_classes, dropout, width or 96)


class FstCN(nn.Module):
    """The network of this module: layers that both paths share, a path over space and a path over time.

    Args:
        channels: Channels of a frame.
        classes: Number of classes.
        dropout: Probability of dropping a unit after the layers of 4096 and 2048 units.
        width: Channels of the first layer. All others scale with it.
    """

    def __init__(self, channels: int, classes: int, dropout: float, width: int) -> None:
        super().__init__()
        c32, c128, c256, c512, c2048, c4096 = (n * width // 96 for n in (32, 128, 256, 512, 2048, 4096))
        # AlexNet's constants, as in cnn_m_2048.
        self.lrn = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv1 = nn.Conv2d(2 * channels, width, 7, 2)
        self.conv2 = nn.Conv2d(width, c256, 5, 2, 1)
        self.conv3 = nn.Conv2d(c256, c512, 3, 1, 1)
        self.conv4 = nn.Conv2d(c512, c512, 3, 1, 1)
        self.space = nn.Conv2d(c512, c128, 3, 1, 1)
        self.space_fc = nn.Sequential(*_fully_connected(c128 * 4 * 4, c4096, c2048, dropout))
        self.time = nn.Conv2d(c512, c128, 3, 1, 1)
        self.permutation = nn.Linear(c128, c128, bias=False)
        self.time3 = nn.Conv1d(c128, c32, 3, padding=1)
        self.time5 = nn.Conv1d(c128, c32, 5, padding=2)
        steps = SPEC.frames[0] - 1
        self.time_fc = nn.Sequential(*_fully_connected(2 * c32 * steps * 4 * 4, c4096, c2048, dropout))
        self.fc8 = nn.Linear(2 * c2048, classes)
        initialise(self, self.fc8)
        nn.init.eye_(self.permutation.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, 6, 224, 224) to logits (N, classes)."""
        steps = x.shape[2] - 1
        x = torch.cat([x[:, :, :-1], x.diff(dim=2)], 1)  # (N, 2 C, 5, 224, 224)
        x = self.pool(self.lrn(F.relu(self.conv1(fold(x)))))  # (5 N, 96, 54, 54)
        x = self.pool(self.lrn(F.relu(self.conv2(x))))  # (5 N, 256, 13, 13)
        x = F.relu(self.conv4(F.relu(self.conv3(x))))  # (5 N, 512, 13, 13)
        middle = unfold(x, steps)[:, :, steps // 2]
        space = F.max_pool2d(F.relu(self.space(middle)), 3)  # (N, 128, 4, 4)
        time = unfold(F.max_pool2d(F.relu(self.time(x)), 3), steps)  # (N, 128, 5, 4, 4)
        sequences = self.permutation(time.permute(0, 3, 4, 2, 1)).flatten(0, 2)  # (16 N, 5, 128)
        sequences = sequences.transpose(1, 2)
        filtered = F.relu(torch.cat([self.time3(sequences), self.time5(sequences)], 1))  # (16 N, 64, 5)
        both = [self.space_fc(space.flatten(1)), self.time_fc(filtered.reshape(space.shape[0], -1))]
        return self.fc8(torch.cat(both, 1))  # type: ignore[no-any-return]


def _fully_connected(inputs: int, first: int, second: int, dropout: float) -> list[nn.Module]:
    """Two fully connected layers, each with its ReLU and dropout."""
    return [
        nn.Linear(inputs, first),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(first, second),
        nn.ReLU(),
        nn.Dropout(dropout),
    ]
