"""Drawing of sheets, colours and backgrounds."""

from __future__ import annotations

import itertools
import math
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from flowprep.synthetic.motion import Pose
from flowprep.video.frames import resize

WIDTH, HEIGHT = 160, 120  # pixels of a frame
CELL = 16  # pixels: distance of figures at scale 1
CELLS = 6  # figures per side of the sheet's tile
BACKGROUND_SIDE = 256  # pixels; the background repeats
_TEXELS = 3  # texels per pixel at scale 1
_COVERAGE = 0.36  # share of the sheet that figures cover
_SUPERSAMPLING = 4  # filled outlines are a pixel too wide, so they are drawn finer and averaged

Image = NDArray[np.uint8]
Plane = NDArray[np.float32]
Outline = NDArray[np.float64]  # (N, 2) corners around the origin


def _radial(radii: list[float]) -> Outline:
    """Corners at these distances from the origin and at even angles."""
    angles = np.arange(len(radii)) * 2 * math.pi / len(radii)
    return np.column_stack([np.cos(angles) * radii, np.sin(angles) * radii])


_CIRCLE = _radial([1.0] * 40)
_PLUS = np.array([(1, 3), (1, 1), (3, 1), (3, -1), (1, -1), (1, -3)], np.float64)

# A figure is the area that an odd number of its outlines enclose. Its size is scaled to _COVERAGE.
FIGURES: dict[str, list[Outline]] = {
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


def draw_sheet(rng: np.random.Generator, figure: str) -> Plane:
    """A tile that repeats in both directions: 1 on figures, 0 between them."""
    cell = CELL * _TEXELS * _SUPERSAMPLING
    side = CELLS * cell
    outlines = FIGURES[figure]
    areas = [_area(outline) for outline in outlines]
    size = cell * math.sqrt(_COVERAGE / (areas[0] - sum(areas[1:])))
    tile = np.zeros((side, side), np.uint8)
    for row in range(CELLS):
        for column in range(CELLS):
            # Irregular places, because a regular lattice looks the same after one step.
            place = (np.array([column + row % 2 / 2, row]) + rng.uniform(-0.12, 0.12, 2)) * cell
            angle = rng.uniform(0, 2 * math.pi)
            turn = np.array([(math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))])
            for shift in itertools.product((-side, 0, side), repeat=2):
                points = [(o @ turn * size + place + shift).round().astype(np.int32) for o in outlines]
                cv2.fillPoly(tile, points, (255,))
    coarse = resize(tile, side // _SUPERSAMPLING, side // _SUPERSAMPLING)
    return (coarse / 255).astype(np.float32)


def _area(outline: Outline) -> float:
    x, y = outline.T
    return float(abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2)


def colour(luma: float, hue: float, chroma: float) -> Plane:
    """The RGB colour of a brightness and of a hue and a strength in the plane of the colour differences.

    From the definition of Y, Cb and Cr in ITU-R BT.601. The brightness is exactly `luma`, whatever the hue.

    Args:
        luma: brightness, 0 to 255.
        hue: direction in the plane, radians.
        chroma: distance from grey in the plane.

    Returns:
        (3,) float32.
    """
    blue, red = chroma * math.cos(hue), chroma * math.sin(hue)
    r, b = luma + 1.402 * red, luma + 1.772 * blue
    return np.array([r, (luma - 0.299 * r - 0.114 * b) / 0.587, b]).astype(np.float32)


@cache
def draw_background(key: tuple[int, ...]) -> Image:
    """The background of a group: a square that repeats, in one of three styles.

    Args:
        key: seeds the random numbers.

    Returns:
        (BACKGROUND_SIDE, BACKGROUND_SIDE, 3), RGB.
    """
    rng = np.random.default_rng(key)
    height = _smooth_heights(rng)
    style = rng.integers(3)
    if style == 1:
        height = np.floor(height * 6) / 5  # terraces
    elif style == 2:
        height = _mosaic(rng, height)
    hue, low, high = rng.uniform(0, 2 * math.pi), rng.uniform(30, 80), rng.uniform(150, 215)
    knots = [
        colour(low, hue, 22),
        colour((low + high) / 2, hue + rng.uniform(-1, 1), 34),
        colour(high, hue + 2, 14),
    ]
    channels = [np.interp(height, (0, 0.5, 1), [knot[c] for knot in knots]) for c in range(3)]
    image: Image = np.clip(np.stack(channels, axis=2), 0, 255).astype(np.uint8)
    return image


def _smooth_heights(rng: np.random.Generator) -> NDArray[np.float64]:
    """Smooth random heights that repeat, evenly distributed from 0 to 1."""
    side = BACKGROUND_SIDE
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]) * side
    spectrum = np.fft.rfft2(rng.standard_normal((side, side))) / (1 + (frequency / rng.uniform(3, 6)) ** 2)
    spectrum[0, 0] = 0
    height = np.fft.irfft2(spectrum, (side, side))
    ranks = np.argsort(np.argsort(height, axis=None)).reshape(side, side)
    return np.asarray(ranks / side**2, np.float64)


def _mosaic(rng: np.random.Generator, height: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a Voronoi mosaic: each pixel has the height at the nearest of some random points."""
    side = BACKGROUND_SIDE
    seeds = rng.integers(0, side, (90, 2))
    grid = np.indices((side, side)).transpose(1, 2, 0)
    nearest, least = np.zeros((side, side), np.intp), np.full((side, side), np.inf)
    for i, seed in enumerate(seeds):
        distance = np.abs(grid - seed)
        squared = np.square(np.minimum(distance, side - distance)).sum(axis=2)
        nearest[squared < least] = i
        least = np.minimum(least, squared)
    return np.asarray(height[tuple(seeds.T)][nearest], np.float64)


def draw_endless_sheet(tile: Plane, starts: NDArray[np.float64], centre: list[float], pose: Pose) -> Plane:
    """A sheet in a pose, in the whole frame: the two octaves around scale 1, blended.

    Args:
        tile: from `draw_sheet`.
        starts: (N, 2) origin of each octave in the tile, pixels.
        centre: (x, y) of the window, pixels.
        pose: the pose.

    Returns:
        (HEIGHT, WIDTH), 0 to 1.
    """
    out = np.zeros((HEIGHT, WIDTH), np.float32)
    for k in (math.floor(pose.octave), math.floor(pose.octave) + 1):
        scale = 2.0 ** (pose.octave - k)  # in (1/2, 2)
        cos, sin = math.cos(pose.angle) / scale, math.sin(pose.angle) / scale
        turn = np.array([(cos, sin), (-sin, cos)])
        offset = starts[k % len(starts)] - turn @ (centre[0] + pose.right, centre[1] + pose.down)
        offset %= CELLS * CELL
        weight = math.cos(math.pi / 2 * (pose.octave - k)) ** 2  # the two weights add to 1
        out += np.float32(weight) * sample_tile(tile, np.column_stack([turn, offset]) * _TEXELS, 2)
    return out


def sample_tile(tile: NDArray[Any], matrix: NDArray[np.float64], samples: int) -> NDArray[Any]:
    """Transform a tile that repeats to a frame.

    Args:
        tile: (H, W) or (H, W, C).
        matrix: (2, 3). The frame shows at (x, y) the tile at `matrix @ (x, y, 1)`.
        samples: each pixel is the mean of samples x samples values.
    """
    matrix = matrix.copy()
    # Samples are spread evenly around the centre of a pixel.
    matrix[:, 2] += matrix[:, :2] @ np.full(2, (1 - samples) / 2 / samples)
    matrix[:, :2] /= samples
    size = (WIDTH * samples, HEIGHT * samples)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    fine: NDArray[Any] = cv2.warpAffine(tile, matrix, size, flags=flags, borderMode=cv2.BORDER_WRAP)
    return resize(fine, WIDTH, HEIGHT)
