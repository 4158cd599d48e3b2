"""The cache of compiled code: its name, its place, and its use by a second process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import flowprep
from flowprep.system.jit import cache_name

SOURCES = Path(flowprep.__file__).parents[1]
ENGINES = SOURCES / "flowprep" / "engines"
NOWHERE = "/dev/null/none"
NOTICE = "WARNING:flowprep.system.jit:compiling for this processor, once: this takes 15 to 30 s\n"

# Two small functions of engine cpu: compiling all of it would take about 15 s.
COMPILE = """
import logging; logging.basicConfig()
import numpy as np
from flowprep.engines.cpu.memory import level_layout, make_steps, new_plane, pixels_of
from flowprep.engines.cpu.prepare import repeat_border
level = level_layout(16, 20)
steps, plane = np.ones(64, np.float32), new_plane(level)
make_steps(level, np.float32(0.5), steps)
pixels_of(plane, level)[:] = 1
repeat_border(plane, level)
assert steps.sum() == 10 and plane.sum() > 320
"""


def compile_in_a_process(folder: Path, **environment: str) -> str:
    """Run COMPILE with the package in a folder, and return its messages."""
    run = subprocess.run(
        [sys.executable, "-c", COMPILE],
        cwd=folder,  # `-c` imports from it before anything that is installed
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return run.stderr


@pytest.fixture
def read_only_sources(tmp_path: Path) -> Path:
    """A copy of the package, beside which no cache folder can be made, not even by root."""
    shutil.copytree(SOURCES / "flowprep", tmp_path / "flowprep", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "flowprep" / "__pycache__").write_text("a file, not a folder")
    return tmp_path


@pytest.mark.parametrize("name", ["pyramid.py", "cpu/iterate.py", "cpu/simd.py", "cpu/warp.py"])
def test_an_edited_kernel_file_changes_the_cache_folder(name: str, tmp_path: Path) -> None:
    sources = tmp_path / "engines"
    shutil.copytree(ENGINES, sources, ignore=shutil.ignore_patterns("__pycache__"))
    assert cache_name(sources) == cache_name(ENGINES)
    edited = sources / name
    edited.write_text(edited.read_text() + "\n# edited\n")
    assert cache_name(sources) != cache_name(ENGINES)


def test_a_read_only_package_is_cached_in_the_users_folder(read_only_sources: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    messages = compile_in_a_process(read_only_sources, XDG_CACHE_HOME=str(cache), NUMBA_CACHE_DIR=NOWHERE)
    assert messages == NOTICE
    assert list(cache.glob("flowprep/flowprep-*/**/*.nbc"))


def test_without_any_cache_folder_it_works_with_a_warning(read_only_sources: Path) -> None:
    nowhere = dict.fromkeys(["XDG_CACHE_HOME", "HOME", "NUMBA_CACHE_DIR"], NOWHERE)
    messages = compile_in_a_process(read_only_sources, **nowhere)
    assert "no cache folder is writable" in messages


def test_a_given_cache_folder_is_used_and_reused(tmp_path: Path) -> None:
    for expected in (NOTICE, ""):
        assert compile_in_a_process(SOURCES, NUMBA_CACHE_DIR=str(tmp_path)) == expected
        files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")}
    assert files and all(path.stat().st_mtime_ns == time for path, time in files.items())
