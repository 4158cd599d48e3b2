"""The report on a corpus, as text and as a browser shows it."""

import html
import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from flowprep.api import make_corpus
from flowprep.corpus.reader import open_corpus
from flowprep.reports.corpus import _mean_flow, _percent, _sheets, _short, write_report
from flowprep.reports.statistics import MEANS, Measured, measure
from flowprep.settings import PRESETS, Settings
from tests.support.videos import write_video

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPENCV = Settings(size="source", engine="opencv", tvl1=PRESETS["opencv"], codes="tsn", range=2.0)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Two classes, one with a name that HTML and a phone have to take, and three that fail."""
    root = tmp_path_factory.mktemp("clips")
    for speed in range(6):
        label = "<slow & very steadily moving things of all kinds>" if speed < 3 else "fast"
        write_video(root / label / f"v_{'long_name_' * 8}{speed}.mp4", 6, (80, 64), speed=speed, seed=7)
    for n in (3, 12):
        (root / "fast" / f"bad_{n}.mp4").write_text("no video")
    write_video(root / "fast" / "short.mp4", 1)
    return root


@pytest.fixture(scope="module")
def made(clips, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    make_corpus([clips], folder / "corpus", OPENCV, jobs=1)
    facts = write_report(folder / "corpus", folder / "r.html")
    return facts, (folder / "r.html").read_text("utf-8"), folder / "r.html"


def test_it_needs_nothing_from_outside(made):
    _, text, _ = made
    assert not re.search(r"https?:|<script|<link|@import|url\(", text)
    sources = re.findall(r"src='([^']{0,30})", text)
    # The wheel, and four frames and flows, of a video of each of four kinds.
    assert len(sources) == 4 * (1 + 8) and all(s.startswith("data:image/jpeg;base64,") for s in sources)
    HTMLParser().feed(text)


def test_what_it_says(made):
    facts, text, _ = made
    assert facts["videos"] == {"total": 9, "ok": 6, "partial": 0, "failed": 3, "pending": 0}
    assert facts["sampled_videos"] == 6 and facts["clipped_videos"] >= 3
    assert "6 of 9 videos are in" in text
    assert "<b>2</b> not a video that can be opened" in text and "bad_12.mp4" in text
    assert "<b>1</b> too few frames: 1; one pair at step 1 needs 2" in text  # alone: with its numbers
    assert "2 pairs each of all 6 videos" in text
    assert f"<b>{facts['clipped_videos']}</b> of 6 videos lose more than 1% of their values" in text
    assert "&plusmn;2 px" in text
    assert f"{facts['ratio']:.0f}<small>&times;" in text
    assert "2 classes" in text and "pairs a second" in text and "&quot;tsn&quot;" in text
    for title in ("Typical", "Most motion", "Least motion"):
        assert title in text


def test_stages_are_in_the_order_of_the_work(made):
    times = made[1].partition("Where the time goes")[2].partition("</section>")[0]
    stages = re.findall(r"<span>(\w+)</span>", times)
    order = ["decode", "resize", "flow", "jpeg", "codes", "write"]  # those that took no time are left out
    assert stages == [stage for stage in order if stage in stages] and "flow" in stages


def test_each_video_is_shown_for_what_it_is(made):
    names = re.findall(r"<p class=name>([^<]+)", made[1])
    typical, most, least, clipped = (int(name[-5]) for name in names)  # speeds, px a frame
    assert least == 0 and most in (4, 5) and clipped in (3, 4, 5) and clipped != most and typical in (1, 2, 3)


def test_each_video_has_a_scale_of_its_own(made):
    typical, most, least, _ = (
        float(px) for px in re.findall(r"alt='colours of flow, up to ([\d.]+) px", made[1])
    )
    assert least == 0.25 and min(typical, most) > 0.5  # what stands still is not shown as if it moved


def test_names_are_escaped(made):
    assert "<slow" not in made[1] and "&lt;slow &amp; very steadily" in made[1]


def test_nothing_is_escaped_twice(made):
    corpus = open_corpus(made[2].parent / "corpus")
    measured = measure(corpus)
    measured.clipped = [1e-6] * len(corpus)
    text = _sheets(corpus, measured)
    assert "&lt;0.01% clipped" in text and "&lt;slow" in text and "&amp;lt;" not in text


@pytest.mark.parametrize(
    ("options", "there", "missing"),
    [
        ({"flow": False}, ["Frames", "Some of them"], ["How far things move", "Mean flow", "Clipping"]),
        ({"rgb": False}, ["How far things move", "Most motion"], ["A frame takes"]),
        ({"codes": "adaptive"}, ["nothing is clipped"], ["<h2>Clipping", "Most clipped"]),
    ],
)
def test_what_was_not_stored_is_left_out(clips, tmp_path, options, there, missing):
    settings = Settings(**{"size": "source", "engine": "opencv", "tvl1": PRESETS["opencv"], **options})
    make_corpus([clips], tmp_path / "corpus", settings, jobs=1)
    write_report(tmp_path / "corpus", tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text("utf-8")
    assert all(words in text for words in there) and not any(words in text for words in missing)


def test_a_corpus_in_which_all_failed(tmp_path):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "x.mp4").write_text("no video")
    make_corpus([tmp_path / "clips"], tmp_path / "corpus", OPENCV, jobs=1)
    facts = write_report(tmp_path / "corpus", tmp_path / "r.html")
    assert facts["displacement_px"] is None and facts["ratio"] is None
    assert "0 of 1 videos are in" in (tmp_path / "r.html").read_text("utf-8")


def test_a_corpus_without_a_plan(made, tmp_path):
    shutil.copytree(made[2].parent / "corpus", tmp_path / "corpus")
    (tmp_path / "corpus" / "plan.jsonl").unlink()
    write_report(tmp_path / "corpus", tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text("utf-8")
    assert "6 of 9 videos are in" in text and "<th>no class<td class=num>0" in text


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0%"), (1, "100%"), (1e-6, "&lt;0.01%"), (0.9999, "&gt;99.9%"), (0.123, "12.3%"), (0.0123, "1.2%")],
)
def test_shares_are_never_said_to_be_none_or_all_when_they_are_not(share, text):
    assert _percent(share) == text


@pytest.mark.parametrize("most", [0.1, 1, 2.5, 30])
def test_means_that_are_spread_evenly_show_even_bars(most):
    even = np.where(np.abs(MEANS) <= most, 100, 0)
    chart = _mean_flow(Measured(mean_u=even, mean_v=even))
    heights = re.findall(r" V([\d.]+)", re.findall(r"class='line blue' d='([^']+)'", chart)[0])
    assert len(heights) > 10 and len(set(heights[1:-2])) == 1  # but for the outermost, and the way back


def test_numbers_are_short():
    assert [_short(n) for n in (0, 999, 12_893, 4_200_000)] == [
        "0",
        "999",
        "12.9<small>k</small>",
        "4.2<small>M</small>",
    ]


# A page in a frame of the phone's width, since a window has a least width of its own; then what goes over its
# edge, but for what scrolls in a box of its own, what is too small to read, and pictures that do not show.
PROBE = """<!doctype html><iframe frameborder=0 width=WIDTH height=900 srcdoc='PAGE'></iframe><script>
addEventListener('load', () => {
  const view = document.querySelector('iframe').contentWindow, page = view.document;
  const all = [...page.querySelectorAll('main *')].filter(e => !e.closest('svg'));
  const name = e => e.outerHTML.slice(0, 80).replace(/["<>&]/g, '');
  const box = e => e.getBoundingClientRect(), letters = e => parseFloat(view.getComputedStyle(e).fontSize);
  const over = e => box(e).right > view.innerWidth + 1 || box(e).left < -1;
  const small = e => e.innerText?.trim() && !e.children.length && letters(e) < 12;
  document.documentElement.dataset.found = JSON.stringify({
    width: view.innerWidth, page: page.documentElement.scrollWidth,
    over: all.filter(e => over(e) && !e.closest('.scroll')).map(name), small: all.filter(small).map(name),
    broken: [...page.images].filter(i => !i.naturalWidth).length, pictures: page.images.length });
})</script>"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_it_on_a_phone_and_on_a_laptop(made, tmp_path, width):
    inside = made[1].replace("&", "&amp;").replace("'", "&#39;")
    (tmp_path / "probe.html").write_text(PROBE.replace("WIDTH", f"{width}").replace("PAGE", inside), "utf-8")
    command = [BROWSER, "--headless", "--disable-gpu", "--hide-scrollbars", f"--window-size={width},900"]
    command += ["--no-sandbox", f"--user-data-dir={tmp_path / 'profile'}"]  # a sandbox needs rights
    environment = {**os.environ, "HOME": str(tmp_path)}

    def browse(*options):
        run = [*command, *options]
        return subprocess.run(run, capture_output=True, text=True, check=True, timeout=120, env=environment)

    dom = browse("--dump-dom", (tmp_path / "probe.html").as_uri()).stdout
    found = json.loads(html.unescape(re.search(r'data-found="([^"]+)"', dom)[1]))
    expected = {"width": width, "page": width, "over": [], "small": [], "broken": 0, "pictures": 4 * 9}
    assert found == expected

    picture = tmp_path / "shot.png"
    browse(f"--screenshot={picture}", made[2].as_uri())
    with Image.open(picture) as image:
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.shape == (900, width, 3)
    # The page's grey, white cards, dark headings, and the blue of the first card's edge.
    colours = {tuple(c) for c in np.unique(pixels.reshape(-1, 3), axis=0).tolist()}
    assert {(0xF7, 0xF7, 0xF5), (0xFF, 0xFF, 0xFF), (0x1D, 0x21, 0x27), (0x2F, 0x6F, 0xD6)} <= colours
