"""The entropy-coded coefficients of a grey JPEG (ITU-T T.81 annex F.2)."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowprep.codec.jpeg_header import (
    AFTER_LAST,
    BLOCKS_SHIFT,
    EVENT_SHIFT,
    FIRST,
    HALF_TABLE,
    INDEX_BITS,
    IS_EVENT,
    IS_LONG,
    LENGTHS_SIZE,
    MOVE_SHIFT,
    SYMBOL,
    VALUE_SHIFT,
    value_of,
)
from flowprep.system.jit import jit
from flowprep.system.simd import (
    LANES,
    absolute_ints,
    largest_ints,
    largest_lane,
    load_high_ints,
    load_word,
    splat_ints,
    store_8_times,
    swap_bytes,
)

_INDEX_SHIFT = np.uint64(64 - INDEX_BITS)
_NOTHING, _ONE, _AC = np.uint64(0), np.uint64(1), np.uint64(HALF_TABLE)
# Elements after the last block that are written or read, too.
SLACK = 24
# libjpeg keeps coefficients in 16 bits. Products with a step of 8 bits then fit in 32 bits.
_MAX_DC = 2**15 - 1

_SYMBOLS_OF_A_WORD = 5  # after a refill, 56 bits are valid


@jit
def read_blocks(
    stream: Any,
    size: int,
    count: int,
    data: Any,
    table: Any,
    lengths: Any,
    repeated_bits: int,
    blocks: Any,
    events: Any,
) -> bool:
    """Decode all blocks of a file.

    The loop has no branch that depends on the kind of a symbol: a processor cannot predict that.

    Args:
        stream: uint8, entropy-coded bytes without stuffing, and PADDING zero bytes after them.
        size: the number of bytes in the stream.
        count: the number of blocks.
        data: the file, for the symbols of long codes.
        table: the table of `make_tables`.
        lengths: its `lengths`.
        repeated_bits: the result of `make_tables`.
        blocks: (count + SLACK,) int64. Element b + 1 receives of block b: its DC coefficient, in units of its
            step, << 32 | the index in `events` after its last AC coefficient. Element 0 is that for block 0.
            The elements after the last block become 0.
        events: int64, receives the AC coefficients, from index 1 on: value << 32 | block << 6 | position.
                A coefficient has two bits or more, and a block has at most 63. So 4 (size + 2 SLACK) elements
                are enough, and so are 64 count + SLACK.

    Returns:
        False if the stream has an error, is too short, or has further bytes; or if a DC coefficient does not
        fit in 16 bits.
    """
    word, valid, at = _NOTHING, 0, 0  # the next bits, the first one highest; how many are valid
    b, n = 0, _ONE
    previous, k, half = 0, np.int64(0), _NOTHING
    blocks[0] = n
    while b < count:
        if at > size + 8:
            return False
        word, valid, at = _refill(stream, word, valid, at)
        for _ in range(_SYMBOLS_OF_A_WORD):
            entry = np.int64(table[half + (word >> _INDEX_SHIFT)])
            used, position = entry & 15, k + (entry >> MOVE_SHIFT & 31)
            is_special = (entry & IS_LONG) != 0 or position > 62
            if is_special:
                word, valid, at = _refill(stream, word, valid, at)
                entry, used = _special_entry(word, entry, data, half != 0, k, lengths)
                position = k + (entry >> MOVE_SHIFT & 31)
                if used == 0:
                    return False
            word <<= np.uint64(used)
            valid -= used
            value, is_event = entry >> VALUE_SHIFT, entry >> EVENT_SHIFT & 1
            previous += value & (is_event - 1)
            events[n] = value << 32 | b << 6 | position
            n += np.uint64(is_event)
            # This and the next blocks, as if they repeated this one.
            store_8_times(blocks, b + 1, previous << 32 | np.int64(n))
            ended = entry >> BLOCKS_SHIFT & 7
            k = 0 if ended else position
            half = _NOTHING if ended else _AC
            b += ended
            if is_special or b >= count:
                break
    valid += (b - count) * repeated_bits  # blocks that were read from the bits after the last block
    unused = 8 * size - (8 * at - valid)
    blocks[count + 1 : count + SLACK] = 0
    return 0 <= unused < 8 and _largest_dc(blocks, count) <= _MAX_DC


@jit
def _largest_dc(blocks: Any, count: int) -> Any:
    """The largest absolute DC coefficient of all blocks.

    A coefficient may have lost its bits above the lowest 32. But it differs from the last one by 2,047 at
    most. So one before it is then too large for 16 bits, and has lost none.
    """
    largest = splat_ints(np.int32(0))
    for b in range(1, count + 1, LANES):
        largest = largest_ints(largest, absolute_ints(load_high_ints(blocks, b)))
    return largest_lane(largest)


@jit
def _refill(stream: Any, word: Any, valid: int, at: int) -> Any:
    """Add bytes until 56 bits or more are valid."""
    word |= swap_bytes(load_word(stream, at)) >> np.uint64(valid)
    return word, valid | 56, at + ((63 - valid) >> 3)


@jit
def _special_entry(word: Any, entry: int, data: Any, is_ac: bool, k: int, lengths: Any) -> Any:
    """The entry of the next coefficient or end of a block alone, and its number of bits; 0 for an error.

    The table has no entry for long codes. Nor does it know that a coefficient at position 63 ends a block.
    """
    length, symbol = entry & 15, entry >> VALUE_SHIFT
    if length == 0 or not entry & IS_LONG:
        first = LENGTHS_SIZE if is_ac else 0
        length, symbol = _find_code(word, data, lengths[first : first + LENGTHS_SIZE])
    size, run = symbol & 15, symbol >> 4
    if length == 0:
        return 0, 0
    value = 0
    if size:
        value = value_of(np.int64((word << np.uint64(length)) >> np.uint64(64 - size)), size) << VALUE_SHIFT
    if not is_ac:
        return value, length + size
    if size == 0 and run != 15:
        return 1 << BLOCKS_SHIFT, length
    if k + run + 1 > 63:
        return 0, 0
    ended = (1 << BLOCKS_SHIFT) if k + run + 1 == 63 else 0
    return value | (IS_EVENT if size else 0) | ended | (run + 1) << MOVE_SHIFT, length + size


@jit
def _find_code(word: Any, data: Any, lengths: Any) -> Any:
    """The length and the symbol of the next code (T.81 figure F.16); length 0 if there is none."""
    for length in range(1, 17):
        code = np.int64(word >> np.uint64(64 - length))
        if code < lengths[AFTER_LAST + length]:
            return length, np.int64(data[lengths[SYMBOL + length] + code - lengths[FIRST + length]])
    return 0, 0
