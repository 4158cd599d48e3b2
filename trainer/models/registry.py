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
network learns by is `losses`, and what it says then is `class_scores`. Parameters that no loss is meant to
reach have requires_grad = False.

A new network is one module, one line of `MODELS` and one row of the table in the conformance test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any, Protocol, cast

from torch import nn

from flowprep.errors import UsageError
from trainer.models.spec import ModelSpec
from trainer.recipe.schema import Recipe

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


def input_shapes(recipe: Recipe, batch: int = 1) -> dict[str, tuple[int, ...]]:
    """Shape of each input of the recipe's network in training, by its stream and in their order."""
    spec = find_module(recipe.model.name).SPEC
    given = recipe.input
    shapes = spec.shapes(
        recipe.stream, batch=batch, size=given.crop, frames=given.time_steps, stack=given.stack
    )
    return dict(zip(spec.streams if spec.joint else (recipe.stream,), shapes, strict=True))


def check_recipe(recipe: Recipe) -> Module:
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


@cache  # asked for each sample
def find_module(name: str) -> Module:
    """The module of a model.

    Raises:
        UsageError: there is no such model; the names are given.
    """
    if name not in MODELS:
        raise UsageError(f"model.name is {name!r}; allowed: {', '.join(MODELS)}")
    return cast(Module, import_module(MODELS[name]))
