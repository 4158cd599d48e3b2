"""Pieces of the HTML reports."""

import numpy as np
import pytest

from flowprep.reports import charts, html


@pytest.mark.parametrize("most", [0.3, 1, 2.31, 7, 99, 100, 80_000])
def test_ticks_are_few_and_round(most):
    ticks = charts.ticks(most)
    assert ticks[0] == 0 and ticks[-1] >= most * (1 - 1e-9) and 4 <= len(ticks) <= 6


def test_names_are_escaped():
    assert "<title>a &lt; b</title>" in html.document("a < b", "")
    assert (
        "'" not in html.picture(np.zeros((4, 4, 3), np.uint8), "it's").split("alt='")[1].split("' title")[0]
    )
    assert html.key_table({"a": {"<b>": 1}}).count("<tr><th>a.&lt;b&gt;<td>1") == 1
