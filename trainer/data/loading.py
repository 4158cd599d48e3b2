"""From a corpus's frames and flows to what a network sees."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from flowprep.errors import UsageError
from trainer.data import sampling
from trainer.data.clip import Clip
from trainer.data.sampling import ClipSpec
from trainer.recipe.schema import Recipe

if TYPE_CHECKING:
    from flowprep import Corpus, Video

log = logging.getLogger(__name__)


def check_fit(corpus: Corpus, ids: Sequence[str], recipe: Recipe) -> None:
    """Hold a recipe's input against every video, before any is read.

    Raises:
        UsageError: the corpus lacks the recipe's stream, or a video is too small for the crop.
    """
    settings, stream = corpus.settings, recipe.stream
    for has, what, streams in (
        (settings.rgb, "RGB frames", ("spatial", "both")),
        (settings.flow, "flow", ("temporal", "both")),
    ):
        if stream in streams and not has:
            needs = "a joint network" if stream == "both" else f"the {stream} stream"
            raise UsageError(f"{needs} needs {what}, and the corpus {corpus.path} holds none")
    if stream != "spatial" and recipe.input.bidirectional and not settings.backward:
        raise UsageError(
            f"input.bidirectional needs backward flow, and the corpus {corpus.path} holds none: "
            "extract it with --backward, or set input.bidirectional=false"
        )
    key, side = "input.crop", recipe.input.crop
    if max(recipe.input.scales, default=0) > side:
        key, side = "the largest of input.scales", recipe.input.scales[0]
    reach, short = ClipSpec.from_recipe(recipe).length(settings.step), 0
    for video in (corpus[i] for i in ids):
        short += stream_length(video, stream) < reach
        width, height = resized_shape(video.width, video.height, recipe.input.resize)
        if min(width, height) < side:
            raise UsageError(
                f"{key} is {side} and {video.id} is {width}x{height} pixels: make it smaller, set "
                "input.resize, or extract at a larger --size"
            )
        if stream_length(video, stream) < 1:
            raise UsageError(f"{video.id} has nothing for the {stream} stream: {video.num_frames} frames")
    if short:
        log.warning(
            "%d of %d videos have fewer than %d pairs: their last flow is repeated", short, len(ids), reach
        )


def stream_length(video: Video, stream: str) -> int:
    """How many frames (spatial) or pairs (temporal, both) clips of this stream are taken from."""
    return video.num_frames if stream == "spatial" else video.num_pairs


def load_clip(
    video: Video,
    place: int | np.ndarray,
    recipe: Recipe,
    window: tuple[int, int, int, int] | None = None,
    rng: np.random.Generator | None = None,
) -> Clip:
    """Read the clip that begins at frame or pair `place`, or of it the window (top, left, height, width).

    Of several time steps each begins at one of `place`, (T,); a joint network's has frames and then flows.
    Temporal: L flows as clips.pairs_of names them, read at each pixel (optical flow stacking) or along its
    trajectory (see along_trajectories); normalised, flow_scale pixels are 1, whatever range their JPEGs were
    coded in. What input.control draws comes from `rng`; without one it follows from seed, video and place.
    """
    steps = np.atleast_1d(place)
    rng = rng or np.random.default_rng([recipe.seed, zlib.crc32(video.id.encode()), steps[0]])
    if len(steps) > 1:
        steps = sampling.controlled([(steps, False)], recipe.input.control, rng)[0][0][0]
    parts = []
    if recipe.stream != "temporal":
        parts.append(_load_frames(video, steps, recipe, window))
    if recipe.stream != "spatial":
        parts.append(_load_stacks(video, steps, recipe, window, rng))
    clip = Clip(*(torch.cat(some, 1) for some in zip(*parts, strict=True))) if len(parts) > 1 else parts[0]
    return clip if np.ndim(place) else Clip(*(part[0] for part in clip))


def _load_frames(
    video: Video, places: np.ndarray, recipe: Recipe, window: tuple[int, int, int, int] | None
) -> Clip:
    """Planes (T, 3, H, W)."""
    sample = ClipSpec.from_recipe(recipe)
    which = [min(sample.frame(int(place), video.step), video.num_frames - 1) for place in places]
    images = np.stack([_cut(_resize(video.rgb(i), recipe.input.resize), window) for i in which])
    scale, mean = (np.asarray(v, np.float32) for v in (recipe.input.rgb_scale, recipe.input.rgb_mean))
    gain, bias = np.tile([1 / scale, -mean / scale], (len(images), 1, 1)).swapaxes(0, 1)
    return Clip(*map(torch.from_numpy, (images.transpose(0, 3, 1, 2), gain, bias)))


def _load_stacks(
    video: Video,
    places: np.ndarray,
    recipe: Recipe,
    window: tuple[int, int, int, int] | None,
    rng: np.random.Generator,
) -> Clip:
    """Planes (T, 2 L, H, W)."""
    stacks = []
    for place in places:
        forward, behind = sampling.pairs_of(
            int(place),
            recipe.input.stack,
            video.num_pairs,
            video.step,
            bidirectional=recipe.input.bidirectional,
        )
        sides = [(pairs, backward) for pairs, backward in ((forward, False), (behind, True)) if len(pairs)]
        sides, sign = sampling.controlled(sides, recipe.input.control, rng)
        stacks.append(sides)
    # Only what is seen is read, and stays in codes, where a window of the input is one of the stored field.
    short = min(video.height, video.width)
    direct = recipe.input.resize in (0, short) and not recipe.input.trajectories
    parts = []
    for side in zip(*stacks, strict=True):
        pairs, backward = np.stack([pairs for pairs, _ in side]), side[0][1]
        parts.append(
            _read_codes(video, pairs, backward, window, sign)
            if direct
            else _read_flow(video, pairs, backward, recipe, sign)
        )
    # (T, L, 2, H, W), and (T, L, 2) each
    planes, gain, zero, mean = (_join(some, 1) for some in zip(*parts, strict=True))
    if not direct:
        planes = np.ascontiguousarray(_cut(planes, window))
    if not recipe.input.subtract_mean:
        mean = np.zeros_like(mean)
    bias = -(zero * gain + mean)
    # u1, v1, u2, v2, ...
    tensors = [torch.from_numpy(part).flatten(1, 2) for part in (planes, gain, bias)]
    return Clip(tensors[0], *(part / recipe.input.flow_scale for part in tensors[1:]))


# Planes (T, n, 2, H, W); then (T, n, 2) each: pixels per unit of a plane, the plane's value for no motion,
# and the mean of the whole displacement field, in pixels. Of the field and not of the crop: it stands for
# the camera's motion, which the field shows and a crop of a moving person would not, and all crops of a
# field stay comparable. The corpus stores it as it was before JPEG compression.
_Part = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _read_codes(
    video: Video, pairs: np.ndarray, backward: bool, window: tuple[int, int, int, int] | None, sign: int
) -> _Part:
    """Codes of these pairs, (T, n), or of a window of them; of their flow times `sign`."""
    runs, which = _runs(pairs)
    codings = [video.quant_params(*run, backward) for run in runs]
    scale, zero, mean = (_join(some)[which] for some in zip(*codings, strict=True))
    codes = _join([video.codes(*run, backward, window) for run in runs])
    in_order = np.array_equal(which.ravel(), np.arange(len(codes)))  # as most are: there is nothing to copy
    codes = codes.reshape(*which.shape, *codes.shape[1:]) if in_order else codes[which]
    return codes, sign * scale, zero, sign * mean


def _read_flow(video: Video, pairs: np.ndarray, backward: bool, recipe: Recipe, sign: int) -> _Part:
    """Flow of these pairs, (T, n), times `sign`, in pixels of the resized frame; along trajectories where the
    recipe says so.
    """
    runs, which = _runs(pairs)
    flow = _join([video.flow(*run, backward) for run in runs])
    mean = _join([video.quant_params(*run, backward).mean for run in runs])
    height, width = video.height, video.width
    if recipe.input.resize not in (0, min(height, width)):
        small = np.stack([[_resize(plane, recipe.input.resize) for plane in field] for field in flow])
        ratio = np.array([small.shape[3] / width, small.shape[2] / height], np.float32)  # of u, of v
        flow, mean = small * ratio[:, None, None], mean * ratio
    flow, mean = sign * flow[which], sign * mean[which]
    if recipe.input.trajectories:
        flow = np.stack([along_trajectories(stack, video.step) for stack in flow])
    return flow, np.ones_like(mean), np.zeros_like(mean), mean


def _join(arrays: Sequence[np.ndarray], axis: int = 0) -> np.ndarray:
    """np.concatenate, without a copy of one array."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis)


def _runs(pairs: np.ndarray) -> tuple[list[tuple[int, int]], np.ndarray]:
    """Runs of pairs, (first, count), by which each is read once, though it may be seen several times; and
    where each of `pairs` is in what is read, of the same shape.
    """
    once, which = np.unique(pairs, return_inverse=True)
    runs = np.split(once, np.flatnonzero(np.diff(once) > 1) + 1)
    return [(int(run[0]), len(run)) for run in runs], which.reshape(pairs.shape)


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
    """The window (top, left, height, width) of (H, W, 3) or (..., 2, H, W)."""
    if window is None:
        return image
    top, left, height, width = window
    rows, columns = slice(top, top + height), slice(left, left + width)
    return image[rows, columns] if image.ndim == 3 else image[..., rows, columns]


def _resize(image: np.ndarray, short: int) -> np.ndarray:
    """Resize (H, W[, C]) to a short side of `short` pixels: area averages down, bilinear up."""
    height, width = image.shape[:2]
    if short in (0, min(height, width)):
        return image
    shape = resized_shape(width, height, short)
    return cv2.resize(
        image, shape, interpolation=cv2.INTER_AREA if short < min(height, width) else cv2.INTER_LINEAR
    )


def resized_shape(width: int, height: int, short: int) -> tuple[int, int]:
    """(width, height) after the recipe's resize; 0 keeps them. The long side is rounded half to even."""
    if short == 0:
        return width, height
    ratio = short / min(width, height)
    return (short, round(height * ratio)) if width <= height else (round(width * ratio), short)
