"""The table of a study, as JSON and as Markdown."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ablation_study.rows import BY_NAME
from ablation_study.study import Measurement
from flowprep.system.atomic import atomic_path


@dataclass(frozen=True)
class TableRow:
    """A line of the table.

    Attributes:
        row: its name.
        published: accuracy in the paper, percent; None if the paper has no such row.
        missing: why the row is not measured; None if it is.
        measured, by_seed, parts, videos: as of `Measurement`.
    """

    row: str
    published: float | None
    missing: str | None = None
    measured: float | None = None
    by_seed: list[float] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    videos: int | None = None

    @classmethod
    def measured_row(cls, name: str, measurement: Measurement) -> TableRow:
        """A row with its result."""
        return cls(name, BY_NAME[name].published, None, **dataclasses.asdict(measurement))

    @classmethod
    def missing_row(cls, name: str, reason: str) -> TableRow:
        """A row without a result."""
        return cls(name, BY_NAME[name].published, reason)

    def to_markdown(self) -> str:
        """The row as a line of a Markdown table."""
        published = "" if self.published is None else f"{self.published:.1f}"
        measured, spread = self.missing, ""
        if self.measured is not None:
            measured = f"{self.measured:.1f}"
            if len(self.by_seed) > 1:
                spread = f"{min(self.by_seed):.1f} to {max(self.by_seed):.1f}"
        return f"| {self.row} | {published} | {measured} | {spread} | {self.videos or ''} |"


class Table:
    """The rows of a study in the order of `ROWS`, kept in table.json and table.md of a folder."""

    def __init__(self, folder: Path) -> None:
        """Read the rows of earlier calls."""
        self._json, self._markdown = folder / "table.json", folder / "table.md"
        rows: list[dict[str, Any]] = json.loads(self._json.read_text("utf-8")) if self._json.exists() else []
        self._rows = {row["row"]: TableRow(**row) for row in rows}

    @property
    def rows(self) -> list[TableRow]:
        """All rows."""
        return [self._rows[name] for name in BY_NAME if name in self._rows]

    def add(self, row: TableRow) -> None:
        """Add or replace a row, and write both files. A reader never sees half a file."""
        self._rows[row.row] = row
        for path, text in ((self._json, self.to_json(indent=1)), (self._markdown, self.to_markdown())):
            with atomic_path(path) as temporary:
                temporary.write_text(text, encoding="utf-8")

    def to_json(self, indent: int | None = None) -> str:
        """The table as JSON."""
        return json.dumps([dataclasses.asdict(row) for row in self.rows], indent=indent)

    def to_markdown(self) -> str:
        """The table as Markdown."""
        head = ["| row | published, % | measured, % | least to most | videos |", "|---|---|---|---|---|"]
        return "\n".join([*head, *(row.to_markdown() for row in self.rows)]) + "\n"
