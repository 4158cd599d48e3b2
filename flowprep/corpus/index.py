"""The index: the data of all records and of the shards' video tables, in one file.

Records and shards are authoritative. The index file only saves a reader from opening 100,000 small files. It
can be deleted at any time. A task that it does not contain is read from its own files. Its arrays are sorted,
and mapped into memory: opening a million videos is immediate, and only the rows in use take memory.
"""

from __future__ import annotations

import json
import logging
import mmap
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from flowprep.corpus import format as fmt
from flowprep.corpus.records import LONGEST_REASON, TaskRecord
from flowprep.system.atomic import atomic_path
from flowprep.system.files import open_regular
from flowprep.validation import check_text, check_totals, check_video_id, is_task_id

log = logging.getLogger(__name__)

ARRAYS = ("rows", "row_task", "whole", "ids", "labels")  # attributes of an Index that are arrays
# What a damaged file may raise.
_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RuntimeError,
    MemoryError,
    zipfile.BadZipFile,
)
TEXTS = ("tasks", "failures", "partial", "warnings", "totals")  # attributes that are stored as JSON


@dataclass
class Index:
    """The data of all tasks that have a record.

    Attributes:
        tasks: the ids of the tasks.
        rows: the rows of the video tables of all shards, sorted by video id and segment.
        row_task: for each row, the position of its task in `tasks`.
        whole: (videos, 2) int64: the first row and the number of rows of each video whose segments are all
            stored once, sorted by id. Rows after a gap between two segments do not count: they are empty, or
            lie after the damage.
        ids, labels: the ids and labels of those videos, as bytes. A search by id reads no other array.
        failures: reason by video id, for videos with a failed segment.
        partial: reason by video id, for videos of which only the frames before the damage are stored.
        warnings: warning by video id, for stored videos.
        totals: sums over all records, by name (frames, pairs, bytes, seconds by stage, ...).
    """

    tasks: list[str] = field(default_factory=list)
    rows: npt.NDArray[Any] = field(default_factory=lambda: _known_columns(np.zeros(0, fmt.video_dtype())))
    row_task: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    whole: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    ids: npt.NDArray[np.bytes_] = field(default_factory=lambda: np.zeros(0, "S1"))
    labels: npt.NDArray[np.bytes_] = field(default_factory=lambda: np.zeros(0, "S1"))
    failures: dict[str, str] = field(default_factory=dict)
    partial: dict[str, str] = field(default_factory=dict)
    warnings: dict[str, str] = field(default_factory=dict)
    totals: dict[str, float] = field(default_factory=dict)

    @property
    def incomplete(self) -> set[str]:
        """The ids of the videos that failed or are partial: those that can be retried."""
        return self.failures.keys() | self.partial.keys()

    @property
    def duplicates(self) -> dict[str, list[str]]:
        """Id -> shards, for each video with a segment that several shards hold. It is not read."""
        if self.whole[:, 1].sum() == len(self.rows):  # as in almost all corpora
            return {}
        found: dict[str, list[str]] = {}
        ids = np.ascontiguousarray(self.rows["id"])
        videos = np.unique(ids[1:][_repeats_segment(self.rows)])
        # The rows are sorted by id: a search for each video would read all rows for each.
        bounds = np.searchsorted(ids, videos), np.searchsorted(ids, videos, "right")
        for video, first, end in zip(videos, *bounds, strict=True):
            shards = {f"{self.tasks[task]}.h5" for task in self.row_task[first:end]}
            found[video.decode("utf-8", "replace")] = sorted(shards)
        return found

    @property
    def not_stored(self) -> dict[str, str]:
        """Id -> reason, for the videos that failed and for those that are stored twice."""
        twice = {
            video: f"stored twice, in {' and '.join(shards)}" for video, shards in self.duplicates.items()
        }
        return {**twice, **self.failures}

    def extend(self, tasks: Iterable[tuple[str, TaskRecord, npt.NDArray[Any] | None]]) -> None:
        """Add tasks.

        Args:
            tasks: for each its id, its record, and the video table of its shard; None if there is no shard.
        """
        known = len(self.tasks)
        rows, row_task = [self.rows], [self.row_task]
        for task, record, videos in tasks:
            if videos is not None:
                rows.append(_known_columns(videos))
                row_task.append(np.full(len(videos), len(self.tasks), np.int32))
            self.tasks.append(task)
            self._add_record(record)
        if len(self.tasks) > known:  # else the arrays stay mapped
            self.rows, self.row_task = np.concatenate(rows), np.concatenate(row_task)
            self._sort()

    def _add_record(self, record: TaskRecord) -> None:
        for video in record.videos:
            if video.status != "ok":
                reasons = self.failures if video.failed else self.partial
                reasons.setdefault(video.id, video.reason)
            if video.warning:
                self.warnings.setdefault(video.id, video.warning)
        for name, value in record.totals.items():
            self.totals[name] = self.totals.get(name, 0) + value

    def _sort(self) -> None:
        """Sort the rows, and find the videos whose segments are all stored."""
        order = np.lexsort((self.rows["segment"], self.rows["id"]))
        self.rows, self.row_task = self.rows[order], self.row_task[order]
        rows, ids = self.rows, self.rows["id"]
        same_video = ids[1:] == ids[:-1]  # as the row before
        first = np.flatnonzero(np.concatenate([np.ones(min(1, len(ids)), bool), ~same_video]))
        count = np.diff(first, append=len(ids))
        failed = np.array([video.encode() for video in self.failures], "S")
        whole = (count == rows["segments"][first]) & ~np.isin(ids[first], failed)
        follows = rows["first_frame"][:-1] + rows["num_frames"][:-1] == rows["first_frame"][1:]
        twice = np.searchsorted(first, np.flatnonzero(_repeats_segment(rows)), "right") - 1
        whole[twice] = False  # nobody knows which one is right
        gaps = np.flatnonzero(same_video & ~follows)  # rows that the next one does not follow at once
        video = np.searchsorted(first, gaps, "right") - 1
        np.minimum.at(count, video, gaps - first[video] + 1)
        self.whole = np.stack([first, count], axis=1)[whole].astype(np.int64)
        self.ids, self.labels = ids[first[whole]], rows["label"][first[whole]]


def _repeats_segment(rows: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Whether each of the sorted rows but the first is of the same segment as the one before: (rows - 1,)."""
    repeats: npt.NDArray[np.bool_] = np.logical_and(
        rows["id"][1:] == rows["id"][:-1], rows["segment"][1:] == rows["segment"][:-1]
    )
    return repeats


def read_index(path: Path) -> Index:
    """Read an index file. The result is empty if there is none, or it is damaged or of another version."""
    try:
        arrays = _map_arrays(path)
        texts = json.loads(arrays.pop("head").tobytes())
        if texts.pop("version", 1) != fmt.INDEX_VERSION:
            return Index()
        index = Index(**{name: arrays[name] for name in ARRAYS}, **texts)
        _check(index)
        return index
    except FileNotFoundError:
        return Index()
    except _ERRORS as exc:
        log.warning("%s cannot be read (%s): reading shards and records instead", path, exc)
        return Index()


def read_indexed_tasks(path: Path) -> set[str]:
    """Read only the task ids of an index file. There are none if the file is missing or unreadable."""
    try:
        texts = json.loads(_map_arrays(path, only="head")["head"].tobytes())
        return set(texts["tasks"]) if texts.get("version") == fmt.INDEX_VERSION else set()
    except _ERRORS:
        return set()


def write_index(path: Path, index: Index) -> None:
    """Write an index file."""
    texts = {"version": fmt.INDEX_VERSION, **{name: getattr(index, name) for name in TEXTS}}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        head = np.frombuffer(json.dumps(texts).encode(), np.uint8)
        np.savez(file, head=head, **{name: getattr(index, name) for name in ARRAYS})


def _check(index: Index) -> None:
    """Check that an index has the form that flowprep writes.

    Raises:
        ValueError: it has another form. A reader would fail later, or read something else.
    """
    names = fmt.video_dtype().names or ()
    tasks, rows = len(index.tasks), len(index.rows)
    whole, row_task = index.whole, index.row_task
    sound = (
        index.rows.dtype.names == names
        and row_task.shape == (rows,)
        and (not rows or 0 <= row_task.min() <= row_task.max() < tasks)
        and whole.ndim == 2
        and whole.shape[1:] == (2,)
        and index.ids.shape == index.labels.shape == (len(whole),)
        and index.ids.dtype.kind == index.labels.dtype.kind == "S"
        and (
            not len(whole)
            or bool((whole >= 0).all() and (whole.sum(axis=1) <= rows).all() and whole[:, 1].all())
        )
    )
    if not sound or not all(map(is_task_id, index.tasks)):
        raise ValueError("it is not one that flowprep writes")
    check_totals(index.totals)
    for reasons in (index.failures, index.partial, index.warnings):
        for video, reason in reasons.items():
            check_video_id(video)
            check_text("reason", reason, LONGEST_REASON)


def _map_arrays(path: Path, only: str = "") -> dict[str, Any]:
    """Check each array of a file that np.savez wrote against its CRC-32, and map it into memory.

    Args:
        path: the file.
        only: the name of the one array to return; "" for all.
    """
    arrays: dict[str, Any] = {}
    with open_regular(path) as file, zipfile.ZipFile(file) as archive:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        for info in archive.infolist():
            if only and info.filename != f"{only}.npy":
                continue
            if info.compress_type != zipfile.ZIP_STORED:  # first: it may become very large
                raise ValueError(f"{info.filename} is compressed")
            with archive.open(info) as member:
                while member.read(1 << 20):  # raises at the end if the CRC-32 differs
                    pass
            # A member begins with 30 bytes, its name, and a field whose size is at byte 28.
            header = info.header_offset
            file.seek(header + 30 + sum(np.frombuffer(data, "<u2", 2, header + 26).tolist()))
            if np.lib.format.read_magic(file) != (1, 0):
                raise ValueError(f"{info.filename} is not stored in the form that flowprep writes")
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            count = int(np.prod(shape))
            array = np.frombuffer(data, dtype, count, file.tell()) if count else np.zeros(0, dtype)
            arrays[info.filename.removesuffix(".npy")] = array.reshape(shape)
    return arrays


def _known_columns(videos: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The columns that this version knows, with bytes for texts: NumPy's file format can store those."""
    names = fmt.video_dtype().names or ()
    return videos.astype([(name, videos.dtype[name].str) for name in names])
