"""The bytes of a JPEG: their checksum, and the entropy-coded bytes without stuffing."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowprep.system.jit import jit
from flowprep.system.simd import copy_64_bytes, load_word, store_word, swap_bytes, trailing_zeros

PADDING = 16  # zero bytes after the unstuffed bytes, so that words can be read at the end

_LOW_BITS = np.uint64(0x0101010101010101)
_HIGH_BITS = np.uint64(0x8080808080808080)


def _crc_tables() -> Any:
    """(8 * 256,) uint32: row k is the effect of a byte that k further bytes follow (polynomial of zlib)."""
    tables = np.zeros((8, 256), np.uint32)
    value = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        value = np.where(value & 1, value >> 1 ^ np.uint32(0xEDB88320), value >> 1)
    tables[0] = value
    for k in range(1, 8):
        tables[k] = tables[k - 1] >> 8 ^ tables[0][tables[k - 1] & 255]
    return tables.ravel()


_CRC = _crc_tables()


@jit
def crc32(data: Any, start: int, end: int) -> Any:
    """CRC-32 of data[start:end], as zlib.crc32 gives it: 8 bytes in each round."""
    crc = np.uint64(0xFFFFFFFF)
    byte = np.uint64(255)
    i = start
    while i + 8 <= end:
        word = load_word(data, i) ^ crc
        crc = np.uint64(
            _CRC[7 * 256 + (word & byte)]
            ^ _CRC[6 * 256 + (word >> np.uint64(8) & byte)]
            ^ _CRC[5 * 256 + (word >> np.uint64(16) & byte)]
            ^ _CRC[4 * 256 + (word >> np.uint64(24) & byte)]
            ^ _CRC[3 * 256 + (word >> np.uint64(32) & byte)]
            ^ _CRC[2 * 256 + (word >> np.uint64(40) & byte)]
            ^ _CRC[256 + (word >> np.uint64(48) & byte)]
            ^ _CRC[word >> np.uint64(56)]
        )
        i += 8
    while i < end:
        crc = crc >> np.uint64(8) ^ np.uint64(_CRC[(crc ^ np.uint64(data[i])) & byte])
        i += 1
    return np.int64(crc ^ np.uint64(0xFFFFFFFF))


@jit
def remove_stuffing(data: Any, start: int, end: int, out: Any) -> int:
    """Copy entropy-coded bytes without the zero bytes after FF (T.81 B.1.1.5), and PADDING zero bytes.

    Args:
        data: a file.
        start: its first entropy-coded byte.
        end: the end of the file. Its last bytes must be the marker EOI.
        out: uint8, with room for end - start + PADDING bytes.

    Returns:
        The number of bytes before the padding; -1 if another marker comes first, or none comes.
    """
    i, n = start, 0
    while i + 2 <= end:
        if i + 8 <= end:
            word = load_word(data, i)
            store_word(out, n, word)
            ones = ~word
            # The lowest bit that is set is that of the first FF.
            stop = (ones - _LOW_BITS) & ~ones & _HIGH_BITS
            if stop == 0:
                i += 8
                n += 8
                continue
            before = trailing_zeros(stop) >> 3
            i += before
            n += before
            if i + 2 > end:
                return -1
        if data[i] != 0xFF:
            out[n] = data[i]
            i += 1
            n += 1
        elif data[i + 1] == 0:
            out[n] = 0xFF
            i += 2
            n += 1
        elif data[i + 1] == 0xD9 and i + 2 == end:
            out[n : n + PADDING] = 0
            return n
        else:
            return -1
    return -1


@jit
def copy_bytes(out: Any, at: int, source: Any, start: int, count: int) -> None:
    """out[at : at + count] = source[start : start + count]."""
    done = 0
    while done + 64 <= count:
        copy_64_bytes(out, at + done, source, start + done)
        done += 64
    while done + 8 <= count:
        store_word(out, at + done, load_word(source, start + done))
        done += 8
    while done < count:
        out[at + done] = source[start + done]
        done += 1


@jit
def copy_reversed(out: Any, at: int, source: Any, start: int, count: int) -> None:
    """out[at : at + count] = source[start : start + count], the last byte first."""
    done = 0
    while done + 8 <= count:
        store_word(out, at + count - done - 8, swap_bytes(load_word(source, start + done)))
        done += 8
    while done < count:
        out[at + count - done - 1] = source[start + done]
        done += 1
