"""Choose the quantised coefficients of a JPEG so that squared error + lambda x bits is least.

This is rate-distortion optimised, or trellis, quantisation: Crouse and Ramchandran, "Joint thresholding and
quantizer selection for transform image coding", IEEE Trans. Image Processing 6(2), 1997. The state of the
dynamic programming is the position of the last coefficient that is not zero. lambda grows with the error of a
block, because the mean distance matters here, and not its square.
"""

from __future__ import annotations

from typing import Any

import numpy as np

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
END, SKIP = 0x00, 0xF0


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
            ac_counts[END] += 1
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
        dc_counts[magnitude_bits(dc - previous_dc)] += 1
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
    """Estimate the squared error of a block, and list in `places` the AC coefficients to consider.

    Returns:
        The error, and the number of positions. The error has three parts: pixels are rounded, coefficients
        are left out, and the others are rounded.
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
                cost += bit_cost * _AC_BITS[run & 15, magnitude_bits(value)]
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
        counts[END] += 1
    n = last
    while n >= 0:
        i, link = places[n], links[n]
        levels[i] = chosen[n] if coefficients[i] > 0 else -chosen[n]
        run = i - 1 if link < 0 else i - places[link] - 1
        counts[SKIP] += run >> 4
        counts[(run & 15) << 4 | magnitude_bits(chosen[n])] += 1
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
        cost = step * step * (x - value) * (x - value) + bit_cost * _DC_BITS[magnitude_bits(value - previous)]
        if cost < best:
            best, chosen = cost, value
    return chosen


@jit
def magnitude_bits(value: int) -> int:
    """Number of bits of the magnitude: the category SSSS of T.81."""
    value = abs(value)
    bits = 0
    while value:
        value >>= 1
        bits += 1
    return bits
