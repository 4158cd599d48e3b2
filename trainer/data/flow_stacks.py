"""Stacks of flow read from a corpus."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from trainer.data.clip import Window
from trainer.data.content import ClipContent, Side
from trainer.data.transforms import crop_image, reading_options, resize_image, resized_shape, stretch
from trainer.recipe.schema import InputRecipe

if TYPE_CHECKING:
    from flowprep import Video


class FlowParams(NamedTuple):
    """The meaning of the planes of stacks: displacements in pixels are (plane - zero_point) * scale * factor.

    The mean is that of the whole flow and not of the window. It stands for the motion of the camera, which a
    window of a moving person would not show. All windows of a flow stay comparable. The corpus stores the
    mean of the flow before quantisation.

    Attributes:
        scale: (..., T, L, 2) pixels per unit of a plane.
        zero_point: (..., T, L, 2) value of a plane that means no motion.
        mean: (..., T, L, 2) mean displacement; times the factor, it is in pixels.
        factor: (..., 2) of all u and of all v, for resizing and controls.
    """

    scale: np.ndarray
    zero_point: np.ndarray
    mean: np.ndarray
    factor: tuple[float, float] | np.ndarray


def read_stacks(
    video: Video,
    content: ClipContent,
    section: InputRecipe,
    window: Window | None,
    out: np.ndarray,
    *,
    mirror: bool = False,
    pixels: bool = False,
) -> FlowParams:
    """Read stacks of flow, at each pixel (optical flow stacking) or along its trajectory.

    Args:
        video: a video of a corpus.
        content: the pairs of the stacks.
        section: how they are resized, and whether they follow trajectories.
        window: the part of the resized flow to read; None reads it whole.
        out: (T, 2 L, H, W), which is filled: the window, stretched to H x W.
        mirror: exchange left and right. The sign of u stays: the caller negates its scale.
        pixels: fill `out` with pixels instead of codes. Trajectories are always pixels.
    """
    read = _read_pixels if pixels or section.trajectories else _read_codes
    first, parts = 0, []
    for side in content.sides:
        end = first + 2 * side.pairs.shape[1]
        parts.append(read(video, side, content.sign, section, window, mirror, out[:, first:end]))
        first = end
    if len(parts) == 1:
        return parts[0]
    *columns, factors = zip(*parts, strict=True)
    scale, zero_point, mean = map(join, columns)
    return FlowParams(scale, zero_point, mean, factors[0])


def flow_gains(
    params: FlowParams, section: InputRecipe, mirrored: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gain and bias of stacks, each (N, T, 2 L) float32.

    input.flow_scale pixels become 1 in the input, independently of how the flow was quantised. A motion to
    the right is a motion to the left in the mirrored scene: u and its mean change their sign.

    Args:
        params: each (N, T, L, 2), and factors (N, 2).
        section: the scale, and whether the mean is subtracted.
        mirrored: (N,) whether left and right of a stack were exchanged.
    """
    factor = np.array(params.factor, np.float32)
    factor[mirrored, 0] *= -1
    factor = factor[:, None, None]
    scale = params.scale * factor
    bias = -(params.zero_point * scale + params.mean * factor * section.subtract_mean)
    shape = (*scale.shape[:-2], -1)
    return (scale / section.flow_scale).reshape(shape), (bias / section.flow_scale).reshape(shape)


def _read_codes(
    video: Video,
    side: Side,
    sign: int,
    section: InputRecipe,
    window: Window | None,
    mirror: bool,
    out: np.ndarray,
) -> FlowParams:
    """Fill `out` with the codes of pairs (T, n); `sign` is the factor of their flow."""
    size: tuple[int, int] = out.shape[2:]
    options = reading_options(video, section.resize, window, size)
    pairs, order = side.pairs[0], None
    if len(side.pairs) > 1:  # several time steps may show the same pair: it is decoded once
        pairs, order = np.unique(side.pairs, return_inverse=True)
    if order is None and out.dtype == np.uint8 and options.get("size", size) == size:
        target = out.reshape(-1, 2, *size)
        video.codes(pairs, None, side.backward, mirror=mirror, out=target, **options)
    else:
        codes = video.codes(pairs, None, side.backward, mirror=mirror, **options)
        codes = codes if order is None else codes[order.ravel()]
        stretch(codes.reshape(*out.shape[:2], *codes.shape[2:]), out)
    params = video.quant_params(pairs, None, side.backward)
    scale, zero_point, mean = (
        (values if order is None else values[order.ravel()]).reshape(*side.pairs.shape, 2)
        for values in params
    )
    across, down = _ratio(video, section.resize)
    return FlowParams(scale, zero_point, mean, (sign * across, sign * down))


def _read_pixels(
    video: Video,
    side: Side,
    sign: int,
    section: InputRecipe,
    window: Window | None,
    mirror: bool,
    out: np.ndarray,
) -> FlowParams:
    """Fill `out` with the flow of pairs (T, n) in pixels of the resized frame, on trajectories if set."""
    pairs, order = np.unique(side.pairs, return_inverse=True)
    flow = video.flow(pairs, None, side.backward)
    mean = video.quant_params(pairs, None, side.backward).mean
    ratio = np.array(_ratio(video, section.resize), np.float32)
    if section.resize not in (0, min(video.height, video.width)):
        resized = np.stack([[resize_image(plane, section.resize) for plane in field] for field in flow])
        flow, mean = resized * ratio[:, None, None], mean * ratio
    order = order.reshape(side.pairs.shape)
    flow, mean = sign * flow[order], sign * mean[order]
    if section.trajectories:
        flow = np.stack([along_trajectories(stack, video.step) for stack in flow])
    planes = crop_image(flow.reshape(len(flow), -1, *flow.shape[3:]), window)
    stretch(planes[..., ::-1] if mirror else planes, out)
    return FlowParams(np.ones_like(mean), np.zeros_like(mean), mean, (1.0, 1.0))


def _ratio(video: Video, short_side: int) -> tuple[float, float]:
    """Pixels of the resized frame per stored pixel, of u and of v."""
    width, height = resized_shape(video.width, video.height, short_side)
    return width / video.width, height / video.height


def join(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Arrays (T, n, ...) as one along n, without a copy of a single array."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays, 1)


def along_trajectories(flow: np.ndarray, step: int = 1) -> np.ndarray:
    """Trajectory stacking (Simonyan, Zisserman 2014, equation 2).

    A point starts at pixel p1 = (x, y) and follows the flow, pk = pk-1 + dk-1(pk-1). The value of the pixel
    in flow k is dk(pk), read bilinearly. A point that leaves the frame is moved to its border.

    Args:
        flow: (L, 2, H, W) float32, the whole flows of L consecutive frames in the order of the motion.
        step: frames from the first to the second frame of a pair; from one frame to the next a point moves by
            1/step of the flow.

    Returns:
        (L, 2, H, W) float32.
    """
    height, width = flow.shape[2:]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    out = np.empty_like(flow)
    for k, field in enumerate(flow):
        # Older versions of OpenCV round positions to 1/32 pixel.
        out[k] = [
            cv2.remap(plane, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for plane in field
        ]
        x = np.clip(x + out[k, 0] / step, 0, width - 1)
        y = np.clip(y + out[k, 1] / step, 0, height - 1)
    return out
