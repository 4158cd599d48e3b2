"""Figures of the flow benchmark."""

import numpy as np
import pytest

from flowprep.bench.flow import Quartiles, energy
from flowprep.presets import PRESETS


def test_quartiles_have_two_decimals():
    assert Quartiles.of([1.0, 2.0, 3.0, 4.0, 10.006]) == Quartiles(median=3.0, low=2.0, high=4.0)
    assert Quartiles.of([0.123]) == Quartiles(0.12, 0.12, 0.12)


def test_energy_of_a_brightness_change_is_lambda_times_its_sum():
    first = np.full((8, 10), 100, np.uint8)
    tvl1 = PRESETS["opencv"]
    still = np.zeros((2, 8, 10), np.float32)
    assert energy(first, first, still, tvl1) == 0
    assert energy(first, first + 3, still, tvl1) == pytest.approx(tvl1.lambda_ * 3 * 80)


def test_energy_of_two_steps_in_the_flow_is_their_height_times_their_length():
    image = np.full((8, 10), 100, np.uint8)
    flow = np.zeros((2, 8, 10), np.float32)
    flow[0, :, 2:6] = 1  # whole pixels, and inside the image: the warp changes no brightness
    assert energy(image, image, flow, PRESETS["opencv"]) == pytest.approx(2 * 8)
