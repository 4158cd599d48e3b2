"""The page that all HTML reports share: its frame, its style and small pieces.

A page is one file without scripts. It loads nothing: pictures are data URIs, and charts are SVG. It has a
light and a dark set of colours.

Pages show names that strangers chose. So only this module writes HTML, in `tag`: it escapes every text that
is not `Markup`, in contents and in attributes. HTML that is joined or formatted as text is plain text again,
and is escaped. The page also has a content policy: a browser runs no script in it, whatever it contains.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from flowprep.system.atomic import atomic_path
from flowprep.video.frames import resize


class Markup(str):
    """HTML that `tag` made. Every other text is escaped when it becomes part of a page."""

    __slots__ = ()


Content: TypeAlias = "str | int | Iterable[Content] | None"

_VOID = {"img", "meta", "wbr"}  # elements without an end tag
_PLAIN = re.compile(r"[\w.:#-]+", re.ASCII)  # attribute values that need no quotation marks
# The only values of a style attribute: numbers, so that no text of a corpus becomes CSS.
_NUMBERS = re.compile(r"((--)?[a-z-]+:-?\d+(\.\d+)?(%|px)?;?)+", re.ASCII)
_PICTURE = "data:image/jpeg;base64,"
_BREAKS = re.compile(r"(?<=[/_\-| ])(?=[^/_\-| ])|(?=\.\w+$)")


def tag(name: str, *content: Content, **attributes: str | float | None) -> Markup:
    """An HTML or SVG element.

    Args:
        name: its name, such as "p".
        content: texts, which are escaped, and `Markup`, or lists of them. None is left out.
        attributes: values by name. `class_` is "class", and `text_anchor` is "text-anchor". None is left out.

    Raises:
        ValueError: an attribute would run a script, load a file, or write CSS other than numbers.
    """
    begin = "".join(
        _attribute(key.rstrip("_").replace("_", "-"), str(value))
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{begin}>" if name in _VOID else f"<{name}{begin}>{fragment(content)}</{name}>")


def fragment(content: Content) -> Markup:
    """Contents after each other: texts, which are escaped, and `Markup`, or lists of them."""
    if content is None or isinstance(content, Markup):
        return content or Markup()
    if isinstance(content, str | int):
        return Markup(escape(str(content)))
    return Markup("".join(map(fragment, content)))


def _attribute(name: str, value: str) -> str:
    forbidden = (
        name.startswith("on")
        or name in ("href", "srcdoc")
        or (name == "src" and not value.startswith(_PICTURE))
        or (name == "style" and not _NUMBERS.fullmatch(value))
    )
    if forbidden:
        raise ValueError(f"a report has no attribute {name}={value[:60]!r}")
    return f" {name}={value}" if _PLAIN.fullmatch(value) else f" {name}='{escape(value)}'"


def breakable(name: str) -> Markup:
    """A name with places for a line break after each separator, and before its suffix."""
    first, *others = _BREAKS.split(name)
    if not others:
        return fragment(name)
    return tag("span", first, [[tag("wbr"), part] for part in others], title=name)


def document(title: str, body: Content, style: str = "") -> Markup:
    """A whole page.

    Args:
        title: plain text.
        body: the sections.
        style: CSS rules of the program that follow the common ones.

    Raises:
        ValueError: the rules contain HTML.
    """
    rules = _STYLE + style
    if "<" in rules:
        raise ValueError("style rules contain '<', which could end them")
    digest = base64.b64encode(hashlib.sha256(rules.encode()).digest()).decode()
    head = (
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY.format(digest=digest)),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name_="color-scheme", content="light dark"),
        tag("title", title),
        Markup(f"<style>{rules}</style>"),
    )
    page = tag("html", "\n", tag("head", head), "\n", tag("body", tag("main", body)), "\n", lang="en")
    return Markup(f"<!doctype html>\n{page}\n")


def write_document(path: Path, title: str, body: Content, style: str = "") -> None:
    """Write `document` to a file, and create the file's folder. A reader never sees half a page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(document(title, body, style), "utf-8")


def section(title: str, body: Content, note: Content = None) -> Markup:
    """A block of the page: a heading, a note in small letters, then the body."""
    return tag("section", tag("h2", title), tag("p", note, class_="note") if note else None, "\n", body)


def header(kind: str, title: str, lead: Content = None) -> Markup:
    """The top of a page: its kind in small letters, its main finding, and a sentence."""
    eyebrow = tag("p", kind, class_="eyebrow")
    return tag("header", eyebrow, tag("h1", title), tag("p", lead, class_="lead") if lead else None)


def card(kind: str, title: str, subtitle: str, value: Content, *notes: Content) -> Markup:
    """A block with one large number.

    Args:
        kind: its CSS class, which sets its colour.
        title, subtitle: what the number is.
        value: the number.
        notes: blocks, or texts in small letters, below it.
    """
    return tag(
        "div",
        tag("h2", title),
        tag("p", subtitle, class_="subtitle"),
        tag("p", value, class_="big"),
        [note if isinstance(note, Markup) else tag("p", note, class_="note") for note in notes],
        class_=f"card {kind}",
    )


def table(kind: str, heads: Iterable[Content], rows: Iterable[Content]) -> Markup:
    """A table with a row of headings.

    Args:
        kind: its CSS class.
        heads: its headings: texts, or <th> elements.
        rows: <tr> elements.
    """
    cells = [head if isinstance(head, Markup) else tag("th", head) for head in heads]
    body = [tag("thead", tag("tr", cells)), tag("tbody", rows)]
    return tag("div", tag("table", body, class_=kind), class_="scroll")


def picture(image: NDArray[np.uint8], title: str, max_width: int = 240) -> Markup:
    """An <img> element that contains the image as JPEG.

    Args:
        image: (H, W, 3) uint8, RGB.
        title: plain text that says what it shows.
        max_width: a wider image is scaled down to this width, in pixels.
    """
    height, width = image.shape[:2]
    if width > max_width:
        size = max_width, max(1, round(height * max_width / width))
        image = resize(image, *size)
    _, jpeg = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
    data = base64.b64encode(jpeg.tobytes()).decode()
    return tag("img", alt=title, title=title, src=_PICTURE + data)


def key_table(values: Mapping[str, Any]) -> Markup:
    """A table with a row per key. Keys of nested mappings are joined as by `flat`."""
    rows = [tag("tr", tag("th", key), tag("td", json.dumps(value))) for key, value in flat(values).items()]
    return tag("div", tag("table", tag("tbody", rows), class_="keys"), class_="scroll")


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one mapping, with keys such as "outer.inner"."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        result.update(flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value})
    return result


# Nothing is loaded or run. The one <style> element is known by its digest; style attributes hold numbers.
_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; style-src-elem 'sha256-{digest}';"
    " style-src-attr 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)

_STYLE = """
:root { --page:#f7f7f5; --sheet:#fff; --ink:#1d2127; --soft:#646b76; --line:#e4e4df; --track:#ececE7;
  --blue:#2f6fd6; --orange:#d8731c; --green:#12806f; --red:#c8374d; --on:#fff }
@media (prefers-color-scheme: dark) {
  :root { --page:#14171b; --sheet:#1c2026; --ink:#e9eaec; --soft:#9aa2ad; --line:#2d333b; --track:#2a3038;
    --blue:#6ea3f5; --orange:#f0994c; --green:#3fc0aa; --red:#ef6a7c; --on:#10151a } }
* { box-sizing:border-box }
body { margin:0; background:var(--page); color:var(--ink);
  font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
  "Helvetica Neue",Arial,sans-serif; -webkit-text-size-adjust:100% }
main { max-width:1080px; margin:0 auto; padding:40px 20px 80px }
h1 { font-size:clamp(28px,5vw,42px); line-height:1.12; letter-spacing:-.022em; margin:0 0 10px;
  text-wrap:balance }
h2 { font-size:21px; letter-spacing:-.01em; margin:0 0 4px }
h3 { font-size:17px; margin:0 }
p { margin:0 }
.eyebrow { color:var(--soft); font-size:13px; letter-spacing:.09em; text-transform:uppercase;
  margin-bottom:10px }
.lead { color:var(--soft); font-size:18px }
.lead b { color:var(--ink); font-weight:600 }
.note { color:var(--soft); font-size:14px }
section { background:var(--sheet); border:1px solid var(--line); border-radius:14px; padding:24px;
  margin-top:20px }
section > .note { margin-bottom:16px }
.cards { display:grid; grid-template-columns:repeat(3,1fr); gap:16px; margin-top:28px }
.card { background:var(--sheet); border:1px solid var(--line); border-top:4px solid var(--c);
  border-radius:14px; padding:20px 22px }
.card h2 { color:var(--c) }
.subtitle { color:var(--soft); font-size:14px }
.big { font-size:clamp(40px,7vw,60px); font-weight:680; letter-spacing:-.035em; line-height:1.15;
  margin:8px 0 10px; font-variant-numeric:tabular-nums }
.big small { font-size:.5em; font-weight:500; color:var(--soft); margin-left:.1em }
figure { margin:0 } figcaption { font-weight:600; font-size:15px; color:var(--c); margin-bottom:4px }
.scroll { overflow-x:auto }
table { border-collapse:collapse; width:100%; font-size:15px; font-variant-numeric:tabular-nums }
th { text-align:left; font-weight:500 } thead th { color:var(--soft); font-size:13px }
th,td { padding:6px 10px 6px 0; border-bottom:1px solid var(--line) }
tbody tr:last-child > * { border-bottom:0 }
.num { text-align:right; white-space:nowrap } th.num,td.num { padding-left:8px }
thead .num { white-space:normal }
article { border:1px solid var(--line); border-radius:12px; padding:16px }
article h3 span { color:var(--soft); font-weight:400 }
.id { color:var(--soft); font-size:13px; overflow-wrap:anywhere }
.strip { display:grid; grid-template-columns:repeat(4,1fr); gap:4px; margin:12px 0 }
.strip img { width:100%; display:block; border-radius:4px }
.strip .note { grid-column:1/-1; font-size:12.5px }
.wheel { display:flex; align-items:center; gap:10px; color:var(--soft); font-size:14px; margin:8px 0 16px }
.wheel img { width:84px; height:84px; border-radius:8px }
details + details { margin-top:10px } summary { cursor:pointer; font-weight:600; padding:4px 0 }
.keys { font-size:14px }
.keys td { font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace; font-size:13px }
@media (max-width:760px) {
  main { padding:24px 14px 60px } section { padding:18px 16px; border-radius:12px }
  .cards { grid-template-columns:1fr; gap:12px }
  .card { display:grid; grid-template-columns:1fr auto; column-gap:14px; padding:16px 18px }
  .big { grid-column:2; grid-row:1/3; margin:0; font-size:44px } .card .note { grid-column:1/-1 }
  th,td { padding-right:6px } table { font-size:14px }
  th.num,td.num { padding:6px 2px 6px 4px } }
@media print { section,.card { break-inside:avoid } }
"""
