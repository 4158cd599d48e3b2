"""GoogLeNet (Szegedy et al. 2015, table 1), in both streams of "Towards Good Practices for Very Deep
Two-Stream ConvNets" (Wang, Xiong, Wang, Qiao 2015), without or with batch normalisation.

    224 -> 7x7/2 64 -> pool -> 56 -> 1x1 64, 3x3 192 -> pool -> 28 -> 3a, 3b -> pool -> 14 -> 4a .. 4e
        -> pool -> 7 -> 5a, 5b -> mean -> fc

With `batch_norm` it is torchvision's network, whose weights load: no biases, no local response normalisation,
and the branch that the paper calls 5x5 is 3x3. Its ImageNet weights want input.rgb_mean and rgb_scale of
127.5 each. Without, it is the published network.

With `auxiliary`, two more classifiers look at what 4a and 4d give, and learn with a weight of 0.3, which
helps to start from scratch; they are used in training only. Without, weights of them are passed over.
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
)
FIRST, LAST = "conv1.conv", ("fc", "aux1.fc2", "aux2.fc2")
WEIGHTS = (1.0, 0.3, 0.3)  # of the classifiers' losses

# Channels of 1x1; of 1x1 before 3x3, and of it; of 1x1 before 5x5, and of it; of 1x1 after the pool.
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
    """Convolution, batch normalisation if any, ReLU; padded to keep the size where the stride is 1."""

    def __init__(self, inputs: int, outputs: int, side: int, norm: bool, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=not norm)
        self.bn: nn.Module = nn.BatchNorm2d(outputs, eps=0.001) if norm else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        return F.relu(self.bn(self.conv(x)))


class Inception(nn.Module):
    """Four branches side by side."""

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
    """A classifier of maps on the way: mean of 4x4 parts, 1x1 convolution, two full connections.

    Args:
        inputs: channels of the maps.
        classes: number of classes.
        dropout: between the full connections; the paper drops 0.7.
        width: as the network's.
        norm: with batch normalisation.
    """

    def __init__(self, inputs: int, classes: int, dropout: float, width: int, norm: bool) -> None:
        super().__init__()
        self.conv = Conv(inputs, 2 * width, 1, norm)
        self.fc1 = nn.Linear(2 * width * 4 * 4, 16 * width)
        self.dropout = nn.Dropout(dropout)
        self.fc2 = nn.Linear(16 * width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) to logits (N, classes)."""
        # The paper's squares of 5x5 at a stride of 3 are 4x4 too, but of maps of 14x14 only.
        x = self.conv(F.adaptive_avg_pool2d(x, 4))
        return self.fc2(self.dropout(F.relu(self.fc1(x.flatten(1)))))  # type: ignore[no-any-return]


class GoogLeNet(Tower):
    """See the module. Its layers are conv1, pool1, conv2, conv3, pool2, inception3a, ..., inception5b, fc.

    Args:
        channels: of the input: 3, or 2 L.
        classes: number of classes.
        dropout: before the last fully connected layer, and in each auxiliary classifier.
        width: channels of the first layer; all others scale with it.
        norm: with batch normalisation.
        auxiliary: with the auxiliary classifiers.
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
        # The paper does not give its constants; these are the released Caffe network's.
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
        """See Tower; in training, of the whole network with auxiliary classifiers, logits (N, classes, 3)."""
        if after or until or not (self.training and self.auxiliary):
            return super().forward(x, after, until)
        first = super().forward(x, until="inception4a")
        second = super().forward(first, "inception4a", "inception4d")
        logits = super().forward(second, "inception4d")
        return torch.stack([logits, self.aux1(first), self.aux2(second)], 2)

    def losses(self, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Cross entropies of the classifiers, weighted: see trainer.models.objective.losses."""
        if logits.ndim == 2:
            return F.cross_entropy(logits.float(), y, reduction="none")
        target = y[:, None].expand(-1, logits.shape[2])
        costs = F.cross_entropy(logits.float(), target, reduction="none")  # (N, 3)
        return costs @ costs.new_tensor(WEIGHTS)

    def class_scores(self, logits: torch.Tensor) -> torch.Tensor:
        """What the last classifier says, (N, classes)."""
        return logits[:, :, 0]

    def steps(self) -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
        """See Tower."""
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
