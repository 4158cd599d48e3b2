"""The line of a list: its parts, and how it is written so that it is read back."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from flowprep.planning.list_text import quote, split_quoted
from flowprep.video.suffixes import VIDEO_SUFFIXES, suffix_of

# The columns of a table. A video whose `frames` and `bytes` are given is not opened for planning. `group` is
# the recording that a clip was cut from; trainer reads it.
LIST_COLUMNS = ("path", "label", "frames", "bytes", "group")

_SUFFIXES = "|".join(sorted(re.escape(suffix) for suffix in VIDEO_SUFFIXES))
_PATH_THEN_REST = re.compile(rf"(.*\S(?:{_SUFFIXES}))\s+(.*)", re.IGNORECASE)
_FIRST_CELL = re.compile(rf'(?:"[^"]*(?:{_SUFFIXES})"|[^",]*(?:{_SUFFIXES}))\s*,', re.IGNORECASE)
_COLUMN_ALIASES = {"video": "path", "file": "path", "filename": "path", "class": "label"}
_HEADER_CHARACTERS = 200
_WHOLE = re.compile(r"-?[0-9]+")


class ListLine(NamedTuple):
    """The parts of a line.

    Attributes:
        path: the path; "" if the line is a comment.
        label: the name or the number of the class, or "".
        numbers: those between path and label.
    """

    path: str
    label: str = ""
    numbers: tuple[str, ...] = ()


def parse_line(line: str, is_name: Callable[[str], bool]) -> ListLine:
    """The parts of a line. A line that begins with `#` is a comment, if it does not begin with a name.

    Args:
        line: the line.
        is_name: whether a text is the name of a video. It decides where a name with spaces ends.
    """
    if known := _split_known(line, is_name):
        return known
    line = line.strip()
    if line.startswith("#"):
        return ListLine("")
    if quoted := split_quoted(line):
        return ListLine(quoted[0], *_split_label(_without_comment(quoted[1])))
    match = re.search(r"""\s["']""", line)
    quoted = split_quoted(line[match.start() + 1 :]) if match else None
    if match and quoted and not _without_comment(quoted[1]):
        return ListLine(line[: match.start()].strip(), quoted[0])
    return _split_unquoted(_without_comment(line))


def _split_known(line: str, is_name: Callable[[str], bool]) -> ListLine | None:
    """The parts of a line, if it is a name or begins with one."""
    if is_name(line):
        return ListLine(line)
    for separator in ("\t", " "):
        name, _, label = line.rpartition(separator)
        if name and label and is_name(name):
            return ListLine(name, label.strip())
    if (stripped := line.strip()) != line:
        return _split_known(stripped, is_name)
    _, numbers = trailing_numbers(line)
    label = "" if numbers else line.rpartition(" ")[2]
    numbers = numbers or trailing_numbers(line.rpartition(" ")[0])[1]
    for count in (2, 3):
        if len(numbers) + bool(label) >= count and is_name(name := line.rsplit(None, count)[0]):
            middle = numbers[1 - count :] if label else numbers[-count:-1]
            return ListLine(name, label or numbers[-1], tuple(middle))
    return None


def _split_unquoted(line: str) -> ListLine:
    """The parts of a line without quotes: by a tab, the suffix of a video, numbers, or the last space."""
    if "\t" in line:
        path, rest = (part.strip() for part in line.split("\t", 1))
        return ListLine(path, *_split_label(rest))
    if suffix_of(line) in VIDEO_SUFFIXES:
        return ListLine(line)
    if match := _PATH_THEN_REST.fullmatch(line):
        return ListLine(match[1], *_split_label(match[2]))
    head, numbers = trailing_numbers(line)
    if len(numbers) > 1:
        return ListLine(head, numbers[-1], tuple(numbers[:-1])) if head else _first_is_path(numbers)
    path, _, label = line.rpartition(" ")
    if not path:
        return ListLine(line)
    head, numbers = trailing_numbers(path.strip())
    return ListLine(head, label, tuple(numbers)) if head else ListLine(path.strip(), label)


def _first_is_path(numbers: Sequence[str]) -> ListLine:
    """The parts of a line of numbers only: the first is the name of a folder."""
    return ListLine(numbers[0], numbers[-1], tuple(numbers[1:-1]))


def _split_label(rest: str) -> tuple[str, tuple[str, ...]]:
    """The label, and the numbers before it, in what follows a path."""
    if (quoted := split_quoted(rest)) and not quoted[1]:
        return quoted[0], ()
    head, numbers = trailing_numbers(rest)
    return (rest, ()) if head or not numbers else (numbers[-1], tuple(numbers[:-1]))


def _without_comment(line: str) -> str:
    return re.split(r"(?:^|\s)#(?:\s|$)", line, maxsplit=1)[0].strip()


def trailing_numbers(line: str) -> tuple[str, list[str]]:
    """The text before the whole numbers at the end of a line, and the numbers."""
    words = line.split()
    count = 0
    while count < len(words) and _WHOLE.fullmatch(words[-1 - count]):
        count += 1
    if not count:
        return line, []
    return "" if count == len(words) else line.rsplit(None, count)[0], words[-count:]


def format_line(path: str, label: str = "") -> str:
    """The line of a list. Names that would not be read back from it are quoted.

    Args:
        path: the path, or the id of a video.
        label: the name or the number of the class, or "".
    """
    plain = f"{path} {label}" if label else path
    readable = plain.isprintable() and not looks_like_table(plain)
    if readable and parse_line(plain, lambda name: False) == ListLine(path, label):
        return plain
    numeric = label.isascii() and label.isdecimal()
    return f"{quote(path)} {label if numeric or not label else quote(label)}".rstrip()


def header_delimiter(line: str) -> str:
    """What separates the columns, if the line is the header of a table; else ""."""
    if len(line) > _HEADER_CHARACTERS or "\r" in line:
        return ""
    for delimiter in ",;\t":
        cells = read_header(next(csv.reader([line], delimiter=delimiter), []))
        known = "path" in cells and set(cells) <= set(LIST_COLUMNS)
        if (known or cells[:1] == ["path"]) and (len(cells) > 1 or delimiter == ","):
            return delimiter
    return ""


def read_header(cells: Sequence[str]) -> list[str]:
    """The names of columns, as LIST_COLUMNS has them."""
    names = [cell.strip().lower() for cell in cells]
    return [_COLUMN_ALIASES.get(name, name) for name in names]


def looks_like_table(line: str) -> bool:
    """Whether a line begins with the path of a video and a comma, or is the header of a table."""
    if header_delimiter(line):
        return True
    return bool(_FIRST_CELL.match(line)) and len(trailing_numbers(line)[1]) < 2
