"""Video files with the attributes of a corpus `Video`; their flow is computed on request."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from flowprep.engines import make_engine
from flowprep.errors import OutOfRange, VideoDamaged, VideoError, VideoUnreadable, VideoUnsuitable
from flowprep.presets import Tvl1Settings
from flowprep.settings import Settings
from flowprep.system.processes import usable_cores
from flowprep.video.decode import decode_frames
from flowprep.video.frames import Frame, SourceFormat, fit_size, read_image, resize, to_grey
from flowprep.viz.shots import FrameSource

log = logging.getLogger(__name__)

_CACHED_FRAMES = 16  # of a file, in addition to those of a pair


class FileFrames:
    """Frames of a file, a folder of numbered frames or two images, at their stored size.

    Attributes:
        id, label, width, height, num_frames, frame_rate, times_seconds: as of a corpus `Video`.
        damage: why the file ends early, or "".
    """

    def __init__(
        self,
        name: str,
        decode: Callable[[], Iterator[tuple[SourceFormat, Frame]]],
        size: str,
        num_cached: int,
    ) -> None:
        """Decode all frames once for their number and times.

        Args:
            name: the id.
            decode: gives all frames from the first one on. It is called again for each step back.
            size: as `Settings.size`.
            num_cached: number of frames in memory.
        """
        self.id, self.label, self.damage = name, "", ""
        self._decode = decode
        stream = decode()
        source, frame = next(stream)
        times = [frame.pts_seconds]
        try:
            for source, later in stream:  # noqa: B007 - the last one has all warnings
                times.append(later.pts_seconds)
        except VideoDamaged as exc:
            self.damage = str(exc)
        if source.warning:
            log.warning("%s: %s", name, source.warning)
        self.width, self.height = fit_size(source, size)
        self.frame_rate = source.frame_rate
        self.times_seconds = np.array(times)
        self.num_frames = len(times)
        self._stream = decode()
        self._next = 0
        self._cache: deque[npt.NDArray[np.uint8]] = deque(maxlen=num_cached)

    def rgb(self, index: int) -> npt.NDArray[np.uint8]:
        """Frame `index`: (H, W, 3) uint8. Rising indices are fast; a step back decodes from the beginning.

        Raises:
            OutOfRange: there is no such frame.
        """
        if not 0 <= index < self.num_frames:
            raise OutOfRange(f"frame {index} of {self.id}; it has frames 0 to {self.num_frames - 1}")
        if index < self._next - len(self._cache):
            self._stream, self._next = self._decode(), 0
            self._cache.clear()
        while self._next <= index:
            _, frame = next(self._stream)
            self._cache.append(resize(frame.rgb, self.width, self.height))
            self._next += 1
        return self._cache[index - self._next]


class ComputedVideo:
    """Frames with flow that is computed on request.

    Args:
        frames: the frames of a file or of a corpus `Video`.
        engine, tvl1: the solver and its parameters.
        step: number of frames from the first to the second frame of a pair.

    Raises:
        VideoUnsuitable: there are too few frames for a pair.
    """

    def __init__(self, frames: FrameSource, engine: str, tvl1: Tvl1Settings, step: int) -> None:
        self.id, self.label, self.damage = frames.id, frames.label, frames.damage
        self.width, self.height = frames.width, frames.height
        self.num_frames, self.frame_rate = frames.num_frames, frames.frame_rate
        self.times_seconds = frames.times_seconds
        self.rgb = frames.rgb
        self.step = step
        self.num_pairs = frames.num_frames - step
        if self.num_pairs < 1:
            raise VideoUnsuitable(
                f"{frames.id}: too few frames: {frames.num_frames}; one pair at step {step} needs {step + 1}"
            )
        self._engine = make_engine(engine, tvl1, usable_cores())

    def flow(self, start: int, count: int) -> npt.NDArray[np.float32]:
        """Flow of the pairs from `start` on: (count, 2, H, W) float32, pixels."""
        grey = np.stack([to_grey(self.rgb(i)) for i in range(start, start + count + self.step)])
        first = np.arange(count)
        return self._engine.solve(grey, first, first + self.step)


def open_file(path: Path, settings: Settings) -> FileFrames:
    """The frames of a video file or of a folder of numbered frames.

    Raises:
        VideoUnreadable: the file cannot be read.
    """
    num_cached = _CACHED_FRAMES + settings.step
    try:
        return FileFrames(path.name, lambda: decode_frames(path), settings.size, num_cached)
    except VideoError as exc:
        raise VideoUnreadable(f"{path}: {exc}") from exc


def open_image_pair(first: Path, second: Path, settings: Settings) -> FileFrames:
    """Two images as a video of two frames.

    Raises:
        VideoUnreadable: an image cannot be read, or their sizes differ.
    """
    images = [read_image(path) for path in (first, second)]
    if images[0].shape != images[1].shape:
        sizes = (f"{image.shape[1]}x{image.shape[0]}" for image in images)
        raise VideoUnreadable(
            f"{first} and {second} are {' and '.join(sizes)} pixels; both images of a pair need one size"
        )
    source = SourceFormat(images[0].shape[1], images[0].shape[0], 0.0)
    frames = [(source, Frame(image, float("nan"))) for image in images]
    return FileFrames(f"{first.name} to {second.name}", lambda: iter(frames), settings.size, _CACHED_FRAMES)
