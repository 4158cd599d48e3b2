"""The display matrix: all turns and reflections, and matrices that are none."""

from __future__ import annotations

import itertools
import struct
from pathlib import Path

import numpy as np
import pytest

from flowprep.video.decode import read_frames
from flowprep.video.orientation import nearest_orientation
from tests.support.videos import texture, write_video

# The eight turns and reflections: where the x axis and the y axis of the picture point when it is shown.
UNITS = [(a, b) for a in (-1, 1) for b in (-1, 1)]
EIGHT = [((a, 0), (0, d)) for a, d in UNITS] + [((0, b), (c, 0)) for b, c in UNITS]


def shown(image: np.ndarray, axes: tuple) -> np.ndarray:
    """Move each pixel where the axes send it: the definition, pixel by pixel."""
    (a, b), (c, d) = axes
    moved = {
        (a * x + c * y, b * x + d * y): image[y, x]
        for y, x in itertools.product(range(image.shape[0]), range(image.shape[1]))
    }
    left, top = min(x for x, _ in moved), min(y for _, y in moved)
    result = np.zeros((*(image.shape[:2] if a else image.shape[1::-1]), 3), np.uint8)
    for (x, y), value in moved.items():
        result[y - top, x - left] = value
    return result


def with_matrix(path: Path, axes: tuple, scale: float = 1.0) -> Path:
    """An MP4 file of two frames whose track has a display matrix."""
    data = bytearray(write_video(path, 2).read_bytes())
    numbers = [round(value * scale * 65536) for value in (*axes[0], *axes[1])]
    matrix = struct.pack(">9i", numbers[0], numbers[1], 0, numbers[2], numbers[3], 0, 0, 0, 1 << 30)
    at = data.index(b"tkhd") + 44  # version and flags, times, id, duration, ..., then the matrix
    assert data[at : at + 36] == struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    data[at : at + 36] = matrix
    path.write_bytes(data)
    return path


def first_frame(path: Path) -> np.ndarray:
    return next(read_frames(path, "source"))[1].rgb


@pytest.mark.parametrize("axes", EIGHT)
@pytest.mark.parametrize("scale", [1, 0.5])
def test_every_turn_and_reflection(tmp_path, axes, scale):
    plain = first_frame(write_video(tmp_path / "plain.mp4", 2))
    assert np.abs(plain.astype(int) - texture(32, 48)).mean() < 4
    assert np.array_equal(first_frame(with_matrix(tmp_path / "a.mp4", axes, scale)), shown(plain, axes))


@pytest.mark.parametrize(
    "axes", [((0, 0), (0, 0)), ((1, 0), (1, 0)), ((0, 0), (0, -1)), ((-1, 0), (0, 0)), ((0, 1), (0.1, 1))]
)
def test_a_matrix_that_maps_the_picture_to_a_line_does_not_turn_it(tmp_path, axes):
    plain = first_frame(write_video(tmp_path / "plain.mp4", 2))
    assert np.array_equal(first_frame(with_matrix(tmp_path / "a.mp4", axes)), plain)


@pytest.mark.parametrize("axes", EIGHT)
def test_scale_and_a_small_skew_change_nothing(axes):
    exact = np.diag([0.0, 0.0, 1.0])
    exact[:2, :2] = axes
    rng = np.random.default_rng(0)
    for _ in range(50):
        inexact = exact.copy()
        inexact[:2, :2] = (exact[:2, :2] + rng.uniform(-0.2, 0.2, (2, 2))) * rng.uniform(0.01, 90, (2, 1))
        assert nearest_orientation(inexact) == nearest_orientation(exact)


def test_a_matrix_that_is_not_finite_does_not_turn():
    for value in (np.nan, np.inf):
        assert nearest_orientation(np.full((3, 3), value)) == (False, False, False)


@pytest.mark.parametrize(("degrees", "turns"), [(44, 0), (46, 1), (134, 1), (136, 2), (226, 3), (316, 0)])
def test_other_angles_are_rounded_to_the_nearest_turn(degrees, turns):
    def matrix(angle: float) -> np.ndarray:
        sine, cosine = np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))
        return np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])

    assert nearest_orientation(matrix(degrees)) == nearest_orientation(matrix(90 * turns))
