"""Fixtures of the tests of flowprep."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flowprep.cli import main
from tests.support.videos import write_video


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Two classes with two videos each, and files that are none."""
    root = tmp_path / "clips"
    for label in ("left", "right"):
        for n in (1, 2):
            speed = 1 if label == "right" else -1
            write_video(root / label / f"v_{label}_g0{n}.mp4", 6 + n, speed=speed, seed=n)
    (root / "notes.txt").write_text("not a video")
    (root / "left" / "poster.jpg").write_bytes(b"not one either")
    return root


@pytest.fixture
def cli() -> Callable[..., Result]:
    """Run the command line: cli("extract", ...) -> result with exit_code, stdout, stderr."""

    def run(*args: object) -> Result:
        result = CliRunner().invoke(main, [str(a) for a in args])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run
