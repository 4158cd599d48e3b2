"""Lists of videos with their classes: read, matched against a corpus, split and written.

A list is a text file with a video per line. Three ways of writing a line are read:

    Punch/v_Punch_g08_c01.avi 3         UCF-101's training lists: the class's number in classInd.txt
    Punch/v_Punch_g01_c01.avi           UCF-101's test lists: the class is the folder
    some/clip.mp4 Punch                 a path and the class's name (or, after a tab, a name with spaces),
                                        which counts before the folder's

and HMDB-51's folders of `<class>_test_split<N>.txt`, written `FOLDER:train1` or `FOLDER:test1` for split 1.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from flowprep import VIDEO_SUFFIXES
from flowprep.errors import UsageError


@dataclass(frozen=True)
class Entry:
    """One line of a list.

    Attributes:
        id: the video's id in a corpus: its path in POSIX style.
        label: its class by name, where the line gives one.
        index: its class by number, counted from 1, where the line gives one.
    """

    id: str
    label: str | None = None
    index: int | None = None


def read_list(source: str, known: Container[str] = ()) -> list[Entry]:
    """Read one list.

    Args:
        source: a file, or HMDB-51's folder with the wanted part: `FOLDER:train1`, `FOLDER:test2`.
        known: ids of videos. A line that is one of them, whole or before its class, is read so, whatever
            spaces and tabs the id has.

    Raises:
        UsageError: it cannot be read, is empty, or names a video twice.
    """
    part = re.fullmatch(r"(.+):(train|test)([123])", source)
    if part and Path(part[1]).is_dir():
        entries = _read_hmdb(Path(part[1]), part[2], part[3])
    elif Path(source).is_dir():
        raise UsageError(f"{source} is a folder; write {source}:train1 or {source}:test1 for HMDB-51's lists")
    else:
        entries = [_read_line(line, known) for line in _lines(Path(source))]
    if not entries:
        raise UsageError(f"{source}: the list is empty")
    twice = [name for name, count in Counter(e.id for e in entries).items() if count > 1]
    if twice:
        raise UsageError(f"{source}: named more than once: {some_names(twice)}")
    return entries


def read_classes(path: Path) -> tuple[str, ...]:
    """Class names in the order of a classInd.txt, whose lines are `number name`, numbered from 1.

    Raises:
        UsageError: it cannot be read, or its numbers are not 1, 2, 3, ...
    """
    numbered: list[tuple[int, str]] = []
    for line in _lines(path):
        number, _, name = line.strip().partition(" ")
        if not number.isdecimal() or not name.strip():
            raise UsageError(f"{path}: the line {line!r} is not `number name`")
        numbered.append((int(number), name.strip()))
    numbered.sort()
    if [number for number, _ in numbered] != list(range(1, len(numbered) + 1)):
        raise UsageError(f"{path}: the classes are not numbered 1, 2, 3, ... without gaps")
    return tuple(name for _, name in numbered)


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as exc:
        raise UsageError(f"{path}: cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise UsageError(f"{path}: not a text file in UTF-8") from exc
    # By line feeds alone: what else str.splitlines divides by may be part of a file's name.
    return [line.removesuffix("\r") for line in text.split("\n") if line.strip()]


def _read_line(line: str, known: Container[str]) -> Entry:
    if line in known:
        return Entry(line)
    for mark in ("\t", " "):
        path, _, label = line.rpartition(mark)
        if path in known and label:
            return _entry(path, label)
    line = line.strip()
    path, tab, label = line.partition("\t")
    if not tab:
        path, _, label = line.rpartition(" ")
        if not path or PurePosixPath(line.lower()).suffix in VIDEO_SUFFIXES:
            path, label = line, ""
    path = path.strip().removeprefix("./")
    return _entry(path, label.strip())


def _entry(path: str, label: str) -> Entry:
    if label.isdecimal():
        return Entry(path, index=int(label))
    return Entry(path, label=label or None)


def _read_hmdb(folder: Path, part: str, split: str) -> list[Entry]:
    files = sorted(folder.glob(f"*_test_split{split}.txt"))
    if not files:
        raise UsageError(f"{folder} has no files <class>_test_split{split}.txt")
    wanted = {"train": "1", "test": "2"}[part]  # 0: in neither
    entries = []
    for file in files:
        label = file.name.removesuffix(f"_test_split{split}.txt")
        for line in _lines(file):
            name, _, use = line.strip().rpartition(" ")
            if use == wanted:
                entries.append(Entry(f"{label}/{name.strip()}", label=label))
    return entries


def some_names(names: Sequence[str], most: int = 5) -> str:
    """The first names, and how many more there are."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
