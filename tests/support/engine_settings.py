"""Settings that tests of several engines share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from flowprep.presets import PRESETS
from flowprep.testing.engines import FEW_ITERATIONS

FIXED = replace(PRESETS["opencv"], **FEW_ITERATIONS)

# Changes of FIXED that OpenCV does not have.
BEYOND_OPENCV: list[dict[str, Any]] = [
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
    {"coupled": True},
    {"coupled": True, "huber": 0.02},
    {"edge": 0.1},
    {"coupled": True, "huber": 0.05, "edge": 0.3, "edge_least": 0.3},
    {"keep_dual": True},
    {"keep_dual": True, "coupled": True, "edge": 0.1, "warp": "spline", "scales": 3},
    {"finest_warps": 1},
    {"finest_warps": 3, "finest_iterations": 4},
    {"median_grey": 10.0, "median_stride": 2},
    {"median_grey": 20.0, "median": 7, "median_stride": 3, "median_occlusion": 4.0},
    {"median_grey": 10.0, "median": 7, "median_levels": 1},
    {"median_grey": 10.0, "median": 3, "median_warps": 1, "median_occlusion": 4.0, "warp": "spline"},
]

# Changes of FIXED that leave tiles out, for frames of which a part is still.
LEFT_OUT: list[dict[str, Any]] = [
    {"still": 2.0},
    {"still": 2.0, "median_after": True, "median_grey": 10.0, "median_occlusion": 4.0, "keep_dual": True},
    {"still": 2.0, "warp": "spline", "mask": True, "scales": 4},
    {"still": 2.0, "epsilon": 0.02, "edge": 0.1},
    {"settle": 0.01, "inner_iterations": 23},
    {"settle": 0.02, "still": 2.0, "inner_iterations": 18, "coupled": True, "edge": 0.1},
]

# Combinations of settings that change the compiled code of an engine.
COMBINED: list[dict[str, Any]] = [
    {"coupled": True, "keep_dual": True, "finest_warps": 1},
    {"coupled": True, "huber": 0.05, "edge": 0.3, "warp": "spline", "finest_iterations": 13},
    {"edge": 0.1, "keep_dual": True, "median_after": True, "epsilon": 0.02},
    {
        "median_grey": 10.0,
        "median": 7,
        "median_stride": 2,
        "median_occlusion": 4.0,
        "median_levels": 1,
        "median_warps": 1,
    },
    {"still": 2.0, "keep_dual": True, "median_grey": 10.0, "median_occlusion": 4.0},
    {"still": 2.0, "settle": 0.03, "inner_iterations": 18, "edge": 0.1},
]
