"""Grey baseline JPEG files from fractional values, with a trade-off of bytes against error.

This is an ordinary JPEG encoder in compiled loops, with three differences that make flow smaller:

- Values are floats. They are rounded once, as coefficients, and not before the transform as well.
- The coefficients of each block are chosen by their error and by their bits; see `coefficients`.
- Each file has its own Huffman tables (ITU-T T.81 annex K.2), and only the segments that a decoder needs.

Names of markers and segments are those of ITU-T T.81.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from flowprep.codec.coefficients import END, SKIP, ZIGZAG, magnitude_bits, quantise_blocks
from flowprep.codec.huffman import huffman_code
from flowprep.system.jit import jit


def encode(
    values: npt.NDArray[np.float32], level: int, table: npt.NDArray[np.int64], lambda_: float
) -> bytes:
    """Encode `values` + `level` as a grey JPEG.

    A block in which all values are 0 decodes to exactly `level` if the first entry of the table divides
    8 (level - 128).

    Args:
        values: (H, W), sides up to 65500. With the level added, from 0 to 255.
        level: the pixel value that stands for 0.
        table: (8, 8) quantisation steps, 1 to 255, row by row.
        lambda_: cost of a bit, in pixel values of error summed over pixels.
    """
    file, size = _encode(values, level, table.ravel()[ZIGZAG], np.float32(lambda_))
    return bytes(file[:size])


@jit
def _encode(values: Any, level: int, steps: Any, lambda_: Any) -> Any:
    levels, dc_counts, ac_counts = quantise_blocks(values, level, steps, lambda_)
    return _write(levels, steps, values.shape, dc_counts, ac_counts)


@jit
def _write(levels: Any, steps: Any, shape: Any, dc_counts: Any, ac_counts: Any) -> Any:
    """The file, in a buffer, and its size."""
    dc = huffman_code(dc_counts)
    ac = huffman_code(ac_counts)
    # A coefficient has 26 bits at most, and each of its bytes may need a stuffed zero byte.
    file = np.empty(1024 + levels.size * 7, np.uint8)
    n = _write_header(file, steps, shape, dc[0], dc[1], ac[0], ac[1])
    n = _write_scan(file, n, levels, dc[2], dc[3], ac[2], ac[3])
    file[n], file[n + 1] = 0xFF, 0xD9  # EOI
    return file, n + 2


@jit
def _write_header(
    file: Any, steps: Any, shape: Any, dc_lengths: Any, dc_symbols: Any, ac_lengths: Any, ac_symbols: Any
) -> int:
    """Write all segments up to the start of the scan. Returns the bytes written."""
    height, width = shape
    n = 0
    for value in (0xFF, 0xD8, 0xFF, 0xDB, 0, 67, 0):  # SOI, DQT
        file[n] = value
        n += 1
    file[n : n + 64] = steps
    n += 64
    # SOF0: 8 bits, one component
    for value in (0xFF, 0xC0, 0, 11, 8, height >> 8, height & 255, width >> 8, width & 255, 1, 1, 0x11, 0):
        file[n] = value
        n += 1
    length = 2 + 17 + dc_symbols.size + 17 + ac_symbols.size
    for value in (0xFF, 0xC4, length >> 8, length & 255):  # DHT
        file[n] = value
        n += 1
    for kind, lengths, symbols in ((0x00, dc_lengths, dc_symbols), (0x10, ac_lengths, ac_symbols)):
        file[n] = kind
        file[n + 1 : n + 17] = lengths
        file[n + 17 : n + 17 + symbols.size] = symbols
        n += 17 + symbols.size
    for value in (0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 63, 0):  # SOS
        file[n] = value
        n += 1
    return n


@jit
def _write_scan(
    file: Any, n: int, levels: Any, dc_codes: Any, dc_bits: Any, ac_codes: Any, ac_bits: Any
) -> int:
    """Write the coded coefficients from byte `n` on. Returns the position after them."""
    bits, pending = 0, 0  # not yet written: the `pending` low bits of `bits`
    for b in range(levels.shape[0]):
        run = 0
        for i in range(64):
            value = levels[b, i]
            if i == 0:
                size = magnitude_bits(value)
                code, length = dc_codes[size], dc_bits[size]
            elif value == 0:
                run += 1
                continue
            else:
                while run > 15:
                    bits, pending = bits << ac_bits[SKIP] | ac_codes[SKIP], pending + ac_bits[SKIP]
                    bits, pending, n = _flush(bits, pending, file, n)
                    run -= 16
                size = magnitude_bits(value)
                code, length = ac_codes[run << 4 | size], ac_bits[run << 4 | size]
                run = 0
            if value < 0:
                value += (1 << size) - 1
            bits = (bits << length | code) << size | value
            bits, pending, n = _flush(bits, pending + length + size, file, n)
        if run:
            bits, pending = bits << ac_bits[END] | ac_codes[END], pending + ac_bits[END]
            bits, pending, n = _flush(bits, pending, file, n)
    if pending:  # the last byte is filled with ones
        padding = 8 - pending
        bits, pending, n = _flush(bits << padding | ((1 << padding) - 1), 8, file, n)
    return n


@jit
def _flush(bits: int, pending: int, file: Any, n: int) -> Any:
    """Write the whole bytes of `bits`, with a zero byte after each 0xFF."""
    while pending >= 8:
        pending -= 8
        byte = bits >> pending
        bits &= (1 << pending) - 1
        file[n] = byte
        n += 1
        if byte == 0xFF:
            file[n] = 0
            n += 1
    return bits, pending, n
