"""Data sets of clips to train on and to evaluate, and their loaders."""

from __future__ import annotations

import logging
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, default_collate

from flowprep.system.signals import SIGNALS, blocked
from trainer.data import transforms
from trainer.data.clip import Clip, Window
from trainer.data.loading import load_clip, stream_length
from trainer.data.sampling import ClipSpec, num_starts
from trainer.errors import LOADER_DIED
from trainer.recipe.schema import Recipe

if TYPE_CHECKING:
    from flowprep import Corpus, Video
    from trainer.data.annotations import Examples

log = logging.getLogger(__name__)

# Items that a loader process keeps in shared memory: two that wait and one in work.
_ITEMS_IN_MEMORY = 3


class BalancedClips:
    """Random training samples: uniform over classes, then over the videos of the class, then over positions.

    Sample `i` of step `s` depends on (seed, s, i) only. Neither the number of loader processes nor an
    interruption of the run changes it.

    Args:
        labels: class of each video, (N,).
        starts: number of positions at which a clip can start in each video, (N,): see num_starts.
        seed: seed of the run.
    """

    def __init__(self, labels: Sequence[int], starts: Sequence[int], seed: int) -> None:
        by_class: dict[int, list[int]] = {}
        for video, label in enumerate(labels):
            by_class.setdefault(label, []).append(video)
        self._classes = [by_class[label] for label in sorted(by_class)]
        self._starts = starts
        self._seed = seed

    def draw(self, step: int, i: int) -> tuple[int, int, np.random.Generator]:
        """(number of the video, position at which the clip starts, generator of the augmentation)."""
        rng = np.random.default_rng([self._seed, step, i])
        videos = self._classes[rng.integers(len(self._classes))]
        video = videos[rng.integers(len(videos))]
        return video, int(rng.integers(self._starts[video])), rng


class TrainingClips(torch.utils.data.Dataset[tuple[Clip, int, int]]):
    """Augmented training samples. Item (step, i) is sample i of the step; it is of head i % H.

    An item is (clip, class, head). The planes of the clip are (C, S, S), or (T, C, S, S) with time steps.

    Args:
        heads: for each of the H heads of the network, the data sets that it learns from.
        recipe: what a sample consists of.
    """

    def __init__(self, heads: Sequence[Sequence[tuple[Corpus, Examples]]], recipe: Recipe) -> None:
        self._recipe, self._spec = recipe, ClipSpec.from_recipe(recipe)
        self._videos = [[(corpus, i) for corpus, videos in head for i in videos.ids] for head in heads]
        self._labels = [[label for _, videos in head for label in videos.labels] for head in heads]
        self._clips = []
        for videos, labels in zip(self._videos, self._labels, strict=True):
            starts = [self._num_starts(corpus[i]) for corpus, i in videos]
            self._clips.append(BalancedClips(labels, starts, recipe.seed))

    def _num_starts(self, video: Video) -> int:
        return num_starts(stream_length(video, self._recipe.stream), self._spec.length(video.step))

    def __getitem__(self, key: tuple[int, int]) -> tuple[Clip, int, int]:
        head = key[1] % len(self._clips)
        number, start, rng = self._clips[head].draw(*key)
        corpus, video_id = self._videos[head][number]
        video = corpus[video_id]
        position: int | np.ndarray = start
        if self._spec.time_steps:
            position = self._spec.draw(rng, stream_length(video, self._recipe.stream), video.step)
        window = self._draw_window(rng, video)
        clip = load_clip(video, position, self._recipe, window, rng)
        return self._augment(rng, clip), self._labels[head][number], head

    def _draw_window(self, rng: np.random.Generator, video: Video) -> Window:
        section = self._recipe.input
        width, height = transforms.resized_shape(video.width, video.height, section.resize)
        if section.scales:
            return transforms.corner_window(rng, height, width, section.scales)
        return (*transforms.random_window(rng, height, width, section.crop), section.crop, section.crop)

    def _augment(self, rng: np.random.Generator, clip: Clip) -> Clip:
        section, stream = self._recipe.input, self._recipe.stream
        clip = transforms.resize_clip(clip, section.crop)
        if section.flip and rng.random() < 0.5:
            clip = transforms.flip(clip, stream)
        if stream != "temporal" and (section.colour > 0 or section.grey > 0):
            clip = transforms.jitter_colours(clip, rng, section.colour, section.grey)
        if stream != "temporal" and section.jitter > 0:
            clip = transforms.shift_colours(clip, transforms.colour_shift(rng, section.jitter))
        return clip


def batch_clips(items: list[tuple[Clip, int, int]]) -> tuple[Clip, torch.Tensor, torch.Tensor]:
    """Join training samples to one clip with planes (B, ..., S, S), classes (B,) and heads (B,)."""
    # Resized planes are float32, and those of a video that has the size already are uint8.
    if len({clip.planes.dtype for clip, *_ in items}) > 1:
        items = [(clip._replace(planes=clip.planes.float()), y, head) for clip, y, head in items]
    # Decoded frames are channels last in memory, which is also fastest for networks: the batch keeps it.
    if channels_last := items[0][0].planes.stride(-3) == 1:
        items = [(clip._replace(planes=clip.planes.movedim(-3, -1)), y, head) for clip, y, head in items]
    clip, y, head = default_collate(items)
    return (clip._replace(planes=clip.planes.movedim(-1, -3)) if channels_last else clip), y, head


class EvalClips(torch.utils.data.Dataset[tuple[int, Clip]]):
    """Whole frames of equally spaced clips, to evaluate, video after video.

    An item is (number of the video, clip). The planes of the clip are (C, H, W), or (T, C, H, W) with time
    steps. A short video has fewer positions than clips: a clip that it shows several times is one item.

    Args:
        corpus, ids: the videos.
        recipe: what a clip consists of.
        frames: number of clips of each video.

    Attributes:
        counts: how often the video shows the clip of each item; `frames` in all for each video.
    """

    def __init__(self, corpus: Corpus, ids: tuple[str, ...], recipe: Recipe, frames: int) -> None:
        self._corpus, self._ids, self._recipe = corpus, ids, recipe
        spec = ClipSpec.from_recipe(recipe, evaluation=True)
        self._items: list[tuple[int, int | np.ndarray]] = []
        self.counts: list[int] = []
        for number, video in enumerate(corpus[i] for i in ids):
            positions = spec.spaced(stream_length(video, recipe.stream), video.step, frames)
            counts = Counter(tuple(np.atleast_1d(position).tolist()) for position in positions)
            self._items += [(number, p[0] if spec.time_steps == 0 else np.array(p)) for p in counts]
            self.counts += counts.values()

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, key: int) -> tuple[int, Clip]:
        number, position = self._items[key]
        return number, load_clip(self._corpus[self._ids[number]], position, self._recipe)


def workers_that_fit(workers: int, size: int) -> int:
    """The number of loader processes for which shared memory has room, at most `workers`.

    The processes pass items in shared memory, and the system kills a process that finds it full.

    Args:
        workers: the wanted number.
        size: bytes of an item.
    """
    shared = Path("/dev/shm")
    if not workers or not shared.is_dir():
        return workers
    free = shutil.disk_usage(shared).free
    if free >= _ITEMS_IN_MEMORY * workers * size:
        return workers
    fit = int(free // (_ITEMS_IN_MEMORY * size))
    log.warning("/dev/shm has %d MB left, room for %d loader processes, not %d", free >> 20, fit, workers)
    return fit


def make_loader(clips: torch.utils.data.Dataset[Any], workers: int, **options: Any) -> DataLoader[Any]:
    """A loader of a data set.

    Args:
        clips: the data set.
        workers: forked processes; 0 loads in this process.
        options: further options of torch's DataLoader.
    """
    # OpenCV's threads do not survive a fork: a child that uses them, or changes their number, waits for ever.
    # Their number is therefore set before the fork.
    cv2.setNumThreads(1)
    return _ClipLoader(
        clips,
        num_workers=workers,
        generator=torch.Generator(),  # loading then leaves the random state of the training unchanged
        worker_init_fn=_leave_interrupts_to_parent,
        **options,
    )


class _ClipLoader(DataLoader[Any]):
    """A loader with one error for a killed process: torch may see the closed connection before the death."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # torch's iterator needs no other method
        try:
            with blocked(*SIGNALS):  # a loader that is being forked would report an interruption
                batches = super().__iter__()
            yield from batches
        except (ConnectionError, EOFError) as exc:
            if "DataLoader worker process" in str(exc):  # the process lives and reports its own error
                raise
            raise RuntimeError(f"{LOADER_DIED}one of {self.num_workers}) ended unexpectedly: {exc}") from exc


def _leave_interrupts_to_parent(_: int) -> None:
    """Ignore the interrupt that a terminal sends to all processes: the parent ends its loaders itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    previous_hook = sys.excepthook

    def hook(kind: type[BaseException], *details: Any) -> None:
        # An interrupted parent closes its connections; an error of a loader that finds one closed is not
        # reported.
        if not issubclass(kind, (ConnectionError, EOFError)):
            previous_hook(kind, *details)

    sys.excepthook = hook
