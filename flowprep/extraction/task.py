"""One task, from start to published shard: the only place where the stages meet.

    decode_frames -> batches -> engine.solve -> encode_pair -> ShardWriter -> shard, then record

Each stage runs ahead of the next in a thread of its own, so decoding, flow and encoding overlap; all of them
work on batches of pairs, so memory does not grow with a video's length.
"""

from __future__ import annotations

import itertools
import queue
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from flowprep import __version__
from flowprep.codec.clipping import clipping_warning, count_clipped
from flowprep.codec.quantise import encode_pair
from flowprep.corpus import format as fmt
from flowprep.corpus.plan import Segment, Task
from flowprep.corpus.records import SegmentRecord, ShardRecord, TaskRecord
from flowprep.corpus.shard_writer import ShardWriter
from flowprep.corpus.store import CorpusStore
from flowprep.engines import make_engine
from flowprep.engines.base import Engine
from flowprep.errors import EngineError, UsageError, VideoDamaged, VideoError, VideoUnsuitable
from flowprep.planning.tasks import source_state
from flowprep.settings import IMPORTED, Settings
from flowprep.stabilisation import homographies, without_camera
from flowprep.system.atomic import file_digest
from flowprep.video.decode import decode_frames
from flowprep.video.frames import Frame, SourceFormat, fit_size, resize, to_grey

T = TypeVar("T")


class Batch(NamedTuple):
    """Consecutive frames on their way through the stages.

    Attributes:
        source: of the video.
        frames: the frames that this batch adds.
        grey: (F, H, W) uint8: the last `step` frames of the batch before, then those of this one.
        flow: (P, 2, H, W) float32, of the F - step pairs that end in this batch, then backward if that is
            stored; none before they are computed.
        cameras: (P, 3, 3), the camera's motion taken off each, if the settings say so.
    """

    source: SourceFormat
    frames: list[Frame]
    grey: npt.NDArray[np.uint8]
    flow: npt.NDArray[np.float32] = np.zeros((0, 2, 1, 1), np.float32)
    cameras: npt.NDArray[np.float64] | None = None


@dataclass(frozen=True)
class TaskOptions:
    """How a task is run: without influence on what is stored of a video that is taken.

    Attributes:
        threads: pairs whose flow is computed at the same time.
        timeout_seconds: a video that takes longer fails; 0 for no limit.
        scratch: a folder on a disk near by, where the shard is built; None for the corpus itself.
        accept_changed: take files that have another size than when they were planned.
        refused: ids of videos that are not to be tried, and why.
        device: the number of the GPU that engine cuda uses; the first one if None.
    """

    threads: int = 1
    timeout_seconds: float = 0
    scratch: Path | None = None
    accept_changed: bool = False
    refused: Mapping[str, str] = field(default_factory=dict)
    device: int | None = None


def run_task(
    store: CorpusStore,
    task: Task,
    settings: Settings,
    options: TaskOptions = TaskOptions(),
    progress: Path | None = None,
) -> TaskRecord:
    """Extract a task's videos, publish the shard and then the record.

    Args:
        store: the corpus, with its plan.
        task: one of the plan's.
        settings: the plan's.
        options: how it is run.
        progress: a file that always holds the number of pairs done so far.

    Returns:
        The record, as it was written.

    Raises:
        EngineError, OSError: the engine or the disk failed. Nothing was published.
        UsageError: the flow was imported, so that no engine can make it again.
    """
    if settings.engine == IMPORTED:
        raise UsageError(
            f"the flow of {store.path} was imported: what is pending is done by the command that made it,"
            " `flowprep import` (what failed, with --retry-failed) or a copy of one"
        )
    path = store.shard_path(task.id)
    with ShardWriter(path, settings, software(settings), options.scratch) as writer:
        extractor = _Extractor(writer, settings, options, progress)
        return store_task(store, task, writer, extractor.feed, extractor.seconds)


def dry_run(
    store: CorpusStore, task: str, segment: Segment, settings: Settings, options: TaskOptions
) -> None:
    """Take one segment and store nothing: what it does to a process is then known.

    Raises:
        EngineError, OSError: as `run_task`. A bad video raises nothing.
    """
    path = store.shard_path(task)
    with ShardWriter(path, settings, software(settings), options.scratch) as writer:
        _take(segment, writer, _Extractor(writer, settings, options, None).feed)


def store_task(
    store: CorpusStore,
    task: Task,
    writer: ShardWriter,
    feed: Callable[[Segment], str | None],
    seconds: defaultdict[str, float],
) -> TaskRecord:
    """Write a task's segments, publish the shard and then the record.

    Args:
        store: the corpus.
        task: one of its plan's.
        writer: of the task's shard.
        feed: adds the images of a segment, which is begun, to the writer; what it returns is recorded as a
            warning, and a VideoError that it raises as the video's.
        seconds: by stage; `write` is added.

    Returns:
        The record, as it was written.

    Raises:
        EngineError, OSError: the engine or the disk failed. Nothing was published.
    """
    began = time.perf_counter()
    shard: ShardRecord | None = None
    videos: list[SegmentRecord] = []
    for segment in task.segments:
        before = time.perf_counter()
        videos.append(_take(segment, writer, feed))
        store.log(task.id, _line(videos[-1], time.perf_counter() - before))
    if writer.videos:
        with _timed(seconds, "write"):
            size = writer.publish()
        shard = ShardRecord(writer.path.name, size, file_digest(writer.path))
    totals: Counter[str] = Counter()
    for video in videos:
        totals.update(frames=video.frames, pairs=video.pairs)
        for stream, size in video.bytes.items():
            totals["rgb_bytes" if stream == "rgb" else "flow_bytes"] += size
    fields = [stream for stream in fmt.STREAMS if stream != "rgb"]
    totals["flow_float32_bytes"] = sum(
        sum(row[f"{s}_count"] for s in fields) * row.get("width", 0) * row.get("height", 0) * 4
        for row in writer.videos
    )
    totals["shard_bytes"] = shard.bytes if shard else 0
    record = TaskRecord(
        task=task.id,
        shard=shard,
        videos=tuple(videos),
        totals={
            **totals,
            **{f"{stage}_seconds": round(s, 3) for stage, s in seconds.items()},
            "total_seconds": round(time.perf_counter() - began, 3),
        },
        finished=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    store.write_record(record)
    took = f"{totals['pairs']} pairs, {totals['shard_bytes']} bytes, {time.perf_counter() - began:.2f} s"
    store.log(task.id, f"done: {took}")
    return record


def _take(segment: Segment, writer: ShardWriter, feed: Callable[[Segment], str | None]) -> SegmentRecord:
    """Write one segment. Returns its entry in the record, where a bad video fails."""
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
        warning = feed(segment) or ""
    except VideoDamaged as exc:
        if not settings.keep_partial or exc.frames_before < least_frames(settings):
            writer.drop()
            return _entry(segment, "failed", str(exc), {})
        writer.cut(max(0, exc.frames_before - segment.first_frame))
        writer.describe(partial=1)
        status, reason = "partial", str(exc)
    except VideoError as exc:
        writer.drop()
        return _entry(segment, "failed", str(exc), {})
    except EngineError as exc:
        raise EngineError(f"{segment.id}: {exc}") from exc
    return _entry(segment, status, reason, writer.end(), warning)


def least_frames(settings: Settings) -> int:
    """The fewest frames that make a video."""
    return 1 + (settings.step if settings.flow else 0)


class _Extractor:
    """Takes the segments of a task, one after the other, into one writer.

    Attributes:
        seconds: time spent in each stage; stages overlap, so the sum may exceed the whole.
    """

    def __init__(
        self, writer: ShardWriter, settings: Settings, options: TaskOptions, progress: Path | None
    ) -> None:
        self.writer = writer
        self.settings = settings
        self.options = options
        self.engine = self._make_engine()
        self.progress = progress
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._pairs_done = 0

    def feed(self, segment: Segment) -> str:
        """Take a segment into the writer, if its file is what was planned and stays so. Returns a warning."""
        if reason := self.options.refused.get(segment.id):
            raise VideoUnsuitable(reason)
        size, modified = state = source_state(Path(segment.path))
        if size and segment.source_bytes not in (0, size) and not self.options.accept_changed:
            raise VideoUnsuitable(
                f"the file has {size} bytes and had {segment.source_bytes} when it was planned;"
                " `flowprep retry --failed` takes it as it is now"
            )
        touched = segment.modified_ns not in (0, modified) and not self.options.accept_changed
        if size and touched and segment.segments > 1:
            raise VideoUnsuitable(
                "the file was changed since it was planned, and its segments might not go together;"
                " `flowprep retry --failed` takes it as it is now"
            )
        try:
            warning = self._run(segment)
        except VideoUnsuitable:
            self.engine = self._make_engine()  # a thread that was left behind may still be using the other
            raise
        if (now := source_state(Path(segment.path))) != state:
            raise VideoUnsuitable(f"the file changed while it was read, from {size} to {now[0]} bytes")
        if touched:
            said = "the file was changed since it was planned, and is taken as it is now"
            warning = f"{warning}; {said}" if warning else said
        return warning

    def _make_engine(self) -> Engine | None:
        settings, options = self.settings, self.options
        if not settings.flow:
            return None
        return make_engine(settings.engine, settings.tvl1, options.threads, options.device)

    def _run(self, segment: Segment) -> str:
        """Run a segment through the stages into the writer. Returns what is wrong with the codes' range."""
        limit = self.options.timeout_seconds or None
        decoded = _ahead(self._batches(segment), limit=limit)
        batches = _ahead(map(self._solve, decoded), limit=limit) if self.engine else decoded
        frames = values = 0
        clipped = count_clipped(np.zeros(0, np.float32), self.settings)
        last = segment.count or sys.maxsize  # frames behind it only complete the last pairs
        for batch in batches:
            source = batch.source
            self.writer.describe(
                source_width=source.width, source_height=source.height, frame_rate=source.frame_rate
            )
            with _timed(self.seconds, "jpeg"):
                for frame in batch.frames[: max(0, last - frames)]:
                    self.writer.add_frame(frame.rgb, frame.pts_seconds)
            with _timed(self.seconds, "codes"):  # quantised and made JPEG in one pass
                for i, pair in enumerate(batch.flow):
                    u, v = encode_pair(pair, self.settings)
                    camera = None if batch.cameras is None else batch.cameras[i]
                    backward = i >= len(batch.grey) - self.settings.step
                    self.writer.add_pair(u, v, backward=backward, camera=camera)
                clipped += count_clipped(batch.flow, self.settings)
                values += batch.flow.size
            frames += len(batch.frames)
            self._pairs_done += max(0, len(batch.grey) - self.settings.step)
            if self.progress:
                self.progress.write_text(str(self._pairs_done))
        least = least_frames(self.settings)
        if segment.segment == 0 and frames < least:
            raise VideoUnsuitable(
                f"too few frames: {frames}; one pair at step {self.settings.step} needs {least}"
            )
        return clipping_warning(clipped, values, self.settings)

    def _batches(self, segment: Segment) -> Iterator[Batch]:
        """Decode a segment's frames, and `step` more to complete its last pairs.

        Damage is raised behind the clean frames.
        """
        step = self.settings.step
        video = decode_frames(Path(segment.path), segment.first_frame)
        stream = itertools.islice(video, segment.count + step if segment.count else None)
        most = self.engine or Engine
        before: list[npt.NDArray[np.uint8]] = []
        frames: list[Frame] = []
        greys: list[npt.NDArray[np.uint8]] = []
        stored: tuple[int, int] | None = None
        damage: VideoDamaged | None = None
        while True:
            with _timed(self.seconds, "decode"):
                try:
                    item = next(stream, None)
                except VideoDamaged as exc:
                    item, damage = None, exc
            if item:
                with _timed(self.seconds, "resize"):
                    source, frame = item
                    stored = stored or fit_size(source, self.settings.size)
                    frames.append(frame._replace(rgb=resize(frame.rgb, *stored)))
                    greys.append(to_grey(frames[-1].rgb))
            size = greys[0].size if greys else 0
            if frames and (
                not item or len(frames) >= min(most.batch_pairs, max(1, most.batch_pixels // size))
            ):
                yield Batch(source, frames, np.stack(before + greys))
                before = (before + greys)[-step:]
                frames, greys = [], []
            if not item:
                break
        if damage:
            raise damage

    def _solve(self, batch: Batch) -> Batch:
        """Add the flow of the pairs that the batch completes."""
        assert self.engine is not None
        step = self.settings.step
        pairs = max(0, len(batch.grey) - step)
        if pairs == 0:
            return batch
        first = np.arange(pairs)
        second = first + step
        there_and_back = first, second
        if self.settings.backward:
            there_and_back = np.concatenate([first, second]), np.concatenate([second, first])
        cameras = None
        with _timed(self.seconds, "flow"):
            flow = self.engine.solve(batch.grey, *there_and_back)
        if self.settings.stabilise:
            with _timed(self.seconds, "stabilise"):
                cameras = homographies(batch.grey, first, second, flow[:pairs])
                if self.settings.backward:
                    cameras = np.concatenate([cameras, np.linalg.inv(cameras)])
                flow = without_camera(flow, cameras)
        return batch._replace(flow=flow, cameras=cameras)


def software(settings: Settings) -> dict[str, str]:
    """Versions of everything that the bytes of a shard depend on."""
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


def _entry(
    segment: Segment, status: str, reason: str, row: dict[str, Any], warning: str = ""
) -> SegmentRecord:
    """What the record says of one segment."""
    return SegmentRecord(
        id=segment.id,
        status=status,
        segment=segment.segment,
        segments=segment.segments,
        reason=reason,
        warning=warning,
        frames=row.get("num_frames", 0),
        pairs=row.get("num_pairs", 0),
        bytes=row.get("bytes", {}),
    )


def _line(entry: SegmentRecord, seconds: float) -> str:
    """What the log says of one segment."""
    part = f" (segment {entry.segment + 1} of {entry.segments})" if entry.segments > 1 else ""
    text = f"{entry.id}{part}: {entry.status}, {entry.frames} frames, {entry.pairs} pairs"
    return "; ".join(filter(None, [f"{text}, {seconds:.2f} s", entry.reason, entry.warning]))


def _ahead(items: Iterable[T], depth: int = 1, limit: float | None = None) -> Iterator[T]:
    """Pass items on while a thread already makes the next `depth`; its exception is raised in turn.

    Raises:
        VideoUnsuitable: the last item is not there after `limit` seconds. What makes it may hang in a
            decoder, so the thread is left behind.
    """
    deadline = time.monotonic() + limit if limit else None
    made: queue.Queue[tuple[str, Any]] = queue.Queue(depth)
    stop = threading.Event()

    def put(kind: str, value: Any) -> bool:
        while not stop.is_set():
            with suppress(queue.Full):
                made.put((kind, value), timeout=0.1)
                return True
        return False

    def make() -> None:
        try:
            if all(put("item", item) for item in items):
                put("end", None)
        except BaseException as exc:
            put("error", exc)

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    late = False
    try:
        while True:
            left = deadline - time.monotonic() if deadline else None
            try:
                if left is not None and left <= 0:
                    raise queue.Empty
                kind, value = made.get(timeout=left)
            except queue.Empty:
                late = True
                raise VideoUnsuitable(f"took longer than {limit:g} s") from None
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
    finally:
        stop.set()
        if not late:
            thread.join()


@contextmanager
def _timed(seconds: defaultdict[str, float], stage: str) -> Iterator[None]:
    began = time.perf_counter()
    try:
        yield
    finally:
        seconds[stage] += time.perf_counter() - began
