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
from trainer.data.content import choose_content
from trainer.data.flow_stacks import FlowParams, flow_gains, join, read_stacks
from trainer.data.sampling import ClipSpec
from trainer.data.transforms import crop_image, resize_image, resized_shape
from trainer.recipe.schema import InputRecipe, Recipe

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
    """Read a clip as it is evaluated: resized flow keeps fractions of codes, as float32 pixels.

    Args:
        video: a video of a corpus.
        position: the frame or pair at which the clip begins; or (T,), those of its time steps.
        recipe: what the clip consists of.
        window: the part of the resized frames to read; None reads them whole.
        rng: random generator for input.control; None derives one from the seed, the video and the position.

    Returns:
        A clip with planes (C, H, W), or (T, C, H, W) with time steps.
    """
    spec, section = ClipSpec.from_recipe(recipe), recipe.input
    rng = rng or np.random.default_rng(
        [recipe.seed, zlib.crc32(video.id.encode()), np.atleast_1d(position)[0]]
    )
    content = choose_content(video, position, spec, section.control, rng)
    width, height = resized_shape(video.width, video.height, section.resize)
    shape = window[2:] if window else (height, width)
    parts = []
    if content.frames:
        images = [crop_image(resize_image(video.rgb(i), section.resize), window) for i in content.frames]
        planes = np.stack(images).transpose(0, 3, 1, 2)
        parts.append((planes, *(np.tile(values, (len(planes), 1)) for values in rgb_gains(section))))
    if content.sides:
        pixels = section.trajectories or (width, height) != (video.width, video.height)
        steps = len(content.sides[0].pairs)
        planes = np.empty((steps, 2 * section.stack, *shape), np.float32 if pixels else np.uint8)
        params = read_stacks(video, content, section, window, planes, pixels=pixels)
        batch = FlowParams(*(np.asarray(values)[None] for values in params))
        parts.append((planes, *(values[0] for values in flow_gains(batch, section, np.array([False])))))
    clip = Clip(*(torch.from_numpy(join(arrays)) for arrays in zip(*parts, strict=True)))
    return clip if np.ndim(position) else Clip(*(part[0] for part in clip))


def rgb_gains(section: InputRecipe) -> tuple[np.ndarray, np.ndarray]:
    """Gain and bias of R, G and B, each (3,) float32."""
    scale, mean = (np.asarray(values, np.float32) for values in (section.rgb_scale, section.rgb_mean))
    return 1 / scale, -mean / scale
