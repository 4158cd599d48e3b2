"""The networks, one module per published system, and the weights that they start from.

The contract. A module of this package offers

- `SPEC`, a record of plain data: the paper, and what the network needs (streams, frames, spacing, size),
  which a loader obeys and which is held against a recipe before anything is read;
- `FIRST` and `LAST`, names of the layer that sees the input and of those that give the classes, of which
  options may leave some out;
- `build(in_channels, num_classes, *, dropout, width, **options)`.

What goes in, float32, with S the side of the crop:

- a network of one stream and one time step takes (N, C, S, S): C = 3 for a frame, 2 L for a stack of flows;
- one of T time steps takes (N, C, T, S, S), the steps as `ModelSpec.spacing` says;
- a joint network takes two of these, `model(rgb, flow)`, of the same clips; `in_channels` is the flow's, and
  the stacks are centred on the frames.

A network that is made of others of this package says so by `towers`, the names of its parts and of their
networks, so that these start from trained ones: {"spatial": "vgg16", "temporal": "vgg16"}.

What comes out: in evaluation (N, classes) logits, whose softmax is the prediction. In training also
(N, classes, K), for a network that learns from K classifiers at once, or looks for the best of K. What a
network learns by is `losses`, and what it says then is `chosen`. Parameters that no loss is meant to reach
have requires_grad = False.

A new network is one module, one line of `MODELS` and one row of the table in the conformance test.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from flowprep.errors import UsageError
from trainer.models.spec import ModelSpec
from trainer.recipe.schema import Recipe
from trainer.training import checkpoint

log = logging.getLogger(__name__)

MODELS: dict[str, str] = {
    "cnn_m_2048": "trainer.models.cnn_m_2048",
    "resnet18": "trainer.models.resnet18",
    "resnet50": "trainer.models.resnet50",
    "vgg16": "trainer.models.vgg16",
    "googlenet": "trainer.models.googlenet",
    "karpathy_single": "trainer.models.karpathy_single",
    "karpathy_early": "trainer.models.karpathy_early",
    "karpathy_late": "trainer.models.karpathy_late",
    "karpathy_slow": "trainer.models.karpathy_slow",
    "karpathy_fovea": "trainer.models.karpathy_fovea",
    "conv_fusion": "trainer.models.conv_fusion",
    "st_resnet": "trainer.models.st_resnet",
    "c3d": "trainer.models.c3d",
    "c3d_small": "trainer.models.c3d_small",
    "siamese_transform": "trainer.models.siamese_transform",
    "fstcn": "trainer.models.fstcn",
}


class Module(Protocol):
    """What a module of this package offers: see there."""

    SPEC: ModelSpec
    FIRST: str
    LAST: tuple[str, ...]

    def build(
        self, in_channels: int, num_classes: int, *, dropout: float, width: int, **options: Any
    ) -> nn.Module:
        """A network of these inputs and outputs; `width` is 0 for the published one."""


def build(
    name: str,
    *,
    in_channels: int,
    num_classes: int,
    dropout: float | Sequence[float] = 0.5,
    width: int = 0,
    **options: Any,
) -> nn.Module:
    """A network by its name, freshly initialised from torch's random state.

    Args:
        name: a name of `MODELS`.
        in_channels: 3 for a frame, 2 L for a stack of L flows, at each time step.
        num_classes: outputs of the last layer.
        dropout: probability of dropping a unit, in each of the network's dropout layers; or one for each, in
            the order of its modules.
        width: channels of the first layer, with which all others scale; 0 is the published number.
        options: see the network's `SPEC.options`.

    Raises:
        UsageError: no such model, an option is not one of its, or it has another number of dropout layers.
    """
    module = find_module(name)
    check_options(name, options)
    each = list(dropout) if isinstance(dropout, Sequence) else []
    model = module.build(
        in_channels,
        num_classes,
        dropout=0.0 if isinstance(dropout, Sequence) else dropout,
        width=width,
        **options,
    )
    if each:
        layers = {key: layer for key, layer in model.named_modules() if isinstance(layer, nn.Dropout)}
        if len(layers) != len(each):
            raise UsageError(
                f"model.dropout has {len(each)} numbers; allowed for {name}: one number, or one for each of "
                f"{', '.join(layers)}"
            )
        for layer, p in zip(layers.values(), each, strict=True):
            layer.p = p
    return model


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Hold options against those of a model.

    Raises:
        UsageError: one is not the model's, or has a value that it does not take.
    """
    allowed = find_module(name).SPEC.options
    for key, value in options.items():
        if key not in allowed:
            raise UsageError(f"{key} is not an option of {name}; its options: {', '.join(allowed) or 'none'}")
        if value not in allowed[key] and ... not in allowed[key]:
            values = " | ".join(map(str, allowed[key]))
            raise UsageError(f"{key} of {name} is {value!r}; allowed: {values}")


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


def chosen(model: nn.Module, logits: torch.Tensor) -> torch.Tensor:
    """What a network says in training, (N, classes), of which the highest is its choice.

    Args:
        model: a network of this package, which may have a method `chosen` of the same logits; of others with
            K classifiers it is the mean of their probabilities.
        logits: as in losses.
    """
    if logits.ndim == 2:
        return logits
    if own := getattr(model, "chosen", None):
        return cast(torch.Tensor, own(logits))
    return logits.softmax(1).mean(2)


def describe(num_classes: int = 101) -> list[dict[str, Any]]:
    """What there is, as published, a row in plain types for every model.

    name, summary, paper, crop and inputs as text, shapes of the inputs, values of each option, the default
    first ("..." stands for others), published accuracy; parameters and multiply-adds of one clip by stream
    ("both" for joint networks).
    """
    rows = []
    for name in MODELS:
        module = find_module(name)
        spec = module.SPEC
        shapes = {"both": spec.shapes()} if spec.joint else {s: spec.shapes(s) for s in spec.streams}
        counts = {stream: _count(name, some, num_classes) for stream, some in shapes.items()}
        rows.append(
            {
                "name": name,
                "summary": " ".join(str(module.__doc__).split("\n\n")[0].split()),
                "paper": spec.paper,
                "crop": str(spec.size or f"from {spec.min_size}"),
                "inputs": {
                    stream: " + ".join("x".join(map(str, shape[1:])) for shape in some)
                    for stream, some in shapes.items()
                },
                "parameters": {stream: count[0] for stream, count in counts.items()},
                "multiply_adds": {stream: count[1] for stream, count in counts.items()},
                "options": {
                    key: ["..." if v is ... else v for v in some] for key, some in spec.options.items()
                },
                "published": dict(spec.published),
            }
        )
    return rows


def short(count: int) -> str:
    """A number of parameters or multiply-adds in millions (M) or billions (G)."""
    return f"{count / 1e6:.2f} M" if count < 1e9 else f"{count / 1e9:.2f} G"


def _count(name: str, shapes: list[tuple[int, ...]], num_classes: int) -> tuple[int, int]:
    with torch.device("meta"):  # counted, not computed
        model = build(name, in_channels=shapes[-1][1], num_classes=num_classes).eval()
        return count(model, [torch.empty(shape) for shape in shapes])


def count(model: nn.Module, inputs: Sequence[torch.Tensor]) -> tuple[int, int]:
    """Parameters, and multiply-adds of these inputs in convolutions and matrix products.

    Args:
        model: in evaluation mode.
        inputs: as it takes them.
    """
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        model(*inputs)
    return sum(p.numel() for p in model.parameters()), counter.get_total_flops() // 2


def input_shapes(recipe: Recipe, batch: int = 1) -> dict[str, tuple[int, ...]]:
    """Shape of each input of the recipe's network in training, by its stream and in their order."""
    spec = find_module(recipe.model.name).SPEC
    given = recipe.input
    shapes = spec.shapes(
        recipe.stream, batch=batch, size=given.crop, frames=given.time_steps, stack=given.stack
    )
    return dict(zip(spec.streams if spec.joint else (recipe.stream,), shapes, strict=True))


def find(recipe: Recipe) -> Module:
    """The module of the recipe's model, after holding its needs against the recipe.

    Raises:
        UsageError: no such model, or the recipe gives it what it cannot take.
    """
    name, crop = recipe.model.name, recipe.input.crop
    module = find_module(name)
    spec = module.SPEC
    allowed = ("both",) if spec.joint else spec.streams
    if recipe.stream not in allowed:
        raise UsageError(
            f"{name} is not defined for stream {recipe.stream!r}; allowed: {' | '.join(allowed)}"
        )
    if spec.size is not None and crop != spec.size:
        raise UsageError(f"input.crop is {crop}; {name} takes crops of {spec.size} pixels")
    if crop < spec.min_size:
        raise UsageError(f"input.crop is {crop}; {name} takes crops from {spec.min_size} pixels")
    for key, steps in (("input", recipe.input.time_steps), ("test", recipe.test.time_steps)):
        if steps and steps not in spec.frames and ... not in spec.frames:
            numbers = " or ".join(map(str, spec.frames))
            raise UsageError(f"{key}.time_steps is {steps}; {name} takes {numbers}")
    if recipe.test.whole and not spec.dense:
        raise UsageError(f"test.whole is true; {name} judges crops of {crop} pixels only")
    check_options(name, recipe.model.options)
    if recipe.model.trainable == "last" and not module.LAST:
        raise UsageError(f"model.trainable is 'last'; {name} has no last layer of its own: allowed: all")
    if recipe.model.trainable == "last" and not (recipe.model.weights or recipe.model.tower_weights):
        raise UsageError(
            "model.trainable is 'last' without model.weights: name the file of the pretrained weights "
            "(--set model.weights=FILE), or train all layers (--set model.trainable=all)"
        )
    return module


def make_model(recipe: Recipe, classes: int) -> nn.Module:
    """The recipe's network: see build."""
    model = recipe.model
    return build(
        model.name,
        in_channels=recipe.channels,
        num_classes=classes,
        dropout=model.dropout,
        width=model.width,
        **model.options,
    )


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


def channels_last(value: nn.Module | torch.Tensor) -> Any:
    """A network or an input with channels innermost in memory, which convolutions are fastest in."""
    if isinstance(value, nn.Module):
        for t in (*value.parameters(), *value.buffers()):
            t.data = channels_last(t.data)
        return value
    layout = {4: torch.channels_last, 5: torch.channels_last_3d}.get(value.ndim)
    return value.contiguous(memory_format=layout) if layout else value


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


@cache  # asked for each sample
def find_module(name: str) -> Module:
    """The module of a model.

    Raises:
        UsageError: there is no such model; the names are given.
    """
    if name not in MODELS:
        raise UsageError(f"model.name is {name!r}; allowed: {', '.join(MODELS)}")
    return cast(Module, import_module(MODELS[name]))


def _read_state(path: Path) -> tuple[dict[str, torch.Tensor], tuple[str, ...] | None]:
    """The state dict of a file of weights, of a checkpoint, or of a run's folder; and its outputs' names,
    None where there is not one for each.
    """
    if path.is_dir():
        kept = checkpoint.load_kept(path)
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
