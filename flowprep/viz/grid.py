"""The layout of a sheet: rows of pictures below a title, facts and legends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from flowprep.errors import UsageError
from flowprep.viz.canvas import EDGE, GREY, INK, Canvas
from flowprep.viz.colours import Image
from flowprep.viz.scaling import fit
from flowprep.viz.shots import FlowVideo, time_stamp


class Row(NamedTuple):
    """Pictures beside each other.

    Attributes:
        pictures: one picture per column, all of one size.
        title: a line above them, or "".
        notes: a line below each picture; empty for none.
    """

    pictures: list[Image]
    title: str = ""
    notes: Sequence[str] = ()


class Grid:
    """The layout of a sheet, in pixels.

    Attributes:
        small: size of the text.
        legend: side of the legend.
    """

    def __init__(self, video: FlowVideo, columns: int, width: int) -> None:
        if columns < 1 or width < max(200, 40 * columns):
            raise UsageError(
                f"{columns} columns in {width} pixels; allowed: from 1, in 200 pixels or 40 per column"
            )
        self.shape = video.width, video.height
        self.columns, self.width = columns, width
        self.small = max(11, round(width * 0.013))
        self.margin, self.gap = round(width * 0.016) + 4, max(4, self.small // 2)
        self.line = round(self.small * 1.5)
        self.legend = 7 * self.small

    def cell(self, shots: int) -> int:
        """Width of a column. A few pictures get larger columns, up to a third of the sheet."""
        room = self.width - 2 * self.margin + self.gap
        return min(room // shots - self.gap, max(room // self.columns - self.gap, self.width // 3))

    def picture(self, shots: int) -> tuple[int, int]:
        """Width and height of a picture."""
        cell = self.cell(shots)
        return fit(*self.shape, cell, round(1.8 * cell))

    def stamps(self, video: FlowVideo, shots: Sequence[int]) -> list[str]:
        """The time stamp of each column."""
        room = self.cell(len(shots))
        return [time_stamp(i, video.times_seconds[i], self.small, room) for i in shots]

    def draw(
        self,
        title: str,
        facts: Sequence[str],
        legends: Sequence[Image],
        stamps: Sequence[str],
        rows: Sequence[Row],
    ) -> Image:
        """Draw the title and the facts, the legends to their right, and the rows below the stamps."""
        gap, line = self.gap, self.line
        facts_bottom = self.margin + round(2.6 * self.small) + len(facts) * line
        legends_bottom = self.margin + sum(len(image) + gap for image in legends) - gap
        top = max(facts_bottom, legends_bottom) + 2 * gap
        height = top + line + self.margin - gap + sum(self._row_height(row) for row in rows)
        canvas = Canvas(np.full((height, self.width, 3), 255, np.uint8))
        self._draw_head(canvas, title, facts, legends)
        cell = self.cell(len(stamps))
        lefts = [self.margin + column * (cell + gap) for column in range(len(stamps))]
        for x, text in zip(lefts, stamps, strict=True):
            canvas.text((x, top), text, self.small, GREY, cell)
        y = top + line
        for row in rows:
            self._draw_row(canvas, row, lefts, y)
            y += self._row_height(row)
        return canvas.image

    def _row_height(self, row: Row) -> int:
        title, notes = (self.line + self.gap) * bool(row.title), self.line * bool(row.notes)
        return title + len(row.pictures[0]) + self.gap + notes

    def _draw_head(self, canvas: Canvas, title: str, facts: Sequence[str], legends: Sequence[Image]) -> None:
        widest = max((image.shape[1] + self.gap for image in legends), default=0)
        room = self.width - 2 * self.margin - widest
        canvas.text((self.margin, self.margin), title, round(1.6 * self.small), INK, room)
        facts_top = self.margin + round(2.6 * self.small)
        for i, fact in enumerate(facts):
            canvas.text((self.margin, facts_top + i * self.line), fact, self.small, GREY, room)
        y = self.margin
        for image in legends:
            canvas.paste(image, self.width - self.margin - image.shape[1], y)
            y += len(image) + self.gap

    def _draw_row(self, canvas: Canvas, row: Row, lefts: Sequence[int], y: int) -> None:
        if row.title:
            room = self.width - 2 * self.margin
            canvas.text((self.margin, y + self.gap), row.title, self.small, INK, room)
            y += self.line + self.gap
        for x, picture in zip(lefts, row.pictures, strict=True):
            canvas.paste(picture, x, y, outline=EDGE)
        y += len(row.pictures[0]) + self.gap
        for x, note in zip(lefts, row.notes, strict=False):
            canvas.text((x, y), note, self.small, GREY, self.cell(len(lefts)))
