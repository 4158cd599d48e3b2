"""20,000 damaged and forged JPEGs, with checks of bounds and without: decoded as by OpenCV, or refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.processors import run_python

FILES = 20_000


@pytest.mark.parametrize("bounds", [False, True])
def test_damaged_files_are_decoded_like_opencv_or_refused(bounds: bool, tmp_path: Path) -> None:
    # Numba's caches do not tell code with checks from code without.
    checks = {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)} if bounds else {}
    result = json.loads(
        run_python("-m", "tests.support.jpeg_mutations", str(FILES), str(int(bounds)), **checks)
    )
    print(f"\n{'damage':14}{'decoded':>10}{'refused':>10}{'otherwise':>10}")
    for row in result["counts"]:
        print(f"{row['damage']:14}{row['decoded']:10}{row['refused']:10}{row['otherwise']:10}")
    assert result["bounds"] == bounds, "numba's option does not act"
    assert result["otherwise"] == []
    assert sum(row["decoded"] + row["refused"] for row in result["counts"]) == FILES
