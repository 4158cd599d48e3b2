"""Opening a video file: safe formats, bounded memory, and the choice of the stream."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition

from flowprep.errors import FileUnsuitable, VideoUnreadable
from flowprep.settings import MAX_PIXELS
from flowprep.system.files import check_regular, open_regular
from flowprep.system.paths import printable
from flowprep.video.frame_folder import numbered_frames
from flowprep.video.quicktime import check_movie_header

# FFmpeg may open local files of these formats only. Playlists and other formats that name further files or
# addresses (hls, dash, concat, image2, sdp, ...) would let a video make FFmpeg read anything.
_FORMATS = (
    "mov,matroska,avi,asf,flv,gif,mpegts,mpeg,mpegvideo,mxf,ogg,yuv4mpegpipe,h264,hevc,m4v,dv,ivf,mjpeg,"
    "jpeg_pipe,apng"
)
SAFE_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": _FORMATS,
    "merge_pmt_versions": "1",  # pieces of a transport stream with other numbers go on with the same stream
}

PLANNING_BYTES = 1 << 25  # that planning reads of one video: some formats would be read to their end

_FASTEST = 1000  # frames per second: more is no rate

# Weights of `ffmpeg` (fftools, "highest resolution") when it chooses one of several video streams.
_HAS_PACKETS, _IS_DEFAULT = 100_000_000, 5_000_000


def open_video(path: Path, options: Mapping[str, str] = SAFE_OPTIONS, file: BoundedFile | None = None) -> Any:
    """Open a file with FFmpeg, as a video and nothing else.

    Text in the file, such as titles, is not needed: it may have any encoding.

    Args:
        path: the file.
        options: options of FFmpeg's demuxers.
        file: the same file with a bound; None for no bound.

    Raises:
        av.FFmpegError, OSError: the file cannot be opened, or its format is not allowed.
        VideoUnreadable: it is empty, or not a regular file. A pipe or a device might never end.
        VideoUnsuitable: its movie header would take too much memory.
    """
    size_of_video(path)
    check_movie_header(path)
    return av.open(file or os.fspath(path), options=dict(options), metadata_errors="replace")


def size_of_video(path: Path) -> int:
    """The size of a video file, bytes.

    Raises:
        OSError: there is no such file, or it cannot be looked at.
        VideoUnreadable: it is empty, or not a regular file.
    """
    try:
        size = check_regular(path).st_size
    except FileUnsuitable as exc:
        raise VideoUnreadable(printable(str(exc).replace(f"{path} ", "it ", 1))) from exc
    if size == 0:
        raise VideoUnreadable("the file is empty (0 bytes)")
    return size


def video_stream(container: Any) -> tuple[Any, str]:
    """The video stream that `ffmpeg` would decode, and a warning that names the others, or "".

    It is the stream with packets, then the default one, then the one with the most pixels, then the first.
    Attached pictures, such as the cover of an album, are no video.

    Raises:
        VideoUnreadable: there is no video stream.
    """
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        kinds = sorted({s.type for s in container.streams} - {"video"})
        kinds += ["attached picture"] if container.streams.video else []
        raise VideoUnreadable(f"no video stream (streams: {', '.join(kinds) or 'none'})")
    chosen = max(streams, key=_rank)  # the first of equals
    others = ", ".join(_describe(stream) for stream in streams if stream is not chosen)
    return chosen, others and f"stream {_describe(chosen)} is stored; other video streams: {others}"


def limit_decoder(stream: Any, max_pixels: int = MAX_PIXELS) -> None:
    """Give the decoder of a stream one thread and a bound on the size of a frame.

    The bound also holds if the size changes in the middle of the stream.
    """
    stream.codec_context.thread_count = 1  # one worker process per core uses the cores better
    stream.codec_context.options = {"max_pixels": str(max_pixels)}


def frame_rate(stream: Any) -> Fraction:
    """Declared frames per second; 0 if unknown. The average of some formats (DV) is a unit of time."""
    average = Fraction(stream.average_rate or 0)
    return average if 0 < average <= _FASTEST else Fraction(stream.guessed_rate or average)


def declared_frames(container: Any) -> int:
    """The number of frames that an open container declares, or that its duration gives; may be wrong."""
    stream, _ = video_stream(container)
    if stream.frames:
        return int(stream.frames)
    rate = float(frame_rate(stream))
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
        with BoundedFile(path, PLANNING_BYTES) as file, open_video(path, file=file) as container:
            return max(0, min(count(container), path.stat().st_size))
    except Exception:  # whatever is wrong with it: extraction gives the reason
        return 0


class BoundedFile:
    """A file that ends after a number of bytes were read, wherever they are. FFmpeg reads from it.

    Args:
        path: the file.
        max_bytes: the bound.

    Raises:
        FileUnsuitable, OSError: as `open_regular`.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.name = os.fspath(path)  # FFmpeg tells some formats by their suffix
        self._file = open_regular(path)
        self._left = max_bytes
        self.seek, self.tell = self._file.seek, self._file.tell

    def read(self, size: int) -> bytes:
        """At most `size` bytes, and none after the bound."""
        data = self._file.read(min(size, self._left))
        self._left -= len(data)
        return data

    def __enter__(self) -> BoundedFile:
        """Return the file itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._file.close()


def _rank(stream: Any) -> int:
    """A larger number for the stream that `ffmpeg` prefers."""
    has_packets = bool(
        stream.frames or len(getattr(stream, "index_entries", ())) or stream.start_time is not None
    )
    pixels = (stream.width or 0) * (stream.height or 0) if stream.codec_context else 0
    is_default = bool(stream.disposition & Disposition.default)
    return _HAS_PACKETS * has_packets + _IS_DEFAULT * is_default + pixels


def _describe(stream: Any) -> str:
    size = f" ({stream.width}x{stream.height})" if stream.codec_context else ""
    return f"{stream.index}{size}"
