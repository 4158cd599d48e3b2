"""Crops, flips and colour jitter, the same for every frame of a clip."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from trainer.data.clip import Clip

# Principal components of ImageNet's RGB pixels on a 0-1 scale: axes (columns) and what Krizhevsky, Sutskever
# and Hinton 2012, section 4.1, call eigenvalues. The paper prints no numbers; these are the ones in common
# use, taken as they are, without a root, and multiplied by 255 with the pixels.
_EIGENVALUES = np.array([0.2175, 0.0188, 0.0045])
_AXES = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])


def random_window(rng: np.random.Generator, height: int, width: int, size: int) -> tuple[int, int]:
    """(top, left) of a square of `size` pixels, uniform over the whole frame."""
    return int(rng.integers(height - size + 1)), int(rng.integers(width - size + 1))


def corner_window(
    rng: np.random.Generator, height: int, width: int, sides: Sequence[int]
) -> tuple[int, int, int, int]:
    """A window of several sizes and shapes (Wang et al. 2015, arXiv 1507.02159, section 3).

    The frame's corners and its centre are equally likely, and so are the pairs of height and width from
    `sides` that are equal or neighbours in it: the shape is off a square by one step at most. A network sees
    windows of any size at the one of its input: see resize_clip.

    Args:
        rng: where chance comes from.
        height, width: of the frame, in pixels.
        sides: in falling order, in pixels; none is longer than the frame is high or wide.

    Returns:
        (top, left, height, width).
    """
    pairs = [(h, w) for i, h in enumerate(sides) for w in sides[max(0, i - 1) : i + 2]]
    h, w = pairs[rng.integers(len(pairs))]
    bottom, right = height - h, width - w
    places = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
    return (*places[rng.integers(len(places))], h, w)


def resize_clip(clip: Clip, size: int) -> Clip:
    """A window's planes, (..., h, w), at the network's size, (..., size, size): bilinear, in the same values.

    Displacements stay in pixels of the frame that the window is of: as in the released code of Wang et al.
    2015, a window of flow is a picture, which is stretched, and not a camera, which comes closer.
    """
    height, width = clip.planes.shape[-2:]
    if (height, width) == (size, size):
        return clip
    planes = clip.planes.reshape(-1, 1, height, width).float()
    planes = F.interpolate(planes, (size, size), mode="bilinear", align_corners=False)
    return clip._replace(planes=planes.view(*clip.planes.shape[:-2], size, size))


def flip(clip: Clip, stream: str) -> Clip:
    """Mirror a clip left to right.

    In a mirrored scene what moved right moves left: the u channels of a temporal input (0, 2, 4, ...; of a
    joint one 3, 5, 7, ...) change their sign. That holds after subtraction of the means too, for they change
    sign with them.
    """
    planes = clip.planes.flip(-1)
    if stream == "spatial":
        return clip._replace(planes=planes)
    sign = torch.ones(clip.gain.shape[-1])
    sign[3 if stream == "both" else 0 :: 2] = -1
    return Clip(planes, clip.gain * sign, clip.bias * sign)


def colour_shift(rng: np.random.Generator, strength: float) -> torch.Tensor:
    """What RGB jitter adds to the three channels of all pixels, (3,) float32 on the 0-255 scale.

    The sum over the components of p_i (alpha_i lambda_i), with alpha_i of standard deviation `strength`.
    """
    shift = _AXES @ (rng.normal(0.0, strength, 3) * _EIGENVALUES) * 255
    return torch.from_numpy(shift.astype(np.float32))


def shift_colours(clip: Clip, shift: torch.Tensor) -> Clip:
    """Add (3,), on the 0-255 scale, to R, G and B, the first three channels."""
    bias = clip.bias.clone()
    bias[..., :3] += shift * clip.gain[..., :3]
    return clip._replace(bias=bias)


def fixed_crops(clip: Clip, size: int, crops: int, stream: str) -> Clip:
    """The crops that one clip is judged by.

    Args:
        clip: its planes (..., C, H, W).
        size: side of a crop; 0 shows whole frames, in place of the centre.
        crops: 10: four corners and centre, then their flips; 5: without flips; 2: the centre and its
            flip; 1: the centre.
        stream: says how a flip is done.

    Returns:
        A clip with planes (crops, ..., C, size, size).
    """
    planes = clip.planes
    if not size:
        return Clip(*map(torch.stack, zip(*([clip, flip(clip, stream)][:crops]), strict=True)))
    bottom, right = planes.shape[-2] - size, planes.shape[-1] - size
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right)]
    places = (corners if crops >= 5 else []) + [(bottom // 2, right // 2)]
    shown = [clip._replace(planes=planes[..., y : y + size, x : x + size]) for y, x in places]
    if crops in (2, 10):
        shown += [flip(one, stream) for one in shown]
    return Clip(*map(torch.stack, zip(*shown, strict=True)))
