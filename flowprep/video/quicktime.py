"""QuickTime and MP4 files whose header would take too much memory: found before FFmpeg reads them.

A header may be compressed (`cmov`): FFmpeg allocates what it declares, up to 4 GB. And it may declare any
number of samples of equal size: FFmpeg makes a table of them, 70 bytes a sample. Sections are of ISO/IEC
14496-12.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from flowprep.errors import VideoUnsuitable
from flowprep.system.files import open_regular
from flowprep.system.units import format_bytes

MAX_HEADER = 1 << 26  # bytes: a header of 10 hours of video has some 20 MB
_MAX_SAMPLES = 5_000_000  # 55 hours at 25 frames a second
_MAX_ATOMS = 1_000_000
# The outermost atoms that FFmpeg looks into. It passes over all others, also at the beginning of a file.
_WITH_HEADERS = frozenset(
    b"cmov edts ilst ipro iprp mdia meta minf moof moov mvex schi sinf stbl stsz traf trak tref trun udta"
    b" wave".split()
)


def check_movie_header(path: Path) -> None:
    """Refuse a QuickTime or MP4 file with a header that is too large. Other files pass.

    Raises:
        FileUnsuitable: it is not a regular file.
        OSError: it cannot be read.
        VideoUnsuitable: its header, or what its header is said to be when it is not compressed, is too large.
    """
    samples = 0
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        for atom in _atoms(file, size):
            for header in (atom, *_inflated_headers(atom)):
                samples += sum(_samples_without_table(header))
            if samples > min(_MAX_SAMPLES, size):
                raise VideoUnsuitable(
                    f"its header declares {samples} samples of equal size; allowed: at most"
                    f" {min(_MAX_SAMPLES, size)} in a file of {format_bytes(size)}"
                )


def _inflated_headers(atom: bytes) -> Iterator[bytes]:
    """The compressed headers in an atom, as they are when they are not compressed.

    Raises:
        VideoUnsuitable: one is too large, or contains another one.
    """
    for declared, compressed in _compressed_headers(atom):
        if declared > MAX_HEADER:
            raise VideoUnsuitable(
                f"its compressed header declares {format_bytes(declared)}; allowed: at most"
                f" {format_bytes(MAX_HEADER)}"
            )
        header = _inflate(compressed)
        if any(_compressed_headers(header)):
            raise VideoUnsuitable("its compressed header contains another compressed header")
        yield header


def _atoms(file: BinaryIO, end: int) -> Iterator[bytes]:
    """The bytes of each outermost atom that may contain a header, in a file of `end` bytes."""
    position = 0
    for _ in range(_MAX_ATOMS):
        file.seek(position)
        head = file.read(16)
        size, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if len(head) < 8:
            return
        if size == 1:
            size = int.from_bytes(head[8:16], "big")
        if kind in _WITH_HEADERS:
            file.seek(position)
            data = file.read(min(size or MAX_HEADER + 1, MAX_HEADER + 1))
            if len(data) > MAX_HEADER:
                raise VideoUnsuitable(f"its header {kind.decode()} is larger than {format_bytes(MAX_HEADER)}")
            yield data
        position += size
        if size < 8 or position >= end:  # 0: the atom goes to the end of the file
            return
    raise VideoUnsuitable(f"it has more than {_MAX_ATOMS} atoms")


def _compressed_headers(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The declared length, in bytes, and the compressed bytes of each compressed header."""
    for position in _places(data, b"cmvd"):
        if data[max(0, position - 12) : position - 8] == b"dcom":  # dcom, method, length, cmvd
            yield int.from_bytes(data[position + 4 : position + 8], "big"), data[position + 8 :]


def _samples_without_table(header: bytes) -> Iterator[int]:
    """The number of samples that each track or fragment declares without a table of their sizes or times."""
    for at in _places(header, b"stsz"):  # 8.7.3: flags, size of all samples or 0, count
        start = max(0, header.rfind(b"trak", 0, at))
        track = header[start : at if (end := header.find(b"trak", at)) < 0 else end]
        if header[at + 8 : at + 12] != bytes(4) and not _is_pcm(track):
            yield int.from_bytes(header[at + 12 : at + 16], "big")
    for at in _places(header, b"trun"):  # 8.8.8: flags, count
        if not int.from_bytes(header[at + 6 : at + 7], "big") & 15:
            yield int.from_bytes(header[at + 8 : at + 12], "big")


def _is_pcm(track: bytes) -> bool:
    """Whether a track is sound of which each value is a sample: FFmpeg makes no table of these."""
    handlers = {track[at + 12 : at + 16] for at in _places(track, b"hdlr")}
    times = [track[at + 8 : at + 20] for at in _places(track, b"stts")]  # count of entries, samples, duration
    return (
        b"soun" in handlers
        and b"vide" not in handlers
        and len(times) == 1
        and times[0][:4] == times[0][8:] == b"\0\0\0\1"
    )


def _places(data: bytes, name: bytes) -> Iterator[int]:
    """Where a name stands."""
    at = data.find(name)
    while at >= 0:
        yield at
        at = data.find(name, at + 1)


def _inflate(compressed: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(compressed, MAX_HEADER)
    except zlib.error:
        return b""
