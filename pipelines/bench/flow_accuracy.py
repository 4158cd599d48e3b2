#!/usr/bin/env python3
"""Compare settings of TV-L1 over several sets of pairs with known flow.

    python pipelines/bench/flow_accuracy.py DATA [--preset NAME]... [--change NAME=VALUE,...]... [--others]

DATA is a folder as `flow_sets.py` describes it. A row is a preset, a change of the first preset, or with
--others another method. A column of a set has the ratio of the errors to those of `accurate@1`: the geometric
mean over its pairs. J is the geometric mean over the sets. Then follow:

    noise   mean flow on the background of fixed cameras, pixels
    zero    share of these pixels that are exactly 0 after the default quantisation
    bytes   of a pair of clips at the default quantisation; x: times smaller than float32; px: its error
    speed   times as fast as OpenCV's TV-L1 on the same pairs, in turn, by processor time of one thread
    0.05    share of a motion of 0.05 px that is measured before a still background; 0.1 and 0.2 likewise
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from flow_sets import (
    Background,
    Floats,
    Grey,
    Pair,
    load_backgrounds,
    load_clip_pairs,
    load_sets,
    small_motions,
)

from flowprep.codec.quantise import decode, encode
from flowprep.engines import make_engine
from flowprep.presets import PRESET_VERSIONS, PRESETS, Tvl1Settings, tvl1_settings

BASELINE = "accurate@1"
MOTIONS_PX = (0.05, 0.1, 0.2)
_WORKERS = 2
_PRESET_OF_DIS = {
    "DIS medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
    "DIS fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
}

Method = Callable[[Grey], Floats]


@dataclass(frozen=True)
class Material:
    """All that a method is measured on."""

    sets: dict[str, list[Pair]]
    backgrounds: list[Background]
    clips: list[Grey]
    motions: dict[float, list[Pair]]

    @classmethod
    def load(cls, data: Path) -> Material:
        """Read and make it from a folder."""
        motions = {motion: list(small_motions(data, motion)) for motion in MOTIONS_PX}
        return cls(load_sets(data), load_backgrounds(data), load_clip_pairs(data), motions)


@dataclass(frozen=True)
class Accuracy:
    """The figures of a method.

    Attributes:
        errors: mean end-point error of each pair of each set, pixels.
        noise_px: mean flow on backgrounds.
        zero: share of background pixels that decode to exactly 0.
        bytes_per_pair: of clips at the default quantisation.
        ratio: times smaller than float32.
        coding_px: mean error of the quantisation, pixels.
        ms: processor time a pair of clips, milliseconds.
        opencv_ms: the same of OpenCV's TV-L1 with its defaults; 0 if it was not timed.
        measured: for each motion in pixels, the share of it that is measured.
    """

    errors: dict[str, dict[str, float]]
    noise_px: float
    zero: float
    bytes_per_pair: float
    ratio: float
    coding_px: float
    ms: float
    opencv_ms: float
    measured: dict[float, float]

    def ratios(self, baseline: Accuracy) -> dict[str, float]:
        """The error of each set as a multiple of the baseline's: the geometric mean over its pairs."""
        return {
            name: float(
                np.exp(np.mean([np.log(error / baseline.errors[name][pair]) for pair, error in set_.items()]))
            )
            for name, set_ in self.errors.items()
        }


def overall(ratios: dict[str, float]) -> float:
    """J: the geometric mean over the sets."""
    return float(np.exp(np.mean(np.log(list(ratios.values())))))


def tvl1_method(engine: str, tvl1: Tvl1Settings) -> Callable[[], Method]:
    """A method that solves a pair by an engine."""

    def make() -> Method:
        solver = make_engine(engine, tvl1)
        return lambda frames: np.asarray(solver.solve(frames, [0], [1])[0])

    return make


def measure(make: Callable[[], Method], material: Material, *, against_opencv: bool = False) -> Accuracy:
    """Measure a method.

    Args:
        make: makes an instance of the method, one for each thread.
        material: what it is measured on.
        against_opencv: also time OpenCV's TV-L1, in turn with the method.
    """
    idle = [make() for _ in range(_WORKERS)]

    def solved(frames: Grey) -> Floats:
        method = idle.pop()
        flow = method(frames)
        idle.append(method)
        return flow

    pairs = [(name, pair) for name, set_ in material.sets.items() for pair in set_]
    with ThreadPoolExecutor(_WORKERS) as pool:
        errors: dict[str, dict[str, float]] = {name: {} for name in material.sets}
        for (name, pair), flow in zip(
            pairs, pool.map(solved, [pair.frames for _, pair in pairs]), strict=True
        ):
            errors[name][pair.name] = float(np.nanmean(np.hypot(*(flow - pair.truth))))
        still = list(pool.map(solved, [background.frames for background in material.backgrounds]))
        measured = {
            motion: float(
                np.mean(
                    [
                        _share(pair, flow)
                        for pair, flow in zip(
                            moving, pool.map(solved, [p.frames for p in moving]), strict=True
                        )
                    ]
                )
            )
            for motion, moving in material.motions.items()
        }
    flows, ms, opencv_ms = _timed(idle[0], material.clips, against_opencv)
    encoded = [encode(flow) for flow in flows]
    masks = [background.still for background in material.backgrounds]
    return Accuracy(
        errors,
        noise_px=float(
            np.mean([np.hypot(*flow)[mask].mean() for flow, mask in zip(still, masks, strict=True)])
        ),
        zero=float(
            np.mean(
                [
                    (decode(encode(flow)) == 0).all(axis=0)[mask].mean()
                    for flow, mask in zip(still, masks, strict=True)
                ]
            )
        ),
        bytes_per_pair=float(np.mean([codes.nbytes for codes in encoded])),
        ratio=sum(flow.nbytes for flow in flows) / sum(codes.nbytes for codes in encoded),
        coding_px=float(
            np.mean(
                [np.hypot(*(decode(codes) - flow)).mean() for codes, flow in zip(encoded, flows, strict=True)]
            )
        ),
        ms=ms,
        opencv_ms=opencv_ms,
        measured=measured,
    )


def _share(pair: Pair, flow: Floats) -> float:
    """The share of the true motion that a flow has, in the mean over the known pixels."""
    known = np.isfinite(pair.truth[0])
    motion = pair.truth[:, known].mean(axis=1)
    return float(flow[:, known].mean(axis=1) @ motion / (motion @ motion))


def _timed(method: Method, clips: Sequence[Grey], against_opencv: bool) -> tuple[list[Floats], float, float]:
    """Flow of the clips, and the mean milliseconds of a pair by the method and by OpenCV, in turn."""
    opencv = tvl1_method("opencv", PRESETS["opencv"])()
    flows, ms, opencv_ms = [], [], []
    for frames in clips:
        times = []
        for _ in range(3):
            began = time.thread_time()
            flow = method(frames)
            times.append(time.thread_time() - began)
        flows.append(flow)
        ms.append(1e3 * min(times))
        if against_opencv:
            began = time.thread_time()
            opencv(frames)
            opencv_ms.append(1e3 * (time.thread_time() - began))
    return flows, float(np.mean(ms)), float(np.mean(opencv_ms)) if opencv_ms else 0.0


def other_methods() -> dict[str, Callable[[], Method]]:
    """Methods that are not of this project, by name."""

    def dis(preset: int) -> Callable[[], Method]:
        def make() -> Method:
            solver: Any = cv2.DISOpticalFlow.create(preset)  # the annotations lack None
            return lambda frames: np.moveaxis(solver.calc(frames[0], frames[1], None), -1, 0)

        return make

    def farneback() -> Method:
        farneback_flow: Any = cv2.calcOpticalFlowFarneback  # the annotations lack None
        return lambda frames: np.moveaxis(
            farneback_flow(frames[0], frames[1], None, 0.5, 5, 15, 5, 7, 1.5, 0), -1, 0
        )

    methods: dict[str, Callable[[], Method]] = {
        "OpenCV TV-L1": tvl1_method("opencv", PRESETS["opencv"]),
        "OpenCV TV-L1, 12 scales": tvl1_method("opencv", replace(PRESETS["opencv"], scales=12)),
        **{name: dis(preset) for name, preset in _PRESET_OF_DIS.items()},
        "Farneback": farneback,
    }
    try:
        from skimage.registration import optical_flow_tvl1
    except ImportError:
        return methods
    return {**methods, "scikit-image TV-L1": lambda: lambda frames: optical_flow_tvl1(*frames)[::-1]}


def table(rows: dict[str, Accuracy], baseline: Accuracy) -> str:
    """The figures as text."""
    names = list(baseline.errors)
    lines = [
        f"{'':24} {'J':>5} "
        + " ".join(f"{name[:9]:>9}" for name in names)
        + "   noise  zero bytes    x    px speed "
        + " ".join(f"{motion:>5}" for motion in MOTIONS_PX)
    ]
    for name, row in rows.items():
        ratios = row.ratios(baseline)
        lines.append(
            f"{name[:24]:24} {overall(ratios):5.3f} "
            + " ".join(f"{ratios[each]:9.3f}" for each in names)
            + f"  {row.noise_px:.4f} {row.zero:5.1%} {row.bytes_per_pair:5.0f} {row.ratio:4.0f}"
            + f" {row.coding_px:.3f} {row.opencv_ms / row.ms:5.0f} "
            + " ".join(f"{row.measured[motion]:5.2f}" for motion in MOTIONS_PX)
        )
    errors = {name: float(np.mean(list(set_.values()))) for name, set_ in baseline.errors.items()}
    lines.append(
        f"errors of {BASELINE}, px: " + ", ".join(f"{name} {error:.3f}" for name, error in errors.items())
    )
    return "\n".join(lines)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--preset", action="append", help="a preset; can be repeated; all if it is not given")
    parser.add_argument("--change", action="append", default=[], help="NAME=VALUE,... of the first preset")
    parser.add_argument("--others", action="store_true", help="measure other methods, too")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    presets = options.preset or list(PRESET_VERSIONS)
    methods = {name: tvl1_method("cpu", tvl1_settings(name)) for name in presets}
    for change in options.change:
        methods[change] = tvl1_method("cpu", tvl1_settings(presets[0], change.split(",")))
    if options.others:
        methods |= other_methods()
    material = Material.load(options.data)
    baseline = measure(tvl1_method("cpu", tvl1_settings(BASELINE)), material)
    rows = {name: measure(make, material, against_opencv=True) for name, make in methods.items()}
    if options.json:
        ratios = {name: row.ratios(baseline) for name, row in rows.items()}
        print(
            json.dumps(
                {
                    name: {**asdict(row), "ratios": ratios[name], "J": overall(ratios[name])}
                    for name, row in rows.items()
                },
                indent=2,
            )
        )
    else:
        print(table(rows, baseline))


if __name__ == "__main__":
    main()
