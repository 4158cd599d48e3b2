"""AVI files: empty chunks repeat the last picture; lists, index and time stamps prove what is lost."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from flowprep.errors import VideoDamaged
from flowprep.video.decode import read_frames
from tests.support.videos import write_video


def read(path: Path) -> list[float]:
    return [frame.pts_seconds for _, frame in read_frames(path, "source")]


@pytest.fixture
def sparse(tmp_path: Path) -> Path:
    """25 pictures, in every second of 49 chunks; the others are empty."""
    return write_video(tmp_path / "sparse.avi", 25, times=list(range(0, 50, 2)))


def with_empty_end(path: Path, more: int) -> Path:
    """Let the header and the index of an AVI file have more chunks, empty ones, at the end."""
    data = bytearray(path.read_bytes())
    movi = data.index(b"movi") - 8
    end = movi + 8 + struct.unpack_from("<I", data, movi + 4)[0]
    assert data[end : end + 4] == b"idx1"
    index_length = struct.unpack_from("<I", data, end + 4)[0]
    entries = data[end + 8 : end + 8 + index_length]
    added = b"".join(b"00dc" + struct.pack("<3I", 0, end - movi - 8 + 8 * i, 0) for i in range(more))
    content = data[:end] + b"00dc\0\0\0\0" * more + b"idx1" + struct.pack("<I", len(entries + added))
    content += entries + added
    struct.pack_into("<I", content, 4, len(content) - 8)
    struct.pack_into("<I", content, movi + 4, end - movi - 8 + 8 * more)
    for name, at in ((b"strh", 40), (b"avih", 24)):  # dwLength, dwTotalFrames
        place = content.index(name) + at
        struct.pack_into("<I", content, place, struct.unpack_from("<I", content, place)[0] + more)
    path.write_bytes(content)
    return path


def as_opendml(path: Path, cut_between: int) -> Path:
    """Write an AVI file anew as two RIFF lists, with an OpenDML index. The second has the later chunks."""
    data = path.read_bytes()
    movi = data.index(b"movi")
    end = movi - 4 + 4 + struct.unpack_from("<I", data, movi - 4)[0]
    chunks, at = [], movi + 4
    while at < end:
        length = struct.unpack_from("<I", data, at + 4)[0]
        chunks.append((data[at : at + 8 + length + length % 2], length))
        at += 8 + length + length % 2
    indexes, lists = [], []
    head = bytearray(data[12 : movi - 8])
    junk = next(
        m.start()
        for m in re.finditer(b"JUNK", bytes(head))
        if struct.unpack_from("<I", head, m.start() + 4)[0] > 200
    )
    base = 12 + len(head)
    for part in (chunks[:cut_between], chunks[cut_between:]):
        body = b"".join(chunk for chunk, _ in part)
        entries, offset = b"", 0
        for chunk, length in part:
            entries += struct.pack("<2I", offset + 8, length)
            offset += len(chunk)
        first = base + 12  # LIST, length, movi
        index = b"ix00" + struct.pack("<I2BBB", 24 + len(entries), 2, 0, 0, 1) + struct.pack("<I", len(part))
        index += b"00dc" + struct.pack("<QI", first, 0) + entries
        indexes.append((first + len(body), len(index), len(part)))
        content = b"movi" + body + index
        lists.append(b"LIST" + struct.pack("<I", len(content)) + content)
        base = first + len(body) + len(index) + 12  # RIFF, length, AVIX
    table = b"".join(struct.pack("<Q2I", *entry) for entry in indexes)
    super_index = struct.pack("<HBBI", 4, 0, 0, len(indexes)) + b"00dc" + bytes(12) + table
    room = struct.unpack_from("<I", head, junk + 4)[0]
    head[junk : junk + 4] = b"indx"
    head[junk + 8 : junk + 8 + room] = super_index.ljust(room, b"\0")
    first_riff = b"AVI " + bytes(head) + lists[0]
    second = b"AVIX" + lists[1]
    path.write_bytes(b"".join(b"RIFF" + struct.pack("<I", len(riff)) + riff for riff in (first_riff, second)))
    return path


def test_empty_chunks_repeat_the_last_picture(sparse):
    assert read(sparse) == pytest.approx([i / 12.5 for i in range(25)])


@pytest.mark.parametrize("more", [1, 5, 60])
def test_empty_chunks_may_also_be_the_last_ones(sparse, more):
    assert read(with_empty_end(sparse, more)) == pytest.approx([i / 12.5 for i in range(25)])


@pytest.mark.parametrize("chunks", [10, 30, 40, 48])
def test_a_truncated_file_with_empty_chunks_is_found(tmp_path, sparse, chunks):
    data = sparse.read_bytes()
    starts = [m.start() for m in re.finditer(b"00dc", data[: data.index(b"idx1")])]
    (tmp_path / "cut.avi").write_bytes(data[: starts[chunks]])
    with pytest.raises(VideoDamaged, match=f"cut short: {chunks - 1} of 49 declared frames are there"):
        read(tmp_path / "cut.avi")
    (tmp_path / "cut.avi").write_bytes(data[: starts[chunks] + 40])
    with pytest.raises(VideoDamaged, match=r"a packet is corrupt|cut short"):
        read(tmp_path / "cut.avi")


def test_the_loss_of_one_picture_is_found(tmp_path):
    """The header alone does not prove it: some sound files declare one frame more than they have."""
    data = write_video(tmp_path / "a.avi", 20).read_bytes()
    (tmp_path / "cut.avi").write_bytes(data[: data.rindex(b"00dc", 0, data.index(b"idx1"))])
    with pytest.raises(VideoDamaged, match="19 of 20 declared frames"):
        read(tmp_path / "cut.avi")


@pytest.mark.parametrize("declared", [21, 25, 1000])
def test_a_file_whose_header_declares_too_many_is_whole_by_its_index(tmp_path, declared):
    path = write_video(tmp_path / "a.avi", 20)
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"strh") + 40, declared)
    path.write_bytes(data)
    assert len(read(path)) == 20


def test_a_picture_that_only_the_index_has_is_lost(tmp_path):
    path = write_video(tmp_path / "a.avi", 20)
    data = bytearray(path.read_bytes())
    chunks = [m.start() for m in re.finditer(b"00dc", data[: data.index(b"idx1")])]
    for start in chunks[8:11]:
        data[start : start + 4] = b"JUNK"
    path.write_bytes(data)
    with pytest.raises(VideoDamaged, match="17 of 20 frames of its index are there"):
        read(path)


def test_a_file_that_declares_no_number_is_cut_by_its_list(tmp_path):
    path = write_video(tmp_path / "a.avi", 20)
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"strh") + 40, 0)
    path.write_bytes(data)
    assert len(read(path)) == 20
    path.write_bytes(data[: data.rindex(b"00dc", 0, data.index(b"idx1"))])
    with pytest.raises(VideoDamaged, match="bytes of the declared length are missing"):
        read(path)


def test_opendml_files_of_two_lists(sparse):
    path = as_opendml(with_empty_end(sparse, 9), 20)
    assert read(path) == pytest.approx([i / 12.5 for i in range(25)])
    data = path.read_bytes()
    second = data.rindex(b"RIFF")
    for end in (second, second + 300, second - 100):
        path.write_bytes(data[:end])
        with pytest.raises(VideoDamaged, match="of 58 declared frames are there"):
            read(path)
