"""The public functions: `tvl1`, `make_engine` and the names of engines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flowprep.engines import make_engine, resolve, tvl1
from flowprep.engines.base import Engine
from flowprep.engines.reference import ReferenceEngine
from flowprep.errors import SettingsError, UsageError
from flowprep.presets import PRESETS
from flowprep.testing.engines import drifting_frames

OPENCV = PRESETS["opencv"]


class UniformEngine(Engine):
    """An engine from outside flowprep.engines: every flow is (threads, 0)."""

    def _solve(self, frames: Any, first: list[int], second: list[int], flow: Any) -> None:
        flow[:, 0], flow[:, 1] = self.threads, 0


def test_an_unknown_engine_lists_those_that_exist() -> None:
    with pytest.raises(SettingsError, match="engine is 'gpu'; allowed: auto, cpu, cuda, opencv, reference"):
        make_engine("gpu", OPENCV)
    assert resolve("auto") in ("cpu", "cuda") and resolve("opencv") == "opencv"


def test_an_engine_can_be_named_by_its_place() -> None:
    name = f"{ReferenceEngine.__module__}:{ReferenceEngine.__name__}"
    assert resolve(name) == name
    assert type(make_engine(name, OPENCV)) is ReferenceEngine


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("no_such_package:Engine", "No module named 'no_such_package'"),
        ("flowprep.engines.reference:Missing", "has no attribute 'Missing'"),
        ("flowprep.engines.reference:pyramid", "allowed: a subclass of flowprep.engines.base.Engine"),
        (":", "cannot be imported"),
    ],
)
def test_a_place_without_an_engine_is_refused(name: str, fault: str) -> None:
    with pytest.raises(SettingsError, match=fault):
        make_engine(name, OPENCV)


def test_tvl1_accepts_an_engine_object() -> None:
    image = np.zeros((32, 40), np.uint8)
    flow = tvl1(image, image, engine=UniformEngine(OPENCV, threads=3))
    assert flow.shape == (2, 32, 40) and (flow[0] == 3).all() and (flow[1] == 0).all()
    with pytest.raises(UsageError, match="preset is 'fast'; allowed with an engine object: None"):
        tvl1(image, image, engine=UniformEngine(OPENCV), preset="fast")


def test_a_device_is_refused_by_engines_without_a_gpu() -> None:
    for engine in ("cpu", "opencv", "reference"):
        with pytest.raises(UsageError, match="device is 0, but this engine uses no GPU; allowed: None"):
            make_engine(engine, OPENCV, device=0)


def test_tvl1_accepts_images_and_batches() -> None:
    frames = drifting_frames(3, 32, 40, 0.7, 0.2)
    one = tvl1(frames[0], frames[1])
    batch = tvl1(frames[:2], frames[1:])
    assert one.shape == (2, 32, 40) and batch.shape == (2, 2, 32, 40) and batch.dtype == np.float32
    np.testing.assert_array_equal(one, batch[0])
    np.testing.assert_array_equal(one, tvl1(frames[0].astype(np.float64), frames[1].astype(np.float64)))
    assert one[0].mean() == pytest.approx(0.7, abs=0.1)


def test_tvl1_refuses_wrong_images() -> None:
    image = np.zeros((32, 40), np.uint8)
    with pytest.raises(UsageError, match=r"prev is uint8 \(32, 40\) and next is uint8 \(32, 41\)"):
        tvl1(image, np.zeros((32, 41), np.uint8))
    with pytest.raises(UsageError, match="float32"):
        tvl1(image, image.astype(np.float32))
    with pytest.raises(UsageError, match=r"shape \(40,\); allowed: grey"):
        tvl1(image[0], image[0])
    with pytest.raises(UsageError, match="int64"):
        tvl1(image.astype(np.int64), image.astype(np.int64))
    with pytest.raises(SettingsError, match=r"preset is 'slow'; allowed: accurate.*, best.*, fast.*, opencv"):
        tvl1(image, image, preset="slow")
