"""Fixtures of the tests of faults: a corpus that nobody disturbed, and commands as processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.faults import FLOWPREP, OPTIONS, ROOT, TASKS, VIDEOS, shards
from tests.support.videos import write_video


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight videos, which are three tasks each."""
    folder = tmp_path_factory.mktemp("videos")
    for k in range(VIDEOS):
        write_video(folder / "in" / f"{k}.mp4", 14, size=(64, 48), seed=k)
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
