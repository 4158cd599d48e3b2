#!/usr/bin/env python3
"""The overhead of the trainer: a training step and an evaluation, against loops written by hand.

    pipelines/bench/by_hand.py RECIPE.toml --corpus CORPUS [--set KEY=VALUE] [--rounds 5] [--videos 4]

Both sides use the same modules and see the same videos, loaded in the same process. They run in turn. A step
is forward pass, loss, backward pass and optimiser. An evaluation is all crops of all clips of the videos. The
output has the medians over the rounds: both times, and their ratio within a round.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import torch

from flowprep import open_corpus
from trainer.data import dataset, transforms
from trainer.data.annotations import corpus_examples
from trainer.data.clip import Clip
from trainer.data.sampling import ClipSpec
from trainer.evaluation.features import CROPS_PER_PASS, score_videos
from trainer.models import layers, objective, registry, weights
from trainer.recipe.schema import Recipe
from trainer.recipe.toml import read_recipe
from trainer.training.device import autocast, pick_device
from trainer.training.precision import training_precision
from trainer.training.trainer import train

WARM_UP_STEPS, TIMED_STEPS = 2, 4


class Benchmark:
    """A recipe and a corpus, and the four timed operations.

    Args:
        recipe: the recipe; its schedule is shortened.
        corpus: folder of the corpus.
        num_videos: number of evaluated videos.
    """

    def __init__(self, recipe: Recipe, corpus: Path, num_videos: int) -> None:
        schedule = dataclasses.replace(
            recipe.train,
            steps=WARM_UP_STEPS + TIMED_STEPS,
            milestones=(),
            validation_share=0.0,
            keep="last",
            checkpoint_every=10**9,
            log_every=10**9,
        )
        self.recipe = dataclasses.replace(recipe, train=schedule)
        self.corpus = open_corpus(corpus)
        self.examples = corpus_examples(self.corpus, "all")
        self.ids = self.examples.ids[:: max(1, len(self.examples) // num_videos)][:num_videos]
        self.device = pick_device()
        self.precision = training_precision(recipe.train.precision, "", self.device, self.model())

    def model(self) -> torch.nn.Module:
        """A network with the same random weights each time."""
        torch.manual_seed(0)
        model = registry.make_model(self.recipe, len(self.examples.classes)).to(self.device)
        layers.channels_last(model)
        return model

    def step(self) -> float:
        """Seconds of a step of the trainer."""
        times: list[float] = []
        with tempfile.TemporaryDirectory() as folder:
            train(
                self.recipe,
                self.corpus,
                self.examples,
                Path(folder) / "run",
                on_step=lambda *_: times.append(time.perf_counter()),
            )
        return _median_step(times)

    def step_by_hand(self) -> float:
        """Seconds of a step of a loop written by hand."""
        model = self.model()
        weights.set_training(model)
        optimiser = torch.optim.SGD(
            [parameter for parameter in model.parameters() if parameter.requires_grad],
            lr=self.recipe.train.lr,
            momentum=self.recipe.train.momentum,
            weight_decay=self.recipe.train.weight_decay,
        )
        times = []
        for inputs, labels in self._batches():
            optimiser.zero_grad()
            with autocast(self.precision, self.device):
                logits = model(*inputs)
            objective.losses(model, logits.float(), labels).mean().backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            times.append(time.perf_counter())
        return _median_step(times)

    def _batches(self) -> Iterator[tuple[list[torch.Tensor], torch.Tensor]]:
        clips = dataset.TrainingClips([[(self.corpus, self.examples)]], self.recipe)
        spec = ClipSpec.from_recipe(self.recipe)
        for step in range(WARM_UP_STEPS + TIMED_STEPS):
            clip, labels, _ = clips.batch([(step, i) for i in range(self.recipe.train.batch)])
            yield spec.tensors(clip.to(self.device)), labels.to(self.device)

    def evaluation(self, model: torch.nn.Module) -> float:
        """Seconds of an evaluation by the trainer."""
        test = self.recipe.test
        began = time.perf_counter()
        score_videos(
            model,
            self.corpus,
            self.ids,
            self.recipe,
            classes=len(self.examples.classes),
            frames=test.frames,
            crops=test.crops,
            whole=test.whole,
            device=self.device,
            precision=self.precision,
        )
        return time.perf_counter() - began

    def evaluation_by_hand(self, model: torch.nn.Module) -> float:
        """Seconds of an evaluation written by hand."""
        test = self.recipe.test
        spec = ClipSpec.from_recipe(self.recipe, evaluation=True)
        clips_at_once = max(1, CROPS_PER_PASS // (test.crops * max(1, spec.time_steps)))
        began = time.perf_counter()
        clips = dataset.EvalClips(self.corpus, self.ids, self.recipe, test.frames)
        for start in range(0, len(clips), clips_at_once):
            batch = [clips[i][1] for i in range(start, min(start + clips_at_once, len(clips)))]
            size = 0 if test.whole else self.recipe.input.crop
            crops = [transforms.fixed_crops(clip, size, test.crops, self.recipe.stream) for clip in batch]
            inputs = spec.tensors(Clip(*map(torch.cat, zip(*crops, strict=True))).to(self.device))
            with torch.inference_mode(), autocast(self.precision, self.device):
                model(*inputs).float().softmax(1).view(len(batch), test.crops, -1).mean(1).cpu()
        return time.perf_counter() - began


def main() -> None:
    """Parse the arguments, measure, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds")
    parser.add_argument("--videos", type=int, default=4, help="number of evaluated videos")
    args = parser.parse_args()

    benchmark = Benchmark(read_recipe(args.recipe, args.changes), args.corpus, args.videos)
    recipe, test = benchmark.recipe, benchmark.recipe.test
    threads = torch.get_num_threads()
    print(
        f"{recipe.model.name}, {recipe.stream}, on {benchmark.device} in {benchmark.precision},"
        f" {threads} threads"
    )
    title = f"a step of {recipe.train.batch} clips of {recipe.input.crop} pixels"
    report(title, benchmark.step, benchmark.step_by_hand, args.rounds)
    model = benchmark.model().eval()
    report(
        f"evaluating {len(benchmark.ids)} videos by {test.frames} x {test.crops} crops",
        lambda: benchmark.evaluation(model),
        lambda: benchmark.evaluation_by_hand(model),
        args.rounds,
    )


def report(title: str, trainer: Callable[[], float], by_hand: Callable[[], float], rounds: int) -> None:
    """Time both in turn and print the medians. The first round does not count."""
    times = [(trainer(), by_hand()) for _ in range(rounds + 1)][1:]
    own, other = (statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(first / second for first, second in times)
    print(f"{title}: {own:.3f} s, by hand {other:.3f} s, {ratio:.2f} times", flush=True)


def _median_step(times: Sequence[float]) -> float:
    """Median time between two steps, without the first ones and the last, which writes a checkpoint."""
    timed = times[WARM_UP_STEPS - 1 : -1]
    return statistics.median(later - earlier for earlier, later in pairwise(timed))


if __name__ == "__main__":
    main()
