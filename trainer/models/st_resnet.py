"""ST-ResNet, of "Spatiotemporal Residual Networks for Video Action Recognition" (Feichtenhofer, Pinz, Wildes
2016): two ResNet-50, which see T time steps.

The second unit of each stage, unit "b", differs from ResNet-50:

- The branch of the appearance stream has another input than its shortcut: the sum of the previous unit before
  its ReLU, plus the output of the motion stream's previous unit.
- Both 1x1 convolutions of both streams span three time steps. They are made from those of a trained ResNet-50
  by `weights.inflate`. With `padding = "replicate"`, the first and last time steps are repeated as padding.
  The network then starts with the outputs of its towers. The released code pads with "zeros".

Stage 2 of the training has more time steps. A temporal pool follows the last unit: the maximum of five steps
with a stride of two. The mean over space and time follows. Both streams learn, and the prediction is the mean
of both: of their softmax, or of their logits as in the released code (`average`). The loss is that of the
mean of the logits of all time steps. With `step_loss` it is the sum of their losses, as in the released code.
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
    options={
        "stage": (1, 2),
        "taps": ("average", "centre"),
        "padding": ("replicate", "zeros"),
        "step_loss": (False, True),
        "average": ("softmax", "logits"),
    },
    dense=True,
    published={"UCF-101, 3 splits": 93.4, "HMDB-51, 3 splits": 66.4},
    last_layers=("spatial.fc", "temporal.fc"),
)


def build(
    in_channels: int,
    num_classes: int,
    *,
    dropout: float,
    width: int,
    stage: int = 1,
    taps: str = "average",
    padding: str = "replicate",
    step_loss: bool = False,
    average: str = "softmax",
) -> STResNet:
    """The two streams.

    Args:
        in_channels: 2 L, the channels of the flow.
        num_classes: Number of classes.
        dropout: Probability of dropping a unit before the last layer of each stream.
        width: Inner channels of the first stage of each stream.
        stage: The stage of training. Stage 2 adds the temporal pool.
        taps: How the temporal convolutions start: the `method` of `weights.inflate`.
        padding: What temporal convolutions read before the first and after the last time step.
        step_loss: Whether every time step has a loss of its own.
        average: What is averaged over both streams for the prediction.
    """
    streams = [resnet50(c, num_classes, dropout=dropout, width=width) for c in (3, in_channels)]
    return STResNet(
        *streams, pool=stage == 2, taps=taps, padding=padding, step_loss=step_loss, average=average
    )


class STResNet(nn.Module):
    """ST-ResNet, made from two ResNet-50.

    Args:
        spatial: The appearance stream. Its "b" units are made temporal here.
        temporal: The motion stream, likewise.
        pool: Whether the temporal pool of stage 2 follows the last unit.
        taps: How the temporal convolutions start: the `method` of `weights.inflate`.
        padding, step_loss, average: as for `build`.

    Attributes:
        towers: The parts that are networks of the registry.
    """

    towers = {"spatial": "resnet50", "temporal": "resnet50"}  # noqa: RUF012

    def __init__(
        self,
        spatial: ResNet,
        temporal: ResNet,
        *,
        pool: bool,
        taps: str,
        padding: str,
        step_loss: bool,
        average: str,
    ) -> None:
        super().__init__()
        self.spatial, self.temporal, self.pool = spatial, temporal, pool
        self.step_loss, self.average = step_loss, average
        for stream in (spatial, temporal):
            for stage in stream.stages:
                unit = cast(Bottleneck, getattr(stream, stage)[1])
                unit.conv1 = _temporal(unit.conv1, taps, padding)  # type: ignore[assignment]
                unit.conv3 = _temporal(unit.conv3, taps, padding)  # type: ignore[assignment]

    def forward(self, rgb: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
        """(N, 3, T, S, S) and (N, 2 L, T, S, S) to logits (N, classes).

        In training (N, classes, K), with K = 2, or with twice the number of time steps that have a loss.
        """
        steps = rgb.shape[2]
        a = self.spatial(fold(rgb), until="pool1")  # (N T, 64, S/4, S/4)
        m = self.temporal(fold(flow), until="pool1")
        for stage in self.spatial.stages:
            first, second, *others = getattr(self.spatial, stage)
            motion_first, motion_second, *motion_others = getattr(self.temporal, stage)
            added = first.branch(a) + first.downsample(a)
            m = motion_first(m)
            a = F.relu(added)
            a = F.relu(a + _branch(second, added + m, steps))
            m = F.relu(m + _branch(motion_second, m, steps))
            for unit, motion_unit in zip(others, motion_others, strict=True):
                a, m = unit(a), motion_unit(m)
        logits = [self._classify(s, x, steps) for s, x in ((self.spatial, a), (self.temporal, m))]
        if not self.training:
            return average(*(each.mean(2) for each in logits), of=self.average)
        return torch.cat(logits if self.step_loss else [each.mean(2, keepdim=True) for each in logits], 2)

    def _classify(self, stream: ResNet, x: torch.Tensor, steps: int) -> torch.Tensor:
        """(N T, 2048, h, w) to logits of the time steps that are left after the pool, (N, classes, T')."""
        x = unfold(x, steps)
        if self.pool:
            x = F.max_pool3d(x, (min(5, steps), 1, 1), (2, 1, 1))
        (*_, last_unit, _fc) = stream.steps()
        if self.step_loss:
            return unfold(stream(fold(x), after=last_unit), x.shape[2])
        return stream(x.mean(2), after=last_unit).unsqueeze(2)  # type: ignore[no-any-return]


def _branch(unit: Bottleneck, x: torch.Tensor, steps: int) -> torch.Tensor:
    """The branch of a "b" unit: (N T, C, h, w) to the same shape."""
    y = F.relu(unit.bn1(fold(unit.conv1(unfold(x, steps)))))
    y = F.relu(unit.bn2(unit.conv2(y)))
    return unit.bn3(fold(unit.conv3(unfold(y, steps))))  # type: ignore[no-any-return]


def _temporal(conv: nn.Conv2d, taps: str, padding: str) -> nn.Conv3d:
    """A 1x1 convolution over three time steps, from a 1x1 convolution of one."""
    temporal = nn.Conv3d(
        conv.in_channels,
        conv.out_channels,
        (3, 1, 1),
        padding=(1, 0, 0),
        padding_mode=padding,  # type: ignore[arg-type]
        bias=False,
    )
    temporal.weight = nn.Parameter(inflate(conv.weight.detach(), 3, taps))
    return temporal
