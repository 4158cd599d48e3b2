"""Pieces of the HTML reports."""

import numpy as np

from flowprep.reports import html


def test_names_are_escaped():
    assert "<title>a &lt; b</title>" in html.document("a < b", "")
    assert (
        "'" not in html.picture(np.zeros((4, 4, 3), np.uint8), "it's").split("alt='")[1].split("' title")[0]
    )
    assert html.key_table({"a": {"<b>": 1}}).count("<tr><th>a.&lt;b&gt;<td>1") == 1
