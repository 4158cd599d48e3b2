"""Resizing, crops, flips and colour jitter; all frames of a clip are transformed alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch

from trainer.data.clip import Clip, Window

if TYPE_CHECKING:
    from flowprep import Video

# Principal components of the RGB pixels of ImageNet on a 0-1 scale: the axes are the columns. The eigenvalues
# have this name in section 4.1 of Krizhevsky, Sutskever and Hinton 2012. The paper prints no numbers. These
# are in common use, without a square root; they are multiplied by 255 for pixels on the 0-255 scale.
RGB_EIGENVALUES = np.array([0.2175, 0.0188, 0.0045])
RGB_AXES = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
MIRRORED = (2, 10)  # numbers of crops of which half are mirror images

LUMA = (0.299, 0.587, 0.114)  # weights of R, G and B (ITU-R BT.601)


def resized_shape(width: int, height: int, short_side: int) -> tuple[int, int]:
    """(width, height) in pixels after resizing to a short side; 0 keeps them.

    The long side is rounded to the nearest whole number, and halves to the even one.
    """
    if short_side == 0:
        return width, height
    ratio = short_side / min(width, height)
    return (short_side, round(height * ratio)) if width <= height else (round(width * ratio), short_side)


def resize_image(image: np.ndarray, short_side: int) -> np.ndarray:
    """Resize an image or a plane, (H, W[, C]), to a short side in pixels; 0 keeps its size.

    A smaller image is the average over areas, a larger one is bilinear.
    """
    height, width = image.shape[:2]
    if short_side in (0, min(height, width)):
        return image
    method = cv2.INTER_AREA if short_side < min(height, width) else cv2.INTER_LINEAR
    return cv2.resize(image, resized_shape(width, height, short_side), interpolation=method)


def reading_options(
    video: Video, short_side: int, window: Window | None, size: tuple[int, int]
) -> dict[str, Any]:
    """The options of `Video.codes` and `Video.rgb` that show a window of the resized frame.

    A window of the stored frame is stretched bilinearly, without antialiasing, as by the released code of
    Wang et al. 2015. Values stay the same: displacements remain pixels of the frame that a window is from.
    A window of a resized frame comes as it is: see stretch.

    Args:
        video: a video of a corpus.
        short_side: as for resized_shape.
        window: a window of the resized frame; None for the whole frame.
        size: (height, width) of the input of the network.
    """
    width, height = resized_shape(video.width, video.height, short_side)
    top, left, rows, columns = window or (0, 0, height, width)
    if (width, height) != (video.width, video.height):
        down, across = video.height / height, video.width / width
        part = (top * down, left * across, rows * down, columns * across)
        return {"window": part, "size": (rows, columns)}
    if (rows, columns) != size:
        return {"window": window, "size": size, "antialias": False}
    return {"window": window}


def stretch(images: np.ndarray, out: np.ndarray, axes: int = 2) -> None:
    """Resize images bilinearly to fill `out`; images of its size are copied.

    Args:
        images: (..., h, w), or (..., h, w, 3) with `axes` = 3.
        out: (..., H, W), or (..., H, W, 3).
        axes: number of axes of an image.
    """
    if images.shape == out.shape:
        out[...] = images
        return
    height, width = out.shape[out.ndim - axes :][:2]
    for place in np.ndindex(out.shape[: out.ndim - axes]):
        image = np.ascontiguousarray(images[place])
        out[place] = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)


def random_window(rng: np.random.Generator, height: int, width: int, size: int) -> tuple[int, int]:
    """(top, left) of a square window of `size` pixels, uniform over the frame of height x width pixels."""
    return int(rng.integers(height - size + 1)), int(rng.integers(width - size + 1))


def corner_window(rng: np.random.Generator, height: int, width: int, sides: Sequence[int]) -> Window:
    """A window of random size and shape at a corner or at the centre.

    The rule is that of Wang et al. 2015, arXiv 1507.02159, section 3.
    The four corners and the centre are equally likely. So are the pairs of height and width from `sides` that
    are equal or neighbours in the list: a window is at most one step away from a square. It is then resized
    to the input of the network: see reading_options.

    Args:
        rng: random generator.
        height, width: size of the frame in pixels.
        sides: sides in pixels, in descending order; none exceeds the height or the width.
    """
    shapes = [(h, w) for i, h in enumerate(sides) for w in sides[max(0, i - 1) : i + 2]]
    h, w = shapes[rng.integers(len(shapes))]
    bottom, right = height - h, width - w
    places = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
    return (*places[rng.integers(len(places))], h, w)


def crop_image(image: np.ndarray, window: Window | None) -> np.ndarray:
    """A window of an image (H, W, 3) or of flow (..., 2, H, W); None keeps it whole."""
    if window is None:
        return image
    top, left, height, width = window
    rows, columns = slice(top, top + height), slice(left, left + width)
    return image[rows, columns] if image.ndim == 3 else image[..., rows, columns]


def flip(clip: Clip, stream: str) -> Clip:
    """Mirror a clip left to right.

    A motion to the right is a motion to the left in the mirrored scene, so the u channels change their sign.
    They are channels 0, 2, 4, ... of a temporal clip and 3, 5, 7, ... of a clip of both streams. The mean
    that was subtracted from u changes its sign too.
    """
    planes = clip.planes.flip(-1)
    if stream == "spatial":
        return clip._replace(planes=planes)
    sign = torch.ones(clip.gain.shape[-1])
    sign[3 if stream == "both" else 0 :: 2] = -1
    return Clip(planes, clip.gain * sign, clip.bias * sign)


def colour_shift(rng: np.random.Generator, strength: float) -> np.ndarray:
    """A random shift of R, G and B for all pixels, (3,) float32 on the 0-255 scale.

    It is the sum over the principal components of p_i (alpha_i lambda_i), where alpha_i has the standard
    deviation `strength` (Krizhevsky et al. 2012, section 4.1).
    """
    shift = RGB_AXES @ (rng.normal(0.0, strength, 3) * RGB_EIGENVALUES) * 255
    return np.asarray(shift, np.float32)


def jitter_colours(rgb: torch.Tensor, rng: np.random.Generator, strength: float, grey: float) -> torch.Tensor:
    """Change brightness, contrast and saturation of the frames of a clip at random.

    Each is multiplied by a factor that is uniform between 1 - strength and 1 + strength (Howard 2013, arXiv
    1312.5402). The contrast is that to the mean grey level of the clip. Classes whose colours differ by
    chance are then not told by them.

    Args:
        rgb: (..., 3, H, W) on the 0-255 scale.
        rng: random generator.
        strength: greatest change of a factor.
        grey: probability that the saturation is 0.

    Returns:
        (..., 3, H, W) float32.
    """
    brightness, contrast, saturation = (1 + strength * rng.uniform(-1, 1, 3)).tolist()
    if rng.random() < grey:
        saturation = 0.0
    with _one_thread():
        rgb = rgb * brightness
        rgb = torch.lerp(_grey_level(rgb).mean(), rgb, contrast)
        return torch.lerp(_grey_level(rgb), rgb, saturation).clamp(0, 255)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch compute in this thread alone: the sum of a mean depends on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _grey_level(rgb: torch.Tensor) -> torch.Tensor:
    """The luma of ITU-R BT.601, (..., 1, H, W)."""
    return (rgb * rgb.new_tensor(LUMA)[:, None, None]).sum(-3, keepdim=True)


def fixed_crops(clip: Clip, size: int, crops: int, stream: str) -> Clip:
    """The crops of a clip in evaluation.

    Args:
        clip: a clip with planes (..., C, H, W).
        size: side of a crop in pixels; 0 shows the whole frame instead of the centre.
        crops: 10 (four corners and the centre, then their mirror images), 5 (without mirror images), 2 (the
            centre and its mirror image) or 1 (the centre).
        stream: see flip.

    Returns:
        A clip with planes (crops, ..., C, size, size).
    """
    return _crops_at(clip, _crop_places(clip, size, crops), size, crops, stream)


def distinct_crops(clip: Clip, size: int, crops: int, stream: str) -> tuple[Clip, torch.Tensor]:
    """The crops of `fixed_crops`, each once.

    Corners and centre coincide where the frame is as high or as wide as a crop.

    Args:
        clip, size, crops, stream: as for fixed_crops.

    Returns:
        A clip with planes (K, ..., C, size, size), and how often each of its K crops is in fixed_crops, (K,).
    """
    places = Counter(_crop_places(clip, size, crops))
    counts = list(places.values()) * (2 if crops in MIRRORED else 1)
    return _crops_at(clip, list(places), size, crops, stream), torch.tensor(counts)


def _crop_places(clip: Clip, size: int, crops: int) -> list[tuple[int, int]]:
    """(top, left) of the crops, without the mirror images."""
    if not size:
        return [(0, 0)]
    bottom, right = clip.planes.shape[-2] - size, clip.planes.shape[-1] - size
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right)]
    return (corners if crops >= 5 else []) + [(bottom // 2, right // 2)]


def _crops_at(clip: Clip, places: Sequence[tuple[int, int]], size: int, crops: int, stream: str) -> Clip:
    """The crops at these places, and then their mirror images if `crops` counts them."""
    planes = clip.planes
    height, width = (size, size) if size else planes.shape[-2:]
    shown = [clip._replace(planes=planes[..., y : y + height, x : x + width]) for y, x in places]
    if crops in MIRRORED:
        shown += [flip(crop, stream) for crop in shown]
    return _stack(shown)


def _stack(clips: Sequence[Clip]) -> Clip:
    return Clip(*map(torch.stack, zip(*clips, strict=True)))
