"""Flow files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flowprep.errors import UsageError
from flowprep.flo import read_flo, write_flo


def test_a_file_byte_by_byte(tmp_path: Path) -> None:
    flow = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    write_flo(flow, tmp_path / "a.flo")
    data = (tmp_path / "a.flo").read_bytes()
    assert data[:12] == b"PIEH" + bytes([3, 0, 0, 0, 2, 0, 0, 0])
    np.testing.assert_array_equal(np.frombuffer(data, "<f4")[3:7], [0, 6, 1, 7])
    np.testing.assert_array_equal(read_flo(tmp_path / "a.flo"), flow)


def test_unknown_motion_is_nan_in_both_components(tmp_path: Path) -> None:
    flow = np.zeros((2, 2, 2), np.float32)
    flow[0, 0, 0], flow[1, 0, 1], flow[0, 1, 0] = 1.67e9, -2e9, np.nan
    write_flo(flow, tmp_path / "a.flo")
    np.testing.assert_array_equal(np.isnan(read_flo(tmp_path / "a.flo")), [[[1, 1], [1, 0]]] * 2)


@pytest.mark.parametrize("data", [b"", b"PIEH", b"PIEH" + bytes(8), b"PIEH\1\0\0\0\1\0\0\0" + bytes(7)])
def test_incomplete_files_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.flo").write_bytes(data)
    with pytest.raises(UsageError, match=r"not a complete \.flo file"):
        read_flo(tmp_path / "a.flo")


def test_another_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\(3, 4, 5\); allowed"):
        write_flo(np.zeros((3, 4, 5)), tmp_path / "a.flo")
