"""AVI files that end too early.

The header of an AVI file counts chunks. A chunk may be empty: it repeats the last picture. So the number of
pictures may be smaller, and the file be whole. The lists (RIFF) and indexes of the file prove whether it is.

Formats: Microsoft's "AVI RIFF File Reference"; the OpenDML extensions, 1996, for files of several RIFF lists.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

_MAX_CHUNKS = 10_000  # that are looked at in one list; OpenDML writes one RIFF list per gigabyte
_MAX_INDEX = 1 << 20  # bytes


class AviPictures(NamedTuple):
    """The video chunks of an AVI file, as FFmpeg found them.

    Attributes:
        stream: number of the stream.
        packets: number of chunks that are not empty.
        slots: number of chunks up to the last packet, empty ones included: its time stamp plus one.
        declared: number of chunks that the header declares, empty ones included; 0 if it does not say.
        indexed: number of chunks that are not empty, by the index; 0 if there is none.
    """

    stream: int
    packets: int
    slots: int
    declared: int
    indexed: int


def describe_loss(path: Path, size: int, pictures: AviPictures) -> str:
    """Text that says which pictures an AVI file lacks; "" if it is whole or nothing proves a loss.

    Args:
        path: the file.
        size: its size, bytes.
        pictures: what FFmpeg found in it.
    """
    with path.open("rb") as file:
        missing, pictures_missing = _missing_bytes(file, size)
        index_beyond = _index_beyond(file, size, pictures.stream)
    found, declared = max(pictures.packets, pictures.slots), pictures.declared
    if not declared and pictures_missing:
        return f"{pictures_missing} bytes of the declared length are missing"
    if found >= declared:
        return ""
    if pictures.indexed and not missing and not index_beyond:
        lost = pictures.indexed - pictures.packets
        return f"{pictures.packets} of {pictures.indexed} frames of its index are there" if lost > 0 else ""
    if found < declared - 1 or pictures_missing or index_beyond:
        # Some files with sound declare one frame more than they have.
        return f"{found} of {declared} declared frames are there"
    return ""


def _missing_bytes(file: BinaryIO, size: int) -> tuple[int, int]:
    """How many bytes the last RIFF list lacks, and how many of them the list of pictures in it."""
    for start, kind, length in _chunks(file, 0, size):
        if kind == b"RIFF" and start + length > size:
            missing = start + length - size
            for _, end in _lists(file, start + 4, size, b"movi"):
                return missing, max(0, end - size)
            return missing, missing
    return 0, 0


def _index_beyond(file: BinaryIO, size: int, stream: int) -> bool:
    """Whether the OpenDML index of a stream has parts that the file does not have."""
    for header in _lists(file, 12, size, b"hdrl"):
        for number, inside in enumerate(_lists(file, *header, b"strl")):
            for start, kind, length in _chunks(file, *inside):
                if number == stream and kind == b"indx":
                    file.seek(start)
                    return any(end > size for end in _parts_of_index(file.read(min(length, _MAX_INDEX))))
    return False


def _parts_of_index(index: bytes) -> Iterator[int]:
    """The offset at which each part of an OpenDML index of indexes ends."""
    if index[3:4] == b"\0":
        entries = int.from_bytes(index[4:8], "little")
        for at in range(24, min(len(index) - 15, 24 + 16 * entries), 16):
            offset, length = index[at : at + 8], index[at + 8 : at + 12]
            yield int.from_bytes(offset, "little") + int.from_bytes(length, "little")


def _lists(file: BinaryIO, start: int, end: int, name: bytes) -> Iterator[tuple[int, int]]:
    """Where the content of each list of this name begins, and where it is declared to end."""
    for begin, kind, length in _chunks(file, start, end):
        if kind == b"LIST":
            file.seek(begin)
            if file.read(4) == name:
                yield begin + 4, begin + length


def _chunks(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, bytes, int]]:
    """Where the content of each chunk begins, the chunk's name, and its declared length."""
    for _ in range(_MAX_CHUNKS):
        file.seek(start)
        head = file.read(8) if start < end else b""
        if len(head) < 8:
            return
        length = int.from_bytes(head[4:], "little")
        yield start + 8, head[:4], length
        start += 8 + length + length % 2
