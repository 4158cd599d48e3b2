"""Files that end too early, in formats that do not declare their number of frames."""

from __future__ import annotations

from pathlib import Path

_HEADER_ID, _SEGMENT_ID = 0x1A45DFA3, 0x18538067
_LONGEST_HEAD = 16  # bytes of the name and the length of an element
_MAX_ELEMENTS = 10_000  # before the segment: the header and empty space


def describe_truncation(path: Path, size: int, container: str, packets_end: int) -> str:
    """Text that says what the end of a file lacks; "" if it lacks nothing that can be noticed.

    Args:
        path: the video file.
        size: its size, bytes.
        container: FFmpeg's name of the format.
        packets_end: offset of the first byte after the last packet.
    """
    if container == "yuv4mpegpipe" and packets_end < size:
        return f"the last {size - packets_end} bytes are no whole frame"
    missing = _matroska_missing_bytes(path, size)
    return f"{missing} bytes of the declared length are missing" if missing else ""


def _matroska_missing_bytes(path: Path, size: int) -> int:
    """How many bytes a Matroska or WebM file (RFC 8794, RFC 9559) is shorter than it declares.

    0 for other formats and for files of unknown length.
    """
    with path.open("rb") as file:
        position = 0
        for number in range(_MAX_ELEMENTS):
            file.seek(position)
            head = file.read(_LONGEST_HEAD)
            name, at = _read_ebml_number(head, 0, keep_marker=True)
            length, at = _read_ebml_number(head, at)
            if name is None or length is None or (number == 0 and name != _HEADER_ID):
                return 0
            if name == _SEGMENT_ID:  # it holds the rest of the file
                is_unknown = length == (1 << 7 * (at - 4)) - 1  # as live streams say
                return 0 if is_unknown else max(0, position + at + length - size)
            position += at + length
            if position >= size:
                return 0
    return 0


def _read_ebml_number(data: bytes, position: int, keep_marker: bool = False) -> tuple[int | None, int]:
    """Read a name (with its length marker) or a length; returns it and the position after it.

    The number is None if the data end before it, or if there is none.
    """
    octets = 9 - data[position].bit_length() if position < len(data) else 9
    end = position + octets
    if octets > 8 or end > len(data):
        return None, end
    return int.from_bytes(data[position:end], "big") - (0 if keep_marker else 1 << 7 * octets), end
