"""The optimiser: stochastic gradient descent with momentum, and the loss scale of float16."""

from __future__ import annotations

import torch

from trainer.recipe.schema import TrainRecipe

# Layers of normalisation. The first is the base of batch and instance normalisation.
NORMS = (torch.nn.modules.batchnorm._NormBase, torch.nn.GroupNorm, torch.nn.LayerNorm)


def make_optimiser(model: torch.nn.Module, recipe: TrainRecipe) -> torch.optim.SGD:
    """The optimiser of the parameters that are trained; frozen parameters are left out.

    Parameters with the same learning rate and weight decay form a group.
    """
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            owner, _, own_name = name.rpartition(".")
            groups.setdefault(_group(model.get_submodule(owner), own_name, recipe), []).append(parameter)
    return torch.optim.SGD(
        [
            {"params": parameters, "lr_factor": factor, "weight_decay": decay}
            for (factor, decay), parameters in groups.items()
        ],
        lr=recipe.lr,
        momentum=recipe.momentum,
    )


def _group(module: torch.nn.Module, name: str, recipe: TrainRecipe) -> tuple[float, float]:
    """(multiplier of the learning rate, weight decay) of a parameter of a module."""
    if isinstance(module, NORMS):
        return 1.0, recipe.weight_decay if recipe.decay_norms else 0.0
    if name == "bias":
        return recipe.bias_lr, recipe.weight_decay if recipe.decay_biases else 0.0
    return 1.0, recipe.weight_decay


def make_scaler(device: torch.device, precision: str) -> torch.amp.GradScaler:
    """The loss scale, which keeps small gradients of float16 from becoming 0; without effect elsewhere."""
    return torch.amp.GradScaler(device.type, enabled=precision == "float16")


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Use the rate in the next step, times the factor of each group of parameters."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group.get("lr_factor", 1.0)  # older checkpoints have no factor
