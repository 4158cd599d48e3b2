"""Clips read from a corpus."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from flowprep.errors import UsageError
from trainer.data.clip import Clip, Window
from trainer.data.flow_stacks import load_stacks
from trainer.data.sampling import ClipSpec, apply_control
from trainer.data.transforms import crop_image, resize_image, resized_shape
from trainer.recipe.schema import Recipe

if TYPE_CHECKING:
    from flowprep import Corpus, Video

log = logging.getLogger(__name__)


def check_fit(corpus: Corpus, ids: Sequence[str], recipe: Recipe) -> None:
    """Check that a recipe's clips can be read from the videos.

    Raises:
        UsageError: the corpus does not hold the recipe's stream, or a video is too small for the crop or too
            short.
    """
    _check_streams(corpus, recipe)
    key, side = "input.crop", recipe.input.crop
    if max(recipe.input.scales, default=0) > side:
        key, side = "the largest of input.scales", recipe.input.scales[0]
    reach, short = ClipSpec.from_recipe(recipe).length(corpus.settings.step), 0
    for video in (corpus[i] for i in ids):
        length = stream_length(video, recipe.stream)
        short += length < reach
        width, height = resized_shape(video.width, video.height, recipe.input.resize)
        if min(width, height) < side:
            raise UsageError(
                f"{key} is {side} and {video.id} is {width}x{height} pixels: make it smaller, set "
                "input.resize, or extract at a larger --size"
            )
        if length < 1:
            raise UsageError(
                f"{video.id} has nothing for the {recipe.stream} stream: {video.num_frames} frames"
            )
    if short:
        log.warning(
            "%d of %d videos have fewer than %d pairs: their last flow is repeated", short, len(ids), reach
        )


def _check_streams(corpus: Corpus, recipe: Recipe) -> None:
    settings, stream = corpus.settings, recipe.stream
    for present, content, streams in (
        (settings.rgb, "RGB frames", ("spatial", "both")),
        (settings.flow, "flow", ("temporal", "both")),
    ):
        if stream in streams and not present:
            user = "a joint network" if stream == "both" else f"the {stream} stream"
            raise UsageError(f"{user} needs {content}, and the corpus {corpus.path} holds none")
    if stream != "spatial" and recipe.input.bidirectional and not settings.backward:
        raise UsageError(
            f"input.bidirectional needs backward flow, and the corpus {corpus.path} holds none: "
            "extract it with --backward, or set input.bidirectional=false"
        )


def stream_length(video: Video, stream: str) -> int:
    """Number of positions of a video: its frames for the spatial stream, else its pairs."""
    return video.num_frames if stream == "spatial" else video.num_pairs


def load_clip(
    video: Video,
    position: int | np.ndarray,
    recipe: Recipe,
    window: Window | None = None,
    rng: np.random.Generator | None = None,
) -> Clip:
    """Read a clip.

    Args:
        video: a video of a corpus.
        position: the frame or pair at which the clip begins; or (T,), those of its time steps.
        recipe: what the clip consists of.
        window: the part of the resized frames to read; None reads them whole.
        rng: random generator for input.control; None derives one from the seed, the video and the position.

    Returns:
        A clip with planes (C, H, W), or (T, C, H, W) with time steps.
    """
    positions = np.atleast_1d(position)
    rng = rng or np.random.default_rng([recipe.seed, zlib.crc32(video.id.encode()), positions[0]])
    if len(positions) > 1:
        positions = apply_control([(positions, False)], recipe.input.control, rng)[0][0][0]
    parts = []
    if recipe.stream != "temporal":
        parts.append(_load_frames(video, positions, recipe, window))
    if recipe.stream != "spatial":
        parts.append(load_stacks(video, positions, recipe, window, rng))
    clip = parts[0]
    if len(parts) > 1:
        clip = Clip(*(torch.cat(channels, 1) for channels in zip(*parts, strict=True)))
    return clip if np.ndim(position) else Clip(*(part[0] for part in clip))


def _load_frames(video: Video, positions: np.ndarray, recipe: Recipe, window: Window | None) -> Clip:
    """The RGB frames of the time steps: planes (T, 3, H, W) uint8."""
    spec = ClipSpec.from_recipe(recipe)
    frames = [min(spec.frame(int(p), video.step), video.num_frames - 1) for p in positions]
    images = np.stack([crop_image(resize_image(video.rgb(i), recipe.input.resize), window) for i in frames])
    scale, mean = (np.asarray(v, np.float32) for v in (recipe.input.rgb_scale, recipe.input.rgb_mean))
    gain, bias = np.tile([1 / scale, -mean / scale], (len(images), 1, 1)).swapaxes(0, 1)
    return Clip(*map(torch.from_numpy, (images.transpose(0, 3, 1, 2), gain, bias)))
