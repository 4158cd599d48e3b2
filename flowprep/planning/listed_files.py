"""The videos of a list as files."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from flowprep.errors import UsageError
from flowprep.planning.class_index import CLASS_INDEX, name_classes, read_class_index
from flowprep.planning.list_names import check_coverage, describe_missing
from flowprep.planning.video_lists import ListRow, hmdb_part, path_exists, read_lists
from flowprep.system.paths import printable, shorten
from flowprep.system.units import count_noun
from flowprep.video.suffixes import VIDEO_SUFFIXES, suffix_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ListedFiles:
    """The videos of a list, each once.

    Attributes:
        folder: the folder that relative paths begin at.
        rows: the videos; their paths are absolute, and their labels are names.
        missing: the names of the videos that do not exist.
    """

    folder: Path
    rows: list[ListRow]
    missing: list[str]


def read_listed_files(source: Path, root: Path | None = None, *, allow_missing: bool = False) -> ListedFiles:
    """Find the files of a list.

    A name may lack the suffix of its file. A file whose frames and bytes are in the list is not looked for.

    Args:
        source: the list, as for `read_lists`.
        root: the folder that relative paths begin at; the folder of the list if None.
        allow_missing: leave out videos that do not exist, with a warning.

    Raises:
        UsageError: the list cannot be read, a class number is wrong, a video has two labels, or a name
            without a suffix fits two files.
        ListMismatch: no video of the list exists, or less than half of them.
    """
    hmdb = hmdb_part(str(source))
    own = hmdb[0] if hmdb else source.parent
    folder = Path(os.path.abspath(root or own))
    find = _Finder(folder)
    rows = read_lists(source, find.exists)
    if any(row.number is not None for row in rows) and path_exists(own / CLASS_INDEX):
        folders = [Path(row.path).parent.name for row in rows]
        labels = name_classes(str(source), rows, read_class_index(own / CLASS_INDEX), folders)
        rows = [row._replace(label=label) for row, label in zip(rows, labels, strict=True)]
    if shifted := sum(row.first > 1 for row in rows):
        log.warning(
            "%s: %s begin at a later frame; the whole videos are read", source, count_noun(shifted, "row")
        )
    listed: dict[str, ListRow] = {}
    missing: dict[str, str] = {}
    for row in rows:
        path = find.file(row)
        label = printable(row.label or Path(row.path).parent.name)
        if path is None:
            path = find.absolute(row.path)
            missing[path] = row.path
        first = listed.setdefault(path, row._replace(path=path, label=label))
        if first.label != label:
            raise UsageError(
                f"{source}, line {row.line}: {shorten(row.path)} has the labels {first.label!r} and {label!r}"
            )
    place = f"files in {folder}"
    names = [printable(name) for name in missing.values()]
    check_coverage(str(source), len(listed), names, place, allowed=allow_missing)
    if missing:
        text = describe_missing(str(source), len(listed), names, place)
        log.warning("%s%s", text, "; left out" if allow_missing else "")
    kept = [row for path, row in listed.items() if not (allow_missing and path in missing)]
    return ListedFiles(folder, kept, [] if allow_missing else names)


class _Finder:
    """Looks up names in a folder.

    Args:
        folder: that relative names begin at.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._prefix = str(folder).rstrip(os.sep) + os.sep
        self._by_stem = cache(_files_by_stem)

    def absolute(self, name: str) -> str:
        """The absolute path of a name."""
        # A Path for each row of a long list would take most of the time.
        return os.path.normpath(name if name.startswith(os.sep) else self._prefix + name)

    def exists(self, name: str) -> bool:
        """Whether there is a file or folder of this name."""
        return path_exists(self._folder / name)

    def file(self, row: ListRow) -> str | None:
        """The path of a row's video; None if there is no such file.

        Raises:
            UsageError: the name has no suffix, and fits several files.
        """
        absolute = self.absolute(row.path)
        path = None if row.frames >= 0 and row.size >= 0 else Path(absolute)
        if path is None or path_exists(path):
            return absolute
        names = self._by_stem(path.parent).get(path.name, ())
        if len(names) > 1:
            raise UsageError(
                f"line {row.line}: {shorten(row.path)} may be {names[0]} or {names[1]}; write the suffix, too"
            )
        return str(path.parent / names[0]) if names else None


def _files_by_stem(folder: Path) -> dict[str, Sequence[str]]:
    """The video files of a folder, by their names without suffix; none if it cannot be read."""
    names: dict[str, list[str]] = {}
    try:
        for path in folder.iterdir():
            if suffix_of(path.name) in VIDEO_SUFFIXES:
                names.setdefault(path.stem, []).append(path.name)
    except (OSError, ValueError):
        return {}
    return {stem: sorted(files) for stem, files in names.items()}
