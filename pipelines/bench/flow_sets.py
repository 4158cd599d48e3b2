"""The pairs of frames on which the settings of flow are compared.

They are made from a folder with real data. The folder contains:

    flow_gt/middlebury/SEQUENCE/     frame10.png, frame11.png, flow10.flo
    flow_gt/sintel_alley_1/          frame_0002.png, frame_0003.png, frame_0002.flo
    ucf101/, ucf24/, ps7_actions/    .avi files at any depth

The same folder always gives the same pairs. The sets with known flow have names of one letter:

    M  Middlebury
    S  MPI-Sintel: as published, and blurred, noisy and compressed
    Y  real frames, warped by smooth motions of 0.1 to 2.5 px, with noise and compression
    C  real frames, shifted by constants of 0.05 to 1.5 px, without noise
    Z  scenes of textured layers, with motions up to 12 px and occlusions
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from flow_scenes import (
    Flow,
    Frames,
    Grey,
    Mask,
    known_flow,
    moved,
    patch_before,
    random_layers,
    recorded,
    render,
    scene_flow,
    shift,
    smooth_motion,
)

from flowprep.errors import UsageError
from flowprep.flo import read_flo
from flowprep.video.decode import read_frames
from flowprep.video.frames import read_image, to_grey

SETS = "MSYCZ"
PATCH_MOTIONS = (0.02, 0.05, 0.1, 0.2, 0.5)  # pixels

# Numbers of the clips in the order of their names, by folder. A clip has one use only, except that discs have
# the textures of Z.
Clips = dict[str, tuple[int, ...]]
_WARPED: Clips = {"ucf101": (1, 14, 27, 40, 61), "ucf24": (3, 8, 18), "ps7_actions": (6, 20)}
_SHIFTED: Clips = {"ucf101": (5, 21, 37, 60), "ucf24": (4, 11), "ps7_actions": (8, 24)}
_TEXTURES: Clips = {"ucf101": (12, 33, 48, 67), "ucf24": (6, 14, 16), "ps7_actions": (4, 13, 22)}
_FIXED_CAMERAS: Clips = {"ucf101": (52, 53, 64, 68, 71, 73), "ps7_actions": (12, 15, 23, 25)}
_CLIPS: Clips = {"ucf101": (3, 16, 31, 42, 51, 72), "ucf24": (0, 5, 10, 15), "ps7_actions": (11, 26)}

_SIZE = "short:256"  # of the frames of clips
_FRAME = 20  # of a clip: the first of a pair
_SHIFTS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5)  # pixels
_GOLDEN_ANGLE = 2.39996  # between the directions of two shifts, so that they are spread evenly
_SCENE = (288, 384)  # height and width
_BACKGROUNDS = (0, 0.2, 0.6, 1.5, 4, 0, 0.4, 1, 2.5, 8)  # pixels, of a scene's background
_STILL_FRAMES = 60  # that decide which pixels are still
_STILL_GREY = 6.0  # largest change of a still pixel after smoothing, grey levels
_BAR_GREY = 40.0  # rows and columns at the border that are darker everywhere are black bars


@dataclass(frozen=True)
class Pair:
    """Two frames with known flow.

    Attributes:
        name: unique in its set.
        frames: both frames.
        truth: the flow from the first to the second, pixels; NaN where it is not known.
    """

    name: str
    frames: Frames
    truth: Flow


@dataclass(frozen=True)
class Background:
    """Two frames of a fixed camera.

    Attributes:
        name: the clip.
        frames: both frames.
        still: (H, W), the pixels that do not move in the clip.
    """

    name: str
    frames: Frames
    still: Mask


@dataclass(frozen=True)
class Patch:
    """A disc that moves before a still background.

    Attributes:
        name: the clip of the background.
        frames: both frames.
        inside: (H, W), the pixels of the disc that are not near its border.
        motion: displacement of the disc, pixels.
    """

    name: str
    frames: Frames
    inside: Mask
    motion: tuple[float, float]

    @property
    def size(self) -> float:
        """The length of the motion, pixels."""
        return round(float(np.hypot(*self.motion)), 6)


@dataclass(frozen=True)
class FlowSets:
    """All pairs.

    Attributes:
        known: the pairs with known flow, by the letter of their set.
        backgrounds: pairs of fixed cameras.
        patches: discs that move before these backgrounds, by each of `PATCH_MOTIONS`.
        clips: pairs of mixed clips, for time and size.
    """

    known: dict[str, list[Pair]]
    backgrounds: list[Background]
    patches: list[Patch]
    clips: list[Frames]


def load_sets(data: Path) -> FlowSets:
    """Make all pairs.

    Args:
        data: the folder of the real data.

    Raises:
        UsageError: something in the folder is missing, or moves where a camera should be fixed.
    """
    known = {
        "M": middlebury(data),
        "S": sintel(data),
        "Y": warped(data),
        "C": shifted(data),
        "Z": scenes(data),
    }
    fixed = backgrounds(data)
    return FlowSets(known, fixed, patches(data, fixed), [frames for _, frames in _pairs(data, _CLIPS)])


def middlebury(data: Path) -> list[Pair]:
    """The training pairs of Middlebury that are in the folder."""
    paths = _some(data / "flow_gt" / "middlebury", "*/flow10.flo")
    return [
        Pair(path.parent.name, _images(path.parent, "frame10.png", "frame11.png"), read_flo(path))
        for path in paths
    ]


def sintel(data: Path) -> list[Pair]:
    """The pairs of MPI-Sintel, each as it is, and blurred, noisy and compressed."""
    rng = np.random.default_rng(11)
    pairs = []
    for path in _some(data / "flow_gt" / "sintel_alley_1", "*.flo"):
        number = int(path.stem[-4:])
        frames = _images(path.parent, f"frame_{number:04d}.png", f"frame_{number + 1:04d}.png")
        blurred = [cv2.GaussianBlur(frame, (0, 0), 1.0).astype(np.float64) for frame in frames]
        poor = np.stack([recorded(frame, rng, 3, 80) for frame in blurred])
        truth = read_flo(path)
        pairs += [Pair(path.stem, frames, truth), Pair(f"{path.stem} poor", poor, truth)]
    return pairs


def warped(data: Path) -> list[Pair]:
    """Frames of clips, warped by smooth motions. Both frames have noise of their own, and are compressed."""
    rng = np.random.default_rng(12)
    pictures = _pictures(data, _WARPED)
    pairs = []
    for (name, first), size in zip(pictures, np.geomspace(0.1, 2.5, len(pictures)), strict=True):
        motion = smooth_motion(rng, float(size), *first.shape)
        made = [recorded(image, rng, 1, 90) for image in (first.astype(np.float64), moved(first, motion))]
        pairs.append(Pair(name, np.stack(made), known_flow(motion, first.shape, 8)))
    return pairs


def shifted(data: Path) -> list[Pair]:
    """Frames of clips, shifted by constants. Nothing is added but the rounding to grey levels."""
    rng = np.random.default_rng(13)
    pairs = []
    for number, ((name, first), size) in enumerate(zip(_pictures(data, _SHIFTED), _SHIFTS, strict=True)):
        angle = number * _GOLDEN_ANGLE
        motion = shift(size * np.cos(angle), size * np.sin(angle))
        second = recorded(moved(first, motion), rng)
        truth = known_flow(motion, second.shape, 4)
        pairs.append(Pair(name, np.stack([first, second]), truth))
    return pairs


def scenes(data: Path) -> list[Pair]:
    """Scenes of layers with affine motions. All have noise, and every other one is compressed."""
    textures = [picture for _, picture in _pictures(data, _TEXTURES)]
    pairs = []
    for number, background in enumerate(_BACKGROUNDS):
        rng = np.random.default_rng([14, number])
        layers = random_layers(rng, textures, background, *_SCENE)
        quality = 85 if number % 2 else None
        made = [recorded(render(layers, *_SCENE, second=second), rng, 1, quality) for second in (False, True)]
        pairs.append(Pair(f"scene {number}", np.stack(made), scene_flow(layers, *_SCENE)))
    return pairs


def backgrounds(data: Path) -> list[Background]:
    """Pairs of fixed cameras, and the pixels that do not move."""
    result = []
    for folder, number in _numbers(_FIXED_CAMERAS):
        path = _clip(data, folder, number)
        frames = _frames(path, 0, _STILL_FRAMES)
        middle = len(frames) // 2
        still = still_pixels(frames)
        if not still.any():
            raise UsageError(f"{path} has no still background; allowed: clips of fixed cameras")
        result.append(Background(path.stem, frames[middle : middle + 2], still))
    return result


def still_pixels(frames: Frames) -> Mask:
    """The pixels that stay the same in all frames but for noise, (H, W).

    Their neighbours within 8 pixels are still, too. Black bars at the border are left out.

    Args:
        frames: (F, H, W), of a fixed camera.
    """
    smooth = np.stack([cv2.GaussianBlur(frame, (0, 0), 1.5) for frame in frames.astype(np.float32)])
    median = np.median(smooth, axis=0)
    still = (np.abs(smooth - median).max(axis=0) < _STILL_GREY).astype(np.uint8)
    still = cv2.erode(still, np.ones((17, 17), np.uint8), borderValue=1)
    rows, columns = _without_bars(np.median(frames, axis=0))
    mask = np.zeros(still.shape, bool)
    mask[rows, columns] = still[rows, columns].astype(bool)
    return mask


def _without_bars(image: npt.NDArray[np.floating] | Grey) -> tuple[slice, slice]:
    """The rows and columns of an image between its black bars; all of them if it is dark everywhere."""
    slices = []
    for axis in (1, 0):
        bright = np.flatnonzero(image.max(axis=axis) > _BAR_GREY)
        slices.append(slice(int(bright[0]), int(bright[-1]) + 1) if bright.size else slice(None))
    return slices[0], slices[1]


def patches(data: Path, fixed: Sequence[Background]) -> list[Patch]:
    """Discs that move before the backgrounds, with noise as strong as that of the background."""
    textures = [picture for _, picture in _pictures(data, _TEXTURES)]
    result = []
    for number, (background, texture) in enumerate(zip(fixed, itertools.cycle(textures), strict=False)):
        rng = np.random.default_rng([15, number])
        difference = background.frames[1].astype(np.float64) - background.frames[0]
        noise = float(difference[background.still].std()) / np.sqrt(2)
        for size in PATCH_MOTIONS:
            angle = rng.uniform(0, 2 * np.pi)
            motion = (size * float(np.cos(angle)), size * float(np.sin(angle)))
            centre = _middle_of(background.still)
            frames, inside = patch_before(background.frames, texture, motion, centre, rng, noise)
            result.append(Patch(background.name, frames, inside, motion))
    return result


def _middle_of(mask: Mask) -> tuple[float, float]:
    """The pixel of a mask that is farthest from its border, but not near that of the image, (x, y)."""
    height, width = mask.shape
    distance = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(int(distance.argmax()), mask.shape)
    margin = height // 4
    return float(np.clip(x, margin, width - margin)), float(np.clip(y, margin, height - margin))


def _numbers(clips: Clips) -> Iterable[tuple[str, int]]:
    return ((folder, number) for folder, numbers in clips.items() for number in numbers)


def _pairs(data: Path, clips: Clips) -> list[tuple[str, Frames]]:
    """The name of each clip and two of its frames."""
    paths = [_clip(data, folder, number) for folder, number in _numbers(clips)]
    return [(path.stem, _frames(path, _FRAME, 2)) for path in paths]


def _pictures(data: Path, clips: Clips) -> list[tuple[str, Grey]]:
    """The name of each clip and one of its frames, without black bars: there, no motion can be measured."""
    pictures = [(name, frames[0]) for name, frames in _pairs(data, clips)]
    return [(name, picture[_without_bars(picture)]) for name, picture in pictures]


def _clip(data: Path, folder: str, number: int) -> Path:
    paths = _some(data / folder, "**/*.avi")
    return paths[number % len(paths)]


def _frames(path: Path, first: int, count: int) -> Frames:
    """Grey frames of a clip; the last ones if it is too short for `first`."""
    stream = itertools.islice(read_frames(path, _SIZE), first + count)
    frames = [to_grey(frame.rgb) for _, frame in stream]
    if len(frames) < 2:
        raise UsageError(f"{path} has {len(frames)} frames; allowed: at least 2")
    return np.stack(frames[-count:])


def _images(folder: Path, *names: str) -> Frames:
    frames: list[Grey] = [to_grey(read_image(folder / name)) for name in names]
    return np.stack(frames)


def _some(folder: Path, pattern: str) -> list[Path]:
    """The sorted files of a folder that match a pattern.

    Raises:
        UsageError: there is none.
    """
    paths = sorted(folder.glob(pattern))
    if not paths:
        raise UsageError(f"no {pattern} in {folder}")
    return paths
