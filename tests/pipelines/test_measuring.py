"""The benchmarks of pipelines/ on the corpus in memory."""

import re
import runpy
import sys
from pathlib import Path

import pytest

from tests.support.fakes import small, toml

PIPELINES = Path(__file__).parents[2] / "pipelines"


def script(monkeypatch, name, *args):
    """Exit code of the script's main."""
    monkeypatch.setattr(sys, "argv", [name, *map(str, args)])
    return runpy.run_path(str(PIPELINES / name), run_name="script")["main"]()


def recipe(tmp_path, stream, name):
    inp = {"stack": 2} if stream != "both" else {"stack": 2, "time_steps": 2, "spacing": [2, 4]}
    train = {"batch": 2, "milestones": [], "lr": 0.02}
    values = small(stream, model={"name": name}, input=inp, train=train, test={"frames": 2, "crops": 2})
    return toml(values, tmp_path / "recipe.toml")


@pytest.mark.slow
def test_eight_clips_are_learnt_or_not(opened, tmp_path, monkeypatch, capsys):
    path = recipe(tmp_path, "both", "st_resnet")
    assert script(monkeypatch, "bench/overfit.py", path, "--corpus", "c", "--steps", 100, "--below", 0.1) == 0
    output = capsys.readouterr().out
    assert "8x3x2x32x32 and 8x4x2x32x32, 4 classes" in output
    losses = [float(loss) for loss in re.findall(r"step \d+: loss ([\d.]+)", output)]
    assert losses[0] > 1 and losses[-1] < 0.1
    assert script(monkeypatch, "bench/overfit.py", path, "--corpus", "c", "--steps", 1) == 1
    assert "NOT below 0.01 after 1 steps" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("stream", "name"), [("temporal", "resnet18"), pytest.param("both", "st_resnet", marks=pytest.mark.slow)]
)
def test_trainer_and_hand_written_loops_are_timed(opened, tmp_path, monkeypatch, capsys, stream, name):
    path = recipe(tmp_path, stream, name)
    script(monkeypatch, "bench/by_hand.py", path, "--corpus", "c", "--rounds", 1, "--videos", 2)
    output = capsys.readouterr().out
    assert re.search(r"a step of 2 clips of 32 pixels: [\d.]+ s, by hand [\d.]+ s, [\d.]+ times", output)
    assert re.search(r"evaluating 2 videos by 2 x 2 crops: [\d.]+ s, by hand [\d.]+ s, [\d.]+ times", output)


@pytest.mark.slow
def test_rules_of_fusion_are_compared(monkeypatch, capsys):
    script(monkeypatch, "bench/fusion_rules.py", 1)
    text = capsys.readouterr().out
    assert text.count("calibrated weights, recordings") == text.count(": spatial ") == 6
