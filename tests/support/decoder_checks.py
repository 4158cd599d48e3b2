"""The decoder of fields beside OpenCV's.

`check_fields` decodes files in one call. The files end where memory ends, and so does the result. It compares
each field with OpenCV's, and the bytes around the result with what they were.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from flowprep.codec.decode_jpeg import DECODED, REFUSED, decode_fields
from tests.support.guarded import PAGE, guarded

Window = tuple[int, int, int, int]

_UNTOUCHED = 0xA5


def reference(file: bytes) -> NDArray[np.uint8] | None:
    """What OpenCV decodes: (H, W), or None."""
    try:
        image = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_GRAYSCALE) if file else None
    except cv2.error:
        return None
    return None if image is None else np.asarray(image, np.uint8)


def check_fields(
    files: Sequence[bytes],
    shape: tuple[int, int],
    window: Window | None = None,
    *,
    mirror: bool = False,
    order: Sequence[int] | None = None,
) -> list[int]:
    """Decode files in one call, and compare those that are decoded with OpenCV.

    Args:
        files: JPEG files.
        shape: (H, W) of the images.
        window: the part to decode; the whole image by default.
        mirror: left to right.
        order: the files to decode, in this order; each once by default.

    Returns:
        The status of each field.
    """
    order = range(len(files)) if order is None else order
    top, left, height, width = window or (0, 0, *shape)
    data, offsets = _adjacent(files)
    sizes = np.array([len(file) for file in files], np.int64)
    checksums = np.array([zlib.crc32(file) for file in files], np.int64)
    area = height * width
    memory = guarded(len(order) * area + PAGE)
    memory[:] = _UNTOUCHED
    out = memory[len(memory) - len(order) * area :].reshape(len(order), height, width)
    rows = list(order)
    statuses = decode_fields(
        data, offsets[rows], sizes[rows], checksums[rows], shape, (top, left, height, width), out, mirror
    )
    assert statuses.shape == (len(rows),) and statuses.dtype == np.uint8
    assert (memory[: len(memory) - out.size] == _UNTOUCHED).all(), "bytes before the result were changed"
    expected: dict[int, NDArray[np.uint8] | None] = {}
    for row, status, image in zip(rows, statuses.tolist(), out, strict=True):
        assert status in (DECODED, REFUSED), "the checksum is right"
        if status == DECODED:
            if row not in expected:
                expected[row] = reference(files[row])
            whole = expected[row]
            assert whole is not None, f"file {row}: OpenCV cannot decode it"
            assert whole.shape == shape, f"file {row}: OpenCV decodes {whole.shape}, not {shape}"
            part = whole[top : top + height, left : left + width]
            np.testing.assert_array_equal(image, part[:, ::-1] if mirror else part, f"file {row}")
    return [int(status) for status in statuses]


def check_decoded(files: Sequence[bytes], shape: tuple[int, int], **options: Any) -> None:
    """Check that all files are decoded, and as by OpenCV. Options as of `check_fields`."""
    assert set(check_fields(files, shape, **options)) == {DECODED}


def _adjacent(files: Sequence[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Files one after the other, of which the last one ends where memory ends; and their offsets.

    The bytes may not be written, as those of a mapped shard.
    """
    together = b"".join(files)
    memory = guarded(len(together))
    start = len(memory) - len(together)
    memory[start:] = np.frombuffer(together, np.uint8)
    memory.flags.writeable = False
    ends = np.cumsum([len(file) for file in files])
    return memory, (start + ends - [len(file) for file in files]).astype(np.int64)
