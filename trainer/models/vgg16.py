"""VGG-16 (Simonyan, Zisserman 2015, configuration D), the very deep network of both streams in "Towards Good
Practices for Very Deep Two-Stream ConvNets" (Wang, Xiong, Wang, Qiao 2015), with torchvision's names.

    224 -> conv1_1, conv1_2 64 -> pool -> 112 -> conv2_1, conv2_2 128 -> pool -> 56 -> conv3_1 .. conv3_3 256
        -> pool -> 28 -> conv4_1 .. conv4_3 512 -> pool -> 14 -> conv5_1 .. conv5_3 512 -> pool -> 7
        -> fc6 4096 -> fc7 4096 -> fc8

Convolutions are 3x3 with padding, pools 2x2. A larger frame is classified densely: fc6 is then a convolution
of 7x7 cells. A smaller frame that leaves fewer than 7x7 cells has these stretched to 7x7, as in torchvision.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from trainer.models.layers import Tower, full, initialise
from trainer.models.spec import ModelSpec

SPEC = ModelSpec(
    paper="Wang, Xiong, Wang, Qiao 2015: Towards Good Practices for Very Deep Two-Stream ConvNets, "
    "arXiv 1507.02159",
    streams=("spatial", "temporal"),
    min_size=32,
    dense=True,
    published={"UCF-101 spatial": 78.4, "UCF-101 temporal": 87.0, "UCF-101 both, 3 splits": 91.4},
    first_layer="features.0",
    last_layers=("classifier.6",),
)
STAGES = (2, 2, 3, 3, 3)  # convolutions before each pool


def build(in_channels: int, num_classes: int, *, dropout: float, width: int) -> VGG16:
    """The same network for both streams."""
    return VGG16(in_channels, num_classes, dropout, width or 64)


class VGG16(Tower):
    """VGG-16. Its layers are conv1_1, relu1_1, ..., pool5, fc6, relu6, fc7, relu7, fc8.

    Args:
        channels: Channels of the input: 3 for a frame, 2 L for a stack of flows.
        classes: Number of classes.
        dropout: Probability of dropping a unit after fc6 and after fc7.
        width: Channels of the first layer. All others scale with it.
    """

    def __init__(self, channels: int, classes: int, dropout: float, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        self._names: list[str] = []
        for stage, count in enumerate(STAGES, 1):
            outputs = width * min(2 ** (stage - 1), 8)
            for k in range(1, count + 1):
                layers += [nn.Conv2d(channels, outputs, 3, 1, 1), nn.ReLU()]
                self._names += [f"conv{stage}_{k}", f"relu{stage}_{k}"]
                channels = outputs
            layers.append(nn.MaxPool2d(2))
            self._names.append(f"pool{stage}")
        self.features = nn.Sequential(*layers)
        hidden = 64 * width
        self.classifier = nn.Sequential(
            nn.Linear(channels * 7 * 7, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, classes),
        )
        initialise(self, self.classifier[-1])  # type: ignore[arg-type]

    def steps(self) -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
        """The layers by name."""
        fc6, relu6, drop6, fc7, relu7, drop7, fc8 = self.classifier
        return {
            **dict(zip(self._names, self.features, strict=True)),
            "fc6": lambda x: full(fc6, _at_least(x, 7), 7),  # type: ignore[arg-type]
            "relu6": lambda x: drop6(relu6(x)),
            "fc7": lambda x: full(fc7, x),  # type: ignore[arg-type]
            "relu7": lambda x: drop7(relu7(x)),
            "fc8": lambda x: full(fc8, x),  # type: ignore[arg-type]
        }


def _at_least(maps: torch.Tensor, side: int) -> torch.Tensor:
    """Maps of at least `side` x `side` cells: smaller ones are stretched."""
    height, width = maps.shape[2:]
    if min(height, width) >= side:
        return maps
    return F.adaptive_avg_pool2d(maps, (max(height, side), max(width, side)))
