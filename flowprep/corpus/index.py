"""The merged index: what all records and shards say, in one file.

Shards and records are the truth; `index.npz` only spares a reader from opening 100,000 small files. A task
whose record is newer than the index is read from its own files, and the index can be deleted at any time.
"""

from __future__ import annotations

import json
import logging
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from flowprep.corpus import format as fmt
from flowprep.corpus.files import published
from flowprep.corpus.shard import Shard
from flowprep.errors import CorpusDamaged, CorpusFormatError
from flowprep.settings import Settings

log = logging.getLogger(__name__)

RECORD_FORMAT = "flowprep-record"
RECORD_VERSION = 1


@dataclass
class Index:
    """All tasks that have a record.

    Attributes:
        tasks: their ids.
        rows: the videos tables of their shards, one after the other.
        row_task: for each row, the position of its task in `tasks`.
        failures: id of each video that was not taken, wholly or in one segment, and the reason.
        partial: id of each video of which only the frames before its damage were kept, and the reason.
        totals: sums over all records, by name (frames, pairs, bytes, seconds by stage, ...).
    """

    tasks: list[str] = field(default_factory=list)
    rows: npt.NDArray[Any] = field(default_factory=lambda: _plain(np.zeros(0, fmt.video_dtype())))
    row_task: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    failures: dict[str, str] = field(default_factory=dict)
    partial: dict[str, str] = field(default_factory=dict)
    totals: dict[str, float] = field(default_factory=dict)


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
    if record["version"] > RECORD_VERSION:
        raise CorpusFormatError(f"{path.name} is a record of a newer version: install a newer flowprep")
    return record


def write_record(corpus: Path, record: dict[str, Any]) -> None:
    """Publish the record of a task: from then on the task is done."""
    path = fmt.record_path(corpus, record["task"])
    if path.exists():  # the index may hold what the former record said
        (corpus / fmt.INDEX).unlink(missing_ok=True)
    with published(path) as temporary:
        temporary.write_text(json.dumps(record, ensure_ascii=False, indent=1) + "\n", "utf-8")


def recorded_tasks(corpus: Path) -> set[str]:
    """Ids of the tasks that are done."""
    folder = corpus / fmt.RECORDS
    return {p.stem for p in folder.iterdir() if p.suffix == ".json"} if folder.is_dir() else set()


def load_index(corpus: Path) -> Index:
    """The index of what is on disk now, from `index.npz` as far as that goes."""
    tasks = recorded_tasks(corpus)
    index = _read(corpus / fmt.INDEX)
    if not set(index.tasks) <= tasks:
        index = Index()
    return _extend(index, corpus, sorted(tasks - set(index.tasks)))


def save_index(corpus: Path) -> Index:
    """Bring `index.npz` up to date, and return it."""
    index = load_index(corpus)
    head = {
        "tasks": index.tasks,
        "failures": index.failures,
        "partial": index.partial,
        "totals": index.totals,
    }
    with published(corpus / fmt.INDEX) as temporary, temporary.open("wb") as file:
        text = np.frombuffer(json.dumps(head).encode(), np.uint8)
        np.savez(file, head=text, rows=index.rows, row_task=index.row_task)
    return index


def read_settings(corpus: Path, index: Index) -> Settings:
    """The settings of a corpus: from its plan, or from a shard where there is none.

    Raises:
        CorpusFormatError: there is neither.
    """
    try:
        with (corpus / fmt.PLAN).open(encoding="utf-8") as file:
            return Settings.from_stored(json.loads(file.readline())["settings"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        if len(index.rows):
            return Shard(fmt.shard_path(corpus, index.tasks[index.row_task[0]])).settings
        raise CorpusFormatError(f"{corpus} is not a corpus: it has neither a shard nor a plan") from exc


def _read(path: Path) -> Index:
    if not path.exists():
        return Index()
    try:
        with np.load(path, allow_pickle=False) as arrays:
            head = json.loads(arrays["head"].tobytes())
            return Index(rows=arrays["rows"], row_task=arrays["row_task"], **head)
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as exc:
        log.warning("%s cannot be read (%s): reading shards and records instead", path, exc)
        return Index()


def _extend(index: Index, corpus: Path, tasks: list[str]) -> Index:
    """The index with further tasks, read from their records and shards."""
    rows, row_task = [index.rows], [index.row_task]
    for task in tasks:
        record = read_record(corpus, task)
        if record["shard"] is not None:
            videos = Shard(fmt.shard_path(corpus, task)).videos
            rows.append(_plain(videos))
            row_task.append(np.full(len(videos), len(index.tasks), np.int64))
        index.tasks.append(task)
        for video in record["videos"]:
            if video["status"] != "ok":
                kind = index.failures if video["status"] == "failed" else index.partial
                kind.setdefault(video["id"], video["reason"])
        for name, value in record["totals"].items():
            index.totals[name] = index.totals.get(name, 0) + value
    if tasks:
        index.rows, index.row_task = np.concatenate(rows), np.concatenate(row_task)
    return index


def _plain(videos: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The columns that this version knows, with bytes for texts: what NumPy's own file format can hold."""
    names = fmt.video_dtype().names or ()
    return videos.astype([(name, videos.dtype[name].str) for name in names])
