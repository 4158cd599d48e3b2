"""Two towers joined at one layer: "Convolutional Two-Stream Network Fusion for Video Action Recognition"
(Feichtenhofer, Pinz, Zisserman 2016).

Both towers run up to a named layer at each of T time steps. Their maps there, each (N, D, T, h, w), are
fused:

- conv: concatenated to 2 D channels, then a convolution to D channels and a ReLU. The filters start as a
  quarter of the spatial maps plus three quarters of the temporal maps, smoothed by a Gaussian over 3x3x3
  cells;
- sum, max: element by element;
- concat: concatenated;
- bilinear: the sum over all cells of the outer products of the channels of both maps.

The maximum over the T time steps follows, then the rest of the spatial tower. Together with the pool that
follows the published layer, this is a 3D pool of 2x2xT. The rest of the temporal tower continues from the
maximum of its own maps. Both towers learn, and the prediction is the mean of both: of their softmax, or of
their logits as in the released code (`average`). Gradients stop at the fusion: the layers before it keep the
weights of the trained towers.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from flowprep.errors import UsageError
from trainer.models.layers import Tower, average, fold, unfold
from trainer.models.registry import find_module
from trainer.models.spec import ModelSpec
from trainer.models.weights import widen

SPEC = ModelSpec(
    paper="Feichtenhofer, Pinz, Zisserman 2016: Convolutional Two-Stream Network Fusion for Video Action "
    "Recognition, arXiv 1604.06573",
    joint=True,
    min_size=32,
    frames=(5, 1, 10, 25, ...),
    spacing=(5, 15),
    options={
        "tower": ("vgg16", "cnn_m_2048", "googlenet", "resnet50"),
        "layer": ("relu5_3", ...),
        "fusion": ("conv", "sum", "max", "concat", "bilinear"),
        "kernel": (3, 1),
        "both": (True, False),
        "stop": (True, False),
        "average": ("softmax", "logits"),
    },
    frozen_by="stop",
    dense=True,
    published={"UCF-101, 3 splits": 92.5, "HMDB-51, 3 splits": 65.4},
)
CHAINS = ("vgg16", "cnn_m_2048")


def build(
    in_channels: int,
    num_classes: int,
    *,
    dropout: float,
    width: int,
    tower: str = "vgg16",
    layer: str = "relu5_3",
    fusion: str = "conv",
    kernel: int = 3,
    both: bool = True,
    stop: bool = True,
    average: str = "softmax",
) -> ConvFusion:
    """Two towers and their fusion.

    Args:
        in_channels: 2 L, the channels of the flow.
        num_classes: Number of classes.
        dropout: Probability of dropping a unit in the dropout layers of both towers.
        width: Channels of the first layer of both towers.
        tower: Name of the network of both towers.
        layer: The layer at which they are fused, a name in the tower's `steps`.
        fusion: One of the fusions above.
        kernel: Side of the convolution of fusion "conv", over space and time.
        both: Whether the rest of the temporal tower is kept beside the fused tower.
        stop: Whether the layers before the fusion keep their weights.
        average: What is averaged over both towers for the prediction.

    Raises:
        UsageError: The tower has no such layer, or no layer after it accepts the channels of fusion "concat".
    """
    build_tower = find_module(tower).build
    towers = [build_tower(c, num_classes, dropout=dropout, width=width) for c in (3, in_channels)]
    with torch.device("meta"):
        probe = build_tower(3, num_classes, dropout=dropout, width=width).eval()
    assert isinstance(probe, Tower)
    if fusion == "concat" and tower not in CHAINS:
        raise UsageError(f"fusion 'concat' needs a tower whose layers are a chain: {' | '.join(CHAINS)}")
    below, following, channels = probe.part(layer, find_module(tower).SPEC.shapes()[0])
    if fusion == "concat" and not following:
        raise UsageError(f"layer is {layer!r}, the last of {tower}; fusion 'concat' needs a layer after it")
    return ConvFusion(
        tower,
        towers,
        layer,
        below,
        following,
        channels,
        num_classes,
        fusion,
        kernel,
        both=both,
        stop=stop,
        average=average,
    )


class ConvFusion(nn.Module):
    """Two fused towers: see `build`.

    Attributes:
        towers: The parts that are networks of the registry.
        widened: The layer that reads the maps of both towers, by the part that it belongs to.
    """

    def __init__(
        self,
        tower: str,
        towers: list[nn.Module],
        layer: str,
        below: set[str],
        following: str,
        channels: int,
        classes: int,
        fusion: str,
        kernel: int,
        *,
        both: bool,
        stop: bool,
        average: str,
    ) -> None:
        super().__init__()
        self.towers = {"spatial": tower, "temporal": tower}
        self.widened = {"spatial": following} if fusion == "concat" else {}
        self.layer, self.fusion, self.both, self.average = layer, fusion, both, average
        self.spatial, self.temporal = towers
        if fusion == "conv":
            self.join = nn.Conv3d(2 * channels, channels, kernel, padding=kernel // 2)
            nn.init.zeros_(self.join.bias)  # type: ignore[arg-type]
            self.join.weight.data.copy_(weighted_sum_filters(channels, kernel))
        elif fusion == "concat":
            _widen(self.spatial, following)
        elif fusion == "bilinear":
            self.classifier = nn.Linear(channels**2, classes)
            nn.init.zeros_(self.classifier.bias)
        # The towers stay whole, so that weights of trained runs fit. Layers that never run do not learn.
        for own, above in ((self.spatial, fusion != "bilinear"), (self.temporal, both)):
            for name, parameter in own.named_parameters():
                parameter.requires_grad_(not stop if name.rpartition(".")[0] in below else above)

    def forward(self, rgb: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
        """(N, 3, T, S, S) and (N, 2 L, T, S, S) to logits (N, classes), or (N, classes, 2) in training."""
        steps = rgb.shape[2]
        a = unfold(self.spatial(fold(rgb), until=self.layer), steps)  # (N, D, T, h, w)
        b = unfold(self.temporal(fold(flow), until=self.layer), steps)
        fused = self._fuse(a, b)
        if not self.both:
            return fused
        motion = self.temporal(b.amax(2), after=self.layer)
        return torch.stack([fused, motion], 2) if self.training else average(fused, motion, of=self.average)

    def _fuse(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Both (N, D, T, h, w) to logits (N, classes)."""
        if self.fusion == "bilinear":
            x = torch.einsum("ncthw,ndthw->ncd", a, b).flatten(1)
            # Signed square roots and an L2 norm of 1, as in Lin et al. 2015. The root has no finite slope at
            # 0.
            x = F.normalize(x.sign() * (x.abs() + 1e-10).sqrt())
            return self.classifier(x)  # type: ignore[no-any-return]
        if self.fusion == "conv":
            x = F.relu(self.join(torch.cat([a, b], 1)))
        elif self.fusion == "concat":
            x = torch.cat([a, b], 1)
        else:
            x = a + b if self.fusion == "sum" else torch.maximum(a, b)
        return self.spatial(x.amax(2), after=self.layer)  # type: ignore[no-any-return]


def weighted_sum_filters(channels: int, kernel: int) -> torch.Tensor:
    """Filters (D, 2 D, k, k, k): 1/4 and 3/4 of the identity, times a Gaussian whose sum is 1."""
    line = torch.exp(-((torch.arange(kernel) - kernel // 2).float() ** 2) / 2)
    gaussian = torch.einsum("i,j,k->ijk", line, line, line)
    gaussian /= gaussian.sum()
    identity = torch.eye(channels)
    return torch.cat([0.25 * identity, 0.75 * identity], 1)[..., None, None, None] * gaussian


def _widen(tower: nn.Module, following: str) -> None:
    """Double the input channels of the layer after the fusion. It starts as the mean of both halves."""
    layer = tower.get_submodule(following)
    assert isinstance(layer, (nn.Conv2d, nn.Linear))
    layer.weight = nn.Parameter(widen(layer.weight.detach()))
    if isinstance(layer, nn.Linear):
        layer.in_features *= 2
    else:
        layer.in_channels *= 2
