"""The record of a task: the outcome of each of its segments."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowprep.corpus import format as fmt
from flowprep.errors import CorpusDamaged, CorpusFormatError, SettingsError
from flowprep.system.atomic import atomic_path
from flowprep.system.files import is_machine_error, read_regular
from flowprep.validation import check, check_count, check_task_id, check_text, check_totals, check_video_id

STATES = ("ok", "partial", "failed")
LONGEST_REASON = 1 << 20  # bytes


@dataclass(frozen=True)
class SegmentRecord:
    """The outcome of one segment.

    Attributes:
        id: the video's id.
        status: "ok", "partial" (only the frames before the damage are stored) or "failed".
        segment, segments: the number of the segment, from 0, and how many the video has.
        reason: why the segment is not complete, or "".
        warning: what is unusual about a stored segment, or "".
        frames, pairs: the numbers that are stored.
        bytes: the size of the stored images, by stream.
    """

    id: str
    status: str
    segment: int = 0
    segments: int = 1
    reason: str = ""
    warning: str = ""
    frames: int = 0
    pairs: int = 0
    bytes: Mapping[str, int] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether nothing of the segment is stored."""
        return self.status == "failed"

    def to_dict(self) -> dict[str, Any]:
        """The segment as the record file has it."""
        values: dict[str, Any] = {
            "id": self.id,
            "segment": self.segment,
            "segments": self.segments,
            "status": self.status,
            "reason": self.reason,
            "frames": self.frames,
            "pairs": self.pairs,
            "bytes": dict(self.bytes),
        }
        return values if self.failed else {**values, "warning": self.warning}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SegmentRecord:
        """The inverse of `to_dict`. Unknown names are left out; records of older versions lack some.

        Raises:
            KeyError, TypeError, AttributeError, SettingsError: `values` is not a segment's entry.
        """
        status = values["status"]
        check(status in STATES, "status", ascii(status)[:40], " | ".join(STATES))
        counts = {"segment": 0, "segments": 1, "frames": 0, "pairs": 0}
        return cls(
            id=check_video_id(values["id"]),
            status=status,
            reason=check_text("reason", values.get("reason", ""), LONGEST_REASON),
            warning=check_text("warning", values.get("warning", ""), LONGEST_REASON),
            bytes={
                check_text("stream", stream): check_count("bytes", size)
                for stream, size in values.get("bytes", {}).items()
            },
            **{name: check_count(name, values.get(name, least)) for name, least in counts.items()},
        )


@dataclass(frozen=True)
class ShardRecord:
    """The shard of a task: its file name, its size in bytes, its SHA-256 as hexadecimal digits."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class TaskRecord:
    """The outcome of a task.

    Attributes:
        task: its id.
        shard: its shard; None if every segment failed.
        videos: one entry a segment, in the order of the plan.
        totals: sums by name: frames, pairs, bytes, and seconds by stage.
        finished: the time when the task ended, ISO 8601 in UTC; "" in old records.
    """

    task: str
    shard: ShardRecord | None
    videos: tuple[SegmentRecord, ...]
    totals: Mapping[str, float]
    finished: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The record as its file has it, without the checksum."""
        return {
            "format": fmt.RECORD_FORMAT,
            "version": fmt.RECORD_VERSION,
            "task": self.task,
            "shard": None if self.shard is None else dict(vars(self.shard)),
            **({"finished": self.finished} if self.finished else {}),
            "videos": [video.to_dict() for video in self.videos],
            "totals": dict(self.totals),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TaskRecord:
        """The inverse of `to_dict`.

        Raises:
            KeyError, TypeError, AttributeError, ValueError: `values` is not a record.
        """
        task, shard = check_task_id(values["task"]), values["shard"]
        if shard is not None:
            check(shard["name"] == f"{task}.h5", "shard", ascii(shard["name"])[:200], f"{task}.h5")
            digest = check_text("sha256", shard["sha256"])
            shard = ShardRecord(f"{task}.h5", check_count("bytes", shard["bytes"]), digest)
        return cls(
            task=task,
            shard=shard,
            videos=tuple(map(SegmentRecord.from_dict, values["videos"])),
            totals=check_totals(values["totals"]),
            finished=check_text("finished", values.get("finished", "")),
        )


def read_record(path: Path) -> TaskRecord:
    """Read a record file.

    Raises:
        CorpusDamaged: the file does not exist, is damaged, or has a name that is not allowed.
        CorpusFormatError: the file is not a record, or is of a newer version.
        OSError: the machine cannot read it.
    """
    try:
        record: dict[str, Any] = json.loads(read_regular(path))
    except (OSError, ValueError, RecursionError) as exc:
        if is_machine_error(exc):
            raise
        raise CorpusDamaged(f"record {path.name} cannot be read: {exc}") from exc
    if not isinstance(record, dict) or record.get("format") != fmt.RECORD_FORMAT:
        raise CorpusFormatError(f"{path.name} is not a record of a corpus")
    if missing := {"version", "task", "shard", "videos", "totals"} - record.keys():
        raise CorpusDamaged(f"record {path.name} lacks {', '.join(sorted(missing))}")
    try:
        crc = _checksum(record)
        if record.pop("crc32", crc) != crc:  # the first records have no checksum
            raise CorpusDamaged(f"record {path.name} does not match its checksum")
        if record["version"] > fmt.RECORD_VERSION:
            raise CorpusFormatError(f"{path.name} is a record of a newer version: install a newer flowprep")
        found = TaskRecord.from_dict(record)
        check(found.task == path.stem, "task", found.task, f"{path.stem}, as the file is named")
        return found
    except SettingsError as exc:
        raise CorpusDamaged(f"record {path.name} is not one that flowprep writes: {exc}") from exc
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as exc:
        raise CorpusDamaged(f"record {path.name} does not have the form of a record: {exc!r}") from exc


def write_record(path: Path, record: TaskRecord) -> None:
    """Write a record file, with its checksum."""
    values = record.to_dict()
    values["crc32"] = _checksum(values)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(values, ensure_ascii=False, indent=1) + "\n", "utf-8")


def _checksum(record: dict[str, Any]) -> int:
    """CRC-32 of a record in its shortest form, without the checksum itself."""
    plain = {name: value for name, value in record.items() if name != "crc32"}
    return zlib.crc32(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode())
