"""Small videos with known content, for tests."""

from __future__ import annotations

import functools
import math
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np


@functools.cache
def texture(height: int, width: int, right: float = 0.0, seed: int = 0) -> np.ndarray:
    """A smooth (H, W, 3) uint8 texture, moved right by a number of pixels."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), 128.0)
    for _ in range(12):
        fx, fy, phase = rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.5), rng.uniform(0, 2 * math.pi)
        image += 12 * np.sin(fx * (x - right) + fy * y + phase)[..., None]
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def write_video(
    path: Path,
    frames: int = 9,
    size: tuple[int, int] = (48, 32),
    speed: float = 1.0,
    seed: int = 0,
    times: list[int] | None = None,
) -> Path:
    """An MPEG-4 video of a texture that moves right by `speed` pixels per frame. `times` are in 1/25 s."""
    width, height = size
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.bit_rate = 4_000_000
        stream.codec_context.time_base = Fraction(1, 25)
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(texture(height, width, speed * i, seed), "rgb24")
            frame.pts = times[i] if times else i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_frames(
    folder: Path, frames: int = 5, size: tuple[int, int] = (48, 32), pattern: str = "img_{:05d}.png"
) -> Path:
    """A folder of numbered frames."""
    return write_images(folder, [texture(size[1], size[0], i) for i in range(frames)], pattern)


def write_images(folder: Path, images: list[np.ndarray], pattern: str = "img_{:05d}.png") -> Path:
    """A folder of numbered frames, each (H, W, 3) uint8."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        cv2.imwrite(str(folder / pattern.format(i + 1)), image[..., ::-1])
    return folder


def scene(height: int, width: int, right: float = 0.0, seed: int = 0) -> np.ndarray:
    """A texture of blobs that a small copy still shows, moved right by a number of pixels."""
    coarse = texture(-(-height // 4), -(-width // 4), right / 4, seed)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
