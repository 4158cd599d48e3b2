"""What wrong use of both programs has in common: one line, code 2, nothing written, no heavy library."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# One process parses all lines: what one of them loads, the next would hide, so the first to load is named.
LOADED = """
import sys, contextlib, io, shlex
from {program}.cli import main
for line in sys.stdin.read().splitlines():
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        try:
            main(shlex.split(line))
        except SystemExit:
            pass
    heavy = ("torch", "cv2", "numba", "h5py", "av", "sklearn")
    if loaded := [name for name in heavy if name in sys.modules]:
        raise SystemExit(line + ": " + ", ".join(loaded))
"""


def check_wrong_use(call: Callable[..., Any], place: Path, line: str, message: str) -> None:
    """Run a wrong command line in a folder; it must say `message` in one line, and change nothing."""
    before = sorted(place.rglob("*"))
    result = call(*line.split())
    assert result.exit_code == 2 and result.stdout == ""
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1, result.stderr
    assert message in result.stderr
    assert sorted(place.rglob("*")) == before


def check_no_heavy_library(program: str, lines: Sequence[str], place: Path) -> None:
    """Run command lines of a program in a folder; none may load a heavy library."""
    code = LOADED.format(program=program)
    run = subprocess.run(
        [sys.executable, "-c", code], input="\n".join(lines), cwd=place, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
