"""Late fusion (Karpathy et al. 2014, section 3.1): two single-frame networks of the same weights, 15 frames
apart, which meet in the first full connection."""

from __future__ import annotations

import torch
from torch import nn

from trainer.models.karpathy_single import PAPER, Features, Head
from trainer.models.layers import fold, initialise
from trainer.models.spec import ModelSpec

SPEC = ModelSpec(
    paper=PAPER,
    streams=("spatial",),
    size=170,
    min_size=170,
    frames=(2,),
    spacing=(15, 15),
    published={"Sports-1M, hit@1 by video": 59.3},
)
FIRST, LAST = "features.conv1", ("head.fc8",)


def build(in_channels: int, num_classes: int, *, dropout: float, width: int) -> Late:
    """The network of two frames."""
    return Late(in_channels, num_classes, dropout, width or 96)


class Late(nn.Module):
    """See the module; the arguments are those of karpathy_single.Single."""

    def __init__(self, channels: int, classes: int, dropout: float, width: int) -> None:
        super().__init__()
        self.features = Features(channels, width)
        self.head = Head(2 * (256 * width // 96) * 7 * 7, classes, dropout, width)
        initialise(self, self.head.fc8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, 2, 170, 170) to logits (N, classes)."""
        cells = self.features(fold(x))  # (2 N, 256, 7, 7)
        return self.head(cells.reshape(x.shape[0], -1))  # type: ignore[no-any-return]
