"""Quantities as people read them."""

from __future__ import annotations

import pytest

from flowprep.system.units import count_noun, format_bytes, format_duration


def test_a_noun_agrees_with_its_count():
    assert [count_noun(n, "video") for n in (0, 1, 2)] == ["0 videos", "1 video", "2 videos"]


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (12, "12 B"),
        (999, "999 B"),
        (999.6, "1 kB"),
        (1500, "1.5 kB"),
        (2.5e9, "2.5 GB"),
        (1234e12, "1234 TB"),
    ],
)
def test_bytes_have_three_digits_and_a_unit(size, text):
    assert format_bytes(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.1234, "0.123 s"),
        (5.25, "5.25 s"),
        (59.9, "59.9 s"),
        (75, "1 min 15 s"),
        (7300, "2 h 1 min"),
        (1e6, "277 h"),
        (3.6e6, "1,000 h"),
    ],
)
def test_a_duration_has_two_units(seconds, text):
    assert format_duration(seconds) == text
