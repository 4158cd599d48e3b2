"""Lists of videos with their classes, as text files.

A list has a line for each video, in one of three forms:

    Punch/v_Punch_g08_c01.avi 3         the path and the number of the class in classInd.txt, as in the
                                        training lists of UCF-101
    Punch/v_Punch_g01_c01.avi           the path; its folder is the class, as in the test lists of UCF-101
    some/clip.mp4 Punch                 the path and the name of the class, which replaces that of the folder;
                                        after a tab the name may contain spaces

A file whose name ends in .csv has rows `path,label` instead, or the columns that its first line names: see
flowprep.planning.video_lists. The column `group` names the group of a video: see trainer.data.groups.

HMDB-51 has a folder of files `<class>_test_split<N>.txt`. `FOLDER:train1` and `FOLDER:test1` name the
lists of its split 1.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from flowprep import VIDEO_SUFFIXES
from flowprep.errors import UsageError
from flowprep.planning.video_lists import read_list_rows, split_line

_HMDB_MARKS = {"train": "1", "test": "2"}  # 0 marks a video that the split does not use


@dataclass(frozen=True)
class ListEntry:
    """One line of a list.

    Attributes:
        id: the video's id in a corpus: its path in POSIX style.
        label: the name of its class, if the line has one.
        index: the number of its class from 1, if the line has one.
        group: the group of the video, or "".
    """

    id: str
    label: str | None = None
    index: int | None = None
    group: str = ""


def read_list(source: str, known: Container[str] = ()) -> list[ListEntry]:
    """Read one list.

    Args:
        source: a file, or a folder of HMDB-51 with the part: `FOLDER:train1`, `FOLDER:test2`.
        known: ids of videos. An id that is a whole line, or the part before the class, is recognised with all
            its spaces and tabs.

    Raises:
        UsageError: the list cannot be read, is empty, or names a video twice.
    """
    part = re.fullmatch(r"(.+):(train|test)([123])", source)
    if part and Path(part[1]).is_dir():
        entries = _read_hmdb(Path(part[1]), part[2], part[3])
    elif Path(source).is_dir():
        raise UsageError(f"{source} is a folder; write {source}:train1 or {source}:test1 for HMDB-51's lists")
    elif source.lower().endswith(".csv"):
        entries = _read_csv(Path(source))
    else:
        entries = [_parse_line(line, known) for line in _read_lines(Path(source))]
    if not entries:
        raise UsageError(f"{source}: the list is empty")
    if repeated := [name for name, count in Counter(e.id for e in entries).items() if count > 1]:
        raise UsageError(f"{source}: named more than once: {join_names(repeated)}")
    return entries


def read_classes(path: Path) -> tuple[str, ...]:
    """Class names in the order of a classInd.txt, whose lines are `number name`, numbered from 1.

    Raises:
        UsageError: the file cannot be read, or its numbers are not 1, 2, 3, ...
    """
    numbered: list[tuple[int, str]] = []
    for line in _read_lines(path):
        number, _, name = line.strip().partition(" ")
        if not number.isdecimal() or not name.strip():
            raise UsageError(f"{path}: the line {line!r} is not `number name`")
        numbered.append((int(number), name.strip()))
    numbered.sort()
    if [number for number, _ in numbered] != list(range(1, len(numbered) + 1)):
        raise UsageError(f"{path}: the classes are not numbered 1, 2, 3, ... without gaps")
    return tuple(name for _, name in numbered)


def read_groups(source: str) -> dict[str, str]:
    """The group of each video by id, as the column `group` of a CSV list names it; {} for another list.

    Raises:
        UsageError: as read_list.
    """
    if not source.lower().endswith(".csv"):
        return {}
    return {entry.id: entry.group for entry in read_list(source) if entry.group}


def join_names(names: Sequence[str], limit: int = 5) -> str:
    """The first `limit` names, and the number of further names."""
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest} more" if rest > 0 else "")


def _read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as exc:
        raise UsageError(f"{path}: cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise UsageError(f"{path}: not a text file in UTF-8") from exc
    # str.splitlines would also split at characters that may be part of a file's name.
    return [line.removesuffix("\r") for line in text.split("\n") if line.strip()]


def _parse_line(line: str, known: Container[str]) -> ListEntry:
    path, label = split_line(line, known.__contains__)
    if path in known:
        return _make_entry(path, label)
    # A line without a tab that ends like a file name is a path with spaces.
    if "\t" not in line.strip() and PurePosixPath(line.strip().lower()).suffix in VIDEO_SUFFIXES:
        path, label = line.strip(), ""
    return _make_entry(path.removeprefix("./"), label)


def _make_entry(path: str, label: str, group: str = "") -> ListEntry:
    if label.isdecimal():
        return ListEntry(path, index=int(label), group=group)
    return ListEntry(path, label=label or None, group=group)


def _read_csv(path: Path) -> list[ListEntry]:
    try:
        return [_make_entry(row.path, row.label, row.group) for row in read_list_rows(path)]
    except OSError as exc:
        raise UsageError(f"{path}: cannot be read: {exc.strerror}") from exc


def _read_hmdb(folder: Path, part: str, split: str) -> list[ListEntry]:
    ending = f"_test_split{split}.txt"
    files = sorted(folder.glob(f"*{ending}"))
    if not files:
        raise UsageError(f"{folder} has no files <class>{ending}")
    entries = []
    for file in files:
        label = file.name.removesuffix(ending)
        for line in _read_lines(file):
            name, _, mark = line.strip().rpartition(" ")
            if mark == _HMDB_MARKS[part]:
                entries.append(ListEntry(f"{label}/{name.strip()}", label=label))
    return entries
