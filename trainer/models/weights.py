"""Pretrained weights: how a network starts from them, and which of its layers learn."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from flowprep.errors import FileUnsuitable, UsageError
from trainer.models.registry import find_module
from trainer.models.spec import ModelSpec
from trainer.recipe.schema import Recipe
from trainer.training import checkpoint
from trainer.training.batch_norm import BatchNorm, learns

log = logging.getLogger(__name__)

State = dict[str, torch.Tensor]
NAMED_MISMATCHES = 20  # so many are listed in an error


def start_from_weights(model: nn.Module, recipe: Recipe, classes: Sequence[str]) -> None:
    """Load the pretrained weights that a recipe names, if it names any.

    Args:
        model: The recipe's network, as `registry.make_model` returns it.
        recipe: Its `model.weights` or `model.tower_weights` are loaded.
        classes: Names of the network's outputs.

    Raises:
        UsageError: as `load_weights` and `load_towers`.
    """
    settings = recipe.model
    taps = settings.options.get("taps", "average")
    if settings.weights:
        load_weights(
            model,
            Path(settings.weights),
            find_module(settings.name).SPEC,
            cross_modality=settings.cross_modality,
            taps=taps,
            classes=classes,
        )
    elif settings.tower_weights:
        paths = map(Path, settings.tower_weights)
        load_towers(model, *paths, cross_modality=settings.cross_modality, taps=taps, classes=classes)


def load_weights(
    model: nn.Module,
    path: Path,
    spec: ModelSpec,
    *,
    cross_modality: bool = False,
    taps: str = "average",
    classes: Sequence[str] | None = None,
    key: str = "model.weights",
    widened: str = "",
) -> None:
    """Load pretrained weights. Every layer must be present and fit; only last layers may start new.

    Args:
        model: A network of `spec`. It may have temporal convolutions in place of two-dimensional ones. Their
            filters are made by `inflate`.
        path: A state dict saved by torch.save, such as torchvision's ImageNet weights; or a checkpoint of
            this trainer, or the folder of a training run.
        spec: The network's specification.
        cross_modality: The weights are those of RGB images and the network reads flow. The first layer is
            made by `flow_filters`.
        taps: How temporal filters are made: see `inflate`.
        classes: Names of the network's outputs. Last layers are loaded only from a run with the same names in
            the same order, because an equal number of classes can be different classes. Otherwise they start
            new. None loads last layers wherever their shape fits.
        key: The recipe's key, for error messages.
        widened: Name of a layer that reads twice the channels of the weights: see `widen`.

    Raises:
        UsageError: The file is not a readable state dict, or layers are missing, unknown or of another shape.
    """
    state, source_classes = read_weights(path)
    own = model.state_dict()
    state = _adapt(state, own, spec, cross_modality=cross_modality, taps=taps)
    weight = f"{widened}.weight"
    if weight in state and 2 * state[weight].shape[1] == own[weight].shape[1]:
        state[weight] = widen(state[weight])
    same_classes = classes is None or source_classes == tuple(classes)
    new = _new_last_layers(state, own, spec, same_classes=same_classes)
    if mismatches := _mismatches(state, own, new):
        text = "; ".join(mismatches[:NAMED_MISMATCHES])
        if len(mismatches) > NAMED_MISMATCHES:
            text += f"; and {len(mismatches) - NAMED_MISMATCHES} more"
        first = f"{spec.first_layer}.weight"
        if not cross_modality and first in state and first in own and state[first].shape != own[first].shape:
            text += "; model.cross_modality = true makes the first layer of a flow network from an RGB one"
        raise UsageError(f"{key}: {path} does not fit the model: {text}")
    if new:
        log.info("%s: the last layer starts from scratch: its weights are for different classes", path)
    model.load_state_dict({**state, **{name: own[name] for name in new}})


def load_towers(
    model: nn.Module,
    *paths: Path,
    cross_modality: bool = False,
    taps: str = "average",
    classes: Sequence[str] | None = None,
) -> None:
    """Load pretrained weights into each part of a network that is built from other networks.

    Args:
        model: A network with `towers`: see `trainer.models.registry`.
        paths: The weights of each tower, as for `load_weights`.
        cross_modality: The weights of the last tower are those of RGB images and the tower reads flow.
        taps: as for `load_weights`.
        classes: as for `load_weights`.

    Raises:
        UsageError: The model has another number of towers; or as `load_weights`.
    """
    towers = cast(dict[str, str], getattr(model, "towers", {}))
    if len(paths) != len(towers):
        raise UsageError(
            f"model.tower_weights names {len(paths)} files; allowed: one file for each tower of the model: "
            f"{', '.join(towers) or 'none'}"
        )
    for number, ((part, name), path) in enumerate(zip(towers.items(), paths, strict=True), 1):
        load_weights(
            cast(nn.Module, getattr(model, part)),
            path,
            find_module(name).SPEC,
            cross_modality=cross_modality and number == len(towers),
            taps=taps,
            classes=classes,
            key=f"model.tower_weights, {part}",
            widened=getattr(model, "widened", {}).get(part, ""),
        )


def read_weights(path: Path) -> tuple[State, tuple[str, ...] | None]:
    """Read a state dict.

    Args:
        path: as for `load_weights`.

    Returns:
        The state dict, and the names of the network's outputs. The names are None if the file has none, or if
        the network has outputs beside its classes.

    Raises:
        UsageError: The file is not a readable state dict.
    """
    if path.is_dir():
        run = checkpoint.load_selected(path)
        return run.model, run.classes if run.heads == (len(run.classes),) else None
    try:
        checkpoint.is_sealed(path)  # raises for a damaged checkpoint
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileUnsuitable as exc:
        raise UsageError(f"model.weights: {exc}") from exc
    except OSError as exc:
        raise UsageError(f"model.weights: {path} cannot be read: {exc.strerror or exc}") from exc
    except Exception as exc:  # any error can follow from a damaged byte
        raise UsageError(f"model.weights: {path} is not a state dict saved by torch.save") from exc
    classes = None
    if isinstance(content, dict) and "model" in content:  # a checkpoint of this trainer
        names = tuple(content.get("classes", ()))
        classes = names if content.get("heads") == (len(names),) else None
        content = content["model"]
    if not _is_state(content):
        raise UsageError(f"model.weights: {path} is not a state dict saved by torch.save")
    return content, classes


def flow_filters(weight: torch.Tensor, channels: int) -> torch.Tensor:
    """First-layer filters for a stack of flows, from filters for RGB (Wang et al. 2015, arXiv 1507.02159).

    Args:
        weight: (O, 3, k, k), filters of a network trained on images.
        channels: 2 L.

    Returns:
        (O, channels, k, k): every channel is the mean over R, G and B.
    """
    return weight.mean(1, keepdim=True).repeat(1, channels, 1, 1)


def inflate(weight: torch.Tensor, taps: int, method: str = "average") -> torch.Tensor:
    """Temporal filters from filters of single frames. On a video without motion both give the same output.

    Args:
        weight: (O, C, k, k).
        taps: T, an odd number of time steps.
        method: "average": each tap is the filter divided by T (the released code of Feichtenhofer et al.
            2016, arXiv 1611.02155). "centre": the middle tap is the filter, the others are 0.

    Returns:
        (O, C, T, k, k).
    """
    if method == "average":
        return (weight / taps).unsqueeze(2).repeat(1, 1, taps, 1, 1)
    inflated = weight.new_zeros(*weight.shape[:2], taps, *weight.shape[2:])
    inflated[:, :, taps // 2] = weight
    return inflated


def widen(weight: torch.Tensor) -> torch.Tensor:
    """Filters for the maps of two networks, one after the other, from filters for those of one.

    Args:
        weight: (O, C, ...), of a convolution or a fully connected layer.

    Returns:
        (O, 2 C, ...): the mean of what the filters give for each of both.
    """
    return torch.cat([weight, weight], 1) / 2


def freeze(model: nn.Module, recipe: Recipe) -> None:
    """Let only the layers learn that the recipe's `model.trainable` names."""
    if recipe.model.trainable == "last":
        freeze_all_but(model, find_module(recipe.model.name).SPEC.last_layers)


def freeze_all_but(model: nn.Module, last_layers: tuple[str, ...]) -> None:
    """Let only these layers learn."""
    prefixes = tuple(f"{name}." for name in last_layers)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(prefixes))


def set_training(model: nn.Module) -> None:
    """Switch to training mode. Frozen batch normalisations keep their statistics."""
    model.train()
    for module in model.modules():
        if isinstance(module, BatchNorm) and not learns(module):
            module.eval()


def _is_state(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(v, torch.Tensor) for v in value.values())


def _adapt(state: State, own: State, spec: ModelSpec, *, cross_modality: bool, taps: str) -> State:
    """Weights in the shapes of the network: flow and temporal filters, no parts that only training has."""
    training_parts = tuple(f"{part}." for part in spec.for_training)
    state = {k: v for k, v in state.items() if k in own or not k.startswith(training_parts)}
    state = {_renamed(name, own, spec): value for name, value in state.items()}
    first = f"{spec.first_layer}.weight"
    if cross_modality and first in state and state[first].ndim == 4 and state[first].shape[1] == 3:
        state[first] = flow_filters(state[first], own[first].shape[1])
    for name, value in state.items():
        if name in own and value.ndim == 4 and own[name].ndim == 5:
            state[name] = inflate(value, own[name].shape[2], taps)
    # Older files lack this counter of batch normalisation. No computation uses it.
    return {**{k: v for k, v in own.items() if k.endswith(".num_batches_tracked")}, **state}


def _renamed(name: str, own: State, spec: ModelSpec) -> str:
    """The network's own name of a parameter in a file of weights."""
    layer, _, kind = name.rpartition(".")
    return name if name in own else f"{spec.renamed.get(layer, layer)}.{kind}" if layer else name


def _new_last_layers(state: State, own: State, spec: ModelSpec, *, same_classes: bool) -> list[str]:
    """Parameters of last layers that start new, because their classes or their number differ."""
    names = [f"{layer}.{kind}" for layer in spec.last_layers for kind in ("weight", "bias")]
    return [
        name
        for name in names
        if name in state
        and (len(state[name]) != len(own[name]) or not same_classes)
        and state[name].shape[1:] == own[name].shape[1:]
    ]


def _mismatches(state: State, own: State, new: Sequence[str]) -> list[str]:
    """Parameters that are missing, unknown or of another shape, each in words."""
    differing = [
        f"{name} {tuple(state[name].shape) if name in state else 'missing'}, needed {tuple(value.shape)}"
        for name, value in own.items()
        if name not in new and (name not in state or state[name].shape != value.shape)
    ]
    return differing + [f"{name} is not a part of the model" for name in state if name not in own]
