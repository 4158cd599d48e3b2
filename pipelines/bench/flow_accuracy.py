#!/usr/bin/env python3
"""Compare settings of TV-L1, and other methods, on pairs with known flow and on real clips."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from flow_measures import (
    BASELINE,
    Figures,
    Method,
    measure,
    opencv_method,
    relative_times,
    set_ratios,
    total_ratio,
    tvl1_method,
)
from flow_pareto import Point, draw_pareto
from flow_scenes import Flow, Frames
from flow_sets import load_sets

from flowprep.errors import FlowprepError
from flowprep.presets import DEFAULT_PRESET, PRESETS, preset_name, tvl1_settings


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        name: the setting or method.
        ours: whether it is an engine of flowprep.
        figures: its figures.
        ratios: error by set, relative to the baseline.
        time: processor time, as a share of that of OpenCV's TV-L1.
    """

    name: str
    ours: bool
    figures: Figures
    ratios: dict[str, float]
    time: float

    @property
    def total(self) -> float:
        """J."""
        return total_ratio(self.ratios)

    def cells(self) -> dict[str, str]:
        """The cells by the name of the column."""
        figures, least = self.figures, self.figures.least_motion()
        return {
            "": self.name,
            **{name: f"{error:.3f}" for name, error in figures.set_errors().items()},
            "J": f"{self.total:.3f}",
            "noise px": f"{figures.noise_px:.4f}",
            "exactly 0": f"{figures.still_exact:.1%}",
            "bytes": f"{figures.bytes_per_pair:,.0f}",
            "ratio": f"{figures.ratio:.0f}",
            "codec px": f"{figures.codec_px:.3f}",
            "survives px": "none" if least is None else f"{least:g}",
            "x OpenCV": f"{1 / self.time:.3g}",
        }

    def to_dict(self) -> dict[str, Any]:
        """All figures as JSON values."""
        return {
            "name": self.name,
            **self.figures.to_dict(),
            "set_ratios": self.ratios,
            "J": self.total,
            "time": self.time,
        }


def other_methods() -> list[Method]:
    """Methods that flowprep does not have; scikit-image only if it is installed."""
    twelve = replace(PRESETS["opencv"], scales=12)
    methods = [opencv_method(), tvl1_method("OpenCV TV-L1, 12 scales", twelve, "opencv")]
    opencv: Any = cv2  # its type stubs lack the next names
    for name in ("medium", "fast", "ultrafast"):
        solver = opencv.DISOpticalFlow_create(getattr(opencv, f"DISOPTICAL_FLOW_PRESET_{name.upper()}"))
        methods.append(Method(f"DIS {name}", _opencv(solver.calc)))
    methods.append(Method("Farneback", _opencv(_farneback)))
    try:
        from skimage.registration import optical_flow_tvl1
    except ImportError:
        return methods

    solve: Any = optical_flow_tvl1  # has no types

    def skimage(frames: Frames) -> Flow:
        v, u = solve(*frames)
        return np.stack([u, v]).astype(np.float32)

    return [*methods, Method("scikit-image TV-L1", skimage)]


def _farneback(first: Any, second: Any, _: None) -> Any:
    # The values of OpenCV's example, with two more levels.
    solve: Any = cv2.calcOpticalFlowFarneback
    return solve(
        first, second, None, 0.5, levels=5, winsize=15, iterations=3, poly_n=5, poly_sigma=1.2, flags=0
    )


def _opencv(calc: Callable[[Any, Any, None], Any]) -> Callable[[Frames], Flow]:
    def solve(frames: Frames) -> Flow:
        return np.ascontiguousarray(
            np.asarray(calc(frames[0], frames[1], None)).transpose(2, 0, 1), np.float32
        )

    return solve


def setting(text: str) -> Method:
    """A setting as it is given to `--tvl1`: "[TITLE:][PRESET,]NAME=VALUE,...".

    Raises:
        SettingsError: a part of it is not allowed.
    """
    title, colon, rest = text.rpartition(":")
    first, *others = rest.split(",")
    preset, changes = (DEFAULT_PRESET, [first, *others]) if "=" in first else (first, others)
    tvl1 = tvl1_settings(preset, changes)
    return tvl1_method(title if colon else preset_name(tvl1), tvl1)


def compare(ours: Sequence[Method], others: Sequence[Method], data: Path, rounds: int) -> list[Row]:
    """Measure methods.

    Args:
        ours: settings of flowprep's engines.
        others: other methods.
        data: folder of the real data.
        rounds: number of times that each pair is timed.

    Raises:
        UsageError: something in the folder is missing.
    """
    click.echo(f"making the pairs from {data}", err=True)
    sets = load_sets(data)
    base = measure(tvl1_method("baseline", BASELINE), sets)
    methods = [*ours, *others]
    click.echo(f"timing {len(methods)} methods on {len(sets.clips)} pairs", err=True)
    times = relative_times(methods, opencv_method(), sets.clips, rounds)
    rows = []
    for method, time in zip(methods, times, strict=True):
        click.echo(f"measuring {method.name}", err=True)
        figures = measure(method, sets)
        rows.append(Row(method.name, method in ours, figures, set_ratios(figures.errors_px, base), time))
    return rows


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a table in Markdown, with aligned columns."""
    cells = [row.cells() for row in rows]
    lines = [list(cells[0]), *(list(row.values()) for row in cells)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = [
        [
            line[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)),
        ]
        for line in lines
    ]
    padded.insert(1, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


@click.command(context_settings={"max_content_width": 110})
@click.option(
    "--data",
    required=True,
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="Folder with flow_gt, ucf101, ucf24 and ps7_actions.",
)
@click.option("--preset", "presets", multiple=True, metavar="NAME", help="A preset. Repeatable.")
@click.option(
    "--tvl1",
    "changed",
    multiple=True,
    metavar="[TITLE:][PRESET,]NAME=VALUE,...",
    help=f"A preset ({DEFAULT_PRESET} by default) with changed parameters. Repeatable.",
)
@click.option("--others", is_flag=True, help="Add OpenCV's methods, and scikit-image's if it is installed.")
@click.option(
    "--rounds", type=click.IntRange(1), default=2, show_default=True, help="Times that each pair is timed."
)
@click.option("--json", "as_json", is_flag=True, help="Print all figures as JSON.")
@click.option(
    "--pareto",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.svg",
    help="Draw error against time.",
)
def main(
    data: Path,
    presets: tuple[str, ...],
    changed: tuple[str, ...],
    others: bool,
    rounds: int,
    as_json: bool,
    pareto: Path | None,
) -> None:
    """Compare settings of TV-L1 by error, noise, size and time, on one thread.

    \b
    python pipelines/bench/flow_accuracy.py --data DATA --preset accurate --preset fast --others

    M, S, Y, C, Z: mean end-point error of each set, pixels. flow_sets.py describes the sets.
    J: geometric mean over the sets of the error relative to accurate@1.
    noise px: mean flow on still background. exactly 0: share of the background that decodes to exactly 0.
    bytes: of a pair of the mixed clips. ratio: how many times smaller than float32.
    codec px: mean error of the quantiser.
    survives px: smallest motion of a disc before still background of which at least half is measured.
    x OpenCV: speed as a multiple of OpenCV's TV-L1.

    Processor times are compared. All methods compute each pair in turn, so other work on the machine changes
    the ratio little.
    """
    try:
        chosen = presets or (() if changed else tuple(PRESETS))
        ours = [tvl1_method(preset_name(tvl1), tvl1) for tvl1 in map(tvl1_settings, chosen)]
        ours += [setting(text) for text in changed]
        rows = compare(ours, other_methods() if others else [], data, rounds)
    except FlowprepError as exc:
        raise click.ClickException(str(exc)) from exc
    if pareto:
        points = [Point(row.name, row.time, row.total, row.ours) for row in rows]
        pareto.write_text(draw_pareto(points), "utf-8")
    click.echo(json.dumps([row.to_dict() for row in rows], indent=2) if as_json else markdown(rows))


if __name__ == "__main__":
    main()
