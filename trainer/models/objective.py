"""What a network learns by in training, and what it says there."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import nn


def losses(model: nn.Module, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """What each sample costs in training: the network's own loss, or else the cross entropy.

    Args:
        model: a network of this package, which may have a method `losses` of the same (logits, y).
        logits: what it gave in training: (N, classes), or (N, classes, K), whose K costs are summed.
        y: (N,) classes; -100 leaves a sample out.

    Returns:
        (N,).
    """
    if own := getattr(model, "losses", None):
        return cast(torch.Tensor, own(logits, y))
    logits = logits.float()
    if logits.ndim == 2:
        return F.cross_entropy(logits, y, reduction="none")
    target = y[:, None].expand(-1, logits.shape[2])
    return F.cross_entropy(logits, target, reduction="none").sum(1)


def class_scores(model: nn.Module, logits: torch.Tensor) -> torch.Tensor:
    """What a network says in training, (N, classes), of which the highest is its choice.

    Args:
        model: a network of this package, which may have a method `class_scores` of the same logits; of others with
            K classifiers it is the mean of their probabilities.
        logits: as in losses.
    """
    if logits.ndim == 2:
        return logits
    if own := getattr(model, "class_scores", None):
        return cast(torch.Tensor, own(logits))
    return logits.softmax(1).mean(2)
