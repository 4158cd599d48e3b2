#!/usr/bin/env python3
"""Measure what the options of data sets of clips cost, on a corpus.

    python pipelines/bench/datasets.py CORPUS [--crop N] [--rounds N]

Each line is one way to read random clips. The times are those of the processor, of this process and its
workers, for one clip: the median of rounds in which the ways take turns. Other work on the machine therefore
changes them little. The last line has the growth of the memory over 1,000 batches.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

import flowprep
from flowprep.torch import ClipDataset, ClipLoader, ClipSampler, ClipStream, collate
from trainer.data.annotations import corpus_examples
from trainer.data.dataset import TrainingClips
from trainer.data.loaders import BatchLoader
from trainer.recipe.toml import read_recipe

BATCH = 25
# Several clips a video, so that the start of worker processes does not count much.
COMMON: dict[str, Any] = {"length": 10, "content": "codes", "mirror": True, "stride": 16}


def loader(corpus: flowprep.Corpus, **options: Any) -> Callable[[], Iterable[Any]]:
    """A plain DataLoader of a data set. `workers` and `collate_fn` are options of the loader."""
    workers, collate_fn = options.pop("workers", 0), options.pop("collate_fn", collate)
    clips = ClipDataset(corpus, random=True, **{**COMMON, **options})
    sampler = ClipSampler(clips)
    return lambda: DataLoader(clips, BATCH, sampler=sampler, num_workers=workers, collate_fn=collate_fn)


def trainer_loader(corpus: flowprep.Corpus, crop: int, *, floats: bool) -> Callable[[], Iterable[Any]]:
    """The loader of trainer in one process, with its conversion to float32 on the processor if `floats`."""
    changes = ["input.resize=0", f"input.crop={crop}", "input.stack=10", f"train.batch={BATCH}"]
    recipe = read_recipe(Path(__file__).parents[1] / "ucf101" / "small" / "temporal.toml", changes)
    clips = TrainingClips([[(corpus, corpus_examples(corpus, "all"))]], recipe)
    batches, steps = BatchLoader(clips, BATCH, workers=0), itertools.count()

    def read() -> Iterable[Any]:
        keys = [[(step, i) for i in range(BATCH)] for step in itertools.islice(steps, 20)]
        for clip, labels, _ in batches.batches(keys):
            if floats:
                clip.normalised()
            yield {"label": labels}

    return read


def ways(corpus: flowprep.Corpus, crop: int) -> dict[str, Callable[[], Iterable[Any]]]:
    """What is measured, by name: each gives the batches of an epoch."""
    small = {"resize": crop * 8 // 14, "crop": crop // 2}
    source = flowprep.ClipSource(corpus, crop=crop, random=True, **COMMON)
    epochs = itertools.count()

    def stream() -> Iterable[Any]:
        clips = ClipStream(ClipDataset(source), BATCH)
        clips.set_epoch(next(epochs))
        return clips

    return {
        "stacks of 10 codes": loader(corpus, crop=crop),
        "trainer": trainer_loader(corpus, crop, floats=False),
        "content=flow": loader(corpus, crop=crop, content="flow"),
        "subtract_mean": loader(corpus, crop=crop, subtract_mean=True),
        "content=flow, subtract_mean": loader(corpus, crop=crop, content="flow", subtract_mean=True),
        "trainer, to float32": trainer_loader(corpus, crop, floats=True),
        "whole frames": loader(corpus),
        "crops=10": loader(corpus, crop=crop, crops=10, mirror=False),
        "segments=3": loader(corpus, crop=crop, segments=3, stride=0),
        f"resize={small['resize']}, crop={small['crop']}": loader(corpus, **small),
        f"content=rgb, length=1, crop={crop}": loader(corpus, crop=crop, content="rgb", length=1),
        f"content=rgb, length=10, crop={crop}": loader(corpus, crop=crop, content="rgb"),
        "without collate_fn=collate": loader(corpus, crop=crop, collate_fn=None),
        "content=flow without collate": loader(corpus, crop=crop, content="flow", collate_fn=None),
        "2 workers": loader(corpus, crop=crop, workers=2),
        "2 workers, without collate": loader(corpus, crop=crop, workers=2, collate_fn=None),
        "ClipStream": stream,
        "ClipLoader, 2 threads": lambda: ClipLoader(ClipDataset(source), BATCH),
        "ClipBatches, 2 threads": lambda: flowprep.ClipBatches(source, BATCH),
    }


def clip_seconds(read: Callable[[], Iterable[Any]]) -> float:
    """Seconds of the processor for one clip of an epoch."""
    before, count = _processor_seconds(), 0
    for batch in read():
        count += len(batch["label"])
    return (_processor_seconds() - before) / count


def _processor_seconds() -> float:
    """Time of the processor in this process and in the workers that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def growth(read: Callable[[], Iterable[Any]], batches: int) -> float:
    """Megabytes by which the greatest memory of the process grows while so many batches are read."""
    grown, count = 0.0, 0
    while count < batches:
        for _ in read():
            count += 1
        if not grown:
            grown = -_greatest_memory()  # after the first epoch, which opens files and fills caches
    return grown + _greatest_memory()


def _greatest_memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--crop", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=1000, help="batches of the measurement of memory")
    args = parser.parse_args()
    torch.set_num_threads(1)
    measured = ways(flowprep.open_corpus(args.corpus), args.crop)
    seconds: dict[str, list[float]] = {name: [] for name in measured}
    for number in range(args.rounds + 1):
        for name, read in measured.items():
            if (value := clip_seconds(read)) and number:  # the first round fills caches
                seconds[name].append(value)
    first = statistics.median(next(iter(seconds.values())))
    for name, values in seconds.items():
        value = statistics.median(values)
        print(f"{name:34} {value * 1e6:8.0f} us a clip   {1 / value:7.0f} clips/s   x {value / first:.2f}")
    grown = growth(measured["content=flow"], args.batches)
    print(f"memory: {grown:+.0f} MB over {args.batches} batches of {BATCH} stacks of flow")


if __name__ == "__main__":
    main()
