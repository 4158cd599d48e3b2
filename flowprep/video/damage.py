"""Checks of a video file for damage, packet by packet and picture by picture while it is decoded."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flowprep.errors import VideoDamaged, VideoUnreadable
from flowprep.video.avi import AviPictures, describe_loss
from flowprep.video.field_pairs import FieldPairs
from flowprep.video.gif import GifBlocks
from flowprep.video.transport import piece_end
from flowprep.video.truncation import describe_truncation

# The time stamps of these containers are decoding times, not presentation times.
NO_PTS = frozenset({"avi"})
# These decoders return one frame for each packet that is not discarded; other decoders may hide frames.
_FRAME_PER_PACKET = frozenset({"h264", "hevc"})

# These decoders mark a picture that lacks a part.
_TELLS_MISSING_PARTS = frozenset({"h264", "mpeg1video", "mpeg2video"})
_LONGEST_LOSS = 1  # second: a longer gap before a picture that needs no other one is no lost packet


class DamageCheck:
    """Checks the video stream of one open container.

    Args:
        container, stream: of PyAV.
        path, size: of the file.
        gif: its blocks, if it is a GIF.

    Attributes:
        num_frames: number of pictures that were checked.
        joins: numbers of pictures after which another piece of an MPEG transport stream follows.
    """

    def __init__(self, container: Any, stream: Any, path: Path, size: int, gif: GifBlocks | None) -> None:
        self.num_frames = 0
        self.joins: list[int] = []
        self._container, self._stream = container, stream
        self._path, self._size, self._gif = path, size, gif
        self._kind = container.format.name
        self._indexed = sum(entry.size > 0 for entry in getattr(stream, "index_entries", ()))
        self._num_packets = self._num_pictures = self._packets_end = self._slots = 0
        self._last_dts: int | None = None
        self._dts_step = 0
        self._lone_field: int | None = None
        codec = stream.codec_context
        self._fields = FieldPairs(codec.extradata or b"") if codec.name == "h264" else None
        # Time stamps of packets whose frames were not returned yet. Frames come in presentation order: a
        # frame with a later time stamp shows that the decoder dropped an earlier one.
        self._expected_pts: list[int] = []
        self._expects_frame_per_packet = (
            codec.name in _FRAME_PER_PACKET and stream.frames > 0 and self._kind not in NO_PTS
        )

    def packets(self) -> Iterator[tuple[Any, bool]]:
        """The packets of the stream, and whether a packet starts a picture that is to be shown.

        Raises:
            VideoDamaged: a packet is corrupt, or packets before it are missing.
        """
        doubtful: list[Any] = []
        for packet in self._demux():
            if doubtful:
                self._check_join(doubtful, packet)
            if packet.is_corrupt and self._kind != "mpegts":
                message = f"a packet is corrupt, after {self.num_frames} clean frames"
                raise VideoDamaged(message, self.num_frames)
            if packet.is_corrupt or (doubtful and not packet.is_keyframe):
                doubtful.append(packet)
                continue
            for each in [*doubtful, packet]:
                yield each, self._register(each)
            doubtful = []

    def _demux(self) -> Iterator[Any]:
        try:
            yield from self._container.demux(self._stream)
        except IndexError as exc:  # PyAV knows the streams that were there when the file was opened
            message = f"another stream begins within the file, after {self.num_frames} clean frames"
            raise VideoDamaged(message, self.num_frames) from exc

    def check_picture(self, picture: Any) -> None:
        """Check a decoded picture, and count it.

        Raises:
            VideoDamaged: the picture is corrupt, or one before it is missing.
        """
        index = self.num_frames
        if picture.is_corrupt:
            jump = ", after a jump of the continuity counter" if self.joins else ""
            raise VideoDamaged(f"frame {index} is corrupt{jump}", index)
        while self._expected_pts and picture.pts is not None and self._expected_pts[0] <= picture.pts:
            if heapq.heappop(self._expected_pts) < picture.pts:
                raise VideoDamaged(f"frame {index} could not be decoded", index)
        self.num_frames += 1

    def is_complete(self) -> bool:
        """Whether the file has told its number of pictures, and all were decoded: the rest is no video."""
        gif = self._gif
        return gif is not None and not gif.fault and self.num_frames >= gif.images > 0

    def check_end(self) -> None:
        """Check the whole file after its last packet.

        Raises:
            VideoUnreadable: there was no picture.
            VideoDamaged: pictures are missing.
        """
        frames, packets = self.num_frames, self._num_packets
        if frames == 0:
            raise VideoUnreadable(f"no frame could be decoded from {packets} packets")
        if missing := self._describe_missing():
            raise VideoDamaged(f"cut short: {missing}", frames)
        if self._expected_pts == [self._lone_field]:
            return
        if self._expected_pts:
            raise VideoDamaged(f"the last {len(self._expected_pts)} frames could not be decoded", frames)

    def describe_joins(self) -> str:
        """A warning about the pieces of a transport stream; "" if it is one piece."""
        if not self.joins:
            return ""
        places = ", ".join(map(str, self.joins[:5])) + (" ..." if len(self.joins) > 5 else "")
        return f"the file is joined from pieces: the continuity counter jumps after picture {places}"

    def _register(self, packet: Any) -> bool:
        """Count a packet. False if it completes the picture of the packet before, or is empty."""
        if not packet.size and packet.dts is None:  # the last packet is empty and flushes the decoder
            return False
        self._num_packets += 1
        self._packets_end = (packet.pos or 0) + packet.size
        if packet.dts is not None:
            self._slots = max(self._slots, packet.dts + 1)
            self._dts_step = packet.dts - (packet.dts if self._last_dts is None else self._last_dts)
            self._last_dts = packet.dts
        if self._fields and self._fields.is_second_field(bytes(packet)):
            return False
        # The decoder returns no picture for half a picture at the end.
        self._lone_field = packet.pts if self._fields and self._fields.is_half else None
        self._num_pictures += 1
        if self._expects_frame_per_packet and packet.pts is not None and not packet.is_discard:
            heapq.heappush(self._expected_pts, packet.pts)
        return True

    def _check_join(self, doubtful: list[Any], following: Any) -> None:
        """Tell pieces that were joined from packets that were lost, where a continuity counter jumps.

        FFmpeg marks the packet before the jump as corrupt, or the one before that, as its parser looks ahead.
        At a join the counter jumps after a whole packet, and nowhere else. Then comes a picture that needs no
        other one, at the next time, or at a distant one, which no loss explains.
        """
        if following.is_keyframe:
            end = piece_end(self._path, doubtful[0].pos, following.pos)
            is_whole = end.jumps and (end.padded or self._stream.codec_context.name in _TELLS_MISSING_PARTS)
            if is_whole and not self._lacks_time(doubtful[-1].dts, following.dts):
                self.joins.append(self._num_pictures + len(doubtful))
                return
        elif following.size and len(doubtful) < 2:
            return  # the next packet decides
        raise VideoDamaged(
            f"packets are missing: the continuity counter of the transport stream jumps near frame"
            f" {self._num_pictures}",
            self.num_frames,
        )

    def _lacks_time(self, before: int | None, after: int | None) -> bool:
        """Whether pictures are missing between two decoding times."""
        if before is None or after is None:
            return True
        gap = after - before
        return bool(self._dts_step * 5 / 4 < gap <= _LONGEST_LOSS / self._stream.time_base)

    def _describe_missing(self) -> str:
        packets, stream = self._num_packets, self._stream
        if self._kind == "avi":
            pictures = AviPictures(stream.index, packets, self._slots, stream.frames, self._indexed)
            return describe_loss(self._path, self._size, pictures)
        # MXF's unit of time is a frame.
        declared = (stream.duration or 0) if self._kind == "mxf" else stream.frames
        if self._gif:
            declared = self._gif.images
            if self._gif.fault:
                return self._gif.fault
        # Some files with sound declare one frame more than they have.
        if packets < declared - 1:
            return f"{packets} of {declared} declared frames are there"
        return describe_truncation(self._path, self._size, self._kind, self._packets_end)
