"""Stacks of flow read from a corpus."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
import torch

from trainer.data.clip import Clip, Window
from trainer.data.sampling import apply_control, pairs_of
from trainer.data.transforms import crop_image, resize_image
from trainer.recipe.schema import Recipe

if TYPE_CHECKING:
    from flowprep import Video


class _Side(NamedTuple):
    """The forward or the backward flows of a stack.

    The mean is that of the whole flow and not of the window. It stands for the motion of the camera, which a
    window of a moving person would not show. All windows of a flow stay comparable. The corpus stores the
    mean of the flow before quantisation.

    Attributes:
        planes: (T, n, 2, H, W) codes or pixels.
        gain: (T, n, 2) pixels per unit of a plane.
        zero_point: (T, n, 2) value of a plane that means no motion.
        mean: (T, n, 2) mean displacement in pixels.
    """

    planes: np.ndarray
    gain: np.ndarray
    zero_point: np.ndarray
    mean: np.ndarray


def load_stacks(
    video: Video, positions: np.ndarray, recipe: Recipe, window: Window | None, rng: np.random.Generator
) -> Clip:
    """The stacks of flow that begin at the positions.

    The flows of a stack are those of pairs_of, read at each pixel (optical flow stacking) or along its
    trajectory. input.flow_scale pixels become 1 in the input, independently of how the flow was quantised.

    Args:
        video: a video of a corpus.
        positions: (T,) first pair of each stack.
        recipe: what a stack consists of.
        window: the part of the resized flow to read; None reads it whole.
        rng: random generator for input.control.

    Returns:
        A clip with planes (T, 2 L, H, W).
    """
    section = recipe.input
    stacks = []
    for position in positions:
        forward, backward = pairs_of(
            int(position), section.stack, video.num_pairs, video.step, bidirectional=section.bidirectional
        )
        sides, sign = apply_control(
            [(pairs, back) for pairs, back in ((forward, False), (backward, True)) if len(pairs)],
            section.control,
            rng,
        )
        stacks.append(sides)
    # A window of the stored flow can be read alone, as codes. Resizing and trajectories need the whole flow.
    direct = section.resize in (0, min(video.height, video.width)) and not section.trajectories
    parts = []
    for side in zip(*stacks, strict=True):
        pairs, back = np.stack([pairs for pairs, _ in side]), side[0][1]
        parts.append(
            _read_codes(video, pairs, back, window, sign)
            if direct
            else _read_flow(video, pairs, back, recipe, sign)
        )
    stack = _Side(*(_join(arrays, 1) for arrays in zip(*parts, strict=True)))
    planes = stack.planes if direct else np.ascontiguousarray(crop_image(stack.planes, window))
    mean = stack.mean if section.subtract_mean else np.zeros_like(stack.mean)
    bias = -(stack.zero_point * stack.gain + mean)
    # The channels are u1, v1, u2, v2, ...
    tensors = [torch.from_numpy(array).flatten(1, 2) for array in (planes, stack.gain, bias)]
    return Clip(tensors[0], *(tensor / section.flow_scale for tensor in tensors[1:]))


def _read_codes(video: Video, pairs: np.ndarray, backward: bool, window: Window | None, sign: int) -> _Side:
    """The stored codes of pairs (T, n), or of a window of them; `sign` is the factor of their flow."""
    runs, order = _runs(pairs)
    quant_params = [video.quant_params(*run, backward) for run in runs]
    scale, zero_point, mean = (_join(arrays)[order] for arrays in zip(*quant_params, strict=True))
    codes = _join([video.codes(*run, backward, window) for run in runs])
    # Most stacks are in order already: they are not copied.
    in_order = np.array_equal(order.ravel(), np.arange(len(codes)))
    codes = codes.reshape(*order.shape, *codes.shape[1:]) if in_order else codes[order]
    return _Side(codes, sign * scale, zero_point, sign * mean)


def _read_flow(video: Video, pairs: np.ndarray, backward: bool, recipe: Recipe, sign: int) -> _Side:
    """The flow of pairs (T, n) times `sign`, in pixels of the resized frame, on trajectories if set."""
    runs, order = _runs(pairs)
    flow = _join([video.flow(*run, backward) for run in runs])
    mean = _join([video.quant_params(*run, backward).mean for run in runs])
    height, width = video.height, video.width
    if recipe.input.resize not in (0, min(height, width)):
        resized = np.stack([[resize_image(plane, recipe.input.resize) for plane in field] for field in flow])
        ratio = np.array([resized.shape[3] / width, resized.shape[2] / height], np.float32)  # of u, of v
        flow, mean = resized * ratio[:, None, None], mean * ratio
    flow, mean = sign * flow[order], sign * mean[order]
    if recipe.input.trajectories:
        flow = np.stack([along_trajectories(stack, video.step) for stack in flow])
    return _Side(flow, np.ones_like(mean), np.zeros_like(mean), mean)


def _join(arrays: Sequence[np.ndarray], axis: int = 0) -> np.ndarray:
    """np.concatenate, without a copy of a single array."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis)


def _runs(pairs: np.ndarray) -> tuple[list[tuple[int, int]], np.ndarray]:
    """Runs of consecutive pairs, so that each pair is read once even if a stack shows it several times.

    Returns:
        (first, count) of each run, and the index of each of `pairs` in the concatenated runs.
    """
    unique, order = np.unique(pairs, return_inverse=True)
    runs = np.split(unique, np.flatnonzero(np.diff(unique) > 1) + 1)
    return [(int(run[0]), len(run)) for run in runs], order.reshape(pairs.shape)


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
