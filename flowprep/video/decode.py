"""Where data enters: a video file, or a folder of numbered frames, becomes a stream of RGB frames.

Damage is never passed over. FFmpeg conceals most of it, so four things are checked: the exceptions that
it raises, the packets and frames that it marks as corrupt, the packets read against the count that the
container declares, and, for formats that declare none, the length or the end of the file.
"""

from __future__ import annotations

import heapq
import itertools
import os
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
import numpy.typing as npt

from flowprep.errors import VideoDamaged, VideoUnreadable, VideoUnsuitable
from flowprep.settings import MAX_SIDE, MIN_SIDE, MOST_PIXELS, stored_size
from flowprep.system.paths import printable
from flowprep.video.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES

# What FFmpeg may open: files, and as these alone. Playlists and other formats that name further files or
# addresses (hls, dash, concat, image2, sdp, ...) would let a video make it read what it likes.
_FORMATS = "mov,matroska,avi,asf,flv,gif,mpegts,mpeg,mpegvideo,mxf,ogg,yuv4mpegpipe,h264,hevc,m4v,dv"
_OPEN_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": _FORMATS}

# Containers whose time stamps are those of decoding, not of showing: their frames come at a fixed rate.
_NO_PTS = frozenset({"avi"})
# Decoders of these give one frame for each packet that is not discarded; others may hide frames.
_FRAME_PER_PACKET = frozenset({"h264", "hevc"})


class Frame(NamedTuple):
    """One frame.

    Attributes:
        rgb: (H, W, 3) uint8.
        pts_seconds: when it is shown, from the container's clock; NaN where there is none.
    """

    rgb: npt.NDArray[np.uint8]
    pts_seconds: float


class Source(NamedTuple):
    """What is known of a video once its first frame is read.

    Attributes:
        width, height: pixels as shown, rotation applied.
        frame_rate: frames per second as declared; 0 where unknown.
    """

    width: int
    height: int
    frame_rate: float


def estimate_frames(path: Path) -> int:
    """The number of frames that a video declares, without decoding it; 0 when it cannot be told.

    For planning only: `read_frames` finds the true number.
    """
    try:
        if path.is_dir():
            return len(numbered_frames(path))
        with _open(path) as container:
            # No format stores a frame in less than a byte: a file may declare what it likes.
            return max(0, min(_declared_frames(container), path.stat().st_size))
    except (av.FFmpegError, OSError, IndexError, ValueError, OverflowError, VideoUnreadable):
        return 0


def _declared_frames(container: Any) -> int:
    stream = container.streams.video[0]
    if stream.frames:
        return int(stream.frames)
    rate = float(stream.average_rate or 0)
    if stream.duration and stream.time_base:
        return round(float(stream.duration * stream.time_base) * rate)
    return round((container.duration or 0) / av.time_base * rate)


def read_frames(path: Path, size: str, start: int = 0) -> Iterator[tuple[Source, Frame]]:
    """Decode a video, or a folder of numbered frames, in the order in which it is shown.

    Args:
        path: a file that FFmpeg reads, or a folder as `numbered_frames` takes it.
        size: stored size, as in `Settings.size`. Every frame has it.
        start: the first frame to yield. Those before are decoded and checked, since seeking is not exact in
            every container, but not converted.

    Yields:
        The source (the same each time) and a frame.

    Raises:
        VideoUnreadable: nothing can be decoded.
        VideoUnsuitable: the stored size would be under 16 pixels.
        VideoDamaged: after the clean frames, when the rest is missing or corrupt.
    """
    stored: tuple[int, int] | None = None
    for source, frame in decode_frames(path, start):
        stored = stored or fit(source, size)
        yield source, frame._replace(rgb=resize(frame.rgb, *stored))


def decode_frames(path: Path, start: int = 0) -> Iterator[tuple[Source, Frame]]:
    """As `read_frames`, at the source's size, whatever that is."""
    return _read_folder(path, start) if path.is_dir() else _read_file(path, start)


def fit(source: Source, size: str) -> tuple[int, int]:
    """(width, height) in which a source's frames are stored.

    Args:
        source: of the video.
        size: as in `Settings.size`.

    Raises:
        VideoUnsuitable: that is under 16 pixels on a side, or more than JPEG or MOST_PIXELS allow.
    """
    stored = stored_size(size, source.width, source.height)
    if min(stored) < MIN_SIDE:
        raise VideoUnsuitable(
            f"too small: {stored[0]}x{stored[1]} pixels at size {size}; at least {MIN_SIDE} on each"
            " side are needed (a size such as short:256 enlarges)"
        )
    if max(stored) > MAX_SIDE or stored[0] * stored[1] > MOST_PIXELS:
        raise VideoUnsuitable(
            f"too large: {stored[0]}x{stored[1]} pixels at size {size}; at most {MAX_SIDE} on a side and"
            f" {MOST_PIXELS} in all are taken"
        )
    return stored


def resize(image: npt.NDArray[np.uint8], width: int, height: int) -> npt.NDArray[np.uint8]:
    """Resize (H, W) or (H, W, C): pixel-area averages down (no aliasing), bilinear up."""
    if image.shape[:2] == (height, width):
        return image
    down = width * height < image.shape[0] * image.shape[1]
    method = cv2.INTER_AREA if down else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=method), np.uint8)


def read_image(path: Path) -> npt.NDArray[np.uint8]:
    """An image file as (H, W, 3) uint8, RGB.

    Raises:
        VideoUnreadable: it is no image that OpenCV reads.
    """
    data = np.fromfile(path, np.uint8)
    try:
        bgr = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except cv2.error as exc:
        raise VideoUnreadable(f"{path} cannot be read: {_reason(exc)}") from exc
    if bgr is None:
        raise VideoUnreadable(f"{path} is no image")
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def to_grey(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """(H, W, 3) RGB to (H, W) luma of ITU-R BT.601, rounded: what flow is computed from."""
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)


def numbered_frames(folder: Path) -> list[Path]:
    """The images of a folder of numbered frames, in order.

    The folder holds images of one name pattern, `<prefix><number><suffix>`, and no gap in the numbers.

    Raises:
        VideoUnreadable: there is none, more than one pattern, a number missing or given twice.
    """
    series = _series(folder)
    if len(series) != 1:
        found = printable(", ".join(sorted(f"{a}<number>{b}" for a, b in series))) or "none"
        raise VideoUnreadable(f"a folder of frames needs one series of numbered images; found: {found}")
    (numbered,) = series.values()
    numbered.sort()
    numbers = [n for n, _ in numbered]
    for before, after in itertools.pairwise(numbers):
        if after != before + 1:
            what = f"frame {after} is there twice" if after == before else f"frame {before + 1} is missing"
            raise VideoUnreadable(f"{what}: the images run from {numbers[0]} to {numbers[-1]}")
    return [path for _, path in numbered]


def is_frame_folder(folder: Path, nested: bool = False) -> bool:
    """Whether a folder is taken as a video: one series of numbered images, and no video or folder in it.

    Of a folder that was not named but found (`nested`), fewer than ten images with gaps are passed over: they
    are somebody's figures rather than a video that lost frames.
    """
    if any(p.is_dir() or p.suffix.lower() in VIDEO_SUFFIXES for p in folder.iterdir()):
        return False
    series = list(_series(folder).values())
    if len(series) != 1 or len(series[0]) < 2:
        return False
    numbers = sorted(n for n, _ in series[0])
    return not nested or len(numbers) >= 10 or numbers[-1] - numbers[0] == len(numbers) - 1


def _series(folder: Path) -> dict[tuple[str, str], list[tuple[int, Path]]]:
    """Numbered images of a folder by what stands before and behind the number."""
    series: dict[tuple[str, str], list[tuple[int, Path]]] = {}
    for path in folder.iterdir():
        match = re.fullmatch(r"(.*?)(\d+)", path.stem)
        if match and path.suffix.lower() in IMAGE_SUFFIXES:
            series.setdefault((match[1], path.suffix), []).append((int(match[2]), path))
    return series


def _read_folder(folder: Path, start: int) -> Iterator[tuple[Source, Frame]]:
    source: Source | None = None
    for index, path in enumerate(numbered_frames(folder)):
        try:
            data = path.read_bytes()
            bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
        except (OSError, cv2.error) as exc:
            raise VideoDamaged(f"{printable(path.name)} cannot be read: {_reason(exc)}", index) from exc
        if bgr is None:
            raise VideoDamaged(f"{printable(path.name)} cannot be decoded", index)
        rgb = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
        source = source or Source(rgb.shape[1], rgb.shape[0], 0.0)
        _check_size(source, rgb.shape[1], rgb.shape[0], index)
        if index >= start:
            yield source, Frame(rgb, float("nan"))


def _read_file(path: Path, start: int) -> Iterator[tuple[Source, Frame]]:
    try:
        size = path.stat().st_size
        if size == 0:
            raise VideoUnreadable("the file is empty (0 bytes)")
        container = _open(path)
    except av.FFmpegError as exc:
        raise VideoUnreadable(f"not a video that can be opened: {_reason(exc)}") from exc
    except (OSError, ValueError, MemoryError) as exc:
        raise VideoUnreadable(_reason(exc)) from exc
    with container:
        if not container.streams.video:
            kinds = ", ".join(sorted({s.type for s in container.streams})) or "none"
            raise VideoUnreadable(f"no video stream (streams: {kinds})")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise VideoUnreadable("no decoder for the codec that its video stream declares")
        stream.codec_context.thread_count = 1  # a worker per core makes better use of the cores
        stream.codec_context.options = {"max_pixels": str(MOST_PIXELS)}  # also where the size changes
        _check_pixels(stream.codec_context.width, stream.codec_context.height)
        yield from _decode(container, stream, path, size, start)


def _open(path: Path) -> Any:
    """Open a file with FFmpeg, as a video and nothing else.

    Raises:
        av.FFmpegError, OSError: it cannot be opened, or is of no format that is allowed.
        VideoUnreadable: it is no regular file; a pipe or a device might never end.
    """
    if not path.is_file():
        path.stat()  # says so if there is none
        raise VideoUnreadable("not a regular file")
    return av.open(os.fspath(path), options=dict(_OPEN_OPTIONS))


def _decode(container: Any, stream: Any, path: Path, size: int, start: int) -> Iterator[tuple[Source, Frame]]:
    reformatter = av.video.reformatter.VideoReformatter()
    rate = Fraction(stream.average_rate or stream.guessed_rate or 0)
    by_rate = container.format.name in _NO_PTS
    clock = _Clock(rate, by_rate)
    # Time stamps of packets whose frames have not come yet: a later frame before them means that they were
    # dropped, since frames come in the order in which they are shown.
    awaited: list[int] = []
    one_each = stream.codec_context.name in _FRAME_PER_PACKET and stream.frames > 0 and not by_rate
    frames = packets = end = 0
    source: Source | None = None
    try:
        for packet in container.demux(stream):
            if packet.size or packet.dts is not None:  # the last one is empty and flushes the decoder
                packets += 1
                end = (packet.pos or 0) + packet.size
                if packet.is_corrupt:
                    raise VideoDamaged(f"a packet is corrupt, after {frames} clean frames", frames)
                if one_each and packet.pts is not None and not packet.is_discard:
                    heapq.heappush(awaited, packet.pts)
            for picture in packet.decode():
                if picture.is_corrupt:
                    raise VideoDamaged(f"frame {frames} is corrupt", frames)
                while awaited and picture.pts is not None and awaited[0] <= picture.pts:
                    if heapq.heappop(awaited) < picture.pts:
                        raise VideoDamaged(f"frame {frames} could not be decoded", frames)
                frames += 1
                now = clock.tick(picture.time)
                quarter_turns = round(picture.rotation / 90)
                width, height = picture.width, picture.height
                if quarter_turns % 2:
                    width, height = height, width
                source = source or Source(width, height, float(rate))
                _check_size(source, width, height, frames - 1)
                if frames > start:
                    rgb = reformatter.reformat(picture, format="rgb24").to_ndarray()
                    yield source, Frame(np.ascontiguousarray(np.rot90(rgb, quarter_turns), np.uint8), now)
    except (av.FFmpegError, OSError, ValueError, MemoryError) as exc:
        raise VideoDamaged(f"decoding stops after {frames} frames: {_reason(exc)}", frames) from exc
    if frames == 0:
        raise VideoUnreadable(f"no frame could be decoded from {packets} packets")
    kind = container.format.name
    declared = (stream.duration or 0) if kind == "mxf" else stream.frames  # MXF's unit of time is a frame
    # Some files with sound declare one frame more than they have.
    if packets < declared - 1:
        raise VideoDamaged(f"cut short: {packets} of {declared} declared frames are there", frames)
    if missing := _missing(path, size, kind, end):
        raise VideoDamaged(f"cut short: {missing}", frames)
    if awaited:
        raise VideoDamaged(f"the last {len(awaited)} frames could not be decoded", frames)


class _Clock:
    """Time stamps that always increase: the container's own where it has them, else the frame rate's."""

    def __init__(self, rate: Fraction, by_rate: bool) -> None:
        self.period = float(1 / rate) if rate else float("nan")
        self.by_rate = by_rate
        self.count = 0
        self.last = float("nan")

    def tick(self, time: float | None) -> float:
        """The time of the next frame, in seconds."""
        if self.by_rate:
            now = self.count * self.period
        elif time is not None and not time <= self.last:
            now = float(time)
        else:
            now = self.last + self.period if self.count else 0.0
        self.count += 1
        self.last = now
        return now


def _check_pixels(width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise VideoUnsuitable(f"{width}x{height} pixels are declared; at most {MOST_PIXELS} are taken")


def _check_size(source: Source, width: int, height: int, index: int) -> None:
    if (width, height) != (source.width, source.height):
        first = f"{source.width}x{source.height}"
        raise VideoDamaged(f"frame {index} is {width}x{height}, the first is {first}", index)


def _missing(path: Path, size: int, kind: str, end: int) -> str:
    """What the end of a file lacks that does not declare its frames; `end` is the end of the last packet."""
    if kind == "yuv4mpegpipe" and end < size:
        return f"{size - end} bytes behind the last frame are no whole frame"
    if kind == "gif":
        with path.open("rb") as file:
            file.seek(max(0, size - 64))
            if not file.read().rstrip(b"\0").endswith(b";"):
                return "the mark that ends every GIF is missing"
    missing = _matroska_missing(path, size)
    return f"{missing} bytes of the declared length are missing" if missing else ""


def _matroska_missing(path: Path, size: int) -> int:
    """Bytes that a Matroska or WebM file declares (RFC 8794, RFC 9559) and does not have; else 0."""
    with path.open("rb") as file:
        head = file.read(4096)
    if head[:4] != b"\x1a\x45\xdf\xa3":
        return 0
    position = 4
    length, position = _ebml_size(head, position)
    position += length or 0
    if head[position : position + 4] != b"\x18\x53\x80\x67":  # the segment, which holds all the rest
        return 0
    length, position = _ebml_size(head, position + 4)
    return max(0, position + length - size) if length is not None else 0


def _ebml_size(data: bytes, position: int) -> tuple[int | None, int]:
    """An EBML element's length (None: unknown, as in live streams) and the position behind it."""
    octets = 9 - data[position].bit_length()
    value = int.from_bytes(data[position : position + octets], "big") - (1 << 7 * octets)
    unknown = value == (1 << 7 * octets) - 1
    return (None if unknown else value), position + octets


def _reason(exc: Exception) -> str:
    """The cause without the path, which the caller names."""
    text = getattr(exc, "strerror", None) or str(exc)
    return printable(str(text).strip()) or type(exc).__name__
