#!/usr/bin/env python3
"""What the trainer costs: a training step and judging, against loops written by hand over the same modules.

    pipelines/by_hand.py RECIPE.toml --corpus CORPUS [--set KEY=VALUE] [--rounds 5] [--videos 4]

Both see the same videos, loaded in the same process, and take turns; a step is forward, loss, backward and
the optimiser's, judging is all crops of all clips of the videos. Printed are medians over the rounds, of the
times and of their ratio within a round.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from flowprep import open_corpus
from trainer.data import dataset, transforms
from trainer.data.annotations import corpus_examples
from trainer.data.clip import Clip
from trainer.data.sampling import ClipSpec
from trainer.evaluation.evaluate import score_videos
from trainer.models import layers, objective, registry, weights
from trainer.recipe.toml import read_recipe
from trainer.training.device import autocast, pick_device, pick_precision
from trainer.training.trainer import train

WARM, TIMED = 2, 4  # steps of a round


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--videos", type=int, default=4, help="how many are judged")
    args = parser.parse_args()

    recipe = read_recipe(args.recipe, args.changes)
    steps = dataclasses.replace(
        recipe.train,
        steps=WARM + TIMED,
        milestones=(),
        validation_share=0.0,
        keep="last",
        checkpoint_every=10**9,
        log_every=10**9,
    )
    recipe = dataclasses.replace(recipe, train=steps)
    corpus = open_corpus(args.corpus)
    examples = corpus_examples(corpus, "all")
    ids = examples.ids[:: max(1, len(examples) // args.videos)][: args.videos]
    where = pick_device()
    precision = pick_precision(recipe.train.precision, where)

    def ours() -> float:
        marks: list[float] = []
        with tempfile.TemporaryDirectory() as folder:
            train(
                recipe,
                corpus,
                examples,
                Path(folder) / "run",
                on_step=lambda *_: marks.append(time.perf_counter()),
            )
        # The last step ends with a checkpoint.
        return statistics.median(b - a for a, b in zip(marks[WARM - 1 : -1], marks[WARM:-1], strict=False))

    clips = dataset.TrainingClips([[(corpus, examples)]], recipe)
    sample = ClipSpec.from_recipe(recipe)

    def fresh() -> torch.nn.Module:
        torch.manual_seed(0)
        return layers.channels_last(registry.make_model(recipe, len(examples.classes)).to(where))

    def batches() -> Iterator[tuple[list[torch.Tensor], torch.Tensor]]:
        for step in range(WARM + TIMED):
            clip, y, _ = dataset.batch_clips([clips[step, i] for i in range(recipe.train.batch)])
            yield sample.tensors(clip.to(where)), y.to(where)

    def by_hand() -> float:
        model = fresh()
        weights.set_training(model)
        optimizer = torch.optim.SGD(
            [p for p in model.parameters() if p.requires_grad],
            lr=recipe.train.lr,
            momentum=recipe.train.momentum,
            weight_decay=recipe.train.weight_decay,
        )
        marks = []
        for x, y in batches():
            optimizer.zero_grad()
            with autocast(precision, where):
                logits = model(*x)
            objective.losses(model, logits.float(), y).mean().backward()
            optimizer.step()
            marks.append(time.perf_counter())
        return statistics.median(b - a for a, b in zip(marks[WARM - 1 : -1], marks[WARM:-1], strict=False))

    print(
        f"{recipe.model.name}, {recipe.stream}, on {where} in {precision}, {torch.get_num_threads()} threads"
    )
    report(f"a step of {recipe.train.batch} clips of {recipe.input.crop} pixels", ours, by_hand, args.rounds)

    model = fresh().eval()
    frames, crops, whole = recipe.test.frames, recipe.test.crops, recipe.test.whole
    judged = ClipSpec.from_recipe(recipe, evaluation=True)
    at_once = max(1, 128 // (crops * max(1, judged.steps)))

    def judge() -> float:
        began = time.perf_counter()
        options = {"classes": len(examples.classes), "frames": frames, "crops": crops, "whole": whole}
        score_videos(model, corpus, ids, recipe, device=where, precision=precision, **options)
        return time.perf_counter() - began

    def judge_by_hand() -> float:
        began = time.perf_counter()
        shown = dataset.EvalClips(corpus, ids, recipe, frames)
        for k in range(0, len(shown), at_once):
            some = [shown[j][1] for j in range(k, min(k + at_once, len(shown)))]
            size = 0 if whole else recipe.input.crop
            cut = [transforms.fixed_crops(clip, size, crops, recipe.stream) for clip in some]
            x = judged.tensors(Clip(*map(torch.cat, zip(*cut, strict=True))).to(where))
            with torch.inference_mode(), autocast(precision, where):
                model(*x).float().softmax(1).view(len(some), crops, -1).mean(1).cpu()
        return time.perf_counter() - began

    report(f"judging {len(ids)} videos by {frames} x {crops} crops", judge, judge_by_hand, args.rounds)


def report(what: str, ours: object, by_hand: object, rounds: int) -> None:
    """Time both in turn, and print the medians."""
    times = [(ours(), by_hand()) for _ in range(rounds + 1)][1:]  # type: ignore[operator]
    mine, theirs = (statistics.median(some) for some in zip(*times, strict=True))
    ratio = statistics.median(a / b for a, b in times)
    print(f"{what}: {mine:.3f} s, by hand {theirs:.3f} s, {ratio:.2f} times", flush=True)


if __name__ == "__main__":
    main()
