"""ST-ResNet, of "Spatiotemporal Residual Networks for Video Action Recognition" (Feichtenhofer, Pinz, Wildes
2016): two ResNet-50, of T moments each. In the second unit of each stage, "b",

- the appearance stream's branch sees more than its shortcut: the sum of the unit before it, not yet through
  its ReLU, plus what the motion stream's unit before it gives. So motion changes how appearance is seen;
- both 1x1 convolutions, of both streams, span three moments. They are inflated from those of a trained
  ResNet-50 (weights.inflate), and the first and last moment stand for those before and after, so that
  the network begins with what its towers learnt alone.

In stage 2 of its training there are more moments, and a temporal pool, the maximum of five at a stride of
two, follows the last unit. What is left is averaged over space and time. Both streams learn and both predict.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from trainer.models.layers import average, fold, unfold
from trainer.models.resnet18 import ResNet
from trainer.models.resnet50 import Bottleneck
from trainer.models.resnet50 import build as resnet50
from trainer.models.spec import ModelSpec
from trainer.models.weights import inflate

SPEC = ModelSpec(
    paper="Feichtenhofer, Pinz, Wildes 2016: Spatiotemporal Residual Networks for Video Action Recognition, "
    "arXiv 1611.02155",
    joint=True,
    min_size=32,
    frames=(5, 11, 25, ...),
    spacing=(5, 15),
    options={"stage": (1, 2), "taps": ("average", "centre")},
    dense=True,
    published={"UCF-101, 3 splits": 93.4, "HMDB-51, 3 splits": 66.4},
)
FIRST, LAST = "", ("spatial.fc", "temporal.fc")


def build(
    in_channels: int, num_classes: int, *, dropout: float, width: int, stage: int = 1, taps: str = "average"
) -> STResNet:
    """The two streams; `in_channels` is the flow's, 2 L. `stage` and `taps`: see STResNet."""
    streams = [resnet50(c, num_classes, dropout=dropout, width=width) for c in (3, in_channels)]
    return STResNet(*streams, pool=stage == 2, taps=taps)


class STResNet(nn.Module):
    """See the module.

    Args:
        spatial, temporal: the appearance and the motion stream, whose "b" units are made temporal here.
        pool: with the temporal pool of stage 2.
        taps: how the temporal convolutions begin: see trainer.models.weights.inflate.

    Attributes:
        towers: see trainer.models.registry.
    """

    towers = {"spatial": "resnet50", "temporal": "resnet50"}  # noqa: RUF012

    def __init__(self, spatial: ResNet, temporal: ResNet, *, pool: bool, taps: str) -> None:
        super().__init__()
        self.spatial, self.temporal, self.pool = spatial, temporal, pool
        for stream in (spatial, temporal):
            for stage in stream.stages:
                unit = cast(Bottleneck, getattr(stream, stage)[1])
                unit.conv1 = _over_time(unit.conv1, taps)  # type: ignore[assignment]
                unit.conv3 = _over_time(unit.conv3, taps)  # type: ignore[assignment]

    def forward(self, rgb: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
        """(N, 3, T, S, S) and (N, 2 L, T, S, S) to logits: see trainer.models.registry."""
        moments = rgb.shape[2]
        a = self.spatial(fold(rgb), until="pool1")  # (N T, 64, S/4, S/4)
        m = self.temporal(fold(flow), until="pool1")
        for stage in self.spatial.stages:
            first, second, *others = getattr(self.spatial, stage)
            motion_first, motion_second, *motion_others = getattr(self.temporal, stage)
            added = first.branch(a) + first.downsample(a)
            m = motion_first(m)
            a = F.relu(added)
            a = F.relu(a + _branch(second, added + m, moments))
            m = F.relu(m + _branch(motion_second, m, moments))
            for unit, motion_unit in zip(others, motion_others, strict=True):
                a, m = unit(a), motion_unit(m)
        appearance, motion = (
            self._classify(self.spatial, a, moments),
            self._classify(self.temporal, m, moments),
        )
        return torch.stack([appearance, motion], 2) if self.training else average(appearance, motion)

    def _classify(self, stream: ResNet, x: torch.Tensor, moments: int) -> torch.Tensor:
        """(N T, 2048, h, w) to logits (N, classes)."""
        x = unfold(x, moments)
        if self.pool:
            x = F.max_pool3d(x, (min(5, moments), 1, 1), (2, 1, 1))
        (*_, last_unit, _fc) = stream.steps()
        return stream(x.mean(2), after=last_unit)  # type: ignore[no-any-return]


def _branch(unit: Bottleneck, x: torch.Tensor, moments: int) -> torch.Tensor:
    """The branch of a "b" unit, (N T, C, h, w) to the same."""
    y = F.relu(unit.bn1(fold(unit.conv1(unfold(x, moments)))))
    y = F.relu(unit.bn2(unit.conv2(y)))
    return unit.bn3(fold(unit.conv3(unfold(y, moments))))  # type: ignore[no-any-return]


def _over_time(conv: nn.Conv2d, taps: str) -> nn.Conv3d:
    """A 1x1 convolution over three moments, made from one of frames."""
    over = nn.Conv3d(
        conv.in_channels,
        conv.out_channels,
        (3, 1, 1),
        padding=(1, 0, 0),
        padding_mode="replicate",
        bias=False,
    )
    over.weight = nn.Parameter(inflate(conv.weight.detach(), 3, taps))
    return over
