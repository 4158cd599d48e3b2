"""Pairs of frames with known flow, for `flow_accuracy.py` and `tune_flow.py`.

The folder has Middlebury pairs in flow_gt/middlebury, MPI-Sintel pairs in flow_gt/sintel_*, and clips in
ucf101, ucf24 and ps7_actions. The other sets are made from frames of the clips, always the same ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from flowprep.bench.fidelity import sample_pairs
from flowprep.bench.truth import frames_of_truth
from flowprep.flo import read_flo
from flowprep.video.decode import read_frames
from flowprep.video.frames import read_image, to_grey

Floats = npt.NDArray[np.float32]
Grey = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

SIZE = "short:256"  # of clips
_SEED = 20
_NOISE = 1.0  # grey levels of noise that is added to made frames
_BACKGROUND_FRAMES = 60  # of a clip, in which its background must not change
_BACKGROUND_GREY = 6.0  # largest change of a smoothed background pixel, grey levels
_LEAST_BACKGROUND = 0.4  # share of the pixels of a clip that counts as one of a fixed camera


@dataclass(frozen=True)
class Pair:
    """Two frames and their flow.

    Attributes:
        name: its name in the set.
        frames: (2, H, W) uint8.
        truth: (2, H, W) float32, pixels; NaN where it is unknown.
    """

    name: str
    frames: Grey
    truth: Floats


@dataclass(frozen=True)
class Background:
    """Two frames of a fixed camera.

    Attributes:
        name: the clip.
        frames: (2, H, W) uint8.
        still: (H, W), the pixels of the background.
    """

    name: str
    frames: Grey
    still: Mask


def load_sets(data: Path) -> dict[str, list[Pair]]:
    """All sets with known flow, by name.

    Args:
        data: the folder.
    """
    rng = np.random.default_rng(_SEED)
    textures = [_grey_frame(clip) for clip in _clips(data)[3::11]]
    return {
        "middlebury": [_true_pair(path) for path in sorted((data / "flow_gt/middlebury").rglob("*.flo"))],
        "sintel": [
            pair
            for path in sorted((data / "flow_gt").glob("sintel*/*.flo"))
            for pair in _with_weather(_true_pair(path), rng)
        ],
        "shifted clips": [
            _shifted(clip, 0.05 * 1.6**k, rng) for k, clip in enumerate(_clips(data)[5::14][:8])
        ],
        "warped clips": [_warped(clip, 0.1 * 1.45**k, rng) for k, clip in enumerate(_clips(data)[9::12][:9])],
        "layered scenes": [_layered(k, textures, rng) for k in range(10)],
    }


def load_backgrounds(data: Path) -> list[Background]:
    """Pairs of clips whose camera does not move."""
    clips = [clip for clip in sorted((data / "ucf101").rglob("*.avi")) if "PushUps" in clip.name][1::2]
    clips += sorted((data / "ps7_actions").glob("*.avi"))[2::7]
    found = [_background(clip) for clip in clips]
    return [background for background in found if background.still.mean() > _LEAST_BACKGROUND]


def load_clip_pairs(data: Path, count: int = 12) -> list[Grey]:
    """Pairs of frames (2, H, W) of clips of all classes."""
    clips = _clips(data)
    return [
        np.stack(pair) for pair in sample_pairs(clips[:: max(len(clips) // count, 1)][:count], SIZE, count)
    ]


def small_motions(data: Path, motion_px: float) -> Iterator[Pair]:
    """Frames with noise in which a patch of 100 x 80 pixels moves, before a background that does not."""
    rng = np.random.default_rng(_SEED)
    for k, clip in enumerate(_clips(data)[4::18][:6]):
        frame = _grey_frame(clip).astype(np.float32)
        patch = np.zeros(frame.shape, bool)
        top, left = frame.shape[0] // 3, frame.shape[1] // 3
        patch[top : top + 80, left : left + 100] = True
        motion = np.float32(motion_px) * np.array([np.cos(k), np.sin(k)], np.float32)
        moved = np.where(patch, _sampled(frame, -motion[0], -motion[1]), frame)
        truth = np.full((2, *frame.shape), np.nan, np.float32)
        truth[:, top + 12 : top + 68, left + 12 : left + 88] = motion[:, None, None]
        yield Pair(clip.stem, np.stack([_recorded(f, rng) for f in (frame, moved)]), truth)


def _clips(data: Path) -> list[Path]:
    return [
        clip for name in ("ucf101", "ucf24", "ps7_actions") for clip in sorted((data / name).rglob("*.avi"))
    ]


def _grey_frame(clip: Path) -> Grey:
    (first, _), *_ = sample_pairs([clip], SIZE, 1)
    return first


def _true_pair(path: Path) -> Pair:
    frames = np.stack([to_grey(read_image(frame)) for frame in frames_of_truth(path)])
    return Pair(path.parent.name, frames, read_flo(path))


def _with_weather(pair: Pair, rng: np.random.Generator) -> list[Pair]:
    """The pair, and the same with blur, noise and compression."""
    blurred = [cv2.GaussianBlur(frame, (0, 0), 1.0).astype(np.float32) for frame in pair.frames]
    frames = np.stack([_recorded(frame, rng, noise=3.0, quality=80) for frame in blurred])
    return [pair, Pair(f"{pair.name} blurred", frames, pair.truth)]


def _recorded(
    image: Floats, rng: np.random.Generator, noise: float = 0.7, quality: int | None = None
) -> Grey:
    """An image as a camera records it: with noise, in whole grey levels, perhaps compressed by JPEG."""
    noisy = image + rng.normal(0, noise, image.shape)
    grey: Grey = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    if quality is None:
        return grey
    _, data = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)


def _sampled(image: Floats, dx: Floats | np.float32, dy: Floats | np.float32) -> Floats:
    """The image at x + (dx, dy)."""
    x, y = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in image.shape[::-1]))
    return np.asarray(
        cv2.remap(image, x + dx, y + dy, cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REFLECT_101), np.float32
    )


def _without_border(truth: Floats, width: int) -> Floats:
    truth = truth.copy()
    truth[:, :width] = truth[:, -width:] = truth[:, :, :width] = truth[:, :, -width:] = np.nan
    return truth


def _shifted(clip: Path, motion_px: float, rng: np.random.Generator) -> Pair:
    """A frame of a clip, and the same shifted, without noise."""
    frame = _grey_frame(clip)
    angle = rng.uniform(0, 2 * np.pi)
    motion = (motion_px * np.array([np.cos(angle), np.sin(angle)])).astype(np.float32)
    moved = _sampled(frame.astype(np.float32), -motion[0], -motion[1])
    truth = np.broadcast_to(motion[:, None, None], (2, *frame.shape))
    frames = np.stack([frame, np.clip(np.rint(moved), 0, 255).astype(np.uint8)])
    return Pair(clip.stem, frames, _without_border(truth, 4))


def _warped(clip: Path, motion_px: float, rng: np.random.Generator) -> Pair:
    """A frame of a clip, and the same after a smooth motion, both with noise and compression."""
    frame = _grey_frame(clip).astype(np.float32)
    height, width = frame.shape
    x, y = np.meshgrid(np.arange(width) / width - 0.5, np.arange(height) / height - 0.5)
    c = rng.uniform(-1, 1, 6)
    # The second frame shows at x what the first shows at x - back(x).
    back = (motion_px * np.stack([c[0] + c[1] * x + c[2] * y, c[3] + c[4] * x + c[5] * y])).astype(np.float32)
    truth = back
    for _ in range(6):  # truth(x) = back(x + truth(x))
        truth = np.stack([_sampled(part, truth[0], truth[1]) for part in back])
    frames = np.stack([_recorded(f, rng, _NOISE, 90) for f in (frame, _sampled(frame, -back[0], -back[1]))])
    return Pair(clip.stem, frames, _without_border(truth, 8))


class _Layer(NamedTuple):
    """A texture that moves: a point at x goes to turn (x - centre) + centre + shift.

    Its outline has the distance `radius` from the centre, changed by waves around it; 0 for the whole image.
    """

    texture: Floats
    turn: npt.NDArray[np.float64]
    shift: npt.NDArray[np.float64]
    centre: npt.NDArray[np.float64]
    radius: float
    waves: npt.NDArray[np.float64]

    def drawn(
        self, places: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Grey levels and opacity where the layer has the places (2, h, w), in its own coordinates."""
        x, y = (place.astype(np.float32) + 40 for place in places)
        grey = cv2.remap(self.texture, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
        if not self.radius:
            return grey.astype(np.float64), np.ones_like(grey, np.float64)
        dx, dy = places - self.centre[:, None, None]
        angle, distance = np.arctan2(dy, dx), np.hypot(dx, dy)
        outline = 1 + sum(a * np.cos((k + 1) * angle + phase) for k, (a, phase) in enumerate(self.waves))
        return grey.astype(np.float64), np.clip(self.radius * outline - distance + 0.5, 0, 1)


def _layered(number: int, textures: list[Grey], rng: np.random.Generator) -> Pair:
    """Layers of real textures with affine motions before a background, in the way of FlyingChairs.

    A. Dosovitskiy and others, "FlowNet: learning optical flow with convolutional networks", ICCV 2015.
    """
    height, width = 288, 384
    background_px = [0, 0.2, 0.8, 2.5, 0, 0.5, 1.5, 5, 0, 1][number]
    layers = [_layer(textures, background_px, (width / 2, height / 2), 0, rng)]
    for _ in range(4):
        motion_px = np.exp(rng.uniform(np.log(0.3), np.log(12)))
        centre = rng.uniform(60, width - 60), rng.uniform(50, height - 50)
        layers.append(_layer(textures, motion_px, centre, rng.uniform(25, 70), rng))
    places = np.stack(np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64)))
    first, second = np.zeros((height, width)), np.zeros((height, width))
    truth = np.zeros((2, height, width), np.float32)
    for layer in layers:
        centre = layer.centre[:, None, None]
        forth = np.einsum("ij,jhw->ihw", layer.turn, places - centre) + centre + layer.shift[:, None, None]
        grey, opacity = layer.drawn(places)
        first = first * (1 - opacity) + grey * opacity
        truth = np.where(opacity > 0.5, forth - places, truth).astype(np.float32)
        before = np.linalg.inv(layer.turn)
        back = np.einsum("ij,jhw->ihw", before, places - centre - layer.shift[:, None, None]) + centre
        grey, opacity = layer.drawn(back)
        second = second * (1 - opacity) + grey * opacity
    quality = 85 if number % 2 else None
    frames = np.stack([_recorded(f.astype(np.float32), rng, _NOISE, quality) for f in (first, second)])
    return Pair(f"scene {number}", frames, truth)


def _layer(
    textures: list[Grey],
    motion_px: float,
    centre: tuple[float, float],
    radius: float,
    rng: np.random.Generator,
) -> _Layer:
    texture = cv2.resize(textures[rng.integers(len(textures))], (512, 384), interpolation=cv2.INTER_CUBIC)
    angle, zoom = rng.normal(0, 0.02, 2) * min(motion_px, 3)
    direction = rng.uniform(0, 2 * np.pi)
    turn = (1 + zoom / 2) * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    waves = np.stack([rng.uniform(0, 0.25, 4), rng.uniform(0, 2 * np.pi, 4)], axis=1)
    shift = motion_px * np.array([np.cos(direction), np.sin(direction)])
    smooth = cv2.GaussianBlur(texture.astype(np.float32), (0, 0), 0.5)
    return _Layer(smooth, turn, shift, np.array(centre), radius, waves)


def _background(clip: Path) -> Background:
    stream = itertools.islice(read_frames(clip, SIZE), _BACKGROUND_FRAMES)
    frames = np.stack([to_grey(frame.rgb) for _, frame in stream])
    smooth = np.stack([cv2.GaussianBlur(frame, (0, 0), 1.5).astype(np.float32) for frame in frames[::3]])
    change = np.abs(smooth - np.median(smooth, axis=0)).max(axis=0)
    # Pixels near what moves are left out: flow is smooth across the border.
    still = cv2.erode((change < _BACKGROUND_GREY).astype(np.uint8), np.ones((25, 25))) > 0
    middle = len(frames) // 2
    return Background(clip.stem, frames[middle : middle + 2], still)
