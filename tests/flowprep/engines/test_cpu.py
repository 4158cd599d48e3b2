"""Engine cpu beyond the conformance suite: settings that OpenCV lacks, many frames, large frames."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

from flowprep.engines import make_engine
from flowprep.engines.cpu.clock import (
    BEGIN,
    BLOCKS,
    END,
    ITERATIONS,
    LAST,
    PLAIN_MEDIAN,
    TEXELS,
    TICKS,
    WARP,
    WEIGHTED_MEDIAN,
)
from flowprep.engines.cpu.engine import Workspace
from flowprep.errors import SettingsError
from flowprep.presets import PRESETS
from flowprep.testing.engines import (
    ROUNDING_PX,
    WEIGHTED_PX,
    EngineSuite,
    drifting_frames,
    half_moving_frames,
    mean_distance,
    mean_endpoint_error,
    solve_once,
)
from tests.support.engine_settings import BEYOND_OPENCV, FIXED, LEFT_OUT


@pytest.mark.parametrize("change", BEYOND_OPENCV, ids=str)
def test_settings_beyond_opencv(change: dict[str, Any]) -> None:
    tvl1 = replace(FIXED, **change)
    frames = drifting_frames(2, 48, 61, 2.2, -1.4)
    expected = solve_once("reference", tvl1, frames)
    tolerance = WEIGHTED_PX if tvl1.median_grey else ROUNDING_PX
    assert mean_distance(solve_once("cpu", tvl1, frames), expected) < tolerance
    unchanged = solve_once("reference", FIXED, frames)
    assert np.abs(expected - unchanged).max() > tolerance  # the setting has an effect
    with pytest.raises(SettingsError, match="engine opencv") as raised:
        make_engine("opencv", tvl1)
    assert all(name in str(raised.value) for name in change if name not in ("median", "scales"))


@pytest.mark.parametrize("change", LEFT_OUT, ids=str)
def test_tiles_are_left_out_as_in_the_reference(change: dict[str, Any]) -> None:
    tvl1 = replace(FIXED, **change)
    frames = half_moving_frames(52, 100)
    expected = solve_once("reference", tvl1, frames)
    tolerance = WEIGHTED_PX if tvl1.median_grey else ROUNDING_PX
    assert mean_distance(solve_once("cpu", tvl1, frames), expected) < tolerance
    everywhere = solve_once("reference", replace(tvl1, still=0.0, settle=0.0), frames)
    assert mean_distance(expected, everywhere) > 2 * tolerance  # the setting has an effect


@pytest.mark.parametrize("preset", PRESETS)
def test_a_batch_of_many_frames_is_its_pairs(preset: str) -> None:
    # More pairs than are prepared at once; frames are used again later.
    tvl1 = replace(PRESETS[preset], scales=1, warps=1, inner_iterations=2)
    frames = drifting_frames(20, 20, 24, 0.5, 0.2)
    first, second = [*range(19), *range(1, 20)], [*range(1, 20), *range(19)]
    whole = make_engine("cpu", tvl1, threads=2).solve(frames, first, second)
    engine = make_engine("cpu", tvl1)
    for i, (a, b) in enumerate(zip(first, second, strict=True)):
        np.testing.assert_array_equal(engine.solve(frames, [a], [b])[0], whole[i])


@pytest.mark.slow
def test_a_4k_frame_is_solved_whole() -> None:
    noise = np.random.default_rng(0).normal(size=(2160 + 16, 3840 + 16)).astype(np.float32)
    scene = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX)
    before, after = scene[8:-8, 8:-8], scene[10:-6, 5:-11]
    flow = make_engine("cpu", PRESETS["fast"]).solve(np.stack([before, after]), [0], [1])[0]
    # Far corners, too: an index that overflows or a missing strip shows as a hole.
    truth = np.array([3, -2])[:, None, None]
    for corner in (np.s_[:, :256, :256], np.s_[:, -256:, -256:], np.s_[:]):
        assert mean_endpoint_error(flow[corner], truth) < EngineSuite.truth_tolerance_px


def test_the_clock_counts_the_blocks_of_each_stage() -> None:
    # 3 blocks a row; the two upper rows of tiles are still.
    tvl1 = replace(FIXED, scales=1, warps=2, outer_iterations=3, inner_iterations=12, still=2.0)
    frames = drifting_frames(2, 40, 48, 2.2, -1.4)
    frames[1, :24] = frames[0, :24]
    workspace = Workspace(40, 48, tvl1)
    before, after = (workspace.prepare(frame, workspace.new_frame()) for frame in frames)
    began = time.perf_counter()
    workspace.solve(before, after, np.empty((2, 40, 48), np.float32))
    seconds = time.perf_counter() - began
    clock = workspace.scratch.clock
    moving = int(workspace.tiles[0].sum()) * 8
    assert 3 * 16 <= moving < 3 * 40
    expected = {BEGIN: 120, TEXELS: 120, WARP: 2 * moving, PLAIN_MEDIAN: 6 * moving, END: 120}
    assert {stage: clock[stage, BLOCKS] for stage in expected} == expected
    assert clock[ITERATIONS, BLOCKS] == 2 * 3 * 12 * moving
    assert clock[WEIGHTED_MEDIAN].tolist() == [0, 0]
    stages = clock[:LAST, TICKS]
    assert (stages[list(expected)] > 0).all() and stages[ITERATIONS] == stages.max()
    assert stages.sum() < seconds * 1e10  # no clock counts faster than 10 GHz
