"""Slow fusion (Karpathy et al. 2014, section 3.1): higher layers see ever more of ten frames.

conv1 spans 4 frames at a stride of 2, which makes 4 time steps; conv2 and conv3 span 2 at a stride of 2,
which make 2 and 1. The filters of a layer are the same at all its steps.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from trainer.models.karpathy_single import PAPER, Features, Single
from trainer.models.layers import fold, initialise, unfold
from trainer.models.spec import ModelSpec

SPEC = ModelSpec(
    paper=PAPER,
    streams=("spatial",),
    size=170,
    min_size=170,
    frames=(10,),
    published={"Sports-1M, hit@1 by video": 60.9},
)
FIRST, LAST = "features.conv1", ("head.fc8",)


def build(in_channels: int, num_classes: int, *, dropout: float, width: int) -> Slow:
    """The network of ten frames in a row."""
    return Slow(in_channels, num_classes, dropout, width or 96)


class SlowFeatures(Features):
    """(N, C, 10, 170, 170) to (N, 256, 7, 7)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(channels, width)
        c256, c384 = self.conv2.out_channels, self.conv3.out_channels
        self.conv1 = nn.Conv3d(channels, width, (4, 11, 11), (2, 3, 3))  # type: ignore[assignment]
        self.conv2 = nn.Conv3d(width, c256, (2, 5, 5), (2, 1, 1), (0, 2, 2))  # type: ignore[assignment]
        self.conv3 = nn.Conv3d(c256, c384, (2, 3, 3), (2, 1, 1), (0, 1, 1))  # type: ignore[assignment]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See the class."""
        x = self._rest(F.relu(self.conv1(x)))  # (N, 96, 4, 27, 27)
        x = self._rest(F.relu(self.conv2(x)))  # (N, 256, 2, 14, 14)
        x = F.relu(self.conv3(x)).squeeze(2)  # (N, 384, 14, 14)
        x = F.relu(self.conv5(F.relu(self.conv4(x))))
        return self.pool(x)  # type: ignore[no-any-return]

    def _rest(self, x: torch.Tensor) -> torch.Tensor:
        """Normalisation and pool of each time step."""
        return unfold(self.pool(self.lrn(fold(x))), x.shape[2])


class Slow(Single):
    """See the module; the arguments are those of karpathy_single.Single."""

    def __init__(self, channels: int, classes: int, dropout: float, width: int) -> None:
        super().__init__(channels, classes, dropout, width)
        self.features = SlowFeatures(channels, width)
        initialise(self.features)
