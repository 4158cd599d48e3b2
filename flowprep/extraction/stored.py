"""The stored segments of a task that runs again: those that are sound are copied, not computed."""

from __future__ import annotations

from collections.abc import Mapping

from flowprep.corpus.plan import Segment, Task
from flowprep.corpus.records import SegmentRecord, TaskRecord
from flowprep.corpus.segment_copy import copy_segment
from flowprep.corpus.shard_reader import Shard
from flowprep.corpus.shard_writer import ShardWriter
from flowprep.corpus.store import CorpusStore
from flowprep.errors import CorpusDamaged, CorpusError


class StoredSegments:
    """What an earlier run of a task has stored.

    A task of one segment has nothing to keep: it runs again because its video is not complete.

    Args:
        store: the corpus.
        task: the task.
        writer: of the task's new shard.

    Attributes:
        totals: the times of the earlier run, by stage, if a segment was kept.
    """

    def __init__(self, store: CorpusStore, task: Task, writer: ShardWriter) -> None:
        self.totals: Mapping[str, float] = {}
        self._writer = writer
        self._record = _read_record(store, task.id) if len(task.segments) > 1 else None
        self._shard: Shard | None = None
        if self._record and self._record.shard:
            try:
                shard = Shard(store.shard_path(task.id))
                self._shard = shard if shard.settings == writer.settings else None
            except (CorpusError, OSError):  # the whole task is computed again
                pass

    def copy(self, segment: Segment) -> SegmentRecord | None:
        """Copy a segment to the new shard. Returns its entry of the record; None if it is to be computed."""
        record = self._sound(segment)
        if self._shard is None or self._record is None or record is None:
            return None
        videos = self._shard.videos
        rows = videos[(videos["id"] == segment.id.encode()) & (videos["segment"] == segment.segment)]
        if len(rows) != 1:
            return None
        try:
            copy_segment(self._writer, self._shard, rows[0])
        except CorpusDamaged:
            self._writer.drop()
            return None
        self._writer.end()
        self._writer.add_software(self._shard.software)
        times = self._record.totals.items()
        self.totals = {name: value for name, value in times if name.endswith("_seconds")}
        return record

    def _sound(self, segment: Segment) -> SegmentRecord | None:
        entries = self._record.videos if self._record else ()
        matching = (e for e in entries if (e.id, e.segment) == (segment.id, segment.segment))
        return next((entry for entry in matching if entry.status == "ok"), None)


def pairs_to_compute(store: CorpusStore, task: Task) -> int:
    """The expected number of pairs that a task computes: of all its videos, or of those not stored yet."""
    record = _read_record(store, task.id) if len(task.segments) > 1 else None
    kept = {video.id for video in record.videos if video.status == "ok"} if record and record.shard else set()
    return sum(segment.estimate for segment in task.segments if segment.id not in kept)


def _read_record(store: CorpusStore, task: str) -> TaskRecord | None:
    if not store.record_path(task).exists():
        return None
    try:
        return store.read_record(task)
    except CorpusError:
        return None
