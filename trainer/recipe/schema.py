"""The keys of a recipe: their types, their defaults, their meanings and the values that they may have.

A recipe holds everything that decides the result of a training run. Each checkpoint stores it whole. Settings
that change only the speed of a run, such as the device and the number of loader processes, are not in it.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flowprep.errors import UsageError
from flowprep.system.paths import check_no_address
from trainer.recipe.convert import build
from trainer.recipe.rules import check_fields, plain, refuse, rule

STREAMS = ("spatial", "temporal", "both")
CONTROLS = ("", "reversed", "shuffled")
_ALLOWED_CONTROLS = f'{" | ".join(CONTROLS[1:])}, of a temporal input, or ""'
AVERAGES = ("softmax", "logits")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")


def _are_probabilities(value: float | tuple[float, ...]) -> bool:
    several = value if isinstance(value, tuple) else (value,)
    return len(several) > 0 and all(0 <= p < 1 for p in several)


def _fall(sides: tuple[int, ...]) -> bool:
    return list(sides) == sorted(set(sides), reverse=True) and min(sides, default=1) >= 1


def _rise(steps: tuple[int, ...]) -> bool:
    return list(steps) == sorted(set(steps))


def _is_group_pattern(pattern: str) -> bool:
    try:
        return re.compile(pattern).groups < 2
    except re.error:
        return False


def _is_spacing(spacing: tuple[int, ...]) -> bool:
    return spacing in ((), (0, 0)) or (len(spacing) == 2 and 1 <= spacing[0] <= spacing[1])


@dataclass(frozen=True)
class ModelRecipe:
    """The `[model]` section: the network and the weights that it starts from."""

    name: str = field(default="resnet18", metadata=rule("The network; `trainer models` lists the names."))
    options: Mapping[str, Any] = field(
        default_factory=dict, metadata=rule("Options of the network itself; `trainer models` lists them.")
    )
    width: int = field(
        default=0,
        metadata=rule(
            "Channels of the first layer, for networks that can be made narrower. 0 is the published width.",
            minimum=0,
        ),
    )
    dropout: float | tuple[float, ...] = field(
        default=0.5,
        metadata=rule(
            "Probability that a dropout layer drops a unit: one number for all dropout layers, or a list "
            "with one number for each. Dropout layers stand before fully connected layers.",
            accepts=_are_probabilities,
            allowed="a number in [0, 1), or a list of them, one for each dropout layer of the network",
        ),
    )
    weights: str = field(
        default="",
        metadata=rule(
            "Weights to start from: a state dict that torch.save wrote (with the names of torchvision), or "
            'the folder of a training run. "" starts from scratch. Every layer must fit; only a last layer '
            "for other classes may differ."
        ),
    )
    tower_weights: tuple[str, ...] = field(
        default=(),
        metadata=rule(
            "As `weights`, for each part of a network that is made of other networks. A joint network has "
            "two parts: the spatial tower and the temporal tower."
        ),
    )
    cross_modality: bool = field(
        default=False,
        metadata=rule(
            "Start a network of flow from weights of RGB images. Each filter of the first layer becomes the"
            " mean of its R, G and B filters, in all channels. A joint network does so in its second tower."
        ),
    )
    trainable: str = field(
        default="all",
        metadata=rule(
            'Layers to train: "all", or only the "last" (which needs `weights`).', choices=("all", "last")
        ),
    )


@dataclass(frozen=True)
class InputRecipe:
    """The `[input]` section: how a video becomes an input of the network."""

    resize: int = field(
        default=0,
        metadata=rule(
            "Short side in pixels to which frames are resized before cropping; 0 keeps the stored size. "
            "Flow is resized too, and its displacements become pixels of the resized frame.",
            minimum=0,
            allowed="pixels, or 0 for the stored size",
        ),
    )
    crop: int = field(default=224, metadata=rule("Side in pixels of the network's square input."))
    scales: tuple[int, ...] = field(
        default=(),
        metadata=rule(
            "Sides of windows in pixels, in falling order. A training sample shows one window, at a corner "
            "or at the centre, resized to `crop` (Wang et al. 2015). [] uses windows of `crop` pixels at "
            "any place.",
            accepts=_fall,
            allowed="sides in pixels, in falling order, or [] for windows of input.crop",
        ),
    )
    flip: bool = field(
        default=True,
        metadata=rule("Mirror half of the training samples left to right, which changes the sign of u."),
    )
    time_steps: int = field(
        default=0,
        metadata=rule(
            "Frames or stacks of a clip, for a network of several time steps. 0 is the published number.",
            minimum=0,
        ),
    )
    spacing: tuple[int, ...] = field(
        default=(),
        metadata=rule(
            "Least and greatest number of frames from one time step to the next; a training sample draws it "
            "uniformly. [0, 0] divides the video into equal parts and draws a time step from each part. A "
            "video that is too short for the spacing is divided, too. [] is the published spacing of the "
            "network.",
            accepts=_is_spacing,
            allowed="[least, greatest] from 1, [0, 0], or []",
        ),
    )
    stack: int = field(
        default=10,
        metadata=rule("L, the number of flows of a temporal input at each time step.", minimum=1),
    )
    bidirectional: bool = field(
        default=False,
        metadata=rule(
            "Stack L/2 flows forward from a frame and L/2 flows backward from it, instead of L flows "
            "forward. The corpus must hold backward flow."
        ),
    )
    trajectories: bool = field(
        default=False,
        metadata=rule("Read the flows along the trajectory of each pixel, instead of at the pixel."),
    )
    subtract_mean: bool = field(
        default=True, metadata=rule("Subtract from each flow the mean of its displacement vectors.")
    )
    control: str = field(
        default="",
        metadata=rule(
            'A control experiment, which removes information from a temporal input. "reversed" removes the '
            'direction of time, "shuffled" the order of the flows; "" removes nothing.',
            choices=CONTROLS,
            allowed=_ALLOWED_CONTROLS,
        ),
    )
    flow_scale: float = field(
        default=5.0,
        metadata=rule(
            "Displacement in pixels that becomes 1 in a temporal input.", above=0, allowed="pixels above 0"
        ),
    )
    rgb_mean: tuple[float, ...] = field(
        default=(123.675, 116.28, 103.53),
        metadata=rule(
            "Values of R, G and B that are subtracted from a spatial input, on the 0-255 scale.",
            accepts=lambda mean: len(mean) == 3,
            allowed="3 numbers",
        ),
    )
    rgb_scale: tuple[float, ...] = field(
        default=(58.395, 57.12, 57.375),
        metadata=rule(
            "Values that R, G and B are divided by after the subtraction, on the 0-255 scale.",
            accepts=lambda scale: len(scale) == 3 and min(scale) > 0,
            allowed="3 numbers above 0",
        ),
    )
    bgr: bool = field(
        default=False,
        metadata=rule(
            "Give the network the channels B, G, R, in the order of weights from Caffe, instead of R, G, B. "
            "`rgb_mean` and `rgb_scale` keep the order R, G, B."
        ),
    )
    jitter: float = field(
        default=0.1,
        metadata=rule(
            "Standard deviation of alpha in the RGB jitter of Krizhevsky et al. 2012, section 4.1. The "
            "published 0.1 shifts a channel by 3 of 255 grey levels.",
            minimum=0,
        ),
    )
    colour: float = field(
        default=0.0,
        metadata=rule(
            "Greatest change of brightness, contrast and saturation of a training sample: each is multiplied "
            "by a factor between 1 - colour and 1 + colour (Howard 2013).",
            minimum=0,
            below=1,
        ),
    )
    grey: float = field(
        default=0.0, metadata=rule("Share of the training samples without colour.", minimum=0, maximum=1)
    )


@dataclass(frozen=True)
class TrainRecipe:
    """The `[train]` section: optimiser, schedule, validation and checkpoints."""

    steps: int = field(
        default=80_000,
        metadata=rule(
            "Optimiser steps of the run. 0 keeps the weights that the run starts from, which "
            "`trainer evaluate --svm` can use.",
            minimum=0,
        ),
    )
    batch: int = field(default=256, metadata=rule("Samples of a step.", minimum=1))
    micro_batch: int = field(
        default=0,
        metadata=rule(
            "Largest number of samples that a process passes through the network at once; the gradients of "
            "the passes are added. 0 passes the whole share of the process at once. Set it if the memory of"
            " the device is too small. Batch normalisation and dropout see one pass at a time.",
            minimum=0,
            allowed="0 to train.batch",
        ),
    )
    sync_batch_norm: bool = field(
        default=False,
        metadata=rule(
            "Normalise by the samples that all processes of a run pass through the network at once, instead "
            "of those of each process. It has no effect on one process."
        ),
    )
    lr: float = field(
        default=0.01,
        metadata=rule("Learning rate of stochastic gradient descent at the first step.", above=0),
    )
    momentum: float = field(
        default=0.9, metadata=rule("Momentum of stochastic gradient descent.", minimum=0, below=1)
    )
    weight_decay: float = field(
        default=5e-4, metadata=rule("Weight decay of stochastic gradient descent.", minimum=0)
    )
    bias_lr: float = field(
        default=1.0,
        metadata=rule(
            "Multiplier of the learning rate for biases, except those of normalisation. Recipes of Caffe and "
            "MatConvNet have 2.",
            above=0,
        ),
    )
    decay_biases: bool = field(
        default=True,
        metadata=rule("Apply the weight decay to biases, except those of normalisation."),
    )
    decay_norms: bool = field(
        default=True,
        metadata=rule("Apply the weight decay to the weights and biases of normalisation."),
    )
    milestones: tuple[int, ...] = field(
        default=(50_000, 70_000),
        metadata=rule(
            "Steps at which the learning rate is multiplied by `factor`.",
            accepts=_rise,
            allowed="steps in rising order",
        ),
    )
    factor: float = field(
        default=0.1,
        metadata=rule("Multiplier of the learning rate at each milestone.", above=0, maximum=1),
    )
    precision: str = field(
        default="auto",
        metadata=rule(
            '"float32"; "bfloat16" or "float16" (autocast; float16 has a loss scale); or "auto", which is '
            "bfloat16 on a device with bfloat16 instructions and else float32. On a CPU, networks of 3D "
            "convolutions are then float32, and others too if a check finds wrong gradients.",
            choices=PRECISIONS,
        ),
    )
    validation_share: float = field(
        default=0.1,
        metadata=rule("Share of the training videos held out for validation.", minimum=0, maximum=0.5),
    )
    groups: str = field(
        default="",
        metadata=rule(
            "Regular expression that finds the group of a video in its id, such as 'person(\\d+)'. Videos of "
            'a group stay on one side of every split. "" uses the rules of UCF-101 and HMDB-51.',
            accepts=_is_group_pattern,
            allowed="a regular expression with at most one pair of parentheses, around the name of the group",
        ),
    )
    validation_frames: int = field(
        default=5,
        metadata=rule("Clips of each held-out video in a validation; each shows its centre crop.", minimum=1),
    )
    validate_every: int = field(
        default=1000, metadata=rule("Steps from one validation to the next.", minimum=1)
    )
    checkpoint_every: int = field(
        default=1000, metadata=rule("Steps from one checkpoint to the next.", minimum=1)
    )
    log_every: int = field(default=20, metadata=rule("Steps from one row of the log to the next.", minimum=1))
    keep: str = field(
        default="last",
        metadata=rule(
            'Weights that are evaluated: the "last", or the "best" by validation accuracy.',
            choices=("last", "best"),
        ),
    )


@dataclass(frozen=True)
class EvaluationRecipe:
    """The `[test]` section: how videos are evaluated."""

    frames: int = field(default=25, metadata=rule("Clips of each video, equally spaced.", minimum=1))
    crops: int = field(
        default=10,
        metadata=rule(
            "Crops of each clip: 10 (four corners and the centre, and their mirror images), 5 (without "
            "mirror images), 2 (the centre and its mirror image) or 1 (the centre).",
            choices=(1, 2, 5, 10),
            allowed="1, 2, 5 or 10",
        ),
    )
    average: str = field(
        default="softmax",
        metadata=rule(
            'Outputs of the network that are averaged over clips and crops: the "softmax", or the "logits", '
            "whose mean then goes through the softmax.",
            choices=AVERAGES,
        ),
    )
    whole: bool = field(
        default=False,
        metadata=rule(
            "Evaluate whole frames instead of crops, with a network that classifies densely. `crops` is then "
            "2 (the frame and its mirror image) or 1."
        ),
    )
    time_steps: int = field(
        default=0, metadata=rule("Time steps of a clip in evaluation. 0 is input.time_steps.", minimum=0)
    )
    spacing: int = field(
        default=-1,
        metadata=rule(
            "Frames from one time step to the next. 0 spreads the time steps over the whole video; -1 is the "
            "middle of input.spacing.",
            minimum=-1,
        ),
    )


@dataclass(frozen=True)
class Recipe:
    """A whole recipe.

    Raises:
        UsageError: a key has a value that its rule does not allow, or keys contradict each other.
    """

    stream: str = field(
        metadata=rule(
            '"spatial" (RGB frames), "temporal" (stacks of flows) or "both", for a joint network.',
            choices=STREAMS,
        )
    )
    seed: int = field(
        default=0,
        metadata=rule(
            "Seed of all random numbers of a run.",
            minimum=0,
            below=2**63,
            allowed="a whole number from 0, below 2^63",
        ),
    )
    model: ModelRecipe = field(default_factory=ModelRecipe)
    input: InputRecipe = field(default_factory=InputRecipe)
    train: TrainRecipe = field(default_factory=TrainRecipe)
    test: EvaluationRecipe = field(default_factory=EvaluationRecipe)

    def __post_init__(self) -> None:
        """Check each key, and then the keys that depend on each other."""
        check_fields(self)
        _check_weights(self.model, self.stream)
        _check_windows(self.input)
        _check_stack(self.input, self.stream)
        _check_colours(self.input, self.stream)
        _check_training(self.train)
        _check_whole_frames(self.test)

    @property
    def channels(self) -> int:
        "Channels of the network's input at a time step: 3 for RGB, or 2 L; of a joint network, those of"
        "flow."
        return 3 if self.stream == "spatial" else 2 * self.input.stack

    def to_dict(self) -> dict[str, Any]:
        """The recipe in plain types, as checkpoints store it."""
        return typing.cast("dict[str, Any]", plain(dataclasses.asdict(self)))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Recipe:
        """The inverse of to_dict; keys that are missing have their defaults.

        Raises:
            UsageError: a key is not known, or a value has the wrong type or is not allowed.
        """
        if "stream" not in values:
            raise UsageError(f"the recipe has no `stream`; allowed: {' | '.join(STREAMS)}")
        return typing.cast("Recipe", build(cls, values))

    def differences(self, other: Recipe) -> list[str]:
        """One line for each key that differs, "key: own value, other value"."""
        own, others = _flatten(self.to_dict()), _flatten(other.to_dict())
        keys = [*own, *(key for key in others if key not in own)]
        return [f"{k}: {own.get(k)}, {others.get(k)}" for k in keys if own.get(k) != others.get(k)]


def _check_weights(model: ModelRecipe, stream: str) -> None:
    if model.cross_modality and (stream == "spatial" or not (model.weights or model.tower_weights)):
        refuse(
            "model.cross_modality",
            True,
            "false, unless the network takes flow and starts from model.weights or model.tower_weights",
        )
    for path in (model.weights, *model.tower_weights):
        check_no_address("model.weights: ", path)
    if model.weights and model.tower_weights:
        refuse("model.tower_weights", model.tower_weights, "[], where model.weights is given")


def _check_windows(section: InputRecipe) -> None:
    if not section.resize:
        return
    allowed = f"at most input.resize, {section.resize}"
    if section.crop > section.resize:
        refuse("input.crop", section.crop, allowed)
    if max(section.scales, default=0) > section.resize:
        refuse("input.scales", section.scales, allowed)


def _check_stack(section: InputRecipe, stream: str) -> None:
    if section.bidirectional and section.stack % 2:
        refuse("input.stack", section.stack, "an even number where input.bidirectional is true")
    if section.control and stream == "spatial":
        refuse("input.control", section.control, _ALLOWED_CONTROLS)


def _check_colours(section: InputRecipe, stream: str) -> None:
    if section.bgr and stream == "temporal":
        refuse("input.bgr", True, "false for a temporal input, which has no colours")


def _check_training(section: TrainRecipe) -> None:
    if section.micro_batch > section.batch:
        refuse("train.micro_batch", section.micro_batch, "0 to train.batch")
    if section.keep == "best" and section.validation_share == 0:
        refuse("train.keep", section.keep, "last, when train.validation_share is 0")


def _check_whole_frames(section: EvaluationRecipe) -> None:
    if section.whole and section.crops not in (1, 2):
        refuse("test.crops", section.crops, "1 or 2, where test.whole is true")


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = prefix + key
        flat.update(_flatten(value, f"{name}.") if isinstance(value, dict) else {name: value})
    return flat
