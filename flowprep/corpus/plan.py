"""The plan of a corpus: its tasks, fixed before anything is computed, and the file that stores them.

The file holds one JSON object a line: a head with the settings, then the tasks, then their number and a
CRC-32.
"""

from __future__ import annotations

import gc
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from flowprep.corpus import format as fmt
from flowprep.errors import CorpusDamaged, CorpusFormatError
from flowprep.settings import Settings
from flowprep.system.atomic import atomic_path
from flowprep.system.files import is_machine_error, open_regular
from flowprep.validation import check, check_count, check_path, check_task_id, check_text, check_video_id

LONGEST_LINE = 1 << 28  # bytes: a task of half a million videos


@dataclass(frozen=True)
class Segment:
    """A run of frames of one video. A short video is one segment; a long video has several.

    Attributes:
        id: the video's id in the corpus.
        path: the file or folder that is decoded.
        source: its path relative to the input.
        label: the video's class, or "".
        source_bytes: the size of the file when it was planned; 0 if there was no file.
        modified_ns: the file's modification time when it was planned; 0 if it is not known.
        segment, segments: the number of this segment, from 0, and how many the video has.
        first_frame: the first frame, counted in the video.
        count: the number of frames, and of pairs that begin at them; 0 for all frames to the end.
        estimate: the expected number of pairs, for progress only.
        digest: of samples of the file when it was planned; "" if it is not known.
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
    digest: str = ""

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Segment:
        """A segment as the plan has it.

        Raises:
            SettingsError: a name, a path or a count is not allowed.
            TypeError: a value is missing, or has an unknown name.
        """
        segment = cls(**values)
        check_video_id(segment.id)
        check_path(segment.path)
        check_text("source", segment.source)
        check_text("label", segment.label)
        check_text("digest", segment.digest)
        for name in _COUNTS:
            check_count(name, getattr(segment, name))
        modified = segment.modified_ns  # it may lie before 1970
        check(type(modified) is int, "modified_ns", ascii(modified)[:40], "a whole number")
        return segment

    def to_dict(self) -> dict[str, Any]:
        """The segment as the plan has it."""
        values = dict(vars(self))  # asdict() copies each value: that would be most of the time of planning
        if not self.digest:
            del values["digest"]
        return values


_COUNTS = ("source_bytes", "segment", "segments", "first_frame", "count", "estimate")


@dataclass(frozen=True)
class Task:
    """The segments that are stored in one shard.

    Attributes:
        id: the task's name: a digest of the settings and of the segments.
        segments: in the order in which they are stored.
    """

    id: str
    segments: tuple[Segment, ...]

    @property
    def estimate(self) -> int:
        """The expected number of pairs."""
        return sum(segment.estimate for segment in self.segments)


@dataclass(frozen=True)
class Plan:
    """All tasks of a corpus, and the settings that they share."""

    settings: Settings
    tasks: tuple[Task, ...] = ()

    def video_ids(self) -> set[str]:
        """The ids of all planned videos."""
        return {segment.id for task in self.tasks for segment in task.segments}


def read_plan(path: Path) -> Plan:
    """Read a plan file.

    Raises:
        CorpusFormatError: there is no such file, this version cannot read it, or a name in it is not allowed.
        CorpusDamaged: the settings do not match their checksum.
        OSError: the machine cannot read it.
    """
    with _open(path) as file, many_objects():
        head = _read_head(file)
        settings = Settings.from_dict(head.settings)
        crc, tasks = zlib.crc32(head.line), []
        end: dict[str, Any] = {}
        line = head.line
        for line in iter(lambda: file.readline(LONGEST_LINE), b""):
            if end:
                raise ValueError("there are lines after its end")
            row = json.loads(line)
            if "crc32" in row:
                end = row
            else:
                tasks.append(Task(check_task_id(row["task"]), tuple(map(Segment.from_dict, row["segments"]))))
                crc = zlib.crc32(line, crc)
        complete = end == {"tasks": len(tasks), "crc32": crc} and line.endswith(b"\n")
        if head.version > 1 and not complete:
            raise ValueError("it does not match its checksum; replace it by a copy")
        return Plan(settings, tuple(tasks))


def read_plan_settings(path: Path) -> Settings:
    """Read only the settings of a plan file. Settings that this version does not know are left out.

    Raises:
        CorpusFormatError, CorpusDamaged, OSError: as `read_plan`.
    """
    with _open(path) as file:
        return Settings.from_stored(_read_head(file).settings)


def write_plan(path: Path, plan: Plan) -> None:
    """Write a plan file; a reader sees the previous file or the whole new one."""
    crc = 0
    with atomic_path(path) as temporary, temporary.open("wb") as file:

        def write(row: dict[str, Any]) -> None:
            nonlocal crc
            line = json.dumps(row).encode() + b"\n"
            file.write(line)
            crc = zlib.crc32(line, crc)

        settings = plan.settings.to_dict()
        head = {"format": fmt.PLAN_FORMAT, "version": fmt.PLAN_VERSION, "settings": settings}
        write({**head, "crc32": _settings_checksum(settings)})
        for task in plan.tasks:
            write({"task": task.id, "segments": [segment.to_dict() for segment in task.segments]})
        write({"tasks": len(plan.tasks), "crc32": crc})


@contextmanager
def many_objects() -> Iterator[None]:
    """Pause the garbage collector while the block creates millions of objects, all of which stay."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    """Open a plan file; an error in the block that uses it means that this is not a plan."""
    try:
        with open_regular(path) as file:
            yield file
    except FileNotFoundError as exc:
        raise CorpusFormatError(f"{path.parent} has no plan: there is no {path.name} in it") from exc
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        if is_machine_error(exc):
            raise
        raise CorpusFormatError(f"the plan {path} cannot be read: {exc}") from exc


class _Head(NamedTuple):
    """The first line of a plan file, and what it says."""

    line: bytes
    version: int
    settings: dict[str, Any]


def _read_head(file: BinaryIO) -> _Head:
    line = file.readline(LONGEST_LINE)
    head = json.loads(line)
    version, settings = head["version"], head["settings"]
    if head["format"] != fmt.PLAN_FORMAT or version > fmt.PLAN_VERSION:
        raise CorpusFormatError(f"{file.name} is not a plan that this version can read")
    if head.get("crc32", crc := _settings_checksum(settings)) != crc:  # version 1 has no checksum
        raise CorpusDamaged(f"the settings in {file.name} do not match their checksum")
    return _Head(line, version, settings)


def _settings_checksum(settings: dict[str, Any]) -> int:
    return fmt.text_checksum(json.dumps(settings, sort_keys=True))
