"""The pixels of a clip, read into arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from flowprep.clips.layout import View
from flowprep.corpus.video import Video

CONTENTS = ("flow", "codes", "rgb")
Place = tuple[int, int] | tuple[npt.NDArray[np.int64], None]
Shapes = dict[str, tuple[tuple[int, ...], np.dtype[Any]]]


def pixel_shapes(contents: Sequence[str], lead: tuple[int, ...], size: tuple[int, int]) -> Shapes:
    """Shape and type of the arrays that hold the pixels of a clip, by name.

    Args:
        contents: some of CONTENTS.
        lead: the axes before those of a frame.
        size: (height, width) of a frame of the clip.
    """
    shapes: Shapes = {}
    for content in contents:
        shape = (*size, 3) if content == "rgb" else (2, *size)
        shapes[content] = ((*lead, *shape), np.dtype(np.float32 if content == "flow" else np.uint8))
        if content == "codes":
            shapes |= {name: ((*lead, 2), np.dtype(np.float32)) for name in ("scale", "zero_point")}
    return shapes


def read_pixels(
    video: Video,
    place: Place,
    view: View,
    out: Mapping[str, npt.NDArray[Any]],
    *,
    subtract_mean: bool,
) -> None:
    """Read the pixels of a clip.

    Args:
        video: the video.
        place: the first frame or pair and the number of them; or their positions and None.
        view: the part of each frame.
        out: the arrays of `pixel_shapes`, which are filled.
        subtract_mean: subtract the mean of each displacement field, that of the whole frame.
    """
    for content in CONTENTS:
        if content in out:
            pixels = out[content]
            _read_views(video, place, content, view, pixels.reshape(len(view.places), -1, *pixels.shape[-3:]))
    if not subtract_mean and "codes" not in out:
        return
    scale, zero_point, mean = video.quant_params(*place)
    # Displacements of a resized frame are smaller or larger; those of u change their sign in a mirror.
    across, down = view.frame[1] / video.width, view.frame[0] / video.height
    factors = np.array([[[-across if m else across, down]] for m in view.mirrored], np.float32)
    if subtract_mean and "flow" in out:
        flow = out["flow"]
        flow -= (mean * factors).reshape(*flow.shape[:-2], 1, 1)
    if "codes" in out:
        if subtract_mean:
            zero_point = zero_point + mean / scale
        shape = (len(factors), *scale.shape)
        np.multiply(scale, factors, out=out["scale"].reshape(shape))
        out["zero_point"].reshape(shape)[:] = zero_point


def _read_views(video: Video, place: Place, content: str, view: View, out: npt.NDArray[Any]) -> None:
    """Read the crops of frames or pairs, (C, n, ...). Several are cut from frames that are read once."""
    read = getattr(video, content)
    stored, frame, (height, width) = (video.height, video.width), view.frame, view.size
    size = None if frame == stored else view.size
    if len(view.places) == 1:
        top, left = view.places[0]
        window: tuple[float, float, float, float] = (top, left, height, width)
        if size:
            down, across = stored[0] / frame[0], stored[1] / frame[1]
            window = (top * down, left * across, height * down, width * across)
        read(*place, window=window, size=size, mirror=view.mirrored[0], out=out[0])
        return
    whole = read(*place, size=frame if size else None)
    for crop, (top, left), mirrored in zip(out, view.places, view.mirrored, strict=True):
        rows, columns = slice(top, top + height), slice(left, left + width)
        cut = whole[:, rows, columns] if content == "rgb" else whole[..., rows, columns]
        if mirrored:
            cut = cut[:, :, ::-1] if content == "rgb" else cut[..., ::-1]
        crop[:] = cut
        if mirrored and content == "flow":
            crop[:, 0] *= -1
