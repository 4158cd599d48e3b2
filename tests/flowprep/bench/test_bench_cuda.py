"""The benchmark of engine cuda, with kernels that run on the host."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from flowprep.bench import cuda
from flowprep.engines.cuda.driver import Gpu
from flowprep.presets import PRESETS
from flowprep.testing.engines import drifting_frames
from tests.support.cuda_host import HostDevice


def test_the_benchmark_times_sizes_and_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    device = HostDevice()
    device.gpu = Gpu(0, "host", (9, 0), 1, 1e9, 1 << 30)  # type: ignore[attr-defined]
    limits = cuda.Ceilings(1e12, 1e12, 1e12, 1e12, pixel_iterations_per_second=1e12)
    monkeypatch.setattr(cuda, "ceilings", lambda _: limits)
    monkeypatch.setattr(cuda, "SECONDS", 0.0)
    tvl1 = replace(PRESETS["fast"], scales=2, warps=1, inner_iterations=4)
    frames = drifting_frames(3, 48, 61, 1.2, -0.7).astype(np.uint8)
    result = cuda.bench_cuda(frames, tvl1, device, sizes=((33, 20), (40, 32)), batches=(1, 2))
    assert {size: list(rates) for size, rates in result.pairs_per_second.items()} == {
        "33x20": ["1", "2"],
        "40x32": ["1", "2"],
    }
    assert sum(result.kernels.values()) == pytest.approx(1, abs=1e-3) and "iterate" in result.kernels
    best = max(result.pairs_per_second["33x20"].values())
    # 33x20 and, at 0.65 of it, 21x13, which is too small: one level, one warp, 4 iterations.
    assert result.pixel_iterations_per_second == pytest.approx(best * 33 * 20 * 4)
    assert result.rows()[1]["pairs a batch"] == "2"
    values = json.loads(json.dumps(result.to_dict()))
    assert list(values) == [
        "device",
        "ceilings",
        "pixel_iterations_per_second",
        "share_of_ceiling",
        "pairs_per_second",
        "kernels",
    ]
    assert values["device"]["name"] == "host" and values["device"]["capability"] == [9, 0]
    assert cuda.pixel_iterations(256, 340, PRESETS["opencv"]) is None
