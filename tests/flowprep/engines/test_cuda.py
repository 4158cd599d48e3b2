"""The cuda engine: its kernels run on the host against the other engines, and its code is compiled for GPUs.

On a machine with a GPU the conformance suite in test_engines.py runs on it as well.
"""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowprep.bench import cuda as measured
from flowprep.engines import make_engine
from flowprep.engines.cuda import compiler, driver, kernels
from flowprep.engines.cuda.device import Launch
from flowprep.engines.cuda.engine import BATCH_PAIRS, BATCH_PIXELS, IN_FLIGHT, CudaEngine
from flowprep.engines.cuda.kernels import Tile, source, tile_for
from flowprep.engines.cuda.layout import Layout, Shape
from flowprep.engines.cuda.selfcheck import check_kernels
from flowprep.errors import EngineError
from flowprep.presets import PRESETS, Tvl1Settings
from flowprep.testing.engines import (
    FEW_ITERATIONS,
    ROUNDING_PX,
    EngineSuite,
    OpenCVParitySuite,
    drifting_frames,
    mean_distance,
    solve_once,
)
from tests.support.cuda_host import HostDevice
from tests.support.engine_settings import BEYOND_OPENCV, FIXED
from tests.support.real_pairs import pair_of_clip

# The kernels and the reference do the same arithmetic in another order; a spline's or a median's outcome may
# turn on a rounding in a pixel, hence a mean.
CLOSE = 1e-4
TILES = [Tile(), Tile(stages=4, threads=64), Tile(stages=3, threads=32, rows=16), Tile(stages=1, threads=32)]


def frames_of(count: int, height: int = 48, width: int = 61) -> Any:
    return drifting_frames(count, height, width, 1.2, -0.7).astype(np.uint8)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 50), (48, 61), (70, 33)])
def test_kernels_on_the_host_agree_with_the_other_engines(preset: str, height: int, width: int) -> None:
    settings = PRESETS[preset]
    if preset == "opencv":  # with its stopping test and many iterations, rounding decides: see FEW_ITERATIONS
        settings = replace(settings, **FEW_ITERATIONS)
    frames = frames_of(3, height, width)
    flow = CudaEngine(settings, device=HostDevice()).solve(frames, [0, 1], [1, 2])
    for name in ("reference", "cpu"):
        expected = solve_once(name, settings, frames)
        assert mean_distance(flow, expected) < CLOSE


@pytest.mark.parametrize(
    "change", [*BEYOND_OPENCV, {"median": 1}, {"median": 3}, {"inner_iterations": 1}], ids=str
)
def test_every_setting_does_what_it_does_in_the_reference(change: dict[str, Any]) -> None:
    settings = replace(FIXED, **change)
    frames = drifting_frames(2, 48, 61, 2.2, -1.4)
    flow = CudaEngine(settings, device=HostDevice()).solve(frames, [0], [1])
    assert mean_distance(flow, solve_once("reference", settings, frames)) < ROUNDING_PX


@pytest.mark.parametrize("median_after", [False, True])
@pytest.mark.parametrize("epsilon", [0.02, 0.05, 0.2, 10.0])
def test_the_stopping_test_stops_in_the_same_iteration(epsilon: float, median_after: bool) -> None:
    # A surplus iteration would move a pixel by about epsilon.
    settings = replace(
        PRESETS["opencv"],
        **{
            **FEW_ITERATIONS,
            "scales": 1,
            "epsilon": epsilon,
            "inner_iterations": 21,
            "median_after": median_after,
        },
    )
    frames = drifting_frames(2, 48, 61, 0.7, 0.4)
    flow = CudaEngine(settings, device=HostDevice()).solve(frames, [0], [1])
    assert mean_distance(flow, solve_once("reference", settings, frames)) < CLOSE
    unstopped = replace(settings, epsilon=0.0)
    assert (
        mean_distance(flow, CudaEngine(unstopped, device=HostDevice()).solve(frames, [0], [1])) > 10 * CLOSE
    )


def test_on_action_clips_it_is_as_close_as_can_be(shared_data: Path) -> None:
    clips = sorted((shared_data / "ucf101" / "BabyCrawling").glob("*_g0[1-4]_c01.avi"))
    pairs = [pair_of_clip(clip)[:, :64, :80] for clip in clips]

    def distances(preset: str, other: str) -> list[float]:
        engine = CudaEngine(PRESETS[preset], device=HostDevice())
        expected = make_engine(other, PRESETS[preset])
        return [mean_distance(engine.solve(p, [0], [1]), expected.solve(p, [0], [1])) for p in pairs]

    assert len(pairs) == 4
    # What differs are places where rounding decides; OpenCV itself moves by 0.018 px when a hundredth of the
    # pixels change by a grey level.
    assert np.median(distances("opencv", "reference")) < 0.02
    assert np.median(distances("opencv", "opencv")) < 0.02
    assert max(distances("accurate", "cpu")) < 1e-3


@pytest.mark.parametrize("levels", [(0, 0), (128, 128), (0, 255)])
@pytest.mark.parametrize("preset", PRESETS)
def test_constant_images_do_not_move(preset: str, levels: tuple[int, int]) -> None:
    frames = np.stack([np.full((20, 37), level, np.uint8) for level in levels])
    assert np.abs(CudaEngine(PRESETS[preset], device=HostDevice()).solve(frames, [0], [1])).max() < 1e-5


@pytest.mark.parametrize("preset", ["opencv", "best"])
def test_results_do_not_depend_on_the_batch(preset: str) -> None:
    settings = replace(PRESETS[preset], scales=3, warps=2, inner_iterations=20)
    frames = frames_of(6, 40, 53)
    # A pair of noise stops elsewhere than its neighbours.
    frames[3] = np.random.default_rng(0).integers(0, 256, frames[3].shape)
    first, second = [0, 1, 2, 3, 4, 5, 0], [1, 2, 3, 4, 5, 0, 0]
    whole = CudaEngine(settings, device=HostDevice()).solve(frames, first, second)
    engine = CudaEngine(settings, device=HostDevice(seed=7))
    for most in (1, 2, 3):
        engine._most = {(40, 53): most}
        np.testing.assert_array_equal(engine.solve(frames, first, second), whole)


@pytest.mark.parametrize("tile", TILES, ids=str)
@pytest.mark.parametrize("preset", ["opencv", "accurate"])
def test_results_do_not_depend_on_the_tile_or_the_order_of_threads(preset: str, tile: Tile) -> None:
    settings = replace(PRESETS[preset], scales=2, warps=2, inner_iterations=13)
    frames = frames_of(2, 45, 83)
    expected = CudaEngine(settings, device=HostDevice()).solve(frames, [0], [1])
    for seed in (0, 1, 2):
        engine = CudaEngine(settings, device=HostDevice(seed=seed))
        engine.use_tile(tile)
        np.testing.assert_array_equal(engine.solve(frames, [0], [1]), expected)


@pytest.mark.parametrize(("width", "tile"), [(w, t) for w in (16, 31, 61, 340, 1920) for t in TILES])
def test_strips_cover_a_level_and_fit_their_threads(width: int, tile: Tile) -> None:
    count, strip, threads = tile.strips(width)
    assert (count - 1) * strip < width <= count * strip
    widest = max(
        min((i + 1) * strip + tile.stages, width) - max(i * strip - tile.stages, 0) for i in range(count)
    )
    assert widest <= threads <= max(tile.threads, 32) and threads % 32 == 0


def test_memory_that_does_not_suffice_halves_the_batch_and_is_said_once(caplog: Any) -> None:
    settings = replace(PRESETS["fast"], scales=2, warps=1, inner_iterations=4)
    frames = frames_of(9)
    first, second = range(8), range(1, 9)
    expected = CudaEngine(settings, device=HostDevice()).solve(frames, first, second)
    device = HostDevice(size=2_000_000)
    engine = CudaEngine(settings, device=device)
    engine._most = {(48, 61): 8}  # more than there is room for
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(engine.solve(frames, first, second), expected)
        engine.solve(frames, first, second)
    assert len(caplog.records) == 1 and "for 8 pairs: batches are halved" in caplog.text
    assert sum(len(memory) for memory in device.memory.values()) <= device.size

    with pytest.raises(EngineError, match="memory does not suffice for a pair of 61x48"):
        CudaEngine(settings, device=HostDevice(size=100_000)).solve(frames, [0], [1])


def test_a_batch_is_cut_to_the_memory_that_is_free() -> None:
    settings = PRESETS["fast"]
    roomy, tight = (
        CudaEngine(settings, device=HostDevice()),
        CudaEngine(settings, device=HostDevice(size=20_000_000)),
    )
    frames = frames_of(2, 64, 64)
    assert roomy._most_pairs(frames) == BATCH_PAIRS
    assert roomy._most_pairs(frames_of(1, 256, 340)) == BATCH_PIXELS // (256 * 340)
    pairs = tight._most_pairs(frames)
    shape = Shape(64, 64, pairs, pairs, False)
    taken = IN_FLIGHT * Layout(shape, settings, tight.tile).bytes
    assert 0.6 * 20_000_000 < taken < 20_000_000


def test_a_failing_launch_is_an_error_and_leaves_nothing_behind() -> None:
    def fail(launch: Launch) -> None:
        if launch.kernel == "warp":
            raise EngineError("the device is lost")

    device = HostDevice(watch=fail)
    with pytest.raises(EngineError, match="the device is lost"):
        CudaEngine(PRESETS["fast"], device=device).solve(frames_of(3), [0, 1], [1, 2])
    device.watch = None
    assert CudaEngine(PRESETS["fast"], device=device).solve(frames_of(3), [0], [1]).shape == (1, 2, 48, 61)


@pytest.mark.parametrize("preset", PRESETS)
def test_each_kernel_does_its_step(preset: str) -> None:
    checked = check_kernels(HostDevice(), PRESETS[preset], frames_of(3, 40, 49))
    assert {"begin", "grow", "warp", "iterate", "median", "finish", "shrink"} <= set(checked)


def test_the_check_names_the_kernel_and_the_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    text = kernels.SOURCE.read_text().replace("theta, div2,", "theta, i_am_wrong(div2),")
    text = text.replace("// The primal step:", "BOTH float i_am_wrong(float x) { return x * 1.01f; }\n// ")
    monkeypatch.setattr(kernels, "SOURCE", type("Wrong", (), {"read_text": staticmethod(lambda _: text)}))
    with pytest.raises(EngineError, match=r"kernel iterate: pair \d, level of \d+x\d+, pixel x=\d+ y=\d+"):
        check_kernels(HostDevice(), PRESETS["fast"], frames_of(2, 24, 30))


def test_an_index_out_of_bounds_is_named() -> None:
    engine = CudaEngine(PRESETS["fast"], device=HostDevice())
    layout = Layout(Shape(20, 20, 2, 1, False), engine.tvl1, engine.tile)
    address = engine.device.allocate(layout.bytes)
    launch = layout.launches(address)[0]
    launch.record.output.size -= 1
    with pytest.raises(EngineError, match="widen: index 800 of 799 in block"):
        engine.device.queue().run(engine.source, [launch])


# Machine code. What can be said of speed without a GPU: no kernel keeps what it works on in memory.

# Shared memory that a block may have at most, KiB.
ARCHITECTURES = {"sm_75": 64, "sm_80": 163, "sm_86": 99, "sm_90": 227, "sm_100": 227}


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("preset", PRESETS)
def test_nvrtc_makes_machine_code(arch: str, preset: str) -> None:
    needs_nvrtc()
    tile = tile_for(HostDevice(shared_bytes=ARCHITECTURES[arch] << 10))
    text = source(PRESETS[preset], tile)
    report = compiler.resource_report(text, arch)
    spilled = {
        name: int(size)
        for name, size in re.findall(r"entry function '(\w+)'.*?(\d+) bytes spill stores", report, re.S)
    }
    assert {"iterate", "median", "warp", "grow", "finish"} <= set(spilled)
    assert max(spilled.values()) <= 128, spilled  # bytes of a thread: STAGES x 48 are its state


@pytest.mark.parametrize("bounds", [False, True])
def test_a_build_that_checks_bounds_compiles(bounds: bool) -> None:
    needs_nvrtc()
    code = compiler._compile(source(PRESETS["best"], Tile(), bounds), "sm_90")[0]
    assert code[:4] == b"\x7fELF" and (b"index %lld of %lld" in code) == bounds


def test_machine_code_is_kept_and_a_cache_may_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_nvrtc()
    text = 'extern "C" __global__ void nothing() {}'
    monkeypatch.setenv("FLOWPREP_CACHE_DIR", str(tmp_path))
    code = compiler.compile_source(text, "sm_90")
    (kept,) = (tmp_path / "flowprep-cuda").iterdir()
    assert kept.read_bytes() == code
    kept.write_bytes(b"what was kept")
    assert compiler.compile_source(text, "sm_90") == b"what was kept"
    assert compiler.compile_source(text, "sm_80") not in (code, b"what was kept")
    monkeypatch.setattr(compiler, "cache_folder", lambda *_: None)
    assert compiler.compile_source(text, "sm_90")[:4] == b"\x7fELF"


def test_a_fault_in_the_source_is_an_error() -> None:
    needs_nvrtc()
    with pytest.raises(EngineError, match="NVRTC could not compile the kernels for sm_90"):
        compiler._compile("this is no C++", "sm_90")


def needs_nvrtc() -> None:
    if find_spec("cuda") is None or find_spec("cuda.bindings") is None:
        pytest.skip("NVRTC is not installed: pip install flowprep[cuda]")


def test_settings_that_only_are_numbers_share_machine_code() -> None:
    one, other = PRESETS["accurate"], replace(PRESETS["accurate"], lambda_=0.3, theta=0.2, warps=2)
    assert source(one, Tile()) == source(other, Tile()) != source(Tvl1Settings(), Tile())


class OnTheHost(EngineSuite):
    """The engine with a device that runs the kernels on the host."""

    engine = "cuda"

    def make_engine(self, tvl1: Tvl1Settings | None = None, threads: int = 1) -> CudaEngine:
        return CudaEngine(tvl1 or self.settings, threads, HostDevice())


class TestCudaOnTheHost(OnTheHost, OpenCVParitySuite):
    pass


class TestCudaOnTheHostAccurate(OnTheHost):
    preset = "accurate"


def test_the_benchmark_times_sizes_and_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = driver.Gpu(0, "host", (9, 0), 1, 1e9, 1 << 30)
    device = HostDevice()
    device.gpu = gpu  # type: ignore[attr-defined]
    roof = {"pixel_iterations_per_second": 1e12}
    monkeypatch.setattr(measured, "ceilings", lambda _: roof)
    monkeypatch.setattr(measured, "SECONDS", 0.0)
    settings = replace(PRESETS["fast"], scales=2, warps=1, inner_iterations=4)
    found = measured.bench_cuda(frames_of(3), settings, device, sizes=((33, 20), (40, 32)), batches=(1, 2))
    assert {size: list(rates) for size, rates in found["pairs_per_second"].items()} == {
        "33x20": ["1", "2"],
        "40x32": ["1", "2"],
    }
    assert sum(found["kernels"].values()) == pytest.approx(1, abs=1e-3) and "iterate" in found["kernels"]
    best = max(found["pairs_per_second"]["33x20"].values())
    # 33x20 and, at 0.65 of it, 21x13, which is too small: one level, one warp, 4 iterations.
    assert found["pixel_iterations_per_second"] == pytest.approx(best * 33 * 20 * 4)
    assert measured.as_rows(found)[1]["pairs a batch"] == "2"
    assert measured.pixel_iterations(256, 340, PRESETS["opencv"]) is None
