"""The conformance suite of TV-L1 engines: the tests that every engine must pass, as a class for pytest.

Derive a class whose name begins with `Test`, and give it the import path of the engine:

    from flowprep.testing.engines import EngineSuite

    class TestMyEngine(EngineSuite):
        engine = "mypackage.engine:MyEngine"

Use one class for each preset that the engine supports. An engine that computes the same as OpenCV can be
tested by `OpenCVParitySuite` as well. To see the values in failing assertions, call
`pytest.register_assert_rewrite("flowprep.testing.engines")` in conftest.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from flowprep.engines import make_engine
from flowprep.engines.base import Engine
from flowprep.errors import SettingsError, UsageError
from flowprep.presets import PRESETS, Tvl1Settings, tvl1_settings

Texture = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float32]]

# A fixed and small number of iterations. With a stopping test or with many iterations, some pixels of a pair
# depend on rounding, and two correct solvers disagree there.
FEW_ITERATIONS: dict[str, Any] = {
    "scales": 2,
    "warps": 2,
    "outer_iterations": 2,
    "inner_iterations": 10,
    "epsilon": 0.0,
}
# Mean distance, in pixels, between two solvers that do the same arithmetic in another order.
ROUNDING_PX = 1e-3
# The same where one solver rounds the flow of a weighted median to 1/256 pixel.
WEIGHTED_PX = 3e-3
# The same where one solver is OpenCV 4, which rounds the positions of a warp to 1/32 pixel.
ROUNDING_OF_OPENCV_4_PX = 0.03


def smooth_texture(seed: int) -> Texture:
    """A sum of waves of 8 pixels and longer, as a function of position: it has an exact value everywhere."""
    rng = np.random.default_rng(seed)
    frequencies, angles, phases = rng.uniform((0.02, 0, 0), (0.12, 2 * np.pi, 2 * np.pi), (24, 3)).T

    def value(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float32]:
        along = np.multiply.outer(x, np.cos(angles)) + np.multiply.outer(y, np.sin(angles))
        waves = np.cos(2 * np.pi * frequencies * along + phases).sum(axis=-1)
        grey: NDArray[np.float32] = np.clip(128 + 10 * waves, 0, 255).astype(np.float32)
        return grey

    return value


def pixel_grid(height: int, width: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The x and the y coordinate of each pixel, both (height, width)."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    return x, y


def drifting_frames(
    count: int, height: int, width: int, dx: float, dy: float, seed: int = 0
) -> NDArray[np.float32]:
    """Frames (count, height, width) of a texture that moves by (dx, dy) pixels from frame to frame."""
    texture, (x, y) = smooth_texture(seed), pixel_grid(height, width)
    return np.stack([texture(x - i * dx, y - i * dy) for i in range(count)])


def half_moving_frames(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Two frames (2, height, width) with noise: the left half moves by (1.2, -0.7), the right one not."""
    frames = drifting_frames(2, height, width, 1.2, -0.7, seed)
    frames[1, :, width // 2 :] = frames[0, :, width // 2 :]
    noise = np.random.default_rng(seed).normal(0, 0.5, frames.shape)
    return np.clip(np.rint(frames + noise), 0, 255).astype(np.uint8)


def mean_endpoint_error(flow: NDArray[np.float32], truth: NDArray[np.floating[Any]]) -> float:
    """Mean distance in pixels, except at the border: pixels that move across it have no counterpart."""
    inner = (slice(None), slice(8, -8), slice(8, -8))
    truth = np.broadcast_to(truth, flow.shape)
    return float(np.hypot(*(flow[inner] - truth[inner])).mean())


def mean_distance(flow: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Mean distance in pixels between flows (N, 2, H, W)."""
    return float(np.hypot(*(flow - other).swapaxes(0, 1)).mean())


def solve_once(engine: str, tvl1: Tvl1Settings, frames: NDArray[Any]) -> NDArray[np.float32]:
    """The flow (F - 1, 2, H, W) between consecutive frames, from memory if this process solved it before."""
    return _solve_once(engine, tvl1, frames.tobytes(), frames.shape, frames.dtype.str)


@lru_cache(maxsize=512)
def _solve_once(
    engine: str, tvl1: Tvl1Settings, data: bytes, shape: tuple[int, ...], dtype: str
) -> NDArray[np.float32]:
    frames = np.frombuffer(data, dtype).reshape(shape)
    flow = make_engine(engine, tvl1).solve(frames, range(len(frames) - 1), range(1, len(frames)))
    flow.flags.writeable = False
    return flow


class EngineSuite:
    """The tests that every engine must pass, with any parameters.

    Attributes:
        engine: the name of the engine, as for `make_engine`.
        preset: the parameters to test it with: the name of a preset, or of one of its versions.
        truth_tolerance_px: largest mean error for a known motion. The total variation smooths the flow, and
            gradients are differences of pixels 2 apart: OpenCV itself has an error of 0.01 to 0.05 here.
        reference_tolerance_px: largest mean distance to engine reference after few iterations.
        weighted_tolerance_px: the same with a weighted median, if it is larger.
    """

    engine: ClassVar[str]
    preset: ClassVar[str] = "opencv"
    ignores_settings: ClassVar[bool] = False
    truth_tolerance_px: ClassVar[float] = 0.06
    reference_tolerance_px: ClassVar[float] = ROUNDING_PX
    weighted_tolerance_px: ClassVar[float] = 0.0

    def reference_tolerance(self, tvl1: Tvl1Settings) -> float:
        """The largest mean distance to engine reference, pixels."""
        weighted = self.weighted_tolerance_px if tvl1.median_grey else 0.0
        return max(weighted, self.reference_tolerance_px)

    def make_engine(self, tvl1: Tvl1Settings | None = None, threads: int = 1) -> Engine:
        """Make the engine to test. Override it if the engine needs more arguments."""
        return make_engine(self.engine, tvl1 or self.settings, threads)

    @property
    def settings(self) -> Tvl1Settings:
        """The parameters of the preset."""
        return tvl1_settings(self.preset)

    @property
    def quick(self) -> Tvl1Settings:
        """The preset with fewer scales and warps, for tests that compare the engine with itself."""
        outer = min(2, self.settings.outer_iterations)
        return replace(self.settings, scales=2, warps=2, outer_iterations=outer)

    @property
    def still_px(self) -> float:
        """The largest flow that counts as no motion: a spline returns its own pixels up to rounding."""
        return 1e-5 if self.settings.warp == "spline" else 0.0

    def solve(
        self, frames: NDArray[Any], first: ArrayLike, second: ArrayLike, tvl1: Tvl1Settings | None = None
    ) -> NDArray[np.float32]:
        """Solve pairs of `frames` with a new engine."""
        return self.make_engine(tvl1).solve(frames, first, second)

    def solve_with(self, frames: NDArray[Any], **changes: Any) -> NDArray[np.float32]:
        """Solve two frames in few iterations with changed settings; skips if the engine refuses them."""
        if self.ignores_settings:
            pytest.skip("the engine ignores the parameters of TV-L1")
        tvl1 = replace(self.settings, **{**FEW_ITERATIONS, **changes})
        try:
            engine = self.make_engine(tvl1)
        except SettingsError as exc:
            pytest.skip(f"the engine refuses these settings: {exc}")
        return engine.solve(frames, [0], [1])

    def test_zero_motion_gives_zero_flow(self) -> None:
        """A frame and its copy, and a frame and itself."""
        frame = drifting_frames(1, 48, 61, 0, 0)
        assert np.abs(self.solve(np.concatenate([frame, frame]), [0], [1])).max() <= self.still_px
        assert np.abs(self.solve(frame.astype(np.uint8), [0], [0])).max() <= self.still_px

    @pytest.mark.parametrize(("dx", "dy"), [(0.3, -0.6), (1.5, -0.75), (-4.0, 2.5)])
    def test_known_translation(self, dx: float, dy: float) -> None:
        """Less than a pixel, more, and several: the last one needs the pyramid."""
        flow = self.solve(drifting_frames(2, 72, 90, dx, dy), [0], [1])[0]
        assert mean_endpoint_error(flow, np.array([dx, dy])[:, None, None]) < self.truth_tolerance_px

    def test_known_rotation(self) -> None:
        """Each pixel moves in another direction; u and v are not mixed up."""
        height, width, angle = 72, 90, 0.03
        x, y = pixel_grid(height, width)
        x0, y0, c, s = (width - 1) / 2, (height - 1) / 2, np.cos(angle), np.sin(angle)
        texture = smooth_texture(1)
        # The second frame shows at R x what the first shows at x, so it is the texture at R^-1 x.
        back = x0 + c * (x - x0) + s * (y - y0), y0 - s * (x - x0) + c * (y - y0)
        forth = x0 + c * (x - x0) - s * (y - y0), y0 + s * (x - x0) + c * (y - y0)
        flow = self.solve(np.stack([texture(x, y), texture(*back)]), [0], [1])[0]
        truth = np.stack([forth[0] - x, forth[1] - y])
        assert mean_endpoint_error(flow, truth) < self.truth_tolerance_px

    def test_batch_borders_change_nothing(self) -> None:
        """The same bytes, wherever the pairs of a video are split over calls."""
        frames = drifting_frames(5, 40, 53, 1.2, 0.4).astype(np.uint8)
        whole = self.solve(frames, range(4), range(1, 5), self.quick)
        engine = self.make_engine(self.quick)
        for border in range(1, 4):
            before = engine.solve(frames[: border + 1], range(border), range(1, border + 1))
            after = engine.solve(frames[border:], range(4 - border), range(1, 5 - border))
            np.testing.assert_array_equal(np.concatenate([before, after]), whole)

    def test_threads_change_nothing(self) -> None:
        """The same bytes with 1 and with 3 threads."""
        frames = drifting_frames(6, 40, 53, 1.2, 0.4).astype(np.uint8)
        one, three = (
            self.make_engine(self.quick, threads).solve(frames, range(5), range(1, 6)) for threads in (1, 3)
        )
        np.testing.assert_array_equal(one, three)

    def test_a_pair_does_not_depend_on_earlier_pairs(self) -> None:
        """Smaller frames and noise, solved before, leave nothing in the engine's memory."""
        engine, frames = self.make_engine(), drifting_frames(2, 48, 60, 1.2, 0.4)
        alone = engine.solve(frames, [0], [1])
        engine.solve(drifting_frames(2, 16, 16, 0.5, 0.5), [0], [1])  # fewer scales
        noise = np.random.default_rng(0).uniform(0, 255, (2, 48, 60)).astype(np.float32)
        engine.solve(noise, [0], [1])
        np.testing.assert_array_equal(engine.solve(frames, [0], [1]), alone)

    def test_first_and_second_are_indices(self) -> None:
        """Any step and direction; each pair equals the pair solved alone."""
        frames = drifting_frames(4, 40, 53, 0.8, -0.5)
        flow = self.solve(frames, [0, 1, 3], [2, 3, 1], self.quick)
        for i, (a, b) in enumerate([(0, 2), (1, 3), (3, 1)]):
            np.testing.assert_array_equal(flow[i], self.solve(frames[[a, b]], [0], [1], self.quick)[0])
        assert flow[0, 0].mean() > 1 and flow[2, 0].mean() < -1

    def test_float_equals_uint8(self) -> None:
        """The same grey levels give the same bytes in both dtypes."""
        frames = drifting_frames(2, 40, 53, 1.2, 0.4).astype(np.uint8)
        as_float = frames.astype(np.float32)
        np.testing.assert_array_equal(self.solve(frames, [0], [1]), self.solve(as_float, [0], [1]))

    def test_constant_images_do_not_move(self) -> None:
        """Without a gradient there is no data term, also when the light changes."""
        for levels in [(0, 0), (128, 128), (0, 255)]:
            frames = np.stack([np.full((32, 37), level, np.uint8) for level in levels])
            assert np.abs(self.solve(frames, [0], [1])).max() <= self.still_px

    @pytest.mark.parametrize(
        ("height", "width"), [(16, 16), (16, 33), (17, 16), (33, 31), (35, 32), (49, 65), (20, 127)]
    )
    def test_sizes_around_multiples_of_a_vector(self, height: int, width: int) -> None:
        """The smallest frames and odd sizes give the flow of engine reference."""
        frames = drifting_frames(2, height, width, 0.6, 0.3)
        tvl1 = replace(self.settings, **FEW_ITERATIONS)
        flow = self.solve(frames, [0], [1], tvl1)
        assert flow.shape == (1, 2, height, width) and flow.dtype == np.float32
        assert mean_distance(flow, solve_once("reference", tvl1, frames)) < self.reference_tolerance(tvl1)

    @pytest.mark.parametrize(
        "change",
        [
            {"coupled": True, "huber": 0.02},
            {"edge": 0.2},
            {"keep_dual": True, "finest_warps": 1, "finest_iterations": 7},
            {
                "median": 5,
                "median_grey": 10.0,
                "median_stride": 2,
                "median_occlusion": 7.0,
                "median_levels": 1,
                "median_warps": 1,
            },
            {"still": 2.0},
            {"settle": 0.02, "inner_iterations": 16},
        ],
        ids=str,
    )
    def test_settings_do_what_they_do_in_the_reference(self, change: dict[str, Any]) -> None:
        """Settings of the regulariser, the median and the schedule, on frames of which a part is still."""
        frames = half_moving_frames(48, 83)
        flow = self.solve_with(frames, **change)
        tvl1 = replace(self.settings, **{**FEW_ITERATIONS, **change})
        assert mean_distance(flow, solve_once("reference", tvl1, frames)) < self.reference_tolerance(tvl1)

    def test_still_frames_give_exact_zeros(self) -> None:
        """Noise moves nothing with the setting `still`, and moves much without it."""
        frame = drifting_frames(1, 48, 61, 0, 0)
        noise = np.random.default_rng(0).normal(0, 0.7, (2, 48, 61)).astype(np.float32)
        assert not self.solve_with(frame + noise, still=2.0).any()
        assert self.solve_with(frame + noise, still=0.0).any()

    def test_a_still_part_is_exactly_zero_beside_a_moving_one(self) -> None:
        """From one tile beyond the border on; and the moving part is as without the setting `still`."""
        frames = half_moving_frames(48, 128)
        flow, without = self.solve_with(frames, still=2.0), self.solve_with(frames, still=0.0)
        assert not flow[..., 80:].any() and np.abs(without[..., 80:]).max() > 0
        assert mean_distance(flow[..., :48], without[..., :48]) < 0.01
        assert np.abs(flow[:, 0, 8:-8, 8:48] - 1.2).mean() < 0.3

    def test_a_small_motion_is_not_held_back(self) -> None:
        """A tenth of a pixel, everywhere: the setting `still` changes nothing."""
        frames = drifting_frames(2, 48, 64, 0.1, 0.0)
        flow = self.solve_with(frames, still=2.0)
        np.testing.assert_array_equal(flow, self.solve_with(frames, still=0.0))
        assert 0.07 < flow[:, 0, 8:-8, 8:-8].mean() < 0.13

    def test_frames_need_not_be_contiguous(self) -> None:
        """A strided view gives the flow of its copy."""
        frames = drifting_frames(4, 40, 106, 1.2, 0.4)
        strided = frames[::2, :, ::2]
        of_view, of_copy = (self.solve(f, [0], [1], self.quick) for f in (strided, strided.copy()))
        np.testing.assert_array_equal(of_view, of_copy)

    def test_no_pairs(self) -> None:
        """No pairs give an empty flow of the right shape."""
        assert self.solve(drifting_frames(2, 20, 24, 0, 0), [], []).shape == (0, 2, 20, 24)

    def test_faint_noise_on_a_flat_image(self) -> None:
        """Gradients around the limit below which the data term is ignored, and denormal numbers."""
        noise = np.random.default_rng(0).normal(0, 1e-4, (2, 40, 53)).astype(np.float32)
        flow = self.solve(128 + noise, [0], [1])
        assert np.isfinite(flow).all() and np.abs(flow).max() < 1

    def test_noise_stays_finite(self) -> None:
        """The largest gradients, everywhere."""
        noise = np.random.default_rng(0).integers(0, 2, (2, 40, 53)).astype(np.uint8) * 255
        flow = self.solve(noise, [0], [1])
        assert np.isfinite(flow).all() and np.abs(flow).max() < 100

    @pytest.mark.parametrize(
        ("frames", "fault"),
        [
            (np.zeros((32, 32), np.uint8), "(32, 32)"),
            (np.zeros((2, 32, 32, 3), np.uint8), "(2, 32, 32, 3)"),
            (np.zeros((2, 32, 32), np.float64), "float64"),
            (np.zeros((2, 32, 32), np.int16), "int16"),
            (np.zeros((2, 15, 32), np.uint8), "32x15"),
            (np.zeros((2, 32, 0), np.uint8), "0x32"),
            (np.full((2, 32, 32), np.nan, np.float32), "not finite"),
            (np.full((2, 32, 32), np.inf, np.float32), "not finite"),
            (np.full((2, 32, 32), 40000, np.float32), "40000"),
            ([[0]], "list"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_wrong_frames_are_refused(self, frames: NDArray[Any], fault: str) -> None:
        """The message names the fault and says what is allowed."""
        with pytest.raises(UsageError, match="allowed: ") as raised:
            self.solve(frames, [0], [1])
        assert fault in str(raised.value)

    @pytest.mark.parametrize(
        ("first", "second"), [([0], [2]), ([-1], [0]), ([0, 1], [1]), ([0.5], [1]), ([[0]], [[1]])]
    )
    def test_wrong_indices_are_refused(self, first: ArrayLike, second: ArrayLike) -> None:
        """Out of range, unequal in number, of another dtype or shape."""
        with pytest.raises(UsageError, match="allowed: "):
            self.solve(np.zeros((2, 32, 32), np.uint8), first, second)

    def test_no_threads_are_refused(self) -> None:
        """The constructor checks `threads`."""
        with pytest.raises(SettingsError, match="threads is 0; allowed: a whole number from 1"):
            self.make_engine(threads=0)


class OpenCVParitySuite(EngineSuite):
    """More tests, for an engine that computes the same as OpenCV's `DualTVL1OpticalFlow`.

    Attributes:
        opencv_tolerance_px: largest mean distance to OpenCV's flow after few iterations.
    """

    opencv_tolerance_px: ClassVar[float]

    def __init_subclass__(cls) -> None:
        import cv2

        opencv_4 = int(cv2.__version__.split(".")[0]) < 5
        cls.opencv_tolerance_px = ROUNDING_OF_OPENCV_4_PX if opencv_4 else ROUNDING_PX

    @pytest.mark.parametrize(
        "change",
        [
            {},
            {"tau": 0.125},
            {"lambda_": 0.4},
            {"theta": 0.15},
            {"scales": 1},
            {"scale_step": 0.5, "scales": 5},
            {"warps": 1},
            {"outer_iterations": 1},
            {"inner_iterations": 1},
            {"inner_iterations": 17},
            {"median": 1},
            {"median": 3},
        ],
        ids=str,
    )
    def test_every_setting_does_what_it_does_in_opencv(self, change: dict[str, Any]) -> None:
        """Each setting changed alone."""
        tvl1 = replace(PRESETS["opencv"], **{**FEW_ITERATIONS, **change})
        frames = drifting_frames(2, 48, 61, 1.2, 0.4)
        flow = self.solve(frames, [0], [1], tvl1)
        assert mean_distance(flow, solve_once("opencv", tvl1, frames)) < self.opencv_tolerance_px

    @pytest.mark.parametrize("epsilon", [0.0, 0.003, 0.03, 0.1])
    def test_the_stopping_test_stops_as_in_opencv(self, epsilon: float) -> None:
        """An iteration at the stop moves a pixel by epsilon: one more or one fewer is allowed."""
        changes: dict[str, Any] = {
            "scales": 1,
            "warps": 1,
            "outer_iterations": 3,
            "median": 1,
            "epsilon": epsilon,
        }
        tvl1 = replace(PRESETS["opencv"], **changes)
        frames = drifting_frames(2, 48, 61, 0.7, 0.4)
        flow = self.solve(frames, [0], [1], tvl1)
        assert mean_distance(flow, solve_once("opencv", tvl1, frames)) <= max(epsilon, ROUNDING_PX)
