"""Grey baseline JPEG files from fractional values, with bytes weighed against error.

What an ordinary JPEG encoder does, in compiled loops, with three differences that make flow smaller:

- Values come as floats and are rounded once, as coefficients, not before the transform as well.
- Each block's coefficients are chosen by dynamic programming over where its non-zero ones stand, so that
  squared error + price x bits is least (rate-distortion optimised, or trellis, quantisation; Crouse and
  Ramchandran, "Joint thresholding and quantizer selection for transform image coding", IEEE Trans. Image
  Processing 6(2), 1997). The price follows the error: what counts is the mean distance, not its square.
- Huffman tables are made for each file (ITU-T T.81 annex K.2), and no segment is written that a decoder can
  do without.

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

# Place in a block, in row order, of each coefficient in the order of the file (T.81 figure A.6).
_ZIGZAG = np.array(
    sorted(range(64), key=lambda p: (p // 8 + p % 8, p // 8 if (p // 8 + p % 8) % 2 else p % 8)), np.int64
)

# About how many bits a Huffman code takes, before it is known: fits to the codes of real flow. AC codes by
# zeros before the coefficient and bits of its size, DC codes by bits of the difference.
_RUN, _SIZE = np.mgrid[:16, :16]
_AC_BITS = np.minimum(16, 2.5 + 2.3 * np.sqrt(_RUN) + (_SIZE - 1) * (1 + 0.6 * np.minimum(_RUN, 3)))
_AC_BITS = (_AC_BITS + _SIZE).astype(np.float32)  # and the bits of the value itself
_DC_BITS = np.array([0.8] + [2.6 + 1.5 * size for size in range(1, 13)], np.float32)
_END_BITS = np.float32(0.8)
_SKIP_BITS = np.float32(16)

_END, _SKIP = 0x00, 0xF0  # symbols: the rest of the block is zero; 16 zeros


def encode(
    values: npt.NDArray[np.float32], level: int, table: npt.NDArray[np.int64], lambda_: float
) -> bytes:
    """A grey JPEG of `values` + `level`.

    A block in which all values are 0 decodes to exactly `level` everywhere, if 8 (level - 128) is a multiple
    of the first entry of the table.

    Args:
        values: (H, W), sides up to 65500; with the level added from 0 to 255.
        level: the pixel value of 0.
        table: (8, 8) quantisation steps, 1 to 255, row by row.
        lambda_: error in pixel values, summed over pixels, that a bit is worth.
    """
    file, size = _encode(values, level, table.ravel()[_ZIGZAG], np.float32(lambda_))
    return bytes(file[:size])


@jit
def _encode(values: Any, level: int, steps: Any, lambda_: Any) -> Any:
    levels, dc_counts, ac_counts = _quantise(values, level, steps, lambda_)
    return _write(levels, steps, values.shape, dc_counts, ac_counts)


@jit
def _quantise(values: Any, level: int, steps: Any, lambda_: Any) -> Any:
    """Quantised coefficients (blocks, 64) in zigzag order, DC as differences, and counts of the symbols."""
    height, width = values.shape
    columns = (width + 7) // 8
    blocks = (height + 7) // 8 * columns
    levels = np.zeros((blocks, 64), np.int32)
    dc_counts, ac_counts = np.zeros(256, np.int64), np.zeros(256, np.int64)
    block, half, whole = np.empty((3, 8, 8), np.float32)
    coefficients = np.empty(64, np.float32)
    places, links, chosen = np.empty((3, 64), np.int64)
    costs = np.empty(64, np.float32)
    flat = 8 * (level - 128)
    before = 0
    for b in range(blocks):
        if not _load(values, b // columns * 8, b % columns * 8, block):
            dc = flat // steps[0]
            levels[b, 0] = dc - before
            dc_counts[_bits(dc - before)] += 1
            ac_counts[_END] += 1
            before = dc
            continue
        _multiply(_COSINES, block, half)
        _multiply(half, _COSINES_T, whole)
        for i in range(64):
            coefficients[i] = whole[_ZIGZAG[i] >> 3, _ZIGZAG[i] & 7] / np.float32(steps[i])
        coefficients[0] += np.float32(flat) / np.float32(steps[0])

        # Squared error of the block, about: a pixel's own rounding, what is left out, what is rounded.
        error = np.float32(64 / 12)
        count = 0
        for i in range(1, 64):
            x = abs(coefficients[i])
            error += min(x * x, np.float32(1 / 3)) * steps[i] * steps[i]
            if x > 0.5:
                places[count] = i
                count += 1
        # d(64 root mean square) = d(squared error) / (2 root mean square), which makes of a price of the mean
        # error one of the squared error.
        a_bit = 2 * lambda_ * np.sqrt(error / 64)

        dc = _choose_dc(coefficients[0], before, steps[0], a_bit)
        levels[b, 0] = dc - before
        dc_counts[_bits(dc - before)] += 1
        before = dc

        # Cheapest way to have coefficient places[n] as the last one so far, for each n; places[links[n]] is
        # the one before it. Costs are relative to a block of zeros.
        best, end = a_bit * _END_BITS, -1
        for n in range(count):
            i = places[n]
            x = abs(coefficients[i])
            weight = np.float32(steps[i] * steps[i])
            nearest = min(max(int(x + 0.5), 1), 1023)
            costs[n] = np.float32(np.inf)
            for m in range(n - 1, -2, -1):
                run = i - 1 if m < 0 else i - places[m] - 1
                cost_before = np.float32(0) if m < 0 else costs[m]
                cost_before += a_bit * _SKIP_BITS * (run >> 4)
                for value in range(max(nearest - 1, 1), nearest + 1):
                    cost = cost_before + weight * ((x - value) * (x - value) - x * x)
                    cost += a_bit * _AC_BITS[run & 15, _bits(value)]
                    if cost < costs[n]:
                        costs[n], links[n], chosen[n] = cost, m, value
                if m >= 0 and abs(coefficients[places[m]]) > 2:
                    break  # one of this size is never left out
            total = costs[n] + (a_bit * _END_BITS if i < 63 else np.float32(0))
            if total < best:
                best, end = total, n
        if end < 0 or places[end] < 63:
            ac_counts[_END] += 1
        while end >= 0:
            i, link = places[end], links[end]
            levels[b, i] = chosen[end] if coefficients[i] > 0 else -chosen[end]
            run = i - 1 if link < 0 else i - places[link] - 1
            ac_counts[_SKIP] += run >> 4
            ac_counts[(run & 15) << 4 | _bits(chosen[end])] += 1
            end = link
    return levels, dc_counts, ac_counts


@jit
def _load(values: Any, top: int, left: int, block: Any) -> bool:
    """Copy a block, edge pixels repeated beyond the edge. False if all of it is 0."""
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
def _choose_dc(x: Any, before: int, step: int, a_bit: Any) -> int:
    best, chosen = np.float32(np.inf), 0
    nearest = int(np.rint(x))
    for value in range(nearest - 1, nearest + 2):
        cost = step * step * (x - value) * (x - value) + a_bit * _DC_BITS[_bits(value - before)]
        if cost < best:
            best, chosen = cost, value
    return chosen


@jit
def _bits(value: int) -> int:
    """Bits of the magnitude: the category SSSS of T.81."""
    value = abs(value)
    bits = 0
    while value:
        value >>= 1
        bits += 1
    return bits


@jit
def _huffman(counts: Any) -> Any:
    """An optimal Huffman code of at most 16 bits, T.81 K.2 and C.

    Returns:
        The numbers of codes of 1 to 16 bits, their symbols, and for each symbol its code and bits.
    """
    counts = np.append(counts, 1)  # a symbol of its own for the code of ones alone, which is forbidden
    sizes, others = np.zeros(257, np.int64), np.full(257, -1, np.int64)
    used = np.nonzero(counts)[0]
    while True:
        least: Any = -1
        next_least: Any = -1
        for s in used:
            if counts[s] and (least < 0 or counts[s] <= counts[least]):
                least, next_least = s, least
            elif counts[s] and (next_least < 0 or counts[s] <= counts[next_least]):
                next_least = s
        if next_least < 0:
            break
        counts[least] += counts[next_least]
        counts[next_least] = 0
        s = least
        while others[s] >= 0:
            s = others[s]
        others[s] = next_least  # those under both are now one chain
        s = least
        while s >= 0:
            sizes[s] += 1
            s = others[s]
    lengths = np.zeros(258, np.int64)
    for s in used:
        lengths[sizes[s]] += 1
    for i in range(257, 16, -1):  # K.2: pairs of codes that are too long move up
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
    lengths[longest] -= 1  # that of the symbol of its own
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
def _write(levels: Any, steps: Any, shape: Any, dc_counts: Any, ac_counts: Any) -> Any:
    """The file, in a buffer, and its size."""
    height, width = shape
    dc_lengths, dc_symbols, dc_codes, dc_bits = _huffman(dc_counts)
    ac_lengths, ac_symbols, ac_codes, ac_bits = _huffman(ac_counts)
    # A coefficient takes 26 bits at most, all of which may need stuffing.
    file = np.empty(1024 + levels.size * 7, np.uint8)
    n = 0
    for value in (0xFF, 0xD8, 0xFF, 0xDB, 0, 67, 0):  # SOI, DQT
        file[n] = value
        n += 1
    file[n : n + 64] = steps
    n += 64
    for value in (0xFF, 0xC0, 0, 11, 8, height >> 8, height & 255, width >> 8, width & 255, 1, 1, 0x11, 0):
        file[n] = value  # SOF0: 8 bits, one component
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
    bits, held = 0, 0  # not yet written: the `held` low bits of `bits`
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
                    bits, held = bits << ac_bits[_SKIP] | ac_codes[_SKIP], held + ac_bits[_SKIP]
                    bits, held, n = _flush(bits, held, file, n)
                    run -= 16
                size = _bits(value)
                code, length = ac_codes[run << 4 | size], ac_bits[run << 4 | size]
                run = 0
            if value < 0:
                value += (1 << size) - 1
            bits = (bits << length | code) << size | value
            bits, held, n = _flush(bits, held + length + size, file, n)
        if run:
            bits, held = bits << ac_bits[_END] | ac_codes[_END], held + ac_bits[_END]
            bits, held, n = _flush(bits, held, file, n)
    if held:  # filled up with ones
        padding = 8 - held
        bits, held, n = _flush(bits << padding | ((1 << padding) - 1), 8, file, n)
    file[n], file[n + 1] = 0xFF, 0xD9  # EOI
    return file, n + 2


@jit
def _flush(bits: int, held: int, file: Any, n: int) -> Any:
    """Write the whole bytes of `bits`, a zero byte after each 0xFF."""
    while held >= 8:
        held -= 8
        byte = bits >> held
        bits &= (1 << held) - 1
        file[n] = byte
        n += 1
        if byte == 0xFF:
            file[n] = 0
            n += 1
    return bits, held, n
