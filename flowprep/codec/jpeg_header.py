"""The segments of a JPEG before its scan, and tables that decode several bits with one look-up."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowprep.system.jit import jit

# Positions in the array that `read_header` fills: the size of the picture, positions in the data, and by
# number the positions of the tables.
HEIGHT, WIDTH, SCAN, STEPS, DC_CODES, AC_CODES = range(6)
_COMPONENT, _STEPS_NUMBER = 6, 7
_STEPS_TABLES, _DC_TABLES, _AC_TABLES = 8, 12, 16
HEADER_SIZE = 20

# The table has two halves: one for the DC coefficient of a block and one for its AC coefficients. Each is
# indexed by the next bits of the scan. An entry decodes one coefficient, or the end of the block. If the bits
# after it are in the index, too, it also decodes the end of the block after a coefficient, and then whole
# blocks that repeat the last one. From its lowest bit on, it has
#   4 bits: the number of bits that it decodes;
#   5 bits: the distance from the last coefficient to this one;
#   3 bits: the number of blocks that end;
#   1 bit, IS_EVENT: it is an AC coefficient;
#   1 bit, IS_LONG: the code and its value are longer than the index. Then the first 4 bits are those of the
#     code alone, or 0 if it is longer, and the value is the symbol;
#   16 bits from bit 16 on: the value, signed.
INDEX_BITS = 11
HALF_TABLE = 1 << INDEX_BITS
MOVE_SHIFT, BLOCKS_SHIFT, EVENT_SHIFT, VALUE_SHIFT = 4, 9, 12, 16
IS_EVENT, IS_LONG = 1 << 12, 1 << 13

# Numbers for codes of each of 17 lengths: the first code, the code after the last one, and the place of the
# first symbol.
FIRST, AFTER_LAST, SYMBOL = 0, 17, 34
LENGTHS_SIZE = 51

MAX_DC_BITS, MAX_AC_BITS = 11, 10  # of a value, in a baseline JPEG (T.81 tables F.1 and F.2)


@jit
def read_header(data: Any, start: int, end: int, header: Any) -> bool:
    """Read the segments up to the scan of a grey baseline JPEG.

    Args:
        data: uint8; data[start:end] is the file.
        start, end: see `data`.
        header: (HEADER_SIZE,) int64, overwritten.

    Returns:
        False for every other file: progressive, colour, 12 bits, restart markers, an orientation (EXIF), or
        segments that are damaged.
    """
    header[:] = -1
    if end - start < 4 or data[start] != 0xFF or data[start + 1] != 0xD8:  # SOI
        return False
    i = start + 2
    while i + 4 <= end:
        marker, length = data[i + 1], _number(data, i + 2)
        first, last = i + 4, i + 2 + length
        if data[i] != 0xFF or length < 2 or last > end:
            return False
        if marker == 0xDB:
            right = _read_steps(data, first, last, header)
        elif marker == 0xC4:
            right = _read_codes(data, first, last, header)
        elif marker == 0xC0:
            right = _read_frame(data, first, last, header)
        elif marker == 0xDA:
            return _read_scan(data, first, last, header)
        elif marker == 0xDD:
            right = length == 4 and _number(data, first) == 0  # no restart markers
        else:  # COM, and APP0 to APP15 except for APP1, which may have an orientation
            right = marker == 0xFE or (0xE0 <= marker <= 0xEF and marker != 0xE1)
        if not right:
            return False
        i = last
    return False


@jit
def _number(data: Any, i: int) -> int:
    """The number of two bytes."""
    return int(data[i]) << 8 | int(data[i + 1])


@jit
def _read_steps(data: Any, i: int, end: int, header: Any) -> bool:
    """DQT: tables of 8 bits only."""
    while i < end:
        number = data[i]
        if number > 3 or i + 65 > end:
            return False
        header[_STEPS_TABLES + number] = i + 1
        i += 65
    return True


@jit
def _read_codes(data: Any, i: int, end: int, header: Any) -> bool:
    """DHT."""
    while i < end:
        kind = data[i]
        if kind & 0xEC or i + 17 > end:
            return False
        symbols = 0
        for k in range(i + 1, i + 17):
            symbols += data[k]
        if symbols > 256 or i + 17 + symbols > end:
            return False
        header[(_AC_TABLES if kind >> 4 else _DC_TABLES) + (kind & 3)] = i + 1
        i += 17 + symbols
    return True


@jit
def _read_frame(data: Any, i: int, end: int, header: Any) -> bool:
    """SOF0: 8 bits, one component. A second frame is an error."""
    if header[HEIGHT] >= 0 or end - i != 9 or data[i] != 8 or data[i + 5] != 1 or data[i + 8] > 3:
        return False
    header[HEIGHT], header[WIDTH] = _number(data, i + 1), _number(data, i + 3)
    header[_COMPONENT], header[_STEPS_NUMBER] = data[i + 6], data[i + 8]
    return bool(data[i + 7] == 0x11 and header[HEIGHT] > 0 and header[WIDTH] > 0)


@jit
def _read_scan(data: Any, i: int, end: int, header: Any) -> bool:
    """SOS: one scan of all coefficients. Its tables must be there."""
    if header[HEIGHT] < 0 or end - i != 6 or data[i] != 1 or data[i + 1] != header[_COMPONENT]:
        return False
    if data[i + 2] & 0xCC or data[i + 3] != 0 or data[i + 4] != 63 or data[i + 5] != 0:
        return False
    header[STEPS] = header[_STEPS_TABLES + header[_STEPS_NUMBER]]
    header[DC_CODES] = header[_DC_TABLES + (data[i + 2] >> 4)]
    header[AC_CODES] = header[_AC_TABLES + (data[i + 2] & 3)]
    header[SCAN] = end
    return bool(header[STEPS] >= 0 and header[DC_CODES] >= 0 and header[AC_CODES] >= 0)


@jit
def make_tables(data: Any, header: Any, table: Any, lengths: Any) -> int:
    """Make the tables of a file.

    Args:
        data, header: the file, as `read_header` describes it.
        table: (2 HALF_TABLE,) int32, overwritten: of DC and of AC coefficients.
        lengths: (2 LENGTHS_SIZE,) int64, overwritten: the numbers for DC and for AC codes.

    Returns:
        The number of bits of a block that repeats the last one; more than INDEX_BITS if no entry has one.
        -1 if the codes are not those of a baseline JPEG.
    """
    if not _make_lengths(data, header[DC_CODES], False, lengths[:LENGTHS_SIZE]):
        return -1
    if not _make_lengths(data, header[AC_CODES], True, lengths[LENGTHS_SIZE:]):
        return -1
    end = _code_of(data, header[AC_CODES])
    none = _code_of(data, header[DC_CODES])
    repeated = none[0] << end[1] | end[0], none[1] + end[1]
    _fill_table(data, header[DC_CODES], False, end, repeated, table[:HALF_TABLE])
    _fill_table(data, header[AC_CODES], True, end, repeated, table[HALF_TABLE:])
    return int(repeated[1])


@jit
def _make_lengths(data: Any, codes: int, is_ac: bool, lengths: Any) -> bool:
    """Fill the numbers for codes of each length (T.81 annex C). Returns False if the codes are wrong."""
    most = MAX_AC_BITS if is_ac else MAX_DC_BITS
    code, symbol = 0, codes + 16
    for length in range(1, 17):
        count = data[codes + length - 1]
        lengths[FIRST + length], lengths[AFTER_LAST + length] = code, code + count
        lengths[SYMBOL + length] = symbol
        for i in range(symbol, symbol + count):
            if data[i] & 15 > most or (data[i] > 15 and not is_ac):
                return False
        code += count
        symbol += count
        if code >= 1 << length and count:  # no code has ones alone
            return False
        code <<= 1
    return True


@jit
def _code_of(data: Any, codes: int) -> Any:
    """The code of symbol 0, and its length; longer than the index if there is none."""
    code, symbol = 0, codes + 16
    for length in range(1, INDEX_BITS + 1):
        for _ in range(data[codes + length - 1]):
            if data[symbol] == 0:
                return code, length
            code += 1
            symbol += 1
        code <<= 1
    return 0, INDEX_BITS + 1


@jit
def _fill_table(data: Any, codes: int, is_ac: bool, end: Any, repeated: Any, table: Any) -> None:
    """Fill half of the table. The codes of a length follow each other, so the entries do, too."""
    at, symbol = 0, codes + 16
    for length in range(1, INDEX_BITS + 1):
        for _ in range(data[codes + length - 1]):
            size, run = np.int64(data[symbol] & 15), np.int64(data[symbol] >> 4)
            free = INDEX_BITS - length - size  # bits of the index after the value
            if free < 0:
                entry = length | IS_LONG | np.int64(data[symbol]) << VALUE_SHIFT
                at = _fill(table, at, 1 << (INDEX_BITS - length), entry)
            elif is_ac and size == 0 and run != 15:
                at = _fill_repeated(table, at, free, length + (1 << BLOCKS_SHIFT), repeated)
            elif is_ac and size == 0:
                at = _fill(table, at, 1 << free, length | 16 << MOVE_SHIFT)
            else:
                entry = length + size | ((run + 1) << MOVE_SHIFT | IS_EVENT if is_ac else 0)
                for bits in range(1 << size):
                    value = entry | value_of(bits, size) << VALUE_SHIFT
                    if end[1] <= free:
                        first, after = at + (end[0] << (free - end[1])), free - end[1]
                        _fill_repeated(table, first, after, value + end[1] + (1 << BLOCKS_SHIFT), repeated)
                        _fill(table, at, first - at, value)
                        first += 1 << after
                        at = _fill(table, first, at + (1 << free) - first, value)
                    else:
                        at = _fill(table, at, 1 << free, value)
            symbol += 1
    _fill(table, at, HALF_TABLE - at, IS_LONG)


@jit
def _fill_repeated(table: Any, at: int, free: int, entry: int, repeated: Any) -> int:
    """Set the entries of the end of a block, after which `free` bits of the index follow.

    Where these begin with blocks that repeat the last one, they are decoded, too. Returns the position after
    the entries.
    """
    end = _fill(table, at, 1 << free, entry)
    while repeated[1] <= free:
        free -= repeated[1]
        at += repeated[0] << free
        entry += repeated[1] + (1 << BLOCKS_SHIFT)
        _fill(table, at, 1 << free, entry)
    return end


@jit
def _fill(table: Any, at: int, count: int, entry: int) -> int:
    """Set the next entries. Returns the position after them."""
    for i in range(np.uint64(at), np.uint64(at + count)):
        table[i] = entry
    return at + count


@jit
def value_of(bits: int, size: int) -> int:
    """The value that `size` further bits stand for (T.81 figure F.12); 0 for none."""
    return bits if size == 0 or bits >> (size - 1) else bits - (1 << size) + 1
