"""One conformance suite, passed by every engine: a new engine adds one subclass at the end."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from flowprep.bench.flow import endpoint_errors
from flowprep.codec.quantise import encode
from flowprep.engines import ENGINES, make_engine, resolve, tvl1
from flowprep.engines.cuda.driver import open_device
from flowprep.engines.opencv import OpenCVEngine
from flowprep.engines.reference import median, median_weights, structure, warp, weighted_median
from flowprep.errors import EngineError, SettingsError, UsageError
from flowprep.presets import PRESETS, Tvl1Settings

OPENCV = PRESETS["opencv"]
# A fixed and small number of iterations: what two solvers that do the same arithmetic agree on but for
# rounding. With a stopping test or many iterations, a pair has places where rounding decides the outcome.
FEW = {"scales": 2, "warps": 2, "outer_iterations": 2, "inner_iterations": 10, "epsilon": 0.0}
FIXED = replace(OPENCV, **FEW)
# Mean distance in pixels of two solvers that do the same arithmetic. OpenCV 4 rounds positions in a warp to
# 1/32 pixel; OpenCV 5 and the other engines do not.
OPENCV_5 = int(cv2.__version__.split(".")[0]) >= 5
ROUNDING = 1e-3
ROUNDING_OF_OPENCV = ROUNDING if OPENCV_5 else 0.03

Texture = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float32]]


def smooth_texture(seed: int) -> Texture:
    """A sum of waves of 8 pixels and longer: its value is known exactly at any position."""
    rng = np.random.default_rng(seed)
    frequencies, angles, phases = rng.uniform((0.02, 0, 0), (0.12, 2 * np.pi, 2 * np.pi), (24, 3)).T

    def value(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float32]:
        along = np.multiply.outer(x, np.cos(angles)) + np.multiply.outer(y, np.sin(angles))
        waves = np.cos(2 * np.pi * frequencies * along + phases).sum(axis=-1)
        return np.clip(128 + 10 * waves, 0, 255).astype(np.float32)

    return value


def grid(height: int, width: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    y, x = np.mgrid[:height, :width].astype(np.float64)
    return x, y


def drifting(count: int, height: int, width: int, dx: float, dy: float, seed: int = 0) -> NDArray[np.float32]:
    """`count` frames of a texture that moves by (dx, dy) pixels a frame."""
    texture, (x, y) = smooth_texture(seed), grid(height, width)
    return np.stack([texture(x - i * dx, y - i * dy) for i in range(count)])


def endpoint_error(flow: NDArray[np.float32], truth: NDArray[np.floating]) -> float:
    """Mean end-point error away from the border, where what moved in or out has no counterpart."""
    inner = (slice(None), slice(8, -8), slice(8, -8))
    truth = np.broadcast_to(truth, flow.shape)
    return float(np.hypot(*(flow[inner] - truth[inner])).mean())


class EngineSuite:
    """What every engine must do, with any parameters."""

    name: ClassVar[str]
    preset: ClassVar[str] = "opencv"
    # How far a known motion may be missed, mean, in pixels. The total variation pulls neighbours together
    # and gradients are differences of pixels 2 apart: OpenCV itself misses by 0.01 to 0.05 here.
    truth_tolerance: ClassVar[float] = 0.06

    @property
    def still(self) -> float:
        """What still counts as no motion, in pixels: a spline gives its own pixels but for rounding."""
        return 1e-5 if self.settings.warp == "spline" else 0.0

    @property
    def settings(self) -> Tvl1Settings:
        return PRESETS[self.preset]

    @property
    def quick(self) -> Tvl1Settings:
        """Fewer scales and warps: for tests that compare a solver with itself."""
        return replace(
            self.settings, scales=2, warps=2, outer_iterations=min(2, self.settings.outer_iterations)
        )

    def solve(
        self,
        frames: NDArray[np.generic],
        first: object,
        second: object,
        settings: Tvl1Settings | None = None,
    ) -> NDArray[np.float32]:
        return make_engine(self.name, settings or self.settings).solve(frames, first, second)

    def test_zero_motion_gives_zero_flow(self) -> None:
        frame = drifting(1, 48, 61, 0, 0)
        assert np.abs(self.solve(np.concatenate([frame, frame]), [0], [1])).max() <= self.still
        assert np.abs(self.solve(frame.astype(np.uint8), [0], [0])).max() <= self.still

    @pytest.mark.parametrize(("dx", "dy"), [(0.3, -0.6), (1.5, -0.75), (-4.0, 2.5)])
    def test_known_translation(self, dx: float, dy: float) -> None:
        flow = self.solve(drifting(2, 72, 90, dx, dy), [0], [1])[0]
        assert endpoint_error(flow, np.array([dx, dy])[:, None, None]) < self.truth_tolerance

    def test_known_rotation(self) -> None:
        height, width, angle = 72, 90, 0.03
        x, y = grid(height, width)
        x0, y0, c, s = (width - 1) / 2, (height - 1) / 2, np.cos(angle), np.sin(angle)
        texture = smooth_texture(1)
        # The second frame shows at R x what the first shows at x, so that it is the texture at R^-1 x.
        back = x0 + c * (x - x0) + s * (y - y0), y0 - s * (x - x0) + c * (y - y0)
        forth = x0 + c * (x - x0) - s * (y - y0), y0 + s * (x - x0) + c * (y - y0)
        flow = self.solve(np.stack([texture(x, y), texture(*back)]), [0], [1])[0]
        assert endpoint_error(flow, np.stack([forth[0] - x, forth[1] - y])) < self.truth_tolerance

    def test_batch_borders_change_nothing(self) -> None:
        frames = drifting(5, 40, 53, 1.2, 0.4).astype(np.uint8)
        whole = self.solve(frames, range(4), range(1, 5), self.quick)
        engine = make_engine(self.name, self.quick)
        for border in range(1, 4):
            before = engine.solve(frames[: border + 1], range(border), range(1, border + 1))
            after = engine.solve(frames[border:], range(4 - border), range(1, 5 - border))
            np.testing.assert_array_equal(np.concatenate([before, after]), whole)

    def test_threads_change_nothing(self) -> None:
        frames = drifting(6, 40, 53, 1.2, 0.4).astype(np.uint8)
        one = make_engine(self.name, self.quick, threads=1).solve(frames, range(5), range(1, 6))
        three = make_engine(self.name, self.quick, threads=3).solve(frames, range(5), range(1, 6))
        np.testing.assert_array_equal(one, three)

    def test_a_pair_does_not_depend_on_those_before_it(self) -> None:
        engine, frames = make_engine(self.name, self.settings), drifting(2, 48, 60, 1.2, 0.4)
        alone = engine.solve(frames, [0], [1])
        engine.solve(drifting(2, 16, 16, 0.5, 0.5), [0], [1])  # fewer scales
        engine.solve(np.random.default_rng(0).uniform(0, 255, (2, 48, 60)).astype(np.float32), [0], [1])
        np.testing.assert_array_equal(engine.solve(frames, [0], [1]), alone)

    def test_steps_and_directions_are_indices(self) -> None:
        frames = drifting(4, 40, 53, 0.8, -0.5)
        flow = self.solve(frames, [0, 1, 3], [2, 3, 1], self.quick)
        for i, (a, b) in enumerate([(0, 2), (1, 3), (3, 1)]):
            np.testing.assert_array_equal(flow[i], self.solve(frames[[a, b]], [0], [1], self.quick)[0])
        assert flow[0, 0].mean() > 1 and flow[2, 0].mean() < -1

    def test_float_equals_uint8(self) -> None:
        frames = drifting(2, 40, 53, 1.2, 0.4).astype(np.uint8)
        np.testing.assert_array_equal(
            self.solve(frames, [0], [1]), self.solve(frames.astype(np.float32), [0], [1])
        )

    def test_constant_images_do_not_move(self) -> None:
        for levels in [(0, 0), (128, 128), (0, 255)]:
            frames = np.stack([np.full((32, 37), level, np.uint8) for level in levels])
            assert np.abs(self.solve(frames, [0], [1])).max() <= self.still

    @pytest.mark.parametrize(
        ("height", "width"), [(16, 16), (16, 33), (17, 16), (33, 31), (35, 32), (49, 65), (20, 127)]
    )
    def test_sizes_that_fit_no_vector(self, height: int, width: int) -> None:
        frames = drifting(2, height, width, 0.6, 0.3)
        settings = replace(self.settings, **FEW)
        flow = self.solve(frames, [0], [1], settings)
        expected = make_engine("reference", settings).solve(frames, [0], [1])
        assert flow.shape == (1, 2, height, width) and flow.dtype == np.float32
        tolerance = ROUNDING_OF_OPENCV if self.name == "opencv" else ROUNDING
        assert np.hypot(*(flow - expected)[0]).mean() < tolerance

    def test_frames_need_not_be_contiguous(self) -> None:
        frames = drifting(4, 40, 106, 1.2, 0.4)
        strided = frames[::2, :, ::2]
        np.testing.assert_array_equal(
            self.solve(strided, [0], [1], self.quick), self.solve(strided.copy(), [0], [1], self.quick)
        )

    def test_no_pairs(self) -> None:
        assert self.solve(drifting(2, 20, 24, 0, 0), [], []).shape == (0, 2, 20, 24)

    def test_faint_noise_on_a_flat_image(self) -> None:
        # Gradients around the threshold under which the data term is not solved, and flow that fades out.
        noise = np.random.default_rng(0).normal(0, 1e-4, (2, 40, 53)).astype(np.float32)
        flow = self.solve(128 + noise, [0], [1])
        assert np.isfinite(flow).all() and np.abs(flow).max() < 1

    def test_noise_stays_finite(self) -> None:
        noise = np.random.default_rng(0).integers(0, 2, (2, 40, 53)).astype(np.uint8) * 255
        flow = self.solve(noise, [0], [1])
        assert np.isfinite(flow).all() and np.abs(flow).max() < 100

    @pytest.mark.parametrize(
        ("frames", "found"),
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
    def test_wrong_frames_are_refused(self, frames: NDArray[np.generic], found: str) -> None:
        with pytest.raises(UsageError, match="allowed: ") as raised:
            self.solve(frames, [0], [1])
        assert found in str(raised.value)

    @pytest.mark.parametrize(
        ("first", "second"), [([0], [2]), ([-1], [0]), ([0, 1], [1]), ([0.5], [1]), ([[0]], [[1]])]
    )
    def test_wrong_indices_are_refused(self, first: object, second: object) -> None:
        with pytest.raises(UsageError, match="allowed: "):
            self.solve(np.zeros((2, 32, 32), np.uint8), first, second)

    def test_no_threads_are_refused(self) -> None:
        with pytest.raises(SettingsError, match="threads is 0; allowed: a whole number from 1"):
            make_engine(self.name, self.settings, threads=0)


class ParitySuite(EngineSuite):
    """What an engine must do as OpenCV does it."""

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
        settings = replace(FIXED, **change)
        frames = drifting(2, 48, 61, 1.2, 0.4)
        flow = self.solve(frames, [0], [1], settings)
        expected = make_engine("opencv", settings).solve(frames, [0], [1])
        assert np.hypot(*(flow - expected)[0]).mean() < ROUNDING_OF_OPENCV

    @pytest.mark.parametrize("epsilon", [0.0, 0.003, 0.03, 0.1])
    def test_the_stopping_test_stops_as_in_opencv(self, epsilon: float) -> None:
        settings = replace(OPENCV, scales=1, warps=1, outer_iterations=3, median=1, epsilon=epsilon)
        frames = drifting(2, 48, 61, 0.7, 0.4)
        flow = self.solve(frames, [0], [1], settings)
        expected = make_engine("opencv", settings).solve(frames, [0], [1])
        # An iteration at the stop moves a pixel by epsilon: one more or one fewer is allowed.
        assert np.hypot(*(flow - expected)[0]).mean() <= max(epsilon, ROUNDING)

    def test_close_to_opencv_on_action_clips(self, shared_data: Path) -> None:
        clips = sorted((shared_data / "ucf101").glob("*/*_g0[1-4]_c01.avi"))
        self.check_close_to_opencv([crop_of_clip(path) for path in clips])

    def test_close_to_opencv_on_middlebury(self, shared_data: Path) -> None:
        folders = sorted((shared_data / "flow_gt" / "middlebury").iterdir())
        self.check_close_to_opencv([crop_of_middlebury(folder) for folder in folders])

    def check_close_to_opencv(self, pairs: list[NDArray[np.uint8]]) -> None:
        """Mean distance under 0.03 px on the median pair.

        OpenCV moves by 0.018 px (worst pair 0.073) when 1% of the pixels of one image change by one grey
        level: single pairs with violent motion say nothing, and 0.03 px is no difference.
        """
        ours = np.stack([self.solve(pair, [0], [1])[0] for pair in pairs])
        theirs = np.stack([opencv_flow(pair.tobytes(), pair.shape) for pair in pairs])
        distances = np.hypot(*(ours - theirs).swapaxes(0, 1)).mean(axis=(1, 2))
        assert len(pairs) >= 4 and np.median(distances) < (0.03 if OPENCV_5 else 0.04), distances


@lru_cache
def opencv_flow(pair: bytes, shape: tuple[int, ...]) -> NDArray[np.float32]:
    frames = np.frombuffer(pair, np.uint8).reshape(shape)
    return make_engine("opencv", OPENCV).solve(frames, [0], [1])[0]


def crop_of_clip(path: Path) -> NDArray[np.uint8]:
    """Frames 20 and 21 of a video, the middle 160 x 120 pixels."""
    import av

    with av.open(str(path)) as container:
        frames = [frame for frame, _ in zip(container.decode(video=0), range(22), strict=False)][-2:]
    return np.stack([frame.to_ndarray(format="gray")[60:180, 80:240] for frame in frames])


def crop_of_middlebury(folder: Path) -> NDArray[np.uint8]:
    images = [cv2.imread(str(folder / f"frame{i}.png"), cv2.IMREAD_GRAYSCALE) for i in (10, 11)]
    return np.stack([image[120:240, 200:360] for image in images])


class TestReference(ParitySuite):
    name = "reference"


class TestOpenCV(ParitySuite):
    name = "opencv"


class TestCpu(ParitySuite):
    name = "cpu"


class TestReferenceAccurate(EngineSuite):
    name, preset = "reference", "accurate"


class TestCpuAccurate(EngineSuite):
    name, preset = "cpu", "accurate"


class TestReferenceFast(EngineSuite):
    name, preset = "reference", "fast"


class TestCpuFast(EngineSuite):
    name, preset = "cpu", "fast"


class TestReferenceBest(EngineSuite):
    name, preset = "reference", "best"


class TestCpuBest(EngineSuite):
    name, preset = "cpu", "best"


@pytest.fixture
def gpu() -> None:
    """A GPU that works. Without one the test is skipped, or fails where FLOWPREP_REQUIRE_CUDA is 1."""
    try:
        open_device()
    except EngineError as exc:
        if os.environ.get("FLOWPREP_REQUIRE_CUDA") == "1":
            pytest.fail(f"FLOWPREP_REQUIRE_CUDA is 1: {exc}")
        pytest.skip(str(exc))


@pytest.mark.usefixtures("gpu")
class TestCuda(ParitySuite):
    name = "cuda"


@pytest.mark.usefixtures("gpu")
class TestCudaAccurate(EngineSuite):
    name, preset = "cuda", "accurate"


@pytest.mark.usefixtures("gpu")
class TestCudaFast(EngineSuite):
    name, preset = "cuda", "fast"


@pytest.mark.usefixtures("gpu")
class TestCudaBest(EngineSuite):
    name, preset = "cuda", "best"


def test_every_engine_passes_the_suite() -> None:
    assert {suite.name for suite in ParitySuite.__subclasses__()} == set(ENGINES)
    passed = {
        (suite.name, suite.preset) for suite in EngineSuite.__subclasses__() if suite is not ParitySuite
    }
    own = set(ENGINES) - {"opencv"}
    assert passed == {(name, preset) for name in own for preset in set(PRESETS) - {"opencv"}}


BEYOND_OPENCV = [
    {"median_grey": 7.0},
    {"median_grey": 20.0, "median": 3, "median_after": True},
    {"median_grey": 2.0, "median": 7},
    {"median_after": True},
    {"blur": 0.6},
    {"blur": 5.0},
    {"structure": 0.7},
    {"structure": 1.0, "structure_theta": 4.0, "structure_iterations": 1, "blur": 0.5},
    {"structure": 0.5, "structure_iterations": 17},
    {"antialias": 0.6},
    {"warp": "spline"},
    {"blend": 0.4},
    {"mask": True},
    {"warp": "spline", "blend": 1.0, "mask": True, "median_after": True, "median": 3},
]


@pytest.mark.parametrize("change", BEYOND_OPENCV, ids=str)
def test_settings_beyond_opencv(change: dict[str, Any]) -> None:
    settings = replace(FIXED, **change)
    frames = drifting(2, 48, 61, 2.2, -1.4)
    expected = make_engine("reference", settings).solve(frames, [0], [1])
    flow = make_engine("cpu", settings).solve(frames, [0], [1])
    assert np.hypot(*(flow - expected)[0]).mean() < ROUNDING
    unchanged = make_engine("reference", FIXED).solve(frames, [0], [1])
    assert np.abs(expected - unchanged).max() > ROUNDING  # it does something
    with pytest.raises(SettingsError, match="opencv does not have") as raised:
        make_engine("opencv", settings)
    assert all(name in str(raised.value) for name in change if name != "median")


def test_a_spline_goes_through_its_pixels_and_has_their_slope() -> None:
    texture, (x, y) = smooth_texture(3), grid(40, 50)
    still = np.zeros((2, 40, 50), np.float32)
    value, *_ = warp(texture(x, y), still, "spline")
    np.testing.assert_allclose(value, texture(x, y), atol=1e-3)
    value, along, down = warp(texture(x, y), still + np.float32(0.3), "spline")
    inner = (slice(4, -4), slice(4, -4))
    moved = texture(x + 0.3, y + 0.3)
    assert np.abs(value - moved)[inner].mean() < 0.02
    step = 1e-2
    slopes = [(texture(x + 0.3 + i * step, y + 0.3 + j * step) - moved) / step for i, j in ((1, 0), (0, 1))]
    for slope, expected in zip((along, down), slopes, strict=True):
        assert np.abs(slope - expected)[inner].mean() < 0.05 < 3 < np.abs(expected).mean()


def test_a_weighted_median_counts_what_looks_alike() -> None:
    guide = np.zeros((9, 9), np.float32)
    guide[:, 6:] = 100
    flow = np.random.default_rng(0).normal(size=(9, 9)).astype(np.float32)
    found = weighted_median(flow, median_weights(guide, 5, 10.0))
    assert found[4, 5] == np.sort(flow[2:7, 3:6].ravel())[7]  # of the 15 pixels on its side
    alike = weighted_median(flow, median_weights(np.zeros_like(guide), 5, 10.0))
    np.testing.assert_array_equal(alike, median(flow, 5))


def test_the_structure_keeps_edges_and_loses_texture() -> None:
    x, y = grid(48, 64)
    edge = np.where(x < 32, 60, 180).astype(np.float32)
    texture = (4 * np.cos(np.pi * x) * np.cos(np.pi * y)).astype(np.float32)
    smooth = structure(edge + texture, replace(OPENCV, structure_iterations=100, structure_theta=8.0))
    inner = np.abs(x - 31.5) > 4
    assert np.abs(smooth - edge)[inner].mean() < 1 < 3 < np.abs(texture).mean()
    assert (smooth[:, 34:] - smooth[:, :30].mean()).min() > 110


@pytest.mark.parametrize("preset", PRESETS)
def test_a_batch_of_many_frames_is_its_pairs(preset: str) -> None:
    # More pairs than are prepared at once, that use frames again later.
    settings = replace(PRESETS[preset], scales=1, warps=1, inner_iterations=2)
    frames = drifting(20, 20, 24, 0.5, 0.2)
    first, second = [*range(19), *range(1, 20)], [*range(1, 20), *range(19)]
    whole = make_engine("cpu", settings, threads=2).solve(frames, first, second)
    engine = make_engine("cpu", settings)
    for i, (a, b) in enumerate(zip(first, second, strict=True)):
        np.testing.assert_array_equal(engine.solve(frames, [a], [b])[0], whole[i])


@pytest.fixture(scope="module")
def solved_by_opencv() -> dict[bytes, np.ndarray]:
    """Frames -> their flow: OpenCV takes seconds a pair, and solves the same ones for each preset."""
    return {}


@pytest.mark.parametrize(("preset", "most"), [("accurate", 0.172), ("best", 0.163), ("fast", 0.176)])
def test_presets_are_more_accurate_on_middlebury(
    preset: str,
    most: float,
    shared_data: Path,
    solved_by_opencv: dict[bytes, np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    solve = OpenCVEngine.solve

    def once(engine: OpenCVEngine, frames: np.ndarray, first: list[int], second: list[int]) -> np.ndarray:
        key = repr((engine.tvl1, first, second)).encode() + frames.tobytes()
        if key not in solved_by_opencv:
            solved_by_opencv[key] = solve(engine, frames, first, second)
        return solved_by_opencv[key]

    monkeypatch.setattr(OpenCVEngine, "solve", once)
    # OpenCV: 1.01 px by default, 0.223 px with 12 scales.
    errors = endpoint_errors(shared_data / "flow_gt" / "middlebury", tvl1=PRESETS[preset])["errors_px"]
    assert len(errors) == 5 and errors["mean"]["ours"] < most
    assert all(e["ours"] < 0.85 * e["opencv"] for e in errors.values())


def test_accurate_is_calmer_and_no_larger_on_action_clips(shared_data: Path) -> None:
    clips = sorted((shared_data / "ucf101").glob("PushUps/*_g0[159]_c01.avi"))
    assert len(clips) == 3
    ours, theirs = (
        np.stack([make_engine("cpu", PRESETS[name]).solve(crop_of_clip(c), [0], [1])[0] for c in clips])
        for name in ("accurate", "opencv")
    )
    # The calmer half of the pixels is the background.
    calm_ours, calm_theirs = (np.sort(np.hypot(*f.swapaxes(0, 1)).ravel()) for f in (ours, theirs))
    assert calm_ours[: calm_ours.size // 2].mean() < calm_theirs[: calm_theirs.size // 2].mean()
    assert encode(ours).nbytes < 1.05 * encode(theirs).nbytes


def test_a_4k_frame_is_solved_whole() -> None:
    noise = np.random.default_rng(0).normal(size=(2160 + 16, 3840 + 16)).astype(np.float32)
    scene = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX)
    before, after = scene[8:-8, 8:-8], scene[10:-6, 5:-11]
    flow = make_engine("cpu", PRESETS["fast"]).solve(np.stack([before, after]), [0], [1])
    # Far corners too: an index that overflows or a strip that is left out shows as a hole.
    for corner in (np.s_[:, :256, :256], np.s_[:, -256:, -256:], np.s_[:]):
        assert endpoint_error(flow[0][corner], np.array([3, -2])[:, None, None]) < EngineSuite.truth_tolerance


def test_an_unknown_engine_lists_those_that_exist() -> None:
    with pytest.raises(SettingsError, match="engine is 'gpu'; allowed: auto, cpu, cuda, opencv, reference"):
        make_engine("gpu", OPENCV)
    assert resolve("auto") in ("cpu", "cuda") and resolve("opencv") == "opencv"


def test_tvl1_takes_images_and_batches() -> None:
    frames = drifting(3, 32, 40, 0.7, 0.2)
    one = tvl1(frames[0], frames[1])
    many = tvl1(frames[:2], frames[1:])
    assert one.shape == (2, 32, 40) and many.shape == (2, 2, 32, 40) and many.dtype == np.float32
    np.testing.assert_array_equal(one, many[0])
    np.testing.assert_array_equal(one, tvl1(frames[0].astype(np.float64), frames[1].astype(np.float64)))
    assert one[0].mean() == pytest.approx(0.7, abs=0.1)


def test_tvl1_refuses_what_it_cannot_take() -> None:
    image = np.zeros((32, 40), np.uint8)
    with pytest.raises(UsageError, match=r"prev is uint8 \(32, 40\) and next is uint8 \(32, 41\)"):
        tvl1(image, np.zeros((32, 41), np.uint8))
    with pytest.raises(UsageError, match="float32"):
        tvl1(image, image.astype(np.float32))
    with pytest.raises(UsageError, match=r"shape \(40,\); allowed: grey"):
        tvl1(image[0], image[0])
    with pytest.raises(UsageError, match="int64"):
        tvl1(image.astype(np.int64), image.astype(np.int64))
    with pytest.raises(SettingsError, match="preset is 'slow'; allowed: accurate, best, fast, opencv"):
        tvl1(image, image, preset="slow")
