"""Pages about runs of a stranger: no text of them becomes HTML, and no script of them runs."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from flowprep.errors import UsageError
from tests.support.browser import ATTACK, ATTACKS, foreign_elements, is_attacked, needs_browser
from tests.support.fakes import CLASSES, FakeCorpus, small
from trainer.evaluation.scores import Scores
from trainer.reports import compare_page, run
from trainer.reports.compare import RunFigures
from trainer.reports.run_data import ReportData
from trainer.training.metrics_log import LogRow, Validation, read_log

ROW = LogRow(2, 0.5, 0.1, 0.5, 9.0, 0.1, Validation(0.5, 0.7))


@pytest.fixture
def report(tmp_path, monkeypatch):
    """A report whose ids, classes, recipe and corpus settings attack the page."""
    corpus = FakeCorpus(clips=2)
    names = [f"{attack}{i}" for i, attack in enumerate(ATTACKS[: len(CLASSES)])]
    labels = np.array([CLASSES.index(label) for label in corpus.labels.values()])
    ids = np.array([*list(corpus)[:-1], ATTACK])
    wrong = np.eye(len(names), dtype=np.float32)[(labels + 1) % len(names)]
    recipe = small().to_dict() | {ATTACK: ATTACK, "model": {"name": ATTACK}}
    kept = SimpleNamespace(
        recipe=SimpleNamespace(to_dict=lambda: recipe, train=small().train), step=3, stream="spatial"
    )
    for name in ("engine", "step", "size"):
        object.__setattr__(corpus.settings, name, ATTACK)
    corpus.path = SimpleNamespace(name=ATTACK)
    scores = dict.fromkeys(("spatial", "temporal", "fused"), wrong)
    logs, runs = {"spatial": [ROW]}, {"spatial": kept}
    data = ReportData(corpus, runs, logs, ids, labels, names, scores)
    monkeypatch.setattr(ReportData, "read", lambda *_: data)
    run.write_report(tmp_path / "r.html", {}, {}, corpus, mistakes=30)
    return tmp_path / "r.html"


@pytest.fixture
def comparison(tmp_path, monkeypatch):
    """A comparison of a run whose every text attacks the page."""
    folder = tmp_path / ATTACKS[1]
    Scores(
        np.array([ATTACK]), np.array([0]), np.array(ATTACKS), np.eye(1, len(ATTACKS), dtype=np.float32)
    ).save(folder / "test_scores.npz")
    figures = RunFigures(
        run=str(folder),
        model=ATTACK,
        stream=ATTACK,
        step=1,
        input={ATTACK: ATTACK},
        accuracy=0.5,
        interval=(0.2, 0.7),
        videos=1,
        parameters=1,
        multiply_adds=1,
        train_clips_per_second=None,
        published={ATTACK: 1.0},
        published_parameters=1,
        published_multiply_adds=1,
        paper=ATTACK,
    )
    monkeypatch.setattr(compare_page, "read_log", lambda _: [ROW])
    compare_page.write_page(tmp_path / "c.html", [figures, replace(figures, run=ATTACK)])
    return tmp_path / "c.html"


@pytest.mark.parametrize("page", ["report", "comparison"])
def test_no_text_becomes_html(page, request):
    text = request.getfixturevalue(page).read_text("utf-8")
    assert foreign_elements(text) == set()
    assert text.count("&lt;x-attack&gt;") > 5  # the texts are there


@needs_browser
@pytest.mark.parametrize("page", ["report", "comparison"])
def test_no_script_runs(page, request, tmp_path):
    path = request.getfixturevalue(page)
    assert not is_attacked(path, tmp_path)
    bare = tmp_path / "bare.html"  # without the policy: the texts are harmless by themselves
    bare.write_text(path.read_text("utf-8").replace("Content-Security-Policy", "nothing"), "utf-8")
    assert not is_attacked(bare, tmp_path)


@pytest.mark.parametrize("value", [ATTACKS[0], None, True, float("nan"), 1e400])
def test_a_log_of_other_things_than_numbers_is_refused(value, tmp_path):
    row = ROW.to_dict()
    (tmp_path / "log.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(row | {"loss": value}) + "\n")
    with pytest.raises(UsageError, match=r"log.jsonl, line 2: not a row of a training log"):
        read_log(tmp_path)


@pytest.mark.parametrize("line", ["{", "[]", "3", "{}"])
def test_a_line_that_is_no_row_is_refused(line, tmp_path):
    (tmp_path / "log.jsonl").write_text(f"{line}\n")
    with pytest.raises(UsageError, match="line 1"):
        read_log(tmp_path)
