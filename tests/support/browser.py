"""Pages in Chromium, and texts that attack a page."""

import html
import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium here")

# A script that leaves a marker in the page. The marker is not a part of its text.
MARK = "document.documentElement.dataset.attack=1"
# Texts that become elements, attributes or CSS if a page does not escape them.
ATTACKS = (
    f"<script>{MARK}</script>",
    f"<img src=x onerror={MARK}>",
    f"' onmouseover={MARK} onload={MARK} x='",
    f'" autofocus onfocus={MARK} tabindex=1 x="',
    f" onclick={MARK} ",
    f"</title></style></h1></td></svg><script>{MARK}</script>",
    f"<svg onload={MARK}><x-attack>",
    f"<iframe srcdoc='<script>parent.{MARK}</script>'></iframe>",
    f"<details open ontoggle={MARK}>",
    "50%'><x-attack></x-attack><b class='",
    "red;} body { display:none } x-attack { color:red",
    "&lt;x-attack&gt;&#39;&quot;",
    "<!-- ]]> --><x-attack>",
)
ATTACK = "".join(ATTACKS)


def browse(folder, *options, width=1280):
    """Run Chromium without a window; `folder` gets its profile."""
    command = [BROWSER, "--headless", "--disable-gpu", "--hide-scrollbars", f"--window-size={width},900"]
    command += ["--no-sandbox", f"--user-data-dir={folder / 'profile'}"]  # a sandbox needs rights
    environment = {**os.environ, "HOME": str(folder)}
    run = [*command, *options]
    return subprocess.run(run, capture_output=True, text=True, check=True, timeout=120, env=environment)


def is_attacked(page, folder):
    """Whether a script of a page's texts ran: the marker is then in the page."""
    root = re.search(r"<html[^>]*>", browse(folder, "--dump-dom", page.as_uri()).stdout)[0]
    return "data-attack" in root


class _Elements(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.attributes = set(), set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


def foreign_elements(text):
    """The elements and attributes of a page that no report has."""
    found = _Elements()
    found.feed(text)
    tags = {"script", "iframe", "object", "embed", "link", "base", "form", "a", "x-attack"} & found.tags
    return tags | {name for name in found.attributes if name.startswith("on") or name in ("href", "srcdoc")}


# Shows the page in a frame of the wanted width, because a window has a minimum width. Then lists elements
# over its edge, elements that scroll sideways, text that is too small, and pictures that fail.
PROBE = """<!doctype html><iframe frameborder=0 width=WIDTH height=900 srcdoc='PAGE'></iframe><script>
addEventListener('load', () => {
  const view = document.querySelector('iframe').contentWindow, page = view.document;
  page.querySelectorAll('details').forEach(e => e.open = true);
  const all = [...page.querySelectorAll('main *')].filter(e => !e.closest('svg'));
  const name = e => e.outerHTML.slice(0, 80).replace(/["<>&]/g, '');
  const box = e => e.getBoundingClientRect(), letters = e => parseFloat(view.getComputedStyle(e).fontSize);
  const over = e => box(e).right > view.innerWidth + 1 || box(e).left < -1;
  const small = e => e.innerText?.trim() && !e.children.length && letters(e) < 12;
  const scrolls = e => e.scrollWidth > e.clientWidth + 1 && view.getComputedStyle(e).overflowX != 'visible';
  document.documentElement.dataset.found = JSON.stringify({
    width: view.innerWidth, page: page.documentElement.scrollWidth,
    over: all.filter(over).map(name), small: all.filter(small).map(name),
    scrolls: all.filter(scrolls).map(name),
    broken: [...page.images].filter(i => !i.naturalWidth).length, pictures: page.images.length });
})</script>"""


def layout(text, folder, width):
    """How a page looks at a width in pixels: see PROBE. All of its folded parts are open."""
    page = re.sub(r"<meta http-equiv=Content-Security-Policy[^>]*>", "", text)  # it would stop the probe
    inside = page.replace("&", "&amp;").replace("'", "&#39;")
    (folder / "probe.html").write_text(PROBE.replace("WIDTH", f"{width}").replace("PAGE", inside), "utf-8")
    dom = browse(folder, "--dump-dom", (folder / "probe.html").as_uri(), width=width).stdout
    return json.loads(html.unescape(re.search(r'data-found="([^"]+)"', dom)[1]))
