"""Medians by networks of comparators: without branches, for vectors and for GPUs.

A comparator (i, j) stores the smaller of two values at i and the larger one at j.
"""

from __future__ import annotations

Network = list[tuple[int, int]]


def _network(text: str) -> Network:
    return [(int(i), int(j)) for i, j in (pair.split("-") for pair in text.split())]


SORT_3 = _network("0-2 0-1 1-2")
SORT_5 = _network("0-1 3-4 2-4 2-3 1-4 0-3 0-2 1-3 1-2")

# Input: sorted columns, with value r of column c at side * r + c. Output: their median, at MEDIAN_9 or
# MEDIAN_25. Many values are not compared: of 25, the three smallest of the columns' minima cannot be the
# median, and so on. A test runs every input of zeros and ones, which proves a network (Knuth, TAOCP 5.3.4).
SELECT_9 = _network("1-2 0-2 6-7 6-8 3-4 4-5 3-4 2-4 4-6 2-4")
MEDIAN_9 = 4
SELECT_25 = _network(
    """
    0-1  3-4  2-4  2-3  1-4  0-3  1-3  5-6  8-9  7-9  7-8  6-9  5-8  6-8  6-7  10-11  13-14  12-14
    12-13  11-14  10-13  10-12  11-13  11-12  15-16  18-19  17-18  16-19  15-18  15-17  16-18  16-17
    22-24  22-23  21-24  20-22  21-23  21-22  15-11  3-7  16-20  12-21  11-7  8-16  9-20  21-13  12-4
    7-9  17-4  7-8  9-16  21-17  8-12  9-21  16-17  16-12  9-16
    """
)
MEDIAN_25 = 16
