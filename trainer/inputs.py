"""From a corpus's frames and flows to what a network sees."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader

from flowprep.errors import UsageError
from trainer import augment, clips
from trainer.recipe import Recipe

if TYPE_CHECKING:
    from flowprep import Corpus, Video

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Clip:
    """The planes of one clip before they are normalised.

    Attributes:
        planes: (C, H, W): R, G, B as uint8; or u1, v1, u2, v2, ... as float32 in pixels.
        mean: (C,) float32, subtracted from each plane.
        scale: (C,) float32, divides it then.
    """

    planes: torch.Tensor
    mean: torch.Tensor
    scale: torch.Tensor

    def normalised(self, top: int = 0, left: int = 0, size: int | None = None) -> torch.Tensor:
        """The square of `size` pixels at (top, left), or the whole, as (C, h, w) float32."""
        part = self.planes if size is None else self.planes[:, top : top + size, left : left + size]
        return (part - self.mean[:, None, None]) / self.scale[:, None, None]


def check_fit(corpus: Corpus, ids: Sequence[str], recipe: Recipe) -> None:
    """Hold a recipe's input against every video, before any is read.

    Raises:
        UsageError: the corpus lacks the recipe's stream, or a video is too small for the crop.
    """
    settings = corpus.settings
    if not (settings.rgb if recipe.stream == "spatial" else settings.flow):
        what = "RGB frames" if recipe.stream == "spatial" else "flow"
        raise UsageError(f"the {recipe.stream} stream needs {what}, and the corpus {corpus.path} holds none")
    for video in (corpus[i] for i in ids):
        width, height = resized(video.width, video.height, recipe.input.resize)
        if min(width, height) < recipe.input.crop:
            raise UsageError(
                f"input.crop is {recipe.input.crop} and {video.id} is {width}x{height} pixels: make the crop "
                "smaller, set input.resize, or extract at a larger --size"
            )
        if available(video, recipe.stream) < 1:
            raise UsageError(
                f"{video.id} has nothing for the {recipe.stream} stream: {video.num_frames} frames"
            )


def available(video: Video, stream: str) -> int:
    """How many frames (spatial) or pairs (temporal) clips of this stream are taken from."""
    return video.num_frames if stream == "spatial" else video.num_pairs


def clip_length(recipe: Recipe) -> int:
    """Frames or pairs in one clip."""
    return 1 if recipe.stream == "spatial" else recipe.input.stack


def load_clip(video: Video, start: int, recipe: Recipe) -> Clip:
    """Read the clip that starts at frame `start`.

    Temporal: the flows start, start+1, ..., start+L-1; where the video ends before, its last flow is
    repeated. The flow is in pixels per pair: the corpus has undone the range that its JPEGs were coded in.
    """
    if recipe.stream == "spatial":
        image = _resize(video.rgb(start), recipe.input.resize)
        planes = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        return Clip(planes, torch.tensor(recipe.input.rgb_mean), torch.tensor(recipe.input.rgb_scale))

    length = recipe.input.stack
    count = min(length, video.num_pairs - start)
    flow = video.flow(start, count)  # (count, 2, H, W)
    # The mean of the whole displacement field, not of the crop: it stands for the camera's motion, which
    # the field shows and a crop of a moving person would not, and all crops of a field stay comparable.
    # The corpus stores it as it was before JPEG compression.
    mean = np.array(video.mean_flow[start : start + count], np.float32)  # (count, 2)
    if not recipe.input.subtract_mean:
        mean = np.zeros_like(mean)
    height, width = flow.shape[2:]
    flow = flow.reshape(2 * count, height, width)  # u1, v1, u2, v2, ...
    if recipe.input.resize and recipe.input.resize != min(height, width):
        small = np.stack([_resize(plane, recipe.input.resize) for plane in flow])
        ratio = np.array([small.shape[2] / width, small.shape[1] / height], np.float32)  # of u, of v
        flow = small * np.tile(ratio, count)[:, None, None]
        mean = mean * ratio
    mean = mean.reshape(2 * count)
    if count < length:
        flow = np.concatenate([flow, np.tile(flow[-2:], (length - count, 1, 1))])
        mean = np.concatenate([mean, np.tile(mean[-2:], length - count)])
    scale = torch.full((2 * length,), recipe.input.flow_scale)
    return Clip(torch.from_numpy(np.ascontiguousarray(flow)), torch.from_numpy(mean), scale)


def _resize(image: np.ndarray, short: int) -> np.ndarray:
    """Resize (H, W[, C]) to a short side of `short` pixels: area averages down, bilinear up."""
    height, width = image.shape[:2]
    if short in (0, min(height, width)):
        return image
    shape = resized(width, height, short)
    return cv2.resize(
        image, shape, interpolation=cv2.INTER_AREA if short < min(height, width) else cv2.INTER_LINEAR
    )


def resized(width: int, height: int, short: int) -> tuple[int, int]:
    """(width, height) after the recipe's resize; 0 keeps them. The long side is rounded half to even."""
    if short == 0:
        return width, height
    ratio = short / min(width, height)
    return (short, round(height * ratio)) if width <= height else (round(width * ratio), short)


class TrainingClips(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """Augmented training samples: item (step, i) is sample i of that step.

    Args:
        corpus: where the videos are.
        ids, labels: the training videos and their classes, (N,).
        recipe: what a sample looks like.

    An item is ((C, S, S) float32, class).
    """

    def __init__(self, corpus: Corpus, ids: tuple[str, ...], labels: tuple[int, ...], recipe: Recipe) -> None:
        self._corpus, self._ids, self._labels, self._recipe = corpus, ids, labels, recipe
        counts = [available(corpus[i], recipe.stream) for i in ids]
        self._clips = clips.BalancedClips(labels, counts, clip_length(recipe), recipe.seed)

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, int]:
        position, start, rng = self._clips.draw(*key)
        recipe = self._recipe
        size = recipe.input.crop
        clip = load_clip(self._corpus[self._ids[position]], start, recipe)
        height, width = clip.planes.shape[1:]
        planes = clip.normalised(*augment.random_window(rng, height, width, size), size)  # (C, S, S)
        if recipe.input.flip and rng.random() < 0.5:
            planes = augment.flip(planes, recipe.stream)
        if recipe.stream == "spatial" and recipe.input.jitter > 0:
            planes = planes + (augment.colour_shift(rng, recipe.input.jitter) / clip.scale)[:, None, None]
        return planes, self._labels[position]


class JudgedClips(torch.utils.data.Dataset[tuple[int, torch.Tensor]]):
    """Whole frames to judge videos by: item k is clip k % frames of video k // frames.

    An item is (position of the video, (C, H, W) float32).
    """

    def __init__(self, corpus: Corpus, ids: tuple[str, ...], recipe: Recipe, frames: int) -> None:
        self._corpus, self._ids, self._recipe, self._frames = corpus, ids, recipe, frames

    def __len__(self) -> int:
        return len(self._ids) * self._frames

    def __getitem__(self, key: int) -> tuple[int, torch.Tensor]:
        position, k = divmod(key, self._frames)
        video = self._corpus[self._ids[position]]
        count = available(video, self._recipe.stream)
        starts = clips.spaced_starts(count, clip_length(self._recipe), self._frames)
        return position, load_clip(video, int(starts[k]), self._recipe).normalised()


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
    return DataLoader(clips, num_workers=workers, generator=torch.Generator(), **options)
