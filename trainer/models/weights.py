"""The weights that networks start from, and those that learn."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from torch import nn

from flowprep.errors import UsageError
from trainer.models.registry import Module, find_module
from trainer.recipe.schema import Recipe
from trainer.training import checkpoint

log = logging.getLogger(__name__)


def start_from_weights(model: nn.Module, recipe: Recipe, classes: Sequence[str]) -> None:
    """Load what the recipe says that its network starts from, if it says so.

    Args:
        model: see make_model.
        recipe: the recipe.
        classes: names of the network's outputs.

    Raises:
        UsageError: as load_weights.
    """
    given = recipe.model
    taps = given.options.get("taps", "average")
    if given.weights:
        module = find_module(given.name)
        load_weights(
            model, Path(given.weights), module, across=given.cross_modality, taps=taps, classes=classes
        )
    elif given.tower_weights:
        paths = map(Path, given.tower_weights)
        load_towers(model, *paths, across=given.cross_modality, taps=taps, classes=classes)


def load_weights(
    model: nn.Module,
    path: Path,
    module: Module,
    *,
    across: bool = False,
    taps: str = "average",
    classes: Sequence[str] | None = None,
    key: str = "model.weights",
) -> None:
    """Start from pretrained weights: every layer must be there and fit, but last layers of other classes.

    Args:
        model: what `module` built, or one that differs from it by temporal convolutions: these are made from
            two-dimensional ones by `inflate`.
        path: a state dict by torch.save, such as torchvision's of ImageNet; or a training run, by its
            checkpoint or its folder.
        module: the model's.
        across: the weights are of RGB images: make the first layer from theirs by `cross_modality`.
        taps: see inflate.
        classes: names of the model's outputs. Last layers are taken from a run of the same names in the same
            order only, and else start from scratch: as many classes need not be the same ones. None takes
            them wherever they fit.
        key: of the recipe, which an error names.

    Raises:
        UsageError: not a readable state dict, or layers are missing, unknown or of another shape; the first
            are named.
    """
    state, known = _read_state(path)
    own = model.state_dict()
    spare = tuple(f"{part}." for part in module.SPEC.for_training)
    state = {k: v for k, v in state.items() if k in own or not k.startswith(spare)}
    first = f"{module.FIRST}.weight"
    if across and first in state and state[first].ndim == 4 and state[first].shape[1] == 3:
        state = {**state, first: cross_modality(state[first], own[first].shape[1])}
    state = {
        k: inflate(v, own[k].shape[2], taps) if k in own and v.ndim == 4 and own[k].ndim == 5 else v
        for k, v in state.items()
    }
    # A count that no computation uses and that older files do not have.
    state = {**{k: v for k, v in own.items() if k.endswith(".num_batches_tracked")}, **state}
    fresh = [
        key
        for last in module.LAST
        for key in (f"{last}.weight", f"{last}.bias")
        if key in state
        and (len(state[key]) != len(own[key]) or (classes is not None and known != tuple(classes)))
        and state[key].shape[1:] == own[key].shape[1:]
    ]
    wrong = [
        f"{key} {tuple(state[key].shape) if key in state else 'missing'}, needed {tuple(value.shape)}"
        for key, value in own.items()
        if key not in fresh and (key not in state or state[key].shape != value.shape)
    ]
    wrong += [f"{key} is not a part of the model" for key in state if key not in own]
    if wrong:
        hint = ""
        if not across and first in state and first in own and state[first].shape != own[first].shape:
            hint = "; model.cross_modality = true makes the first layer of a flow network from an RGB one"
        some = "; ".join(wrong[:20]) + (f"; and {len(wrong) - 20} more" if len(wrong) > 20 else "")
        raise UsageError(f"{key}: {path} does not fit the model: {some}{hint}")
    if fresh:
        log.info("%s: the last layer starts from scratch: it is not of these classes", path)
    model.load_state_dict({**state, **{key: own[key] for key in fresh}})


def load_towers(
    model: nn.Module,
    *paths: Path,
    across: bool = False,
    taps: str = "average",
    classes: Sequence[str] | None = None,
) -> None:
    """Start a network that is made of others from trained ones of these: load_weights into each tower.

    Args:
        model: its `towers` names the parts that are networks of this package, and which.
        paths: the weights of each, as load_weights takes them.
        across: those of the last tower are of RGB images and are to take flow.
        taps: see inflate.
        classes: see load_weights.

    Raises:
        UsageError: the model has no towers or another number of them; or as load_weights.
    """
    towers = cast(dict[str, str], getattr(model, "towers", {}))
    if len(paths) != len(towers):
        raise UsageError(
            f"model.tower_weights names {len(paths)} files; allowed: one for each tower, "
            f"and those of the model are: {', '.join(towers) or 'none'}"
        )
    last = list(towers)[-1]
    for (part, name), path in zip(towers.items(), paths, strict=True):
        tower = cast(nn.Module, getattr(model, part))
        turned = across and part == last
        load_weights(
            tower,
            path,
            find_module(name),
            across=turned,
            taps=taps,
            classes=classes,
            key=f"model.tower_weights, of the {part}",
        )


def cross_modality(weight: torch.Tensor, channels: int) -> torch.Tensor:
    """First-layer filters for a stack of flows from those for RGB (Wang et al. 2015, arXiv 1507.02159).

    Args:
        weight: (O, 3, k, k), of a network trained on images.
        channels: 2 L.

    Returns:
        (O, channels, k, k): the mean over R, G and B, for every channel alike.
    """
    return weight.mean(1, keepdim=True).repeat(1, channels, 1, 1)


def inflate(weight: torch.Tensor, taps: int, how: str = "average") -> torch.Tensor:
    """Filters over time from filters of frames, which give the same on a video that stands still.

    Args:
        weight: (O, C, k, k).
        taps: T, an odd number of time steps.
        how: "average": each tap is the T-th part (the released code of Feichtenhofer et al. 2016, arXiv
            1611.02155); "centre": the middle one is the whole, the others nothing.

    Returns:
        (O, C, T, k, k).
    """
    if how == "average":
        return (weight / taps).unsqueeze(2).repeat(1, 1, taps, 1, 1)
    inflated = weight.new_zeros(*weight.shape[:2], taps, *weight.shape[2:])
    inflated[:, :, taps // 2] = weight
    return inflated


def freeze_all_but(model: nn.Module, last: tuple[str, ...]) -> None:
    """Let only the layers `last` learn."""
    names = tuple(f"{name}." for name in last)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(names))


def set_training(model: nn.Module) -> None:
    """Training mode; the statistics of frozen batch normalisations stay as they were learnt."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and not module.weight.requires_grad:
            module.eval()


def _read_state(path: Path) -> tuple[dict[str, torch.Tensor], tuple[str, ...] | None]:
    """The state dict of a file of weights, of a checkpoint, or of a run's folder; and its outputs' names,
    None where there is not one for each.
    """
    if path.is_dir():
        kept = checkpoint.load_selected(path)
        return kept.model, kept.classes if kept.heads == (len(kept.classes),) else None
    try:
        checkpoint.is_sealed(path)  # raises if it is a damaged checkpoint
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as exc:
        raise UsageError(f"model.weights: {path} cannot be read: {exc.strerror}") from exc
    except Exception as exc:  # a damaged file raises whatever its first wrong byte leads to
        raise UsageError(f"model.weights: {path} is not a state dict saved by torch.save") from exc
    known = None
    if isinstance(state, dict) and "model" in state:  # a checkpoint of this trainer
        known = tuple(state.get("classes", ()))
        known = known if state.get("heads") == (len(known),) else None
        state = state["model"]
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise UsageError(f"model.weights: {path} is not a state dict saved by torch.save")
    return state, known
