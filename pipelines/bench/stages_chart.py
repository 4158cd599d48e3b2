#!/usr/bin/env python3
"""Draw the time of each stage of engine cpu, and its limit, from results of `flowprep bench flow --stages`.

    flowprep bench flow CLIPS --stages --json > avx512.json
    export NUMBA_CPU_NAME=x86-64-v3 NUMBA_CPU_FEATURES=
    flowprep bench flow CLIPS --stages --json > avx2.json
    python pipelines/bench/stages_chart.py AVX-512=avx512.json AVX2=avx2.json --out stages.svg

A bar is the time of a stage in a pair. Its dark part is the limit: the time of the processor's slowest unit.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from flowprep.reports.charts import ticks

WIDTH, LEFT, RIGHT, ROW, TOP, BOTTOM = 700, 122, 210, 22, 42, 34
STYLE = (
    "text{font-family:system-ui,sans-serif;font-size:13px;fill:#37474f}.title{font-weight:600;font-size:15px}"
    ".right{text-anchor:end}.middle{text-anchor:middle}"
    ".time{fill:#90caf9}.limit{fill:#1565c0}.grid{stroke:#cfd8dc}"
)


class Chart:
    """An SVG file that grows downwards.

    Args:
        longest: the time at the right end of the axes, ms.
    """

    def __init__(self, longest: float) -> None:
        self.longest = longest
        self.scale = (WIDTH - LEFT - RIGHT) / longest
        self.height = 0
        self.svg = ElementTree.Element("svg", xmlns="http://www.w3.org/2000/svg", role="img")
        self.add("title", "Time and limit of each stage")
        self.add("style", STYLE)
        self.add("rect", width="100%", height="100%", fill="#ffffff")

    def add(self, kind: str, text: str | None = None, **attributes: Any) -> None:
        """Add an element; `class_` is "class"."""
        values = {key.rstrip("_"): str(value) for key, value in attributes.items()}
        ElementTree.SubElement(self.svg, kind, values).text = text

    def add_panel(self, title: str, result: dict[str, Any]) -> None:
        """Add the bars of a result."""
        rest = {"ms": max(result["rest_ms"], 0.0), "times_limit": None}
        rows = [*result["stages"].items(), ("rest", rest)]
        top = self.height + TOP
        bottom = top + ROW * len(rows)
        text = f"{title}: {result['ms_per_pair']:.1f} ms a pair of {result['size']}"
        self.add("text", text, class_="title", x=LEFT, y=self.height + 22)
        for value in (tick for tick in ticks(self.longest) if tick <= self.longest):
            x = round(LEFT + self.scale * value, 1)
            self.add("path", class_="grid", d=f"M{x} {top - 6}V{bottom}")
            self.add("text", f"{value:g} ms", class_="middle", x=x, y=bottom + 16)
        for i, (name, stage) in enumerate(rows):
            self.add_row(name, stage, top + ROW * i)
        self.height = bottom + BOTTOM

    def add_row(self, name: str, stage: dict[str, Any], y: int) -> None:
        """Add the bar of a stage, with its name and its figures."""
        length, times = self.scale * stage["ms"], stage["times_limit"]
        label = f"{stage['ms']:.2f} ms"
        self.add("text", name, class_="right", x=LEFT - 8, y=y + 12)
        self.add("rect", class_="time", x=LEFT, y=y, width=round(length, 1), height=ROW - 7)
        if times:
            limit = round(length / max(times, 1), 1)
            self.add("rect", class_="limit", x=LEFT, y=y, width=limit, height=ROW - 7)
            label += f" = {times:.1f} x {stage['bound_by']}"
        self.add("text", label, x=round(LEFT + length + 6, 1), y=y + 12)

    def write(self, path: Path) -> None:
        """Write the file."""
        self.svg.set("viewBox", f"0 0 {WIDTH} {self.height}")
        ElementTree.ElementTree(self.svg).write(path, encoding="utf-8")


def main() -> None:
    """Read the results, and write the chart."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", nargs="+", metavar="TITLE=FILE", help="title and file of each result")
    parser.add_argument("--out", "-o", type=Path, required=True, help="the chart, .svg")
    args = parser.parse_args()
    pairs = [result.partition("=") for result in args.results]
    results = {title: json.loads(Path(path).read_text()) for title, _, path in pairs}
    chart = Chart(max(stage["ms"] for result in results.values() for stage in result["stages"].values()))
    for title, result in results.items():
        chart.add_panel(title, result)
    chart.write(args.out)


if __name__ == "__main__":
    main()
