"""The pipeline: from the frames of a segment to encoded images in a shard.

    decode -> resize, grey -> batches -> engine.solve -> encode_pair -> ShardWriter

Each stage prefetches in its own thread, so that decoding, flow and encoding overlap. All stages work on
batches of pairs, so that memory does not grow with the length of a video.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flowprep.codec.clipping import clipping_warning, count_clipped
from flowprep.codec.quantise import encode_pair
from flowprep.corpus.plan import Segment
from flowprep.corpus.shard_writer import ShardWriter
from flowprep.engines import make_engine
from flowprep.engines.base import Engine
from flowprep.errors import VideoDamaged, VideoError, VideoUnreadable, VideoUnsuitable
from flowprep.extraction.prefetch import prefetch
from flowprep.extraction.source_guard import SourceGuard
from flowprep.settings import Settings
from flowprep.stabilisation import estimate_homographies, subtract_camera_motion
from flowprep.video.decode import decode_frames
from flowprep.video.frames import Frame, SourceFormat, fit_size, resize, to_grey

# Yields the frames of a video, from a number on; raises VideoError.
ReadFrames = Callable[[Path, int], Iterator[tuple[SourceFormat, Frame]]]


@dataclass(frozen=True)
class TaskOptions:
    """Options of a run that have no influence on the stored data of a good video.

    Attributes:
        threads: the number of pairs whose flow is computed at the same time.
        timeout_seconds: a video that takes longer fails; 0 for no limit.
        scratch: a folder on a local disk, in which the shard is built; None for the corpus itself.
        accept_changed: accept files that have changed since they were planned.
        refused: reason by id, for videos that must not be tried.
        device: the number of the GPU that engine cuda uses; the first one if None.
    """

    threads: int = 1
    timeout_seconds: float = 0
    scratch: Path | None = None
    accept_changed: bool = False
    refused: Mapping[str, str] = field(default_factory=dict)
    device: int | None = None


class Batch(NamedTuple):
    """Consecutive frames on their way through the stages.

    Attributes:
        source: the format of the video.
        frames: the frames that this batch adds.
        grey: (F, H, W) uint8: the last `step` frames of the previous batch, then the frames of this one.
        flow: (P, 2, H, W) float32, pixels: of the F - step pairs that end in this batch, then backward flow
            if it is stored. P is 0 before the flow is computed.
        cameras: (P, 3, 3) float64: the camera motion that was removed from each; None without `stabilise`.
    """

    source: SourceFormat
    frames: list[Frame]
    grey: npt.NDArray[np.uint8]
    flow: npt.NDArray[np.float32] = np.zeros((0, 2, 1, 1), np.float32)
    cameras: npt.NDArray[np.float64] | None = None


def min_frames(settings: Settings) -> int:
    """The smallest number of frames of a video that can be stored."""
    return 1 + (settings.step if settings.flow else 0)


@contextmanager
def timed(seconds: defaultdict[str, float], stage: str) -> Iterator[None]:
    """Add the duration of the block to the seconds of a stage."""
    began = time.perf_counter()
    try:
        yield
    finally:
        seconds[stage] += time.perf_counter() - began


def _input_of(segment: Segment) -> Path:
    """The input in which a folder of frames was found, or the folder. Images elsewhere are not read."""
    if "/" in segment.source and segment.path.endswith(f"/{segment.source}"):
        return Path(segment.path.removesuffix(segment.source))
    return Path(segment.path)


@contextmanager
def _errors_of_video() -> Iterator[None]:
    """Raise VideoUnreadable for every error while a video is read: no permission, or a bug of a decoder."""
    try:
        yield
    except VideoError:
        raise
    except OSError as exc:
        raise VideoUnreadable(f"it cannot be read: {exc.strerror or exc}") from exc
    except Exception as exc:
        raise VideoUnreadable(f"it cannot be read: {type(exc).__name__}: {exc}") from exc


class Pipeline:
    """Writes the segments of a task, one after the other, into one shard.

    Args:
        writer: of the shard.
        settings: of the corpus.
        options: of the run.
        progress: a file that always contains the number of pairs done so far; None for no file.
        read_frames: the decoder; None for `decode_frames`.

    Attributes:
        seconds: the time spent in each stage. Stages overlap, so the sum may exceed the elapsed time.
    """

    def __init__(
        self,
        writer: ShardWriter,
        settings: Settings,
        options: TaskOptions,
        progress: Path | None = None,
        read_frames: ReadFrames | None = None,
    ) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._writer = writer
        self._settings = settings
        self._options = options
        self._progress = progress
        self._read_frames = read_frames
        self._engine = self._make_engine()
        self._pairs_done = 0

    def write_segment(self, segment: Segment) -> str:
        """Write the images of a segment, which the writer has begun.

        Returns:
            A warning, or "".

        Raises:
            VideoError: the video cannot be stored, or not whole.
            EngineError: the engine failed.
        """
        if reason := self._options.refused.get(segment.id):
            raise VideoUnsuitable(reason)
        guard = SourceGuard(segment, self._options.accept_changed)
        try:
            warning = self._run(segment)
        except VideoUnsuitable:
            self._engine = self._make_engine()  # an abandoned thread may still be using the previous one
            raise
        guard.check_unchanged()
        return "; ".join(filter(None, [warning, guard.warning]))

    def _make_engine(self) -> Engine | None:
        settings, options = self._settings, self._options
        if not settings.flow:
            return None
        return make_engine(settings.engine, settings.tvl1, options.threads, options.device)

    def _run(self, segment: Segment) -> str:
        """Run a segment through all stages. Returns a warning about the file or about clipped flow, or ""."""
        limit = self._options.timeout_seconds or None
        decoded = prefetch(self._decode(segment), limit=limit)
        batches = prefetch(map(self._solve, decoded), limit=limit) if self._engine else decoded
        frames = values = 0
        remark = ""
        clipped = count_clipped(np.zeros(0, np.float32), self._settings)
        end = segment.count or sys.maxsize  # frames after it only complete the last pairs
        for batch in batches:
            self._write(batch, max(0, end - frames))
            remark = batch.source.warning
            clipped += count_clipped(batch.flow, self._settings)
            values += batch.flow.size
            frames += len(batch.frames)
            self._report_pairs(max(0, len(batch.grey) - self._settings.step))
        required = min_frames(self._settings)
        if segment.segment == 0 and frames < required:
            raise VideoUnsuitable(
                f"too few frames: {frames}; one pair at step {self._settings.step} needs {required}"
            )
        return "; ".join(filter(None, [remark, clipping_warning(clipped, values, self._settings)]))

    def _decode(self, segment: Segment) -> Iterator[Batch]:
        """Decode the frames of a segment, and `step` more that complete its last pairs.

        Raises:
            VideoDamaged: after all intact frames were yielded.
        """
        step = self._settings.step
        previous: list[npt.NDArray[np.uint8]] = []
        frames: list[Frame] = []
        greys: list[npt.NDArray[np.uint8]] = []
        damage: VideoDamaged | None = None
        stream = self._stored_frames(segment)
        while True:
            try:
                item = next(stream, None)
            except VideoDamaged as exc:
                item, damage = None, exc
            if item:
                source, frame = item
                frames.append(frame)
                with timed(self.seconds, "resize"):
                    greys.append(to_grey(frame.rgb))
            if frames and (not item or len(frames) >= self._batch_frames(greys[0].size)):
                yield Batch(source, frames, np.stack(previous + greys))
                previous = (previous + greys)[-step:]
                frames, greys = [], []
            if not item:
                break
        if damage:
            raise damage

    def _stored_frames(self, segment: Segment) -> Iterator[tuple[SourceFormat, Frame]]:
        """Decode the frames that a segment needs, in their stored size."""
        with _errors_of_video():
            path = Path(segment.path)
            if self._read_frames:
                video = self._read_frames(path, segment.first_frame)
            else:
                video = decode_frames(path, segment.first_frame, inside=_input_of(segment))
        stream = itertools.islice(video, segment.count + self._settings.step if segment.count else None)
        size: tuple[int, int] | None = None
        while True:
            with timed(self.seconds, "decode"), _errors_of_video():
                item = next(stream, None)
            if item is None:
                return
            with timed(self.seconds, "resize"), _errors_of_video():
                source, frame = item
                size = size or fit_size(source, self._settings.size)
                frame = frame._replace(rgb=resize(frame.rgb, *size))
            yield source, frame

    def _batch_frames(self, pixels: int) -> int:
        """The number of frames of this many pixels in one batch."""
        engine = self._engine or Engine
        return min(engine.batch_pairs, max(1, engine.batch_pixels // pixels))

    def _solve(self, batch: Batch) -> Batch:
        """Add the flow of the pairs that the batch completes."""
        assert self._engine is not None
        settings = self._settings
        pairs = max(0, len(batch.grey) - settings.step)
        if pairs == 0:
            return batch
        first = np.arange(pairs)
        second = first + settings.step
        both = first, second
        if settings.backward:
            both = np.concatenate([first, second]), np.concatenate([second, first])
        cameras = None
        with timed(self.seconds, "flow"):
            flow = self._engine.solve(batch.grey, *both)
        if settings.stabilise:
            with timed(self.seconds, "stabilise"):
                cameras = estimate_homographies(batch.grey, first, second, flow[:pairs])
                if settings.backward:
                    cameras = np.concatenate([cameras, np.linalg.inv(cameras)])
                flow = subtract_camera_motion(flow, cameras)
        return batch._replace(flow=flow, cameras=cameras)

    def _write(self, batch: Batch, max_frames: int) -> None:
        """Encode and write a batch; of its frames at most `max_frames`."""
        source, writer = batch.source, self._writer
        writer.describe(source_width=source.width, source_height=source.height, frame_rate=source.frame_rate)
        with timed(self.seconds, "jpeg"):
            for frame in batch.frames[:max_frames]:
                writer.add_frame(frame.rgb, frame.pts_seconds)
        with timed(self.seconds, "codes"):  # quantised and encoded as JPEG in one pass
            for i, pair in enumerate(batch.flow):
                u, v = encode_pair(pair, self._settings)
                camera = None if batch.cameras is None else batch.cameras[i]
                backward = i >= len(batch.grey) - self._settings.step
                writer.add_pair(u, v, backward=backward, camera=camera)

    def _report_pairs(self, pairs: int) -> None:
        self._pairs_done += pairs
        if self._progress:
            with suppress(OSError):  # another machine does not have the folder
                self._progress.write_text(str(self._pairs_done))
