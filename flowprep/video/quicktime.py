"""QuickTime and MP4 files whose header would take too much memory: found before FFmpeg reads them.

A header may be compressed (`cmov`). FFmpeg allocates what it declares, up to 4 GB.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from flowprep.errors import VideoUnsuitable
from flowprep.system.files import open_regular
from flowprep.system.units import format_bytes

MAX_HEADER = 1 << 26  # bytes: a header of 10 hours of video has some 20 MB
_MAX_ATOMS = 1_000_000
_TYPES = frozenset({b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp", b"uuid", b"cmov"})
_NO_HEADERS = frozenset({b"mdat", b"free", b"skip", b"wide"})


def check_movie_header(path: Path) -> None:
    """Refuse a QuickTime or MP4 file with a header that is too large. Other files pass.

    Raises:
        FileUnsuitable: it is not a regular file.
        OSError: it cannot be read.
        VideoUnsuitable: its header, or what its header is said to be when it is not compressed, is too large.
    """
    with open_regular(path) as file:
        for atom in _atoms(file):
            for declared, compressed in _compressed_headers(atom):
                if declared > MAX_HEADER:
                    raise VideoUnsuitable(
                        f"its compressed header declares {format_bytes(declared)}; allowed: at most"
                        f" {format_bytes(MAX_HEADER)}"
                    )
                if any(_compressed_headers(_inflate(compressed))):
                    raise VideoUnsuitable("its compressed header contains another compressed header")


def _atoms(file: BinaryIO) -> Iterator[bytes]:
    """The bytes of each outermost atom that may contain a header."""
    position = 0
    for number in range(_MAX_ATOMS):
        file.seek(position)
        head = file.read(16)
        size, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if len(head) < 8 or (number == 0 and kind not in _TYPES):
            return
        if size == 1:
            size = int.from_bytes(head[8:16], "big")
        if kind not in _NO_HEADERS:
            file.seek(position)
            data = file.read(min(size or MAX_HEADER + 1, MAX_HEADER + 1))
            if len(data) > MAX_HEADER:
                raise VideoUnsuitable(f"its header {kind!r} is larger than {format_bytes(MAX_HEADER)}")
            yield data
        if size < 8:  # 0: the atom goes to the end of the file
            return
        position += size
    raise VideoUnsuitable(f"it has more than {_MAX_ATOMS} atoms")


def _compressed_headers(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The declared length, in bytes, and the compressed bytes of each compressed header."""
    position = data.find(b"cmvd")
    while position >= 0:
        if data[max(0, position - 12) : position - 8] == b"dcom":  # dcom, method, length, cmvd
            yield int.from_bytes(data[position + 4 : position + 8], "big"), data[position + 8 :]
        position = data.find(b"cmvd", position + 1)


def _inflate(compressed: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(compressed, MAX_HEADER)
    except zlib.error:
        return b""
