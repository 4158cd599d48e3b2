"""Lists of videos with their classes, in the forms that flowprep.planning.video_lists describes.

A class number counts from 1, as in classInd.txt; in the forms of TSN and mmaction2 it counts from 0. A line
without a class has the class of its folder. HMDB-51 has a folder of files `<class>_test_split<N>.txt`:
`FOLDER:train1` and `FOLDER:test1` name the lists of its split 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Container, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flowprep.errors import UsageError
from flowprep.planning.class_index import read_class_index as read_classes
from flowprep.planning.list_names import NameMatcher
from flowprep.planning.video_lists import ListRow, read_lists

__all__ = ["ListEntry", "join_names", "read_classes", "read_groups", "read_list"]


@dataclass(frozen=True)
class ListEntry:
    """One line of a list.

    Attributes:
        id: the video's id in a corpus: its path in POSIX style.
        label: the name of its class, if the line has one.
        index: the number of its class, if the line has one.
        group: the group of the video, or "".
        row: the line as it was read.
    """

    id: str
    label: str | None = None
    index: int | None = None
    group: str = ""
    row: ListRow = field(default=ListRow(0, ""), compare=False, repr=False)


def read_list(source: str, known: Container[str] = ()) -> list[ListEntry]:
    """Read one list.

    Args:
        source: a file, or a folder of HMDB-51 with the part: `FOLDER:train1`, `FOLDER:test2`.
        known: ids of videos. An id that is a whole line, or the part before the class, is recognised with all
            its spaces and tabs.

    Raises:
        UsageError: the list cannot be read, is empty, or names a video twice.
    """
    rows = read_lists(source, known.__contains__)
    if any(row.mark for row in rows) and Path(source).is_file():
        raise UsageError(f"{source} is one of HMDB-51's lists; write {Path(source).parent}:train1 or :test1")
    entries = [_make_entry(row) for row in rows]
    if repeated := [name for name, count in Counter(e.id for e in entries).items() if count > 1]:
        raise UsageError(f"{source}: named more than once: {join_names(repeated)}")
    return entries


def read_groups(source: str, ids: Collection[str] = ()) -> dict[str, str]:
    """The group of each video by id, as the column `group` of a CSV list names it; {} for another list.

    Args:
        source: the list.
        ids: all ids, in which the names of the list are looked up.

    Raises:
        UsageError: as read_list.
    """
    if not source.lower().endswith(".csv"):
        return {}
    matcher = NameMatcher(ids)
    entries = read_list(source, matcher)
    return {matcher.find(entry.id) or entry.id: entry.group for entry in entries if entry.group}


def join_names(names: Sequence[str], limit: int = 5) -> str:
    """The first `limit` names, and the number of further names."""
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest} more" if rest > 0 else "")


def _make_entry(row: ListRow) -> ListEntry:
    label = None if row.number is not None else row.label or None
    return ListEntry(row.name, label, row.number, row.group, row)
