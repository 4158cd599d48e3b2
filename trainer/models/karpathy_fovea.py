"""Context and fovea (Karpathy et al. 2014, section 3.2): of a frame of 178 pixels, one tower sees all at half
the size and one the centre at full size, 89 pixels both; together they are two to four times as fast.

Each is the single-frame network without its last pool, and so ends in 7x7 cells too. Both meet in the first
full connection.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from trainer.models.karpathy_single import PAPER, Features, Head
from trainer.models.layers import initialise
from trainer.models.spec import ModelSpec

SPEC = ModelSpec(
    paper=PAPER, streams=("spatial",), size=178, min_size=178, published={"Sports-1M, hit@1 by video": 60.0}
)
FIRST, LAST = "context.conv1", ("head.fc8",)


def build(in_channels: int, num_classes: int, *, dropout: float, width: int) -> Fovea:
    """The network of one frame."""
    return Fovea(in_channels, num_classes, dropout, width or 96)


class Fovea(nn.Module):
    """See the module; the arguments are those of karpathy_single.Single."""

    def __init__(self, channels: int, classes: int, dropout: float, width: int) -> None:
        super().__init__()
        self.context = Features(channels, width, last_pool=False)
        self.fovea = Features(channels, width, last_pool=False)
        self.head = Head(2 * (256 * width // 96) * 7 * 7, classes, dropout, width)
        initialise(self, self.head.fc8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, 178, 178) to logits (N, classes)."""
        context = self.context(F.avg_pool2d(x, 2))  # from (N, C, 89, 89) to (N, 256, 7, 7)
        fovea = self.fovea(x[:, :, 44:133, 44:133])  # from (N, C, 89, 89) to (N, 256, 7, 7)
        return self.head(torch.cat([context, fovea], 1).flatten(1))  # type: ignore[no-any-return]
