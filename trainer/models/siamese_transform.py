"""The network of "Actions ~ Transformations" (Wang, Farhadi, Gupta 2016): an action is a transformation.

The frames up to a first split show the state before an action. The frames from a second split show the state
after it. One VGG-16 embeds both: the mean of its last layer over the frames is an embedding of 512 numbers.
An action is a matrix that maps the first embedding to the second. The logit of a class is the cosine between
its mapped embedding and the second embedding.

The splits are unknown. The network tries all first splits in [T/3, T/2] of the T frames and all second splits
in [T/2, 2T/3]. In training the best pair of splits for the true class counts, in evaluation the best pair for
each class.
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
    first_layer="tower.features.0",
    last_layers=("transformations",),
)
MARGIN = 0.5


def build(in_channels: int, num_classes: int, *, dropout: float, width: int) -> SiameseTransform:
    """The same network for both streams."""
    return SiameseTransform(in_channels, num_classes, dropout, width or 64)


class SiameseTransform(nn.Module):
    """The network of "Actions ~ Transformations".

    Args:
        channels: Channels of the input at each time step.
        classes: Number of classes.
        dropout: Probability of dropping a unit after fc6 and after fc7 of the tower.
        width: Channels of the tower's first layer. The embedding has 8 times as many numbers.

    Attributes:
        towers: The parts that are networks of the registry.
    """

    towers = {"tower": "vgg16"}  # noqa: RUF012

    def __init__(self, channels: int, classes: int, dropout: float, width: int) -> None:
        super().__init__()
        self.tower = VGG16(channels, 8 * width, dropout, width)
        # All matrices in one: block c of the rows is the matrix of class c.
        self.transformations = nn.Linear(8 * width, classes * 8 * width, bias=False)
        nn.init.kaiming_normal_(self.transformations.weight, nonlinearity="linear")
        embedding = self.tower.get_submodule("classifier.6")
        nn.init.kaiming_normal_(embedding.get_parameter("weight"), nonlinearity="linear")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, T, S, S) to cosines (N, classes), or (N, classes, pairs of splits) in training."""
        steps = x.shape[2]
        embeddings = self.tower(fold(x)).view(x.shape[0], steps, -1)  # (N, T, D)
        # The last layer is linear, so the mean of its outputs is its output for the mean.
        sums = embeddings.cumsum(1)
        before = [sums[:, z - 1] / z for z in range(-(-steps // 3), steps // 2 + 1)]
        after = [
            (sums[:, -1] - sums[:, z - 1]) / (steps - z) for z in range(-(-steps // 2), 2 * steps // 3 + 1)
        ]
        mapped = self.transformations(torch.stack(before, 1)).unflatten(2, (-1, sums.shape[2]))
        mapped = F.normalize(mapped, dim=3)  # (N, first splits, classes, D)
        target = F.normalize(torch.stack(after, 1), dim=2)  # (N, second splits, D)
        cosines = torch.einsum("npcd,nqd->ncpq", mapped, target).flatten(2)
        return cosines if self.training else self.class_scores(cosines)

    def class_scores(self, logits: torch.Tensor) -> torch.Tensor:
        """(N, classes, pairs of splits) to the best cosine of each class, (N, classes)."""
        return logits.amax(2)

    def losses(self, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The contrastive loss, at the pair of splits that is best for the true class.

        The distance of a class is 1 minus its cosine. The loss is the distance of the true class, plus the
        sum over all other classes of max(0, margin - distance).

        Args:
            logits: (N, classes, pairs of splits), cosines.
            y: (N,) class indices. A sample with -100 has the loss 0.

        Returns:
            (N,) losses.
        """
        distances = 1 - logits.float()
        ignored, y = y < 0, y.clamp_min(0)
        rows = torch.arange(len(y), device=y.device)
        best = distances[rows, y].argmin(1)  # (N,)
        distances = distances[rows, :, best]  # (N, classes)
        own = distances[rows, y]
        others = F.relu(MARGIN - distances).sum(1) - F.relu(MARGIN - own)
        return (own + others).masked_fill(ignored, 0.0)
