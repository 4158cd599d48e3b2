"""A training whose processes are all signalled, as a terminal and a scheduler do, and which goes on."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.faults import ROOT, children, wait_for

pytest.importorskip("trainer.training.trainer")
SIGNALS = [signal.SIGINT, signal.SIGTERM] * 2 + [signal.SIGKILL]  # the last to a loader alone
LOADERS = ["threads"] * 2 + ["processes"] * 3


def test_signals_end_it_in_one_line(frames_of_samples, tmp_path):
    corpus, lists = frames_of_samples
    run = tmp_path / "run"
    changes = ["train.steps=1000000", "train.batch=4", "train.milestones=[]", "train.checkpoint_every=3"]
    changes += ["train.log_every=1", "train.validation_share=0.0", "model.width=8", "input.crop=64"]
    command = [
        Path(sys.executable).with_name("trainer"),
        "train",
        ROOT / "pipelines" / "demo" / "spatial.toml",
    ]
    command += ["--corpus", corpus, *lists, "--out", run, "--device", "cpu", "--workers", "2", "--resume"]
    command += [word for change in changes for word in ("--set", change)]
    log, done = run / "log.jsonl", 0

    def steps():
        rows = (
            [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")]
            if log.exists()
            else []
        )
        return [row["step"] for row in rows if "loss" in row]

    for number, loader in zip(SIGNALS, LOADERS, strict=True):
        process = subprocess.Popen(
            [*map(str, command), "--loader", loader],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            wait_for(lambda p=process, n=done: steps()[-1:] > [n + 4] or p.poll() is not None)
            if number == signal.SIGKILL:
                os.kill(children(process.pid, "trainer")[0], number)
            else:
                os.killpg(process.pid, number)
            err = process.communicate(timeout=120)[1]
            with pytest.raises(ProcessLookupError):  # none of its processes is left
                os.killpg(process.pid, 0)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        lines = [line for line in err.splitlines() if line]
        assert process.returncode == 1 and "Traceback" not in err, err
        says = (
            "DataLoader worker" if number == signal.SIGKILL else "interrupted: the same command with --resume"
        )
        assert lines[-1].startswith(f"error: {says}"), err
        assert not list(run.glob("running*"))
        done = steps()[-1]
    assert steps() == list(range(1, done + 1))  # none was skipped or logged twice
