"""Settings: what they allow."""

from __future__ import annotations

import pytest

from flowprep.errors import SettingsError
from flowprep.settings import Settings


@pytest.mark.parametrize(
    "size", ["short:15", "short:8193", "15x64", "65501x64", "64x65501", "20000x20000", "0x0", "short:0"]
)
def test_impossible_size_is_refused(size):
    with pytest.raises(SettingsError, match=f"size is {size}; allowed: .* pixels"):
        Settings(size=size)


def test_largest_sizes_are_accepted():
    for size in ("short:8192", "65500x1000", "8192x8192", "16x65500"):
        assert Settings(size=size).size == size


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"range": 10.0}, "range is 10.0; allowed: with codes fixed or tsn"),
        ({"codes": "tsn", "error_px": 0.2}, "error_px is 0.2 with codes tsn as jpeg; allowed: with codes ad"),
        ({"codec": "png", "error_px": 0.2}, "error_px is 0.2 with codes adaptive as png"),
    ],
)
def test_option_without_effect_is_refused(options, message):
    with pytest.raises(SettingsError, match=message):
        Settings(**options)
