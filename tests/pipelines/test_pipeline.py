"""The scripts of pipelines/, with a command `trainer` that only records its calls."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "pipelines" / "train.sh"


@pytest.fixture
def script(tmp_path):
    """Runs the script on videos without lists. `complete`: `split --check` finds all videos in the lists."""
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "trainer"
    command.write_text('#!/bin/sh\necho "$@" >> "$CALLS"\ncase "$*" in *--check) exit "$CHECK";; esac\n')
    command.chmod(0o755)

    def run(*, complete, **more):
        calls = tmp_path / "calls"
        calls.write_text("")
        path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
        env = {**os.environ, "PATH": path, "CALLS": str(calls), "CHECK": "0" if complete else "1", **more}
        args = [str(SCRIPT), str(tmp_path / "out"), "recipe", "", "videos"]
        done = subprocess.run(["bash", *args], env=env, capture_output=True, text=True)
        lines = calls.read_text().splitlines()
        run.lines = lines
        return done, ["check" if "--check" in line else line.split()[0] for line in lines]

    return run


WHOLE = ["train", "train", "fuse", "report"]


def test_a_split_is_made_once_and_again_for_new_videos(script, tmp_path):
    assert script(complete=True)[1] == ["split", *WHOLE]
    (tmp_path / "out" / "splits").mkdir(parents=True)
    (tmp_path / "out" / "splits" / "testlist01.txt").touch()
    assert script(complete=True)[1] == ["check", *WHOLE]
    assert script(complete=False)[1] == ["check", "split", *WHOLE]


def test_another_split_and_weights_of_the_spatial_network(script, tmp_path):
    (tmp_path / "out" / "splits").mkdir(parents=True)
    for name in ("trainlist02.txt", "testlist01.txt"):
        (tmp_path / "out" / "splits" / name).touch()
    done, _ = script(complete=True, SPLIT="2", WEIGHTS="w.pt", TRAIN="--set seed=3")
    assert done.returncode == 0
    spatial, temporal, fuse = (line for line in script.lines if line.split()[0] in ("train", "fuse"))
    out = tmp_path / "out"
    for stream, line in (("spatial", spatial), ("temporal", temporal)):
        assert f"--train-list {out}/splits/trainlist02.txt --test-list {out}/splits/testlist02.txt" in line
        assert f"--out {out}/split2/{stream} --resume" in line and line.endswith("--set seed=3")
    assert "--set model.weights=w.pt" in spatial and "model.weights" not in temporal
    assert fuse == f"fuse {out}/split2/spatial {out}/split2/temporal --out {out}/split2/fused.npz"
    for stream in ("spatial", "temporal"):
        (out / "split2" / stream).mkdir(parents=True)
        (out / "split2" / stream / "validation_scores.npz").touch()
    script(complete=True, SPLIT="2")
    fuse = next(line for line in script.lines if line.startswith("fuse"))
    assert fuse.split()[3:6] == ["--method", "weighted", "--calibrate"]


def test_groups_and_folds_reach_the_split_and_both_streams(script, tmp_path):
    script(complete=True, GROUPS_PATTERN=r"person (\d)", FIT_FOLDS="3")
    split, spatial, temporal, _, _ = script.lines
    assert split.endswith(r"--groups person (\d)")
    for line in (spatial, temporal):
        assert line.endswith(r"--resume --groups person (\d) --fit-folds 3")
    for stream in ("spatial", "temporal"):
        (tmp_path / "out" / stream).mkdir(parents=True)
        (tmp_path / "out" / stream / "fold_scores.npz").touch()
    script(complete=True)
    fuse = next(line for line in script.lines if line.startswith("fuse"))
    assert fuse.split()[3:6] == ["--method", "weighted", "--calibrate"]


RECIPE = str(Path(__file__).parents[2] / "pipelines" / "demo")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"LISTS": "nope"}, "LISTS=nope: there is no such folder"),
        ({"LISTS": "."}, "LISTS=. has no split 1: neither trainlist01.txt (UCF-101) nor *_test_split1.txt"),
        ({"SPLIT": "2"}, "SPLIT=2 needs LISTS=folder"),
        ({"SPLIT": "2", "VIDEOS": "."}, "SPLIT=2 needs LISTS=folder"),
        ({"SPLIT": "one"}, "SPLIT=one; allowed: 1 to 9"),
        ({"RECIPE": "nope"}, "RECIPE=nope: there is no nope/spatial.toml"),
        ({"VIDEOS": "nope"}, "VIDEOS=nope: there is no such folder"),
        ({"WEIGHTS": "nope"}, "WEIGHTS=nope: there is no such file"),
        ({"FIT_FOLDS": "1"}, "FIT_FOLDS=1; allowed: 0, or from 2"),
    ],
)
def test_make_train_refuses_wrong_options_before_it_installs_or_extracts(tmp_path, options, says):
    values = {"OUT": tmp_path / "out", "VENV": tmp_path / "venv", "RECIPE": RECIPE, **options}
    makefile = str(SCRIPT.parents[1] / "Makefile")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(
        ["make", "-C", SCRIPT.parents[1], "-f", makefile, "train", *(f"{k}={v}" for k, v in values.items())],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[0].startswith(f"error: {says}")
    assert not any(tmp_path.iterdir())


def test_right_options_pass_the_check(tmp_path):
    for name in ("trainlist02.txt", "testlist02.txt", "kick_test_split1.txt"):
        (tmp_path / name).touch()
    for number in ("1", "2"):
        args = ["bash", SCRIPT, "--check", tmp_path / "out", RECIPE, tmp_path, ""]
        subprocess.run(args, env={**os.environ, "SPLIT": number}, check=True)
    (tmp_path / "testlist02.txt").unlink()
    done = subprocess.run(args, env={**os.environ, "SPLIT": "2"}, capture_output=True, text=True)
    assert done.returncode == 2 and "has trainlist02.txt and no testlist02.txt" in done.stderr


def test_a_run_of_an_earlier_split_is_not_touched(script, tmp_path):
    for folder, file in (("splits", "testlist01.txt"), ("temporal", "last.pt")):
        (tmp_path / "out" / folder).mkdir(parents=True)
        (tmp_path / "out" / folder / file).touch()
    done, calls = script(complete=False)
    assert calls == ["check"] and done.returncode == 2
    assert "use another OUT for other videos" in done.stderr
    assert script(complete=True)[1] == ["check", *WHOLE]
