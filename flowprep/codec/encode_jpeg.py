"""Grey baseline JPEG files from fractional values, with a trade-off of bytes against error.

This is an ordinary JPEG encoder in compiled loops, with three differences that make flow smaller:

- Values are floats. They are rounded once, as coefficients, and not before the transform as well.
- Dynamic programming chooses the coefficients of each block so that squared error + lambda x bits is least
  (rate-distortion optimised, or trellis, quantisation; Crouse and Ramchandran, "Joint thresholding and
  quantizer selection for transform image coding", IEEE Trans. Image Processing 6(2), 1997). Its state is the
  place of the last coefficient that is not zero. lambda grows with the error of a block, because the mean
  distance matters here, and not its square.
- Each file has its own Huffman tables (ITU-T T.81 annex K.2), and only the segments that a decoder needs.

Names of markers and segments are those of ITU-T T.81.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from flowprep.system.jit import jit

# The discrete cosine transform of 8 values, T.81 A.3.3: coefficients = _COSINES @ values.
_k = np.arange(8)
_COSINES = (0.5 * np.cos((2 * _k + 1) * _k[:, None] * np.pi / 16)).astype(np.float32)
_COSINES[0] = np.sqrt(1 / 8)
_COSINES_T = np.ascontiguousarray(_COSINES.T)

# For each coefficient in file order, its place in a block in row order (T.81 figure A.6).
ZIGZAG = np.array(
    sorted(range(64), key=lambda p: (p // 8 + p % 8, p // 8 if (p // 8 + p % 8) % 2 else p % 8)), np.int64
)

# Estimated bits of the Huffman codes, which are not known yet: fits to the codes of real flow. AC codes are
# indexed by the zeros before a coefficient and the bits of its size, DC codes by the bits of the difference.
_RUN, _SIZE = np.mgrid[:16, :16]
_AC_BITS = np.minimum(16, 2.5 + 2.3 * np.sqrt(_RUN) + (_SIZE - 1) * (1 + 0.6 * np.minimum(_RUN, 3)))
_AC_BITS = (_AC_BITS + _SIZE).astype(np.float32)  # add the bits of the value itself
_DC_BITS = np.array([0.8] + [2.6 + 1.5 * size for size in range(1, 13)], np.float32)
_END_BITS = np.float32(0.8)
_SKIP_BITS = np.float32(16)

# Symbols: the rest of the block is zero; 16 zeros.
_END, _SKIP = 0x00, 0xF0


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
def quantise_blocks(values: Any, level: int, steps: Any, lambda_: Any) -> Any:
    """Transform and quantise all blocks.

    Args:
        values: (H, W) float32.
        level: the pixel value that stands for 0.
        steps: (64,) quantisation steps in file order.
        lambda_: float32, as for `encode`.

    Returns:
        Quantised coefficients (blocks, 64) in file order, DC as differences; and the counts of the DC and of
        the AC symbols, (256,) each.
    """
    height, width = values.shape
    columns = (width + 7) // 8
    blocks = (height + 7) // 8 * columns
    levels = np.zeros((blocks, 64), np.int32)
    dc_counts, ac_counts = np.zeros(256, np.int64), np.zeros(256, np.int64)
    work = np.empty((3, 8, 8), np.float32)
    coefficients = np.empty(64, np.float32)
    trellis = np.empty((3, 64), np.int64)
    costs = np.empty(64, np.float32)
    flat = 8 * (level - 128)
    previous_dc = 0
    for b in range(blocks):
        if not _load(values, b // columns * 8, b % columns * 8, work[0]):
            dc = flat // steps[0]
            ac_counts[_END] += 1
        else:
            _transform(work, steps, flat, coefficients)
            error, count = _estimate_error(coefficients, steps, trellis[0])
            # d(64 root mean square) = d(squared error) / (2 root mean square). This turns lambda_, a price in
            # mean error, into a price in squared error.
            bit_cost = 2 * lambda_ * np.sqrt(error / 64)
            dc = _choose_dc(coefficients[0], previous_dc, steps[0], bit_cost)
            last = _choose_ac(coefficients, steps, bit_cost, count, trellis, costs)
            _store_ac(coefficients, last, trellis, levels[b], ac_counts)
        levels[b, 0] = dc - previous_dc
        dc_counts[_bits(dc - previous_dc)] += 1
        previous_dc = dc
    return levels, dc_counts, ac_counts


@jit
def _transform(work: Any, steps: Any, flat: int, coefficients: Any) -> None:
    """The coefficients of the block work[0] in units of their steps, in file order."""
    block, half, whole = work[0], work[1], work[2]
    _multiply(_COSINES, block, half)
    _multiply(half, _COSINES_T, whole)
    for i in range(64):
        coefficients[i] = whole[ZIGZAG[i] >> 3, ZIGZAG[i] & 7] / np.float32(steps[i])
    coefficients[0] += np.float32(flat) / np.float32(steps[0])


@jit
def _estimate_error(coefficients: Any, steps: Any, places: Any) -> Any:
    """Estimate the squared error of a block and list the places of AC coefficients that may be stored.

    Returns:
        The error, the sum of: the rounding of pixels, coefficients left out, and the rounding of others; and
        the number of `places` that were filled.
    """
    error = np.float32(64 / 12)
    count = 0
    for i in range(1, 64):
        x = abs(coefficients[i])
        error += min(x * x, np.float32(1 / 3)) * steps[i] * steps[i]
        if x > 0.5:
            places[count] = i
            count += 1
    return error, count


@jit
def _choose_ac(coefficients: Any, steps: Any, bit_cost: Any, count: int, trellis: Any, costs: Any) -> int:
    """Find the cheapest AC coefficients of a block.

    For each n, the loop finds the cheapest way to have coefficient places[n] as the last one so far. The one
    before it is places[links[n]]. Costs are relative to a block of zeros.

    Args:
        coefficients: (64,) in units of their steps.
        steps: (64,) quantisation steps.
        bit_cost: cost of a bit, in squared error.
        count: number of `places`.
        trellis: (3, 64): `places`, which is read, then `links` and `chosen`, which are written.
        costs: (64,), written.

    Returns:
        n of the last coefficient of the block; -1 if there is none.
    """
    places, links, chosen = trellis[0], trellis[1], trellis[2]
    best, last = bit_cost * _END_BITS, -1
    for n in range(count):
        i = places[n]
        x = abs(coefficients[i])
        weight = np.float32(steps[i] * steps[i])
        nearest = min(max(int(x + 0.5), 1), 1023)
        costs[n] = np.float32(np.inf)
        for m in range(n - 1, -2, -1):
            run = i - 1 if m < 0 else i - places[m] - 1
            cost_before = np.float32(0) if m < 0 else costs[m]
            cost_before += bit_cost * _SKIP_BITS * (run >> 4)
            for value in range(max(nearest - 1, 1), nearest + 1):
                cost = cost_before + weight * ((x - value) * (x - value) - x * x)
                cost += bit_cost * _AC_BITS[run & 15, _bits(value)]
                if cost < costs[n]:
                    costs[n], links[n], chosen[n] = cost, m, value
            if m >= 0 and abs(coefficients[places[m]]) > 2:
                break  # a coefficient of this size is never left out
        total = costs[n] + (bit_cost * _END_BITS if i < 63 else np.float32(0))
        if total < best:
            best, last = total, n
    return last


@jit
def _store_ac(coefficients: Any, last: int, trellis: Any, levels: Any, counts: Any) -> None:
    """Write the chosen AC coefficients of a block to `levels`, (64,), and count their symbols."""
    places, links, chosen = trellis[0], trellis[1], trellis[2]
    if last < 0 or places[last] < 63:
        counts[_END] += 1
    n = last
    while n >= 0:
        i, link = places[n], links[n]
        levels[i] = chosen[n] if coefficients[i] > 0 else -chosen[n]
        run = i - 1 if link < 0 else i - places[link] - 1
        counts[_SKIP] += run >> 4
        counts[(run & 15) << 4 | _bits(chosen[n])] += 1
        n = link


@jit
def _load(values: Any, top: int, left: int, block: Any) -> bool:
    """Copy a block, with edge pixels repeated beyond the edge. Returns whether any value is not 0."""
    height, width = values.shape
    largest = np.float32(0)
    for i in range(8):
        row = min(top + i, height - 1)
        for j in range(8):
            value = values[row, min(left + j, width - 1)]
            block[i, j] = value
            largest = max(largest, abs(value))
    return bool(largest > 0)


@jit
def _multiply(a: Any, b: Any, out: Any) -> None:
    for i in range(8):
        for j in range(8):
            out[i, j] = 0
        for k in range(8):
            for j in range(8):
                out[i, j] += a[i, k] * b[k, j]


@jit
def _choose_dc(x: Any, previous: int, step: int, bit_cost: Any) -> int:
    """The cheapest DC coefficient near `x`, coded as the difference to `previous`."""
    best, chosen = np.float32(np.inf), 0
    nearest = int(np.rint(x))
    for value in range(nearest - 1, nearest + 2):
        cost = step * step * (x - value) * (x - value) + bit_cost * _DC_BITS[_bits(value - previous)]
        if cost < best:
            best, chosen = cost, value
    return chosen


@jit
def _bits(value: int) -> int:
    """Number of bits of the magnitude: the category SSSS of T.81."""
    value = abs(value)
    bits = 0
    while value:
        value >>= 1
        bits += 1
    return bits


@jit
def huffman_code(counts: Any) -> Any:
    """An optimal Huffman code of at most 16 bits (T.81 annexes K.2 and C).

    Args:
        counts: (256,) number of times that each symbol occurs.

    Returns:
        The numbers of codes of 1 to 16 bits, (16,); the symbols in the order of their codes; and for each
        symbol its code and the bits of it, (256,) each.
    """
    # One more symbol receives the code of ones alone, which is forbidden.
    counts = np.append(counts, 1)
    used = np.nonzero(counts)[0]
    sizes = _code_sizes(counts, used)
    lengths = _limited_lengths(sizes, used)
    used = used[used < 256]
    symbols = used[np.argsort(sizes[used], kind="mergesort")]
    codes, bits = np.zeros(256, np.int64), np.zeros(256, np.int64)
    code, n = 0, 0
    for length in range(1, 17):
        for _ in range(lengths[length]):
            codes[symbols[n]], bits[symbols[n]] = code, length
            code += 1
            n += 1
        code <<= 1
    return lengths[1:17], symbols, codes, bits


@jit
def _code_sizes(counts: Any, used: Any) -> Any:
    """Bits of each symbol's code, without a limit (T.81 figure K.1). Changes `counts`."""
    sizes, others = np.zeros(257, np.int64), np.full(257, -1, np.int64)
    while True:
        least: Any = -1
        next_least: Any = -1
        for s in used:
            if counts[s] and (least < 0 or counts[s] <= counts[least]):
                least, next_least = s, least
            elif counts[s] and (next_least < 0 or counts[s] <= counts[next_least]):
                next_least = s
        if next_least < 0:
            return sizes
        counts[least] += counts[next_least]
        counts[next_least] = 0
        s = least
        while others[s] >= 0:
            s = others[s]
        others[s] = next_least  # the symbols under both nodes are now one chain
        s = least
        while s >= 0:
            sizes[s] += 1
            s = others[s]


@jit
def _limited_lengths(sizes: Any, used: Any) -> Any:
    """The number of codes of each length, at most 16 bits, without the forbidden code (T.81 figure K.3)."""
    lengths = np.zeros(258, np.int64)
    for s in used:
        lengths[sizes[s]] += 1
    for i in range(257, 16, -1):  # pairs of codes that are too long move up
        while lengths[i]:
            j = i - 2
            while not lengths[j]:
                j -= 1
            lengths[i] -= 2
            lengths[i - 1] += 1
            lengths[j + 1] += 2
            lengths[j] -= 1
    longest = 16
    while not lengths[longest]:
        longest -= 1
    lengths[longest] -= 1  # the code of the additional symbol
    return lengths


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
                size = _bits(value)
                code, length = dc_codes[size], dc_bits[size]
            elif value == 0:
                run += 1
                continue
            else:
                while run > 15:
                    bits, pending = bits << ac_bits[_SKIP] | ac_codes[_SKIP], pending + ac_bits[_SKIP]
                    bits, pending, n = _flush(bits, pending, file, n)
                    run -= 16
                size = _bits(value)
                code, length = ac_codes[run << 4 | size], ac_bits[run << 4 | size]
                run = 0
            if value < 0:
                value += (1 << size) - 1
            bits = (bits << length | code) << size | value
            bits, pending, n = _flush(bits, pending + length + size, file, n)
        if run:
            bits, pending = bits << ac_bits[_END] | ac_codes[_END], pending + ac_bits[_END]
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
