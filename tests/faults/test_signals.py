"""Every command, stopped at random moments: one line, no traceback, and what the line says is true."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.faults import FLOWPREP, ROOT, leftovers, wait_for

STOPS = 3  # of each command
TRAINER = [sys.executable, "-m", "trainer.cli"]
SMALL = ["train.steps=40", "train.batch=4", "train.milestones=[]", "train.checkpoint_every=3"]
SMALL += ["model.width=8", "input.crop=64", "train.validation_share=0.0"]
SETTINGS = [word for change in SMALL for word in ("--set", change)]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Sample clips, their corpus, and a finished run of each stream."""
    folder = tmp_path_factory.mktemp("made")
    clips, corpus = folder / "clips", folder / "c"
    run = [*SETTINGS, "--set", "train.steps=3", "--workers", "0"]
    for command in (
        [*FLOWPREP, "samples", "-o", clips, "--classes", "2", "--clips", "4"],
        [*FLOWPREP, "extract", clips, "-o", corpus, "--size", "source"],
        [*train(folder, "spatial"), *run, "-o", folder / "spatial"],
        [*train(folder, "temporal"), *run, "-o", folder / "temporal"],
    ):
        subprocess.run(list(map(str, command)), check=True, capture_output=True)
    return folder


def train(folder: Path, stream: str) -> list[object]:
    lists = folder / "clips" / "splits"
    command = [*TRAINER, "train", ROOT / "pipelines" / "demo" / f"{stream}.toml", "--corpus", folder / "c"]
    command += ["--train-list", lists / "trainlist01.txt", "--test-list", lists / "testlist01.txt"]
    return [*command, "--class-index", lists / "classInd.txt", "--device", "cpu"]


def flowprep(*words: object) -> Callable[[Path, Path], list[object]]:
    """A command; in its words, "CLIPS", "CORPUS" and "OUT" stand for paths."""

    def command(folder: Path, out: Path) -> list[object]:
        paths = {"CLIPS": folder / "clips", "CORPUS": folder / "c", "OUT": out / "out"}
        return [*FLOWPREP, *(paths.get(str(word), word) for word in words)]

    return command


COMMANDS: dict[str, Callable[[Path, Path], list[object]]] = {
    "plan": flowprep("plan", "CLIPS", "-o", "OUT"),
    "extract, one process": flowprep("extract", "CLIPS", "-o", "OUT", "--size", "source", "--jobs", 1),
    "extract, two": flowprep("extract", "CLIPS", "-o", "OUT", "--shard-pairs", 20, "--jobs", 2),
    "extract, Dask": flowprep("extract", "CLIPS", "-o", "OUT", "--shard-pairs", 20, "--local-cluster", 2),
    "verify": flowprep("verify", "CORPUS"),
    "index": flowprep("index", "CORPUS"),
    "export": flowprep("export", "CORPUS", "-o", "OUT", "--layout", "tsn", "--convert"),
    "repack": flowprep("repack", "CORPUS", "-o", "OUT", "--shard-pairs", 20),
    "report": flowprep("report", "CORPUS", "-o", "OUT"),
    "samples": flowprep("samples", "-o", "OUT", "--classes", 2, "--clips", 4),
    "train": lambda folder, out: [*train(folder, "spatial"), *SETTINGS, "-o", out / "run", "--workers", 0],
    "train, two loaders": lambda folder, out: [
        *train(folder, "temporal"),
        *SETTINGS,
        "-o",
        out / "run",
        "--workers",
        2,
    ],
    "fuse": lambda folder, out: [*TRAINER, "fuse", folder / "spatial", folder / "temporal"],
    "trainer report": lambda folder, out: [
        *[*TRAINER, "report", "--corpus", folder / "c", "-o", out / "out.html"],
        *["--spatial", folder / "spatial", "--temporal", folder / "temporal"],
    ],
    "predict": lambda folder, out: [
        *[*TRAINER, "predict", next((folder / "clips").rglob("*.mp4")), "--spatial", folder / "spatial"],
        *["--temporal", folder / "temporal"],
    ],
}


def catches_signals(process: int) -> bool:
    """Whether a process handles SIGTERM, which the interpreter itself does not."""
    with suppress(OSError):
        status = Path(f"/proc/{process}/status").read_text()
        mask = int(status.partition("SigCgt:")[2].split()[0], 16)
        return bool(mask >> (signal.SIGTERM - 1) & 1)
    return True  # it has ended


def start(command: list[object]) -> subprocess.Popen:
    return subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # The tests may run in the background of a script, which ignores Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_a_signal_at_any_moment_gives_one_line(name, made, tmp_path):
    if "Dask" in name:
        pytest.importorskip("distributed")
    if COMMANDS[name](made, tmp_path)[: len(TRAINER)] == TRAINER:
        pytest.importorskip("trainer.training.trainer")
    rng = random.Random(name)
    whole = tmp_path / "whole"
    whole.mkdir()
    began = time.monotonic()
    undisturbed = start(COMMANDS[name](made, whole))
    assert undisturbed.communicate()[1].count("Traceback") == 0 and undisturbed.returncode == 0
    seconds = time.monotonic() - began
    for stop in range(STOPS):
        out = tmp_path / str(stop)
        out.mkdir()
        process = start(COMMANDS[name](made, out))
        try:
            wait_for(lambda p=process: catches_signals(p.pid))
            with suppress(subprocess.TimeoutExpired):
                process.wait(rng.uniform(0, 0.9 * seconds))
            number = rng.choice([signal.SIGINT, signal.SIGTERM])
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number) if rng.random() < 0.5 else process.send_signal(number)
            err = process.communicate(timeout=120)[1]
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        lines = [line for line in err.splitlines() if line.strip()]
        assert "Traceback" not in err and "ignored" not in err, err
        assert process.returncode in (0, 1), (process.returncode, err)
        if process.returncode:
            errors = [line for line in lines if line.startswith("error: ")]
            assert errors == lines[-1:] and ("stopped" in errors[0] or "interrupted" in errors[0]), err
            check_promise(errors[0], name, made, out)


def check_promise(line: str, name: str, made: Path, out: Path) -> None:
    """Check that what a message says of going on is true."""
    if "the same command resumes" in line:
        assert (out / "out" / "plan.jsonl").exists()
        if "Dask" not in name:  # its workers may die with their files, which the next run removes
            assert leftovers(out / "out") == []
    if "--resume continues from the last checkpoint" in line:
        assert (out / "run" / "last.pt").exists()
    if "begins anew" in line:
        assert not (out / "run" / "last.pt").exists()
        quick = [*COMMANDS[name](made, out), "--set", "train.steps=1"]
        assert subprocess.run(list(map(str, quick)), capture_output=True).returncode == 0
