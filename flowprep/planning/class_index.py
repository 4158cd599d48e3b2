"""classInd.txt: the names of numbered classes, and the numbers in lists."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from flowprep.errors import UsageError
from flowprep.planning.list_text import (
    check_utf8,
    numbered_lines,
    quote,
    read_list_text,
    split_quoted,
)
from flowprep.planning.video_lists import ListRow
from flowprep.system.paths import shorten

CLASS_INDEX = "classInd.txt"
_MAX_DIGITS = 9


def read_class_index(path: Path) -> tuple[str, ...]:
    """Class names in the order of a classInd.txt, whose lines are `number name`, numbered from 1.

    A name in double quotes has the escapes of JSON.

    Raises:
        UsageError: the file cannot be read, its numbers are not 1, 2, 3, ..., or two classes have one name.
    """
    numbered: list[tuple[int, str]] = []
    for line_number, line in numbered_lines(path, read_list_text(path)):
        check_utf8(path, line_number, line)
        number, _, rest = re.sub(r"\s+", " ", line.strip(), count=1).partition(" ")
        quoted = split_quoted(rest.strip())
        name = quoted[0] if quoted and not quoted[1] else rest.strip()
        if not (number.isascii() and number.isdecimal() and len(number) <= _MAX_DIGITS and name):
            raise UsageError(f"{path}, line {line_number}: {shorten(line)!r} is not `number name`")
        numbered.append((int(number), name))
    numbered.sort()
    if not numbered:
        raise UsageError(f"{path} is empty; its lines are `number name`, numbered from 1")
    if [number for number, _ in numbered] != list(range(1, len(numbered) + 1)):
        raise UsageError(f"{path}: the classes are not numbered 1, 2, 3, ... without gaps")
    names = tuple(name for _, name in numbered)
    if repeated := sorted(name for name, count in Counter(names).items() if count > 1):
        raise UsageError(f"{path}: two classes have the name {shorten(repeated[0])!r}")
    return names


def format_class_index(names: Sequence[str]) -> str:
    """The text of a classInd.txt. A name that would not be read back is quoted."""
    return "".join(f"{number} {_format_name(name)}\n" for number, name in enumerate(names, 1))


def _format_name(name: str) -> str:
    plain = name.isprintable() and name == name.strip() and not name.startswith(('"', "'"))
    return name if plain else quote(name)


def name_classes(
    source: str,
    rows: Sequence[ListRow],
    classes: Sequence[str],
    folders: Sequence[str] | None = None,
) -> list[str]:
    """The class name of each row of a list: its label, or the class that its number stands for.

    Numbers count from 1, as in UCF-101; or from 0 in rows with a number of frames, as in TSN and mmaction2.

    Args:
        source: the list, for messages.
        rows: its rows.
        classes: names in the order of classInd.txt.
        folders: the folder of each row's video. It must not contradict the number, if it is named after a
            class.

    Raises:
        UsageError: a number is out of range, contradicts the folder, or begins at the wrong base.
    """
    numbered = [row for row in rows if row.number is not None]
    _check_base(source, numbered, classes)
    names, known = [], set(classes)
    for row, folder in zip(rows, folders or [""] * len(rows), strict=True):
        if row.number is None:
            names.append(row.label)
            continue
        name = classes[row.number - row.base]
        # A folder that is not named after a class says nothing about the class of its videos.
        if folder != name and folder in known:
            raise UsageError(
                f"{source}, line {row.line}: {shorten(row.path)} has class number {row.number}, which is"
                f" {name!r}, but its folder is {folder!r}"
            )
        names.append(name)
    return names


def _check_base(source: str, rows: Sequence[ListRow], classes: Sequence[str]) -> None:
    for base in {row.base for row in rows}:
        of_base = [row for row in rows if row.base == base]
        numbers = [row.number for row in of_base if row.number is not None]
        low, high, last = min(numbers), max(numbers), len(classes) - 1 + base
        form = "`folder frames class`, as of TSN," if base == 0 else "`path class`, as of UCF-101,"
        rule = f"numbers of the form {form} count from {base}"
        advice = "write names of classes instead of numbers, or correct the numbers"
        if base == 0 and low >= 1 and high == last + 1:
            raise UsageError(f"{source}: the class numbers go from {low} to {high}, but {rule}; {advice}")
        if base == 1 and low == 0:
            row = next(row for row in of_base if row.number == 0)
            raise UsageError(f"{source}, line {row.line}: class number 0, but {rule}; {advice}")
        for row in of_base:
            if row.number is not None and not base <= row.number <= last:
                raise UsageError(
                    f"{source}, line {row.line}: class number {row.number}, but classInd.txt has classes 1 to"
                    f" {len(classes)}, and {rule}"
                )
        if _names_tell_other_base(of_base, classes, base):
            raise UsageError(
                f"{source}: the names of the videos tell that the class numbers count from {1 - base}, but"
                f" {rule}; {advice}"
            )


def _names_tell_other_base(rows: Sequence[ListRow], classes: Sequence[str], base: int) -> bool:
    """Whether each name that contains one class, as `v_Punch_g08` does, fits the other base and none this."""
    known = {re.sub(r"[\W_]", "", name).casefold(): number for number, name in enumerate(classes)}
    here = there = 0
    for row in rows:
        parts = re.split(r"[\W_]+", PurePosixPath(row.path).name.casefold())
        evident = {known[part] for part in parts if part in known}
        if len(evident) == 1 and row.number is not None:
            (number,) = evident
            here += number == row.number - base
            there += number == row.number - (1 - base)
            if number not in (row.number - base, row.number - (1 - base)):
                return False
    return there > 0 and here == 0
