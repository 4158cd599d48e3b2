"""Actions as transformations, of "Actions ~ Transformations" (Wang, Farhadi, Gupta 2016).

The frames before a split show the state before an action, those after another split the state after it. One
VGG-16 sees both: averaged over the frames, its last layer gives an embedding of 512 numbers. An action is a
matrix that takes the embedding before to the one after. The logit of a class is the cosine between the two.

The splits are not given. The first is looked for in [T/3, T/2] of the T frames, the second in [T/2, 2T/3]: in
training the pair that suits the true class best, in a test the best pair for each class.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from trainer.models.layers import fold
from trainer.models.spec import ModelSpec
from trainer.models.vgg16 import VGG16

SPEC = ModelSpec(
    paper="Wang, Farhadi, Gupta 2016: Actions ~ Transformations, arXiv 1512.00795",
    min_size=32,
    frames=(25, ...),
    spacing=(0, 0),
    dense=True,
    published={"UCF-101 both, 3 splits": 92.4, "HMDB-51 both, 3 splits": 62.0},
)
FIRST, LAST = "tower.features.0", ("transformations",)
MARGIN = 0.5


def build(in_channels: int, num_classes: int, *, dropout: float, width: int) -> SiameseTransform:
    """The same network for both streams."""
    return SiameseTransform(in_channels, num_classes, dropout, width or 64)


class SiameseTransform(nn.Module):
    """See the module.

    Args:
        channels: of the input at each time step.
        classes: number of classes.
        dropout: after fc6 and fc7 of the tower.
        width: channels of the tower's first layer; the embedding has 8 times as many numbers.

    Attributes:
        towers: see trainer.models.registry.
    """

    towers = {"tower": "vgg16"}  # noqa: RUF012

    def __init__(self, channels: int, classes: int, dropout: float, width: int) -> None:
        super().__init__()
        self.tower = VGG16(channels, 8 * width, dropout, width)
        # The matrices one below the other: row block c is that of class c.
        self.transformations = nn.Linear(8 * width, classes * 8 * width, bias=False)
        nn.init.kaiming_normal_(self.transformations.weight, nonlinearity="linear")
        embedding = self.tower.get_submodule("classifier.6")
        nn.init.kaiming_normal_(embedding.get_parameter("weight"), nonlinearity="linear")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, T, S, S) to cosines: (N, classes, pairs of splits), in evaluation the best of them."""
        steps = x.shape[2]
        embeddings = self.tower(fold(x)).view(x.shape[0], steps, -1)  # (N, T, D)
        # The mean over frames and the layer that gives the embedding may be swapped: it is linear.
        sums = embeddings.cumsum(1)
        before = [sums[:, z - 1] / z for z in range(-(-steps // 3), steps // 2 + 1)]
        after = [
            (sums[:, -1] - sums[:, z - 1]) / (steps - z) for z in range(-(-steps // 2), 2 * steps // 3 + 1)
        ]
        moved = self.transformations(torch.stack(before, 1)).unflatten(2, (-1, sums.shape[2]))
        moved = F.normalize(moved, dim=3)  # (N, first splits, classes, D)
        reached = F.normalize(torch.stack(after, 1), dim=2)  # (N, second splits, D)
        cosines = torch.einsum("npcd,nqd->ncpq", moved, reached).flatten(2)
        return cosines if self.training else self.class_scores(cosines)

    def class_scores(self, logits: torch.Tensor) -> torch.Tensor:
        """(N, classes, pairs of splits) to each class's best, (N, classes)."""
        return logits.amax(2)

    def losses(self, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Distance of the true class, and what others are nearer than the margin, at its best splits.

        Args:
            logits: (N, classes, pairs of splits), cosines; the distance is 1 minus the cosine.
            y: (N,) classes; -100 leaves a sample out.

        Returns:
            (N,).
        """
        distances = 1 - logits.float()
        left_out, y = y < 0, y.clamp_min(0)
        rows = torch.arange(len(y), device=y.device)
        best = distances[rows, y].argmin(1)  # (N,)
        distances = distances[rows, :, best]  # (N, classes)
        own = distances[rows, y]
        others = F.relu(MARGIN - distances).sum(1) - F.relu(MARGIN - own)
        return (own + others).masked_fill(left_out, 0.0)
