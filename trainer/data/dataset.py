"""Data sets of clips to train on and to evaluate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from trainer.data import transforms
from trainer.data.clip import Clip, Window
from trainer.data.content import ClipContent, choose_content
from trainer.data.flow_stacks import FlowParams, flow_gains, read_stacks
from trainer.data.loading import load_clip, rgb_gains, stream_length
from trainer.data.sampling import ClipSpec, num_starts
from trainer.recipe.schema import Recipe

if TYPE_CHECKING:
    from flowprep import Corpus, Video
    from trainer.data.annotations import Examples


_OPEN_VIDEOS = 10_000  # videos that a data set keeps, of about a kilobyte each


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
        words = [self._seed, step, i]
        # An array gives the same numbers as a list, and is read in half the time.
        rng = np.random.default_rng(np.array(words, np.uint32) if max(words) < 2**32 else words)
        videos = self._classes[rng.integers(len(self._classes))]
        video = videos[rng.integers(len(videos))]
        return video, int(rng.integers(self._starts[video])), rng


class BatchParts(NamedTuple):
    """What a batch of B samples has beside its planes.

    Attributes:
        gain, bias: as of Clip, (B, ..., C) float32.
        classes, heads: (B,) int64.
    """

    gain: np.ndarray
    bias: np.ndarray
    classes: np.ndarray
    heads: np.ndarray


class _Sample(NamedTuple):
    """What a sample shows, and how.

    Attributes:
        video: the video.
        content: its frames and pairs.
        window: the part of the resized frames.
        mirror: whether left and right are exchanged.
        rng: the generator, for the colours.
        label, head: class and head.
    """

    video: Video
    content: ClipContent
    window: Window
    mirror: bool
    rng: np.random.Generator
    label: int
    head: int


class TrainingClips(torch.utils.data.Dataset[tuple[Clip, int, int]]):
    """Augmented training samples. Sample (step, i) is sample i of the step; it is of head i % H.

    The planes of a sample are (C, S, S), or (T, C, S, S) with time steps. They are decoded into an array that
    the caller gives. Frames are channels last in memory, which is also fastest for networks.

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
        self._opened: dict[tuple[int, int], Video] = {}
        section, stream = recipe.input, recipe.stream
        self._jitters = stream != "temporal" and (section.colour > 0 or section.grey > 0)
        floats = self._jitters or (stream != "spatial" and section.trajectories)
        self.dtype = torch.float32 if floats else torch.uint8

    def _num_starts(self, video: Video) -> int:
        return num_starts(stream_length(video, self._recipe.stream), self._spec.length(video.step))

    def shape(self, count: int) -> tuple[int, ...]:
        """The shape of the planes of `count` samples in memory: (count, T, C, S, S), or (..., S, S, 3)."""
        steps, side = max(1, self._spec.time_steps), self._recipe.input.crop
        if self._recipe.stream == "spatial":
            return count, steps, side, side, 3
        return count, steps, self._spec.planes // steps, side, side

    def as_clip(self, planes: torch.Tensor, parts: BatchParts) -> Clip:
        """The filled planes, of the shape of `shape`, as a clip."""
        if self._recipe.stream == "spatial":
            planes = planes.movedim(-1, -3)
        clip = Clip(planes, torch.from_numpy(parts.gain), torch.from_numpy(parts.bias))
        return clip if self._spec.time_steps else Clip(*(part[:, 0] for part in clip))

    def fill(self, keys: Sequence[tuple[int, int]], planes: np.ndarray) -> BatchParts:
        """Read samples.

        Args:
            keys: (step, number in the step) of each sample.
            planes: of the type `dtype` and the shape of `shape`, C-contiguous. It is filled.
        """
        samples, params, shifts = [], [], []
        for key, out in zip(keys, planes, strict=True):
            sample = self._draw(*key)
            samples.append(sample)
            if sample.content.frames:
                shifts.append(self._read_frames(sample, out))
            if sample.content.sides:
                flow = out if self._recipe.stream == "temporal" else out[:, 3:]
                content, section = sample.content, self._recipe.input
                params.append(
                    read_stacks(sample.video, content, section, sample.window, flow, mirror=sample.mirror)
                )
        gains = [self._rgb_gains(shifts)] if shifts else []
        if params:
            stacks = FlowParams(*map(np.stack, zip(*params, strict=True)))
            mirrored = np.array([sample.mirror for sample in samples])
            gains.append(flow_gains(stacks, self._recipe.input, mirrored))
        gain, bias = (np.concatenate(values, -1) for values in zip(*gains, strict=True))
        labels, heads = (np.array(values) for values in zip(*(s[-2:] for s in samples), strict=True))
        return BatchParts(gain, bias, labels, heads)

    def batch(self, keys: Sequence[tuple[int, int]]) -> tuple[Clip, torch.Tensor, torch.Tensor]:
        """Read samples into a new batch: a clip with planes (B, ..., S, S), classes (B,) and heads (B,)."""
        planes = torch.empty(self.shape(len(keys)), dtype=self.dtype)
        parts = self.fill(keys, planes.numpy())
        return self.as_clip(planes, parts), torch.from_numpy(parts.classes), torch.from_numpy(parts.heads)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Clip, int, int]:
        clip, y, head = self.batch([key])
        return Clip(*(part[0] for part in clip)), int(y), int(head)

    def _draw(self, step: int, i: int) -> _Sample:
        section, head = self._recipe.input, i % len(self._clips)
        number, start, rng = self._clips[head].draw(step, i)
        video = self._open_video(head, number)
        position: int | np.ndarray = start
        if self._spec.time_steps:
            position = self._spec.draw(rng, stream_length(video, self._recipe.stream), video.step)
        window = self._draw_window(rng, video)
        content = choose_content(video, position, self._spec, section.control, rng)
        mirror = bool(section.flip and rng.random() < 0.5)
        return _Sample(video, content, window, mirror, rng, self._labels[head][number], head)

    def _open_video(self, head: int, number: int) -> Video:
        """A video; those that were used before are kept, which saves a tenth of the time of a sample."""
        if (video := self._opened.get((head, number))) is None:
            if len(self._opened) >= _OPEN_VIDEOS:
                self._opened.clear()
            corpus, video_id = self._videos[head][number]
            video = self._opened[head, number] = corpus[video_id]
        return video

    def _draw_window(self, rng: np.random.Generator, video: Video) -> Window:
        section = self._recipe.input
        width, height = transforms.resized_shape(video.width, video.height, section.resize)
        if section.scales:
            return transforms.corner_window(rng, height, width, section.scales)
        return (*transforms.random_window(rng, height, width, section.crop), section.crop, section.crop)

    def _read_frames(self, sample: _Sample, planes: np.ndarray) -> np.ndarray:
        """Fill R, G and B of a sample's planes. Return the shift of its colours, (3,) float32."""
        section, video, frames = self._recipe.input, sample.video, sample.content.frames
        spatial = self._recipe.stream == "spatial"
        out = planes if spatial else planes[:, :3].transpose(0, 2, 3, 1)  # (T, S, S, 3)
        size: tuple[int, int] = out.shape[1:3]
        options = transforms.reading_options(video, section.resize, sample.window, size)
        if spatial and planes.dtype == np.uint8 and options.get("size", size) == size:
            video.rgb(frames, mirror=sample.mirror, out=out, **options)
        else:
            transforms.stretch(video.rgb(frames, mirror=sample.mirror, **options), out, axes=3)
        if self._jitters:
            rgb = torch.from_numpy(out.transpose(0, 3, 1, 2))  # (T, 3, S, S)
            rgb.copy_(transforms.jitter_colours(rgb, sample.rng, section.colour, section.grey))
        if section.jitter > 0:
            return transforms.colour_shift(sample.rng, section.jitter)
        return np.zeros(3, np.float32)

    def _rgb_gains(self, shifts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Gain and bias of the frames, each (B, T, 3) float32."""
        gain, bias = rgb_gains(self._recipe.input)
        biases = bias + np.stack(shifts) * gain
        steps = max(1, self._spec.time_steps)
        shape = (len(shifts), steps, 3)
        return np.broadcast_to(gain, shape), np.broadcast_to(biases[:, None], shape)


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
