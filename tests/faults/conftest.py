"""Fixtures of the tests of faults: a corpus that nobody disturbed, and commands as processes of their own."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support import videos

ROOT = Path(__file__).resolve().parents[2]
making = videos

FLOWPREP = [sys.executable, "-m", "flowprep.cli"]
OPTIONS = ["--size", "source", "--shard-pairs", "5"]
VIDEOS, TASKS = 8, 24


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight videos, which are three tasks each."""
    folder = tmp_path_factory.mktemp("videos")
    for k in range(VIDEOS):
        making.write_video(folder / "in" / f"{k}.mp4", 14, size=(64, 48), seed=k)
    return folder / "in"


@pytest.fixture(scope="session")
def undisturbed(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digest of every shard of the corpus, as it is when nothing happens."""
    out = tmp_path_factory.mktemp("undisturbed") / "corpus"
    subprocess.run([*FLOWPREP, "extract", str(videos), "--out", str(out), *OPTIONS], check=True)
    assert len(shards(out)) == TASKS
    return shards(out)


@pytest.fixture
def frames_of_samples(tmp_path: Path) -> tuple[Path, list[object]]:
    """A corpus of the frames of eight sample clips, and the options that name its lists."""
    clips, corpus = tmp_path / "clips", tmp_path / "c"
    for command in (
        ["samples", clips, "--classes", "2", "--clips", "4"],
        ["extract", clips, "--out", corpus, "--size", "source", "--no-flow"],
    ):
        subprocess.run([*FLOWPREP, *map(str, command)], check=True, capture_output=True)
    files = {
        "--train-list": "trainlist01.txt",
        "--test-list": "testlist01.txt",
        "--class-index": "classInd.txt",
    }
    return corpus, [word for key, name in files.items() for word in (key, clips / "splits" / name)]


def shards(corpus: Path) -> dict[str, str]:
    """Digest of every file among the shards: also of those that should not be there."""
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted((corpus / "shards").iterdir())}


def leftovers(corpus: Path) -> list[Path]:
    """What no run may leave: temporary files and leases."""
    return [*corpus.rglob("*.tmp"), *(corpus / "leases").glob("*")]


@pytest.fixture
def start() -> Callable[..., subprocess.Popen]:
    """Start flowprep: start("extract", ...) -> its process, which leads a group that the test's end kills."""
    running: list[subprocess.Popen] = []

    def begin(*args: object, **options: object) -> subprocess.Popen:
        command = [*FLOWPREP, *map(str, args)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
        running.append(subprocess.Popen(command, **{**pipes, **options}, start_new_session=True))
        return running[-1]

    yield begin
    for process in running:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # also workers that a test has stopped
        process.communicate()


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
