"""Sample clips with known classes: the whole way from videos to a trained classifier can be tried at once.

Every clip shows a round window onto a patterned sheet, over a slowly drifting background. There are two
kinds of classes:

* by motion: the pattern is always dots, and only the sheet's motion differs (DotsSliding, DotsSpinning, ...);
* by appearance: the pattern differs (Rings, Stars, ...), and the motions of the first kind take turns.

The spatial stream can at best tell the patterns and guess among the motions; the temporal stream can at
best tell the motions and guess among the patterns; both together can tell everything.

What makes it hold is that a single frame of a sheet has the same distribution whatever its motion and
at whatever time: the sheet repeats in both directions and starts anywhere; its angle is uniform on the
circle; and its scale is uniform on a circle too, since the sheet is an endless zoom (octaves of one
pattern, fading in small and out large, as in the tones of Shepard, "Circularity in judgments of relative
pitch", 1964). The pattern's figures cover the same area at the same brightness in every texture, so that
grey levels, from which flow is computed, say little about the texture. A group has its own background,
light and noise, shared by all classes, and lies whole in one of the two lists.

A class is also the same seen in a mirror (Sliding goes either way, as does Spinning), so that training
with horizontal flips, which negate u, is sound.
"""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from flowprep.errors import SettingsError, UsageError
from flowprep.system.progress import Progress, no_progress

WIDTH, HEIGHT = 160, 120  # pixels
FRAME_RATE = 25  # frames a second
FRAMES = (30, 36)  # of a clip, fewest and most: 1.2 to 1.4 s
SPEED = (1.5, 3.0)  # pixels per frame: of the sheet, or of its rim where it turns or grows
TEST_SHARE = 0.3  # of the groups

_MARKER = "samples.json"  # what a folder of samples holds, and the sign that it is one

_CELL = 16  # pixels: the distance between figures at scale 1
_CELLS = 6  # figures per side of the sheet's tile
_TEXELS = 3  # texels per pixel at scale 1
_COVER = 0.36  # share of the sheet that figures cover
_BACKGROUND = 256  # pixels: the side of a background, which repeats
_GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))  # steps of it keep any number of hues well apart

Image = NDArray[np.uint8]
Plane = NDArray[np.float32]


@dataclass(frozen=True)
class Samples:
    """What write_samples made.

    Attributes:
        directory: the folder; a clip is `directory / path` for a path in one of the lists.
        classes: names in the order of classInd.txt, which counts them from 1.
        train, test: paths of clips, POSIX style, relative to the folder.
        lists: the folder with classInd.txt, trainlist01.txt and testlist01.txt.
        written: how many clips were encoded by this call; the others were there already.
    """

    directory: Path
    classes: tuple[str, ...]
    train: tuple[str, ...]
    test: tuple[str, ...]
    lists: Path
    written: int

    @property
    def clips(self) -> int:
        """The number of clips of all classes."""
        return len(self.train) + len(self.test)


def write_samples(
    directory: str | Path,
    classes: int = 8,
    clips: int = 20,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Samples:
    """Write encoded clips in class folders, with UCF-101-style lists of a split.

    The clips are `<Class>/v_<Class>_g<group>_c<clip>.mp4`, 160x120 at 25 frames a second, H.264; the lists
    are `splits/classInd.txt`, `trainlist01.txt` and `testlist01.txt`. The same arguments give the same clips.
    What is there already from a call with the same arguments is kept, so that a stopped call can be repeated.

    The default of 8 classes x 20 clips has about 5,100 pairs: under a minute of TV-L1 on two cores.

    Args:
        directory: made where it is missing; else empty or made by this function with the same arguments.
        classes: 2 to 16, half of them by motion and half by appearance (one more by motion if odd).
        clips: of each class, 2 to 198, in groups of two (or of one, when there are fewer than four).
        seed: from 0; another seed gives other backgrounds, positions and speeds.
        progress: called after each clip.

    Raises:
        SettingsError: classes, clips or seed is not in its range.
        UsageError: the folder holds something else, or samples made with other arguments.
    """
    most = 2 * min(len(_MOTIONS), len(_FIGURES) - 1)
    for name, value, low, high in (
        ("classes", classes, 2, most),
        ("clips", clips, 2, 198),
        ("seed", seed, 0, 2**32),
    ):
        if not (isinstance(value, int) and low <= value <= high):
            raise SettingsError(f"{name} is {value}; allowed: a whole number from {low} to {high}")
    directory = Path(directory)
    _claim(
        directory,
        {"made by": "flowprep samples", "version": 1, "classes": classes, "clips": clips, "seed": seed},
    )

    plan = list(_plan(classes, clips, seed))
    names = tuple(sorted({clip.label for clip in plan}))
    train = tuple(clip.path for clip in plan if not clip.test)
    test = tuple(clip.path for clip in plan if clip.test)
    lists = directory / "splits"
    for folder in (lists, *(directory / name for name in names)):
        folder.mkdir(exist_ok=True)
    number = {name: i for i, name in enumerate(names, 1)}
    _write_lines(lists / "classInd.txt", [f"{i} {name}" for name, i in number.items()])
    _write_lines(lists / "trainlist01.txt", [f"{path} {number[path.split('/')[0]]}" for path in train])
    _write_lines(lists / "testlist01.txt", list(test))

    def write(clip: _Clip) -> bool:
        path = directory / clip.path
        missing = not path.exists()
        if missing:
            _encode(path, _frames(clip))
        return missing

    written = 0
    # Drawing and encoding both leave Python's lock, so threads share the work.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, missing in enumerate(pool.map(write, plan), 1):
            written += missing
            progress(done, len(plan))
    return Samples(directory, names, train, test, lists, written)


def _claim(directory: Path, made: dict[str, Any]) -> None:
    """Make the folder ours, or find that it is already, with the same arguments."""
    if directory.exists() and not directory.is_dir():
        raise UsageError(f"{directory} is not a folder; name a new or an empty one")
    directory.mkdir(parents=True, exist_ok=True)
    marker = directory / _MARKER
    if not marker.exists():
        if any(directory.iterdir()):
            raise UsageError(f"{directory} is not empty and no folder of samples; name a new or an empty one")
        _write_lines(marker, [json.dumps(made, indent=1)])
        return
    try:
        found = json.loads(marker.read_text())
    except ValueError as exc:
        raise UsageError(f"{marker} cannot be read as the record of samples; name another folder") from exc
    if found != made:
        found = found if isinstance(found, dict) else {}
        differ = ", ".join(
            f"{name} {found.get(name)} (asked: {made[name]})"
            for name in made
            if found.get(name) != made[name]
        )
        raise UsageError(
            f"{directory} holds samples made with {differ}; name another folder, or remove this one"
        )


def _write_lines(path: Path, lines: list[str]) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text("\n".join(lines) + "\n")
    temporary.replace(path)


# --- Which clips there are ------------------------------------------------------------------------


@dataclass(frozen=True)
class _Clip:
    """Everything that one clip follows from."""

    path: str
    label: str
    figure: str
    motion: str
    test: bool
    group_key: tuple[int, ...]  # seeds what all clips of the group share
    clip_key: tuple[int, ...]  # seeds what is the clip's own


def _plan(classes: int, clips: int, seed: int) -> Iterator[_Clip]:
    groups = max(2, clips // 2)
    test_groups = max(1, round(TEST_SHARE * groups))
    motions = list(_MOTIONS)[: (classes + 1) // 2]
    others = [name for name in _FIGURES if name != "Dots"][: classes // 2]
    kinds: list[tuple[str, str, tuple[str, ...]]]
    kinds = [("Dots" + motion, "Dots", (motion,)) for motion in motions]
    # Each texture starts at another motion: what one has once more, another has once less.
    kinds += [
        (name, name, (*motions[i % len(motions) :], *motions[: i % len(motions)]))
        for i, name in enumerate(others)
    ]
    for index, (label, figure, moves) in sorted(enumerate(kinds), key=lambda kind: kind[1][0]):
        in_order = sorted((i % groups, i // groups) for i in range(clips))
        for i, (group, member) in enumerate(in_order):
            yield _Clip(
                path=f"{label}/v_{label}_g{group + 1:02}_c{member + 1:02}.mp4",
                label=label,
                figure=figure,
                motion=moves[i % len(moves)],
                test=group < test_groups,  # as in UCF-101, the first groups are for testing
                group_key=(seed, 0, group),
                clip_key=(seed, 1, index, group, member),
            )


# --- How a sheet moves ----------------------------------------------------------------------------

Pose = tuple[float, float, float, float]  # pixels right, pixels down, radians, octaves
Motion = Callable[[np.random.Generator, float], Callable[[int], Pose]]  # radius in pixels -> frame -> pose


def _steady(
    right: float = 0, down: float = 0, angle: float = 0, octaves: float = 0, either: bool = False
) -> Motion:
    """At an even speed in one direction, or in that or its opposite."""

    def start(rng: np.random.Generator, radius: float) -> Callable[[int], Pose]:
        way = rng.uniform(*SPEED) * (rng.choice((-1, 1)) if either else 1)
        turn, grow = way / radius, way / radius / math.log(2)
        return lambda t: (right * way * t, down * way * t, angle * turn * t, octaves * grow * t)

    return start


def _swinging(right: float = 0, down: float = 0, angle: float = 0, octaves: float = 0) -> Motion:
    """To and fro, with the same mean square speed as _steady, from any phase."""

    def start(rng: np.random.Generator, radius: float) -> Callable[[int], Pose]:
        period, phase = rng.uniform(11, 15), rng.uniform(0, 2 * math.pi)
        reach = rng.uniform(*SPEED) * math.sqrt(2) * period / (2 * math.pi)
        turn, grow = reach / radius, reach / radius / math.log(2)

        def pose(t: int) -> Pose:
            swing = math.sin(2 * math.pi * t / period + phase)
            return right * reach * swing, down * reach * swing, angle * turn * swing, octaves * grow * swing

        return pose

    return start


_MOTIONS: dict[str, Motion] = {
    "Sliding": _steady(right=1, either=True),
    "Spinning": _steady(angle=1, either=True),
    "Growing": _steady(octaves=1),
    "Swaying": _swinging(right=1),
    "Rising": _steady(down=-1),
    "Rocking": _swinging(angle=1),
    "Shrinking": _steady(octaves=-1),
    "Bobbing": _swinging(down=1),
}


# --- How a sheet looks ----------------------------------------------------------------------------

Outline = NDArray[np.float64]  # (N, 2) corners, about the origin


def _radial(radii: list[float]) -> Outline:
    """Corners at even angles, at these distances."""
    angles = np.arange(len(radii)) * 2 * math.pi / len(radii)
    return np.column_stack([np.cos(angles) * radii, np.sin(angles) * radii])


_CIRCLE = _radial([1.0] * 40)
_PLUS = np.array([(1, 3), (1, 1), (3, 1), (3, -1), (1, -1), (1, -3)], np.float64)

# A figure is what an odd number of its outlines enclose; each is scaled to cover the same area.
_FIGURES: dict[str, list[Outline]] = {
    "Dots": [_CIRCLE],
    "Rings": [_CIRCLE, 0.6 * _CIRCLE],
    "Stars": [_radial([1, 0.42] * 5)],
    "Squares": [_radial([1.0] * 4)],
    "Crosses": [np.concatenate([_PLUS, -_PLUS])],
    "Bars": [np.array([(3, 1), (-3, 1), (-3, -1), (3, -1)], np.float64)],
    "Triangles": [_radial([1.0] * 3)],
    "Moons": [_CIRCLE, 0.7 * _CIRCLE + (0.3, 0)],
    "Frames": [_radial([1.0] * 4), _radial([0.62] * 4)],
}


def _sheet(rng: np.random.Generator, figure: str) -> Plane:
    """A tile that repeats in both directions: 1 on figures, 0 between them."""
    cell = (
        _CELL * _TEXELS * 4
    )  # drawn four times finer, then averaged: filled outlines come out a pixel too wide
    side = _CELLS * cell
    outlines = _FIGURES[figure]
    areas = [
        abs(np.sum(o[:, 0] * np.roll(o[:, 1], -1) - o[:, 1] * np.roll(o[:, 0], -1))) / 2 for o in outlines
    ]
    size = cell * math.sqrt(_COVER / (areas[0] - sum(areas[1:])))
    tile = np.zeros((side, side), np.uint8)
    for row in range(_CELLS):
        for column in range(_CELLS):
            # Uneven places, for an even lattice looks the same again one step further.
            place = (np.array([column + row % 2 / 2, row]) + rng.uniform(-0.12, 0.12, 2)) * cell
            angle = rng.uniform(0, 2 * math.pi)
            turn = np.array([(math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))])
            for shift in itertools.product((-side, 0, side), repeat=2):
                points = [(o @ turn * size + place + shift).round().astype(np.int32) for o in outlines]
                cv2.fillPoly(tile, points, (255,))
    coarse = cv2.resize(tile, (side // 4, side // 4), interpolation=cv2.INTER_AREA)
    return (coarse / 255).astype(np.float32)


def _colour(luma: float, hue: float, chroma: float) -> Plane:
    """RGB of a brightness, and of a hue (radians) and strength in the plane of the two colour differences.

    From the definition of Y, Cb and Cr (ITU-R BT.601): the brightness is exactly `luma`, whatever the hue.
    """
    blue, red = chroma * math.cos(hue), chroma * math.sin(hue)
    r, b = luma + 1.402 * red, luma + 1.772 * blue
    return np.array([r, (luma - 0.299 * r - 0.114 * b) / 0.587, b]).astype(np.float32)


@cache
def _background(key: tuple[int, ...]) -> Image:
    """What a group has behind its windows: a square that repeats, in one of three manners."""
    rng, side = np.random.default_rng(key), _BACKGROUND
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]) * side
    spectrum = np.fft.rfft2(rng.standard_normal((side, side))) / (1 + (frequency / rng.uniform(3, 6)) ** 2)
    spectrum[0, 0] = 0
    height = np.fft.irfft2(spectrum, (side, side))
    height = np.argsort(np.argsort(height, axis=None)).reshape(side, side) / side**2  # even over 0 to 1
    manner = rng.integers(3)
    if manner == 1:  # terraces
        height = np.floor(height * 6) / 5
    elif manner == 2:  # a mosaic: each place has the height at the nearest of some seeds
        seeds = rng.integers(0, side, (90, 2))
        grid = np.indices((side, side)).transpose(1, 2, 0)
        nearest, best = np.zeros((side, side), np.intp), np.full((side, side), np.inf)
        for i, seed in enumerate(seeds):
            apart = np.abs(grid - seed)
            distance = np.square(np.minimum(apart, side - apart)).sum(axis=2)
            nearest[distance < best] = i
            best = np.minimum(best, distance)
        height = height[tuple(seeds.T)][nearest]
    hue, low, high = rng.uniform(0, 2 * math.pi), rng.uniform(30, 80), rng.uniform(150, 215)
    knots = [
        _colour(low, hue, 22),
        _colour((low + high) / 2, hue + rng.uniform(-1, 1), 34),
        _colour(high, hue + 2, 14),
    ]
    channels = [np.interp(height, (0, 0.5, 1), [knot[c] for knot in knots]) for c in range(3)]
    colours: Image = np.clip(np.stack(channels, axis=2), 0, 255).astype(np.uint8)
    return colours


# --- A clip's frames ------------------------------------------------------------------------------


def _frames(clip: _Clip) -> Iterator[Image]:
    """The frames of a clip: (120, 160, 3), RGB."""
    group = np.random.default_rng(clip.group_key)
    background = _background(clip.group_key)
    light, noise = group.uniform(0.85, 1.1), group.uniform(1, 3)

    rng = np.random.default_rng(clip.clip_key)
    radius = rng.uniform(40, 52)
    centre = [rng.uniform(radius + 3, side - radius - 3) for side in (WIDTH, HEIGHT)]
    pose = _MOTIONS[clip.motion](rng, radius)
    angle, octave = rng.uniform(0, 2 * math.pi), rng.uniform(0, 1)
    tile = _sheet(rng, clip.figure)
    starts = rng.uniform(0, _CELLS * _CELL, (64, 2))  # where each octave of the sheet starts
    hue = _GOLDEN_ANGLE * list(_FIGURES).index(clip.figure) + rng.uniform(-0.15, 0.15)
    figure, ground = _colour(rng.uniform(195, 225), hue, 40), _colour(rng.uniform(45, 75), hue + 0.8, 30)
    drift, way = rng.uniform(0, 0.5), rng.uniform(0, 2 * math.pi)
    corner = rng.uniform(0, _BACKGROUND, 2)

    y, x = np.indices((HEIGHT, WIDTH), np.float32)
    inside = radius - np.hypot(x - centre[0], y - centre[1])
    window = np.clip(inside + 0.5, 0, 1)[..., None]
    rim = np.clip(1.5 - np.abs(inside - 1), 0, 1)[..., None]

    for t in range(rng.integers(FRAMES[0], FRAMES[1] + 1)):
        right, down, turned, grown = pose(t)
        moved = corner + drift * t * np.array([math.cos(way), math.sin(way)])
        behind = _sample(background, np.array([[1, 0, moved[0]], [0, 1, moved[1]]]), 1)
        mask = _endless(tile, starts, centre, (right, down, angle + turned, octave + grown))[..., None]
        sheet = ground + (figure - ground) * mask
        frame = behind + (sheet - behind) * window
        frame += (25 - frame) * rim  # a dark rim, so that the window shows against any background
        frame = frame * light + noise * rng.standard_normal(frame.shape, np.float32)
        yield np.clip(frame + 0.5, 0, 255).astype(np.uint8)


def _endless(tile: Plane, starts: NDArray[np.float64], centre: list[float], pose: Pose) -> Plane:
    """The sheet in a pose, over the whole frame: the two octaves around scale 1, blended."""
    right, down, angle, octave = pose
    out = np.zeros((HEIGHT, WIDTH), np.float32)
    for k in (math.floor(octave), math.floor(octave) + 1):
        scale = 2.0 ** (octave - k)  # in (1/2, 2)
        cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
        turn = np.array([(cos, sin), (-sin, cos)])
        offset = starts[k % len(starts)] - turn @ (centre[0] + right, centre[1] + down)
        offset %= _CELLS * _CELL
        weight = math.cos(math.pi / 2 * (octave - k)) ** 2  # the two add to 1
        out += np.float32(weight) * _sample(tile, np.column_stack([turn, offset]) * _TEXELS, 2)
    return out


def _sample(tile: NDArray[Any], matrix: NDArray[np.float64], finer: int) -> NDArray[Any]:
    """What lies at `matrix @ (x, y, 1)` in a tile that repeats, averaged over `finer`^2 samples."""
    matrix = matrix.copy()
    matrix[:, 2] += matrix[:, :2] @ np.full(
        2, (1 - finer) / 2 / finer
    )  # samples lie evenly about a pixel's centre
    matrix[:, :2] /= finer
    size = (WIDTH * finer, HEIGHT * finer)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    fine = cv2.warpAffine(tile, matrix, size, flags=flags, borderMode=cv2.BORDER_WRAP)
    return cv2.resize(fine, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA) if finer > 1 else fine


def _encode(path: Path, frames: Iterator[Image]) -> None:
    """Write an .mp4 under a temporary name, then rename it, so that a clip is whole or not there."""
    temporary = path.with_name(path.name + ".tmp")
    # PyAV's own builds have x264; a build without it still has FFmpeg's MPEG-4 encoder.
    h264 = "libx264" in av.codecs_available
    # What is written must not vary: not with the number of cores, hence one thread, and not from run to
    # run, as that of x264's macroblock tree does.
    options = {"crf": "18", "preset": "veryfast", "x264-params": "mbtree=0"} if h264 else {"b": "2M"}
    options["threads"] = "1"
    with av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream(
            "libx264" if h264 else "mpeg4", rate=Fraction(FRAME_RATE), options=options
        )
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    temporary.replace(path)
