import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from flowprep.errors import CorpusDamaged, UsageError
from tests.support.command import call
from tests.support.fakes import CLASSES, small, toml, write_lists
from trainer.evaluation.scores import Scores
from trainer.models import registry
from trainer.models.registry import MODELS
from trainer.recipe.schema import Recipe
from trainer.recipe.toml import as_toml, read_recipe
from trainer.training import checkpoint, distributed


@pytest.fixture
def setting(tmp_path, opened):
    """Options of `train` for the corpus in memory, with the recipes and lists in tmp_path."""
    index, train, test = write_lists(tmp_path / "lists")
    for stream in ("spatial", "temporal"):
        toml(small(stream), tmp_path / f"{stream}.toml")
    return [
        "--corpus",
        tmp_path,
        "--train-list",
        train,
        "--test-list",
        test,
        "--class-index",
        index,
        "--device",
        "cpu",
        "--workers",
        0,
    ]


def test_train_evaluate_fuse_and_report(tmp_path, setting, opened):
    """Train both streams, evaluate the training videos, fuse by all three methods, report."""
    for stream in ("spatial", "temporal"):
        steps = ["--set", "train.steps=60", "--set", "train.milestones=[45]"]
        done = call(
            "-q", "train", tmp_path / f"{stream}.toml", *setting, "--out", tmp_path / stream, *steps, "--json"
        )
        assert done.exit_code == 0
        summary = json.loads(done.stdout)
        assert summary["stream"] == stream and summary["videos"] == 8
        fit = call(
            "evaluate",
            tmp_path / stream,
            "--corpus",
            tmp_path,
            "--list",
            tmp_path / "lists" / "trainlist01.txt",
            "--out",
            tmp_path / f"{stream}_fit.npz",
            "--frames",
            1,
            "--crops",
            1,
            "--workers",
            0,
        )
        assert fit.exit_code == 0 and "24 videos" in fit.stdout
        own = Scores.load(tmp_path / stream / "validation_scores.npz")
        assert len(own.ids) == 8 and not set(own.ids) & set(Scores.load(tmp_path / stream).ids)
    files = [tmp_path / s / "test_scores.npz" for s in ("spatial", "temporal")]
    fits = ["--fit", tmp_path / "spatial_fit.npz", tmp_path / "temporal_fit.npz"]
    for method in ("average", "weighted", "svm"):
        more = [] if method == "average" else fits
        out = tmp_path / f"{method}.npz"
        done = call("-q", "fuse", *files, "--method", method, *more, "--out", out, "--json")
        summary = json.loads(done.stdout)
        assert summary["fused_accuracy"] == Scores.load(out).accuracy
        assert summary["videos"] == 8
    for streams, says in (
        ([tmp_path / "weighted.npz", files[1]], "weighted.npz has scores that are fused already (weighted)"),
        ([tmp_path / "spatial", files[0]], "are the same scores; allowed: a spatial and a temporal stream"),
    ):
        refused = call("fuse", *streams)
        assert refused.exit_code == 2 and says in refused.stderr
    # Two runs are fitted on their own held-out videos.
    both = [tmp_path / "spatial", tmp_path / "temporal"]
    done = call("fuse", *both, "--method", "weighted", "--calibrate", "--json")
    assert done.exit_code == 0 and "temperatures fitted on 8 videos" in done.stderr
    assert json.loads(done.stdout)["calibrated"] is True
    done = call("scores", *both, tmp_path / "svm.npz", "--confusion", tmp_path / "confusion.csv")
    assert done.exit_code == 0 and "mean of 3" in done.stdout
    assert (tmp_path / "confusion.csv").read_text().startswith(f",{','.join(CLASSES)}\n")
    found = json.loads(call("scores", *both, "--json").stdout)
    assert found["accuracy"] == [Scores.load(file).accuracy for file in files]
    runs = ["--spatial", tmp_path / "spatial", "--temporal", tmp_path / "temporal"]
    report = tmp_path / "r" / "report.html"
    done = call("report", *runs, "--fused-scores", tmp_path / "svm.npz", "--corpus", tmp_path, "-o", report)
    assert done.exit_code == 0
    assert all(name in report.read_text() for name in CLASSES)


def test_evaluating_a_list_of_the_run_itself(tmp_path, setting):
    quick = ["--set", "train.steps=1", "--set", "train.milestones=[]"]
    assert (
        call("train", tmp_path / "spatial.toml", *setting, "--out", tmp_path / "run", *quick).exit_code == 0
    )
    held = tmp_path / "run" / "validationlist.txt"
    done = call(
        "evaluate",
        tmp_path / "run",
        "--corpus",
        tmp_path,
        "--list",
        held,
        "--out",
        tmp_path / "v.npz",
        "--workers",
        0,
    )
    assert done.exit_code == 0
    scores = Scores.load(tmp_path / "v.npz")
    assert len(scores.ids) == 8
    assert all(i.startswith(scores.classes[n] + "/") for i, n in zip(scores.ids, scores.labels, strict=True))


def test_resuming_a_finished_run_says_so(tmp_path, setting, monkeypatch):
    args = ["train", tmp_path / "spatial.toml", *setting, "--out", tmp_path / "run"]
    args += ["--set", "train.steps=1", "--set", "train.milestones=[]"]
    assert call(*args).exit_code == 0
    again = call(*args)
    assert again.exit_code == 2 and "--resume continues it" in again.stderr
    resumed = call(*args, "--resume")
    assert resumed.exit_code == 0 and "is finished: 1 steps" in resumed.stderr
    with monkeypatch.context() as second:  # only the first of several processes prints it
        second.setattr(distributed, "rank", lambda: 1)
        assert "is finished" not in call(*args, "--resume").output
    (tmp_path / "run" / "test_scores.npz").unlink()
    assert call(*args, "--resume").exit_code == 0
    assert (tmp_path / "run" / "test_scores.npz").exists()


def test_a_finished_run_is_evaluated_again_with_another_list(tmp_path, setting):
    args = ["-q", "train", tmp_path / "spatial.toml", *setting, "--out", tmp_path / "run"]
    args += ["--set", "train.steps=1", "--set", "train.milestones=[]"]
    assert call(*args).exit_code == 0
    path, test = tmp_path / "run" / "test_scores.npz", tmp_path / "lists" / "testlist01.txt"
    lines = test.read_text().split("\n")
    test.write_text("\n".join(lines[2:]))
    done = call(*args, "--resume", "--json")
    assert json.loads(done.stdout)["videos"] == 6 and "is finished" not in done.stderr
    assert Scores.load(path).ids.tolist() == [line for line in lines[2:] if line]
    before = path.stat().st_mtime_ns
    assert "is finished" in call(*args, "--resume").stderr and path.stat().st_mtime_ns == before


def test_a_test_video_that_does_not_fit_stops_before_training(tmp_path, setting, opened):
    opened.videos["BlueSpin/v_BlueSpin_g01_c01.avi"].width = 20
    done = call("train", tmp_path / "spatial.toml", *setting, "--out", tmp_path / "run")
    assert done.exit_code == 2 and "v_BlueSpin_g01_c01.avi is 20x40 pixels" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_file_that_cannot_be_written_is_one_line(tmp_path, setting):
    (tmp_path / "file").write_text("")
    for args in (
        ["train", tmp_path / "spatial.toml", *setting, "--out", tmp_path / "file" / "run"],
        ["split", tmp_path, "--out", tmp_path / "file" / "lists"],
    ):
        done = call(*args)
        assert done.exit_code == 2 and done.stderr.count("\n") == 1
        assert f"error: --out: {tmp_path / 'file'} is a file; allowed: a folder" in done.stderr


def test_an_interrupted_training_says_how_to_continue(tmp_path, setting, monkeypatch):
    def interrupt(*_args, **_options):
        raise KeyboardInterrupt

    args = ["train", tmp_path / "spatial.toml", *setting, "--out", tmp_path / "run"]
    monkeypatch.setattr("trainer.evaluation.evaluate.evaluate", interrupt)
    quick = ["--set", "train.steps=1", "--set", "train.milestones=[]"]
    done = call(*args, *quick)
    assert done.exit_code == 1 and done.stderr.splitlines()[-1].startswith("error: interrupted")
    monkeypatch.setattr("trainer.training.trainer.train", interrupt)
    done = call(*args)
    assert done.exit_code == 1
    says = "error: interrupted: the same command with --resume continues from the last checkpoint in"
    assert done.stderr == f"{says} {tmp_path / 'run'}\n"

    def fail_from_it(*_args, **_options):
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("unexpected position")  # as torch.save does

    monkeypatch.setattr("trainer.training.trainer.train", fail_from_it)
    done = call(*args)
    assert done.exit_code == 1 and done.stderr == f"{says} {tmp_path / 'run'}\n"
    done = call(*args[:-1], tmp_path / "new")
    says = f"error: interrupted: there is no checkpoint in {tmp_path / 'new'} yet, so the same command begins"
    assert done.exit_code == 1 and done.stderr == f"{says} anew\n"


def test_the_lists_of_a_run_have_its_classes(tmp_path, setting, opened, monkeypatch):
    """Even if the classes of the training list are not those of the folders."""
    for name in ("trainlist01.txt", "testlist01.txt"):
        path = tmp_path / "lists" / name
        videos = [line.split()[0] for line in path.read_text().split("\n") if line]
        path.write_text("".join(f"{v} {CLASSES[3 - CLASSES.index(v.split('/')[0])]}\n" for v in videos))
    quick = ["--set", "train.steps=1", "--set", "train.milestones=[]"]
    assert (
        call("train", tmp_path / "spatial.toml", *setting, "--out", tmp_path / "run", *quick).exit_code == 0
    )
    monkeypatch.chdir(tmp_path)
    for held in (tmp_path / "run" / "validationlist.txt", "run/validationlist.txt"):
        out = ["--out", tmp_path / "v.npz", "--workers", 0]
        assert call("evaluate", tmp_path / "run", "--corpus", tmp_path, "--list", held, *out).exit_code == 0
        scores = Scores.load(tmp_path / "v.npz")
        folders = [CLASSES.index(i.split("/")[0]) for i in scores.ids]
        assert scores.labels.tolist() == [3 - n for n in folders]


def test_errors_are_one_line_before_anything_is_written(tmp_path, setting):
    (tmp_path / "lists" / "trainlist01.txt").write_text("RedZoom/none.avi 4\n")
    done = call("train", tmp_path / "spatial.toml", *setting, "--out", tmp_path / "run")
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: ")
    assert "RedZoom/none.avi" in done.stderr
    assert not (tmp_path / "run").exists()


def test_weights_that_do_not_fit_leave_nothing(tmp_path, setting):
    torch.save({"fc.weight": torch.zeros(4, 9)}, tmp_path / "w.pt")
    more = ["--out", tmp_path / "run", "--set", f"model.weights={tmp_path / 'w.pt'}"]
    done = call("train", tmp_path / "spatial.toml", *setting, *more)
    assert done.exit_code == 2 and "w.pt" in done.stderr
    assert not (tmp_path / "run").exists()


def test_refusals(tmp_path):
    a = Scores(np.array(["x"]), np.array([0]), np.array(["p", "q"]), np.array([[1, 0]], np.float32))
    a.save(tmp_path / "a.npz")
    done = call("fuse", tmp_path / "a.npz", tmp_path / "a.npz", "--method", "svm")
    assert done.exit_code == 2 and "svm needs --fit" in done.stderr
    done = call("fuse", tmp_path / "a.npz", tmp_path / "none.npz")
    assert done.exit_code == 2 and f"no such file or run: {tmp_path / 'none.npz'}" in done.stderr
    done = call("predict", tmp_path / "a.npz")
    assert done.exit_code == 2 and "--spatial RUN" in done.stderr
    (tmp_path / "last.pt").touch()
    done = call("predict", tmp_path / "video.mp4", "--spatial", tmp_path)
    assert (
        done.exit_code == 2
        and f"no such video, folder, list or corpus: {tmp_path / 'video.mp4'}" in done.stderr
    )


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_an_error_in_a_loader_process_is_one_line_and_exit_1(tmp_path, setting, opened, monkeypatch):
    def damaged(self, frames, **_):
        raise CorpusDamaged(f"{self.id}: image {frames[0]} does not match its checksum")

    monkeypatch.setattr(type(next(iter(opened.videos.values()))), "rgb", damaged)
    done = call("train", tmp_path / "spatial.toml", *setting, "--workers", 1, "--out", tmp_path / "run")
    assert done.exit_code == 1
    last = done.stderr.splitlines()[-1]
    assert (
        last.startswith("error: ")
        and last.endswith("does not match its checksum")
        and "Traceback" not in last
    )


def test_models_are_listed():
    shown = call("models")
    assert shown.exit_code == 0
    lines = shown.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line for line in lines[1:] if not line.startswith(" ")] == list(MODELS)
    words = [line.split() for line in lines]
    assert ["temporal", "20x224x224", "90.71", "M", "2.61", "G"] in words  # of cnn_m_2048
    assert ["73.0%", "UCF-101", "spatial,", "3", "splits"] in words
    assert any("arXiv 1406.2199" in line for line in lines)
    rows = json.loads(call("models", "--json").stdout)
    assert [row["name"] for row in rows] == list(MODELS)
    assert rows[0]["published"]["UCF-101 spatial, 3 splits"] == 73.0
    assert all(set(row["inputs"]) == set(row["parameters"]) == set(row["multiply_adds"]) for row in rows)


@pytest.mark.slow
def test_the_network_of_a_strangers_run_is_not_imported(tmp_path, setting, opened, monkeypatch):
    """A checkpoint that names a module runs its code only if the user names the module, too."""
    (tmp_path / "stranger.py").write_text(
        "from pathlib import Path\n"
        f"Path({str(tmp_path / 'executed')!r}).touch()\n"
        "from trainer.models.resnet18 import SPEC, build\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    few = ["--set", "train.steps=1", "--set", "train.milestones=[]"]
    assert call("train", tmp_path / "spatial.toml", *setting, "--out", tmp_path / "run", *few).exit_code == 0
    stored = checkpoint.load(tmp_path / "run" / "last.pt")
    named = replace(stored.recipe.model, name="stranger.net")
    package = tmp_path / "stranger"
    package.mkdir()
    (package / "__init__.py").touch()
    (tmp_path / "stranger.py").rename(package / "net.py")
    forged = replace(stored, recipe=replace(stored.recipe, model=named))
    checkpoint.save(tmp_path / "run" / "last.pt", forged)

    test_list = [*setting[:2], "--list", setting[5], *setting[6:]]
    evaluate = ["evaluate", tmp_path / "run", *test_list, "--out", tmp_path / "scores.npz"]
    for command in (
        evaluate,
        ["compare", tmp_path / "run"],
        ["export", tmp_path / "run", "--out", tmp_path / "net.pt2"],
        ["report", "--spatial", tmp_path / "run", *setting[:2], "--out", tmp_path / "report.html"],
        ["train", tmp_path / "spatial.toml", *setting, "--out", tmp_path / "run", *few, "--resume"],
    ):
        done = call(*command)
        assert not (tmp_path / "executed").exists() and "stranger" not in sys.modules
        if command[0] in ("evaluate", "compare", "export"):
            assert done.exit_code == 2 and "allow it: --network stranger.net" in done.output
    done = call(*evaluate, "--network", "stranger.net")
    assert done.exit_code == 0 and (tmp_path / "executed").exists()
    for name in ("stranger", "stranger.net"):
        monkeypatch.delitem(sys.modules, name)


def test_the_network_of_a_recipe_file_is_imported(tmp_path, monkeypatch):
    (tmp_path / "mine_too").mkdir()
    (tmp_path / "mine_too" / "__init__.py").touch()
    (tmp_path / "mine_too" / "net.py").write_text("from trainer.models.resnet18 import SPEC, build\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match="whose code would run"):
        registry.find_module("mine_too.net")
    read_recipe(toml(small(), tmp_path / "r.toml"), ["model.name=mine_too.net"])
    assert registry.find_module("mine_too.net").SPEC.min_size == 32
    for name in ("mine_too", "mine_too.net"):
        monkeypatch.delitem(sys.modules, name)


def test_export_and_compare(tmp_path, setting):
    quick = ["--set", "train.steps=1", "--set", "train.milestones=[]", "--set", "train.log_every=1"]
    run = tmp_path / "run"
    assert call("-q", "train", tmp_path / "spatial.toml", *setting, "--out", run, *quick).exit_code == 0
    done = call("export", run, "-o", tmp_path / "model.pt2")
    assert done.exit_code == 0 and (tmp_path / "model.pt2").exists() and "outputs agree to" in done.stdout
    done = call("export", run, "-o", tmp_path / "model.pb")
    assert done.exit_code == 2 and "allowed: a name that ends in .onnx or .pt2" in done.stderr
    done = call("-q", "export", run, "-o", tmp_path / "again.pt2", "--json")
    assert json.loads(done.stdout)["difference"] <= 1e-4
    done = call("compare", run, "-o", tmp_path / "c.html", "--device", "cpu", "--json")
    (row,) = json.loads(done.stdout)
    assert row["accuracy"] == Scores.load(run).accuracy and row["videos"] == 8
    assert "resnet18, spatial 3x32x32, after 1 step" in (tmp_path / "c.html").read_text()
    done = call("compare", run, "--device", "cpu")
    assert done.exit_code == 0 and str(run) in done.stdout
    done = call("compare", tmp_path)
    assert done.exit_code == 2 and "is not a training run" in done.stderr


def test_split(tmp_path, opened):
    done = call("split", tmp_path, "-o", tmp_path / "lists", "--test-share", 0.25)
    assert done.exit_code == 0 and "24 videos to train on, 8 to test, 4 classes" in done.stdout
    check = ["split", tmp_path, "-o", tmp_path / "lists", "--check"]
    assert call(*check).exit_code == 0
    opened.videos["New/a b.avi"] = next(iter(opened.videos.values()))
    before = (tmp_path / "lists" / "trainlist01.txt").read_bytes()
    done = call(*check)
    assert done.exit_code == 1 and f"1 of 33 videos of {tmp_path} are in no list" in done.stderr
    assert (tmp_path / "lists" / "trainlist01.txt").read_bytes() == before


def test_old_spellings_work_with_a_warning(tmp_path, opened):
    done = call("split", "--corpus", tmp_path, "--out", tmp_path / "lists", "--json")
    assert done.exit_code == 0 and json.loads(done.stdout)["classes"] == 4
    assert done.stderr.startswith(f"warning: --corpus {tmp_path} is an old spelling")
    done = call("split", "--out", tmp_path / "lists")
    assert done.exit_code == 2 and done.stderr.startswith("error: CORPUS is missing")


@pytest.mark.parametrize(
    "command",
    [
        "",
        "train",
        "evaluate",
        "fuse",
        "models",
        "predict",
        "report",
        "scores",
        "split",
        "export",
        "compare",
        "bench",
        "recipe",
    ],
)
def test_help(command):
    done = call(*filter(None, [command]), "--help")
    assert "below" not in done.stdout  # options come last
    assert done.exit_code == 0 and "Usage:" in done.stdout


def test_help_loads_no_heavy_library():
    code = (
        "import sys, trainer.cli; print([m for m in ('torch', 'sklearn', 'cv2', 'h5py') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_computed(tmp_path):
    for name in ("file", "last.pt", "list.txt"):
        (tmp_path / name).touch()
    (tmp_path / "records").mkdir()
    out = tmp_path / "file" / "scores.npz"
    done = call("evaluate", tmp_path, "--corpus", tmp_path, "--list", tmp_path / "list.txt", "--out", out)
    assert done.exit_code == 2 and f"{out} cannot be written" in done.stderr


def test_a_recipe_is_printed_whole_by_the_command(tmp_path):
    path = toml(small("spatial"), tmp_path / "r.toml")
    text = call("recipe", path, "--set", "train.steps=7").stdout
    assert text == as_toml(read_recipe(path, ["train.steps=7"])) and "\nsteps = 7\n" in text
    defaults = call("recipe").stdout
    assert defaults == as_toml(Recipe("temporal"))
    refused = call("recipe", "--set", "train.steps=7")
    assert refused.exit_code == 2 and "name its file" in refused.output


def test_groups_by_a_pattern_reach_the_lists_the_scores_and_the_fusion(tmp_path, setting, opened):
    """The split takes all clips c01 for one group, and all clips c02 for another."""
    quick = ["--set", "train.steps=1", "--set", "train.milestones=[]", "--set", "train.validation_share=0.5"]
    done = call("split", tmp_path, "--out", tmp_path / "split", "--groups", r"_c(\d+)", "--test-share", 0.5)
    assert done.exit_code == 0, done.stderr
    clips = [
        {line.split()[0][-6:-4] for line in (tmp_path / "split" / name).read_text().splitlines()}
        for name in ("trainlist01.txt", "testlist01.txt")
    ]
    assert sorted(map(sorted, clips)) == [["01"], ["02"]]
    done = call("split", tmp_path, "--out", tmp_path / "none", "--groups", "(")
    assert done.exit_code == 2 and "--groups '(' is not a regular expression" in done.stderr
    lists = ["--train-list", tmp_path / "split" / "trainlist01.txt"]
    lists += ["--test-list", tmp_path / "split" / "testlist01.txt"]
    rest = [tmp_path / "spatial.toml", *setting[:2], *setting[8:], *lists, *quick, "--out", tmp_path / "run"]
    done = call("train", *rest, "--groups", r"_g0(\d)")
    assert done.exit_code == 2 and "in the training and in the test list: BlueSpin 1," in done.stderr
    done = call("train", *rest, "--groups", r"_(g0[12]_c\d+)")
    assert done.exit_code == 0, done.stderr
    assert "have no group by the pattern" in done.stderr
    scores = Scores.load(tmp_path / "run" / "test_scores.npz")
    assert [name for name in scores.group_names if "/" not in name] == ["g01_c01", "g02_c01"] * 4


def test_folds_score_every_training_video_and_the_fusion_is_fitted_on_them(tmp_path, setting, opened):
    quick = ["--set", "train.steps=2", "--set", "train.milestones=[]", "--set", "test.frames=1"]
    for stream in ("spatial", "temporal"):
        args = [tmp_path / f"{stream}.toml", *setting, "--out", tmp_path / stream, *quick, "--resume"]
        done = call("train", *args, "--fit-folds", 2)
        assert done.exit_code == 0, done.stderr
    run = tmp_path / "spatial"
    scores = Scores.load(run / "fold_scores.npz")
    text = (tmp_path / "lists" / "trainlist01.txt").read_text()
    listed = [line.split()[0] for line in text.splitlines() if line]
    assert sorted(scores.ids) == sorted(listed)
    for number in (1, 2):
        fold = run / "folds" / f"{number}-of-2"
        seen = {line.split()[0] for line in (fold / "trainlist.txt").read_text().splitlines()}
        rows = Scores.load(fold)
        assert seen | set(rows.ids) == set(listed) and not seen & set(rows.ids)
        np.testing.assert_array_equal(scores.in_order(rows.ids).scores, rows.scores)
    done = call("fuse", run, tmp_path / "temporal", "--method", "weighted", "--calibrate")
    assert f"weights fitted on {len(listed)} videos" in done.stderr
    before = (run / "folds" / "1-of-2" / "last.pt").stat().st_mtime_ns
    assert call("train", *args[:-1], "--fit-folds", 1).exit_code == 2
    args[0], args[args.index("--out") + 1] = tmp_path / "spatial.toml", run
    assert call("train", *args, "--fit-folds", 2).exit_code == 0
    assert (
        run / "folds" / "1-of-2" / "last.pt"
    ).stat().st_mtime_ns == before  # a finished fold is not repeated
