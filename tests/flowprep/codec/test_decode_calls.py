"""One call of the decoder: windows, order, checksums, places, threads."""

from __future__ import annotations

import sys
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, product

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from flowprep.codec.decode_jpeg import BAD_CHECKSUM, DECODED, REFUSED, decode_fields
from flowprep.codec.quantise import encode_field
from flowprep.settings import Settings
from tests.support.decoder_checks import Window, check_decoded, check_fields
from tests.support.guarded import PAGE, guarded
from tests.support.jpegs import KINDS, by_opencv, by_pillow, flow_of_kind, picture

FIELD = encode_field(flow_of_kind("half", (24, 40)), Settings()).jpeg
GREY = by_opencv(picture((24, 40)))


def edge_windows(shape: tuple[int, int]) -> Iterator[Window]:
    """All windows that begin or end at an edge of the image or of a block, or beside one."""

    def intervals(side: int) -> list[tuple[int, int]]:
        places = sorted({min(max(p, 0), side) for edge in (0, 8, side) for p in (edge - 1, edge, edge + 1)})
        return [(start, end) for start, end in product(places, places) if start < end]

    for (top, bottom), (left, right) in product(intervals(shape[0]), intervals(shape[1])):
        yield top, left, bottom - top, right - left


@pytest.mark.parametrize("shape", [(1, 1), (8, 9), (17, 16), (21, 30)], ids=str)
@pytest.mark.parametrize("mirror", [False, True])
def test_windows_at_all_edges(shape: tuple[int, int], mirror: bool) -> None:
    files = [encode_field(flow_of_kind(kind, shape), Settings()).jpeg for kind in ("half", "dense")]
    files.append(by_pillow(picture(shape)))
    for window in edge_windows(shape):
        check_decoded(files, shape, window=window, mirror=mirror)


def test_every_pixel_alone() -> None:
    files = [encode_field(flow_of_kind("noise", (17, 16)), Settings()).jpeg]
    for top, left in np.ndindex(17, 16):
        check_decoded(files, (17, 16), window=(top, left, 1, 1), mirror=bool((top + left) % 2))


def test_random_windows() -> None:
    rng = np.random.default_rng(0)
    shape = (90, 75)
    files = [encode_field(flow_of_kind(kind, shape), Settings()).jpeg for kind in KINDS]
    for _ in range(200):
        height, width = rng.integers(1, shape[0] + 1), rng.integers(1, shape[1] + 1)
        top, left = rng.integers(shape[0] - height + 1), rng.integers(shape[1] - width + 1)
        window = (int(top), int(left), int(height), int(width))
        order = rng.integers(len(files), size=5).tolist()
        check_decoded(files, shape, window=window, mirror=bool(rng.integers(2)), order=order)


def test_any_order_with_repeats_and_refused_files_between() -> None:
    files = [FIELD, b"none", GREY, by_pillow(picture((24, 40)), progressive=True), FIELD[:100]]
    order = [2, 1, 0, 0, 3, 2, 4, 4, 0, 2]
    expected = [DECODED if row in (0, 2) else REFUSED for row in order]
    assert check_fields(files, (24, 40), order=order) == expected
    assert check_fields(files, (24, 40), order=order, mirror=True, window=(1, 2, 20, 30)) == expected
    assert check_fields(files, (24, 40), order=[]) == []


def call(files: list[bytes], checksums: list[int]) -> tuple[list[int], NDArray[np.uint8]]:
    """Decode files of 24x40. Returns the status and the image of each."""
    data = np.frombuffer(b"".join(files), np.uint8)
    ends = [0, *accumulate(len(file) for file in files)]
    sizes = np.diff(ends).astype(np.int64)
    out = np.full((len(files), 24, 40), 77, np.uint8)
    starts, sums = np.array(ends[:-1], np.int64), np.array(checksums, np.int64)
    return decode_fields(data, starts, sizes, sums, (24, 40), (0, 0, 24, 40), out).tolist(), out


def test_a_wrong_checksum_is_found_and_spoils_no_other_field() -> None:
    right = [zlib.crc32(file) for file in (GREY, FIELD, GREY)]
    for wrong in (right[1] ^ 1, right[1] ^ 1 << 31, 0, -1, right[1] - 2**32, right[1] + 2**32):
        statuses, out = call([GREY, FIELD, GREY], [right[0], wrong, right[2]])
        assert statuses == [DECODED, BAD_CHECKSUM, DECODED], wrong
        assert (out[[0, 2]] == cv2.imdecode(np.frombuffer(GREY, np.uint8), cv2.IMREAD_GRAYSCALE)).all()


def test_the_checksum_covers_every_byte() -> None:
    trailing = FIELD + b"more"
    for at in range(0, len(trailing), 7):
        damaged = bytearray(trailing)
        damaged[at] ^= 4
        assert call([bytes(damaged)], [zlib.crc32(trailing)])[0] == [BAD_CHECKSUM]
    assert call([b"no JPEG"], [1])[0] == [BAD_CHECKSUM]


FAR = 2**63 - 1
OUTSIDE = [
    (-1, 10),
    (-10, 10),
    (-FAR - 1, 10),
    (0, -1),
    (0, -FAR - 1),
    (5, -5),
    (0, 10**6),
    (0, PAGE + 1),
    (0, FAR),
    (1, FAR),
    (1, PAGE),
    (PAGE - 9, 10),
    (PAGE, 1),
    (PAGE + 1, 0),
    (FAR, 1),
    (FAR, FAR),
    (10**12, 100),
]


@pytest.mark.parametrize(("offset", "size"), OUTSIDE)
def test_places_outside_the_data_are_not_read(offset: int, size: int) -> None:
    """The data fills one page between two forbidden ones."""
    data = guarded(PAGE)
    data[: len(FIELD)] = np.frombuffer(FIELD, np.uint8)
    checksum = zlib.crc32(FIELD)
    numbers = ([0, offset, 0], [len(FIELD), size, len(FIELD)], [checksum, zlib.crc32(data), checksum ^ 1])
    out = np.full((3, 24, 40), 77, np.uint8)
    columns = (np.array(column, np.int64) for column in numbers)
    statuses = decode_fields(data, *columns, (24, 40), (0, 0, 24, 40), out).tolist()
    assert statuses[0] == DECODED and statuses[1] in (BAD_CHECKSUM, REFUSED) and statuses[2] == BAD_CHECKSUM
    assert (out[1] == 77).all()


def test_data_that_may_be_written_and_none_at_all() -> None:
    data = np.frombuffer(FIELD, np.uint8).copy()
    numbers = [np.array([n], np.int64) for n in (0, len(FIELD), zlib.crc32(FIELD))]
    out = np.zeros((1, 24, 40), np.uint8)
    assert decode_fields(data, *numbers, (24, 40), (0, 0, 24, 40), out).tolist() == [DECODED]
    assert data.tobytes() == FIELD
    status = decode_fields(data[:0], *numbers, (24, 40), (0, 0, 24, 40), out)
    assert status[0] in (BAD_CHECKSUM, REFUSED)


def test_a_part_of_a_larger_array_is_filled() -> None:
    """`out` may be some fields of a batch."""
    batch = np.full((5, 24, 40), 77, np.uint8)
    data = np.frombuffer(FIELD, np.uint8)
    numbers = [np.array([n] * 2, np.int64) for n in (0, len(FIELD), zlib.crc32(FIELD))]
    assert decode_fields(data, *numbers, (24, 40), (0, 0, 24, 40), batch[2:4]).tolist() == [DECODED] * 2
    assert (batch[[0, 1, 4]] == 77).all() and (batch[2] == batch[3]).all() and (batch[2] != 77).any()


# Threads


def test_threads_do_not_share_what_they_work_with() -> None:
    shapes = [(24, 40), (64, 48), (33, 70), (17, 16)]
    files = [[encode_field(flow_of_kind(kind, s), Settings()).jpeg for kind in KINDS] for s in shapes]
    with ThreadPoolExecutor(4) as pool:
        runs = [
            pool.submit(check_decoded, files[k % 4], shapes[k % 4], mirror=bool(k % 3)) for k in range(80)
        ]
        for run in runs:
            run.result()


def test_other_threads_run_while_fields_are_decoded() -> None:
    """The interpreter changes threads only where its lock is released: the interval is an hour."""
    files, stop, steps = [by_pillow(picture((256, 341)), quality=95)], threading.Event(), []
    data = np.frombuffer(files[0], np.uint8)
    n = 40
    numbers = [np.full(n, value, np.int64) for value in (0, len(data), zlib.crc32(files[0]))]
    out = np.empty((n, 256, 341), np.uint8)
    shape, window = (256, 341), (0, 0, 256, 341)
    decode_fields(data, *numbers, shape, window, out)  # compiles

    def run() -> None:
        stop.wait()
        steps.append(1)

    thread = threading.Thread(target=run)
    thread.start()
    before = sys.getswitchinterval()
    sys.setswitchinterval(3600)
    try:
        stop.set()
        for _ in range(100):
            decode_fields(data, *numbers, shape, window, out)
            if steps:
                break
        ran = bool(steps)
    finally:
        sys.setswitchinterval(before)
        thread.join()
    assert ran
