"""The accuracy of the presets where motion is known, and the noise and size of their flow of real clips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowprep.bench.truth import endpoint_errors
from flowprep.codec.quantise import encode
from flowprep.engines.opencv import OpenCVEngine
from flowprep.presets import PRESETS, tvl1_settings
from tests.support.cached import cached_flow
from tests.support.real_pairs import pair_of_clip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "limit_px"),
    [
        ("accurate", 0.153),
        ("best", 0.15),
        ("fast", 0.165),
        ("accurate@1", 0.175),
        ("best@1", 0.165),
        ("fast@1", 0.18),
    ],
)
def test_presets_are_more_accurate_on_middlebury(
    preset: str, limit_px: float, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # OpenCV solves each pair once, not for each preset: it takes seconds.
    solve = OpenCVEngine.solve

    def solve_cached(engine: OpenCVEngine, frames: np.ndarray, first: Any, second: Any) -> np.ndarray:
        assert (first, second) == ([0], [1])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(OpenCVEngine, "solve", solve)
            return cached_flow("opencv", engine.tvl1, frames)[None]

    monkeypatch.setattr(OpenCVEngine, "solve", solve_cached)
    # OpenCV: 1.01 px by default, 0.223 px with 12 scales.
    errors = endpoint_errors(shared_data / "flow_gt" / "middlebury", tvl1=tvl1_settings(preset)).errors_px
    assert len(errors) == 5 and errors["mean"]["ours"] < limit_px
    assert all(e["ours"] < 0.85 * e["opencv"] for e in errors.values())


@pytest.mark.slow
def test_accurate_is_calmer_and_no_larger_on_action_clips(shared_data: Path) -> None:
    clips = sorted((shared_data / "ucf101").glob("PushUps/*_g0[159]_c01.avi"))
    assert len(clips) == 3
    ours, opencv = (
        np.stack([cached_flow("cpu", PRESETS[name], pair_of_clip(c)) for c in clips])
        for name in ("accurate", "opencv")
    )
    # The calmer half of the pixels is the background.
    lengths, opencv_lengths = (np.sort(np.hypot(*f.swapaxes(0, 1)).ravel()) for f in (ours, opencv))
    half = lengths.size // 2
    assert lengths[:half].mean() < opencv_lengths[:half].mean()
    assert encode(ours).nbytes < 1.05 * encode(opencv).nbytes
