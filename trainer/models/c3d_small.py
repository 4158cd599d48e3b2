"""The small C3D (Tran et al. 2015, section 3.2), which is trained on UCF-101 from scratch.

Five convolutions, of 64, 128, 256, 256 and 256 channels, each with a pool after it; full connections of 2048.
"""

from __future__ import annotations

from trainer.models.c3d import C3D, PAPER
from trainer.models.spec import ModelSpec

SPEC = ModelSpec(paper=PAPER, size=112, min_size=112, frames=(16,), stack=1, features=True)
FIRST, LAST = "conv1a", ("fc8",)


def build(in_channels: int, num_classes: int, *, dropout: float, width: int) -> C3D:
    """The small network."""
    return C3D(((1,), (2,), (4,), (4,), (4,)), 32, in_channels, num_classes, dropout, width or 64)
