"""What the tests of faults share: commands as processes, and what a corpus folder holds after them."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
FLOWPREP = [sys.executable, "-m", "flowprep.cli"]
OPTIONS = ["--size", "source", "--shard-pairs", "5"]
# Nothing of this is compiled first.
QUICK = [*OPTIONS, "--engine", "opencv", "--preset", "opencv", "--quantiser", "tsn"]
VIDEOS, TASKS = 8, 24


def shards(corpus: Path) -> dict[str, str]:
    """Digest of every file among the shards: also of those that should not be there."""
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted((corpus / "shards").iterdir())}


def leftovers(corpus: Path) -> list[Path]:
    """What no run may leave: temporary files and leases."""
    return [*corpus.rglob("*.tmp"), *(corpus / "leases").glob("*")]


def children(process: int, of: str) -> list[int]:
    """Children of a process whose command line holds a text."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if parent == process and of in command:
                found.append(int(entry.name))
    return found


def environment(**more: str) -> dict[str, str]:
    """This process's environment and more."""
    return {**os.environ, **more}


def wait_for(condition: Callable[[], T], seconds: float = 240.0) -> T:
    """Call a function until it returns something true, and return that."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
    return value
