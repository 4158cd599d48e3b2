"""The optimiser: stochastic gradient descent with momentum, and the loss scale of float16."""

from __future__ import annotations

import torch

from trainer.recipe.schema import TrainRecipe


def make_optimiser(model: torch.nn.Module, recipe: TrainRecipe) -> torch.optim.SGD:
    """The optimiser of the parameters that are trained; frozen parameters are left out."""
    return torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad],
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )


def make_scaler(device: torch.device, precision: str) -> torch.amp.GradScaler:
    """The loss scale, which keeps small gradients of float16 from becoming 0; without effect elsewhere."""
    return torch.amp.GradScaler(device.type, enabled=precision == "float16")


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Use the rate for all parameters in the next step."""
    for group in optimiser.param_groups:
        group["lr"] = rate
