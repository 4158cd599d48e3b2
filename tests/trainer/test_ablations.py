"""pipelines/ucf101/ablations: its rows are the paper's, its recipes valid, and a table comes of it."""

import importlib.machinery
import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import FakeCorpus

import flowprep
from trainer import models
from trainer.recipe import read_recipe

SCRIPT = Path(__file__).parents[2] / "pipelines" / "ucf101" / "ablations"


@pytest.fixture(scope="module")
def ablations():
    loader = importlib.machinery.SourceFileLoader("ablations", str(SCRIPT))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("ablations", loader))
    sys.modules["ablations"] = module  # dataclasses look their module up
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    loader.exec_module(module)
    sys.dont_write_bytecode = before
    return module


def test_every_row_is_a_recipe(ablations):
    for row in ablations.ROWS:
        if isinstance(row, ablations.Network):
            changes = [*row.changes, *(["model.weights=w.pt"] if row.weights or row.start else [])]
            for small in (False, True):
                models.find(read_recipe(ablations.recipe_of(row, small=small), changes))


def test_the_paper_s_settings(ablations):
    """Batch, schedule and dropout of section 4 of the paper, for each way of training."""
    for row in ablations.ROWS:
        if isinstance(row, ablations.Fusion):
            continue
        recipe = read_recipe(
            ablations.recipe_of(row, small=False),
            [*row.changes, *(["model.weights=w.pt"] if row.weights or row.start else [])],
        )
        train = recipe.train
        assert (recipe.model.name, train.batch, train.lr, train.momentum) == ("cnn_m_2048", 256, 0.01, 0.9)
        assert (recipe.input.crop, recipe.input.flip, recipe.input.jitter) == (224, True, 0.1)
        assert (recipe.test.frames, recipe.test.crops, train.validation_share) == (25, 10, 0)
        if row.weights or row.start:
            assert (train.steps, train.milestones) == (20_000, (14_000,))
        else:
            assert (train.steps, train.milestones) == (80_000, (50_000, 70_000))
        if recipe.stream == "temporal":
            assert recipe.model.dropout == 0.9
            assert recipe.input.stack == {"L1": 1, "L5": 5}.get(row.name, 10)
        else:
            assert recipe.model.dropout == float(row.name[-3:])
        assert recipe.model.trainable == ("last" if "last" in row.name else "all")


def test_78_classes_are_left_to_add(ablations, shared_data):
    lines = (shared_data / "splits" / "ucf101" / "classInd.txt").read_text().split("\n")
    classes = {line.split()[1] for line in lines if line.strip()}
    assert len(classes) == 101 and set(ablations.LEFT_OUT) < classes
    assert len(classes.difference(ablations.LEFT_OUT)) == 78


STUB = f"""#!{sys.executable}
import os, sys
import numpy as np
from pathlib import Path
args = sys.argv[1:]
print(*args, file=open(os.environ["CALLS"], "a"))
out = Path(args[args.index("--out") + 1])
if args[0] == "train":
    out.mkdir(exist_ok=True)
    out = out / "test_scores.npz"
np.savez(out, ids=["a", "b"], labels=[0, 1], classes=["x", "y"], scores=[[1.0, 0.0], [1.0, 0.0]])
"""


def test_rows_alone_and_what_they_build_on(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "trainer").write_text(STUB)
    (tmp_path / "bin" / "trainer").chmod(0o755)
    calls, out = tmp_path / "calls", tmp_path / "out"
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"

    def call(*rows):
        calls.write_text("")
        command = [sys.executable, str(SCRIPT), "--corpus", str(tmp_path), "--lists", "splits", "--small"]
        command += ["--out", str(out), "--set", "train.steps=9", "--json", *rows]
        env = {**os.environ, "PATH": path, "CALLS": str(calls), "PYTHONPATH": str(SCRIPT.parents[2])}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        return calls.read_text().splitlines(), json.loads(done.stdout)

    lines, rows = call("L5")
    assert len(lines) == 1 and lines[0].startswith(f"train {SCRIPT.parent}/small/temporal.toml")
    assert "--set input.stack=5 --set train.steps=9" in lines[0] and "--train-list splits:train1" in lines[0]
    assert rows == [{"row": "L5", "published": 80.4, "missing": None, "measured": 50.0, "videos": 2}]
    lines, rows = call("L10-average", "spatial-last-0.5", "multi-task")
    assert [line.split()[0] for line in lines] == ["train", "train", "fuse"]
    assert {row["row"]: row["missing"] for row in rows} == {
        "spatial-last-0.5": "needs --weights",
        "L5": None,
        "multi-task": "needs --hmdb51",
        "L10-average": None,
    }
    table = (out / "table.md").read_text().splitlines()
    assert "| L5 | 80.4 | 50.0 | 2 |" in table
    assert "| multi-task | 81.5 | needs --hmdb51 |  |" in table


def test_a_row_that_needs_backward_flow(ablations, monkeypatch, tmp_path):
    """Like one that needs weights, it does not keep the others from being made."""
    calls, row = [], ablations.BY_NAME["bidirectional"]
    monkeypatch.setattr(ablations, "trainer", lambda *args: calls.append(args[0]))
    monkeypatch.setattr(flowprep, "open_corpus", lambda path: FakeCorpus(backward=path.name == "backward"))
    setting = ablations.Setting(tmp_path, "lists", None, tmp_path, None, 1, small=True, changes=())
    with pytest.raises(ablations.Missing, match="needs a corpus made with --backward"):
        ablations.make(setting, row)
    assert not calls
    ablations.make(replace(setting, corpus=tmp_path / "backward"), row)
    assert calls == ["train"]
