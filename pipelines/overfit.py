#!/usr/bin/env python3
"""Whether a network learns at all: eight clips by heart.

    pipelines/overfit.py RECIPE.toml --corpus CORPUS [--set KEY=VALUE] [--steps 200] [--below 0.01]

A clip is drawn once from each of eight videos, as training does, and the recipe's network learns from this
one batch until its loss is below the bound, by the recipe's optimiser, at a constant rate and without
dropout. Gradients longer than 10 are shortened to it, for no schedule leads through a steep beginning.
The exit code is 1 where the loss stays above.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

import torch

from flowprep import open_corpus
from trainer.data import dataset, loading
from trainer.data.annotations import corpus_examples
from trainer.data.sampling import ClipSpec
from trainer.models import layers, objective, registry, weights
from trainer.recipe.toml import read_recipe
from trainer.training.device import autocast, pick_device, pick_precision

CLIPS, LONGEST = 8, 10.0  # clips of the batch; norm of a gradient


def main() -> int:
    """Parse, learn, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--below", type=float, default=0.01)
    args = parser.parse_args()

    recipe = read_recipe(args.recipe, args.changes)
    recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, dropout=0.0))
    registry.check_recipe(recipe)
    corpus = open_corpus(args.corpus)
    examples = corpus_examples(corpus, "all")
    if len(examples) < CLIPS:
        parser.error(f"{args.corpus} holds {len(examples)} videos with a class; {CLIPS} are needed")
    # Equally spaced in the list, which is in the order of the classes.
    examples = examples.subset(range(0, len(examples), len(examples) // CLIPS)[:CLIPS])
    loading.check_fit(corpus, examples.ids, recipe)

    where = pick_device()
    precision = pick_precision(recipe.train.precision, where)
    items = [
        dataset.TrainingClips([[(corpus, examples.subset([k]))]], recipe)[0, k] for k in range(len(examples))
    ]
    clip, y, _ = dataset.batch_clips(items)
    x, y = ClipSpec.from_recipe(recipe).tensors(clip.to(where)), y.to(where)

    torch.manual_seed(recipe.seed)
    model = registry.make_model(recipe, len(examples.classes))
    weights.start_from_weights(model, recipe, examples.classes)
    layers.channels_last(model.to(where))
    weights.set_training(model)
    learning = [p for p in model.parameters() if p.requires_grad]
    given = recipe.train
    optimizer = torch.optim.SGD(
        learning, lr=given.lr, momentum=given.momentum, weight_decay=given.weight_decay
    )
    print(
        f"{recipe.model.name}, {recipe.stream}: {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M "
        f"parameters, {' and '.join('x'.join(map(str, part.shape)) for part in x)}, "
        f"{len(set(y.tolist()))} classes, rate {given.lr}, on {where} in {precision}",
        flush=True,
    )
    began = time.perf_counter(), time.process_time()
    for step in range(args.steps + 1):
        optimizer.zero_grad()
        with autocast(precision, where):
            logits = model(*x)
        loss = objective.losses(model, logits, y).mean()
        done = loss.item() < args.below
        if done or step % 10 == 0:
            print(f"step {step}: loss {loss.item():.4f}", flush=True)
        if done or step == args.steps or not torch.isfinite(loss):
            break
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, LONGEST)
        optimizer.step()
    wall, worked = time.perf_counter() - began[0], time.process_time() - began[1]
    print(
        f"{'below' if done else 'NOT below'} {args.below} after {step} steps, {wall:.0f} s, "
        f"{worked:.0f} s of processor time"
    )
    return 0 if done else 1


if __name__ == "__main__":
    raise SystemExit(main())
