"""Data sets of clips to train on and to evaluate, and their loaders."""

from __future__ import annotations

import logging
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, default_collate

from trainer.data import sampling, transforms
from trainer.data.clip import Clip
from trainer.data.loading import load_clip, resized_shape, stream_length
from trainer.data.sampling import ClipSpec
from trainer.recipe.schema import Recipe

if TYPE_CHECKING:
    from flowprep import Corpus, Video
    from trainer.data.annotations import Examples

log = logging.getLogger(__name__)


class BalancedClips:
    """Training samples, uniform over classes, then over a class's videos, then over places in the video.

    Sample `i` of step `s` follows from (seed, s, i) alone, so neither the number of loader processes nor
    where a run was interrupted changes what is seen.

    Args:
        labels: class of each video, (N,).
        starts: in how many places a clip can start in each video, (N,): see num_starts.
        seed: the run's seed.
    """

    def __init__(self, labels: Sequence[int], starts: Sequence[int], seed: int) -> None:
        by_class: dict[int, list[int]] = {}
        for video, label in enumerate(labels):
            by_class.setdefault(label, []).append(video)
        self._classes = [by_class[label] for label in sorted(by_class)]
        self._starts = starts
        self._seed = seed

    def draw(self, step: int, i: int) -> tuple[int, int, np.random.Generator]:
        """(position of the video, place where the clip starts, generator for the sample's augmentation)."""
        rng = np.random.default_rng([self._seed, step, i])
        videos = self._classes[rng.integers(len(self._classes))]
        video = videos[rng.integers(len(videos))]
        return video, int(rng.integers(self._starts[video])), rng


class TrainingClips(torch.utils.data.Dataset[tuple[Clip, int, int]]):
    """Augmented training samples: item (step, i) is sample i of that step, for head i % H.

    Args:
        heads: for each of the H heads of the network, the corpora and videos that it learns from.
        recipe: what a sample looks like.

    An item is (clip with planes (C, S, S), or (T, C, S, S) for a network of T time steps; class; head).
    """

    def __init__(self, heads: Sequence[Sequence[tuple[Corpus, Examples]]], recipe: Recipe) -> None:
        self._recipe, self._sample = recipe, ClipSpec.from_recipe(recipe)
        self._videos = [[(c, i) for c, some in head for i in some.ids] for head in heads]
        self._labels = [[n for _, some in head for n in some.labels] for head in heads]
        self._clips = []
        for videos, labels in zip(self._videos, self._labels, strict=True):
            starts = [self._num_starts(corpus[i]) for corpus, i in videos]
            self._clips.append(BalancedClips(labels, starts, recipe.seed))

    def _num_starts(self, video: Video) -> int:
        stream, step = self._recipe.stream, video.step
        return sampling.num_starts(stream_length(video, stream), self._sample.length(step))

    def __getitem__(self, key: tuple[int, int]) -> tuple[Clip, int, int]:
        head = key[1] % len(self._clips)
        position, start, rng = self._clips[head].draw(*key)
        corpus, video = self._videos[head][position]
        recipe = self._recipe
        size = recipe.input.crop
        found = corpus[video]
        place: int | np.ndarray = start
        if self._sample.time_steps:
            place = self._sample.draw(rng, stream_length(found, recipe.stream), found.step)
        width, height = resized_shape(found.width, found.height, recipe.input.resize)
        if recipe.input.scales:
            window = transforms.corner_window(rng, height, width, recipe.input.scales)
        else:
            window = (*transforms.random_window(rng, height, width, size), size, size)
        clip = transforms.resize_clip(load_clip(found, place, recipe, window, rng), size)
        if recipe.input.flip and rng.random() < 0.5:
            clip = transforms.flip(clip, recipe.stream)
        if recipe.stream != "temporal" and recipe.input.jitter > 0:
            clip = transforms.shift_colours(clip, transforms.colour_shift(rng, recipe.input.jitter))
        return clip, self._labels[head][position], head


def batch_clips(items: list[tuple[Clip, int, int]]) -> tuple[Clip, torch.Tensor, torch.Tensor]:
    """Training samples as one clip with planes (B, ..., S, S), classes (B,) and heads (B,)."""
    if len({clip.planes.dtype for clip, *_ in items}) > 1:  # some videos were resized, others had the size
        items = [(clip._replace(planes=clip.planes.float()), y, head) for clip, y, head in items]
    # Frames lie channels last, as they were decoded and as networks are fastest: see models.channels_last.
    if last := items[0][0].planes.stride(-3) == 1:
        items = [(clip._replace(planes=clip.planes.movedim(-3, -1)), y, head) for clip, y, head in items]
    clip, y, head = default_collate(items)
    return (clip._replace(planes=clip.planes.movedim(-1, -3)) if last else clip), y, head


class EvalClips(torch.utils.data.Dataset[tuple[int, Clip]]):
    """Whole frames to judge videos by: item k is clip k % frames of video k // frames.

    An item is (position of the video, clip with planes (C, H, W), or (T, C, H, W)).
    """

    def __init__(self, corpus: Corpus, ids: tuple[str, ...], recipe: Recipe, frames: int) -> None:
        self._corpus, self._ids, self._recipe, self._frames = corpus, ids, recipe, frames

    def __len__(self) -> int:
        return len(self._ids) * self._frames

    def __getitem__(self, key: int) -> tuple[int, Clip]:
        position, k = divmod(key, self._frames)
        video = self._corpus[self._ids[position]]
        count = stream_length(video, self._recipe.stream)
        places = ClipSpec.from_recipe(self._recipe, evaluation=True).spaced(count, video.step, self._frames)
        return position, load_clip(video, places[k], self._recipe)


def workers_that_fit(workers: int, size: int) -> int:
    """At most `workers` loader processes: as many as find room for items of `size` bytes.

    They hand them over in shared memory, two waiting and one in work each; where it runs out, a process is
    killed.
    """
    shared = Path("/dev/shm")
    if workers and shared.is_dir() and (free := shutil.disk_usage(shared).free) < 3 * workers * size:
        fit = int(free // (3 * size))
        log.warning("/dev/shm has %d MB left, room for %d loader processes, not %d", free >> 20, fit, workers)
        return fit
    return workers


def make_loader(clips: torch.utils.data.Dataset[Any], workers: int, **options: Any) -> DataLoader[Any]:
    """A loader with `workers` forked processes; 0 loads in this one. `options` are torch's."""
    # Here and not in the processes: OpenCV's pool of threads does not live through a fork, and a child that
    # uses it, or only changes its size, waits for threads that are not there.
    cv2.setNumThreads(1)
    # A generator of its own, so that loading leaves the training's random state alone.
    return DataLoader(
        clips,
        num_workers=workers,
        generator=torch.Generator(),
        worker_init_fn=_end_with_parent,
        **options,
    )


def _end_with_parent(_: int) -> None:
    """Live on when a terminal interrupts all processes: the parent acts on it, and ends its loaders."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    said = sys.excepthook

    def hook(kind: type[BaseException], *more: Any) -> None:
        # A parent that is interrupted hangs up on whoever hands it a batch: nothing to tell of.
        if not issubclass(kind, (ConnectionError, EOFError)):
            said(kind, *more)

    sys.excepthook = hook
