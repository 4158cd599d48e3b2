"""The settings of a corpus: all options that change what it holds, in a frozen record that checks itself.

The plan and each shard store all settings, so a corpus needs no information from outside. Options that only
change the speed (number of workers, batch sizes) are not settings.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from dataclasses import dataclass, field
from typing import Any

from flowprep.errors import SettingsError
from flowprep.parameters import Tvl1Settings, check_engine
from flowprep.presets import DEFAULT_PRESET, PRESETS, preset_name, solver_name
from flowprep.validation import check, check_names, check_types

MIN_SIDE = 16  # pixels: the coarsest level of the solver
MAX_SIDE = 65_500  # pixels: the limit of JPEG
# Larger frames are refused, as they would need too much memory. An 8K frame has half as many pixels. In RGB,
# this many are 200 MB.
MAX_PIXELS = 2**26
MAX_RANGE = 1000  # pixels, of fixed and tsn codes
CODES = ("adaptive", "fixed", "tsn")
CODECS = ("jpeg", "png")
# Value of `Settings.engine` if another tool computed the flow. Then tvl1 and quality have no meaning.
IMPORTED = "imported"
# Default number of segments that a long video is split into, each a task. It is no setting, as it changes
# neither frames nor flow. With 16 segments, decoding costs 8.5 times one decode of the video: some percent
# of the time for flow.
MAX_SEGMENTS = 16


@dataclass(frozen=True)
class Settings:
    """What a corpus holds and how it was made.

    Attributes:
        size: stored size: "short:S" (short side S pixels), "WxH" or "source".
        step: distance between the two frames of a pair, in frames.
        rgb, flow, backward: whether frames, flow and backward flow are stored.
        engine: the TV-L1 engine. Never "auto", which is resolved before a plan is written.
        tvl1: parameters of the solver.
        codes: how flow becomes 0-255: "adaptive", "fixed" or "tsn"; see `flowprep.codec.quantise`.
        range: R of fixed and tsn codes, which span [-R, R] pixels.
        error_px: quantisation step of the JPEG of adaptive codes, pixels.
        quality: JPEG quality of frames and of fixed and tsn codes, 1 to 100.
        codec: image format of the codes: "jpeg", or "png", which is lossless.
        stabilise: whether the camera's motion is subtracted from flow; see `flowprep.stabilisation`.
        keep_partial: whether the intact frames of a damaged video are kept.
        shard_pairs: approximate pairs per shard: short videos share a shard, longer ones are split.
        grey: how the input of flow is made from a decoded frame.
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
        """Check every value.

        Raises:
            SettingsError: a value is not allowed.
        """
        check_types(self)
        parse_size(self.size)
        check(self.step >= 1, "step", self.step, "a whole number from 1")
        check(self.rgb or self.flow, "rgb, flow", "neither", "at least one of the two streams")
        check(self.flow or not self.backward, "backward", "on without flow", "backward only with flow")
        check(self.flow or not self.stabilise, "stabilise", "on without flow", "stabilise only with flow")
        check_engine(self.engine, self.tvl1)
        self._check_codes()
        check(self.shard_pairs >= 1, "shard_pairs", self.shard_pairs, "a whole number from 1")

    def _check_codes(self) -> None:
        check(self.codes in CODES, "codes", self.codes, " | ".join(CODES))
        check(0 < self.range <= MAX_RANGE, "range", self.range, f"pixels in (0, {MAX_RANGE}]")
        check(0 < self.error_px <= 100, "error_px", self.error_px, "pixels in (0, 100]")
        check(self.codec in CODECS, "codec", self.codec, " | ".join(CODECS))
        check(1 <= self.quality <= 100, "quality", self.quality, "a whole number from 1 to 100")
        # A value without effect would mislead readers of the stored settings.
        is_adaptive, default = self.codes == "adaptive", type(self)
        if is_adaptive:
            check(self.range == default.range, "range", self.range, "with codes fixed or tsn, not adaptive")
        if not is_adaptive or self.codec != "jpeg":
            value = f"{self.error_px} with codes {self.codes} as {self.codec}"
            check(self.error_px == default.error_px, "error_px", value, "with codes adaptive as jpeg")

    @property
    def preset(self) -> str | None:
        """The preset of `tvl1` with its version, as `preset_name` gives it; None if TV-L1 did not run."""
        return preset_name(self.tvl1) if self.flow and self.engine != IMPORTED else None

    @property
    def solver(self) -> str:
        """The engine, and its preset if TV-L1 ran: "cpu accurate@1"."""
        return solver_name(self.engine, self.tvl1) if self.preset else self.engine

    @property
    def streams(self) -> tuple[str, ...]:
        """Names of the stored streams, in the order of a shard."""
        names = ["rgb"] if self.rgb else []
        if self.flow:
            names += ["flow_u", "flow_v"]
        if self.backward:
            names += ["flow_back_u", "flow_back_v"]
        return tuple(names)

    def to_dict(self) -> dict[str, Any]:
        """The settings in plain types, as plans and shards store them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Settings:
        """The inverse of `to_dict`.

        Raises:
            SettingsError: a name is unknown, or a value is not allowed.
        """
        tvl1 = values.get("tvl1", {})
        check_names(cls, set(values))
        check_names(Tvl1Settings, set(tvl1))
        return cls(**{**values, "tvl1": Tvl1Settings(**tvl1)})

    @classmethod
    def from_stored(cls, values: dict[str, Any]) -> Settings:
        """The settings that a shard stores, also of a newer minor version of the format.

        Unknown names are ignored, and of the values only the types are checked. Use it for reading only. To
        make a corpus, use `from_dict`.

        Raises:
            SettingsError: a value has another type, or is a very long text.
        """
        stored: Settings = _without_checks(cls, values)
        tvl1: Tvl1Settings = _without_checks(Tvl1Settings, values.get("tvl1", {}))
        object.__setattr__(stored, "tvl1", tvl1)
        check_types(stored)
        check_types(tvl1)
        return stored

    def digest(self) -> str:
        """SHA-256 of the settings, hexadecimal. Equal settings have equal digests."""
        values = {**self.to_dict(), "tvl1": self.tvl1.digested()}
        text = json.dumps(values, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def differences(self, other: Settings) -> list[str]:
        """One line for each setting that differs: "name: ours, theirs". TV-L1 has one line, "preset"."""
        ours, theirs = self._named(), other._named()
        return [f"{name}: {ours[name]}, {theirs[name]}" for name in ours if ours[name] != theirs[name]]

    def _named(self) -> dict[str, Any]:
        """The settings, with the name of the preset in place of its values."""
        values = {("preset" if name == "tvl1" else name): value for name, value in self.to_dict().items()}
        return {**values, "preset": preset_name(self.tvl1)}


def parse_size(size: str) -> tuple[str, int, int]:
    """Split a size option into its kind and its numbers.

    Returns:
        ("short", S, 0), ("exact", W, H) or ("source", 0, 0).

    Raises:
        SettingsError: it has another form, or a number is not allowed.
    """
    if size == "source":
        return "source", 0, 0
    if match := re.fullmatch(r"short:(\d+)", size):
        short, longest = int(match[1]), math.isqrt(MAX_PIXELS)
        check(MIN_SIDE <= short <= longest, "size", size, f"a short side of {MIN_SIDE} to {longest} pixels")
        return "short", short, 0
    if match := re.fullmatch(r"(\d+)x(\d+)", size):
        width, height = int(match[1]), int(match[2])
        allowed = f"sides of {MIN_SIDE} to {MAX_SIDE} pixels, and {MAX_PIXELS} pixels in all"
        fits = min(width, height) >= MIN_SIDE and max(width, height) <= MAX_SIDE
        check(fits and width * height <= MAX_PIXELS, "size", size, allowed)
        return "exact", width, height
    raise SettingsError(
        f"size is {size!r}; allowed: short:S (such as short:256), WxH (such as 340x256), source"
    )


def stored_size(size: str, width: int, height: int) -> tuple[int, int]:
    """The (width, height) at which frames of `width` x `height` pixels are stored.

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


def _without_checks(record_type: type, values: dict[str, Any]) -> Any:
    """A record of a frozen dataclass whose values are not checked."""
    record: Any = object.__new__(record_type)
    for each in dataclasses.fields(record_type):
        object.__setattr__(record, each.name, values.get(each.name, each.default))
    return record
