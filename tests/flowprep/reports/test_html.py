"""Pieces of the HTML reports."""

import numpy as np
import pytest

from flowprep.reports import html


def test_names_are_escaped():
    assert "<title>a &lt; b</title>" in html.document("a < b", "")
    assert (
        "'" not in html.picture(np.zeros((4, 4, 3), np.uint8), "it's").split("alt='")[1].split("' title")[0]
    )
    assert html.key_table({"a": {"<b>": 1}}).count("<tr><th>a.&lt;b&gt;</th><td>1") == 1


def test_texts_are_escaped_and_elements_are_not():
    inner = html.tag("b", "<i>'\"&")
    assert inner == "<b>&lt;i&gt;&#x27;&quot;&amp;</b>"
    assert html.tag("p", inner, None, [1, ["<"]]) == f"<p>{inner}1&lt;</p>"
    assert html.tag("p", f"{inner}").count("&lt;b&gt;") == 1  # formatted HTML is a text again
    assert html.tag("p", "".join([inner])).count("&lt;b&gt;") == 1


def test_attributes_are_quoted_and_escaped():
    assert html.tag("i", class_="a b", data_x="' onclick=1", id=None) == (
        "<i class='a b' data-x='&#x27; onclick=1'></i>"
    )
    assert html.tag("img", alt="x") == "<img alt=x>"


@pytest.mark.parametrize(
    "attributes",
    [
        {"onclick": "x"},
        {"href": "x"},
        {"srcdoc": "x"},
        {"src": "http://x"},
        {"src": "data:text/html;base64,x"},
        {"style": "color:red"},
        {"style": "width:1%;background:url(x)"},
        {"style": "width:nan%"},
    ],
)
def test_attributes_that_could_act_are_refused(attributes):
    with pytest.raises(ValueError, match="no attribute"):
        html.tag("i", **attributes)


def test_rules_cannot_end_their_element():
    with pytest.raises(ValueError, match="style rules"):
        html.document("", "", "</style>")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("Punch/v_Punch_g01.mp4", ["Punch/", "v_", "Punch_", "g01", ".mp4"]),
        ("a-b c.d", ["a-", "b ", "c", ".d"]),
        ("plain", ["plain"]),
        ("___", ["___"]),
        ("", [""]),
    ],
)
def test_names_break_after_separators(name, parts):
    text = html.breakable(name)
    assert text.partition(">")[2].removesuffix("</span>").split("<wbr>") == parts or [text] == parts
