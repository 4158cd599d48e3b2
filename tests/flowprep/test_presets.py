"""Presets: their versions, their names, and the digests of settings that contain them."""

from __future__ import annotations

import dataclasses
import json

import pytest

from flowprep.errors import SettingsError
from flowprep.parameters import FIRST_ADDED, Tvl1Settings
from flowprep.presets import (
    NEWEST,
    PRESET_VERSIONS,
    PRESETS,
    allowed_presets,
    preset_name,
    preset_names,
    preset_options,
    solver_name,
    tvl1_settings,
)
from flowprep.settings import IMPORTED, Settings
from tests.support.preset_versions import add_version, first_settings

# Every value of the first versions. None may ever change: corpora have been made with them.
ACCURATE_1 = {
    "tau": 0.25,
    "lambda_": 0.42,
    "theta": 0.1,
    "scales": 20,
    "scale_step": 0.75,
    "warps": 5,
    "outer_iterations": 1,
    "inner_iterations": 40,
    "epsilon": 0.0,
    "median": 5,
    "median_grey": 0.0,
    "median_after": True,
    "blur": 0.6,
    "structure": 0.7,
    "structure_theta": 10.0,
    "structure_iterations": 10,
    "antialias": 0.6,
    "warp": "spline",
    "blend": 0.5,
    "mask": True,
    "coupled": False,
    "huber": 0.0,
    "edge": 0.0,
    "edge_least": 0.1,
    "median_stride": 1,
    "median_occlusion": 0.0,
    "median_levels": 0,
    "median_warps": 0,
    "still": 0.0,
    "settle": 0.0,
    "finest_warps": 0,
    "finest_iterations": 0,
}
OPENCV = {
    "lambda_": 0.15,
    "theta": 0.3,
    "scales": 5,
    "scale_step": 0.8,
    "outer_iterations": 10,
    "inner_iterations": 30,
    "epsilon": 0.01,
    "median_after": False,
    "blur": 0.0,
    "structure": 0.0,
    "structure_theta": 16.0,
    "structure_iterations": 50,
    "antialias": 0.0,
    "warp": "cubic",
    "blend": 0.0,
    "mask": False,
}
FIRST_VERSIONS = {
    "accurate@1": {},
    "best@1": {"median": 7, "median_grey": 10.0},
    "fast@1": {"structure": 0.6, "scale_step": 0.65, "warps": 3, "inner_iterations": 35},
    "opencv": OPENCV,
}


@pytest.mark.parametrize("version", FIRST_VERSIONS)
def test_a_version_never_changes(version):
    values = dataclasses.asdict(tvl1_settings(version))
    expected = {**ACCURATE_1, **FIRST_VERSIONS[version]}
    # A parameter that is added later has to do nothing in these versions, so it is at its default.
    added = {name: getattr(Tvl1Settings, name) for name in values.keys() - ACCURATE_1.keys()}
    assert values == {**expected, **added}


def test_versions_are_numbered_from_one_and_the_last_one_is_the_newest():
    for name, newest in NEWEST.items():
        versions = [version for version in PRESET_VERSIONS if version.partition("@")[0] == name]
        numbered = [f"{name}@{n}" for n in range(1, len(versions) + 1)]
        assert versions == (["opencv"] if name == "opencv" else numbered) and newest == versions[-1]
        assert tvl1_settings(name) == PRESETS[name] == PRESET_VERSIONS[newest]


def test_a_name_means_the_newest_version_and_older_ones_stay(monkeypatch):
    old, new = tvl1_settings("accurate"), Tvl1Settings(scales=3)
    number = len([version for version in PRESET_VERSIONS if version.startswith("accurate@")])
    add_version(monkeypatch, f"accurate@{number + 1}", new)
    assert tvl1_settings("accurate") == tvl1_settings(f"accurate@{number + 1}") == new
    assert tvl1_settings(f"accurate@{number}") == old and Settings().tvl1 == new
    first = [f"accurate@{n}" for n in range(number + 1, 0, -1)]
    assert preset_names()[: number + 2] == ["accurate", *first]


def test_an_unknown_version_is_refused_with_those_that_exist(monkeypatch):
    for version in PRESET_VERSIONS.keys() - FIRST_VERSIONS.keys():
        monkeypatch.delitem(PRESET_VERSIONS, version)
    for name in ("accurate", "best", "fast"):
        monkeypatch.setitem(NEWEST, name, f"{name}@1")
    add_version(monkeypatch, "accurate@2", Tvl1Settings(scales=3))
    allowed = "accurate (= accurate@2), accurate@1, best (= best@1), fast (= fast@1), opencv"
    assert allowed_presets() == allowed
    for name in ("accurate@7", "accurate@", "opencv@1", "slow", ""):
        with pytest.raises(SettingsError) as refused:
            tvl1_settings(name)
        assert str(refused.value) == f"preset is {name!r}; allowed: {allowed}"


@pytest.mark.parametrize("version", PRESET_VERSIONS)
@pytest.mark.parametrize("changes", [[], ["scales=8"], ["tau=0.1", "warps=9", "blend=1e-07", "mask=false"]])
def test_the_name_of_values_gives_them_again(version, changes):
    tvl1 = tvl1_settings(version, changes)
    name, *named = preset_name(tvl1).split()
    assert tvl1_settings(name, named) == tvl1 and len(named) <= len(changes)
    words = preset_options(tvl1).split()
    assert words[::2] == ["--preset"] + ["--tvl1"] * len(named) and words[1::2] == [name, *named]


def test_names_of_values(monkeypatch):
    assert preset_name(tvl1_settings("fast@1")) == "fast@1"
    assert (
        preset_name(tvl1_settings("accurate@1", ["scales=8", "mask=false"]))
        == "accurate@1 scales=8 mask=false"
    )
    assert preset_options(tvl1_settings("best@1", ["tau=0.2"])) == "--preset best@1 --tvl1 tau=0.2"
    assert preset_name(Tvl1Settings()) == solver_name("opencv", Tvl1Settings()) == "opencv"
    assert solver_name("cpu", tvl1_settings("fast@1", ["warps=2"])) == "cpu fast@1 warps=2"
    # A new version with the values of the one before is the one that is named.
    add_version(monkeypatch, "fast@99", tvl1_settings("fast@1"))
    assert preset_name(tvl1_settings("fast@1")) == "fast@99"


def test_settings_name_their_preset_where_tvl1_ran():
    accurate = tvl1_settings("accurate@1")
    assert Settings(tvl1=accurate).solver == f"cpu {preset_name(accurate)}"
    assert Settings(tvl1=accurate).preset == preset_name(accurate)
    for settings in (Settings(flow=False), Settings(engine=IMPORTED, codes="tsn")):
        assert settings.preset is None and settings.solver == settings.engine


def test_differences_name_presets_and_not_each_value():
    first, other = (Settings(tvl1=tvl1_settings(n)) for n in ("best@1", "opencv"))
    names = f"{preset_name(first.tvl1)}, {preset_name(other.tvl1)}"
    assert first.differences(other) == [f"preset: {names}"] and first.differences(first) == []
    changed = dataclasses.replace(other, tvl1=tvl1_settings("opencv", ["warps=3"]), step=2)
    assert changed.differences(other) == ["step: 2, 1", "preset: opencv warps=3, opencv"]


def test_settings_of_the_first_versions_have_the_defaults_of_later_parameters():
    settings = Settings(tvl1=tvl1_settings("best@1"))
    with first_settings():
        stored = json.loads(json.dumps(settings.to_dict()))
    assert list(stored["tvl1"])[-1] == "mask" and FIRST_ADDED not in stored["tvl1"]
    assert Settings.from_dict(stored) == Settings.from_stored(stored) == settings


def test_the_digest_is_that_of_the_first_versions():
    settings = Settings(tvl1=tvl1_settings("accurate@1"))
    # Computed by a version that had only the parameters up to `mask`.
    assert settings.digest() == "c463cb1d952f48b1a51da43f7f6588bdfc30ab1893c76fd316cc713c4e843694"
    coupled = dataclasses.replace(settings, tvl1=tvl1_settings("accurate@1", ["coupled=true"]))
    plain = dataclasses.replace(settings, tvl1=tvl1_settings("accurate@1", ["median=3"]))
    assert len({s.digest() for s in (settings, coupled, plain)}) == 3
