"""Grey baseline JPEGs, many at a time, decoded bit by bit as libjpeg does.

Most blocks of stored flow are flat, and the others have few coefficients. So the decoder is made for sparse
files. One look-up gives the run, the size and the value of a coefficient (`scan`). Flat blocks become bytes
at once. The others are transformed 16 at a time, and only inside the window that is wanted (`pixels`).

The decoder refuses every file that it does not know. The caller then uses a library. It also refuses every
file with an error, so that a damaged file gives what the library gives. Names of markers and segments are
those of ITU-T T.81.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from flowprep.codec.bitstream import PADDING, crc32, remove_stuffing
from flowprep.codec.jpeg_header import (
    HALF_TABLE,
    HEADER_SIZE,
    HEIGHT,
    LENGTHS_SIZE,
    SCAN,
    STEPS,
    WIDTH,
    make_tables,
    read_header,
)
from flowprep.codec.pixels import new_band, write_window
from flowprep.codec.scan import SLACK, read_blocks
from flowprep.settings import MAX_SIDE
from flowprep.system.jit import jit

DECODED, BAD_CHECKSUM, REFUSED = 0, 1, 2

_BLOCKS_OF_A_BYTE = 4  # or fewer: a block has two bits or more. So a small file cannot ask for much memory.


def decode_fields(
    data: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.int64],
    checksums: npt.NDArray[np.int64],
    shape: tuple[int, int],
    window: tuple[int, int, int, int],
    out: npt.NDArray[np.uint8],
    mirror: bool = False,
) -> npt.NDArray[np.uint8]:
    """Decode grey JPEGs of one size, or a window of each. The interpreter's lock is released.

    Args:
        data: (N,) uint8, such as a mapped shard or the bytes of one file.
        offsets, sizes: (n,) int64, the first byte and the number of bytes of each file in `data`, in any
            order.
        checksums: (n,) int64, the CRC-32 of each file.
        shape: (H, W) of the pictures.
        window: (top, left, height, width) in pixels, inside the pictures.
        out: (n, height, width) uint8, contiguous. It receives the pixels of the files that are decoded.
        mirror: write each row from right to left.

    Returns:
        For each file, (n,) uint8: DECODED; BAD_CHECKSUM: it does not match its checksum, or is not inside
        `data`; REFUSED: a library must decode it, or find out what is wrong with it.

    Raises:
        ValueError: `out` has another shape or type, or the window is not inside the pictures.
    """
    top, left, height, width = window
    needed = (len(offsets), height, width)
    if out.shape != needed or out.dtype != np.uint8 or not out.flags.c_contiguous:
        raise ValueError(f"out is {out.dtype} {out.shape}; needed: contiguous uint8 {needed}")
    if min(window) < 0 or top + height > shape[0] or left + width > shape[1]:
        raise ValueError(f"window {window} is not inside pictures of shape {shape}")
    if not 1 <= min(shape) <= max(shape) <= MAX_SIDE:  # no JPEG has this size
        return np.full(len(offsets), REFUSED, np.uint8)
    statuses = np.empty(len(offsets), np.uint8)
    data = data.view()
    data.flags.writeable = False  # so that the code is compiled once, for mapped files and for others
    _decode_fields(data, offsets, sizes, checksums, shape, window, out.reshape(-1), mirror, statuses)
    return statuses


@jit
def _decode_fields(
    data: Any,
    offsets: Any,
    sizes: Any,
    checksums: Any,
    shape: Any,
    window: Any,
    out: Any,
    mirror: bool,
    statuses: Any,
) -> None:
    blocks = ((shape[0] + 7) // 8) * ((shape[1] + 7) // 8)
    longest = np.int64(0)
    for size in sizes:
        longest = max(longest, min(size, data.size))
    work = _new_work(longest, min(blocks, _BLOCKS_OF_A_BYTE * longest), shape)
    area = window[2] * window[3]
    for n in range(offsets.size):
        start, size = offsets[n], sizes[n]
        is_inside = 0 <= start <= data.size and 0 <= size <= data.size - start
        end = start + size
        if not is_inside or crc32(data, start, end) != checksums[n]:
            statuses[n] = BAD_CHECKSUM
        elif blocks <= _BLOCKS_OF_A_BYTE * size and _decode(
            data, start, end, shape, blocks, window, out, n * area, mirror, work
        ):
            statuses[n] = DECODED
        else:
            statuses[n] = REFUSED


@jit
def _new_work(longest: int, blocks: int, shape: Any) -> Any:
    """Arrays for files of up to `longest` bytes and up to so many blocks: see `_decode`."""
    tables = (
        np.empty(HEADER_SIZE, np.int64),
        np.empty(2 * HALF_TABLE, np.int32),
        np.empty(2 * LENGTHS_SIZE, np.int64),
        np.empty(64, np.int64),
        np.empty(longest + PADDING, np.uint8),
    )
    coefficients = (
        np.empty(blocks + SLACK, np.int64),
        np.empty(min(4 * (longest + 2 * SLACK), 64 * blocks + SLACK), np.int64),
    )
    return tables, coefficients, new_band(shape)


@jit
def _decode(
    data: Any,
    start: int,
    end: int,
    shape: Any,
    blocks: int,
    window: Any,
    out: Any,
    at: int,
    mirror: bool,
    work: Any,
) -> bool:
    """Decode a file to out[at:]. Returns False where a library must do it."""
    header, table, lengths, steps, stream = work[0]
    if not read_header(data, start, end, header):
        return False
    if header[HEIGHT] != shape[0] or header[WIDTH] != shape[1]:
        return False
    repeated_bits = make_tables(data, header, table, lengths)
    size = remove_stuffing(data, header[SCAN], end, stream)
    if repeated_bits < 0 or size < 0:
        return False
    coefficients, events = work[1]
    if not read_blocks(stream, size, blocks, data, table, lengths, repeated_bits, coefficients, events):
        return False
    for i in range(64):
        steps[i] = data[header[STEPS] + i]
    return write_window(coefficients, events, steps, shape, window, mirror, work[2], out, at)
