"""Two towers that become one: "Convolutional Two-Stream Network Fusion for Video Action Recognition"
(Feichtenhofer, Pinz, Zisserman 2016).

Both towers run up to a named layer at each of T moments. There their maps, (N, D, T, h, w) each, are fused:

- conv: side by side, 2 D channels, through a convolution to D and a ReLU. Its filters start as the sum of a
  quarter of the spatial and three quarters of the temporal maps, spread by a Gaussian over 3x3x3 cells;
- sum, max: cell by cell; concat: side by side;
- bilinear: the sum over all cells of the outer products of both maps' channels.

Then the maximum over the T moments is taken, and the spatial tower goes on with what is fused; with the pool
that follows the published layer that is a 3D pool of 2x2xT. The temporal tower is kept beside it, and goes on
from the maximum of its own maps: both learn, and both predict. Gradients stop at the fusion: the layers below
keep what the towers learnt alone.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from flowprep.errors import UsageError
from trainer.models.layers import Tower, average, fold, unfold
from trainer.models.registry import find_module
from trainer.models.spec import ModelSpec

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
    },
    dense=True,
    published={"UCF-101, 3 splits": 92.5, "HMDB-51, 3 splits": 65.4},
)
FIRST, LAST = "", ()
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
) -> ConvFusion:
    """The two towers and what joins them.

    Args:
        in_channels: of the flow: 2 L.
        num_classes, dropout, width: of both towers.
        tower: name of their network.
        layer: where they meet: a name of the tower's steps.
        fusion: see the module.
        kernel: side of the fusion's convolution, over space and time.
        both: keep the temporal tower beside the fused one.
        stop: let nothing below the fusion learn.

    Raises:
        UsageError: the tower has no such layer, or what follows it cannot take the channels of "concat".
    """
    make = find_module(tower).build
    towers = [make(c, num_classes, dropout=dropout, width=width) for c in (3, in_channels)]
    with torch.device("meta"):
        probe = make(3, num_classes, dropout=dropout, width=width).eval()
    assert isinstance(probe, Tower)
    if fusion == "concat" and tower not in CHAINS:
        raise UsageError(f"fusion 'concat' needs a tower whose layers are a chain: {' | '.join(CHAINS)}")
    below, following, channels = probe.part(layer, find_module(tower).SPEC.shapes()[0])
    if fusion == "concat" and not following:
        raise UsageError(f"no layer of {tower} comes after {layer} to take the fusion 'concat'")
    return ConvFusion(
        tower, towers, layer, below, following, channels, num_classes, fusion, kernel, both=both, stop=stop
    )


class ConvFusion(nn.Module):
    """See the module and `build`.

    Attributes:
        towers: see trainer.models.registry.
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
    ) -> None:
        super().__init__()
        self.towers = {"spatial": tower, "temporal": tower}
        self.layer, self.fusion, self.both = layer, fusion, both
        self.spatial, self.temporal = towers
        if fusion == "conv":
            self.join = nn.Conv3d(2 * channels, channels, kernel, padding=kernel // 2)
            nn.init.zeros_(self.join.bias)  # type: ignore[arg-type]
            self.join.weight.data.copy_(_mixture(channels, kernel))
        elif fusion == "concat":
            _widen(self.spatial, following)
        elif fusion == "bilinear":
            self.classifier = nn.Linear(channels**2, classes)
            nn.init.zeros_(self.classifier.bias)
        # The towers stay whole, so that those of trained runs load; what is never computed does not learn.
        for own, above in ((self.spatial, fusion != "bilinear"), (self.temporal, both)):
            for name, parameter in own.named_parameters():
                parameter.requires_grad_(not stop if name.rpartition(".")[0] in below else above)

    def forward(self, rgb: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
        """(N, 3, T, S, S) and (N, 2 L, T, S, S) to logits: see trainer.models.registry."""
        steps = rgb.shape[2]
        a = unfold(self.spatial(fold(rgb), until=self.layer), steps)  # (N, D, T, h, w)
        b = unfold(self.temporal(fold(flow), until=self.layer), steps)
        fused = self._fuse(a, b)
        if not self.both:
            return fused
        motion = self.temporal(b.amax(2), after=self.layer)
        return torch.stack([fused, motion], 2) if self.training else average(fused, motion)

    def _fuse(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Both (N, D, T, h, w) to logits (N, classes)."""
        if self.fusion == "bilinear":
            x = torch.einsum("ncthw,ndthw->ncd", a, b).flatten(1)
            # Square roots and length 1, as Lin et al. 2015 do; the slope of a root at 0 is not finite.
            x = F.normalize(x.sign() * (x.abs() + 1e-10).sqrt())
            return self.classifier(x)  # type: ignore[no-any-return]
        if self.fusion == "conv":
            x = F.relu(self.join(torch.cat([a, b], 1)))
        elif self.fusion == "concat":
            x = torch.cat([a, b], 1)
        else:
            x = a + b if self.fusion == "sum" else torch.maximum(a, b)
        return self.spatial(x.amax(2), after=self.layer)  # type: ignore[no-any-return]


def _mixture(channels: int, kernel: int) -> torch.Tensor:
    """(D, 2 D, k, k, k): a quarter and three quarters of the identity, times a Gaussian of sum 1."""
    line = torch.exp(-((torch.arange(kernel) - kernel // 2).float() ** 2) / 2)
    gaussian = torch.einsum("i,j,k->ijk", line, line, line)
    gaussian /= gaussian.sum()
    identity = torch.eye(channels)
    return torch.cat([0.25 * identity, 0.75 * identity], 1)[..., None, None, None] * gaussian


def _widen(tower: nn.Module, following: str) -> None:
    """Let the layer after the fusion take twice the channels; it begins with the mean of both halves."""
    layer = tower.get_submodule(following)
    assert isinstance(layer, (nn.Conv2d, nn.Linear))
    layer.weight = nn.Parameter(torch.cat([layer.weight, layer.weight], 1) / 2)
    if isinstance(layer, nn.Linear):
        layer.in_features *= 2
    else:
        layer.in_channels *= 2
