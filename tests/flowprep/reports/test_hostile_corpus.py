"""Reports on a corpus of a stranger: no text of it becomes HTML, and no script of it runs."""

import ast
from dataclasses import replace
from pathlib import Path

import pytest

import flowprep
import trainer
from flowprep.api import make_corpus
from flowprep.presets import PRESETS
from flowprep.reports import html
from flowprep.reports.corpus import write_report
from flowprep.reports.corpus_data import CorpusData
from flowprep.settings import Settings
from tests.support.browser import ATTACK, ATTACKS, MARK, foreign_elements, is_attacked, needs_browser
from tests.support.videos import write_video


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    """The report on a corpus whose every text attacks the page: names, settings, stages and software."""
    for number, attack in enumerate(ATTACKS):
        name = attack.replace("/", "_")
        write_video(tmp_path / "clips" / name / f"{number}{name}.mp4", 3)
        (tmp_path / "clips" / name / f"bad {name}.mp4").write_text("no video")
    settings = Settings(size="source", engine="opencv", tvl1=PRESETS["opencv"])
    make_corpus([tmp_path / "clips"], tmp_path / f"a{ATTACKS[1]}", settings, jobs=1)
    data = CorpusData.read(tmp_path / f"a{ATTACKS[1]}", 1000)
    for name in ("engine", "step", "size", "grey", "resize", "codes"):
        object.__setattr__(data.corpus.settings, name, ATTACK)
    totals = {**data.status.totals, f"{ATTACK}_seconds": 3.0}
    status = replace(data.status, totals=totals, partial={ATTACK: ATTACK}, failures={ATTACK: ATTACK})
    data = replace(data, status=status, labels={ATTACK: ATTACK})
    monkeypatch.setattr(CorpusData, "read", lambda *_: data)
    info = data.corpus.info() | {"software": {ATTACK: ATTACK}}
    monkeypatch.setattr(data.corpus, "info", lambda: info)
    write_report(tmp_path, tmp_path / "r.html")
    return tmp_path / "r.html"


def test_no_text_becomes_html(hostile):
    text = hostile.read_text("utf-8")
    assert foreign_elements(text) == set()
    assert text.count("&lt;x-attack&gt;") > 20  # the texts are there


@needs_browser
def test_no_script_runs(hostile, tmp_path):
    assert not is_attacked(hostile, tmp_path)
    # The same without the policy of the page: the texts are harmless by themselves.
    text = hostile.read_text("utf-8")
    bare = tmp_path / "bare.html"
    bare.write_text(text.replace("Content-Security-Policy", "nothing"), "utf-8")
    assert not is_attacked(bare, tmp_path)


@needs_browser
@pytest.mark.parametrize("attack", [ATTACKS[0], f"<svg onload={MARK}>"])
def test_the_policy_stops_scripts_that_are_in_the_page(tmp_path, attack):
    text = html.document("title", html.Markup(attack))
    (tmp_path / "r.html").write_text(text, "utf-8")
    assert not is_attacked(tmp_path / "r.html", tmp_path)
    (tmp_path / "r.html").write_text(text.replace("Content-Security-Policy", "nothing"), "utf-8")
    assert is_attacked(tmp_path / "r.html", tmp_path)  # so the marker works


def test_only_html_py_makes_markup():
    """A text with a tag in another module would be written past the escaping."""
    for package in (flowprep, trainer):
        for path in (Path(package.__file__).parent / "reports").glob("*.py"):
            if path.name == "html.py":
                continue
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                assert not (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Markup"), path
                assert not (isinstance(node, ast.Constant) and "</" in str(node.value)), path
