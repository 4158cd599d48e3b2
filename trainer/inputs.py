"""From a corpus's frames and flows to what a network sees."""

from __future__ import annotations

import logging
import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, default_collate

from flowprep.errors import UsageError
from trainer import augment, clips
from trainer.clips import Clip
from trainer.recipe import Recipe

if TYPE_CHECKING:
    from flowprep import Corpus, Video
    from trainer.lists import Examples

log = logging.getLogger(__name__)


def check_fit(corpus: Corpus, ids: Sequence[str], recipe: Recipe) -> None:
    """Hold a recipe's input against every video, before any is read.

    Raises:
        UsageError: the corpus lacks the recipe's stream, or a video is too small for the crop.
    """
    settings = corpus.settings
    if not (settings.rgb if recipe.stream == "spatial" else settings.flow):
        what = "RGB frames" if recipe.stream == "spatial" else "flow"
        raise UsageError(f"the {recipe.stream} stream needs {what}, and the corpus {corpus.path} holds none")
    if recipe.stream == "temporal" and recipe.input.bidirectional and not settings.backward:
        raise UsageError(
            f"input.bidirectional needs backward flow, and the corpus {corpus.path} holds none: "
            "extract it with --backward, or set input.bidirectional=false"
        )
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


def clip_length(recipe: Recipe, step: int) -> int:
    """Frames or pairs that one clip reaches over, with `step` frames to a pair."""
    if recipe.stream == "spatial":
        return 1
    return clips.span(recipe.input.stack, step, bidirectional=recipe.input.bidirectional)


def load_clip(
    video: Video,
    start: int,
    recipe: Recipe,
    window: tuple[int, int, int, int] | None = None,
    rng: np.random.Generator | None = None,
) -> Clip:
    """Read the clip that starts at frame or pair `start`, or of it the window (top, left, height, width).

    Temporal: L flows as clips.pairs_of names them, read at each pixel (optical flow stacking) or along its
    trajectory (see along_trajectories); normalised, flow_scale pixels are 1, whatever range their JPEGs were
    coded in. What input.control draws comes from `rng`; without one it follows from seed, video and start.
    """
    if recipe.stream == "spatial":
        image = _cut(_resize(video.rgb(start), recipe.input.resize), window)
        rgb = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        scale = torch.tensor(recipe.input.rgb_scale)
        return Clip(rgb, 1 / scale, -torch.tensor(recipe.input.rgb_mean) / scale)

    forward, behind = clips.pairs_of(
        start, recipe.input.stack, video.num_pairs, video.step, bidirectional=recipe.input.bidirectional
    )
    sides = [(pairs, backward) for pairs, backward in ((forward, False), (behind, True)) if len(pairs)]
    rng = rng or np.random.default_rng([recipe.seed, zlib.crc32(video.id.encode()), start])
    sides, sign = clips.controlled(sides, recipe.input.control, rng)
    # Only what is seen is read, and stays in codes, where a window of the input is one of the stored field.
    short = min(video.height, video.width)
    direct = recipe.input.resize in (0, short) and not recipe.input.trajectories
    parts = [
        _read_codes(video, pairs, backward, window, sign)
        if direct
        else _read_flow(video, pairs, backward, recipe, sign)
        for pairs, backward in sides
    ]
    # (L, 2, H, W), and (L, 2) each
    planes, gain, zero, mean = (np.concatenate(some) for some in zip(*parts, strict=True))
    if not direct:
        planes = np.ascontiguousarray(_cut(planes, window))
    if not recipe.input.subtract_mean:
        mean = np.zeros_like(mean)
    bias = -(zero * gain + mean)
    # u1, v1, u2, v2, ...
    tensors = [torch.from_numpy(part).flatten(0, 1) for part in (planes, gain, bias)]
    return Clip(tensors[0], *(part / recipe.input.flow_scale for part in tensors[1:]))


# Planes (n, 2, H, W); then (n, 2) each: pixels per unit of a plane, the plane's value for no motion, and the
# mean of the whole displacement field, in pixels. Of the field and not of the crop: it stands for the
# camera's motion, which the field shows and a crop of a moving person would not, and all crops of a field
# stay comparable. The corpus stores it as it was before JPEG compression.
_Part = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _read_codes(
    video: Video, pairs: np.ndarray, backward: bool, window: tuple[int, int, int, int] | None, sign: int
) -> _Part:
    """Codes of these pairs, or of a window of them; of their flow times `sign`."""
    first, count = _run(pairs)
    coding = video.coding(first, count, backward)
    codes, which = video.codes(first, count, backward, window), pairs - first
    return codes[which], sign * coding.scale[which], coding.zero[which], sign * coding.mean[which]


def _read_flow(video: Video, pairs: np.ndarray, backward: bool, recipe: Recipe, sign: int) -> _Part:
    """Flow of these pairs times `sign`, in pixels of the resized frame; along trajectories where the recipe
    says so.
    """
    first, count = _run(pairs)
    flow, mean = video.flow(first, count, backward), video.coding(first, count, backward).mean
    height, width = video.height, video.width
    if recipe.input.resize not in (0, min(height, width)):
        small = np.stack([[_resize(plane, recipe.input.resize) for plane in field] for field in flow])
        ratio = np.array([small.shape[3] / width, small.shape[2] / height], np.float32)  # of u, of v
        flow, mean = small * ratio[:, None, None], mean * ratio
    flow, mean = sign * flow[pairs - first], sign * mean[pairs - first]
    if recipe.input.trajectories:
        flow = along_trajectories(flow, video.step)
    return flow, np.ones_like(mean), np.zeros_like(mean), mean


def _run(pairs: np.ndarray) -> tuple[int, int]:
    """(first, count) of the pairs from the least to the greatest: each is read once, though it may be seen
    twice.
    """
    return int(pairs.min()), int(np.ptp(pairs)) + 1


def along_trajectories(flow: np.ndarray, step: int = 1) -> np.ndarray:
    """Trajectory stacking (Simonyan, Zisserman 2014, equation 2).

    The point that starts at pixel p1 = (x, y) moves on with the flow under it, pk = pk-1 + dk-1(pk-1), and
    the value for that pixel in field k is dk(pk). A point is read bilinearly, and one that leaves the frame
    is put onto its border.

    Args:
        flow: (L, 2, H, W) float32, the fields of L consecutive frames in the order of the motion, whole.
        step: frames from the first to the second of a pair; by a frame a point moves 1/step of the flow.

    Returns:
        (L, 2, H, W) float32.
    """
    height, width = flow.shape[2:]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    out = np.empty_like(flow)
    for k, field in enumerate(flow):
        # Older OpenCV reads at positions rounded to 1/32 px.
        out[k] = [
            cv2.remap(plane, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for plane in field
        ]
        x = np.clip(x + out[k, 0] / step, 0, width - 1)
        y = np.clip(y + out[k, 1] / step, 0, height - 1)
    return out


def _cut(image: np.ndarray, window: tuple[int, int, int, int] | None) -> np.ndarray:
    """The window (top, left, height, width) of (H, W, 3) or (N, 2, H, W)."""
    if window is None:
        return image
    top, left, height, width = window
    rows, columns = slice(top, top + height), slice(left, left + width)
    return image[rows, columns] if image.ndim == 3 else image[:, :, rows, columns]


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


class TrainingClips(torch.utils.data.Dataset[tuple[Clip, int, int]]):
    """Augmented training samples: item (step, i) is sample i of that step, for head i % H.

    Args:
        heads: for each of the H heads of the network, the corpora and videos that it learns from.
        recipe: what a sample looks like.

    An item is (clip with planes (C, S, S), class, head).
    """

    def __init__(self, heads: Sequence[Sequence[tuple[Corpus, Examples]]], recipe: Recipe) -> None:
        self._recipe = recipe
        self._videos = [[(c, i) for c, some in head for i in some.ids] for head in heads]
        self._labels = [[n for _, some in head for n in some.labels] for head in heads]
        self._clips = []
        for videos, labels in zip(self._videos, self._labels, strict=True):
            starts = [_num_starts(corpus[i], recipe) for corpus, i in videos]
            self._clips.append(clips.BalancedClips(labels, starts, recipe.seed))

    def __getitem__(self, key: tuple[int, int]) -> tuple[Clip, int, int]:
        head = key[1] % len(self._clips)
        position, start, rng = self._clips[head].draw(*key)
        corpus, video = self._videos[head][position]
        recipe = self._recipe
        size = recipe.input.crop
        found = corpus[video]
        width, height = resized(found.width, found.height, recipe.input.resize)
        window = (*augment.random_window(rng, height, width, size), size, size)
        clip = load_clip(found, start, recipe, window, rng)
        if recipe.input.flip and rng.random() < 0.5:
            clip = augment.flip(clip, recipe.stream)
        if recipe.stream == "spatial" and recipe.input.jitter > 0:
            shift = augment.colour_shift(rng, recipe.input.jitter)
            clip = clip._replace(bias=clip.bias + shift * clip.gain)
        return clip, self._labels[head][position], head


def batch_clips(items: list[tuple[Clip, int, int]]) -> tuple[Clip, torch.Tensor, torch.Tensor]:
    """Training samples as one clip with planes (B, C, S, S), classes (B,) and heads (B,)."""
    if len({clip.planes.dtype for clip, *_ in items}) > 1:  # some videos were resized, others had the size
        items = [(clip._replace(planes=clip.planes.float()), y, head) for clip, y, head in items]
    clip, y, head = default_collate(items)
    return clip, y, head


def _num_starts(video: Video, recipe: Recipe) -> int:
    return clips.num_starts(available(video, recipe.stream), clip_length(recipe, video.step))


class JudgedClips(torch.utils.data.Dataset[tuple[int, Clip]]):
    """Whole frames to judge videos by: item k is clip k % frames of video k // frames.

    An item is (position of the video, clip with planes (C, H, W)).
    """

    def __init__(self, corpus: Corpus, ids: tuple[str, ...], recipe: Recipe, frames: int) -> None:
        self._corpus, self._ids, self._recipe, self._frames = corpus, ids, recipe, frames

    def __len__(self) -> int:
        return len(self._ids) * self._frames

    def __getitem__(self, key: int) -> tuple[int, Clip]:
        position, k = divmod(key, self._frames)
        video = self._corpus[self._ids[position]]
        count = available(video, self._recipe.stream)
        starts = clips.spaced_starts(count, clip_length(self._recipe, video.step), self._frames)
        return position, load_clip(video, int(starts[k]), self._recipe)


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
