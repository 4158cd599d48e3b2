"""The cache of compiled code: a change in any source file of the engines leads to another folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import flowprep
from flowprep.system.jit import cache_name

ENGINES = Path(flowprep.__file__).parent / "engines"


@pytest.mark.parametrize(
    "name", ["pyramid.py", "cpu/iterate.py", "cpu/median.py", "cpu/simd.py", "cpu/warp.py"]
)
def test_an_edited_kernel_file_changes_the_cache_folder(name: str, tmp_path: Path) -> None:
    sources = tmp_path / "engines"
    shutil.copytree(ENGINES, sources, ignore=shutil.ignore_patterns("__pycache__"))
    assert cache_name(sources) == cache_name(ENGINES)
    edited = sources / name
    edited.write_text(edited.read_text() + "\n# edited\n")
    assert cache_name(sources) != cache_name(ENGINES)
