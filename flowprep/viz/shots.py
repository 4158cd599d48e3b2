"""The videos that can be drawn, and the choice of their frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from flowprep.errors import OutOfRange, UsageError
from flowprep.viz.canvas import fitting
from flowprep.viz.colours import Flow, Image


class FrameSource(Protocol):
    """Frames of one video. The attributes are those of `flowprep.Video`."""

    @property
    def id(self) -> str:
        """Name of the video."""

    @property
    def label(self) -> str:
        """Name of its class, or ""."""

    @property
    def width(self) -> int:
        """Width of a frame, pixels."""

    @property
    def height(self) -> int:
        """Height of a frame, pixels."""

    @property
    def num_frames(self) -> int:
        """Number of frames."""

    @property
    def frame_rate(self) -> float:
        """Frames per second; 0 if not known."""

    @property
    def times_seconds(self) -> NDArray[np.float64]:
        """(num_frames,) time of each frame; NaN if not known."""

    @property
    def damage(self) -> str:
        """Why the video ends early, or ""."""

    def rgb(self, index: int) -> Image:
        """Frame `index`: (H, W, 3) uint8."""


class FlowVideo(FrameSource, Protocol):
    """Frames and flow of one video: a `flowprep.Video`, or a file whose flow is computed."""

    @property
    def step(self) -> int:
        """Number of frames from the first to the second frame of a pair."""

    @property
    def num_pairs(self) -> int:
        """Number of pairs."""

    def flow(self, start: int, count: int) -> Flow:
        """Flow of the pairs from `start` on: (count, 2, H, W) float32, pixels."""


def stored_streams(video: FlowVideo) -> tuple[bool, bool]:
    """Whether a video has frames, and whether it has flow."""
    return _is_stored(lambda: video.rgb(0)), _is_stored(lambda: video.flow(0, 1))


def _is_stored(read: Callable[[], Any]) -> bool:
    try:
        read()
    except OutOfRange:
        return False
    return True


def check_comparable(video: FlowVideo, other: FlowVideo, names: tuple[str, str]) -> None:
    """Check that two flows of a video can be compared.

    Raises:
        UsageError: one has no flow, or they differ in size or step.
    """
    for source, name in zip((video, other), names, strict=True):
        if not stored_streams(source)[1]:
            raise UsageError(f"{name} has no flow of {video.id}: there is nothing to compare")
    sizes = f"{video.width}x{video.height}", f"{other.width}x{other.height}"
    for quantity, first, second in (("size", *sizes), ("step", video.step, other.step)):
        if first != second:
            raise UsageError(
                f"{video.id} has {quantity} {first} in {names[0]} and {second} in {names[1]};"
                f" compare flows of the same {quantity}"
            )


def even_times(times: NDArray[np.float64], count: int, columns: int) -> list[int]:
    """At most `columns` indices under `count`, spread evenly in time from the first to the last.

    Args:
        times: time of each frame in seconds. If one of them is NaN, the indices are spread evenly instead.
        count: number of frames, or pairs, to choose from.
        columns: number of indices, at most.
    """
    times = times[:count] if np.isfinite(times[:count]).all() else np.arange(count, dtype=np.float64)
    if count <= columns:
        return list(range(count))
    wanted = np.linspace(times[0], times[-1], columns)
    return sorted({int(np.abs(times - time).argmin()) for time in wanted})


def time_stamp(index: int, seconds: float, size: int, room: float) -> str:
    """Time and number of a frame, shortened to the room.

    Args:
        index: number of the frame.
        seconds: its time; NaN if not known.
        size: size of the text, pixels.
        room: available width, pixels.
    """
    time = f"{seconds:.2f} s" if np.isfinite(seconds) else ""
    return fitting((" · ".join(filter(None, (time, f"frame {index}"))), time or f"{index}"), size, room)
