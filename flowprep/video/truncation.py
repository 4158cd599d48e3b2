"""Files that end too early, in formats that do not declare their number of frames."""

from __future__ import annotations

from pathlib import Path

_EBML_MAGIC = b"\x1a\x45\xdf\xa3"
_SEGMENT_ID = b"\x18\x53\x80\x67"


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
    if container == "gif":
        with path.open("rb") as file:
            file.seek(max(0, size - 64))
            if not file.read().rstrip(b"\0").endswith(b";"):
                return "the mark that ends every GIF is missing"
    missing = _matroska_missing_bytes(path, size)
    return f"{missing} bytes of the declared length are missing" if missing else ""


def _matroska_missing_bytes(path: Path, size: int) -> int:
    """How many bytes a Matroska or WebM file (RFC 8794, RFC 9559) is shorter than it declares.

    0 for other formats and for files of unknown length.
    """
    with path.open("rb") as file:
        head = file.read(4096)
    if head[:4] != _EBML_MAGIC:
        return 0
    header_length, position = _read_ebml_size(head, 4)
    position += header_length or 0
    if head[position : position + 4] != _SEGMENT_ID:  # the segment holds the rest of the file
        return 0
    length, position = _read_ebml_size(head, position + 4)
    return max(0, position + length - size) if length is not None else 0


def _read_ebml_size(data: bytes, position: int) -> tuple[int | None, int]:
    """Read the length of an EBML element; returns it and the position after it.

    The length is None if the file says "unknown", as live streams do.
    """
    octets = 9 - data[position].bit_length()
    value = int.from_bytes(data[position : position + octets], "big") - (1 << 7 * octets)
    is_unknown = value == (1 << 7 * octets) - 1
    return (None if is_unknown else value), position + octets
