"""Another version of a preset, and corpora as the first versions of flowprep wrote them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from flowprep import presets
from flowprep.parameters import FIRST_ADDED, Tvl1Settings
from flowprep.settings import Settings


def add_version(monkeypatch: pytest.MonkeyPatch, version: str, tvl1: Tvl1Settings) -> None:
    """Add the newest version of a preset, such as "accurate@99", until the test ends."""
    name = version.partition("@")[0]
    monkeypatch.setitem(presets.PRESET_VERSIONS, version, tvl1)
    monkeypatch.setitem(presets.NEWEST, name, version)
    monkeypatch.setitem(presets.PRESETS, name, tvl1)


@contextmanager
def first_settings() -> Iterator[None]:
    """Write plans and shards without the parameters that were added later."""

    def to_dict(settings: Settings) -> dict[str, Any]:
        values = current(settings)
        names = list(values["tvl1"])
        for name in names[names.index(FIRST_ADDED) :]:
            del values["tvl1"][name]
        return values

    current = Settings.to_dict
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Settings, "to_dict", to_dict)
        yield
