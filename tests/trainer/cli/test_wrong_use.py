"""Wrong use of `trainer`: one line, code 2, nothing heavy loaded. And names of videos for `predict`."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from tests.support.command import call
from tests.support.fakes import small, toml
from tests.support.wrong_use import check_no_heavy_library, check_wrong_use
from trainer.cli import main


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder, which is the current one, with an empty corpus, an empty run and files of other kinds."""
    for folder in ("corpus/records", "run", "empty"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "run" / "last.pt").touch()
    (tmp_path / "bad.txt").write_text("hello")
    toml(small("spatial"), tmp_path / "r.toml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


LISTS = "--train-list bad.txt --test-list bad.txt"
WRONG = [
    ("trian", "no command trian; did you mean train"),
    ("train r.toml --corpus corpus --train-lst x", "no option --train-lst; did you mean --train-list"),
    ("split -o l", "CORPUS is missing"),
    ("split empty -o l", "empty is not a corpus: it has neither records nor a plan"),
    ("split . -o l", "Did you mean corpus?"),
    ("split corpus -o bad.txt", "bad.txt is a file; allowed: a folder"),
    ("split corpus -o l --test-share 1", "--test-share is 1; allowed: a number above 0 and below 1"),
    ("split corpus -o l --seed x", "--seed is x; allowed: a whole number from 0 to 9223372036854775807"),
    (f"train none.toml --corpus corpus {LISTS} -o r", "no such file: none.toml"),
    (f"train r.toml --corpus empty {LISTS} -o r", "--corpus: empty is not a corpus"),
    (
        "train r.toml --corpus corpus --train-list none --test-list bad.txt -o r",
        "--train-list: no such list: none",
    ),
    (
        "train r.toml --corpus corpus --train-list empty --test-list bad.txt -o r",
        "empty is a folder; allowed: a file",
    ),
    (
        f"train r.toml --corpus corpus {LISTS} -o r --set train.foo=1",
        "unknown key train.foo; known: train.steps",
    ),
    (f"train r.toml --corpus corpus {LISTS} -o r --set train.lr=x", "train.lr is 'x'; allowed: a number"),
    (f"train bad.txt --corpus corpus {LISTS} -o r", "bad.txt: not a TOML file"),
    (
        f"train r.toml --corpus corpus {LISTS} -o r --device banana",
        "banana is no device; allowed: auto, cpu, cuda",
    ),
    (f"train r.toml --corpus corpus {LISTS} -o bad.txt", "bad.txt is a file; allowed: a folder"),
    (
        f"train r.toml --corpus corpus {LISTS} -o corpus",
        "corpus is not empty and holds no run; allowed: a new or an empty folder",
    ),
    (
        "evaluate empty --corpus corpus --list bad.txt -o s.npz",
        "empty is not a training run: it has no last.pt",
    ),
    (
        "evaluate none --corpus corpus --list bad.txt -o s.npz",
        "none is not a training run: there is no such folder",
    ),
    ("evaluate run --corpus corpus --list none -o s.npz", "no such list: none"),
    ("evaluate run --corpus corpus --list bad.txt -o s.txt", "allowed: a name that ends in .npz"),
    ("evaluate run --corpus corpus --list bad.txt -o s.npz --crops 3", "--crops is 3; allowed: 1, 2, 5, 10"),
    ("fuse run", "TEMPORAL is missing"),
    ("fuse run none.npz", "no such file or run: none.npz"),
    ("fuse run empty", "empty is not a training run"),
    ("scores empty", "empty is not a training run"),
    ("report --corpus corpus", "no run is named: give --spatial RUN"),
    ("report --corpus corpus --spatial empty", "--spatial: empty is not a training run"),
    ("report --corpus corpus --spatial run -o r.png", "allowed: a name that ends in .html or .htm"),
    ("compare empty", "empty is not a training run"),
    ("compare run --device cuda:x", "cuda:x is no device"),
    ("predict bad.txt", "no run is named"),
    ("predict none.mp4 --spatial run", "no such video, folder, list or corpus: none.mp4"),
    ("predict bad.txt --spatial run --method weighted", "allowed: only with --spatial and --temporal"),
    ("export run -o n.txt", "allowed: a name that ends in .onnx or .pt2"),
    ("export empty -o n.onnx", "empty is not a training run"),
    ("recipe none", "no such file: none"),
    ("recipe --set train.lr=1", "--set changes a recipe: name its file"),
    ("models x", "extra argument (x)"),
    ("bench none --corpus corpus", "no such file: none"),
    (
        "bench r.toml --corpus corpus --list none",
        "no such list: none; allowed: a file, or FOLDER:train1, or `all`",
    ),
]


@pytest.mark.parametrize(("line", "message"), WRONG)
def test_wrong_use_is_one_line_and_changes_nothing(place, line, message):
    check_wrong_use(call, place, line, message)


def test_wrong_use_and_help_load_no_heavy_library(place):
    helps = [f"{name} --help" for name in main.commands] + ["--help", "--version"]
    check_no_heavy_library("trainer", [*(line for line, _ in WRONG), *helps], place)


@pytest.mark.parametrize("command", [[], *([name] for name in main.commands)])
def test_help_fits_60_columns(command):
    lines = CliRunner().invoke(main, [*command, "--help"], terminal_width=60).stdout.splitlines()
    assert lines and [line for line in lines if len(line) > 60] == []
