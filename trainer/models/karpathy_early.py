"""Early fusion (Karpathy et al. 2014, section 3.1): the single-frame network, whose first layer spans ten
frames, 11x11x10 pixels of each colour."""

from __future__ import annotations

import torch

from trainer.models.karpathy_single import PAPER, Single
from trainer.models.spec import ModelSpec

SPEC = ModelSpec(
    paper=PAPER,
    streams=("spatial",),
    size=170,
    min_size=170,
    frames=(10,),
    published={"Sports-1M, hit@1 by video": 57.7},
)
FIRST, LAST = "features.conv1", ("head.fc8",)


def build(in_channels: int, num_classes: int, *, dropout: float, width: int) -> Early:
    """The network of ten frames in a row."""
    return Early(SPEC.frames[0] * in_channels, num_classes, dropout, width or 96)


class Early(Single):
    """See the module. The filters' time steps are channels: the colours of frame 1, of frame 2, ..."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, 10, 170, 170) to logits (N, classes)."""
        return super().forward(x.transpose(1, 2).flatten(1, 2))
