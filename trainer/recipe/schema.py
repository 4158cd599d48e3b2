"""Recipes: everything that decides what a training run gives, as frozen records read from TOML.

A recipe is stored whole in each checkpoint. What only changes how fast a run goes (the device, the
number of loader processes) is not in it. Unknown keys and wrong types are refused with what is allowed.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import re
import sys
import textwrap
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowprep.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

STREAMS = ("spatial", "temporal", "both")
CONTROLS = ("", "reversed", "shuffled")
_ATTRIBUTE = re.compile(r"^    (\w+(?:, \w+)*): (.*(?:\n     .*)*)", re.MULTILINE)  # of a docstring


@dataclass(frozen=True)
class ModelRecipe:
    """The `[model]` section.

    Attributes:
        name: a network, as `trainer models` lists them.
        options: the network's own, listed with it; a section: `[model.options]`.
        width: channels of the first layer of models that can be made narrower; 0 is the published width.
        dropout: probability of dropping a unit, in each of the network's dropout layers, which come before
            fully connected ones; or a list of one for each of them.
        weights: what to start from: a state dict by torch.save (torchvision's names), or the folder of a
            training run; "" starts from scratch. All layers must fit, but a last one of other classes.
        tower_weights: of a network made of others, what these start from, each as `weights`: of a joint
            network, the spatial tower and the temporal one.
        cross_modality: the weights are of RGB images and are to take flow: each filter of the first layer
            becomes the mean of its R, G and B, in all channels. Of a joint one, those of its second tower.
        trainable: "all" layers, or the "last" only (which needs `weights`).
    """

    name: str = "resnet18"
    options: Mapping[str, Any] = field(default_factory=dict)
    width: int = 0
    dropout: float | tuple[float, ...] = 0.5
    weights: str = ""
    tower_weights: tuple[str, ...] = ()
    cross_modality: bool = False
    trainable: str = "all"


@dataclass(frozen=True)
class InputRecipe:
    """The `[input]` section.

    Attributes:
        resize: short side in pixels that frames are resized to before cropping; 0 takes them as stored.
            Flow is resized with them: its displacements are then pixels of the resized frame.
        crop: side of the square crop that the network sees, in pixels.
        scales: sides of windows, in pixels and falling, of which a training sample sees one at one of the
            corners or in the centre, stretched to `crop` (Wang et al. 2015); [] takes windows of
            `crop` pixels from any place.
        flip: flip half of the training samples horizontally (which negates u).
        time_steps: frames or stacks of a clip, of a network that sees several; 0 is the published number.
        spacing: frames from one to the next, least and most: a training sample has one number of these, drawn
            uniformly. [0, 0] spreads them over the whole video, one anywhere in each of as many equal parts,
            and so does a video that is too short; [] is what the network states.
        stack: L, the number of flows of a temporal input (at each time step).
        bidirectional: L/2 flows forward from a frame and L/2 flows back from it, instead of L forward. The
            corpus must hold backward flow.
        trajectories: read the flows along the trajectory of each pixel, instead of at the pixel.
        subtract_mean: subtract from each displacement field its own mean vector.
        control: what is taken from a temporal input, to see what it is worth: "reversed", the direction of
            time; "shuffled", the order of its flows; "", nothing.
        flow_scale: displacement in pixels that becomes 1 in a temporal input.
        rgb_mean, rgb_scale: per channel R, G, B on the 0-255 scale: what is subtracted from a spatial
            input, and what it is then divided by.
        jitter: standard deviation of the RGB jitter's alpha (Krizhevsky et al. 2012, section 4.1). The
            published 0.1 shifts a channel by 3 of 255 grey levels.
    """

    resize: int = 0
    crop: int = 224
    scales: tuple[int, ...] = ()
    flip: bool = True
    time_steps: int = 0
    spacing: tuple[int, ...] = ()
    stack: int = 10
    bidirectional: bool = False
    trajectories: bool = False
    subtract_mean: bool = True
    control: str = ""
    flow_scale: float = 5.0
    rgb_mean: tuple[float, ...] = (123.675, 116.28, 103.53)
    rgb_scale: tuple[float, ...] = (58.395, 57.12, 57.375)
    jitter: float = 0.1


@dataclass(frozen=True)
class TrainRecipe:
    """The `[train]` section.

    Attributes:
        steps: optimiser steps.
        batch: samples per step.
        micro_batch: samples that pass through the network of one process at once, at most; gradients are
            added up to `batch`. 0 passes the process's whole share. For a device whose memory does not hold
            it. Batch normalisation and dropout see what passes at once.
        lr, momentum, weight_decay: of stochastic gradient descent.
        milestones, factor: steps, at each of which the learning rate is multiplied by the factor.
        precision: "float32"; "bfloat16" or "float16" (autocast, float16 with a loss scale); or "auto":
            bfloat16 where the device computes in it.
        validation_share: share of the training videos held out to validate on, in [0, 0.5].
        validation_frames: clips per held-out video, each seen in its centre crop.
        validate_every, checkpoint_every, log_every: steps between validations, checkpoints, log rows.
        keep: the weights that are evaluated: "last", or "best" by validation accuracy.
    """

    steps: int = 80_000
    batch: int = 256
    micro_batch: int = 0
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    milestones: tuple[int, ...] = (50_000, 70_000)
    factor: float = 0.1
    precision: str = "auto"
    validation_share: float = 0.1
    validation_frames: int = 5
    validate_every: int = 1000
    checkpoint_every: int = 1000
    log_every: int = 20
    keep: str = "last"


@dataclass(frozen=True)
class EvaluationRecipe:
    """The `[test]` section.

    Attributes:
        frames: clips per video, equally spaced.
        crops: 10 (four corners and centre, and their flips), 5 (without flips), 2 (centre and its flip) or 1.
        whole: whole frames instead of crops, by a network that judges them densely: 2 (and their flips) or 1.
        time_steps: instead of input.time_steps; 0 is that number.
        spacing: frames from one time step to the next; 0 spreads them over the whole video, -1 is the middle
            of input.spacing.
    """

    frames: int = 25
    crops: int = 10
    whole: bool = False
    time_steps: int = 0
    spacing: int = -1


@dataclass(frozen=True)
class Recipe:
    """A whole recipe.

    Attributes:
        stream: "spatial" (RGB frames), "temporal" (stacks of flows) or, of a joint network, "both".
        seed: all randomness of a run follows from it.
        model, input, train, test: the sections.
    """

    stream: str
    seed: int = 0
    model: ModelRecipe = field(default_factory=ModelRecipe)
    input: InputRecipe = field(default_factory=InputRecipe)
    train: TrainRecipe = field(default_factory=TrainRecipe)
    test: EvaluationRecipe = field(default_factory=EvaluationRecipe)

    def __post_init__(self) -> None:
        """Refuse values that no run can be made with."""
        model, inp, train, test = self.model, self.input, self.train, self.test
        _check(self.stream in STREAMS, "stream", self.stream, " | ".join(STREAMS))
        _check(0 <= self.seed < 2**63, "seed", self.seed, "a whole number from 0, below 2^63")
        _check(model.width >= 0, "model.width", model.width, "a whole number from 0")
        dropout = model.dropout if isinstance(model.dropout, tuple) else (model.dropout,)
        _check(
            len(dropout) > 0 and all(0 <= p < 1 for p in dropout),
            "model.dropout",
            _plain(model.dropout),
            "a number in [0, 1), or a list of them, one for each dropout layer of the network",
        )
        _check(model.trainable in ("all", "last"), "model.trainable", model.trainable, "all | last")
        _check(
            not model.cross_modality
            or (self.stream != "spatial" and bool(model.weights or model.tower_weights)),
            "model.cross_modality",
            model.cross_modality,
            "false, unless the network takes flow and starts from model.weights or model.tower_weights",
        )
        _check(
            not (model.weights and model.tower_weights),
            "model.tower_weights",
            list(model.tower_weights),
            "[], where model.weights is given",
        )
        _check(inp.resize >= 0, "input.resize", inp.resize, "pixels, or 0 for the stored size")
        _check(
            inp.resize == 0 or inp.crop <= inp.resize,
            "input.crop",
            inp.crop,
            f"at most input.resize, {inp.resize}",
        )
        _check(
            list(inp.scales) == sorted(set(inp.scales), reverse=True) and min(inp.scales, default=1) >= 1,
            "input.scales",
            list(inp.scales),
            "sides in pixels, in falling order, or [] for windows of input.crop",
        )
        _check(
            inp.resize == 0 or max(inp.scales, default=0) <= inp.resize,
            "input.scales",
            list(inp.scales),
            f"at most input.resize, {inp.resize}",
        )
        _check(inp.time_steps >= 0, "input.time_steps", inp.time_steps, "a whole number from 0")
        _check(
            inp.spacing in ((), (0, 0)) or (len(inp.spacing) == 2 and 1 <= inp.spacing[0] <= inp.spacing[1]),
            "input.spacing",
            list(inp.spacing),
            "[least, most] from 1, [0, 0], or []",
        )
        _check(inp.stack >= 1, "input.stack", inp.stack, "a whole number from 1")
        _check(
            not inp.bidirectional or inp.stack % 2 == 0,
            "input.stack",
            inp.stack,
            "an even number where input.bidirectional is true",
        )
        _check(
            inp.control in CONTROLS and (not inp.control or self.stream != "spatial"),
            "input.control",
            inp.control,
            f'{" | ".join(CONTROLS[1:])}, of a temporal input, or ""',
        )
        _check(inp.flow_scale > 0, "input.flow_scale", inp.flow_scale, "pixels above 0")
        _check(inp.jitter >= 0, "input.jitter", inp.jitter, "a number from 0")
        _check(len(inp.rgb_mean) == 3, "input.rgb_mean", list(inp.rgb_mean), "3 numbers")
        _check(
            len(inp.rgb_scale) == 3 and min(inp.rgb_scale) > 0,
            "input.rgb_scale",
            list(inp.rgb_scale),
            "3 numbers above 0",
        )
        for name in (
            "steps",
            "batch",
            "validation_frames",
            "validate_every",
            "checkpoint_every",
            "log_every",
        ):
            value = getattr(train, name)
            _check(value >= 1, f"train.{name}", value, "a whole number from 1")
        _check(
            0 <= train.micro_batch <= train.batch, "train.micro_batch", train.micro_batch, "0 to train.batch"
        )
        _check(train.lr > 0, "train.lr", train.lr, "a number above 0")
        _check(0 <= train.momentum < 1, "train.momentum", train.momentum, "a number in [0, 1)")
        _check(train.weight_decay >= 0, "train.weight_decay", train.weight_decay, "a number from 0")
        milestones = train.milestones
        _check(
            list(milestones) == sorted(set(milestones)),
            "train.milestones",
            list(milestones),
            "steps in rising order",
        )
        _check(0 < train.factor <= 1, "train.factor", train.factor, "a number in (0, 1]")
        _check(
            train.precision in ("auto", "float32", "bfloat16", "float16"),
            "train.precision",
            train.precision,
            "auto | float32 | bfloat16 | float16",
        )
        _check(
            0 <= train.validation_share <= 0.5,
            "train.validation_share",
            train.validation_share,
            "a number in [0, 0.5]",
        )
        _check(train.keep in ("last", "best"), "train.keep", train.keep, "last | best")
        _check(
            train.keep == "last" or train.validation_share > 0,
            "train.keep",
            train.keep,
            "last, when train.validation_share is 0",
        )
        _check(test.frames >= 1, "test.frames", test.frames, "a whole number from 1")
        _check(test.crops in (1, 2, 5, 10), "test.crops", test.crops, "1, 2, 5 or 10")
        _check(
            not test.whole or test.crops in (1, 2),
            "test.crops",
            test.crops,
            "1 or 2, where test.whole is true",
        )
        _check(test.time_steps >= 0, "test.time_steps", test.time_steps, "a whole number from 0")
        _check(test.spacing >= -1, "test.spacing", test.spacing, "a whole number from -1")

    @property
    def channels(self) -> int:
        """Channels of the network's input at a time step: 3, or 2 L; of a joint one's flow."""
        return 3 if self.stream == "spatial" else 2 * self.input.stack

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, as stored in checkpoints."""
        return typing.cast("dict[str, Any]", _plain(dataclasses.asdict(self)))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Recipe:
        """The inverse of to_dict.

        Raises:
            UsageError: a key is not known, a value has the wrong type or is not allowed.
        """
        if "stream" not in values:
            raise UsageError(f"the recipe has no `stream`; allowed: {' | '.join(STREAMS)}")
        return typing.cast("Recipe", _build(cls, values, ""))

    def differences(self, other: Recipe) -> list[str]:
        """One line for each key that differs: "key: ours, theirs"."""
        ours, theirs = _flat(self.to_dict()), _flat(other.to_dict())
        keys = [*ours, *(key for key in theirs if key not in ours)]
        return [f"{k}: {ours.get(k)}, {theirs.get(k)}" for k in keys if ours.get(k) != theirs.get(k)]


def as_toml(recipe: Recipe) -> str:
    """The whole recipe as a TOML file: every key with its value, under what is said of it here."""
    return "\n".join(_lines(recipe, "")).lstrip() + "\n"


def _lines(record: Any, prefix: str) -> list[str]:
    """Lines of a section and of those in it; what the record's docstring says of keys stands above them."""
    said = {}
    for names, text in _ATTRIBUTE.findall(inspect.getdoc(record) or ""):
        first, *more = names.split(", ")
        text = " ".join((f"{names}: {text}" if more else text).split())
        said[first] = ["", *textwrap.wrap(text, 110, initial_indent="# ", subsequent_indent="# ")]
    keys, sections = [], []
    for name, value in ((f.name, getattr(record, f.name)) for f in dataclasses.fields(record)):
        if dataclasses.is_dataclass(value):
            inner = _lines(value, f"{prefix}{name}.")
            sections += ["", f"[{prefix}{name}]", *inner[inner[0] == "" :]]
        elif isinstance(value, Mapping):
            sections += [*said.get(name, ()), f"[{prefix}{name}]", *(_line(*item) for item in value.items())]
        else:
            keys += [*said.get(name, ()), _line(name, value)]
    return keys + sections


def _line(key: str, value: object) -> str:
    return f"{key} = {json.dumps(_plain(value), ensure_ascii=False)}".replace("\x7f", "\\u007f")


def read_recipe(path: Path, changes: typing.Sequence[str] = ()) -> Recipe:
    """Read a recipe file and apply `changes`, each "key=value" or "section.key=value".

    A value is written as in TOML (`[1, 2]`, `0.5`, `true`, `"text"`); a plain word stands for itself.

    Raises:
        UsageError: no such file, not TOML, or as Recipe.from_dict.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise UsageError(f"{path}: cannot be read: {exc.strerror}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise UsageError(f"{path}: not a TOML file: {exc}") from exc
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--set {change}: write key=value, such as train.lr=0.01")
        *sections, name = key.strip().split(".")
        section = values
        for part in sections:
            section = section.setdefault(part, {})
            if not isinstance(section, dict):
                raise UsageError(f"--set {change}: {part} is not a section")
        section[name] = _value(text.strip())
    try:
        return Recipe.from_dict(values)
    except UsageError as exc:
        raise UsageError(f"{path}: {exc}") from exc


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text  # a word without quotes; the type check refuses it where a number belongs


def _build(cls: Any, values: dict[str, Any], prefix: str) -> Any:
    types = typing.get_type_hints(cls)
    if unknown := [prefix + key for key in values if key not in types]:
        known = ", ".join(prefix + key for key in types)
        raise UsageError(f"unknown key {', '.join(unknown)}; known: {known}")
    return cls(**{key: _convert(value, types[key], prefix + key) for key, value in values.items()})


def _convert(value: Any, kind: Any, key: str) -> Any:
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise UsageError(f"{key} is {value!r}; it is a section: write [{key}]")
        return _build(kind, value, f"{key}.")
    if typing.get_origin(kind) is types.UnionType:  # one value, or a list of them
        one, several = typing.get_args(kind)
        return _convert(value, several if isinstance(value, (list, tuple)) else one, key)
    if typing.get_origin(kind) is Mapping:
        if not isinstance(value, dict):
            raise UsageError(f"{key} is {value!r}; it is a section: write [{key}]")
        for name, option in value.items():
            _check_option(f"{key}.{name}", option)
        return dict(value)
    if typing.get_origin(kind) is tuple:
        item = typing.get_args(kind)[0]
        if not isinstance(value, (list, tuple)):
            raise UsageError(f"{key} is {value!r}; allowed: a list of {_NAMES[item]}s")
        return tuple(_convert(v, item, key) for v in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        raise UsageError(f"{key} is {value!r}; allowed: a {_NAMES[kind]}")
    return value


def _check_option(key: str, value: Any) -> None:
    """Refuse what checkpoints and printed recipes cannot hold."""
    for one in value if isinstance(value, (list, tuple)) else [value]:
        if type(one) not in _NAMES or (type(one) is float and not math.isfinite(one)):
            raise UsageError(f"{key} is {value!r}; allowed: a number, text or truth value, or a list of them")
    if not re.fullmatch(r"[\w.-]+", key, re.ASCII):
        raise UsageError(f"{key!r} is no name of an option; allowed: letters, digits, _ and -")


_NAMES = {int: "whole number", float: "number", str: "text", bool: "truth value (true or false)"}


def _check(ok: bool, key: str, found: object, allowed: str) -> None:
    if not ok:
        raise UsageError(f"{key} is {found!r}; allowed: {allowed}")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return flat
