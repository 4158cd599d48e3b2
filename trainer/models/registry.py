"""The networks by name, and the checks of a recipe against its network.

A network is defined by a module, or by a class in a module, with two attributes:

- `SPEC`, a `trainer.models.spec.ModelSpec`;
- `build(in_channels, num_classes, *, dropout, width, **options)`, which returns a `torch.nn.Module`.

Inputs are float32. S is the side of the crop, L the number of flows in a stack.

- One stream, one time step: (N, C, S, S). C is 3 for a frame and 2 L for a stack of flows.
- One stream, T time steps: (N, C, T, S, S). `SPEC.spacing` gives the frames between two steps.
- Joint network: two such inputs of the same clips, `model(rgb, flow)`. `in_channels` is that of the flow. The
  middle of each stack of flows is the frame of the same time step.

Outputs are logits (N, classes); their softmax is the prediction. In training a network may also return
(N, classes, K), for K classifiers, or for K candidates of which the best counts. Two optional methods then
give the loss and the class scores: see `trainer.models.objective`.

A parameter that no loss reaches has `requires_grad = False`.

A network built from other networks of this registry lists these in `towers`, a dictionary from the name of
the part to the name of the network: {"spatial": "vgg16", "temporal": "vgg16"}. The parts can then start from
the weights of trained networks. If a layer of a part reads twice as many channels as in its network, the
attribute `widened` names it: {"spatial": "fc6"}. Its weights are made by `trainer.models.weights.widen`.

A new network needs one module and one line of `MODELS`. A network outside this package needs
`register_model`, or its module's name as `model.name` of the recipe. A run that names it is opened by
`--network`, or after `trainer.allow_network`, because the import runs code. `trainer.testing.models` tests
all of the above.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any, Protocol, cast

from torch import nn

from flowprep.errors import UsageError
from trainer.models.spec import ModelSpec
from trainer.recipe.networks import is_allowed
from trainer.recipe.schema import Recipe

# Name -> "module" or "module:Class".
MODELS: dict[str, str] = {
    "cnn_m_2048": "trainer.models.cnn_m_2048",
    "resnet18": "trainer.models.resnet18",
    "resnet50": "trainer.models.resnet50",
    "vgg16": "trainer.models.vgg16",
    "googlenet": "trainer.models.googlenet",
    "karpathy_single": "trainer.models.karpathy:Single",
    "karpathy_early": "trainer.models.karpathy:Early",
    "karpathy_late": "trainer.models.karpathy:Late",
    "karpathy_slow": "trainer.models.karpathy:Slow",
    "karpathy_fovea": "trainer.models.karpathy:Fovea",
    "conv_fusion": "trainer.models.conv_fusion",
    "st_resnet": "trainer.models.st_resnet",
    "c3d": "trainer.models.c3d",
    "c3d_small": "trainer.models.c3d:Small",
    "siamese_transform": "trainer.models.siamese_transform",
    "fstcn": "trainer.models.fstcn",
}


class NetworkModule(Protocol):
    """A module or a class that defines a network."""

    SPEC: ModelSpec

    def build(
        self, in_channels: int, num_classes: int, *, dropout: float, width: int, **options: Any
    ) -> nn.Module:
        """A new network. `width` is the number of channels of the first layer; 0 is the published number."""


def register_model(name: str, location: str) -> None:
    """Add a network to the registry.

    Args:
        name: The value of `model.name` in a recipe.
        location: "package.module", or "package.module:Class". It is imported on first use.

    Raises:
        UsageError: Another network has this name.
    """
    if MODELS.setdefault(name, location) != location:
        raise UsageError(f"the network {name!r} is already registered from {MODELS[name]}: use another name")


@cache  # data loading calls it for each sample
def find_module(name: str) -> NetworkModule:
    """The module or class that defines a network.

    Args:
        name: A name in `MODELS`, or the location of a network outside this package, "package.module".

    Raises:
        UsageError: There is no such network, or it has no SPEC or no build. Or it is outside this package,
            and the user has not named it: see `trainer.recipe.networks`.
    """
    location = MODELS.get(name, name)
    if "." not in location:
        names = ", ".join(MODELS)
        raise UsageError(f"model.name is {name!r}; allowed: {names}, or package.module of your own")
    if location not in MODELS.values() and not is_allowed(location):
        raise UsageError(
            f"model.name is {name!r}, a module outside trainer, whose code would run. If you trust it, allow "
            f"it: --network {name}, or trainer.allow_network({name!r}) in Python"
        )
    module, _, attribute = location.partition(":")
    try:
        definition = import_module(module)
        definition = getattr(definition, attribute) if attribute else definition
    except (ModuleNotFoundError, AttributeError) as exc:
        raise UsageError(f"model.name is {name!r}; it cannot be imported: {exc}") from exc
    if not isinstance(getattr(definition, "SPEC", None), ModelSpec) or not hasattr(definition, "build"):
        raise UsageError(f"model.name is {name!r}; {location} must define SPEC, a ModelSpec, and build")
    return cast(NetworkModule, definition)


def build(
    name: str,
    *,
    in_channels: int,
    num_classes: int,
    dropout: float | Sequence[float] = 0.5,
    width: int = 0,
    **options: Any,
) -> nn.Module:
    """A new network, initialised from torch's random state.

    Args:
        name: A name in `MODELS`, or "package.module".
        in_channels: Channels at each time step: 3 for a frame, 2 L for a stack of L flows.
        num_classes: Outputs of the last layer.
        dropout: Probability of dropping a unit in every dropout layer. A sequence has one probability for
            each dropout layer, in the order of the network's modules.
        width: Channels of the first layer. The channels of all other layers scale with it. 0 is the published
            number.
        options: Further options of the network, listed in its `SPEC.options`.

    Raises:
        UsageError: There is no such network or option, or `dropout` has the wrong length.
    """
    definition = find_module(name)
    check_options(name, options)
    shared = 0.0 if isinstance(dropout, Sequence) else dropout
    model = definition.build(in_channels, num_classes, dropout=shared, width=width, **options)
    if isinstance(dropout, Sequence) and dropout:
        _set_dropout(model, name, dropout)
    return model


def _set_dropout(model: nn.Module, name: str, probabilities: Sequence[float]) -> None:
    layers = {key: layer for key, layer in model.named_modules() if isinstance(layer, nn.Dropout)}
    if len(layers) != len(probabilities):
        raise UsageError(
            f"model.dropout has {len(probabilities)} numbers; allowed for {name}: one number, or "
            f"one for each of {', '.join(layers)}"
        )
    for layer, probability in zip(layers.values(), probabilities, strict=True):
        layer.p = probability


def make_model(recipe: Recipe, classes: int) -> nn.Module:
    """The network of a recipe, with this number of classes."""
    model = recipe.model
    return build(
        model.name,
        in_channels=recipe.channels,
        num_classes=classes,
        dropout=model.dropout,
        width=model.width,
        **model.options,
    )


def input_shapes(recipe: Recipe, batch: int = 1) -> dict[str, tuple[int, ...]]:
    """Shape of each training input of a recipe's network, by stream, in the order of the inputs."""
    spec, settings = find_module(recipe.model.name).SPEC, recipe.input
    shapes = spec.shapes(
        recipe.stream, batch=batch, size=settings.crop, frames=settings.time_steps, stack=settings.stack
    )
    return dict(zip(spec.streams if spec.joint else (recipe.stream,), shapes, strict=True))


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Check options of a network.

    Raises:
        UsageError: The network has no such option, or the value is not allowed.
    """
    allowed = find_module(name).SPEC.options
    for key, value in options.items():
        if key not in allowed:
            raise UsageError(f"{key} is not an option of {name}; its options: {', '.join(allowed) or 'none'}")
        if value not in allowed[key] and ... not in allowed[key]:
            values = " | ".join(map(str, allowed[key]))
            raise UsageError(f"{key} of {name} is {value!r}; allowed: {values}")


def check_recipe(recipe: Recipe) -> NetworkModule:
    """Check a recipe against the inputs and options that its network accepts.

    Returns:
        The definition of the network.

    Raises:
        UsageError: There is no such network, or the recipe does not fit it.
    """
    name = recipe.model.name
    definition = find_module(name)
    _check_input(recipe, definition.SPEC)
    check_options(name, recipe.model.options)
    if not (recipe.model.weights or recipe.model.tower_weights):
        _check_frozen(recipe, definition.SPEC)
    if recipe.model.trainable == "last":
        _check_last_layer(recipe, definition.SPEC)
    return definition


def _check_input(recipe: Recipe, spec: ModelSpec) -> None:
    name, crop = recipe.model.name, recipe.input.crop
    streams = ("both",) if spec.joint else spec.streams
    if recipe.stream not in streams:
        raise UsageError(
            f"{name} is not defined for stream {recipe.stream!r}; allowed: {' | '.join(streams)}"
        )
    if spec.size is not None and crop != spec.size:
        raise UsageError(f"input.crop is {crop}; {name} needs crops of {spec.size} pixels")
    if crop < spec.min_size:
        raise UsageError(f"input.crop is {crop}; {name} needs crops of at least {spec.min_size} pixels")
    for section, steps in (("input", recipe.input.time_steps), ("test", recipe.test.time_steps)):
        if steps and steps not in spec.frames and ... not in spec.frames:
            numbers = " or ".join(map(str, spec.frames))
            raise UsageError(f"{section}.time_steps is {steps}; allowed for {name}: {numbers}")
    if recipe.test.whole and not spec.dense:
        raise UsageError(f"test.whole is true; {name} classifies crops of {crop} pixels only")


def _check_frozen(recipe: Recipe, spec: ModelSpec) -> None:
    """Refuse layers that stay as they are drawn: a recipe without pretrained weights."""
    option = spec.frozen_by
    if option and recipe.model.options.get(option, spec.options[option][0]):
        raise UsageError(
            f"model.options.{option} is true: {recipe.model.name} keeps some layers at the weights that it "
            "starts from, and the recipe names no weights. Name those of trained networks (--set "
            f"'model.tower_weights=[...]'), or train all layers (--set model.options.{option}=false)"
        )


def _check_last_layer(recipe: Recipe, spec: ModelSpec) -> None:
    if not spec.last_layers:
        raise UsageError(
            f"model.trainable is 'last'; {recipe.model.name} has no last layer of its own: allowed: all"
        )
    if not (recipe.model.weights or recipe.model.tower_weights):
        raise UsageError(
            "model.trainable is 'last' without model.weights: name the file of the pretrained weights "
            "(--set model.weights=FILE), or train all layers (--set model.trainable=all)"
        )
