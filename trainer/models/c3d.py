"""C3D (Tran et al. 2015, section 3.3): 3x3x3 convolutions over 16 frames, or over 16 flows.

    16x112x112 -> conv1 64 -> pool -> 16x56x56 -> conv2 128 -> pool -> 8x28x28 -> conv3a, conv3b 256 -> pool
        -> 4x14x14 -> conv4a, conv4b 512 -> pool -> 2x7x7 -> conv5a, conv5b 512 -> pool -> 1x4x4
        -> fc6 4096 -> fc7 4096 -> fc8

Pools are 2x2x2, the first 1x2x2. They round up. The paper classifies videos by the `features` of their clips,
not by logits: it averages them, divides by the L2 norm and fits a linear SVM.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn

from trainer.models.layers import initialise
from trainer.models.spec import ModelSpec

SPEC = ModelSpec(
    paper="Tran, Bourdev, Fergus, Torresani, Paluri 2015: Learning Spatiotemporal Features with 3D "
    "Convolutional Networks, arXiv 1412.0767",
    size=112,
    min_size=112,
    frames=(16,),
    stack=1,
    features=True,
    published={"UCF-101, fc6 and SVM, 3 splits": 82.3},
    first_layer="conv1a",
    renamed={"conv1": "conv1a", "conv2": "conv2a"},
    last_layers=("fc8",),
)


def build(in_channels: int, num_classes: int, *, dropout: float, width: int) -> C3D:
    """The large network, of eight convolutions."""
    multiples = ((1,), (2,), (4, 4), (8, 8), (8, 8))
    return C3D(multiples, 64, in_channels, num_classes, dropout, width or 64)


class Small:
    """The small C3D (Tran et al. 2015, section 3.2), which is trained on UCF-101 from scratch.

    It has five convolutions, of 64, 128, 256, 256 and 256 channels. A pool follows each. The fully connected
    layers have 2048 units.
    """

    SPEC = replace(SPEC, published={}, renamed={})

    @staticmethod
    def build(in_channels: int, num_classes: int, *, dropout: float, width: int) -> C3D:
        """The small network, of five convolutions."""
        return C3D(((1,), (2,), (4,), (4,), (4,)), 32, in_channels, num_classes, dropout, width or 64)


class C3D(nn.Module):
    """A network of 3x3x3 convolutions.

    Args:
        multiples: For each pool, the channels of the convolutions before it, in multiples of `width`.
        hidden: Units of fc6 and of fc7, in multiples of `width`.
        inputs: Channels of the input at each time step.
        classes: Number of classes.
        dropout: Probability of dropping a unit after fc6 and after fc7.
        width: Channels of the first layer.
    """

    def __init__(
        self,
        multiples: Sequence[Sequence[int]],
        hidden: int,
        inputs: int,
        classes: int,
        dropout: float,
        width: int,
    ) -> None:
        super().__init__()
        self._stages: list[list[str]] = []
        for stage, stage_multiples in enumerate(multiples, 1):
            names = [f"conv{stage}{letter}" for letter, _ in zip("ab", stage_multiples, strict=False)]
            for name, multiple in zip(names, stage_multiples, strict=True):
                self.add_module(name, nn.Conv3d(inputs, multiple * width, 3, padding=1))
                inputs = multiple * width
            self._stages.append(names)
        self.fc6 = nn.Linear(inputs * 4 * 4, hidden * width)
        self.fc7 = nn.Linear(hidden * width, hidden * width)
        self.fc8 = nn.Linear(hidden * width, classes)
        self.drop6, self.drop7 = nn.Dropout(dropout), nn.Dropout(dropout)
        initialise(self, self.fc8)

    @property
    def num_features(self) -> int:
        """Length of a vector of `features`."""
        return self.fc6.out_features

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, 16, 112, 112) to the activations of fc6, (N, num_features)."""
        for k, stage in enumerate(self._stages):
            for name in stage:
                x = F.relu(getattr(self, name)(x))
            x = F.max_pool3d(x, (1, 2, 2) if k == 0 else 2, ceil_mode=True)
        return F.relu(self.fc6(x.flatten(1)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, 16, 112, 112) to logits (N, classes)."""
        x = self.drop6(self.features(x))
        x = self.drop7(F.relu(self.fc7(x)))
        return self.fc8(x)  # type: ignore[no-any-return]
