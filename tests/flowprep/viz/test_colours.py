"""Colours of flow and of distances, and arrows."""

import numpy as np
import pytest

from flowprep.errors import UsageError
from flowprep.viz import distance_to_rgb, draw_arrows, flow_to_rgb
from tests.support.clips import colour_of

RIGHT, DOWN, LEFT, UP = (1, 0), (0, 1), (-1, 0), (0, -1)


def test_no_motion_is_white():
    assert (flow_to_rgb(np.zeros((2, 4, 5))) == 255).all()
    assert colour_of((0, 0), 3) == (255, 255, 255)


@pytest.mark.parametrize(
    ("motion", "colour"),
    # A quarter turn is 13.5 of the 54 steps of the wheel: half way between two hues. In a ramp of n hues, hue
    # i is 255 i / n, rounded down. n is 15 (red-yellow), 6 (-green), 4 (-cyan), 11 (-blue), 13 (-magenta).
    [
        (RIGHT, (255, 0, 0)),
        (DOWN, (255, (221 + 238) / 2, 0)),
        (LEFT, (0, 255 - 46, 255)),
        (UP, ((78 + 98) / 2, 0, 255)),
    ],
)
def test_full_colour_of_the_four_directions(motion, colour):
    assert colour_of(motion) == tuple(int(c) for c in colour)
    assert colour_of(5 * np.array(motion)) == colour_of(motion)  # the default scale is the largest


@pytest.mark.parametrize(
    ("step", "colour"), [(15, (255, 255, 0)), (21, (0, 255, 0)), (25, (0, 255, 255)), (36, (0, 0, 255))]
)
def test_corners_of_the_wheel(step, colour):
    angle = 2 * np.pi * step / 54  # from right to down, with y downwards
    colour_found = colour_of((np.cos(angle), np.sin(angle)), 1.001)
    assert np.abs(np.subtract(colour_found, colour)).max() <= 1  # one level, for the scale


def test_either_sign_of_zero_is_right():
    assert colour_of((1, -0.0)) == colour_of((1, 0.0)) == (255, 0, 0)


def test_colour_pales_in_proportion_and_is_a_quarter_darker_beyond_the_scale():
    assert colour_of((1, 0), 2) == (255, 127, 127)
    assert colour_of((0.5, 0), 2) == (255, 191, 191)
    assert colour_of((2.5, 0), 2) == (191, 0, 0)


def test_colours_do_not_depend_on_the_field_around():
    rng = np.random.default_rng(0)
    flow = rng.normal(0, 3, (2, 7, 9))
    picture = flow_to_rgb(flow, 4)
    assert picture.shape == (7, 9, 3)
    assert picture.dtype == np.uint8
    assert all(tuple(picture[y, x]) == colour_of(flow[:, y, x], 4) for y in range(7) for x in range(9))


def test_values_that_are_not_finite_are_black_and_do_not_set_the_scale():
    flow = np.array([[1, np.nan, np.inf, 0]], np.float32)[None].repeat(2, 0)
    flow[1] = 0
    flow[0, 0, 1:3] = np.nan, np.inf
    assert flow_to_rgb(flow).tolist() == [[[255, 0, 0], [0, 0, 0], [0, 0, 0], [255, 255, 255]]]


@pytest.mark.parametrize("shape", [(2, 4), (4, 5, 2), (1, 2, 4, 5)])
def test_another_shape_is_refused(shape):
    with pytest.raises(UsageError, match=r"allowed: \(2, H, W\)"):
        flow_to_rgb(np.zeros(shape))


@pytest.mark.parametrize("max_px", [0, -1, np.nan, np.inf])
def test_a_scale_that_is_not_positive_is_refused(max_px):
    with pytest.raises(UsageError, match="max_px"):
        flow_to_rgb(np.zeros((2, 3, 3)), max_px)


def test_distances_darken_from_white_to_black():
    heat = distance_to_rgb(np.linspace(0, 2, 9)[None], 2)[0].astype(int)
    assert heat[0].tolist() == [255, 255, 255] and heat[-1].tolist() == [0, 0, 0]
    assert (np.diff(heat.sum(axis=1)) < 0).all()
    assert (distance_to_rgb(np.array([[2.0, 7.0, np.inf, np.nan]]), 2) == 0).all()


def test_a_scale_of_distances_that_is_not_positive_is_refused():
    with pytest.raises(UsageError, match="max_px"):
        distance_to_rgb(np.zeros((2, 2)), 0)


@pytest.mark.parametrize("motion", [RIGHT, DOWN, LEFT, UP])
def test_arrows_point_along_the_motion(motion):
    flow = np.zeros((2, 90, 90), np.float32)
    flow[:, 30:60, 30:60] = 2 * np.array(motion, np.float32)[:, None, None]  # around the one arrow at 45, 45
    drawn = draw_arrows(np.zeros((90, 90, 3), np.uint8), flow, 10, 30).astype(int)
    bright = np.argwhere(drawn[..., 0] - drawn[..., 2] > 90)[:, ::-1]  # yellow, as x and y
    along = (bright - 45) @ np.array(motion)
    across = np.abs((bright - 45) @ np.array(motion[::-1]))
    assert along.min() >= -1 and 19 <= along.max() <= 21  # 2 px, ten times, and a pixel for the round end
    assert across.max() <= 5
    assert along[across.argmax()] > 10  # the head


def test_still_pixels_have_dots_and_no_arrows():
    drawn = draw_arrows(np.full((60, 60, 3), 200, np.uint8), np.zeros((2, 60, 60), np.float32), 10, 20)
    assert (drawn[..., 0] == drawn[..., 2]).all()
    assert (drawn[10::20, 10::20] != drawn[0, 0]).all()
