"""The report on a corpus, as text and as a browser shows it."""

import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from flowprep.api import make_corpus
from flowprep.corpus.reader import open_corpus
from flowprep.presets import PRESETS
from flowprep.reports.corpus import write_report
from flowprep.reports.corpus_charts import mean_flow_section
from flowprep.reports.corpus_videos import video_section
from flowprep.reports.numbers import format_count, format_share
from flowprep.reports.statistics import MEANS, CorpusStatistics, collect
from flowprep.settings import Settings
from tests.support.browser import browse, layout, needs_browser
from tests.support.videos import write_video

OPENCV = Settings(size="source", engine="opencv", tvl1=PRESETS["opencv"], codes="tsn", range=2.0)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Videos of two classes, one with a long name that needs escaping, and three that fail."""
    root = tmp_path_factory.mktemp("clips")
    for speed in range(6):
        label = "<slow & very steadily moving things of all kinds>" if speed < 3 else "fast"
        write_video(root / label / f"v_{'long_name_' * 8}{speed}.mp4", 6, (80, 64), speed=speed, seed=7)
    for n in (3, 12):
        (root / "fast" / f"bad_{n}.mp4").write_text("no video")
    write_video(root / "fast" / "short.mp4", 1)
    return root


@pytest.fixture(scope="module")
def report(clips, tmp_path_factory):
    """The summary, the text and the file of a report."""
    folder = tmp_path_factory.mktemp("report")
    make_corpus([clips], folder / "corpus", OPENCV, jobs=1)
    facts = write_report(folder / "corpus", folder / "r.html").to_dict()
    return facts, (folder / "r.html").read_text("utf-8"), folder / "r.html"


def test_the_page_loads_nothing(report):
    _, text, _ = report
    assert not re.search(r"https?:|<script|<link|@import|url\(", text)
    sources = re.findall(r"src='([^']{0,30})", text)
    # The wheel, four frames and four flows of one video in each of four groups.
    assert len(sources) == 4 * (1 + 8) and all(s.startswith("data:image/jpeg;base64,") for s in sources)
    HTMLParser().feed(text)


def test_the_page_and_its_summary(report):
    facts, text, _ = report
    assert facts["videos"] == {"total": 9, "ok": 6, "partial": 0, "failed": 3, "pending": 0}
    assert facts["sampled_videos"] == 6 and facts["clipped_videos"] >= 3
    assert "6 of 9 videos are extracted" in text
    assert "<b>2</b> not a video that can be opened" in text and "bad_12.mp4" in text
    assert "<b>1</b> too few frames: 1; one pair at step 1 needs 2" in text  # alone: keeps its numbers
    assert "2 decoded pairs per video, from all 6 videos" in text
    assert f"In <b>{facts['clipped_videos']}</b> of 6 videos, more than 1% of the values" in text
    assert "±2 px" in text
    assert f"{facts['ratio']:.0f}<small>×" in text
    assert "2 classes" in text and "pairs per second" in text and "&quot;tsn&quot;" in text
    for title in ("Typical", "Most motion", "Least motion"):
        assert title in text


def test_stages_are_in_the_order_of_the_work(report):
    times = report[1].partition("Time by stage")[2].partition("</section>")[0]
    stages = re.findall(r"<span>(\w+)</span>", times)
    order = ["decode", "resize", "flow", "jpeg", "codes", "write"]  # stages without time are left out
    assert stages == [stage for stage in order if stage in stages] and "flow" in stages


def test_videos_are_in_their_groups(report):
    names = re.findall(r"<p class=name><span title='?([^'>]+)", report[1])
    typical, most, least, clipped = (int(name[-5]) for name in names)  # speeds, px a frame
    assert least == 0 and most in (4, 5) and clipped in (3, 4, 5) and clipped != most and typical in (1, 2, 3)


def test_each_video_has_a_scale_of_its_own(report):
    typical, most, least, _ = (
        float(px) for px in re.findall(r"alt='colours of flow, up to ([\d.]+) px", report[1])
    )
    assert least == 0.25 and min(typical, most) > 0.5  # noise of a still video does not get full colour


def test_names_are_escaped(report):
    assert "<slow" not in report[1] and "&lt;slow &amp; very steadily" in report[1]


def test_nothing_is_escaped_twice(report):
    corpus = open_corpus(report[2].parent / "corpus")
    statistics = collect(corpus)
    statistics.clipped = [1e-6] * len(corpus)
    text = video_section(corpus, statistics)
    assert "&lt;0.01% clipped" in text and "&lt;slow" in text and "&amp;lt;" not in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "expected", "missing"),
    [
        ({"flow": False}, ["Frames", "Examples"], ["How far pixels move", "Mean flow", "Clipping"]),
        ({"rgb": False}, ["How far pixels move", "Most motion"], ["A frame takes"]),
        ({"codes": "adaptive"}, ["none is clipped"], ["<h2>Clipping", "Most clipped"]),
    ],
)
def test_streams_that_are_not_stored_are_left_out(clips, tmp_path, options, expected, missing):
    settings = Settings(**{"size": "source", "engine": "opencv", "tvl1": PRESETS["opencv"], **options})
    make_corpus([clips], tmp_path / "corpus", settings, jobs=1)
    write_report(tmp_path / "corpus", tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text("utf-8")
    assert all(words in text for words in expected) and not any(words in text for words in missing)


def test_a_corpus_without_a_stored_video(tmp_path):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "x.mp4").write_text("no video")
    make_corpus([tmp_path / "clips"], tmp_path / "corpus", OPENCV, jobs=1)
    summary = write_report(tmp_path / "corpus", tmp_path / "r.html")
    assert summary.displacement_px is None and summary.ratio is None
    assert "0 of 1 video is extracted" in (tmp_path / "r.html").read_text("utf-8")


def test_a_corpus_without_a_plan(report, tmp_path):
    shutil.copytree(report[2].parent / "corpus", tmp_path / "corpus")
    (tmp_path / "corpus" / "plan.jsonl").unlink()
    write_report(tmp_path / "corpus", tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text("utf-8")
    assert "6 of 9 videos are extracted" in text and "<th>no class</th><td class=num>0" in text


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0%"), (1, "100%"), (1e-6, "<0.01%"), (0.9999, ">99.9%"), (0.123, "12.3%"), (0.0123, "1.2%")],
)
def test_only_exact_shares_are_0_or_100_percent(share, text):
    assert format_share(share) == text


@pytest.mark.parametrize("maximum", [0.1, 1, 2.5, 30])
def test_evenly_spread_means_give_even_bars(maximum):
    even = np.where(np.abs(MEANS) <= maximum, 100, 0)
    chart = mean_flow_section(CorpusStatistics(mean_u=even, mean_v=even))
    heights = re.findall(r" V([\d.]+)", re.findall(r"class='line blue' d='([^']+)'", chart)[0])
    assert len(heights) > 10 and len(set(heights[1:-2])) == 1  # without the outermost bars and the way back


def test_numbers_are_short():
    assert [format_count(n) for n in (0, 999, 12_893, 4_200_000)] == [
        "0",
        "999",
        "12.9<small>k</small>",
        "4.2<small>M</small>",
    ]


@needs_browser
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_a_phone_and_a_laptop(report, tmp_path, width):
    expected = {"width": width, "page": width, "over": [], "small": [], "scrolls": [], "broken": 0}
    assert layout(report[1], tmp_path, width) == expected | {"pictures": 4 * 9}


@needs_browser
def test_the_page_has_its_colours(report, tmp_path):
    picture = tmp_path / "shot.png"
    browse(tmp_path, f"--screenshot={picture}", report[2].as_uri())
    with Image.open(picture) as image:
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.shape == (900, 1280, 3)
    # The page's grey, white cards, dark headings, and the blue of the first card's edge.
    colours = {tuple(c) for c in np.unique(pixels.reshape(-1, 3), axis=0).tolist()}
    assert {(0xF7, 0xF7, 0xF5), (0xFF, 0xFF, 0xFF), (0x1D, 0x21, 0x27), (0x2F, 0x6F, 0xD6)} <= colours
