import re
from html.parser import HTMLParser

import numpy as np
import pytest

from flowprep.errors import UsageError
from tests.support.browser import layout, needs_browser
from tests.support.fakes import CLASSES, FakeCorpus, small
from trainer.data.annotations import Examples
from trainer.evaluation.metrics import wilson_interval
from trainer.evaluation.scores import Scores
from trainer.reports import run
from trainer.training import trainer as train


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    corpus, folder = FakeCorpus(clips=2), tmp_path_factory.mktemp("runs")
    labels = tuple(CLASSES.index(label) for label in corpus.labels.values())
    recipe = {"train": {"steps": 4, "milestones": [2], "log_every": 1, "validate_every": 2}}
    for stream in ("spatial", "temporal"):
        examples = Examples(tuple(corpus), labels, CLASSES)
        train.train(small(stream, **recipe), corpus, examples, folder / stream, device="cpu")
    return folder, corpus


def scores(corpus, wrong, classes=CLASSES):
    """All predictions are right but those at the positions `wrong`, which are the next class."""
    ids = list(corpus)
    labels = np.array([CLASSES.index(corpus.labels[i]) for i in ids])
    predicted = labels.copy()
    predicted[wrong] = (predicted[wrong] + 1) % len(classes)
    return Scores(np.array(ids), labels, np.array(classes), np.eye(len(classes), dtype=np.float32)[predicted])


def streams(folder):
    return {stream: folder / stream for stream in ("spatial", "temporal")}


def write(runs, tmp_path, a=(0, 1, 2, 3), b=(0, 1), c=(0,), **options):
    folder, corpus = runs
    files = {name: scores(corpus, list(w)) for name, w in (("spatial", a), ("temporal", b), ("fused", c))}
    run.write_report(tmp_path / "r.html", streams(folder), files, corpus, **options)
    return (tmp_path / "r.html").read_text()


def test_the_page_loads_nothing(runs, tmp_path):
    text = write(runs, tmp_path)
    assert not re.search(r"https?:|<script|<link|@import|url\(", text)
    sources = re.findall(r"src='([^']{0,30})", text)
    assert len(sources) == 9 and all(
        s.startswith("data:image/jpeg;base64,") for s in sources
    )  # 4 + 4 + legend
    HTMLParser().feed(text)


def test_the_content_of_the_page(runs, tmp_path):
    text = write(runs, tmp_path)
    cards = re.findall(r"class=big>([\d.]+)<", text)
    assert cards == ["75.0", "87.5", "93.8"]
    assert "adds 6.2 points" in text
    assert "BlueSpin predicted as BlueZoom: 1 of 4" in text
    assert "1 of 1 mistake of the fusion" in text
    assert "The only mistake" in text
    assert "train.milestones" in text and "shard_pairs" in text
    assert runs[1].settings.preset in text
    assert text.count("<polyline") == 8


def test_a_torn_row_of_the_log_is_skipped(runs, tmp_path):
    log = runs[0] / "spatial" / "log.jsonl"
    text = log.read_text()
    log.write_text(text + '{"step": 5, "lo')
    try:
        assert write(runs, tmp_path).count("<polyline") == 8
    finally:
        log.write_text(text)


def test_runs_of_the_wrong_stream_are_refused(runs, tmp_path):
    folder, corpus = runs
    a = scores(corpus, [])
    with pytest.raises(UsageError, match="given as spatial is a temporal run"):
        run.write_report(tmp_path / "r.html", {"spatial": folder / "temporal"}, {"spatial": a}, corpus)


def test_without_mistakes(runs, tmp_path):
    assert "There are none" in write(runs, tmp_path, c=())


def test_names_are_escaped(runs, tmp_path):
    folder, corpus = runs
    names = ("<b>&", *CLASSES[1:])
    files = dict.fromkeys(("spatial", "temporal", "fused"), scores(corpus, [0], names))
    run.write_report(tmp_path / "r.html", streams(folder), files, corpus)
    text = (tmp_path / "r.html").read_text()
    assert "<b>&" not in text and "&lt;b&gt;&amp;" in text


def test_one_run_alone(runs, tmp_path):
    folder, corpus = runs
    one = {"spatial": scores(corpus, [0, 1, 2, 3])}
    run.write_report(tmp_path / "r.html", {"spatial": folder / "spatial"}, one, corpus)
    text = (tmp_path / "r.html").read_text()
    assert "75.0% accuracy of the spatial stream" in text
    assert re.findall(r"class=big>([\d.]+)<", text) == ["75.0"]
    assert "4 of 4 mistakes of the spatial stream" in text and "the fusion" not in text
    HTMLParser().feed(text)


def test_scores_of_other_videos_are_refused(runs, tmp_path):
    folder, corpus = runs
    a, b = scores(corpus, []), scores(FakeCorpus(clips=1), [])
    with pytest.raises(UsageError, match="temporal scores are of other videos"):
        files = {"spatial": a, "temporal": b, "fused": a}
        run.write_report(tmp_path / "r.html", streams(folder), files, corpus)


def test_the_order_of_the_videos_does_not_matter(runs, tmp_path):
    folder, corpus = runs
    a, b, c = (scores(corpus, w) for w in ([0, 1, 2, 3], [0, 1], [0]))
    order = np.random.default_rng(0).permutation(len(a.ids))
    turned = Scores(a.ids[order], a.labels[order], a.classes, a.scores[order])
    for name, first in (("x.html", a), ("y.html", turned)):
        files = {"spatial": first, "temporal": b, "fused": c}
        run.write_report(tmp_path / name, streams(folder), files, corpus)
    assert (tmp_path / "x.html").read_text() == (tmp_path / "y.html").read_text()


def test_wilson_interval():
    """The interval of 8 in 10 is 0.490 to 0.943 (Brown, Cai, DasGupta 2001)."""
    np.testing.assert_allclose(wilson_interval(8, 10), (0.490, 0.943), atol=5e-4)


@needs_browser
@pytest.mark.parametrize("width", [400, 1280])
def test_the_page_fits_a_phone_and_a_laptop(runs, tmp_path, width):
    shown = layout(write(runs, tmp_path), tmp_path, width)
    assert shown["page"] == width and shown["over"] == shown["scrolls"] == shown["small"] == []
