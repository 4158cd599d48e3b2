"""What each kind of codes makes of flow: bytes against error, measured on one's own videos."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from flowprep.codec.quantise import decode, encode
from flowprep.engines import make_engine, resolve
from flowprep.errors import UsageError
from flowprep.presets import PRESETS, Tvl1Settings, default_preset
from flowprep.video.decode import read_frames
from flowprep.video.frames import to_grey
from flowprep.viz.canvas import EDGE, GREY, INK, PAPER, Canvas, number
from flowprep.viz.colours import Colour, Image

Grey = npt.NDArray[np.uint8]
Flow = npt.NDArray[np.float32]

# A pixel is still under this displacement: what counts is whether it decodes to exactly 0.
STILL_PX = 0.05

# What is measured, by arguments of `encode`.
CHOICES: tuple[dict[str, Any], ...] = (
    *({"codes": "adaptive", "error_px": error_px} for error_px in (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)),
    {"codes": "adaptive", "codec": "png"},
    *({"codes": "fixed", "range": 20.0, "quality": quality} for quality in (80, 90, 95)),
    {"codes": "fixed", "range": 20.0, "codec": "png"},
    *({"codes": "tsn", "range": 20.0, "quality": quality} for quality in (80, 90, 95)),
)
# Between which the error_px for a target is looked for.
FINEST, COARSEST = 0.01, 20.0


def tune(
    videos: Sequence[Path],
    engine: str = "auto",
    *,
    tvl1: Tvl1Settings | None = None,
    size: str = "short:256",
    pairs: int = 24,
    target_error: float | None = None,
    target_ratio: float | None = None,
) -> dict[str, Any]:
    """Compute flow once and encode it with each kind of codes.

    Args:
        videos: files.
        engine: what computes the flow.
        tvl1: its parameters; those of its default preset if None.
        size: as `Settings.size`.
        pairs: how many, spread over the videos.
        target_error: name the settings of the fewest bytes whose mean error is at most this, in pixels.
        target_ratio: name the settings of the least error whose ratio is at least this.

    Returns:
        `pairs`, `size`, `still_share` (pixels that move less than STILL_PX); `choices`: what `fidelity` says
        for each of CHOICES; and `chosen`, the one for the target, or None without a target.

    Raises:
        UsageError: there are no pairs, both targets are given, or nothing reaches the target.
        VideoError: a video cannot be read.
    """
    if target_error is not None and target_ratio is not None:
        raise UsageError("a target error and a target ratio; allowed: one of the two")
    engine = resolve(engine)
    solver = make_engine(engine, tvl1 or PRESETS[default_preset(engine)])
    flows = [solver.solve(np.stack(pair), [0], [1])[0] for pair in sample_pairs(videos, size, pairs)]
    choices = [fidelity(flows, **choice) for choice in CHOICES]
    chosen = None
    if target_error is not None or target_ratio is not None:
        chosen = _choose(flows, choices, target_error, target_ratio)
    return {
        "pairs": len(flows),
        "size": f"{flows[0].shape[2]}x{flows[0].shape[1]}",
        "still_share": round(float(np.mean([(np.hypot(*flow) < STILL_PX).mean() for flow in flows])), 4),
        "choices": choices,
        "chosen": chosen,
    }


def sample_pairs(videos: Sequence[Path], size: str, count: int) -> list[tuple[Grey, Grey]]:
    """Consecutive grey frames at places spread evenly over the videos, `count` in all.

    Raises:
        UsageError: fewer than one, or the videos have none.
        VideoError: a video cannot be read.
    """
    if count < 1:
        raise UsageError(f"pairs is {count}; allowed: a whole number from 1")
    taken = []
    for n, video in enumerate(videos):
        share = count * (n + 1) // len(videos) - count * n // len(videos)
        frames = [to_grey(f.rgb) for _, f in itertools.islice(read_frames(video, size), 200 if share else 0)]
        if len(frames) > 1:
            places = np.unique(np.linspace(0, len(frames) - 2, share + 2).astype(int)[1:-1])
            taken += [(frames[i], frames[i + 1]) for i in places]
    if not taken:
        raise UsageError(f"no pair of frames in {', '.join(map(str, videos))}")
    return taken


def fidelity(flows: Sequence[Flow], **choice: Any) -> dict[str, Any]:
    """How much smaller flow is with some codes, and how far from what it was.

    Args:
        flows: (2, H, W) float32 each, pixels.
        choice: arguments of `encode`.

    Returns:
        The choice; `bytes_per_pair`, and `ratio` of float32 bytes to them; `error_px`, mean end-point error
        after decoding, and `error_px_99`, its 99th percentile over all pixels; `clipped`, share of the
        values outside the range; `still_exact`, share of the pixels that moved less than STILL_PX which
        decode to exactly 0, None where there are none; `encode_ms`, milliseconds a pair, median.
    """
    encode(flows[0], **choice)  # compiles, the first time
    sizes, times, clipped, errors, still = [], [], [], [], []
    for flow in flows:
        began = time.perf_counter()
        encoded = encode(flow, **choice)
        times.append(time.perf_counter() - began)
        sizes.append(encoded.nbytes)
        clipped += [field.clipped for field in encoded.fields]
        decoded = decode(encoded)
        errors.append(np.hypot(*(decoded - flow)).ravel())
        still.append(np.all(decoded == 0, axis=0)[np.hypot(*flow) < STILL_PX])
    every = np.concatenate(still)
    return {
        "choice": choice,
        "bytes_per_pair": round(float(np.mean(sizes))),
        "ratio": round(sum(flow.nbytes for flow in flows) / sum(sizes), 1),
        "error_px": round(float(np.mean([e.mean() for e in errors])), 4),
        "error_px_99": round(float(np.percentile(np.concatenate(errors), 99)), 3),
        "clipped": round(float(np.mean(clipped)), 6),
        "still_exact": round(float(every.mean()), 4) if every.size else None,
        "encode_ms": round(1e3 * float(np.median(times)), 2),
    }


def options(choice: dict[str, Any]) -> str:
    """A choice as options of `flowprep extract`."""
    names = {"codes": "quantiser", "codec": "image-format", "error_px": "step-px"}
    values = {names.get(n, n): f"{v:g}" if isinstance(v, float) else v for n, v in choice.items()}
    return " ".join(f"--{name} {value}" for name, value in values.items())


def _choose(
    flows: Sequence[Flow], choices: Sequence[dict[str, Any]], error: float | None, ratio: float | None
) -> dict[str, Any]:
    """The best that reaches the target, of the choices and of adaptive codes with the step that just does."""

    def reaches(found: dict[str, Any]) -> bool:
        return bool(found["error_px"] <= error if error is not None else found["ratio"] >= ratio)

    # Error and ratio both grow with error_px.
    low, high = math.log(FINEST), math.log(COARSEST)
    tried = []
    for _ in range(8):
        step = float(f"{math.exp((low + high) / 2):.2g}")
        tried.append(fidelity(flows, codes="adaptive", error_px=step))
        coarser = reaches(tried[-1]) == (error is not None)
        low, high = ((low + high) / 2, high) if coarser else (low, (low + high) / 2)
    good = [found for found in (*choices, *tried) if reaches(found)]
    if not good:
        best = min(found["error_px"] for found in (*choices, *tried))
        most = max(found["ratio"] for found in (*choices, *tried))
        target = f"a mean error of {error} px" if error is not None else f"a ratio of {ratio}"
        raise UsageError(f"nothing here reaches {target}; allowed: from {best} px, and up to {most} times")
    return (
        max(good, key=lambda f: f["ratio"]) if error is not None else min(good, key=lambda f: f["error_px"])
    )


_COLOURS: dict[str, Colour] = {
    "adaptive": (0, 98, 178),
    "fixed": (200, 90, 0),
    "tsn": (120, 60, 150),
    "png": (70, 130, 70),
}


def plot(found: dict[str, Any], width: int = 900, height: int = 560) -> Image:
    """Draw what `tune` found: how many times smaller against the mean error, both in powers of ten.

    Returns:
        (height, width, 3) uint8, RGB.
    """
    rows = [
        (row, _COLOURS["png" if "codec" in row["choice"] else row["choice"]["codes"]])
        for row in found["choices"]
    ]
    chosen = [found["chosen"]] if found["chosen"] else []
    points = np.log10([(max(row["error_px"], 1e-4), row["ratio"]) for row in (*found["choices"], *chosen)])
    low, high = np.floor(points.min(axis=0) * 4) / 4, np.ceil(points.max(axis=0) * 4 + 0.1) / 4
    left, right, top, bottom = 70, width - 150, 60, height - 56

    def place(point: Any) -> tuple[int, int]:
        x, y = (np.asarray(point) - low) / (high - low)
        return round(left + x * (right - left)), round(bottom + y * (top - bottom))

    image = np.full((height, width, 3), PAPER, np.uint8)
    marks: list[tuple[float, float, str, str]] = []
    for axis in (0, 1):
        for power, digit in itertools.product(range(-4, 5), (1, 2, 5)):
            value = digit * 10.0**power
            if low[axis] <= np.log10(value) <= high[axis]:
                line = [low.copy(), high.copy()]
                line[0][axis] = line[1][axis] = np.log10(value)
                cv2.line(image, place(line[0]), place(line[1]), EDGE, 1, cv2.LINE_AA)
                x, y = place(line[0])
                marks.append(
                    (x, y + 10, number(value), "ma") if axis == 0 else (x - 8, y + 7, number(value), "rd")
                )
    labels = []
    for i, ((row, colour), point) in enumerate(zip(rows, points[: len(rows)], strict=True)):
        if i and rows[i - 1][1] == colour and "codec" not in row["choice"]:
            cv2.line(image, place(points[i - 1]), place(point), colour, 2, cv2.LINE_AA)
        cv2.circle(image, place(point), 5, colour, -1, cv2.LINE_AA)
        value = row["choice"].get("error_px", row["choice"].get("quality", row["choice"].get("codec")))
        labels.append((place(point), f"{row['choice']['codes']} {value}", colour))
    for point in points[len(rows) :]:
        cv2.circle(image, place(point), 9, INK, 2, cv2.LINE_AA)
    canvas = Canvas(image)
    canvas.text((left, 16), "Times smaller than float32, and mean error in pixels", 17, INK)
    facts = f"{found['pairs']} pairs of {found['size']}; adaptive by error_px, fixed and tsn by quality"
    canvas.text((left, 38), facts + ("; circle: chosen" if chosen else ""), 13, GREY)
    for left_, top_, text, anchor in marks:
        canvas.text((left_, top_), text, 13, GREY, anchor=anchor)
    for (x, y), text, colour in labels:
        canvas.text((x + 10, y - 8), text, 13, colour)
    canvas.text(((left + right) / 2, height - 22), "mean end-point error, px", 13, GREY, anchor="ma")
    return canvas.image


def as_row(found: dict[str, Any]) -> dict[str, str]:
    """A line of the table, by column; errors in pixels."""
    still = found["still_exact"]
    return {
        "options": options(found["choice"]),
        "bytes": str(found["bytes_per_pair"]),
        "ratio": f"{found['ratio']}",
        "error": f"{found['error_px']:.4f}",
        "99%": f"{found['error_px_99']:.3f}",
        "clipped": f"{found['clipped']:.2%}",
        "still": "-" if still is None else f"{still:.3f}",
        "ms": f"{found['encode_ms']:.2f}",
    }
