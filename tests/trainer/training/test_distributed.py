"""Processes that torchrun starts: one batch and one set of scores, whatever their number; and a kill."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from flowprep.errors import UsageError
from tests.support.fakes import FakeCorpus, rows, small
from tests.trainer.training.test_heads import own
from trainer.evaluation.evaluate import evaluate, held_out
from trainer.evaluation.scores import Scores
from trainer.recipe.schema import Recipe
from trainer.training import checkpoint, distributed
from trainer.training import trainer as train

ROOT = Path(__file__).parents[3]
RECIPE = small(
    "temporal",
    model={"dropout": 0.5},
    input={"crop": 40},
    train={
        "steps": 6,
        "milestones": [4],
        "checkpoint_every": 2,
        "log_every": 1,
        "lr": 0.001,
        "batch": 16,
        "micro_batch": 4,
    },
)
JOINT = {
    "stream": "both",
    "input": {"stack": 2, "time_steps": 3, "spacing": [2, 4]},
    "test": {"crops": 2},
}


def joint(name, **train):
    values = RECIPE.to_dict()
    for key, section in (JOINT | {"model": {"name": name}, "train": train}).items():
        values[key] = {**values[key], **section} if isinstance(section, dict) else section
    return Recipe.from_dict(values)


RECIPES = {
    "resnet18": RECIPE,
    "conv_fusion": joint("conv_fusion"),
    # Its hundred batch normalisations, over few clips of few pixels, make 1e-3 of 1e-7 in four steps.
    "st_resnet": joint("st_resnet", steps=3, milestones=[], micro_batch=8, lr=1e-4),
}
# What a process does; its arguments are the run's folder, the step after which it kills itself, or 0, and
# which of RECIPES it takes, and the backend of torch.compile, or "".
CODE = f"""
import os, signal, sys
from functools import partialmethod
from pathlib import Path
sys.path[:0] = [{str(ROOT)!r}]
from tests.support.fakes import FakeCorpus
from tests.trainer.training.test_distributed import RECIPES, own
import torch
from trainer.training import distributed, trainer
from trainer.evaluation.evaluate import evaluate

def on_step(done, row):
    if done == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

out, corpus, recipe = Path(sys.argv[1]), FakeCorpus(), RECIPES[sys.argv[3]]
backend = sys.argv[4]
if backend:
    torch.nn.Module.compile = partialmethod(torch.nn.Module.compile, backend=backend)
with distributed.process_group("cpu") as device:
    assert distributed.world_size() == int(os.environ.get("WORLD_SIZE", 1))
    trainer.train(recipe, corpus, own(corpus), out, device=device, compiled=bool(backend), on_step=on_step)
    evaluate(out, corpus, own(corpus).subset(range(5)), device=device).save(out / "scores.npz")
"""


def start(tmp_path, out, *, processes=1, kill=0, name="resnet18", backend=""):
    script = tmp_path / "script.py"
    script.write_text(CODE)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [
        sys.executable,
        *(launch if processes > 1 else []),
        str(script),
        str(out),
        str(kill),
        name,
        backend,
    ]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)


def run_alone(out, name="resnet18", **options):
    corpus = FakeCorpus()
    return train.train(RECIPES[name], corpus, own(corpus), out, device="cpu", **options)


# "eager" only traces, so that no compiler is needed.
@pytest.mark.parametrize(("name", "backend"), [*((name, "") for name in RECIPES), ("conv_fusion", "eager")])
def test_two_processes_take_the_steps_of_one(tmp_path, name, backend):
    """The same batch of 16 in the same four parts, with dropout and batch normalisation.

    The losses agree to 1e-6 in the first step and to 1e-4 in the sixth: only the order of sums differs, which
    steps carry on.
    """
    done = start(tmp_path, tmp_path / "two", processes=2, name=name, backend=backend)
    assert done.returncode == 0, done.stderr
    run_alone(tmp_path / "one", name)
    one, two = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert (
        [row["step"] for row in one]
        == [row["step"] for row in two]
        == list(range(1, RECIPES[name].train.steps + 1))
    )
    np.testing.assert_allclose([r["loss"] for r in two], [r["loss"] for r in one], rtol=1e-4)
    assert two[0]["loss"] == pytest.approx(one[0]["loss"], rel=1e-6)
    assert [r["train_accuracy"] for r in two] == [r["train_accuracy"] for r in one]
    a, b = (checkpoint.load(tmp_path / name / "last.pt").model for name in ("one", "two"))
    for key in a:
        if "running" not in key and "tracked" not in key:  # the first process has seen its parts only
            torch.testing.assert_close(b[key], a[key], rtol=1e-4, atol=1e-5)
    # Judged by two, each with its share, as by one: in validating and afterwards.
    corpus = FakeCorpus()
    held = evaluate(
        tmp_path / "two", corpus, held_out(tmp_path / "two", corpus), frames=1, crops=1, device="cpu"
    )
    right = held.scores[np.arange(len(held.ids)), held.labels]
    assert two[-1]["val_loss"] == pytest.approx(-np.log(right).mean(), rel=1e-5)
    alone = evaluate(tmp_path / "two", corpus, own(corpus).subset(range(5)), device="cpu")
    shared = Scores.load(tmp_path / "two" / "scores.npz")
    assert shared.ids.tolist() == alone.ids.tolist()
    np.testing.assert_allclose(shared.scores, alone.scores, atol=1e-6)


def test_a_killed_process_leaves_a_run_that_goes_on(tmp_path):
    """SIGKILL after step 5, between checkpoints: every step is then taken once, with the samples it had."""
    done = start(tmp_path, tmp_path / "parts", kill=5)
    assert done.returncode == -9
    assert checkpoint.load(tmp_path / "parts" / "last.pt").step == 4
    run_alone(tmp_path / "parts", resume=True)
    run_alone(tmp_path / "whole")
    parts, whole = ([(r["step"], r["loss"]) for r in rows(tmp_path / n)] for n in ("parts", "whole"))
    assert parts == whole


@pytest.mark.parametrize(
    ("world", "most", "lengths"),
    [(1, 0, [256]), (4, 0, [64] * 4), (2, 50, [43] * 4 + [42] * 2), (3, 0, [86, 85, 85]), (3, 1, [1] * 256)],
)
def test_a_batch_is_divided_whole(monkeypatch, world, most, lengths):
    monkeypatch.setattr(distributed, "world_size", lambda: world)
    parts = distributed.microbatches(256, most)
    assert [len(p) for p in parts] == lengths
    assert np.concatenate(parts).tolist() == list(range(256))


def test_refusals(monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: 17)
    with pytest.raises(UsageError, match=r"train.batch is 16 and there are 17 processes"):
        distributed.microbatches(16, 0)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    with (
        pytest.raises(UsageError, match="--device cuda:1: under torchrun each process has its own"),
        distributed.process_group("cuda:1"),
    ):
        pass
