"""The quantisations and their size and error on given videos, and the best one for a target."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flowprep.bench.fidelity import STILL_PX, Fidelity, Flow, fidelity, sample_pairs
from flowprep.engines import make_engine, resolve
from flowprep.errors import UsageError
from flowprep.presets import PRESETS, Tvl1Settings, default_preset

# The measured quantisations, as arguments of `encode`.
CHOICES: tuple[dict[str, Any], ...] = (
    *({"codes": "adaptive", "error_px": error_px} for error_px in (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)),
    {"codes": "adaptive", "codec": "png"},
    *({"codes": "fixed", "range": 20.0, "quality": quality} for quality in (80, 90, 95)),
    {"codes": "fixed", "range": 20.0, "codec": "png"},
    *({"codes": "tsn", "range": 20.0, "quality": quality} for quality in (80, 90, 95)),
)
# The interval in which the search for a target looks for the quantisation step, pixels.
FINEST, COARSEST = 0.01, 20.0
_SEARCH_STEPS = 8
# Options of `flowprep extract` that are not named as the setting.
_OPTIONS = {"codes": "quantiser", "codec": "image-format", "error_px": "step-px"}


@dataclass(frozen=True)
class Tuning:
    """The measured quantisations.

    Attributes:
        pairs: number of pairs.
        size: size of a frame, such as "341x256".
        still_share: share of the pixels that move less than `STILL_PX`.
        choices: the figures of each of `CHOICES`.
        chosen: the best figures for the target; None without a target.
    """

    pairs: int
    size: str
    still_share: float
    choices: list[Fidelity]
    chosen: Fidelity | None

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return {
            "pairs": self.pairs,
            "size": self.size,
            "still_share": self.still_share,
            "choices": [choice.to_dict() for choice in self.choices],
            "chosen": self.chosen and self.chosen.to_dict(),
        }


def tune(
    videos: Sequence[Path],
    engine: str = "auto",
    *,
    tvl1: Tvl1Settings | None = None,
    size: str = "short:256",
    pairs: int = 24,
    target_error: float | None = None,
    target_ratio: float | None = None,
) -> Tuning:
    """Compute flow once and encode it with each quantisation.

    Args:
        videos: inputs as for an extraction.
        engine: the engine that computes the flow.
        tvl1: its parameters; None for its default preset.
        size: as `Settings.size`.
        pairs: number of pairs, spread over the videos.
        target_error: choose the smallest result with at most this mean error, pixels.
        target_ratio: choose the most accurate result with at least this ratio.

    Raises:
        UsageError: there are no pairs, both targets are given, or no quantisation reaches the target.
        VideoError: a video cannot be read.
    """
    if target_error is not None and target_ratio is not None:
        raise UsageError("both a target error and a target ratio are given; allowed: one of the two")
    engine = resolve(engine)
    solver = make_engine(engine, tvl1 or PRESETS[default_preset(engine)])
    flows = [solver.solve(np.stack(pair), [0], [1])[0] for pair in sample_pairs(videos, size, pairs)]
    choices = [fidelity(flows, **choice) for choice in CHOICES]
    chosen = None
    if target_error is not None or target_ratio is not None:
        chosen = _choose(flows, choices, target_error, target_ratio)
    return Tuning(
        pairs=len(flows),
        size=f"{flows[0].shape[2]}x{flows[0].shape[1]}",
        still_share=round(float(np.mean([(np.hypot(*flow) < STILL_PX).mean() for flow in flows])), 4),
        choices=choices,
        chosen=chosen,
    )


def _choose(
    flows: Sequence[Flow], choices: Sequence[Fidelity], error: float | None, ratio: float | None
) -> Fidelity:
    """The best result that reaches the target, from the choices and a search over the adaptive step."""

    def reaches(result: Fidelity) -> bool:
        return result.error_px <= error if error is not None else result.ratio >= (ratio or 0)

    # A bisection: error and ratio both grow with the step.
    low, high = math.log(FINEST), math.log(COARSEST)
    candidates = list(choices)
    for _ in range(_SEARCH_STEPS):
        step = float(f"{math.exp((low + high) / 2):.2g}")
        result = fidelity(flows, codes="adaptive", error_px=step)
        candidates.append(result)
        coarser = reaches(result) == (error is not None)
        low, high = ((low + high) / 2, high) if coarser else (low, (low + high) / 2)
    good = [result for result in candidates if reaches(result)]
    if not good:
        target = f"a mean error of {error} px" if error is not None else f"a ratio of {ratio}"
        raise UsageError(
            f"no quantisation reaches {target}; allowed: an error from"
            f" {min(result.error_px for result in candidates)} px, a ratio up to"
            f" {max(result.ratio for result in candidates)}"
        )
    if error is not None:
        return max(good, key=lambda result: result.ratio)
    return min(good, key=lambda result: result.error_px)


def options(choice: Mapping[str, Any]) -> str:
    """A choice as options of `flowprep extract`."""
    values = {
        _OPTIONS.get(name, name): f"{value:g}" if isinstance(value, float) else value
        for name, value in choice.items()
    }
    return " ".join(f"--{name} {value}" for name, value in values.items())


def as_row(result: Fidelity) -> dict[str, str]:
    """A line of the table, by column."""
    return {
        "options": options(result.choice),
        "bytes": str(result.bytes_per_pair),
        "ratio": f"{result.ratio}",
        "error": f"{result.error_px:.4f}",
        "99%": f"{result.error_px_99:.3f}",
        "clipped": f"{result.clipped:.2%}",
        "still": "-" if result.still_exact is None else f"{result.still_exact:.3f}",
        "ms": f"{result.encode_ms:.2f}",
    }
