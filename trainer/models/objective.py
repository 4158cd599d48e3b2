"""The loss that a network is trained with, and its class scores in training."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import nn


def losses(model: nn.Module, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The loss of each sample: the network's own `losses(logits, y)`, or else the cross-entropy.

    Args:
        model: A network of this package.
        logits: The network's output in training: (N, classes), or (N, classes, K) of K classifiers. The
            losses of the K classifiers are added.
        y: (N,) class indices. A sample with -100 has the loss 0.

    Returns:
        (N,) losses.
    """
    if own := getattr(model, "losses", None):
        return cast(torch.Tensor, own(logits, y))
    logits = logits.float()
    if logits.ndim == 2:
        return F.cross_entropy(logits, y, reduction="none")
    target = y[:, None].expand(-1, logits.shape[2])
    return F.cross_entropy(logits, target, reduction="none").sum(1)


def class_scores(model: nn.Module, logits: torch.Tensor) -> torch.Tensor:
    """Scores of the classes in training, (N, classes). The class with the highest score is the prediction.

    Args:
        model: A network of this package. Its own `class_scores(logits)` is used if it has one. Otherwise the
            scores of K classifiers are the mean of their probabilities.
        logits: The network's output in training, as for `losses`.
    """
    if logits.ndim == 2:
        return logits
    if own := getattr(model, "class_scores", None):
        return cast(torch.Tensor, own(logits))
    return logits.softmax(1).mean(2)
