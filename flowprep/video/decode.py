"""Decode a video file, or a folder of numbered frames, to a stream of RGB frames.

Damage is always reported. FFmpeg conceals most of it, so four things are checked:

- the exceptions that FFmpeg raises;
- the packets and frames that it marks as corrupt;
- the number of packets against the number that the container declares;
- for formats that declare no number, the declared length or the end of the file.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from flowprep.errors import VideoDamaged, VideoUnreadable
from flowprep.settings import MAX_PIXELS
from flowprep.video.frame_folder import check_same_size, numbered_frames, read_frame_folder
from flowprep.video.frames import Frame, SourceFormat, check_pixels, fit_size, reason, resize
from flowprep.video.truncation import describe_truncation

# FFmpeg may open local files of these formats only. Playlists and other formats that name further files or
# addresses (hls, dash, concat, image2, sdp, ...) would let a video make FFmpeg read anything.
_FORMATS = (
    "mov,matroska,avi,asf,flv,gif,mpegts,mpeg,mpegvideo,mxf,ogg,yuv4mpegpipe,h264,hevc,m4v,dv,ivf,mjpeg,apng"
)
SAFE_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": _FORMATS}

# The time stamps of these containers are decoding times, not presentation times. Their frame rate is fixed.
_NO_PTS = frozenset({"avi"})
# These decoders return one frame for each packet that is not discarded; other decoders may hide frames.
_FRAME_PER_PACKET = frozenset({"h264", "hevc"})


def read_frames(
    path: Path, size: str, start: int = 0, max_pixels: int = MAX_PIXELS
) -> Iterator[tuple[SourceFormat, Frame]]:
    """Decode a video, or a folder of numbered frames, at its stored size, in presentation order.

    Args:
        path: a file that FFmpeg reads, or a folder as for `numbered_frames`.
        size: stored size, as in `Settings.size`. Every frame has it.
        start: index of the first frame to yield. Earlier frames are decoded and checked but not converted,
            because seeking is not exact in every container.
        max_pixels: the largest frame that is decoded, width times height.

    Yields:
        The format of the source (the same each time) and a frame.

    Raises:
        VideoUnreadable: nothing can be decoded.
        VideoUnsuitable: a frame is larger than `max_pixels`, or the stored size is not allowed.
        VideoDamaged: raised after all intact frames were yielded, if the rest is missing or corrupt.
    """
    stored: tuple[int, int] | None = None
    for source, frame in decode_frames(path, start, max_pixels):
        stored = stored or fit_size(source, size)
        yield source, frame._replace(rgb=resize(frame.rgb, *stored))


def decode_frames(
    path: Path, start: int = 0, max_pixels: int = MAX_PIXELS
) -> Iterator[tuple[SourceFormat, Frame]]:
    """As `read_frames`, but at the size of the source."""
    if path.is_dir():
        return read_frame_folder(path, start, max_pixels)
    return _read_file(path, start, max_pixels)


def declared_frames(container: Any) -> int:
    """The number of frames that an open container declares, or that its duration gives; may be wrong."""
    stream = container.streams.video[0]
    if stream.frames:
        return int(stream.frames)
    rate = float(stream.average_rate or 0)
    if stream.duration and stream.time_base:
        return round(float(stream.duration * stream.time_base) * rate)
    return round((container.duration or 0) / av.time_base * rate)


def estimate_frames(path: Path, count: Callable[[Any], int] = declared_frames) -> int:
    """The number of frames that a video declares; 0 if it is unknown. Nothing is decoded.

    Planning uses it. The true number is known after `read_frames`.

    Args:
        path: a video file, or a folder of numbered frames.
        count: reads the number from an open container. It is limited to the size of the file in bytes, as no
            format stores a frame in less than a byte.
    """
    try:
        if path.is_dir():
            return len(numbered_frames(path))
        with open_video(path) as container:
            return max(0, min(count(container), path.stat().st_size))
    except (av.FFmpegError, OSError, IndexError, ValueError, OverflowError, VideoUnreadable):
        return 0


def open_video(path: Path, options: Mapping[str, str] = SAFE_OPTIONS) -> Any:
    """Open a file with FFmpeg, as a video and nothing else.

    Args:
        path: the file.
        options: options of FFmpeg's demuxers.

    Raises:
        av.FFmpegError, OSError: the file cannot be opened, or its format is not allowed.
        VideoUnreadable: it is not a regular file. A pipe or a device might never end.
    """
    if not path.is_file():
        path.stat()  # raises FileNotFoundError if there is none
        raise VideoUnreadable("it is not a regular file")
    return av.open(os.fspath(path), options=dict(options))


def limit_decoder(stream: Any, max_pixels: int = MAX_PIXELS) -> None:
    """Give the decoder of a stream one thread and a bound on the size of a frame.

    The bound also holds if the size changes in the middle of the stream.
    """
    stream.codec_context.thread_count = 1  # one worker process per core uses the cores better
    stream.codec_context.options = {"max_pixels": str(max_pixels)}


def _read_file(path: Path, start: int, max_pixels: int) -> Iterator[tuple[SourceFormat, Frame]]:
    try:
        size = path.stat().st_size
        if size == 0:
            raise VideoUnreadable("the file is empty (0 bytes)")
        container = open_video(path)
    except av.FFmpegError as exc:
        raise VideoUnreadable(f"not a video that can be opened: {reason(exc)}") from exc
    except (OSError, ValueError, MemoryError) as exc:
        raise VideoUnreadable(reason(exc)) from exc
    with container:
        if not container.streams.video:
            kinds = ", ".join(sorted({s.type for s in container.streams})) or "none"
            raise VideoUnreadable(f"no video stream (streams: {kinds})")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise VideoUnreadable("no decoder for the codec that its video stream declares")
        limit_decoder(stream, max_pixels)
        check_pixels(stream.codec_context.width, stream.codec_context.height, max_pixels)
        yield from _FileDecoder(container, stream, path, size).frames(start)


class _FileDecoder:
    """Decodes the video stream of one open container and checks it for damage."""

    def __init__(self, container: Any, stream: Any, path: Path, size: int) -> None:
        self.container = container
        self.stream = stream
        self.path = path
        self.size = size
        self.kind = container.format.name
        has_no_pts = self.kind in _NO_PTS
        self.rate = Fraction(stream.average_rate or stream.guessed_rate or 0)
        self.clock = _Clock(self.rate, fixed_rate=has_no_pts)
        self.reformatter = av.video.reformatter.VideoReformatter()
        # Time stamps of packets whose frames were not returned yet. Frames come in presentation order: a
        # frame with a later time stamp shows that the decoder dropped an earlier one.
        self.expected_pts: list[int] = []
        self.expects_frame_per_packet = (
            stream.codec_context.name in _FRAME_PER_PACKET and stream.frames > 0 and not has_no_pts
        )
        self.num_packets = 0
        self.num_frames = 0
        self.packets_end = 0
        self.source: SourceFormat | None = None

    def frames(self, start: int) -> Iterator[tuple[SourceFormat, Frame]]:
        """Yield the frames from index `start` on. Raises as `read_frames`."""
        try:
            for packet in self.container.demux(self.stream):
                self._check_packet(packet)
                for picture in packet.decode():
                    self._check_picture(picture)
                    seconds = self.clock.tick(picture.time)
                    source, quarter_turns = self._oriented(picture)
                    self.num_frames += 1
                    if self.num_frames > start:
                        rgb = self.reformatter.reformat(picture, format="rgb24").to_ndarray()
                        upright = np.ascontiguousarray(np.rot90(rgb, quarter_turns), np.uint8)
                        yield source, Frame(upright, seconds)
        except (av.FFmpegError, OSError, ValueError, MemoryError) as exc:
            message = f"decoding stops after {self.num_frames} frames: {reason(exc)}"
            raise VideoDamaged(message, self.num_frames) from exc
        self._check_end()

    def _check_packet(self, packet: Any) -> None:
        if not packet.size and packet.dts is None:  # the last packet is empty and flushes the decoder
            return
        self.num_packets += 1
        self.packets_end = (packet.pos or 0) + packet.size
        if packet.is_corrupt:
            raise VideoDamaged(f"a packet is corrupt, after {self.num_frames} clean frames", self.num_frames)
        if self.expects_frame_per_packet and packet.pts is not None and not packet.is_discard:
            heapq.heappush(self.expected_pts, packet.pts)

    def _check_picture(self, picture: Any) -> None:
        index = self.num_frames
        if picture.is_corrupt:
            raise VideoDamaged(f"frame {index} is corrupt", index)
        while self.expected_pts and picture.pts is not None and self.expected_pts[0] <= picture.pts:
            if heapq.heappop(self.expected_pts) < picture.pts:
                raise VideoDamaged(f"frame {index} could not be decoded", index)

    def _oriented(self, picture: Any) -> tuple[SourceFormat, int]:
        """Check a frame's size against the first one. Return the source's format and the quarter turns."""
        quarter_turns = round(picture.rotation / 90)
        width, height = picture.width, picture.height
        if quarter_turns % 2:
            width, height = height, width
        self.source = self.source or SourceFormat(width, height, float(self.rate))
        check_same_size(self.source, width, height, self.num_frames)
        return self.source, quarter_turns

    def _check_end(self) -> None:
        frames, packets = self.num_frames, self.num_packets
        if frames == 0:
            raise VideoUnreadable(f"no frame could be decoded from {packets} packets")
        # MXF's unit of time is a frame.
        declared = (self.stream.duration or 0) if self.kind == "mxf" else self.stream.frames
        # Some files with sound declare one frame more than they have.
        if packets < declared - 1:
            raise VideoDamaged(f"cut short: {packets} of {declared} declared frames are there", frames)
        if missing := describe_truncation(self.path, self.size, self.kind, self.packets_end):
            raise VideoDamaged(f"cut short: {missing}", frames)
        if self.expected_pts:
            raise VideoDamaged(f"the last {len(self.expected_pts)} frames could not be decoded", frames)


class _Clock:
    """Time stamps that always increase: those of the container if it has them, else by the frame rate."""

    def __init__(self, rate: Fraction, fixed_rate: bool) -> None:
        self.period = float(1 / rate) if rate else float("nan")
        self.fixed_rate = fixed_rate
        self.count = 0
        self.last = float("nan")

    def tick(self, time: float | None) -> float:
        """The presentation time of the next frame, seconds.

        Args:
            time: the time stamp of the container; None if there is none.
        """
        if self.fixed_rate:
            now = self.count * self.period
        elif time is not None and not time <= self.last:
            now = float(time)
        else:
            now = self.last + self.period if self.count else 0.0
        self.count += 1
        self.last = now
        return now
