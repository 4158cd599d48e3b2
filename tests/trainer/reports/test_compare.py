import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch

from tests.support.browser import layout, needs_browser
from tests.support.fakes import CLASSES, FakeCorpus, small
from trainer.data.annotations import Examples
from trainer.evaluation.evaluate import evaluate
from trainer.evaluation.scores import TEST_SCORES
from trainer.models import registry, summary
from trainer.reports import compare, compare_page
from trainer.training import trainer as train
from trainer.training.metrics_log import read_log

QUICK = {"steps": 4, "milestones": [], "log_every": 1, "validation_share": 0.0}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A spatial run with test scores, and a temporal run without."""
    corpus, folder = FakeCorpus(clips=2), tmp_path_factory.mktemp("runs")
    labels = tuple(CLASSES.index(label) for label in corpus.labels.values())
    examples = Examples(tuple(corpus), labels, CLASSES)
    for stream in ("spatial", "temporal"):
        train.train(small(stream, train=QUICK), corpus, examples, folder / stream, device="cpu")
    evaluate(folder / "spatial", corpus, examples, device="cpu").save(folder / "spatial" / TEST_SCORES)
    return folder / "spatial", folder / "temporal"


@pytest.fixture(scope="module")
def rows(runs):
    return compare.compare(runs, device="cpu", batch=2)


def test_a_row_describes_its_run(runs, rows):
    spatial, temporal = rows
    assert spatial.model == "resnet18" and spatial.step == 4
    assert spatial.input == {"spatial": "3x32x32"} and temporal.input == {"temporal": "6x32x32"}
    low, high = spatial.interval
    assert spatial.videos == 16 and low <= spatial.accuracy <= high and low < high
    assert temporal.accuracy is temporal.interval is None


def test_sizes_are_of_the_run_and_of_the_published_network(rows):
    net = registry.make_model(small("temporal"), len(CLASSES))
    temporal = rows[1]
    assert temporal.parameters == sum(p.numel() for p in net.parameters())
    # The row counts one clip; two clips are twice the work.
    _, twice = summary.count_operations(net.eval(), [torch.zeros(2, 6, 32, 32)])
    assert 2 * temporal.multiply_adds == twice
    known = summary.describe_model("resnet18")
    assert temporal.published_parameters == known.parameters["temporal"]
    assert temporal.published_multiply_adds == known.multiply_adds["temporal"]


def test_speeds(runs, rows):
    for run, row in zip(runs, rows, strict=True):
        speeds = sorted(line.clips_per_second for line in read_log(run))
        assert row.train_clips_per_second == (speeds[1] + speeds[2]) / 2
        assert row.clips_per_second > 0


def test_text(rows):
    text = compare.as_text([replace(rows[0], published={"UCF-101 spatial": 73.0}), rows[1]])
    first, network, published, share, second, *_ = text.splitlines()[1:]
    assert first.split()[0] == f"{rows[0].accuracy:.1%}" and second.split()[0] == "-"
    assert network.strip() == "resnet18, spatial 3x32x32, after 4 steps"
    assert published.split() == ["published:", "11.23", "M,", "1.81", "G"]
    assert share.split() == ["UCF-101", "spatial", "73%"]


def test_page(rows, tmp_path):
    compare_page.write_page(tmp_path / "new" / "c.html", [replace(rows[0], run="<b>&"), rows[1]])
    text = (tmp_path / "new" / "c.html").read_text()
    assert not re.search(r"https?:|<script|<link|@import|url\(", text)
    HTMLParser().feed(text)
    assert "<b>&" not in text and "&lt;b&gt;&amp;" in text
    assert "2 runs side by side" in text and "11.23 M" in text and f"{rows[0].accuracy:.1%}" in text


def test_a_missing_log_gives_no_speed(runs, tmp_path):
    (tmp_path / "last.pt").write_bytes((runs[0] / "last.pt").read_bytes())
    (row,) = compare.compare([tmp_path], device="cpu", batch=1)
    assert row.train_clips_per_second is None and row.accuracy is None
    assert compare.as_text([row]).splitlines()[1].split()[0] == "-"


@needs_browser
@pytest.mark.parametrize("width", [400, 1280])
def test_the_page_fits_a_phone_and_a_laptop(runs, rows, tmp_path, width):
    long = tmp_path / "a_run_with_a_name/that_goes_on-and-on/without_any_end" / "spatial"
    shutil.copytree(runs[0], long)
    compare_page.write_page(tmp_path / "c.html", [*rows, replace(rows[0], run=str(long))])
    text = (tmp_path / "c.html").read_text()
    shown = layout(text, tmp_path, width)
    assert shown["page"] == width and shown["over"] == shown["scrolls"] == shown["small"] == []


def test_the_page_has_the_curves_and_the_classes_of_the_runs(rows, tmp_path):
    compare_page.write_page(tmp_path / "c.html", rows)
    text = (tmp_path / "c.html").read_text()
    curves, classes = (text.partition(f"<h2>{t}</h2>")[2] for t in ("Training", "Accuracy by class"))
    assert curves.partition("</section>")[0].count("<polyline class='train ") == 4  # two of each run
    cells = classes.partition("</section>")[0]
    assert all(f"<th>{name}</th><td class=num>4</td>" in cells for name in CLASSES)
    assert rows[1].run not in cells  # it has no test scores
