"""Charts of the HTML reports."""

import re

import pytest

from flowprep.reports import charts


@pytest.mark.parametrize("maximum", [0.3, 1, 2.31, 7, 99, 100, 80_000])
def test_ticks_are_few_and_round(maximum):
    ticks = charts.ticks(maximum)
    assert ticks[0] == 0 and ticks[-1] >= maximum * (1 - 1e-9) and 4 <= len(ticks) <= 6


def test_the_longest_bar_fills_the_width():
    html = charts.bars([("a", 0.1), ("b", 0.2)], "{:.1f}".format)
    assert re.findall(r"width:([\d.]+)%", html) == ["50.00", "100.00"]
    assert re.findall(r"<b>([\d.]+)</b>", html) == ["0.1", "0.2"]


def test_a_line_far_above_the_others_is_drawn_to_scale():
    """A validation loss far above the training loss must not look like a plateau at the edge of the chart."""
    lines = [("train", [(10, 1.0), (20, 0.5)]), ("val", [(10, 1.5), (20, 2.9)])]
    svg = charts.line_chart(lines, [], share=False)
    heights = [float(y) for y in re.findall(r"<circle cx=[\d.]+ cy=([\d.]+)", svg)]
    assert len(heights) == 2 and heights[0] > heights[1] + 40


def test_a_long_line_is_thinned_and_has_no_markers():
    svg = charts.line_chart([("val", [(step, 0.5) for step in range(1, 1001)])], [500], share=True)
    assert 200 < len(re.findall(r"[\d.]+,[\d.]+", re.findall(r"points='([^']+)", svg)[0])) <= 300
    assert "<circle" not in svg and svg.count("milestone") == 1


def test_a_chart_of_nothing_says_so():
    assert "no log" in charts.line_chart([("train", []), ("val", [])], [], share=True)
