"""A task, from its start to the published shard and record."""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from flowprep import __version__
from flowprep.corpus.plan import Segment, Task
from flowprep.corpus.records import SegmentRecord, ShardRecord, TaskRecord
from flowprep.corpus.shard_writer import ShardWriter
from flowprep.corpus.store import CorpusStore
from flowprep.errors import EngineError, UsageError, VideoDamaged, VideoError, VideoUnsuitable
from flowprep.extraction.pipeline import Pipeline, ReadFrames, TaskOptions, min_frames, timed
from flowprep.extraction.stored import StoredSegments
from flowprep.planning.sources import source_state
from flowprep.settings import IMPORTED, Settings
from flowprep.system.atomic import file_digest
from flowprep.system.signals import raise_if_stopped

__all__ = ["TaskOptions", "dry_run", "run_task", "software", "store_segment", "store_task"]

log = logging.getLogger(__name__)

DEFAULT_OPTIONS = TaskOptions()

# Writes the images of a segment and returns a warning, or nothing; raises VideoError.
WriteSegment = Callable[[Segment], "str | None"]


def run_task(
    store: CorpusStore,
    task: Task,
    settings: Settings,
    options: TaskOptions = DEFAULT_OPTIONS,
    progress: Path | None = None,
    read_frames: ReadFrames | None = None,
) -> TaskRecord:
    """Extract the videos of a task. Publish the shard, then the record.

    Args:
        store: the corpus, with its plan.
        task: a task of the plan.
        settings: of the plan.
        options: of the run.
        progress: a file that always contains the number of pairs done so far.
        read_frames: the decoder; None for `decode_frames`.

    Returns:
        The record that was written.

    Raises:
        EngineError, OSError: the engine or the disk failed. Nothing was published.
        UsageError: the flow was imported, so that no engine can compute it again.
    """
    if settings.engine == IMPORTED:
        raise UsageError(
            f"the flow of {store.path} was imported. Pending videos are stored by the command that made the"
            " corpus: `flowprep import` (failed videos: with --retry-failed), or a copy of a corpus"
        )
    with ShardWriter(store.shard_path(task.id), settings, software(settings), options.scratch) as writer:
        pipeline = Pipeline(writer, settings, options, progress, read_frames)
        return store_task(store, task, writer, pipeline.write_segment, pipeline.seconds)


def dry_run(
    store: CorpusStore, task: str, segment: Segment, settings: Settings, options: TaskOptions
) -> None:
    """Extract one segment and store nothing, to find out whether it kills the process.

    Args:
        store: the corpus.
        task: id of the segment's task.
        segment: the segment.
        settings: of the plan.
        options: of the run.

    Raises:
        EngineError, OSError: as `run_task`. A bad video raises nothing.
    """
    with ShardWriter(store.shard_path(task), settings, software(settings), options.scratch) as writer:
        store_segment(segment, writer, Pipeline(writer, settings, options).write_segment)


def store_task(
    store: CorpusStore,
    task: Task,
    writer: ShardWriter,
    write_segment: WriteSegment,
    seconds: defaultdict[str, float],
) -> TaskRecord:
    """Write the segments of a task. Publish the shard, then the record.

    If the task ran before, the videos that are stored whole are copied. Only the others are written anew.

    Args:
        store: the corpus.
        task: a task of its plan.
        writer: of the task's shard.
        write_segment: writes the images of a segment that the writer has begun. Its return value becomes the
            warning of the segment. A VideoError fails the segment.
        seconds: time by stage; `write` is added.

    Returns:
        The record that was written.

    Raises:
        EngineError, OSError: the engine or the disk failed. Nothing was published.
    """
    began = time.perf_counter()
    shard: ShardRecord | None = None
    segments: list[SegmentRecord] = []
    stored = StoredSegments(store, task, writer)
    for segment in task.segments:
        start = time.perf_counter()
        with timed(seconds, "write"):
            kept = stored.copy(segment)
        segments.append(kept or store_segment(segment, writer, write_segment))
        store.log(task.id, _describe(segments[-1], time.perf_counter() - start, bool(kept)))
    if not writer.empty:
        with timed(seconds, "write"):
            store.drop_record(task.id)
            size = writer.publish()
        shard = ShardRecord(writer.path.name, size, file_digest(writer.path))
    totals = _totals(segments, writer.flow_float32_bytes, shard)
    seconds["total"] += time.perf_counter() - began
    times = dict(stored.totals)
    for stage, spent in seconds.items():
        times[f"{stage}_seconds"] = times.get(f"{stage}_seconds", 0) + spent
    record = TaskRecord(
        task=task.id,
        shard=shard,
        videos=tuple(segments),
        totals={**totals, **{name: round(spent, 3) for name, spent in times.items()}},
        finished=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    store.write_record(record)
    duration = time.perf_counter() - began
    store.log(task.id, f"done: {totals['pairs']} pairs, {totals['shard_bytes']} bytes, {duration:.2f} s")
    return record


def store_segment(segment: Segment, writer: ShardWriter, write_segment: WriteSegment) -> SegmentRecord:
    """Write one segment. A bad video fails, whatever its error is, and leaves nothing in the shard.

    Args:
        segment: the segment.
        writer: of its shard.
        write_segment: as in `store_task`.

    Raises:
        EngineError, OSError: the engine or the disk failed.
    """
    settings = writer.settings
    status, reason, warning = "ok", "", ""
    writer.begin(
        id=segment.id,
        label=segment.label,
        source=segment.source,
        source_bytes=source_state(Path(segment.path))[0],
        step=settings.step,
        segment=segment.segment,
        segments=segment.segments,
        first_frame=segment.first_frame,
    )
    try:
        warning = write_segment(segment) or ""
    except VideoDamaged as exc:
        if not settings.keep_partial or exc.frames_before < min_frames(settings):
            return _failed(segment, writer, exc)
        writer.cut(max(0, exc.frames_before - segment.first_frame))
        writer.describe(partial=1)
        status, reason = "partial", str(exc)
    except VideoError as exc:
        raise_if_stopped(exc)
        return _failed(segment, writer, exc)
    except EngineError as exc:
        raise EngineError(f"{segment.id}: {exc}") from exc
    except OSError:  # of the disk: a source that cannot be read is a VideoError
        raise
    except Exception as exc:  # whatever is wrong with one video, the others are stored
        raise_if_stopped(exc)
        log.debug("video %s", segment.id, exc_info=True)
        return _failed(segment, writer, VideoUnsuitable(f"{type(exc).__name__}: {exc}"))
    stored = writer.end()
    return SegmentRecord(
        segment.id,
        status,
        segment.segment,
        segment.segments,
        reason=reason,
        warning=warning,
        frames=stored.frames,
        pairs=stored.pairs,
        bytes=stored.bytes,
    )


def software(settings: Settings) -> dict[str, str]:
    """The versions of all software that has an influence on the bytes of a shard."""
    packages = ["av", "numpy", "opencv-contrib-python-headless", "opencv-contrib-python"]
    if settings.flow and (settings.engine == "cpu" or settings.codes == "adaptive"):
        packages.append("numba")
    if settings.flow and settings.engine == "cuda":
        packages.append("nvidia-cuda-nvrtc")
    versions = {"flowprep": __version__}
    for package in packages:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


def _failed(segment: Segment, writer: ShardWriter, exc: VideoError) -> SegmentRecord:
    writer.drop()
    return SegmentRecord(segment.id, "failed", segment.segment, segment.segments, reason=str(exc))


def _totals(
    segments: list[SegmentRecord], flow_float32_bytes: int, shard: ShardRecord | None
) -> Counter[str]:
    """The sums of a record, without the times."""
    totals: Counter[str] = Counter()
    for segment in segments:
        totals.update(frames=segment.frames, pairs=segment.pairs)
        for stream, size in segment.bytes.items():
            totals["rgb_bytes" if stream == "rgb" else "flow_bytes"] += size
    totals["flow_float32_bytes"] = flow_float32_bytes
    totals["shard_bytes"] = shard.bytes if shard else 0
    return totals


def _describe(segment: SegmentRecord, seconds: float, kept: bool) -> str:
    """The line of the log for one segment."""
    part = f" (segment {segment.segment + 1} of {segment.segments})" if segment.segments > 1 else ""
    status = "kept as it is" if kept else segment.status
    text = f"{segment.id}{part}: {status}, {segment.frames} frames, {segment.pairs} pairs"
    return "; ".join(filter(None, [f"{text}, {seconds:.2f} s", segment.reason, segment.warning]))
