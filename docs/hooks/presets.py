"""Generates the table of presets from their values, so that it cannot be out of date."""

from __future__ import annotations

import dataclasses
from typing import Any

from flowprep.parameters import Tvl1Settings
from flowprep.presets import PRESET_VERSIONS

MARK = "<!-- presets -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the mark on a page with the table."""
    return markdown.replace(MARK, "\n".join(preset_table()))


def preset_table() -> list[str]:
    """Lines of Markdown: a row for each parameter that some preset does not leave at its default."""
    versions = {name: dataclasses.asdict(tvl1) for name, tvl1 in PRESET_VERSIONS.items()}
    lines = [_row(["parameter", *versions]), _row(["---"] * (1 + len(versions)))]
    for field in dataclasses.fields(Tvl1Settings):
        values = [tvl1[field.name] for tvl1 in versions.values()]
        if any(value != field.default for value in values):
            lines.append(_row([f"`{field.name}`", *map(_text, values)]))
    return lines


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
