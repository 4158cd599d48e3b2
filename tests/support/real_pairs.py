"""Pairs of grey frames from the real data."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray


def pair_of_clip(path: Path) -> NDArray[np.uint8]:
    """Frames 20 and 21 of a video, the middle 160 x 120 pixels: (2, 120, 160)."""
    with av.open(str(path)) as container:
        frames = [frame for frame, _ in zip(container.decode(video=0), range(22), strict=False)][-2:]
    return np.stack([frame.to_ndarray(format="gray")[60:180, 80:240] for frame in frames])


def pair_of_middlebury(folder: Path) -> NDArray[np.uint8]:
    """Frames 10 and 11 of a Middlebury sequence, 160 x 120 pixels: (2, 120, 160)."""
    images = [cv2.imread(str(folder / f"frame{i}.png"), cv2.IMREAD_GRAYSCALE) for i in (10, 11)]
    return np.stack([image[120:240, 200:360] for image in images])
