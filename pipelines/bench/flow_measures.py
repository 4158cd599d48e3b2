"""What a method of optical flow is worth: error, noise, size, and time relative to OpenCV's TV-L1."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from flow_scenes import Flow, Frames
from flow_sets import SETS, FlowSets, Pair

from flowprep.codec.quantise import decode, encode
from flowprep.engines import make_engine
from flowprep.presets import PRESET_VERSIONS, PRESETS, Tvl1Settings

# Errors are compared with those of this preset.
BASELINE = PRESET_VERSIONS["accurate@1"]
# A motion survives if at least this share of it is measured.
SURVIVES = 0.5
_LEAST_ERROR_PX = 1e-6  # smaller errors are no better


@dataclass(frozen=True)
class Method:
    """A method of optical flow.

    Attributes:
        name: its name in tables and charts.
        solve: computes the flow of two frames.
    """

    name: str
    solve: Callable[[Frames], Flow]


@dataclass(frozen=True)
class Figures:
    """The figures of a method.

    Attributes:
        errors_px: mean end-point error of each pair, by set and name, pixels.
        noises_px: mean length of the flow on still background, by clip, pixels.
        still_exact: share of the still background that is exactly 0 after encoding and decoding.
        bytes_per_pair: of the mixed clips, at the default quantiser.
        ratio: bytes as float32, divided by the encoded bytes.
        codec_px: mean end-point error of the quantiser.
        survival: share of each small motion that is measured, by its size in pixels.
    """

    errors_px: dict[str, dict[str, float]]
    noises_px: dict[str, float]
    still_exact: float
    bytes_per_pair: float
    ratio: float
    codec_px: float
    survival: dict[float, float]

    def set_errors(self) -> dict[str, float]:
        """The mean error of each set, pixels."""
        return {name: float(np.mean(list(errors.values()))) for name, errors in self.errors_px.items()}

    @property
    def noise_px(self) -> float:
        """The mean of `noises_px`."""
        return float(np.mean(list(self.noises_px.values())))

    def least_motion(self) -> float | None:
        """The smallest motion that survives, and all larger ones with it; None if the largest does not."""
        least = None
        for size, share in sorted(self.survival.items(), reverse=True):
            if share < SURVIVES:
                break
            least = size
        return least

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return asdict(self)


def tvl1_method(name: str, tvl1: Tvl1Settings, engine: str = "cpu") -> Method:
    """TV-L1 by an engine of flowprep, on one thread."""
    solver = make_engine(engine, tvl1)
    return Method(name, lambda frames: solver.solve(frames, [0], [1])[0])


def opencv_method() -> Method:
    """TV-L1 by OpenCV with its default parameters: the clock of all times."""
    return tvl1_method("OpenCV TV-L1", PRESETS["opencv"], "opencv")


def measure(method: Method, sets: FlowSets) -> Figures:
    """All figures but the time.

    Raises:
        UsageError: the flow has values that are not finite.
    """
    flows = [method.solve(frames) for frames in sets.clips]
    encoded = [encode(flow) for flow in flows]
    sizes = [e.nbytes for e in encoded]
    codec = [np.hypot(*(decode(e) - flow)).mean() for e, flow in zip(encoded, flows, strict=True)]
    noise, exact = _on_backgrounds(method, sets)
    return Figures(
        errors_px={
            name: {pair.name: endpoint_error(method, pair) for pair in pairs}
            for name, pairs in sets.known.items()
        },
        noises_px=noise,
        still_exact=exact,
        bytes_per_pair=float(np.mean(sizes)),
        ratio=sum(flow.nbytes for flow in flows) / sum(sizes),
        codec_px=float(np.mean(codec)),
        survival=_survival(method, sets),
    )


def endpoint_error(method: Method, pair: Pair) -> float:
    """Mean end-point error where the flow is known, pixels."""
    return float(np.nanmean(np.hypot(*(method.solve(pair.frames) - pair.truth))))


def _on_backgrounds(method: Method, sets: FlowSets) -> tuple[dict[str, float], float]:
    """Mean length of the flow on the still pixels of each pair, and the mean share that decodes to 0."""
    noise, exact = {}, []
    for background in sets.backgrounds:
        flow = method.solve(background.frames)
        noise[background.name] = float(np.hypot(*flow)[background.still].mean())
        exact.append((decode(encode(flow)) == 0).all(axis=0)[background.still].mean())
    return noise, float(np.mean(exact))


def _survival(method: Method, sets: FlowSets) -> dict[float, float]:
    """For each size of motion, the mean share that is measured in the direction of the motion."""
    shares: dict[float, list[float]] = {}
    for patch in sets.patches:
        flow = method.solve(patch.frames)
        u, v = (float(component[patch.inside].mean()) for component in flow)
        along = (u * patch.motion[0] + v * patch.motion[1]) / patch.size
        shares.setdefault(patch.size, []).append(along / patch.size)
    return {size: float(np.mean(values)) for size, values in sorted(shares.items())}


def set_ratios(errors: Mapping[str, Mapping[str, float]], base: Figures) -> dict[str, float]:
    """For each set, the geometric mean over its pairs of the error divided by that of the baseline."""
    return {
        name: _geometric_mean(
            [
                max(error, _LEAST_ERROR_PX) / max(base.errors_px[name][pair], _LEAST_ERROR_PX)
                for pair, error in pairs.items()
            ]
        )
        for name, pairs in errors.items()
    }


def total_ratio(ratios: Mapping[str, float], weights: Mapping[str, float] | None = None) -> float:
    """J: the geometric mean of the ratios of the sets, with equal weights unless others are given."""
    weights = weights or dict.fromkeys(SETS, 1.0)
    return _geometric_mean(list(ratios.values()), [weights[name] for name in ratios])


def _geometric_mean(values: Sequence[float], weights: Sequence[float] | None = None) -> float:
    return math.exp(float(np.average(np.log(values), weights=weights)))


def relative_times(
    methods: Sequence[Method], clock: Method, pairs: Sequence[Frames], rounds: int
) -> list[float]:
    """Processor time of each method, divided by that of another one. For each pair, all take turns.

    Args:
        methods: the methods.
        clock: the method whose time is 1.
        pairs: frames of each pair.
        rounds: number of times that each pair is computed.
    """
    everyone = [clock, *methods]
    seconds = np.zeros(len(everyone))
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        for method in everyone:
            method.solve(pairs[0])  # compiles, and fills caches
        for frames in [*pairs] * rounds:
            for i, method in enumerate(everyone):
                began = time.process_time()
                method.solve(frames)
                seconds[i] += time.process_time() - began
    finally:
        cv2.setNumThreads(threads)
    return [float(value) for value in seconds[1:] / seconds[0]]
