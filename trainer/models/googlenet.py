"""GoogLeNet (Szegedy et al. 2015, table 1), in both streams of "Towards Good Practices for Very Deep
Two-Stream ConvNets" (Wang, Xiong, Wang, Qiao 2015), without or with batch normalisation.

    224 -> 7x7/2 64 -> pool -> 56 -> 1x1 64, 3x3 192 -> pool -> 28 -> 3a, 3b -> pool -> 14 -> 4a .. 4e
        -> pool -> 7 -> 5a, 5b -> mean -> fc

With the option `batch_norm` it is torchvision's network, and torchvision's weights load. It has no biases and
no local response normalisation, and the paper's 5x5 branch is 3x3. Its ImageNet weights need input.rgb_mean
and input.rgb_scale of 127.5 each. Without the option it is the published network.

With the option `auxiliary`, two more classifiers read the maps of 4a and 4d. Their loss has a weight of 0.3.
They help a network that starts from scratch, and exist in training only. Without the option their weights are
ignored.
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
    options={"batch_norm": (True, False), "auxiliary": (False, True)},
    for_training=("aux1", "aux2"),
    dense=True,
    first_layer="conv1.conv",
    last_layers=("fc", "aux1.fc2", "aux2.fc2"),
)
LOSS_WEIGHTS = (1.0, 0.3, 0.3)  # of the last classifier and the two auxiliary ones

# Channels of the convolutions: 1x1; 1x1 before 3x3, 3x3; 1x1 before 5x5, 5x5; 1x1 after the pool.
INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


def build(
    in_channels: int,
    num_classes: int,
    *,
    dropout: float,
    width: int,
    batch_norm: bool = True,
    auxiliary: bool = False,
) -> GoogLeNet:
    """The same network for both streams."""
    return GoogLeNet(in_channels, num_classes, dropout, width or 64, batch_norm, auxiliary=auxiliary)


class Conv(nn.Module):
    """A convolution, an optional batch normalisation and a ReLU. With a stride of 1 it keeps the size."""

    def __init__(self, inputs: int, outputs: int, side: int, norm: bool, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=not norm)
        self.bn: nn.Module = nn.BatchNorm2d(outputs, eps=0.001) if norm else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        return F.relu(self.bn(self.conv(x)))


class Inception(nn.Module):
    """Four branches, whose outputs are concatenated."""

    def __init__(self, inputs: int, channels: tuple[int, ...], norm: bool) -> None:
        super().__init__()
        one, before3, three, before5, five, after = channels
        self.branch1 = Conv(inputs, one, 1, norm)
        self.branch2 = nn.Sequential(Conv(inputs, before3, 1, norm), Conv(before3, three, 3, norm))
        self.branch3 = nn.Sequential(
            Conv(inputs, before5, 1, norm), Conv(before5, five, 3 if norm else 5, norm)
        )
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1, ceil_mode=True), Conv(inputs, after, 1, norm))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) to (N, the sum of the branches' channels, H, W)."""
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class Auxiliary(nn.Module):
    """A classifier of inner maps: mean of 4x4 parts, 1x1 convolution, two fully connected layers.

    Args:
        inputs: Channels of the maps.
        classes: Number of classes.
        dropout: Probability of dropping a unit between the fully connected layers. The paper has 0.7.
        width: Channels of the network's first layer.
        norm: Whether the convolution has a batch normalisation.
    """

    def __init__(self, inputs: int, classes: int, dropout: float, width: int, norm: bool) -> None:
        super().__init__()
        self.conv = Conv(inputs, 2 * width, 1, norm)
        self.fc1 = nn.Linear(2 * width * 4 * 4, 16 * width)
        self.dropout = nn.Dropout(dropout)
        self.fc2 = nn.Linear(16 * width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) to logits (N, classes)."""
        # The paper averages squares of 5x5 with a stride of 3, which gives 4x4 from maps of 14x14 only.
        x = self.conv(F.adaptive_avg_pool2d(x, 4))
        return self.fc2(self.dropout(F.relu(self.fc1(x.flatten(1)))))  # type: ignore[no-any-return]


class GoogLeNet(Tower):
    """GoogLeNet. Its layers are conv1, pool1, conv2, conv3, pool2, inception3a, ..., inception5b, fc.

    Args:
        channels: Channels of the input: 3 for a frame, 2 L for a stack of flows.
        classes: Number of classes.
        dropout: Probability of dropping a unit before the last layer, and in each auxiliary classifier.
        width: Channels of the first layer. All others scale with it.
        norm: Whether convolutions have a batch normalisation.
        auxiliary: Whether the network has the auxiliary classifiers.
    """

    def __init__(
        self, channels: int, classes: int, dropout: float, width: int, norm: bool, *, auxiliary: bool
    ) -> None:
        super().__init__()
        self.conv1 = Conv(channels, width, 7, norm, 2)
        self.maxpool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2 = Conv(width, width, 1, norm)
        self.conv3 = Conv(width, 3 * width, 3, norm)
        self.maxpool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.maxpool3 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.maxpool4 = nn.MaxPool2d(2 if norm else 3, 2, ceil_mode=True)
        # The paper does not give the constants. These are those of the released Caffe network.
        self.lrn: nn.Module = nn.Identity() if norm else nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)
        inputs, channels_of = 3 * width, {}
        for name, published in INCEPTIONS.items():
            outputs = tuple(max(1, n * width // 64) for n in published)
            self.add_module(f"inception{name}", Inception(inputs, outputs, norm))
            inputs = outputs[0] + outputs[2] + outputs[4] + outputs[5]
            channels_of[name] = inputs
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(inputs, classes)
        last = [self.fc]
        self.auxiliary = auxiliary
        if auxiliary:
            self.aux1 = Auxiliary(channels_of["4a"], classes, dropout, width, norm)
            self.aux2 = Auxiliary(channels_of["4d"], classes, dropout, width, norm)
            last += [self.aux1.fc2, self.aux2.fc2]
        initialise(self, *last)

    def forward(self, x: torch.Tensor, after: str = "", until: str = "") -> torch.Tensor:
        """As in Tower. In training with auxiliary classifiers the logits are (N, classes, 3)."""
        if after or until or not (self.training and self.auxiliary):
            return super().forward(x, after, until)
        first = super().forward(x, until="inception4a")
        second = super().forward(first, "inception4a", "inception4d")
        logits = super().forward(second, "inception4d")
        return torch.stack([logits, self.aux1(first), self.aux2(second)], 2)

    def losses(self, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Weighted sum of the classifiers' cross-entropies: see trainer.models.objective.losses."""
        if logits.ndim == 2:
            return F.cross_entropy(logits.float(), y, reduction="none")
        target = y[:, None].expand(-1, logits.shape[2])
        costs = F.cross_entropy(logits.float(), target, reduction="none")  # (N, 3)
        return costs @ costs.new_tensor(LOSS_WEIGHTS)

    def class_scores(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits of the last classifier, (N, classes)."""
        return logits[:, :, 0]

    def steps(self) -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
        """The layers by name."""
        inceptions = [f"inception{name}" for name in INCEPTIONS]
        return {
            "conv1": self.conv1,
            "pool1": lambda x: self.lrn(self.maxpool1(x)),
            "conv2": self.conv2,
            "conv3": lambda x: self.lrn(self.conv3(x)),
            "pool2": self.maxpool2,
            **{name: getattr(self, name) for name in inceptions[:2]},
            "pool3": self.maxpool3,
            **{name: getattr(self, name) for name in inceptions[2:7]},
            "pool4": self.maxpool4,
            **{name: getattr(self, name) for name in inceptions[7:]},
            "fc": lambda x: full(self.fc, self.dropout(x.mean((2, 3), keepdim=True))),
        }
