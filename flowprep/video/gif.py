"""The blocks of a GIF file (GIF89a specification): how many pictures it has, and whether it is whole."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, NamedTuple

from flowprep.errors import VideoUnsuitable
from flowprep.system.units import format_bytes

_EXTENSION, _IMAGE, _TRAILER = b"!", b",", b";"
_MAX_PADDING = 4096  # zero bytes between the last picture and the mark that ends the file
_MAX_REST = 1 << 26  # bytes after the last block: FFmpeg reads them all


class GifBlocks(NamedTuple):
    """What the blocks of a file say.

    Attributes:
        images: number of whole pictures.
        fault: why the file is not whole, or "". Bytes after the mark that ends a GIF are no fault.
    """

    images: int
    fault: str


def read_gif_blocks(path: Path) -> GifBlocks | None:
    """Go through the blocks of a GIF file, up to the mark that ends it. None for other files.

    Raises:
        OSError: the file cannot be read.
        VideoUnsuitable: it goes on too long after its last block.
    """
    with path.open("rb") as file:
        head = file.read(13)
        if head[:4] != b"GIF8":
            return None
        _skip_colours(file, head[10:11])
        images = 0
        while (label := file.read(1)) in (_EXTENSION, _IMAGE):
            if label == _EXTENSION:
                file.read(1)
            else:
                _skip_colours(file, file.read(9)[8:9])
                file.read(1)
            if not _skip_data(file):
                return GifBlocks(images, "the mark that ends every GIF is missing, within a block")
            images += label == _IMAGE
        position = file.tell()
        rest = path.stat().st_size - position
        if rest > _MAX_REST:
            raise VideoUnsuitable(
                f"{format_bytes(rest)} follow the last block of the GIF; allowed: at most"
                f" {format_bytes(_MAX_REST)}"
            )
        if label == b"\0":
            label = file.read(_MAX_PADDING).lstrip(b"\0")[:1]
        if label == _TRAILER:
            return GifBlocks(images, "")
        if label:
            return GifBlocks(images, f"no block of a GIF at byte {position - 1}, after {images} pictures")
        return GifBlocks(images, "the mark that ends every GIF is missing")


def _skip_colours(file: BinaryIO, flags: bytes) -> None:
    """Skip a table of colours, if the flags say that there is one."""
    if flags and flags[0] & 128:
        file.seek(3 * (2 << (flags[0] & 7)), 1)


def _skip_data(file: BinaryIO) -> bool:
    """Skip the sub-blocks of a block. False if the file ends before them."""
    while length := file.read(1):
        if length == b"\0":
            return True
        file.seek(length[0], 1)
    return False
