"""The merged index: what all records and shards say, in one file.

Shards and records are the truth; `index.npz` only spares a reader from opening 100,000 small files. A task
whose record is newer than the index is read from its own files, and the index can be deleted at any time.
Its arrays are in the order in which they are looked up, and mapped: a million videos open at once, and only
the rows that are asked for take memory.
"""

from __future__ import annotations

import json
import logging
import mmap
import os
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from flowprep.corpus import format as fmt
from flowprep.corpus.shard_reader import Shard
from flowprep.errors import CorpusDamaged, CorpusFormatError
from flowprep.settings import Settings
from flowprep.system.atomic import atomic_path

log = logging.getLogger(__name__)

RECORD_FORMAT = "flowprep-record"
RECORD_VERSION = 1
INDEX_VERSION = 2
ARRAYS = ("rows", "row_task", "whole", "ids", "labels")  # of an Index


@dataclass
class Index:
    """All tasks that have a record.

    Attributes:
        tasks: their ids.
        rows: the rows of all their shards' videos tables, by id and segment.
        row_task: for each row, the position of its task in `tasks`.
        whole: (videos, 2): first row, and number of rows, of each video of which every segment is there and
            none failed, in the order of ids. A video ends at its first segment that the next one does not
            follow at once: what comes behind is empty, or lies behind a damage.
        ids, labels: of those videos, as bytes: looking up touches no more of the file.
        failures: id of each video that was not taken, wholly or in one segment, and the reason.
        partial: id of each video of which only the frames before its damage were kept, and the reason.
        warnings: id of each video with which something is wrong that did not keep it out, and what.
        totals: sums over all records, by name (frames, pairs, bytes, seconds by stage, ...).
    """

    tasks: list[str] = field(default_factory=list)
    rows: npt.NDArray[Any] = field(default_factory=lambda: _plain(np.zeros(0, fmt.video_dtype())))
    row_task: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    whole: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    ids: npt.NDArray[np.bytes_] = field(default_factory=lambda: np.zeros(0, "S1"))
    labels: npt.NDArray[np.bytes_] = field(default_factory=lambda: np.zeros(0, "S1"))
    failures: dict[str, str] = field(default_factory=dict)
    partial: dict[str, str] = field(default_factory=dict)
    warnings: dict[str, str] = field(default_factory=dict)
    totals: dict[str, float] = field(default_factory=dict)

    @property
    def not_whole(self) -> set[str]:
        """Ids of the videos that failed or are partial: what is to be retried."""
        return self.failures.keys() | self.partial.keys()


def read_record(corpus: Path, task: str) -> dict[str, Any]:
    """The record of a task.

    Raises:
        CorpusDamaged: it is not there or not a record.
    """
    path = fmt.record_path(corpus, task)
    try:
        record: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as exc:
        raise CorpusDamaged(f"record {path.name} cannot be read: {exc}") from exc
    if not isinstance(record, dict) or record.get("format") != RECORD_FORMAT:
        raise CorpusFormatError(f"{path.name} is not a record of a corpus")
    if missing := {"version", "task", "shard", "videos", "totals"} - record.keys():
        raise CorpusDamaged(f"record {path.name} lacks {', '.join(sorted(missing))}")
    crc = _record_checksum(record)
    if record.pop("crc32", crc) != crc:  # the first records have none
        raise CorpusDamaged(f"record {path.name} does not have its checksum")
    if record["version"] > RECORD_VERSION:
        raise CorpusFormatError(f"{path.name} is a record of a newer version: install a newer flowprep")
    return record


def _record_checksum(record: dict[str, Any]) -> int:
    """CRC-32 of a record in its shortest form, without its own."""
    plain = {name: value for name, value in record.items() if name != "crc32"}
    return zlib.crc32(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode())


def write_record(corpus: Path, record: dict[str, Any]) -> None:
    """Publish the record of a task, with its checksum: from then on the task is done."""
    record = {**record, "crc32": _record_checksum(record)}
    path = fmt.record_path(corpus, record["task"])
    again = path.exists()
    if again:  # the index may hold what the former record said
        (corpus / fmt.INDEX).unlink(missing_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(record, ensure_ascii=False, indent=1) + "\n", "utf-8")
    if again:  # as may one that another process has saved meanwhile
        (corpus / fmt.INDEX).unlink(missing_ok=True)


def recorded_tasks(corpus: Path) -> set[str]:
    """Ids of the tasks that have a record."""
    return _names(corpus / fmt.RECORDS, ".json")


def done_tasks(corpus: Path) -> set[str]:
    """Ids of the tasks that are done: their record is there, and the shard that it speaks of, if it does."""
    tasks = recorded_tasks(corpus)
    bare = tasks - _names(corpus / fmt.SHARDS, ".h5")
    return tasks - {task for task in bare if read_record(corpus, task)["shard"] is not None}


def _names(folder: Path, suffix: str) -> set[str]:
    if not folder.is_dir():
        return set()
    with os.scandir(
        folder
    ) as entries:  # of 100,000 files, a Path for each would take longer than all the rest
        return {entry.name.removesuffix(suffix) for entry in entries if entry.name.endswith(suffix)}


def load_index(corpus: Path) -> Index:
    """The index of what is on disk now, from `index.npz` as far as that goes."""
    tasks = done_tasks(corpus)
    if lost := len(recorded_tasks(corpus)) - len(tasks):
        log.warning("%s: shards of %d tasks are missing; `flowprep retry` makes them again", corpus, lost)
    index = _read(corpus / fmt.INDEX)
    if not set(index.tasks) <= tasks:
        index = Index()
    return _extend(index, corpus, sorted(tasks - set(index.tasks)))


def save_index(corpus: Path) -> Index:
    """Bring `index.npz` up to date, and return it."""
    records = corpus / fmt.RECORDS
    written = records.stat().st_mtime_ns if records.is_dir() else 0
    index = load_index(corpus)
    head = {
        "version": INDEX_VERSION,
        "tasks": index.tasks,
        "failures": index.failures,
        "partial": index.partial,
        "warnings": index.warnings,
        "totals": index.totals,
    }
    with atomic_path(corpus / fmt.INDEX) as temporary, temporary.open("wb") as file:
        text = np.frombuffer(json.dumps(head).encode(), np.uint8)
        np.savez(file, head=text, **{n: getattr(index, n) for n in ARRAYS})
    if written and records.stat().st_mtime_ns != written:
        # Another process may have replaced a record after it was read here. It saves the index when it ends.
        (corpus / fmt.INDEX).unlink(missing_ok=True)
    return index


def drop_stale_index(corpus: Path) -> None:
    """Remove `index.npz` if it holds a task that is not done any more, whose record was deleted by hand, say.

    To be called before tasks are run: the index knows them by their names alone, and what it says of the
    former record would pass for what the new one says.
    """
    path = corpus / fmt.INDEX
    if path.exists() and not set(_read(path).tasks) <= done_tasks(corpus):
        path.unlink(missing_ok=True)


def rebuild_index(corpus: Path) -> Index:
    """Make `index.npz` anew from all shards and records, and return it.

    Raises:
        CorpusFormatError: the folder holds neither records nor a plan.
    """
    if not (corpus / fmt.RECORDS).is_dir() and not (corpus / fmt.PLAN).exists():
        raise CorpusFormatError(f"{corpus} is not a corpus: it has neither records nor a plan")
    (corpus / fmt.INDEX).unlink(missing_ok=True)
    return save_index(corpus)


def read_settings(corpus: Path, index: Index) -> Settings:
    """The settings of a corpus: from its plan, or from a shard where there is none.

    Raises:
        CorpusFormatError: there is neither.
    """
    try:
        with (corpus / fmt.PLAN).open(encoding="utf-8") as file:
            head = json.loads(file.readline())
        settings = head["settings"]
        crc = fmt.text_checksum(json.dumps(settings, sort_keys=True))
        if head.get("crc32", crc) != crc:  # the first plans have none
            raise CorpusDamaged(f"{fmt.PLAN} of {corpus} does not have its checksum")
        return Settings.from_stored(settings)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        if len(index.rows):
            return Shard(fmt.shard_path(corpus, index.tasks[index.row_task[0]])).settings
        raise CorpusFormatError(f"{corpus} is not a corpus: it has neither a shard nor a plan") from exc


def _read(path: Path) -> Index:
    if not path.exists():
        return Index()
    try:
        arrays = _mapped(path)
        head = json.loads(arrays.pop("head").tobytes())
        if head.pop("version", 1) != INDEX_VERSION:
            return Index()
        return Index(**{n: arrays[n] for n in ARRAYS}, **head)
    except (OSError, EOFError, ValueError, KeyError, TypeError, RuntimeError, zipfile.BadZipFile) as exc:
        log.warning("%s cannot be read (%s): reading shards and records instead", path, exc)
        return Index()


def _mapped(path: Path) -> dict[str, Any]:
    """The arrays of a file that np.savez wrote, each checked against its CRC-32 and then mapped."""
    arrays: dict[str, Any] = {}
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        for info in archive.infolist():
            with archive.open(info) as member:
                while member.read(1 << 20):  # raises at the end if the CRC-32 does not hold
                    pass
            # A member begins with 30 bytes, its name, and a field whose size is at byte 28.
            header = info.header_offset
            file.seek(header + 30 + sum(np.frombuffer(data, "<u2", 2, header + 26).tolist()))
            if info.compress_type != zipfile.ZIP_STORED or np.lib.format.read_magic(file) != (1, 0):
                raise ValueError(f"{info.filename} is not as this program stores it")
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            count = int(np.prod(shape))
            array = np.frombuffer(data, dtype, count, file.tell()) if count else np.zeros(0, dtype)
            arrays[info.filename.removesuffix(".npy")] = array.reshape(shape)
    return arrays


def _extend(index: Index, corpus: Path, tasks: list[str]) -> Index:
    """The index with further tasks, read from their records and shards."""
    rows, row_task = [index.rows], [index.row_task]
    for task in tasks:
        record = read_record(corpus, task)
        if record["shard"] is not None:
            videos = Shard(fmt.shard_path(corpus, task)).videos
            rows.append(_plain(videos))
            row_task.append(np.full(len(videos), len(index.tasks), np.int32))
        index.tasks.append(task)
        try:
            for video in record["videos"]:
                if video["status"] != "ok":
                    kind = index.failures if video["status"] == "failed" else index.partial
                    kind.setdefault(video["id"], video["reason"])
                if warning := video.get("warning"):
                    index.warnings.setdefault(video["id"], warning)
            for name, value in record["totals"].items():
                index.totals[name] = index.totals.get(name, 0) + value
        except (KeyError, TypeError, AttributeError) as exc:
            raise CorpusDamaged(f"record {task}.json is not as records are: {exc!r}") from exc
    if tasks:
        index.rows, index.row_task = np.concatenate(rows), np.concatenate(row_task)
        _arrange(index)
    return index


def _arrange(index: Index) -> None:
    """Put the rows in order and find the whole videos."""
    order = np.lexsort((index.rows["segment"], index.rows["id"]))
    index.rows, index.row_task = index.rows[order], index.row_task[order]
    rows, ids = index.rows, index.rows["id"]
    same = ids[1:] == ids[:-1]  # as the row before
    first = np.flatnonzero(np.concatenate([np.ones(min(1, len(ids)), bool), ~same]))
    count = np.diff(first, append=len(ids))
    failed = np.array([i.encode() for i in index.failures], "S")
    whole = (count == rows["segments"][first]) & ~np.isin(ids[first], failed)
    follows = rows["first_frame"][:-1] + rows["num_frames"][:-1] == rows["first_frame"][1:]
    last = np.flatnonzero(same & ~follows)
    video = np.searchsorted(first, last, "right") - 1
    np.minimum.at(count, video, last - first[video] + 1)
    index.whole = np.stack([first, count], axis=1)[whole].astype(np.int64)
    index.ids, index.labels = ids[first[whole]], rows["label"][first[whole]]


def _plain(videos: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The columns that this version knows, with bytes for texts: what NumPy's own file format can hold."""
    names = fmt.video_dtype().names or ()
    return videos.astype([(name, videos.dtype[name].str) for name in names])
