"""Lists of videos: text files with a video a line, and CSV files with a video a row."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

from flowprep.errors import UsageError
from flowprep.system.paths import printable

LIST_SUFFIXES = (".txt", ".csv")

# The columns of a CSV list. A video whose `frames` and `bytes` are given is not opened for planning. `group`
# is the recording that a clip was cut from; trainer reads it.
LIST_COLUMNS = ("path", "label", "frames", "bytes", "group")


class ListRow(NamedTuple):
    """A video of a list.

    Attributes:
        line: the number of its line, from 1.
        path: the path as the list has it, absolute or relative to the list's folder.
        label: the label, or "".
        frames, size: the numbers of frames and bytes; -1 if the list does not have them.
        group: the group of clips, or "".
    """

    line: int
    path: str
    label: str
    frames: int = -1
    size: int = -1
    group: str = ""


def read_list_rows(path: Path, is_name: Callable[[str], bool] | None = None) -> Iterator[ListRow]:
    """Read the rows of a list, as they stand in the file.

    A `.csv` file has rows `path,label`, or the columns of LIST_COLUMNS that its first line names. Any other
    file has lines `path label`, which split_line separates. Empty lines are ignored.

    Args:
        path: the list.
        is_name: whether a text is a name. By default it is one if it is the path of an existing file,
            absolute or relative to the list's folder.

    Raises:
        UsageError: a row of a CSV file does not have the right columns.
        OSError: the file cannot be read.
    """
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        if path.suffix.lower() == ".csv":
            yield from _csv_rows(path, file)
        else:
            yield from _text_rows(file, is_name or (lambda line: path_exists(path.parent / line)))


def read_video_list(path: Path) -> list[ListRow]:
    """Read the videos of a list, each once. The default label is the name of the folder in the path.

    Raises:
        UsageError: a row is not in the right form, or a video has two labels.
        OSError: the file cannot be read.
    """
    rows: dict[str, ListRow] = {}
    for row in read_list_rows(path):
        label = printable(row.label or Path(row.path).parent.name)
        first = rows.setdefault(row.path, row._replace(label=label))
        if first.label != label:
            raise UsageError(
                f"{path}, line {row.line}: {row.path} has the labels {first.label!r} and {label!r}"
            )
    return list(rows.values())


def path_exists(path: Path) -> bool:
    """Whether a file or folder exists. A name that no file can have does not exist."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def split_line(line: str, is_name: Callable[[str], bool]) -> tuple[str, str]:
    """The name and the label in a line of a text list; the label is "" if the line has none.

    The label follows the last space or the first tab. A name may contain spaces and tabs too: the whole line,
    and then its parts before the last tab and before the last space, are looked up first.

    Args:
        line: the line.
        is_name: whether a text is a name.
    """
    if is_name(line):
        return line, ""
    for separator in ("\t", " "):
        name, _, label = line.rpartition(separator)
        if name and label and is_name(name):
            return name, label
    line = line.strip()
    name, _, label = line.partition("\t") if "\t" in line else line.rpartition(" ")
    return (name.strip(), label.strip()) if name else (line, "")


def _text_rows(file: TextIO, is_name: Callable[[str], bool]) -> Iterator[ListRow]:
    for number, line in enumerate(map(str.strip, file), 1):
        if line:
            yield ListRow(number, *split_line(line, is_name))


def _csv_rows(path: Path, file: TextIO) -> Iterator[ListRow]:
    columns = ["path", "label"]
    for number, row in enumerate(csv.reader(file), 1):
        cells = [cell.strip() for cell in row]
        if number == 1 and cells and cells[0].lower() == "path":
            columns = [cell.lower() for cell in cells]
            if len(set(columns)) < len(columns) or not set(columns) <= set(LIST_COLUMNS):
                raise UsageError(
                    f"{path}, line 1: {','.join(cells)!r}; allowed columns: {','.join(LIST_COLUMNS)}"
                )
        elif any(cells):
            values = dict(zip(columns, cells, strict=False))
            counts = [values.get(name, "") for name in ("frames", "bytes")]
            if len(cells) > len(columns) or not cells[0] or not all(map(_is_count, filter(None, counts))):
                raise UsageError(f"{path}, line {number}: {','.join(cells)!r}; allowed: {','.join(columns)}")
            frames, size = (int(count) if count else -1 for count in counts)
            yield ListRow(number, cells[0], values.get("label", ""), frames, size, values.get("group", ""))


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdecimal()
