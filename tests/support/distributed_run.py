"""A program that trains and evaluates on the corpus in memory, in one process or in several under torchrun.

    distributed_run.py OUT KILL RECIPE BACKEND

KILL is the step after which the process kills itself, or 0. RECIPE is a key of RECIPES. BACKEND is that of
torch.compile, or "".
"""

import os
import signal
import sys
from dataclasses import replace
from functools import partialmethod
from pathlib import Path

import torch

from tests.support.fakes import FakeCorpus, examples_of, small
from trainer.evaluation.evaluate import evaluate
from trainer.recipe.schema import Recipe
from trainer.training import distributed
from trainer.training.trainer import train

BASE = small(
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
    """The recipe of a joint network."""
    values = BASE.to_dict()
    model = {"name": name, "options": {"stop": False} if name == "conv_fusion" else {}}
    for key, section in (JOINT | {"model": model, "train": train}).items():
        values[key] = {**values[key], **section} if isinstance(section, dict) else section
    return Recipe.from_dict(values)


RECIPES = {
    "resnet18": BASE,
    "sync": replace(
        BASE, model=replace(BASE.model, dropout=0.0), train=replace(BASE.train, sync_batch_norm=True)
    ),
    "conv_fusion": joint("conv_fusion"),
    # Its hundred batch normalisations, over few clips of few pixels, make 1e-3 of 1e-7 in four steps.
    "st_resnet": joint("st_resnet", steps=3, milestones=[], micro_batch=8, lr=1e-4),
}


def main(out, kill, name, backend):
    """Train into the folder, and evaluate five videos."""

    def on_step(done, row):
        if done == kill:
            os.kill(os.getpid(), signal.SIGKILL)

    if backend:
        torch.nn.Module.compile = partialmethod(torch.nn.Module.compile, backend=backend)
    corpus = FakeCorpus()
    examples = examples_of(corpus)
    with distributed.process_group("cpu") as device:
        assert distributed.world_size() == int(os.environ.get("WORLD_SIZE", 1))
        train(RECIPES[name], corpus, examples, out, device=device, compiled=bool(backend), on_step=on_step)
        evaluate(out, corpus, examples.subset(range(5)), device=device).save(out / "scores.npz")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
