"""Optimal Huffman codes for JPEG (ITU-T T.81)."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowprep.system.jit import jit


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
