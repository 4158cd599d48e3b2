"""Every option that changes what a corpus holds, as frozen records that check themselves.

The settings are stored whole in the plan and in each shard, and read back from there: nothing about a
corpus has to be remembered outside it. Options that only change how fast it is made (numbers of
workers, batch sizes) are not settings.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from flowprep.errors import SettingsError

MIN_SIDE = 16  # pixels: the solver's coarsest level, and the least that TV-L1 can say anything about

MAX_SIDE = 65_500  # pixels: the most that a JPEG can have
# Frames of more than this, declared or asked for, are taken for a trap: 8K has half of it, and in RGB it is
# 200 MB.
MOST_PIXELS = 2**26
MAX_RANGE = 1000  # pixels, of fixed and tsn codes
WARPS = ("cubic", "spline")
CODES = ("adaptive", "fixed", "tsn")
# As engine: another tool computed the flow, so that tvl1 and quality say nothing.
IMPORTED = "imported"
CODECS = ("jpeg", "png")
# Tasks of a long video, if not told otherwise; no setting, for its frames and flow stay the same. 16 decodes
# cost 8 times one decode in all, some percent of the time that flow takes.
MOST_SEGMENTS = 16


def _check(ok: bool, name: str, found: object, allowed: str) -> None:
    if not ok:
        raise SettingsError(f"{name} is {found}; allowed: {allowed}")


_TYPES: dict[str, Any] = {"int": int, "float": (int, float), "bool": bool, "str": str}


def _check_types(record: Any) -> None:
    """Refuse a value of another type than its field says; whole numbers become floats where those belong."""
    for each in dataclasses.fields(record):
        value, kind = getattr(record, each.name), str(each.type)
        if kind in _TYPES:
            right = isinstance(value, _TYPES[kind]) and (kind == "bool" or not isinstance(value, bool))
            _check(right, each.name, repr(value), f"a value of type {kind}")
        if kind == "float":
            object.__setattr__(record, each.name, float(value))


@dataclass(frozen=True)
class Tvl1Settings:
    """TV-L1 parameters; symbols as in Sanchez Perez, Meinhardt-Llopis, Facciolo (IPOL 2013).

    The defaults are those of OpenCV's `DualTVL1OpticalFlow` (CPU), on grey levels 0-255.

    Attributes:
        tau: time step of the dual update. Stable up to 0.25.
        lambda_: weight of the data term; smaller gives smoother flow.
        theta: tightness between the flow and its auxiliary variable.
        scales: number of pyramid levels at most; a level under 16 pixels is left out.
        scale_step: size of a level relative to the next finer one, in (0, 1).
        warps: times that the second image is warped, per level.
        outer_iterations: times that the flow is median-filtered, per warp.
        inner_iterations: solver iterations at most, per outer iteration.
        epsilon: stop when the mean square update falls to epsilon^2 (pixels); 0 never stops early.
        median: side of the median filter in pixels (1 for none, 3, 5, or 7 for a weighted one).
        median_grey: a pixel counts less in the median the more it differs from the middle one in the first
            image, by half at about 1.1 times this many grey levels; 0 counts all alike.
        median_after: filter after the iterations of a block instead of before them.
        blur: each image is first smoothed by a Gaussian of this sigma, pixels; 0 for none.
        structure: share of an image's structure, its total-variation denoised version, that is taken off
            it, 0 to 1: what remains is the texture, in which a change of light shows less.
        structure_theta: how far structure and image may lie apart, grey levels.
        structure_iterations: solver iterations of the structure.
        antialias: a pyramid level is made after a Gaussian of antialias * sqrt(1 / scale_step^2 - 1) pixels.
        warp: what the second image is read through between pixels: "cubic" (cubic convolution, centred
            differences as gradient, 0 outside) or "spline" (cubic B-spline with its own gradient, the
            border pixel outside).
        blend: share of the first image's gradient in that of the data term, 0 to 1.
        mask: leave the data term out where the flow points outside the image.
    """

    tau: float = 0.25
    lambda_: float = 0.15
    theta: float = 0.3
    scales: int = 5
    scale_step: float = 0.8
    warps: int = 5
    outer_iterations: int = 10
    inner_iterations: int = 30
    epsilon: float = 0.01
    median: int = 5
    median_grey: float = 0.0
    median_after: bool = False
    blur: float = 0.0
    structure: float = 0.0
    structure_theta: float = 16.0
    structure_iterations: int = 50
    antialias: float = 0.0
    warp: str = "cubic"
    blend: float = 0.0
    mask: bool = False

    def __post_init__(self) -> None:
        """Refuse what the solver cannot run with."""
        _check_types(self)
        _check(0 < self.tau <= 0.25, "tau", self.tau, "a number in (0, 0.25]")
        _check(self.lambda_ > 0, "lambda_", self.lambda_, "a number above 0")
        _check(self.theta > 0, "theta", self.theta, "a number above 0")
        _check(0 < self.scale_step < 1, "scale_step", self.scale_step, "a number in (0, 1)")
        for name in ("scales", "warps", "outer_iterations", "inner_iterations", "structure_iterations"):
            _check(getattr(self, name) >= 1, name, getattr(self, name), "a whole number from 1")
        _check(self.epsilon >= 0, "epsilon", self.epsilon, "a number from 0")
        sides = (1, 3, 5, 7) if self.median_grey else (1, 3, 5)
        _check(self.median in sides, "median", self.median, f"{sides} with median_grey {self.median_grey}")
        _check(self.median_grey >= 0, "median_grey", self.median_grey, "grey levels from 0")
        _check(0 <= self.blur <= 5, "blur", self.blur, "pixels in [0, 5]")
        _check(self.structure_theta > 0, "structure_theta", self.structure_theta, "a number above 0")
        _check(0 <= self.antialias <= 5, "antialias", self.antialias, "a number in [0, 5]")
        _check(self.warp in WARPS, "warp", self.warp, " or ".join(WARPS))
        for name in ("structure", "blend"):
            _check(0 <= getattr(self, name) <= 1, name, getattr(self, name), "a share in [0, 1]")

    def beyond_opencv(self) -> list[str]:
        """The names of the settings whose values OpenCV does not have."""
        names = [f.name for f in dataclasses.fields(self)]
        own = names[names.index("median_grey") :]
        return [name for name in own if getattr(self, name) != getattr(Tvl1Settings, name)]


def check_engine(engine: str, tvl1: Tvl1Settings) -> None:
    """Refuse parameters that an engine does not have.

    Raises:
        SettingsError: the message names them.
    """
    if engine == "opencv" and (beyond := tvl1.beyond_opencv()):
        raise SettingsError(
            f"engine opencv does not have {', '.join(beyond)}; allowed: preset opencv, or engine cpu"
        )


# What lowers the error, reaches large motion, and leaves still backgrounds calm. The number of iterations is
# fixed: those that a stopping test leaves out are where flow on flat areas would have come to rest.
_ACCURATE = Tvl1Settings(
    lambda_=0.42,
    theta=0.1,
    scales=20,
    scale_step=0.75,
    warps=5,
    outer_iterations=1,
    inner_iterations=40,
    epsilon=0.0,
    median_after=True,
    blur=0.6,
    structure=0.7,
    structure_theta=10.0,
    structure_iterations=10,
    antialias=0.6,
    warp="spline",
    blend=0.5,
    mask=True,
)

PRESETS: dict[str, Tvl1Settings] = {
    "accurate": _ACCURATE,
    # A median that respects edges, for twice the time of "accurate".
    "best": dataclasses.replace(_ACCURATE, median=7, median_grey=10.0),
    # Under half the time of "accurate", and an energy not above OpenCV's.
    "fast": dataclasses.replace(_ACCURATE, structure=0.6, scale_step=0.65, warps=3, inner_iterations=35),
    # What OpenCV's CPU code computes by default.
    "opencv": Tvl1Settings(),
}
DEFAULT_PRESET = "accurate"


def default_preset(engine: str) -> str:
    """The preset of an engine when none is given: OpenCV has its own parameters only."""
    return "opencv" if engine == "opencv" else DEFAULT_PRESET


def tvl1_settings(preset: str, changes: Iterable[str] = ()) -> Tvl1Settings:
    """A preset with some of its settings changed.

    Args:
        preset: a key of `PRESETS`.
        changes: each "name=value" with a name of Tvl1Settings; of the same name the last one counts.

    Raises:
        SettingsError: an unknown preset or name, or a value that is not allowed.
    """
    if preset not in PRESETS:
        raise SettingsError(f"preset is {preset!r}; allowed: {', '.join(PRESETS)}")
    base = PRESETS[preset]
    values: dict[str, Any] = {}
    for change in changes:
        name, _, text = (part.strip() for part in change.partition("="))
        known = [f.name for f in dataclasses.fields(Tvl1Settings)]
        if name not in known:
            raise SettingsError(f"tvl1 is {change!r}; allowed: name=value with a name of {', '.join(known)}")
        values[name] = _parse(name, text, type(getattr(base, name)))
    return dataclasses.replace(base, **values)


def _parse(name: str, text: str, kind: type) -> Any:
    try:
        return {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        allowed = {bool: "true or false", int: "a whole number", float: "a number"}[kind]
        raise SettingsError(f"{name} is {text!r}; allowed: {allowed}") from None


@dataclass(frozen=True)
class Settings:
    """What a corpus holds and how it was made.

    Attributes:
        size: stored size: "short:S" (short side S pixels), "WxH" or "source".
        step: frames between the two of a pair.
        rgb, flow, backward: which streams are stored.
        engine: the TV-L1 engine, never "auto": that is resolved before a plan is written.
        tvl1: the solver's parameters.
        codes: how flow becomes 0-255: "adaptive", "fixed" or "tsn" (see flowprep.codec.quantise).
        range: R of fixed and tsn codes: they span [-R, R] pixels.
        error_px: quantisation step of adaptive codes' JPEG, in pixels.
        quality: JPEG quality of frames and of fixed and tsn codes, 1 to 100.
        codec: what the codes are stored as: "jpeg", or "png", which keeps each code.
        stabilise: the camera's motion is taken off the flow (see flowprep.stabilisation).
        keep_partial: keep the clean frames before the damage of a damaged video.
        shard_pairs: pairs per shard, about: short videos share a shard, longer ones are split.
        grey: how flow's input is made from a decoded frame.
        resize: how frames are resized.
    """

    size: str = "short:256"
    step: int = 1
    rgb: bool = True
    flow: bool = True
    backward: bool = False
    engine: str = "cpu"
    tvl1: Tvl1Settings = field(default_factory=lambda: PRESETS[DEFAULT_PRESET])
    codes: str = "adaptive"
    range: float = 20.0
    error_px: float = 0.4
    quality: int = 95
    codec: str = "jpeg"
    stabilise: bool = False
    keep_partial: bool = False
    shard_pairs: int = 512
    grey: str = "BT.601 luma of the stored RGB frame"
    resize: str = "pixel area down, bilinear up"

    def __post_init__(self) -> None:
        """Refuse values that no corpus can be made with."""
        _check_types(self)
        parse_size(self.size)
        _check(self.step >= 1, "step", self.step, "a whole number from 1")
        _check(self.rgb or self.flow, "rgb, flow", "neither", "at least one of the two streams")
        _check(self.flow or not self.backward, "backward", "on without flow", "backward flow needs flow")
        _check(self.flow or not self.stabilise, "stabilise", "on without flow", "flow to take motion off")
        check_engine(self.engine, self.tvl1)
        _check(self.codes in CODES, "codes", self.codes, " | ".join(CODES))
        _check(0 < self.range <= MAX_RANGE, "range", self.range, f"pixels in (0, {MAX_RANGE}]")
        _check(0 < self.error_px <= 100, "error_px", self.error_px, "pixels in (0, 100]")
        _check(self.codec in CODECS, "codec", self.codec, " | ".join(CODECS))
        # What would have no effect is not stored as if it had.
        adaptive, default = self.codes == "adaptive", type(self)
        if adaptive:
            _check(self.range == default.range, "range", self.range, "with codes fixed or tsn, not adaptive")
        if not adaptive or self.codec != "jpeg":
            made = f"{self.error_px} with codes {self.codes} as {self.codec}"
            _check(self.error_px == default.error_px, "error_px", made, "with codes adaptive as jpeg")
        _check(1 <= self.quality <= 100, "quality", self.quality, "a whole number from 1 to 100")
        _check(self.shard_pairs >= 1, "shard_pairs", self.shard_pairs, "a whole number from 1")

    @property
    def streams(self) -> tuple[str, ...]:
        """Names of the stored streams, in the order in which a shard lists them."""
        names = ["rgb"] if self.rgb else []
        if self.flow:
            names += ["flow_u", "flow_v"]
        if self.backward:
            names += ["flow_back_u", "flow_back_v"]
        return tuple(names)

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, as stored in plans and shards."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Settings:
        """The inverse of to_dict; an unknown name is an error that lists the known ones.

        Raises:
            SettingsError: a name is not known or a value is not allowed.
        """
        values = dict(values)
        tvl1 = values.pop("tvl1", {})
        settings: Settings = _build(cls, {**values, "tvl1": _build(Tvl1Settings, tvl1)})
        return settings

    @classmethod
    def from_stored(cls, values: dict[str, Any]) -> Settings:
        """What a shard says, be it of a newer minor version: unknown names are left out, nothing is checked.

        For reading only: what a corpus is made with goes through from_dict.
        """
        stored: Settings = _build(cls, values, strict=False)
        object.__setattr__(stored, "tvl1", _build(Tvl1Settings, values.get("tvl1", {}), strict=False))
        return stored

    def digest(self) -> str:
        """SHA-256 of the settings, as hexadecimal digits: the same settings, the same digest."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def differences(self, other: Settings) -> list[str]:
        """One line for each setting that differs, "name: ours, theirs"."""
        ours, theirs = _flat(self.to_dict()), _flat(other.to_dict())
        names = list(dict.fromkeys([*ours, *theirs]))
        return [f"{n}: {ours.get(n)}, {theirs.get(n)}" for n in names if ours.get(n) != theirs.get(n)]


def parse_size(size: str) -> tuple[str, int, int]:
    """Split a size option into its kind and numbers.

    Returns:
        ("short", S, 0), ("exact", W, H) or ("source", 0, 0).

    Raises:
        SettingsError: it is none of these.
    """
    if size == "source":
        return "source", 0, 0
    if match := re.fullmatch(r"short:(\d+)", size):
        short = int(match[1])
        most = math.isqrt(MOST_PIXELS)
        _check(MIN_SIDE <= short <= most, "size", size, f"a short side of {MIN_SIDE} to {most} pixels")
        return "short", short, 0
    if match := re.fullmatch(r"(\d+)x(\d+)", size):
        width, height = int(match[1]), int(match[2])
        allowed = f"sides of {MIN_SIDE} to {MAX_SIDE} pixels, and {MOST_PIXELS} pixels in all"
        fits = min(width, height) >= MIN_SIDE and max(width, height) <= MAX_SIDE
        _check(fits and width * height <= MOST_PIXELS, "size", size, allowed)
        return "exact", width, height
    raise SettingsError(
        f"size is {size!r}; allowed: short:S (such as short:256), WxH (such as 340x256), source"
    )


def stored_size(size: str, width: int, height: int) -> tuple[int, int]:
    """Width and height at which frames of `width` x `height` pixels are stored.

    `short:S` makes the short side S and rounds the long side half to even: 320x240 gives 341x256.
    """
    kind, a, b = parse_size(size)
    if kind == "source":
        return width, height
    if kind == "exact":
        return a, b
    if width <= height:
        return a, round(height * a / width)
    return round(width * a / height), a


def _build(cls: type, values: dict[str, Any], strict: bool = True) -> Any:
    known = {f.name for f in dataclasses.fields(cls)}
    if not strict:
        record: Any = object.__new__(cls)
        for field_ in dataclasses.fields(cls):
            object.__setattr__(record, field_.name, values.get(field_.name, field_.default))
        return record
    if unknown := sorted(set(values) - known):
        raise SettingsError(f"unknown setting {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    return cls(**values)


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat.update(_flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value})
    return flat
