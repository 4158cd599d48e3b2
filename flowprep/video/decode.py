"""Decode a video file, or a folder of numbered frames, to a stream of RGB frames.

Damage is always reported. FFmpeg conceals most of it, so four things are checked:

- the exceptions that FFmpeg raises;
- the packets and frames that it marks as corrupt;
- the number of packets against the number that the container declares;
- for formats that declare no number, or declare another number, the declared length or the end of the file.

Only what decides about the frames is checked. Titles, names and other text may be anything.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from flowprep.errors import VideoDamaged, VideoError, VideoUnreadable
from flowprep.settings import MAX_PIXELS
from flowprep.video.container import frame_rate, limit_decoder, open_video, size_of_video, video_stream
from flowprep.video.damage import NO_PTS, DamageCheck
from flowprep.video.frame_folder import check_same_size, read_frame_folder
from flowprep.video.frames import Frame, SourceFormat, check_pixels, fit_size, reason, resize
from flowprep.video.gif import read_gif_blocks
from flowprep.video.orientation import Orientation, orientation_of


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
    path: Path, start: int = 0, max_pixels: int = MAX_PIXELS, inside: Path | None = None
) -> Iterator[tuple[SourceFormat, Frame]]:
    """As `read_frames`, but at the size of the source.

    Args:
        path, start, max_pixels: as for `read_frames`.
        inside: links in a folder of frames must lead to something in this folder; None for any place.
    """
    if os.path.isdir(path):  # noqa: PTH112 - unlike Path.is_dir, it raises nothing
        return read_frame_folder(path, start, max_pixels, inside)
    return _read_file(path, start, max_pixels)


def _read_file(path: Path, start: int, max_pixels: int) -> Iterator[tuple[SourceFormat, Frame]]:
    try:
        size = size_of_video(path)
        gif = read_gif_blocks(path)
        container = open_video(path)
    except VideoError:
        raise
    except av.FFmpegError as exc:
        raise VideoUnreadable(f"not a video that can be opened: {reason(exc)}") from exc
    except Exception as exc:
        raise VideoUnreadable(reason(exc)) from exc
    with container:
        stream, warning = video_stream(container)
        if stream.codec_context is None:
            raise VideoUnreadable("no decoder for the codec that its video stream declares")
        limit_decoder(stream, max_pixels)
        check_pixels(stream.codec_context.width, stream.codec_context.height, max_pixels)
        check = DamageCheck(container, stream, path, size, gif)
        yield from _FileDecoder(stream, check, warning).frames(start)


class _FileDecoder:
    """Decodes the packets of a video stream to upright frames."""

    def __init__(self, stream: Any, check: DamageCheck, warning: str) -> None:
        self.check = check
        self.warning = warning
        self.rate = frame_rate(stream)
        slot = stream.time_base if stream.container.format.name in NO_PTS else None
        self.clock = _Clock(self.rate, slot)
        self.reformatter = av.video.reformatter.VideoReformatter()
        self.source: SourceFormat | None = None

    def frames(self, start: int) -> Iterator[tuple[SourceFormat, Frame]]:
        """Yield the frames from index `start` on. Raises as `read_frames`."""
        check = self.check
        try:
            for packet, starts_picture in check.packets():
                self.clock.add_packet(packet.dts if starts_picture else None)
                for picture in packet.decode():
                    check.check_picture(picture)
                    seconds = self.clock.tick(picture.time)
                    source, orientation = self._oriented(picture)
                    if check.num_frames > start:
                        rgb: Any = self.reformatter.reformat(picture, format="rgb24").to_ndarray()
                        yield source, Frame(orientation.apply(rgb), seconds)
            check.check_end()
        except VideoError:
            raise
        except Exception as exc:  # a fault of a decoder fails its video only
            if not check.is_complete():
                message = f"decoding stops after {check.num_frames} frames: {reason(exc)}"
                raise VideoDamaged(message, check.num_frames) from exc

    def _oriented(self, picture: Any) -> tuple[SourceFormat, Orientation]:
        """Check a frame's size against the first one. Return the source's format and the orientation."""
        orientation = orientation_of(picture)
        width, height = picture.width, picture.height
        if orientation.transposed:
            width, height = height, width
        source = self.source or SourceFormat(width, height, float(self.rate))
        check_same_size(source, width, height, self.check.num_frames - 1)
        self.source = source._replace(
            warning="; ".join(filter(None, [self.warning, self.check.describe_joins()]))
        )
        return self.source, orientation


class _Clock:
    """Time stamps that always increase: those of the container if it has them, else by the frame rate.

    Args:
        rate: frames per second; 0 if unknown.
        slot: for a container without presentation times: the unit of its decoding times, seconds. Its frames
            are shown in its slots, in order; slots without a frame repeat the one before. None for others.
    """

    def __init__(self, rate: Fraction, slot: Fraction | None) -> None:
        self.period = float(slot or (1 / rate if rate else "nan"))
        self.slots: deque[int] | None = None if slot is None else deque()
        self.count = 0
        self.last = float("nan")

    def add_packet(self, slot: int | None) -> None:
        """Note the slot of a packet that holds a frame."""
        if self.slots is not None and slot is not None:
            self.slots.append(slot)

    def tick(self, time: float | None) -> float:
        """The presentation time of the next frame, seconds.

        Args:
            time: the time stamp of the container; None if there is none.
        """
        if self.slots is not None:
            time = self.slots.popleft() * self.period if self.slots else None
        if time is not None and not time <= self.last:
            now = float(time)
        else:
            now = self.last + self.period if self.count else 0.0
        self.count += 1
        self.last = now
        return now
