"""Engine cuda with its kernels run on the host, against the other engines.

On a machine with a GPU, the conformance suite in test_engines.py runs on the GPU as well.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowprep.engines.cuda import kernels
from flowprep.engines.cuda.device import Launch
from flowprep.engines.cuda.engine import BATCH_PAIRS, BATCH_PIXELS, IN_FLIGHT, CudaEngine
from flowprep.engines.cuda.kernels import Tile, kernel_source
from flowprep.engines.cuda.layout import BatchLayout, BatchShape
from flowprep.engines.cuda.selfcheck import check_kernels
from flowprep.engines.reference import in_pixels, moving_tiles
from flowprep.engines.tiles import coarser, tile_counts, with_open
from flowprep.errors import EngineError
from flowprep.presets import PRESETS, Tvl1Settings
from flowprep.testing.engines import (
    FEW_ITERATIONS,
    ROUNDING_PX,
    WEIGHTED_PX,
    EngineSuite,
    OpenCVParitySuite,
    drifting_frames,
    half_moving_frames,
    mean_distance,
    solve_once,
)
from tests.support.cached import cached_flow
from tests.support.cuda_host import HostDevice
from tests.support.engine_settings import BEYOND_OPENCV, COMBINED, FIXED, LEFT_OUT
from tests.support.real_pairs import pair_of_clip

# The kernels and the reference do the same arithmetic in another order. A spline or a median may depend on
# rounding in single pixels, so the limit is for the mean.
CLOSE_PX = 1e-4
TILES = [Tile(), Tile(stages=4, threads=64), Tile(stages=3, threads=32, rows=16), Tile(stages=1, threads=32)]


def frames_of(count: int, height: int = 48, width: int = 61) -> Any:
    return drifting_frames(count, height, width, 1.2, -0.7).astype(np.uint8)


def on_the_host(tvl1: Tvl1Settings, seed: int = 0, **options: Any) -> CudaEngine:
    return CudaEngine(tvl1, device=HostDevice(seed=seed), **options)


class OnTheHost(EngineSuite):
    """The engine with a device that runs the kernels on the host."""

    engine = "cuda"

    def make_engine(self, tvl1: Tvl1Settings | None = None, threads: int = 1) -> CudaEngine:
        return CudaEngine(tvl1 or self.settings, threads, HostDevice())


class TestCudaOnTheHost(OnTheHost, OpenCVParitySuite):
    pass


class TestCudaOnTheHostAccurate(OnTheHost):
    preset = "accurate"


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 50), (48, 61), (70, 33)])
def test_kernels_on_the_host_agree_with_the_other_engines(preset: str, height: int, width: int) -> None:
    tvl1 = PRESETS[preset]
    if preset == "opencv":  # with its stopping test and many iterations, it depends on rounding
        tvl1 = replace(tvl1, **FEW_ITERATIONS)
    frames = frames_of(3, height, width)
    flow = on_the_host(tvl1).solve(frames, [0, 1], [1, 2])
    for name in ("reference", "cpu"):
        tolerance = WEIGHTED_PX if name == "cpu" and tvl1.median_grey else CLOSE_PX
        assert mean_distance(flow, solve_once(name, tvl1, frames)) < tolerance


@pytest.mark.parametrize(
    "change", [*BEYOND_OPENCV, {"median": 1}, {"median": 3}, {"inner_iterations": 1}], ids=str
)
def test_every_setting_does_what_it_does_in_the_reference(change: dict[str, Any]) -> None:
    tvl1 = replace(FIXED, **change)
    frames = drifting_frames(2, 48, 61, 2.2, -1.4)
    flow = on_the_host(tvl1).solve(frames, [0], [1])
    assert mean_distance(flow, solve_once("reference", tvl1, frames)) < ROUNDING_PX


@pytest.mark.parametrize("change", LEFT_OUT, ids=str)
def test_tiles_are_left_out_as_in_the_reference(change: dict[str, Any]) -> None:
    tvl1 = replace(FIXED, **change)
    frames = half_moving_frames(52, 100)
    flow, expected = on_the_host(tvl1).solve(frames, [0], [1]), solve_once("reference", tvl1, frames)
    assert mean_distance(flow, expected) < ROUNDING_PX
    still = ~in_pixels(moving_tiles(*frames.astype(np.float32), tvl1), (52, 100))
    assert not flow[0, :, still].any() and (still.mean() > 0.3) == (tvl1.still > 0)


@pytest.mark.parametrize("median_after", [False, True])
@pytest.mark.parametrize("epsilon", [0.02, 0.05, 0.2, 10.0])
def test_the_stopping_test_stops_in_the_same_iteration(epsilon: float, median_after: bool) -> None:
    # One more iteration would move a pixel by about epsilon.
    changes = {**FEW_ITERATIONS, "scales": 1, "epsilon": epsilon, "inner_iterations": 21}
    tvl1 = replace(PRESETS["opencv"], **changes, median_after=median_after)
    frames = drifting_frames(2, 48, 61, 0.7, 0.4)
    flow = on_the_host(tvl1).solve(frames, [0], [1])
    assert mean_distance(flow, solve_once("reference", tvl1, frames)) < CLOSE_PX
    not_stopped = on_the_host(replace(tvl1, epsilon=0.0)).solve(frames, [0], [1])
    assert mean_distance(flow, not_stopped) > 10 * CLOSE_PX


@pytest.mark.slow
def test_on_action_clips_it_is_as_close_as_can_be(shared_data: Path) -> None:
    clips = sorted((shared_data / "ucf101" / "BabyCrawling").glob("*_g0[1-4]_c01.avi"))
    pairs = [np.ascontiguousarray(pair_of_clip(clip)[:, :64, :80]) for clip in clips]

    def distances(preset: str, other: str) -> list[float]:
        engine = on_the_host(PRESETS[preset])
        return [
            mean_distance(engine.solve(pair, [0], [1]), cached_flow(other, PRESETS[preset], pair)[None])
            for pair in pairs
        ]

    assert len(pairs) == 4
    # The distance comes from places where rounding decides. OpenCV itself moves by 0.018 px if a hundredth of
    # the pixels change by a grey level.
    assert np.median(distances("opencv", "reference")) < 0.02
    assert np.median(distances("opencv", "opencv")) < 0.02
    assert max(distances("accurate", "cpu")) < WEIGHTED_PX


@pytest.mark.parametrize("levels", [(0, 0), (128, 128), (0, 255)])
@pytest.mark.parametrize("preset", PRESETS)
def test_constant_images_do_not_move(preset: str, levels: tuple[int, int]) -> None:
    frames = np.stack([np.full((20, 37), level, np.uint8) for level in levels])
    assert np.abs(on_the_host(PRESETS[preset]).solve(frames, [0], [1])).max() < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["opencv", "best"])
def test_results_do_not_depend_on_the_batch(preset: str) -> None:
    tvl1 = replace(PRESETS[preset], scales=3, warps=2, inner_iterations=20)
    frames = frames_of(6, 40, 53)
    # A pair of noise stops elsewhere than its neighbours.
    frames[3] = np.random.default_rng(0).integers(0, 256, frames[3].shape)
    first, second = [0, 1, 2, 3, 4, 5, 0], [1, 2, 3, 4, 5, 0, 0]
    whole = on_the_host(tvl1).solve(frames, first, second)
    for pairs in (1, 2, 3):
        engine = on_the_host(tvl1, seed=7, max_batch_pairs=pairs)
        np.testing.assert_array_equal(engine.solve(frames, first, second), whole)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["opencv", "accurate"])
def test_results_do_not_depend_on_the_tile_or_the_order_of_threads(preset: str) -> None:
    tvl1 = replace(PRESETS[preset], scales=2, warps=2, inner_iterations=13)
    frames = frames_of(2, 45, 83)
    expected = on_the_host(tvl1).solve(frames, [0], [1])
    for tile in TILES:
        for seed in (0, 1, 2):
            engine = on_the_host(tvl1, seed)
            engine.use_tile(tile)
            np.testing.assert_array_equal(engine.solve(frames, [0], [1]), expected, err_msg=f"{tile} {seed}")


@pytest.mark.parametrize("changes", COMBINED, ids=str)
def test_with_other_settings_results_do_not_depend_on_tiles_and_batches(changes: dict[str, Any]) -> None:
    tvl1 = replace(FIXED, **changes)
    frames = np.concatenate([half_moving_frames(45, 83), frames_of(1, 45, 83)])
    expected = on_the_host(tvl1).solve(frames, [0, 1], [1, 2])
    for seed, tile in enumerate(TILES):
        engine = on_the_host(tvl1, seed, max_batch_pairs=1)
        engine.use_tile(tile)
        np.testing.assert_array_equal(engine.solve(frames, [0, 1], [1, 2]), expected, err_msg=f"{tile}")


@pytest.mark.parametrize("seed", range(4))
def test_open_tiles_are_decided_as_in_the_reference(seed: int) -> None:
    # Few tiles are not open, so that they grow for many steps, and moving and fixed ones meet.
    engine, pairs, size = on_the_host(replace(FIXED, still=2.0, scales=3), seed), 3, (300, 350)
    layout = BatchLayout(BatchShape(*size, 2, pairs, False), engine.tvl1, engine.tile)
    launches = layout.launches(engine.device.allocate(layout.bytes))
    (decide,) = (x for x in launches if x.kernel == "decide_open_tiles")
    coarsen = [x for x in launches if x.kernel == "coarsen_tiles"]
    shape = pairs, *tile_counts(*size)
    marks = np.random.default_rng(seed).choice(3, shape, p=[0.01, 0.005, 0.985]).astype(np.uint8)
    marks[2] = 2  # all are open

    def tiles_of(arguments: Any, *shape: int) -> Any:
        return engine.device.at(arguments.tiles.data, arguments.tiles.size).reshape(shape)

    tiles = tiles_of(decide.arguments, *shape)
    tiles[:] = marks
    engine.device.queue().run(engine.source, [decide, *coarsen])
    expected = [with_open(m == 1, m == 2) for m in marks]
    np.testing.assert_array_equal(tiles, expected)
    assert 0.05 < tiles[:2].mean() < 0.95 and len(coarsen) == 2
    for arguments in (launch.arguments for launch in coarsen):
        level: Any = arguments
        coarse = tiles_of(level, pairs, *tile_counts(level.height, level.width))
        np.testing.assert_array_equal(
            coarse, [coarser(t, size, (level.height, level.width)) for t in expected]
        )


@pytest.mark.parametrize(("width", "tile"), [(w, t) for w in (16, 31, 61, 340, 1920) for t in TILES])
def test_strips_cover_a_level_and_fit_their_threads(width: int, tile: Tile) -> None:
    count, strip, threads = tile.strips(width)
    assert (count - 1) * strip < width <= count * strip
    widest = max(
        min((i + 1) * strip + tile.stages, width) - max(i * strip - tile.stages, 0) for i in range(count)
    )
    assert widest <= threads <= max(tile.threads, 32) and threads % 32 == 0


def test_too_little_memory_halves_the_batch_with_one_warning(caplog: Any) -> None:
    tvl1 = replace(PRESETS["fast"], scales=2, warps=1, inner_iterations=4)
    frames = frames_of(9)
    first, second = range(8), range(1, 9)
    expected = on_the_host(tvl1).solve(frames, first, second)
    # It says that more memory is free than there is, as if another process allocated some meanwhile.
    device = HostDevice(size=2_000_000, claimed_free_bytes=1 << 30)
    engine = CudaEngine(tvl1, device=device, max_batch_pairs=8)
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(engine.solve(frames, first, second), expected)
        engine.solve(frames, first, second)
    assert len(caplog.records) == 1 and "batch of 8 pairs: batches are halved" in caplog.text
    assert sum(len(memory) for memory in device.memory.values()) <= device.size

    with pytest.raises(EngineError, match="memory is too small for a pair of 61x48"):
        CudaEngine(tvl1, device=HostDevice(size=100_000)).solve(frames, [0], [1])


def test_a_batch_fits_the_free_memory() -> None:
    tvl1, size = PRESETS["fast"], 20_000_000
    large, small = on_the_host(tvl1), CudaEngine(tvl1, device=HostDevice(size=size))
    assert large.batch_size(64, 64) == BATCH_PAIRS
    assert large.batch_size(256, 340) == BATCH_PIXELS // (256 * 340)
    pairs = small.batch_size(64, 64)
    layout = BatchLayout(BatchShape(64, 64, pairs, pairs, False), tvl1, small.tile)
    assert 0.6 * size < IN_FLIGHT * layout.bytes < size


def test_a_failing_launch_is_an_error_and_leaves_nothing_behind() -> None:
    def fail(launch: Launch) -> None:
        if launch.kernel == "warp":
            raise EngineError("the device is lost")

    device = HostDevice(watch=fail)
    with pytest.raises(EngineError, match="the device is lost"):
        CudaEngine(PRESETS["fast"], device=device).solve(frames_of(3), [0, 1], [1, 2])
    device.watch = None
    flow = CudaEngine(PRESETS["fast"], device=device).solve(frames_of(3), [0], [1])
    assert flow.shape == (1, 2, 48, 61)


@pytest.mark.parametrize("preset", PRESETS)
def test_each_kernel_does_its_step(preset: str) -> None:
    errors = check_kernels(HostDevice(), PRESETS[preset], frames_of(3, 40, 49))
    median = "weighted_median" if PRESETS[preset].median_grey else "median"
    assert {"begin", "grow", "warp", "iterate", median, "finish", "shrink"} <= set(errors)


@pytest.mark.parametrize("changes", COMBINED, ids=str)
def test_each_kernel_does_its_step_with_other_settings(changes: dict[str, Any]) -> None:
    tvl1 = replace(FIXED, **changes)
    errors = check_kernels(HostDevice(), tvl1, half_moving_frames(40, 83))
    assert "weigh_edges" in errors or not tvl1.edge
    assert {"decide_open_tiles", "coarsen_tiles"} <= set(errors) or not tvl1.still
    assert "settle" in errors or not tvl1.settle
    assert {"median", "weighted_median"} <= set(errors) or not tvl1.median_levels


def test_the_check_names_the_kernel_and_the_pixel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(kernels.SOURCE, tmp_path / "tvl1")
    steps = tmp_path / "tvl1" / "steps.cu"
    text = steps.read_text().replace("theta, div2,", "theta, i_am_wrong(div2),")
    text = text.replace("// The primal step:", "BOTH float i_am_wrong(float x) { return x * 1.01f; }\n// ")
    steps.write_text(text)
    monkeypatch.setattr(kernels, "SOURCE", tmp_path / "tvl1")
    with pytest.raises(EngineError, match=r"kernel iterate: pair \d, level of \d+x\d+, pixel x=\d+ y=\d+"):
        check_kernels(HostDevice(), PRESETS["fast"], frames_of(2, 24, 30))


def test_an_index_out_of_bounds_is_named() -> None:
    engine = on_the_host(PRESETS["fast"])
    layout = BatchLayout(BatchShape(20, 20, 2, 1, False), engine.tvl1, engine.tile)
    address = engine.device.allocate(layout.bytes)
    launch = layout.launches(address)[0]
    arguments: Any = launch.arguments
    arguments.output.size -= 1
    with pytest.raises(EngineError, match="widen: index 800 of 799 in block"):
        engine.device.queue().run(engine.source, [launch])


def test_settings_that_are_only_numbers_share_machine_code() -> None:
    one, other = PRESETS["accurate"], replace(PRESETS["accurate"], lambda_=0.3, theta=0.2, warps=2)
    assert kernel_source(one, Tile()) == kernel_source(other, Tile())
    assert kernel_source(one, Tile()) != kernel_source(Tvl1Settings(), Tile())
