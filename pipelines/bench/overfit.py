#!/usr/bin/env python3
"""Test whether a network can learn: it has to overfit eight clips.

    pipelines/bench/overfit.py RECIPE.toml --corpus CORPUS [--set KEY=VALUE] [--steps 200] [--below 0.01]

One clip of each of eight videos is drawn as in training. The network of the recipe learns this one batch
until its loss is below the bound. It uses the optimiser of the recipe, with a constant rate and without
dropout. Gradients are clipped to a norm of 10, because there is no schedule for a steep beginning. The exit
code is 1 if the loss stays above the bound.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

import torch

from flowprep import Corpus, open_corpus
from trainer.data import dataset, loading
from trainer.data.annotations import Examples, corpus_examples
from trainer.data.clip import Clip
from trainer.data.sampling import ClipSpec
from trainer.models import layers, objective, registry, weights
from trainer.recipe.schema import Recipe
from trainer.recipe.toml import read_recipe
from trainer.training.device import autocast, pick_device
from trainer.training.precision import training_precision

NUM_CLIPS, MAX_GRADIENT_NORM = 8, 10.0


def main() -> int:
    """Parse the arguments, train, and print the losses. Returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--steps", type=int, default=200, help="number of steps, at most")
    parser.add_argument("--below", type=float, default=0.01, help="bound of the loss")
    args = parser.parse_args()

    recipe = read_recipe(args.recipe, args.changes)
    recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, dropout=0.0))
    registry.check_recipe(recipe)
    corpus = open_corpus(args.corpus)
    examples = corpus_examples(corpus, "all")
    if len(examples) < NUM_CLIPS:
        parser.error(f"{args.corpus} has {len(examples)} videos with a class; {NUM_CLIPS} are needed")
    # Evenly spaced in the list, which is sorted by class.
    examples = examples.subset(range(0, len(examples), len(examples) // NUM_CLIPS)[:NUM_CLIPS])
    loading.check_fit(corpus, examples.ids, recipe)
    device = pick_device()
    inputs, labels = draw_batch(recipe, corpus, examples, device)
    model = make_model(recipe, examples, device)
    print(
        f"{recipe.model.name}, {recipe.stream}: {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M "
        f"parameters, {' and '.join('x'.join(map(str, part.shape)) for part in inputs)}, "
        f"{len(set(labels.tolist()))} classes, rate {recipe.train.lr}, "
        f"on {device} in {training_precision(recipe.train.precision, '', device, model)}",
        flush=True,
    )
    return 0 if learn(model, recipe, inputs, labels, args.steps, args.below) else 1


def draw_batch(
    recipe: Recipe, corpus: Corpus, examples: Examples, device: torch.device
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """One training clip of each example: inputs of the network, and labels."""
    items = [
        dataset.TrainingClips([[(corpus, examples.subset([k]))]], recipe)[0, k] for k in range(len(examples))
    ]
    clip = Clip(*map(torch.stack, zip(*(clip for clip, *_ in items), strict=True)))
    labels = torch.tensor([label for _, label, _ in items])
    return ClipSpec.from_recipe(recipe).tensors(clip.to(device)), labels.to(device)


def make_model(recipe: Recipe, examples: Examples, device: torch.device) -> torch.nn.Module:
    """The network of the recipe with its start weights."""
    torch.manual_seed(recipe.seed)
    model = registry.make_model(recipe, len(examples.classes))
    weights.start_from_weights(model, recipe, examples.classes)
    layers.channels_last(model.to(device))
    weights.set_training(model)
    return model


def learn(
    model: torch.nn.Module,
    recipe: Recipe,
    inputs: list[torch.Tensor],
    labels: torch.Tensor,
    steps: int,
    bound: float,
) -> bool:
    """Train on one batch and print the losses. Returns whether the loss fell below the bound."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    schedule = recipe.train
    optimiser = torch.optim.SGD(
        parameters, lr=schedule.lr, momentum=schedule.momentum, weight_decay=schedule.weight_decay
    )
    precision = training_precision(schedule.precision, "", labels.device, model)
    wall, processor = time.perf_counter(), time.process_time()
    done = False
    for step in range(steps + 1):
        optimiser.zero_grad()
        with autocast(precision, labels.device):
            logits = model(*inputs)
        loss = objective.losses(model, logits, labels).mean()
        done = loss.item() < bound
        if done or step % 10 == 0:
            print(f"step {step}: loss {loss.item():.4f}", flush=True)
        if done or step == steps or not torch.isfinite(loss):
            break
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, MAX_GRADIENT_NORM)
        optimiser.step()
    print(
        f"{'below' if done else 'NOT below'} {bound} after {step} steps, {time.perf_counter() - wall:.0f} s, "
        f"{time.process_time() - processor:.0f} s of processor time"
    )
    return done


if __name__ == "__main__":
    raise SystemExit(main())
