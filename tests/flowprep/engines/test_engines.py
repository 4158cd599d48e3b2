"""Every engine passes the conformance suite, with each of its presets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from flowprep.engines import ENGINES
from flowprep.engines.cuda.driver import open_device
from flowprep.errors import EngineError
from flowprep.presets import PRESETS
from flowprep.testing.engines import (
    ROUNDING_OF_OPENCV_4_PX,
    WEIGHTED_PX,
    EngineSuite,
    OpenCVParitySuite,
    mean_distance,
)
from tests.support.cached import cached_flow
from tests.support.real_pairs import pair_of_clip, pair_of_middlebury

OPENCV_5 = int(cv2.__version__.split(".")[0]) >= 5


class ParitySuite(OpenCVParitySuite):
    """The suite, and the distance to OpenCV on real frames."""

    @pytest.mark.slow
    def test_close_to_opencv_on_action_clips(self, shared_data: Path) -> None:
        clips = sorted((shared_data / "ucf101").glob("*/*_g0[1-4]_c01.avi"))
        self.check_close_to_opencv([pair_of_clip(path) for path in clips])

    @pytest.mark.slow
    def test_close_to_opencv_on_middlebury(self, shared_data: Path) -> None:
        folders = sorted((shared_data / "flow_gt" / "middlebury").iterdir())
        self.check_close_to_opencv([pair_of_middlebury(folder) for folder in folders])

    def check_close_to_opencv(self, pairs: list[NDArray[np.uint8]]) -> None:
        """Mean distance under 0.03 px on the median pair.

        OpenCV's own flow moves by 0.018 px (worst pair 0.073) when 1% of the pixels of one image change by
        one grey level. So single pairs with violent motion mean nothing, and 0.03 px is no difference.
        """
        ours = [self.flow(pair) for pair in pairs]
        opencv = [cached_flow("opencv", PRESETS["opencv"], pair) for pair in pairs]
        distances = [mean_distance(a[None], b[None]) for a, b in zip(ours, opencv, strict=True)]
        assert len(pairs) >= 4 and np.median(distances) < (0.03 if OPENCV_5 else 0.04), distances

    def flow(self, pair: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The flow of a pair by the engine."""
        return self.solve(pair, [0], [1])[0]


class TestReference(ParitySuite):
    engine = "reference"

    def flow(self, pair: NDArray[np.uint8]) -> NDArray[np.float32]:
        return cached_flow("reference", PRESETS["opencv"], pair)


class TestOpenCV(ParitySuite):
    engine = "opencv"
    reference_tolerance_px: ClassVar[float] = (
        EngineSuite.reference_tolerance_px if OPENCV_5 else ROUNDING_OF_OPENCV_4_PX
    )


class TestCpu(ParitySuite):
    engine = "cpu"
    weighted_tolerance_px = WEIGHTED_PX


class TestReferenceAccurate(EngineSuite):
    engine, preset = "reference", "accurate"


class TestCpuAccurate(EngineSuite):
    engine, preset = "cpu", "accurate"
    weighted_tolerance_px = WEIGHTED_PX


class TestReferenceFast(EngineSuite):
    engine, preset = "reference", "fast"


class TestCpuFast(EngineSuite):
    engine, preset = "cpu", "fast"
    weighted_tolerance_px = WEIGHTED_PX


class TestReferenceBest(EngineSuite):
    engine, preset = "reference", "best"


class TestCpuBest(EngineSuite):
    engine, preset = "cpu", "best"
    weighted_tolerance_px = WEIGHTED_PX


@pytest.fixture
def gpu() -> None:
    """A GPU that works. Without one, the test is skipped; it fails if FLOWPREP_REQUIRE_CUDA is 1."""
    try:
        open_device()
    except EngineError as exc:
        if os.environ.get("FLOWPREP_REQUIRE_CUDA") == "1":
            pytest.fail(f"FLOWPREP_REQUIRE_CUDA is 1: {exc}")
        pytest.skip(str(exc))


@pytest.mark.gpu
@pytest.mark.usefixtures("gpu")
class TestCuda(ParitySuite):
    engine = "cuda"


@pytest.mark.gpu
@pytest.mark.usefixtures("gpu")
class TestCudaAccurate(EngineSuite):
    engine, preset = "cuda", "accurate"


@pytest.mark.gpu
@pytest.mark.usefixtures("gpu")
class TestCudaFast(EngineSuite):
    engine, preset = "cuda", "fast"


@pytest.mark.gpu
@pytest.mark.usefixtures("gpu")
class TestCudaBest(EngineSuite):
    engine, preset = "cuda", "best"


def test_every_engine_passes_the_suite() -> None:
    suites = [value for name, value in globals().items() if name.startswith("Test")]
    tested = {(suite.engine, suite.preset) for suite in suites}
    expected = {(engine, preset) for engine in ENGINES for preset in PRESETS}
    assert tested == expected - {("opencv", preset) for preset in PRESETS if preset != "opencv"}
    assert {suite.engine for suite in suites if issubclass(suite, ParitySuite)} == set(ENGINES)
