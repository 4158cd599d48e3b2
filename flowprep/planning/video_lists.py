"""Lists of videos: the one reader of both programs.

A list has a line for each video, in one of these forms:

    Punch/v_Punch_g08_c01.avi 3         the path and the number of the class, from 1: UCF-101's training lists
    Punch/v_Punch_g01_c01.avi           the path: UCF-101's test lists
    some/clip.mp4 Punch                 the path and the name of the class
    "some clip" "High Jump"             names with spaces in double quotes; a tab separates, too
    rawframes/v_Punch_g08_c01 120 2     folder, frames and the number of the class, from 0: TSN
    rawframes/v_Punch_g08_c01 10 120 2  the same with the number of the first frame: mmaction2

or it is a table with commas, `path,label` or the columns of LIST_COLUMNS that its first line names. Blank
lines, and what follows a `#`, are ignored. `<class>_test_split<N>.txt` are lists of HMDB-51.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from flowprep.errors import UsageError
from flowprep.planning.list_lines import (
    LIST_COLUMNS,
    header_delimiter,
    looks_like_table,
    parse_line,
    read_header,
)
from flowprep.planning.list_text import (
    LINE_CHARACTERS,
    check_utf8,
    is_utf8,
    numbered_lines,
    read_list_text,
)
from flowprep.system.paths import check_no_address, printable, shorten

LIST_SUFFIXES = (".txt", ".csv")

_HMDB_MARKS = {"train": "1", "test": "2"}
_HMDB_FILE = re.compile(r"(.+)_test_split[123]")
_WHOLE = re.compile(r"-?[0-9]+")
_DIGITS = 18  # of the longest number
_SAMPLE = 100  # lines by which a table is recognised


class ListRow(NamedTuple):
    """A video of a list.

    Attributes:
        line: the number of its line, from 1.
        path: the path as the list has it, absolute or relative to the list's folder.
        label: the label, or ""; a number as text.
        frames, size: the numbers of frames and bytes; -1 if the list does not have them.
        group: the group of clips, or "".
        first: the number of the first frame, in a list of mmaction2.
        base: the number that the first class has in this form of a list.
        mark: the number of an HMDB-51 list: "1" training, "2" test, "0" neither.
    """

    line: int
    path: str
    label: str = ""
    frames: int = -1
    size: int = -1
    group: str = ""
    first: int = 0
    base: int = 1
    mark: str = ""

    @property
    def name(self) -> str:
        """The path as the id of a video is written."""
        return printable(self.path.removeprefix("./"))

    @property
    def number(self) -> int | None:
        """The label as the number of a class, if it is one."""
        return int(self.label) if self.label.isascii() and self.label.isdecimal() else None


def read_list_rows(path: Path, is_name: Callable[[str], bool] | None = None) -> Iterator[ListRow]:
    """Read the rows of a list, as they stand in the file.

    Args:
        path: the list.
        is_name: whether a text is the name of a video. It decides where a name with spaces ends. By default a
            name is the path of an existing file, absolute or relative to the list's folder.

    Raises:
        UsageError: the file cannot be read, is not text, or has a row of another form.
    """
    is_name = is_name or (lambda name: path_exists(path.parent / name))
    text = read_list_text(path)
    if hmdb := _HMDB_FILE.fullmatch(path.stem):
        rows = _hmdb_rows(path, text, hmdb[1], is_name)
    elif delimiter := _delimiter(path, text):
        rows = _table_rows(path, text, delimiter, is_name)
    else:
        rows = _text_rows(path, text, is_name)
    for row in rows:
        check_utf8(path, row.line, row.label)
        if not is_utf8(row.path) and not is_name(row.path):
            check_utf8(path, row.line, row.path)
        check_no_address(f"{path}, line {row.line}: ", row.path)
        yield row


def is_list(source: str | Path) -> bool:
    """Whether a name is that of a list: a file of LIST_SUFFIXES, or lists of HMDB-51 as `FOLDER:train1`."""
    path = Path(source)
    return (path.suffix.lower() in LIST_SUFFIXES and not path.is_dir()) or hmdb_part(str(source)) is not None


def hmdb_part(source: str) -> tuple[Path, str, str] | None:
    """The folder, the part and the number of the split, if `FOLDER:train1` or `FOLDER:test1` names lists."""
    match = re.fullmatch(r"(.+):(train|test)([123])", source)
    return (Path(match[1]), match[2], match[3]) if match and Path(match[1]).is_dir() else None


def read_lists(source: str | Path, is_name: Callable[[str], bool] | None = None) -> list[ListRow]:
    """Read the rows of a list file, or those of lists of HMDB-51 that `FOLDER:train1` names.

    Raises:
        UsageError: as `read_list_rows`; or the list is empty, or the source is a folder without such lists.
    """
    if hmdb := hmdb_part(str(source)):
        folder, part, split = hmdb
        files = sorted(folder.glob(f"*_test_split{split}.txt"))
        if not files:
            raise UsageError(f"{folder} has no files <class>_test_split{split}.txt")
        rows = [row for file in files for row in read_list_rows(file, is_name)]
        rows = [row for row in rows if row.mark == _HMDB_MARKS[part]]
    elif Path(source).is_dir():
        raise UsageError(f"{source} is a folder; write {source}:train1 or {source}:test1 for HMDB-51's lists")
    else:
        rows = list(read_list_rows(Path(source), is_name))
    if not rows:
        raise UsageError(f"{source}: the list is empty")
    return rows


def path_exists(path: Path) -> bool:
    """Whether a file or folder exists. A name that no file can have does not exist."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _text_rows(path: Path, text: str, is_name: Callable[[str], bool]) -> Iterator[ListRow]:
    for number, line in numbered_lines(path, text):
        parsed = parse_line(line, is_name)
        if not parsed.path:
            continue
        for digits in (*parsed.numbers, parsed.label):
            _check_number(path, number, digits)
        # A class of -1 is that of a video without a label in lists of TSN.
        label = "" if parsed.label == "-1" else parsed.label
        if not parsed.numbers:
            yield ListRow(number, parsed.path, label)
            continue
        if len(parsed.numbers) > 2:
            raise UsageError(
                f"{path}, line {number}: {shorten(line.strip())!r} has {len(parsed.numbers) + 1} numbers;"
                " allowed are `folder class`, `folder frames class` and `folder first frames class`"
            )
        first = int(parsed.numbers[0]) if len(parsed.numbers) > 1 else 0
        yield ListRow(number, parsed.path, label, int(parsed.numbers[-1]), first=first, base=0)


def _hmdb_rows(path: Path, text: str, label: str, is_name: Callable[[str], bool]) -> Iterator[ListRow]:
    """The rows of a list of HMDB-51: its name has the class, and its numbers have another meaning.

    Such a list has no comments, and some of its names begin with a `#`.
    """
    lines = [(number, *line.strip().rpartition(" ")[::2]) for number, line in numbered_lines(path, text)]
    if any(mark not in ("0", "1", "2") for _, _, mark in lines):
        yield from _text_rows(path, text, is_name)  # a list of another form with such a name
        return
    for number, name, mark in lines:
        name = name.strip()
        known = path_exists(path.parent / name)
        yield ListRow(number, name if known else f"{label}/{name}", label, mark=mark)


def _delimiter(path: Path, text: str) -> str:
    """What separates the columns of a table: a comma, or what its first line shows; "" if it is none."""
    lines = [line.strip() for _, line in islice(numbered_lines(path, text), _SAMPLE)]
    lines = [line for line in lines if not line.startswith("#")]
    if lines and (delimiter := header_delimiter(lines[0])):
        return delimiter
    if path.suffix.lower() == ".csv":
        return "," if any("," in line for line in lines) else ""
    return "," if lines and all(map(looks_like_table, lines)) else ""


def _table_rows(path: Path, text: str, delimiter: str, is_name: Callable[[str], bool]) -> Iterator[ListRow]:
    columns = ["path", "label"]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    first = True
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if not any(cells) or (cells[0].startswith("#") and not is_name(cells[0])):
                continue
            if first and "path" in (header := read_header(cells)):
                columns = header
                if len(set(columns)) < len(columns) or not set(columns) <= set(LIST_COLUMNS):
                    raise UsageError(
                        f"{path}, line {reader.line_num}: {shorten(delimiter.join(cells))!r};"
                        f" allowed columns: {','.join(LIST_COLUMNS)}"
                    )
            else:
                yield _table_row(path, reader.line_num, cells, columns)
            first = False
    except csv.Error as exc:
        raise UsageError(f"{path}, line {reader.line_num}: {exc}") from exc


def _table_row(path: Path, line: int, cells: Sequence[str], columns: Sequence[str]) -> ListRow:
    values = dict(zip(columns, cells, strict=False))
    counts = [values.get(name, "") for name in ("frames", "bytes")]
    if len(cells) > len(columns) or not values.get("path") or not all(map(_is_count, filter(None, counts))):
        raise UsageError(f"{path}, line {line}: {shorten(','.join(cells))!r}; allowed: {','.join(columns)}")
    if (length := max(map(len, cells))) > LINE_CHARACTERS:
        raise UsageError(f"{path}, line {line}: {length} characters; a cell has at most {LINE_CHARACTERS}")
    for digits in (*counts, values.get("label", "")):
        _check_number(path, line, digits)
    frames, size = (int(count) if count else -1 for count in counts)
    return ListRow(line, values["path"], values.get("label", ""), frames, size, values.get("group", ""))


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _check_number(path: Path, line: int, text: str) -> None:
    """Refuse a number that is too long, or below -1."""
    if not _WHOLE.fullmatch(text):
        return
    if len(text) > _DIGITS:
        raise UsageError(f"{path}, line {line}: a number of {len(text)} digits; allowed are {_DIGITS}")
    if int(text) < -1:
        raise UsageError(f"{path}, line {line}: the number {text}; allowed are 0 and above, -1 for no class")
