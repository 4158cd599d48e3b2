"""MPEG transport streams: pieces that were joined are sound, packets that were lost are damage."""

from __future__ import annotations

import itertools
from pathlib import Path

import av
import numpy as np
import pytest

from flowprep.errors import VideoDamaged
from flowprep.video.decode import read_frames
from tests.support.videos import texture

PACKET = 188
VIDEO = 0x100  # FFmpeg's number (PID) of the first stream


def piece(folder: Path, codec: str = "libx264", first: int = 0, options: dict | None = None) -> bytes:
    """A transport stream of 20 pictures, the later ones predicted; its counters and times start anew."""
    path = folder / f"{codec}-{first}.ts"
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.gop_size = 60
        if codec == "libx265":
            stream.codec_context.options = {"x265-params": "log-level=error"}
        for i in range(20):
            frame = av.VideoFrame.from_ndarray(texture(64, 96, 2.0 * (first + i)), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path.read_bytes()


def read(path: Path, data: bytes) -> list:
    path.write_bytes(data)
    return list(read_frames(path, "source"))


def number_of(data: bytes, index: int) -> int:
    """The number (PID) of a packet."""
    return int.from_bytes(data[PACKET * index + 1 : PACKET * index + 3], "big") & 0x1FFF


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg2video", "mpeg4"])
def test_joined_pieces_are_sound_and_told_in_a_warning(tmp_path, codec):
    data = b"".join(piece(tmp_path, codec, first) for first in (0, 20, 40))
    items = read(tmp_path / "joined.ts", data)
    assert len(items) == 60
    for i, (_, frame) in enumerate(items):
        assert np.abs(frame.rgb.astype(int) - texture(64, 96, 2.0 * i)).mean() < 9
    times = [frame.pts_seconds for _, frame in items]
    assert all(before < after for before, after in itertools.pairwise(times))
    assert items[0][0].warning == ""
    warning = "the file is joined from pieces: the continuity counter jumps after picture 20, 40"
    assert items[-1][0].warning == warning


def test_joined_pieces_with_other_stream_numbers_are_one_video(tmp_path):
    other = piece(tmp_path, first=20, options={"mpegts_start_pid": "600"})
    assert number_of(other, 5) not in (VIDEO, 0, 17)
    assert len(read(tmp_path / "joined.ts", piece(tmp_path) + other)) == 40


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg2video"])
def test_lost_packets_are_damage_and_the_reason_names_the_jump(tmp_path, codec):
    data = piece(tmp_path, codec) + piece(tmp_path, codec, 20)
    first_half = len(data) // 2 // PACKET
    video = [i for i in range(first_half) if number_of(data, i) == VIDEO]
    second = [i for i in video if data[PACKET * i + 1] & 0x40][1]  # FFmpeg marks no loss in the first picture
    named = 0
    for lost in [i for i in video if i > second][:-1:3]:
        with pytest.raises(VideoDamaged) as caught:
            read(tmp_path / "a.ts", data[: PACKET * lost] + data[PACKET * (lost + 1) :])
        assert caught.value.frames_before < 20
        named += "continuity counter" in str(caught.value)
    assert named > 0


def test_lost_pictures_before_one_that_needs_no_other_are_damage(tmp_path):
    """The pictures that remain are whole. Their times show that others are missing."""
    path = tmp_path / "whole.ts"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.gop_size = 20
        for i in range(40):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(texture(64, 96, 2.0 * i), "rgb24")))
        container.mux(stream.encode(None))
    data = path.read_bytes()
    packets = [data[at : at + PACKET] for at in range(0, len(data), PACKET)]
    kept, picture = [], -1
    for packet in packets:
        if int.from_bytes(packet[1:3], "big") & 0x1FFF == VIDEO:
            picture += bool(packet[1] & 0x40)
            if 17 <= picture < 20:
                continue
        kept.append(packet)
    assert len(read(path, data)) == 40
    with pytest.raises(VideoDamaged, match="the continuity counter of the transport stream jumps"):
        read(tmp_path / "lost.ts", b"".join(kept))
