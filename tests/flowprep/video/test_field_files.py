"""Real files of kinds that users reported: what is right was found with FFmpeg's own tools."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from flowprep import tvl1
from flowprep.errors import VideoDamaged
from flowprep.video.container import estimate_frames
from flowprep.video.decode import read_frames
from flowprep.video.field_pairs import FieldPairs
from flowprep.video.frames import to_grey

# Frames, size, first and last time in seconds.
FILES = {
    "handler_not_utf8.mov": (50, (192, 144), 0, 1.96),
    "avi_streamcopy_h264.avi": (25, (128, 96), 0, 0.96),
    "matrix_none.mp4": (6, (128, 96), 0, 0.5),
    "matrix_hflip.mp4": (6, (128, 96), 0, 0.5),
    "matrix_zero.mp4": (6, (128, 96), 0, 0.5),
    "cover_first.mp4": (50, (192, 144), 0, 1.96),
    "gif_nul_padding.gif": (10, (128, 96), 0, 0.9),
    "paff.mts": (24, (176, 160), 1.4, 3.24),
    "paff_remux.mp4": (24, (176, 160), 0, 1.84),
    "ts_two_files_joined.ts": (100, (128, 96), 1.48, 5.44),
    "editlist_both_ends.mp4": (25, (192, 144), 0, 0.96),
}


@pytest.mark.parametrize("name", sorted(FILES))
def test_files_of_the_field(shared_data, name):
    frames, size, first, last = FILES[name]
    items = list(read_frames(shared_data / "field" / name, "source"))
    assert len(items) == frames
    assert items[0][0][:2] == size
    assert items[0][1].pts_seconds == pytest.approx(first)
    assert items[-1][1].pts_seconds == pytest.approx(last)
    assert estimate_frames(shared_data / "field" / name) >= 0


@pytest.mark.parametrize(("name", "motion"), [("none", (3, -2)), ("hflip", (-3, -2)), ("zero", (3, -2))])
def test_the_motion_is_that_of_the_shown_picture(shared_data, name, motion):
    items = list(read_frames(shared_data / "field" / f"matrix_{name}.mp4", "source"))
    flow = tvl1(to_grey(items[1][1].rgb), to_grey(items[2][1].rgb), engine="opencv")
    assert np.median(flow, axis=(1, 2)) == pytest.approx(motion, abs=0.1)


def test_a_change_of_the_size_ends_a_video(shared_data):
    items = []
    with pytest.raises(VideoDamaged, match="frame 10 is 192x144, the first is 128x96") as caught:
        for item in read_frames(shared_data / "field" / "vp8_size_change.webm", "source"):
            items.append(item)
    assert caught.value.frames_before == len(items) == 10


def test_a_truncated_streamcopy_is_found(shared_data, tmp_path):
    data = (shared_data / "field" / "avi_streamcopy_h264.avi").read_bytes()
    end = data.index(b"idx1")
    for share in (0.4, 0.7, 0.95):
        (tmp_path / "cut.avi").write_bytes(data[: int(end * share)])
        with pytest.raises(VideoDamaged):
            list(read_frames(tmp_path / "cut.avi", "source"))


def test_a_lost_picture_of_two_fields_is_found(shared_data, tmp_path):
    """Both samples of a picture are overwritten: the decoder returns one picture less, and no error."""
    path = tmp_path / "paff.mp4"
    shutil.copy(shared_data / "field" / "paff_remux.mp4", path)
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    for start, size in ((8331, 678), (9009, 698)):  # samples 10 and 11
        data[start + 4 : start + size - 1] = b"\x0c" + bytes([0xFF]) * (size - 6)  # filler data
    path.write_bytes(data)
    with pytest.raises(VideoDamaged):
        list(read_frames(path, "source"))


def test_second_fields_are_told_from_first_ones(shared_data):
    from flowprep.video.container import open_video

    with open_video(shared_data / "field" / "paff_remux.mp4") as container:
        (stream,) = container.streams.video
        pairs = FieldPairs(stream.codec_context.extradata)
        packets = [bytes(packet) for packet in container.demux(stream) if packet.size]
    assert [pairs.is_second_field(packet) for packet in packets] == [False, True] * 24
    # A picture whose second field is lost does not take the field of the next picture.
    assert [pairs.is_second_field(packets[i]) for i in (0, 1, 2, 4, 5, 7)] == [
        False,
        True,
        False,
        False,
        True,
        False,
    ]
    both = packets[6] + packets[7]
    assert [pairs.is_second_field(packet) for packet in (both, packets[8], packets[9])] == [
        False,
        False,
        True,
    ]
    assert not pairs.is_half


@pytest.mark.parametrize("data", [b"", b"\1", b"\1dabc\xff\xe1", b"\0\0\1\x67", b"\0\0\1\x67" + bytes(300)])
def test_damaged_headers_raise_nothing(data: bytes):
    pairs = FieldPairs(data)
    for packet in (b"", b"\0", data, b"\0\0\1\x65", b"\0\0\1\x65" + b"\xff" * 9, b"\0\0\0\2\x65\xff"):
        assert not pairs.is_second_field(packet)


@pytest.mark.parametrize("name", ["handler_not_utf8.mov", "cover_first.mp4", "gif_nul_padding.gif"])
def test_a_corpus_has_them(shared_data, tmp_path, name):
    import flowprep

    path = Path(shared_data / "field" / name)
    flowprep.make_corpus([path], tmp_path / "c", flowprep.Settings(flow=False, size="source"), jobs=1)
    (video,) = flowprep.open_corpus(tmp_path / "c").values()
    assert video.num_frames == FILES[name][0]
