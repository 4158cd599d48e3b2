"""The presets of TV-L1: named parameters, each in versions.

A corpus stores the values of its preset, not the name. A version never changes, so `preset_name` can tell
which one a corpus has, and the same values can be used again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from flowprep.errors import SettingsError
from flowprep.parameters import Tvl1Settings as Tvl1Settings
from flowprep.parameters import check_engine as check_engine

# A low error, also for large motion, and calm flow on still backgrounds. The number of iterations is fixed:
# with a stopping test, flow on flat areas would not converge.
_ACCURATE_1 = Tvl1Settings(
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

# Chosen over five sets of pairs with known flow, each left out in turn: see docs/results/flow.md. Flow has
# sharper edges and fewer iterations, and is exactly 0 where nothing moves.
_ACCURATE_2 = dataclasses.replace(
    _ACCURATE_1,
    lambda_=0.38,
    theta=0.135,
    scale_step=0.7,
    warps=4,
    median=7,
    median_grey=11.0,
    median_stride=2,
    median_occlusion=1.5,
    median_levels=2,
    median_warps=2,
    blur=0.78,
    structure=0.64,
    structure_theta=27.0,
    structure_iterations=5,
    blend=0.3,
    coupled=True,
    edge=0.035,
    edge_least=0.24,
    still=2.0,
    keep_dual=True,
)

# All versions of all presets, those of one preset in order. The name without a version means the last one.
# New values are a new version: a line with the next number. A line that exists never changes.
PRESET_VERSIONS: dict[str, Tvl1Settings] = {
    "accurate@1": _ACCURATE_1,
    # A median that respects edges; 1.3 times the time of "accurate".
    "best@1": dataclasses.replace(_ACCURATE_1, median=7, median_grey=10.0),
    # Under half the time of "accurate"; an energy not above OpenCV's.
    "fast@1": dataclasses.replace(_ACCURATE_1, structure=0.6, scale_step=0.65, warps=3, inner_iterations=35),
    # The same flow as OpenCV's CPU code with its defaults. They do not change, so it has no versions.
    "opencv": Tvl1Settings(),
    "accurate@2": _ACCURATE_2,
    # More levels, warps and iterations.
    "best@2": dataclasses.replace(_ACCURATE_2, scale_step=0.75, warps=5, inner_iterations=60),
    # A smaller median once, and fewer iterations.
    "fast@2": dataclasses.replace(
        _ACCURATE_2,
        lambda_=0.36,
        scale_step=0.65,
        warps=3,
        inner_iterations=25,
        antialias=0.5,
        structure=0.62,
        structure_theta=16.0,
        structure_iterations=4,
        edge_least=0.2,
        median=5,
        median_stride=3,
        median_levels=1,
        median_warps=1,
    ),
}
# Name without a version -> name of its newest version, and its values.
NEWEST = {name.partition("@")[0]: name for name in PRESET_VERSIONS}
PRESETS = {name: PRESET_VERSIONS[newest] for name, newest in NEWEST.items()}
DEFAULT_PRESET = "accurate"


def default_preset(engine: str) -> str:
    """The preset of an engine if none is given. OpenCV supports only its own parameters."""
    return "opencv" if engine == "opencv" else DEFAULT_PRESET


def preset_names() -> list[str]:
    """Every name of a preset, without and with a version; the versions follow their preset."""
    names: list[str] = []
    for name in PRESETS:
        versions = [version for version in PRESET_VERSIONS if version.partition("@")[0] == name]
        names += dict.fromkeys([name, *reversed(versions)])
    return names


def allowed_presets() -> str:
    """The names of the presets for a message: "accurate (= accurate@1), ..."."""
    newest = {name: f"{name} (= {version})" for name, version in NEWEST.items() if name != version}
    hidden = set(NEWEST.values()) - set(NEWEST)
    return ", ".join(newest.get(name, name) for name in preset_names() if name not in hidden)


def tvl1_settings(preset: str, changes: Iterable[str] = ()) -> Tvl1Settings:
    """A preset with changed parameters.

    Args:
        preset: the name of a preset, such as "accurate", or of one of its versions, such as "accurate@1".
        changes: each "name=value", with the name of a field of Tvl1Settings. If a name occurs twice, the last
            value counts.

    Raises:
        SettingsError: the preset or a name is unknown, or a value is not allowed.
    """
    version = NEWEST.get(preset, preset)
    if version not in PRESET_VERSIONS:
        raise SettingsError(f"preset is {preset!r}; allowed: {allowed_presets()}")
    base = PRESET_VERSIONS[version]
    values: dict[str, Any] = {}
    for change in changes:
        name, _, text = (part.strip() for part in change.partition("="))
        known = [f.name for f in dataclasses.fields(Tvl1Settings)]
        if name not in known:
            raise SettingsError(f"tvl1 is {change!r}; allowed: name=value with a name of {', '.join(known)}")
        values[name] = _parse(name, text, type(getattr(base, name)))
    return dataclasses.replace(base, **values)


def preset_name(tvl1: Tvl1Settings) -> str:
    """The preset with these values, as "accurate@1"; or the nearest one and what differs from it.

    For example "accurate@1 scales=8".
    """
    return " ".join(_nearest(tvl1))


def preset_options(tvl1: Tvl1Settings) -> str:
    """The options of the command line that give these values: "--preset accurate@1 --tvl1 scales=8"."""
    version, *changes = _nearest(tvl1)
    return " ".join([f"--preset {version}", *(f"--tvl1 {change}" for change in changes)])


def solver_name(engine: str, tvl1: Tvl1Settings) -> str:
    """An engine and its preset: "cpu accurate@1". "opencv opencv" is only "opencv"."""
    return " ".join(dict.fromkeys([engine, *_nearest(tvl1)]))


def _nearest(tvl1: Tvl1Settings) -> list[str]:
    """The preset with the fewest differences, the newest version first, and each difference as name=value."""
    versions = dict.fromkeys([*NEWEST.values(), *reversed(PRESET_VERSIONS)])
    candidates = [[version, *_changes(PRESET_VERSIONS[version], tvl1)] for version in versions]
    return min(candidates, key=len)


def _changes(base: Tvl1Settings, tvl1: Tvl1Settings) -> list[str]:
    """The values that differ from a preset, each as `tvl1_settings` accepts it."""
    values = {f.name: getattr(tvl1, f.name) for f in dataclasses.fields(Tvl1Settings)}
    changed = {name: value for name, value in values.items() if value != getattr(base, name)}
    texts = {name: str(v).lower() if isinstance(v, bool) else str(v) for name, v in changed.items()}
    return [f"{name}={text}" for name, text in texts.items()]


def _parse(name: str, text: str, kind: type) -> Any:
    try:
        return {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        allowed = {bool: "true or false", int: "a whole number", float: "a number"}[kind]
        raise SettingsError(f"{name} is {text!r}; allowed: {allowed}") from None
