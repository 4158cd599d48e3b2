"""One task, from start to published shard: the only place where the stages meet.

    read_frames -> batches -> engine.solve -> encode_field -> ShardWriter -> shard, then record

Each stage runs ahead of the next in a thread of its own, so decoding, flow and encoding overlap; all of them
work on batches of pairs, so memory does not grow with a video's length.
"""

from __future__ import annotations

import itertools
import logging
import queue
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from flowprep import __version__, codec
from flowprep.corpus import format as fmt
from flowprep.corpus.files import file_digest
from flowprep.corpus.index import RECORD_FORMAT, RECORD_VERSION, write_record
from flowprep.corpus.writer import ShardWriter
from flowprep.engines import make_engine
from flowprep.errors import EngineError, VideoDamaged, VideoError, VideoUnsuitable
from flowprep.plan import Segment, Task, source_size
from flowprep.settings import Settings
from flowprep.video import Frame, Source, read_frames, to_grey

log = logging.getLogger(__name__)

T = TypeVar("T")

# A batch is this many pairs at most, and about this many pixels: enough to keep an engine busy.
BATCH_PAIRS = 32
BATCH_PIXELS = 2_000_000


class Batch(NamedTuple):
    """Consecutive frames on their way through the stages.

    Attributes:
        source: of the video.
        frames: the frames that this batch adds.
        grey: (F, H, W) uint8: the last `step` frames of the batch before, then those of this one.
        flow, flow_backward: (F - step, 2, H, W) float32, or None before they are computed.
    """

    source: Source
    frames: list[Frame]
    grey: npt.NDArray[np.uint8]
    flow: npt.NDArray[np.float32] | None = None
    flow_backward: npt.NDArray[np.float32] | None = None


def run_task(corpus: Path, task: Task, settings: Settings, progress: Path | None = None) -> dict[str, Any]:
    """Extract a task's videos, publish the shard and then the record.

    Args:
        corpus: the corpus folder, with its plan.
        task: one of the plan's.
        settings: the plan's.
        progress: a file that always holds the number of pairs done so far.

    Returns:
        The record, as it was written.

    Raises:
        EngineError, OSError: the engine or the disk failed. Nothing was published.
    """
    began = time.perf_counter()
    path = fmt.shard_path(corpus, task.id)
    shard: dict[str, Any] | None = None
    with ShardWriter(path, settings, software(settings)) as writer:
        extractor = _Extractor(writer, settings, progress)
        videos = [extractor.take(segment) for segment in task.segments]
        if writer.videos:
            with _timed(extractor.seconds, "write"):
                size = writer.publish()
            shard = {"name": path.name, "bytes": size, "sha256": file_digest(path)}
    totals: Counter[str] = Counter()
    for video in videos:
        totals.update(frames=video["frames"], pairs=video["pairs"])
        for stream, size in video["bytes"].items():
            totals["rgb_bytes" if stream == "rgb" else "flow_bytes"] += size
    totals["flow_float32_bytes"] = extractor.float32_bytes
    totals["shard_bytes"] = shard["bytes"] if shard else 0
    seconds = {**extractor.seconds, "total": time.perf_counter() - began}
    record = {
        "format": RECORD_FORMAT,
        "version": RECORD_VERSION,
        "task": task.id,
        "shard": shard,
        "videos": videos,
        "totals": {**totals, **{f"{stage}_seconds": round(s, 3) for stage, s in seconds.items()}},
    }
    write_record(corpus, record)
    return record


class _Extractor:
    """Takes the segments of a task, one after the other, into one writer.

    Attributes:
        seconds: time spent in each stage; stages overlap, so the sum may exceed the whole.
        float32_bytes: what the flow of the stored pairs would take as float32.
    """

    def __init__(self, writer: ShardWriter, settings: Settings, progress: Path | None) -> None:
        self.writer = writer
        self.settings = settings
        self.engine = make_engine(settings.engine, settings.tvl1) if settings.flow else None
        self.progress = progress
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.float32_bytes = 0
        self._pairs_done = 0

    def take(self, segment: Segment) -> dict[str, Any]:
        """Extract one segment. Returns its entry in the record, where a bad video fails."""
        status, reason = "ok", ""
        self.writer.begin(
            id=segment.id,
            label=segment.label,
            source=segment.source,
            source_bytes=source_size(Path(segment.path)),
            step=self.settings.step,
            segment=segment.segment,
            segments=segment.segments,
            first_frame=segment.first_frame,
        )
        try:
            self._feed(segment)
        except VideoDamaged as exc:
            log.info("%s: %s", segment.id, exc)
            if not self.settings.keep_partial or exc.frames_before < self._least_frames:
                self.writer.drop()
                return _entry(segment, "failed", str(exc), {})
            self.writer.cut(max(0, exc.frames_before - segment.first_frame))
            self.writer.describe(partial=1)
            status, reason = "partial", str(exc)
        except VideoError as exc:
            log.info("%s: %s", segment.id, exc)
            self.writer.drop()
            return _entry(segment, "failed", str(exc), {})
        except EngineError as exc:
            raise EngineError(f"{segment.id}: {exc}") from exc
        row = self.writer.end()
        fields = (
            row["flow_u_count"] + row["flow_v_count"] + row["flow_back_u_count"] + row["flow_back_v_count"]
        )
        self.float32_bytes += fields * row.get("width", 0) * row.get("height", 0) * 4
        return _entry(segment, status, reason, row)

    @property
    def _least_frames(self) -> int:
        return 1 + (self.settings.step if self.settings.flow else 0)

    def _feed(self, segment: Segment) -> None:
        """Run a segment through the stages into the writer."""
        decoded = _ahead(self._batches(segment))
        batches = _ahead(map(self._solve, decoded)) if self.engine else decoded
        frames = 0
        last = segment.count or sys.maxsize  # frames behind it only complete the last pairs
        for batch in batches:
            source = batch.source
            self.writer.describe(
                source_width=source.width, source_height=source.height, frame_rate=source.frame_rate
            )
            with _timed(self.seconds, "encode"):
                for frame in batch.frames[: max(0, last - frames)]:
                    self.writer.add_frame(frame.rgb, frame.pts_seconds)
                for flow, backward in ((batch.flow, False), (batch.flow_backward, True)):
                    for u, v in () if flow is None else flow:
                        encoded = codec.encode_field(u, self.settings), codec.encode_field(v, self.settings)
                        self.writer.add_pair(*encoded, backward=backward)
            frames += len(batch.frames)
            self._pairs_done += max(0, len(batch.grey) - self.settings.step)
            if self.progress:
                self.progress.write_text(str(self._pairs_done))
        if segment.segment == 0 and frames < self._least_frames:
            raise VideoUnsuitable(
                f"too few frames: {frames}; one pair at step {self.settings.step} needs {self._least_frames}"
            )

    def _batches(self, segment: Segment) -> Iterator[Batch]:
        """Decode a segment's frames, and `step` more to complete its last pairs.

        Damage is raised behind the clean frames.
        """
        step = self.settings.step
        video = read_frames(Path(segment.path), self.settings.size, segment.first_frame)
        stream = itertools.islice(video, segment.count + step if segment.count else None)
        before: list[npt.NDArray[np.uint8]] = []
        frames: list[Frame] = []
        greys: list[npt.NDArray[np.uint8]] = []
        damage: VideoDamaged | None = None
        while True:
            with _timed(self.seconds, "decode"):
                try:
                    item = next(stream, None)
                except VideoDamaged as exc:
                    item, damage = None, exc
                if item:
                    source, frame = item
                    frames.append(frame)
                    greys.append(to_grey(frame.rgb))
            size = greys[0].size if greys else 0
            if frames and (not item or len(frames) >= min(BATCH_PAIRS, max(1, BATCH_PIXELS // size))):
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
        with _timed(self.seconds, "flow"):
            if self.settings.backward:
                there_and_back = np.concatenate([first, first + step]), np.concatenate([first + step, first])
                flow = self.engine.solve(batch.grey, *there_and_back)
                return batch._replace(flow=flow[:pairs], flow_backward=flow[pairs:])
            return batch._replace(flow=self.engine.solve(batch.grey, first, first + step))


def software(settings: Settings) -> dict[str, str]:
    """Versions of everything that the bytes of a shard depend on."""
    packages = ["av", "numpy", "opencv-contrib-python-headless", "opencv-contrib-python", "pillow"]
    if settings.flow and settings.engine == "cpu":
        packages.append("numba")
    versions = {"flowprep": __version__}
    for package in packages:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


def _entry(segment: Segment, status: str, reason: str, row: dict[str, Any]) -> dict[str, Any]:
    """What the record says of one segment."""
    return {
        "id": segment.id,
        "segment": segment.segment,
        "segments": segment.segments,
        "status": status,
        "reason": reason,
        "frames": row.get("num_frames", 0),
        "pairs": row.get("num_pairs", 0),
        "bytes": row.get("bytes", {}),
    }


def _ahead(items: Iterable[T], depth: int = 1) -> Iterator[T]:
    """Pass items on while a thread already makes the next `depth`; its exception is raised in turn."""
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
    try:
        while True:
            kind, value = made.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
    finally:
        stop.set()
        thread.join()


@contextmanager
def _timed(seconds: defaultdict[str, float], stage: str) -> Iterator[None]:
    began = time.perf_counter()
    try:
        yield
    finally:
        seconds[stage] += time.perf_counter() - began
