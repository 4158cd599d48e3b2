"""From inputs to videos to tasks: what a corpus will hold, fixed before anything is computed.

A task's name is a digest of the settings and of its segments, never of a rank or a count: the number of
workers changes nothing, and two machines that plan the same input plan the same tasks.
"""

from __future__ import annotations

import csv
import dataclasses
import gc
import hashlib
import json
import os
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from flowprep.corpus import format as fmt
from flowprep.corpus.index import Index, done_tasks, recorded_tasks
from flowprep.errors import CorpusFormatError, SettingsConflict, UsageError
from flowprep.settings import MAX_SEGMENTS, Settings
from flowprep.system.atomic import atomic_path
from flowprep.system.paths import printable
from flowprep.system.progress import Progress, no_progress
from flowprep.video.decode import estimate_frames
from flowprep.video.frame_folder import is_frame_folder
from flowprep.video.suffixes import VIDEO_SUFFIXES

PLAN_FORMAT = "flowprep-plan"
PLAN_VERSION = 2  # 1 had no checksums

# Columns of a list. A file whose `frames` and `bytes` are given is not looked at when it is planned.
LIST_COLUMNS = ("path", "label", "frames", "bytes")


@dataclass(frozen=True)
class Segment:
    """A run of frames of one video: all of it, unless it is long.

    Attributes:
        id: the video's id in the corpus.
        path: where it is read from.
        source: its path relative to the input.
        label: its class, or "".
        source_bytes: size of the file when it was planned; 0 if it was not there.
        modified_ns: when it had last been changed, by its file system; 0 if that is not known.
        segment, segments: number of this one, and how many the video has.
        first_frame: the first frame, counted in the video.
        count: frames, and pairs that begin at them; 0 for all to the end.
        estimate: pairs to expect, for progress only.
    """

    id: str
    path: str
    source: str
    label: str
    source_bytes: int
    modified_ns: int = 0
    segment: int = 0
    segments: int = 1
    first_frame: int = 0
    count: int = 0
    estimate: int = 0


@dataclass(frozen=True)
class Task:
    """What makes one shard."""

    id: str
    segments: tuple[Segment, ...]

    @property
    def estimate(self) -> int:
        """Pairs to expect."""
        return sum(s.estimate for s in self.segments)


@dataclass(frozen=True)
class Plan:
    """All tasks of a corpus, and the settings that they share."""

    settings: Settings
    tasks: tuple[Task, ...] = ()

    def video_ids(self) -> set[str]:
        """Ids of all planned videos."""
        return {s.id for t in self.tasks for s in t.segments}

    def pending(self, corpus: Path, again: Iterable[str] = ()) -> list[Task]:
        """The tasks that are not done, and those with one of the videos to take `again`."""
        done, again = done_tasks(corpus), set(again)
        return [t for t in self.tasks if t.id not in done or any(s.id in again for s in t.segments)]


class Found(NamedTuple):
    """A video among the inputs; fields as in Segment.

    Attributes:
        path: absolute; not resolved, as a link keeps its own place and name.
        prefix: sets it apart from one of the same source.
        frames, size: how many it has, and bytes, where a list says so; -1 elsewhere.
    """

    path: str
    source: str
    label: str
    prefix: str
    frames: int = -1
    size: int = -1


@contextmanager
def _many_objects() -> Iterator[None]:
    """Make millions of objects that stay, without looking through them again and again for garbage."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@_many_objects()
def find_videos(inputs: Sequence[str | Path]) -> tuple[list[Found], int]:
    """All videos of the inputs, and the number of other files that were passed over.

    An input is a video file, a folder that is searched for files with a known video suffix and for folders
    of numbered frames, such a folder itself, or a list: `.txt` with `path [label]` lines, or `.csv` with
    `path,label` rows, or with the columns of LIST_COLUMNS that its first line names. Paths in a list are
    relative to its folder, and the folder that a path names is its default label. Symbolic links are followed
    only where they lead to something inside the input.

    Raises:
        UsageError: an input does not exist, or none holds a video.
    """
    paths = [Path(i) for i in inputs]
    for path in paths:
        if not path.exists():
            raise UsageError(f"no such input: {path}")
    found: list[Found] = []
    skipped = 0
    absolute = [Path(os.path.abspath(p)) for p in paths]
    roots = [p if p.is_dir() else p.parent for p in absolute]
    for path, root, prefix in zip(absolute, roots, _shortest_names(roots), strict=True):
        if path.is_dir() and is_frame_folder(path):
            found.append(Found(str(path), _text(path.name), "", prefix))
        elif path.is_dir():
            for item in _walk(path):
                if isinstance(item, int):
                    skipped += item
                else:
                    source = _text(item.relative_to(path))
                    found.append(Found(str(item), source, printable(item.parent.name), prefix))
        elif path.suffix.lower() in (".txt", ".csv"):
            folder = str(root).rstrip(os.sep) + os.sep
            for row in _read_list(path):
                name = os.path.normpath(row.name if row.name.startswith(os.sep) else folder + row.name)
                source = _text(_relative(name, folder))
                found.append(Found(name, source, row.label, prefix, row.frames, row.size))
        elif path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES:
            found.append(Found(str(path), _text(path.name), "", prefix))
        else:
            known = " ".join([".txt", ".csv", *sorted(VIDEO_SUFFIXES)])
            raise UsageError(f"{path} is no folder, list or video; known suffixes: {known}")
    if not found:
        raise UsageError(
            f"no video in {', '.join(map(str, inputs))} ({skipped} other files; links that lead out of a"
            " folder are not followed: name their targets, in a list, say); known suffixes:"
            f" {' '.join(sorted(VIDEO_SUFFIXES))}"
        )
    return found, skipped


@_many_objects()
def make_plan(
    corpus: Path,
    found: Sequence[Found],
    settings: Settings,
    progress: Progress = no_progress,
    segments: int = MAX_SEGMENTS,
) -> Plan:
    """Plan the videos that no task holds yet, behind the tasks that are planned already, and store it.

    Told `progress` are the number of new videos that were looked at, and of all. A long video is cut into at
    most so many `segments`, each a task.

    Raises:
        SettingsConflict: the corpus was planned with other settings.
        UsageError: two videos would have one id, or the corpus has no plan any more.
    """
    planned = (corpus / fmt.PLAN).exists()
    if not planned and recorded_tasks(corpus):
        raise UsageError(
            f"{corpus} holds records but no {fmt.PLAN}: it can be read but not added to; use another --out"
        )
    plan = read_plan(corpus) if planned else Plan(settings)
    if differences := settings.differences(plan.settings):
        raise SettingsConflict(
            f"{corpus} was made with other settings (asked, stored): {'; '.join(differences)}. Use the stored"
            " ones, or another --out"
        )
    stored = plan
    plan = _follow_moved(plan, found)
    if new := tuple(_group(_new_segments(plan, found, settings, progress, segments), settings)):
        plan = dataclasses.replace(plan, tasks=(*plan.tasks, *new))
    if plan is not stored or not planned:
        store_plan(corpus, plan)
    return plan


def plan_segments(
    videos: Sequence[Segment], pairs: Sequence[int], settings: Settings, most: int = MAX_SEGMENTS
) -> tuple[Task, ...]:
    """Tasks for whole videos of so many pairs, each cut into `most` segments at most."""
    cut = [_split(v, n, settings.shard_pairs, most) for v, n in zip(videos, pairs, strict=True)]
    return tuple(_group(cut, settings))


def store_plan(corpus: Path, plan: Plan) -> None:
    """Make the folders of a corpus and write its plan."""
    (corpus / fmt.SHARDS).mkdir(parents=True, exist_ok=True)
    (corpus / fmt.RECORDS).mkdir(parents=True, exist_ok=True)
    _write_plan(corpus, plan)


@_many_objects()
def read_plan(corpus: Path) -> Plan:
    """The stored plan.

    Raises:
        CorpusFormatError: there is none that this version reads.
    """
    try:
        with (corpus / fmt.PLAN).open("rb") as file:
            line = file.readline()
            head, crc = json.loads(line), zlib.crc32(line)
            if head["format"] != PLAN_FORMAT or head["version"] > PLAN_VERSION:
                raise CorpusFormatError(f"{file.name} is not a plan that this version reads")
            tasks = []
            end: dict[str, Any] = {}
            for line in file:
                if end:
                    raise ValueError("it goes on behind its end")
                row = json.loads(line)
                if "crc32" in row:
                    end = row
                else:
                    tasks.append(Task(row["task"], tuple(Segment(**s) for s in row["segments"])))
                    crc = zlib.crc32(line, crc)
            whole = end == {"tasks": len(tasks), "crc32": crc} and line.endswith(b"\n")
            if head["version"] > 1 and not whole:
                raise ValueError("it does not have its checksum; put a copy of it in its place")
            return Plan(Settings.from_dict(head["settings"]), tuple(tasks))
    except FileNotFoundError as exc:
        raise CorpusFormatError(f"{corpus} holds no plan of a corpus: there is no {fmt.PLAN} in it") from exc
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise CorpusFormatError(f"{corpus} holds no plan of a corpus: {exc}") from exc


def summarise(plan: Plan, index: Index) -> dict[str, Any]:
    """Where a corpus stands: counts of tasks and of videos, sums, and the failures with their reasons."""
    done = set(index.tasks)
    pending_ids = {s.id for t in plan.tasks if t.id not in done for s in t.segments}
    planned = plan.video_ids()
    failed = {i: r for i, r in sorted(index.failures.items()) if i in planned}
    partial = {i: r for i, r in sorted(index.partial.items()) if i in planned and i not in failed}
    pending = len(pending_ids - failed.keys())
    return {
        "tasks": {"total": len(plan.tasks), "done": sum(t.id in done for t in plan.tasks)},
        "videos": {
            "total": len(planned),
            "ok": len(planned) - len(failed) - pending,
            "partial": len(partial),
            "failed": len(failed),
            "pending": pending,
        },
        "totals": {name: round(value, 3) for name, value in sorted(index.totals.items())},
        "failures": failed,
        "partial": partial,
        "warnings": {i: w for i, w in sorted(index.warnings.items()) if i in planned},
    }


def _follow_moved(plan: Plan, found: Sequence[Found]) -> Plan:
    """The plan with new paths for videos that moved: same source and size, and nothing at the old path."""
    now = {video.source: video.path for video in found}

    def moved(segment: Segment) -> Segment:
        path = now.get(segment.source, segment.path)
        if path == segment.path or _is_there(Path(segment.path)):
            return segment
        size, modified = source_state(Path(path))
        if size != segment.source_bytes:
            return segment
        return dataclasses.replace(segment, path=path, modified_ns=modified)

    if all(now.get(s.source, s.path) == s.path for t in plan.tasks for s in t.segments):
        return plan
    return dataclasses.replace(
        plan, tasks=tuple(Task(t.id, tuple(moved(s) for s in t.segments)) for t in plan.tasks)
    )


def _new_segments(
    plan: Plan, found: Sequence[Found], settings: Settings, progress: Progress, most: int
) -> Iterator[list[Segment]]:
    """Segments, `most` at most, of each video that is not planned, in the order of ids."""
    planned = {s.path: s.id for t in plan.tasks for s in t.segments}
    taken = set(planned.values())
    fresh: dict[str, Found] = {}  # by path: the same video through two inputs is one video
    for video in found:
        if video.path not in planned:
            fresh.setdefault(video.path, video)
    plain = Counter(video.source for video in fresh.values())
    named: dict[str, Found] = {}
    for video in fresh.values():
        alone = plain[video.source] == 1 and video.source not in taken
        video_id = video.source if alone else f"{video.prefix}/{video.source}"
        if video_id in named or video_id in taken:
            raise UsageError(
                f"two videos would both have the id {video_id!r}; give inputs of different names"
            )
        named[video_id] = video
    del planned, fresh, plain

    def look(video: Found) -> tuple[int, int, int]:
        path = Path(video.path)
        frames = estimate_frames(path) if video.frames < 0 else video.frames
        return frames, *(source_state(path) if video.size < 0 else (video.size, 0))

    order = sorted(named)
    with ThreadPoolExecutor(8) as pool:  # opening a file is mostly waiting
        for start in range(0, len(order), 1000):
            ids = order[start : start + 1000]
            some = [named[i] for i in ids]
            known = all(v.frames >= 0 and v.size >= 0 for v in some)
            looks = map(look, some) if known else pool.map(look, some)
            for video_id, video, (frames, size, modified) in zip(ids, some, looks, strict=True):
                pairs = max(0, frames - settings.step)
                whole = Segment(
                    video_id, video.path, video.source, video.label, size, modified, estimate=pairs
                )
                yield _split(whole, pairs, settings.shard_pairs, most)
            progress(start + len(some), len(order))


def _split(whole: Segment, pairs: int, shard_pairs: int, most: int) -> list[Segment]:
    """Cut a video into segments of `shard_pairs` pairs; the last one runs to the true end, wherever it is.

    Each segment is decoded from the video's beginning, so there are no more than `most`.
    """
    shard_pairs = max(shard_pairs, -(-pairs // most))
    n = max(1, -(-pairs // shard_pairs))
    if n == 1 and whole.estimate == pairs:
        return [whole]
    return [
        dataclasses.replace(
            whole,
            segment=k,
            segments=n,
            first_frame=k * shard_pairs,
            count=shard_pairs if k < n - 1 else 0,
            estimate=min(shard_pairs, pairs - k * shard_pairs),
        )
        for k in range(n)
    ]


def _group(videos: Iterable[list[Segment]], settings: Settings) -> Iterator[Task]:
    """Tasks of about `shard_pairs` pairs each; segments of a long video stand alone."""
    digest = settings.digest()
    group: list[Segment] = []
    pairs = 0
    for segments in videos:
        if len(segments) > 1:
            yield from (_task([s], digest) for s in segments)
            continue
        more = max(1, segments[0].estimate)  # it has some, if it can be read, though it does not declare them
        if group and pairs + more > settings.shard_pairs:
            yield _task(group, digest)
            group, pairs = [], 0
        group += segments
        pairs += more
    if group:
        yield _task(group, digest)


def _task(segments: list[Segment], digest: str) -> Task:
    what = [digest]
    for s in segments:
        what.append(json.dumps([s.id, s.source, s.label, s.source_bytes, s.first_frame, s.count, s.segments]))
    return Task(hashlib.sha256("\n".join(what).encode()).hexdigest()[:16], tuple(segments))


def _write_plan(corpus: Path, plan: Plan) -> None:
    crc = 0
    with atomic_path(corpus / fmt.PLAN) as temporary, temporary.open("wb") as file:

        def write(row: dict[str, Any]) -> None:
            nonlocal crc
            line = json.dumps(row).encode() + b"\n"
            file.write(line)
            crc = zlib.crc32(line, crc)

        settings = plan.settings.to_dict()
        head = {"format": PLAN_FORMAT, "version": PLAN_VERSION, "settings": settings}
        write({**head, "crc32": fmt.text_checksum(json.dumps(settings, sort_keys=True))})
        for task in plan.tasks:
            # asdict() would copy each value, for most of the time that a plan takes.
            write({"task": task.id, "segments": [vars(s) for s in task.segments]})
        write({"tasks": len(plan.tasks), "crc32": crc})


def _walk(root: Path) -> Iterator[Path | int]:
    """Videos below a folder, sorted, and, as numbers, counts of other files."""
    inside = root.resolve()

    def visit(folder: Path, ancestors: frozenset[Path], linked: bool) -> Iterator[Path | int]:
        videos: list[Path] = []
        others = 0
        folders: list[tuple[Path, bool]] = []
        for entry in sorted(folder.iterdir()):
            link = entry.is_symlink()
            target = entry.resolve()
            if link and not (target.is_relative_to(inside) and target.exists()):
                others += 1
            elif entry.is_dir():
                # A link to a folder above would never end, and links within linked folders might multiply.
                if target in ancestors or (link and linked):
                    others += 1
                else:
                    folders.append((entry, linked or link))
            elif entry.is_file() and entry.suffix.lower() in VIDEO_SUFFIXES:
                videos.append(entry)
            else:
                others += 1
        if folder != root and is_frame_folder(folder, nested=True):
            yield folder
            return
        yield from videos
        yield others
        for below, through_link in folders:
            yield from visit(below, ancestors | {below.resolve()}, through_link)

    yield from visit(root, frozenset({inside}), False)


class _Row(NamedTuple):
    """A video of a list; -1 where the list does not say."""

    name: str
    label: str
    frames: int = -1
    size: int = -1


def _read_list(path: Path) -> list[_Row]:
    """The rows of a list file; the default label is the folder that the path names."""
    rows: dict[str, _Row] = {}
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        lines = _csv_rows(path, file) if path.suffix.lower() == ".csv" else _text_rows(path, file)
        for number, row in lines:
            label = printable(row.label or Path(row.name).parent.name)
            before = rows.setdefault(row.name, row._replace(label=label))
            if before.label != label:
                raise UsageError(
                    f"{path}, line {number}: {row.name} has the labels {before.label!r} and {label!r}"
                )
    return list(rows.values())


def _csv_rows(path: Path, file: TextIO) -> Iterator[tuple[int, _Row]]:
    columns, places = ["path", "label"], [1, -1, -1]  # of label, frames and bytes
    for number, row in enumerate(csv.reader(file), 1):
        cells = [c.strip() for c in row]
        if number == 1 and cells and cells[0].lower() == "path":
            columns = [c.lower() for c in cells]
            if len(set(columns)) < len(columns) or not set(columns) <= set(LIST_COLUMNS):
                raise UsageError(
                    f"{path}, line 1: {','.join(cells)!r}; allowed columns: {','.join(LIST_COLUMNS)}"
                )
            places = [columns.index(n) if n in columns else -1 for n in LIST_COLUMNS[1:]]
        elif any(cells):
            cells += [""] * (len(columns) - len(cells))
            label, *numbers = (cells[p] if p >= 0 else "" for p in places)
            if len(cells) > len(columns) or not cells[0] or not all(map(_is_count, filter(None, numbers))):
                raise UsageError(f"{path}, line {number}: {','.join(cells)!r}; allowed: {','.join(columns)}")
            yield number, _Row(cells[0], label, *(int(n) if n else -1 for n in numbers))


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _text_rows(path: Path, file: TextIO) -> Iterator[tuple[int, _Row]]:
    for number, line in enumerate(map(str.strip, file), 1):
        name, _, label = line.partition("\t") if "\t" in line else line.rpartition(" ")
        if not name or _is_there(path.parent / line):  # a path may hold spaces itself
            name, label = line, ""
        if line:
            yield number, _Row(name.strip(), label.strip())


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _relative(path: str, folder: str) -> str:
    """A path from a folder, given with its last slash; one elsewhere keeps all of it but the first slash."""
    return path[len(folder) :] if path.startswith(folder) else path.lstrip(os.sep)


def _shortest_names(roots: Sequence[Path]) -> list[str]:
    """For each folder, as many of its last path components as tell it from the others."""
    for depth in range(1, max((len(r.parts) for r in roots), default=0)):
        names = {r: _text(Path(*r.parts[-depth:])) for r in roots}
        if len(set(names.values())) == len(names):
            return [names[r] for r in roots]
    return [_text(r) for r in roots]


def _text(path: str | Path) -> str:
    """A path as an id: POSIX separators, bytes that are no UTF-8 spelled out."""
    return printable(os.fspath(path).replace(os.sep, "/"))


def source_state(path: Path) -> tuple[int, int]:
    """Bytes and time of the last change, in ns, of a file or of a folder's files.

    Returns:
        (0, 0) if it is not there; extraction will say so.
    """
    try:
        if path.is_dir():
            states = [p.stat() for p in path.iterdir() if p.is_file()]
            return sum(s.st_size for s in states), max((s.st_mtime_ns for s in states), default=0)
        state = path.stat()
        return state.st_size, state.st_mtime_ns
    except (OSError, ValueError):
        return 0, 0
