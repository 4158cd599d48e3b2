"""The networks, one module per published system.

Such a module has `build(recipe, classes) -> Network`. A network states what it needs, and is checked
against the recipe before anything is read.
"""

from __future__ import annotations

import logging
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

import torch
from torch import nn

from flowprep.errors import UsageError
from trainer.recipe import STREAMS, Recipe

log = logging.getLogger(__name__)

MODELS: dict[str, str] = {
    "cnn_m_2048": "trainer.models.cnn_m_2048",
    "resnet18": "trainer.models.resnet18",
}


class Module(Protocol):
    """What a module of this package offers.

    Attributes:
        SIZE: side of the crops that the network takes in pixels, or None where any from MIN_SIZE does.
        MIN_SIZE: the least side that leaves something to the last layer.
        STREAMS: the streams that it is defined for.
        WIDTHS: whether the recipe may set `width`.
        LAST: name of the layer that gives the classes.
    """

    SIZE: int | None
    MIN_SIZE: int
    STREAMS: tuple[str, ...]
    WIDTHS: bool
    LAST: str

    def build(self, recipe: Recipe, classes: int) -> nn.Module:
        """A network that takes (N, recipe.channels, S, S) float32 and gives (N, classes) logits."""


def find(recipe: Recipe) -> Module:
    """The module of the recipe's model, after holding its needs against the recipe.

    Raises:
        UsageError: no such model, or the recipe gives it what it cannot take.
    """
    name, crop = recipe.model.name, recipe.input.crop
    if name not in MODELS:
        raise UsageError(f"model.name is {name!r}; allowed: {', '.join(MODELS)}")
    module = cast(Module, import_module(MODELS[name]))
    if recipe.stream not in module.STREAMS:
        raise UsageError(
            f"{name} is not defined for stream {recipe.stream!r}; allowed: {' | '.join(STREAMS)}"
        )
    if module.SIZE is not None and crop != module.SIZE:
        raise UsageError(f"input.crop is {crop}; {name} takes crops of {module.SIZE} pixels")
    if crop < module.MIN_SIZE:
        raise UsageError(f"input.crop is {crop}; {name} takes crops from {module.MIN_SIZE} pixels")
    if recipe.model.width and not module.WIDTHS:
        raise UsageError(
            f"model.width is {recipe.model.width}; {name} has its published width only: leave it 0"
        )
    if recipe.model.trainable == "last" and not recipe.model.weights:
        raise UsageError(
            "model.trainable is 'last' without model.weights: name the file of the pretrained weights "
            "(--set model.weights=FILE), or train all layers (--set model.trainable=all)"
        )
    return module


def make_model(recipe: Recipe, classes: int) -> nn.Module:
    """The recipe's network, freshly initialised from torch's random state."""
    return find(recipe).build(recipe, classes)


def load_weights(model: nn.Module, path: Path, last: str) -> None:
    """Start from a state dict: all layers but the last must fit; the last is taken if it does.

    Raises:
        UsageError: not a readable state dict, or layers are missing, unknown or of another shape.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as exc:
        raise UsageError(f"model.weights: {path} cannot be read: {exc.strerror}") from exc
    except Exception as exc:  # a damaged file raises whatever its first wrong byte leads to
        raise UsageError(f"model.weights: {path} is not a state dict saved by torch.save") from exc
    if not isinstance(state, dict):
        raise UsageError(f"model.weights: {path} is not a state dict saved by torch.save")
    state = state.get("model", state)  # a checkpoint of this trainer holds more than the weights
    own = model.state_dict()
    fresh = [
        key
        for key in own
        if key.startswith(f"{last}.") and getattr(state.get(key), "shape", None) != own[key].shape
    ]
    wrong = [
        f"{key} {tuple(state[key].shape) if key in state else 'missing'}, needed {tuple(value.shape)}"
        for key, value in own.items()
        if key not in fresh and (key not in state or state[key].shape != value.shape)
    ]
    wrong += [f"{key} is not a part of the model" for key in state if key not in own]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise UsageError(f"model.weights: {path} does not fit the model: {'; '.join(wrong[:3])}{more}")
    if fresh:
        log.info("%s: the last layer starts from scratch, for its classes are others", path)
    model.load_state_dict({**state, **{key: own[key] for key in fresh}})


def freeze_all_but(model: nn.Module, last: str) -> None:
    """Let only the layer `last` learn."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(f"{last}."))


def set_training(model: nn.Module) -> None:
    """Training mode; the statistics of frozen batch normalisations stay as they were learnt."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and not module.weight.requires_grad:
            module.eval()
