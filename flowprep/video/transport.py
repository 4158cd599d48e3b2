"""Packets of an MPEG transport stream (ISO/IEC 13818-1, section 2.4.3.2) where its counter jumps."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

_SYNC = 0x47
_SIZES = (188, 192, 204)  # bytes from one packet to the next
_HAS_PAYLOAD, _HAS_PADDING = 16, 32
_MAX_BYTES = 1 << 24


class PieceEnd(NamedTuple):
    """How the packets of one stream end, before the first packet of another piece.

    Attributes:
        jumps: the continuity counter jumps from the last packet to the other piece, and nowhere before.
        padded: the last packet is filled up, as at the end of a picture. One picture in 184 needs none.
    """

    jumps: bool
    padded: bool


def piece_end(path: Path, start: int | None, end: int | None) -> PieceEnd:
    """Look at the packets of a stream up to another piece.

    Args:
        path: the file.
        start: offset of a packet of the stream.
        end: offset of the first packet of the other piece. None, as for `start`, if it is not known.
    """
    if start is None or end is None or not 0 < end - start <= _MAX_BYTES:
        return PieceEnd(False, False)
    with path.open("rb") as file:
        file.seek(start)
        data = file.read(end - start + 4)
    size = next((size for size in _SIZES if all(byte == _SYNC for byte in data[::size])), len(data))
    steps, counter, padded = [], None, False
    for at in range(0, len(data) - 3, size):
        is_other = at == end - start
        if is_other or (_number(data, at) == _number(data, 0) and data[at + 3] & _HAS_PAYLOAD):
            now = data[at + 3] & 15
            steps.append(counter is None or now == (counter + 1) % 16)
            counter, padded = now, padded if is_other else bool(data[at + 3] & _HAS_PADDING)
    jumps = steps[-1:] == [False] or _number(data, end - start) != _number(data, 0)
    return PieceEnd(jumps and all(steps[:-1]), padded)


def _number(data: bytes, at: int) -> int:
    """The number (PID) of the stream to which a packet belongs."""
    return int.from_bytes(data[at + 1 : at + 3], "big") & 0x1FFF
