"""pipelines/ucf101/ablations: the rows of the paper, valid recipes, and the table."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import flowprep
from ablation_study.cli import main
from ablation_study.flow_statistics import flow_statistics
from ablation_study.options import UCF101, recipe_of
from ablation_study.rows import ROWS, SHARED_CLASSES, Network
from ablation_study.study import TrainerFailed
from tests.support.fakes import PAIRS, FakeCorpus, FakeVideo
from trainer.evaluation.scores import Scores
from trainer.models import registry
from trainer.recipe.toml import read_recipe


def test_the_command_runs_as_a_program():
    command = [sys.executable, UCF101 / "ablations", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")
    assert "pipelines/ucf101/ablations --corpus CORPUS --leave-out 'P(\\d)'" in done.stdout


def test_every_row_is_a_recipe():
    for row in ROWS:
        if isinstance(row, Network):
            changes = [*row.changes, *(["model.weights=w.pt"] if row.weights or row.start else [])]
            for small in (False, True):
                registry.check_recipe(read_recipe(recipe_of(row, small=small), changes))


def test_the_paper_s_settings():
    """Batch, schedule and dropout of section 4 of the paper, for each way of training."""
    for row in ROWS:
        if not isinstance(row, Network):
            continue
        recipe = read_recipe(
            recipe_of(row, small=False),
            [*row.changes, *(["model.weights=w.pt"] if row.weights or row.start else [])],
        )
        train = recipe.train
        assert (recipe.model.name, train.batch, train.lr, train.momentum) == ("cnn_m_2048", 256, 0.01, 0.9)
        assert (recipe.input.crop, recipe.input.flip, recipe.input.jitter) == (224, True, 0.1)
        assert (recipe.test.frames, recipe.test.crops, train.validation_share) == (25, 10, 0)
        if row.weights or row.start:
            assert (train.steps, train.milestones) == (20_000, (14_000,))
        else:
            assert (train.steps, train.milestones) == (80_000, (50_000, 70_000))
        if recipe.stream == "temporal":
            assert recipe.model.dropout == 0.9
            assert recipe.input.stack == {"L1": 1, "L5": 5}.get(row.name, 10)
        else:
            assert recipe.model.dropout == float(row.name[-3:])
        assert recipe.model.trainable == ("last" if "last" in row.name else "all")


def test_78_classes_are_added(shared_data):
    lines = (shared_data / "splits" / "ucf101" / "classInd.txt").read_text().split("\n")
    classes = {line.split()[1] for line in lines if line.strip()}
    assert len(classes) == 101 and set(SHARED_CLASSES) < classes
    assert len(classes.difference(SHARED_CLASSES)) == 78


class Trainer:
    """Stands for the command: records its calls, and predicts the true class of every other video."""

    def __init__(self):
        self.calls, self.fails = [], lambda args: False

    def __call__(self, *args):
        args = [str(a) for a in args]
        self.calls.append(args)
        if self.fails(args):
            raise TrainerFailed(f"trainer {args[0]} failed")
        out = Path(args[args.index("--out") + 1])
        source = args[args.index("--test-list") + 1] if "--test-list" in args else ""
        pairs = [("a", "x"), ("b", "y")]
        if Path(source).is_file():
            pairs = [line.split("\t") for line in Path(source).read_text().splitlines()]
        if args[0] == "train":
            out.mkdir(parents=True, exist_ok=True)
            out = out / "test_scores.npz"
        classes = sorted({label for _, label in pairs})
        labels = np.array([classes.index(label) for _, label in pairs])
        said = np.eye(len(classes))[(labels + np.arange(len(pairs)) % 2) % len(classes)]
        Scores(np.array([i for i, _ in pairs]), labels, np.array(classes), said).save(out)

    @property
    def kinds(self):
        return [args[0] for args in self.calls]

    def value(self, call, option):
        return self.calls[call][self.calls[call].index(option) + 1]


@pytest.fixture
def trainer():
    return Trainer()


def call(trainer, tmp_path, *args, code=0):
    """The rows of the table by name; `trainer` is called in place of the command, None for the command."""
    options = ["--corpus", tmp_path, "--out", tmp_path / "out", "--json", *args]
    done = CliRunner().invoke(main, [str(option) for option in options], obj=trainer)
    assert done.exit_code == code, done.output
    return {row["row"]: row for row in json.loads(done.stdout)}


def test_a_row_alone_and_rows_that_build_on_others(trainer, tmp_path):
    given = ["--lists", "splits", "--small", "--set", "train.steps=9"]
    rows = call(trainer, tmp_path, *given, "L5")
    assert len(trainer.calls) == 1
    line = " ".join(trainer.calls[0])
    assert line.startswith(f"train {UCF101}/small/temporal.toml")
    assert "--set input.stack=5 --set seed=0 --set train.steps=9" in line
    assert "--train-list splits:train1 --test-list splits:test1" in line
    assert rows["L5"] == {
        "row": "L5",
        "published": 80.4,
        "missing": None,
        "measured": 50.0,
        "by_seed": [50.0],
        "parts": ["split1"],
        "videos": 2,
    }
    trainer.calls.clear()
    rows = call(trainer, tmp_path, *given, "L10-average", "spatial-last-0.5", "multi-task")
    assert trainer.kinds == ["train", "train", "fuse"]
    assert {name: row["missing"] for name, row in rows.items()} == {
        "spatial-last-0.5": "needs --weights",
        "L5": None,
        "multi-task": "needs --second",
        "L10-average": None,
    }
    table = (tmp_path / "out" / "table.md").read_text().splitlines()
    assert "| L5 | 80.4 | 50.0 |  | 2 |" in table
    assert "| multi-task | 81.5 | needs --second |  |  |" in table


def test_a_row_that_fails_does_not_end_the_table(trainer, tmp_path):
    """Rows that build on it fail, too, without a second try. The others are made."""
    trainer.fails = lambda args: args[0] == "train" and "input.stack=5" in args
    rows = call(trainer, tmp_path, "--lists", "splits", "L5", "L1", code=1)
    assert rows["L5"]["missing"] == "trainer train failed" and rows["L5"]["measured"] is None
    assert rows["L1"]["measured"] == 50.0
    trainer.fails = lambda args: "spatial_scratch" in args[1]
    trainer.calls.clear()
    rows = call(trainer, tmp_path, "--lists", "splits", "L10-average", "bidirectional-average", code=1)
    assert trainer.kinds == ["train"] and rows["L10-average"]["missing"] == "trainer train failed"
    assert {p.name for p in (tmp_path / "out").iterdir()} >= {"table.json", "table.md"}
    assert not list((tmp_path / "out").glob("*.tmp"))


def test_every_seed_and_its_spread(trainer, tmp_path):
    rows = call(trainer, tmp_path, "--lists", "splits", "--seeds", 3, "L1")
    assert rows["L1"]["by_seed"] == [50.0] * 3
    assert [f"seed={n}" in args for n, args in enumerate(trainer.calls)] == [True] * 3
    assert len({trainer.value(n, "--out") for n in range(3)}) == 3
    assert "| L1 | 73.9 | 50.0 | 50.0 to 50.0 | 2 |" in (tmp_path / "out" / "table.md").read_text()


def listed(path):
    return {line.split("\t")[0] for line in Path(path).read_text().splitlines()}


def test_each_group_is_evaluated_by_networks_trained_on_the_others(trainer, tmp_path, monkeypatch):
    corpus = FakeCorpus(clips=3)
    monkeypatch.setattr(flowprep, "open_corpus", lambda path: corpus)
    rows = call(trainer, tmp_path, "--leave-out", r"_g(\d+)_", "L10")
    assert rows["L10"]["parts"] == ["without-01", "without-02", "without-03"]
    assert rows["L10"]["videos"] == len(corpus)
    for n in range(3):
        train, test = (listed(trainer.value(n, f"--{use}-list")) for use in ("train", "test"))
        assert train | test == set(corpus) and not train & test
        assert {f"_g{n + 1:02d}_" in i for i in test} == {True}
    rows = call(trainer, tmp_path, "--leave-out", "P([0-9])", "L1")
    assert rows["L1"]["missing"].endswith("avi has no group: its id does not match 'P([0-9])'")


def test_fusions_are_fitted_out_of_fold(trainer, tmp_path, monkeypatch):
    """A training video is scored by a network that saw neither its group nor the left-out group."""
    corpus = FakeCorpus(clips=3)
    monkeypatch.setattr(flowprep, "open_corpus", lambda path: corpus)
    call(trainer, tmp_path, "--leave-out", r"_g(\d+)_", "--fit-folds", 2, "L10-weighted")
    # For each stream: the three parts, and the three pairs of groups that are left out together, once each.
    assert trainer.kinds.count("train") == 12 and trainer.kinds.count("fuse") == 3
    assert all("train.validation_share=0" in args for args in trainer.calls if args[0] == "train")
    for args in trainer.calls:
        if args[0] == "train":
            left = args[args.index("--out") + 1].split("without-")[1].split("/")[0].split("+")
            used = listed(args[args.index("--train-list") + 1])
            assert {i for i in corpus if not any(f"_g{g}_" in i for g in left)} == used
    fuse = next(args for args in trainer.calls if args[0] == "fuse")
    fit = [Scores.load(Path(p)) for p in fuse[fuse.index("--fit") + 1 :][:2]]
    learnt = {i for i in corpus if "_g01_" not in i}
    assert all(set(s.ids.tolist()) == learnt and len(s.ids) == len(learnt) for s in fit)


def test_without_folds_a_fusion_is_fitted_on_held_out_videos(trainer, tmp_path):
    """The SVM is fitted on the training videos, as in the paper."""
    rows = call(trainer, tmp_path, "--lists", "splits", "L10-calibrated-average", "L10-svm")
    assert (
        rows["L10-calibrated-average"]["missing"]
        == "needs --fit-folds, because the recipe holds no videos out"
    )
    fuse = trainer.calls[-1]
    assert trainer.kinds[-3:] == ["evaluate", "evaluate", "fuse"]
    assert [Path(p).name for p in fuse[fuse.index("--fit") + 1 :][:2]] == ["train_scores.npz"] * 2
    for name in ("spatial-scratch-0.5", "L10"):
        run = tmp_path / "out" / "seed0" / "split1" / name
        (run / "validation_scores.npz").write_bytes((run / "test_scores.npz").read_bytes())
    rows = call(trainer, tmp_path, "--lists", "splits", "L10-calibrated-average")
    assert rows["L10-calibrated-average"]["measured"] == 50.0 and "--calibrate" in trainer.calls[-1]


def test_a_trained_network_is_evaluated_with_a_control(trainer, tmp_path):
    call(trainer, tmp_path, "--lists", "splits", "L10-judged-reversed")
    assert trainer.kinds == ["train", "evaluate"]
    assert "--list splits:test1 --allow-missing --control reversed" in " ".join(trainer.calls[1])


def test_a_second_data_set(trainer, tmp_path):
    """The splits of HMDB-51, or any corpus with a list of its videos."""
    (tmp_path / "list.txt").write_text("a x\n")
    given = ["--lists", "splits", "--second", "other"]
    rows = call(trainer, tmp_path, *given, tmp_path / "list.txt", "multi-task", "hmdb51")
    assert trainer.value(0, "--multi-task") == "other" and f"other {tmp_path / 'list.txt'}" in " ".join(
        trainer.calls[0]
    )
    assert rows["hmdb51"]["missing"] == "needs splits of the second data set"
    call(trainer, tmp_path, *given, "hmdb", "hmdb51-multi-task", "multi-task")
    own, beside = trainer.calls[-2], trainer.calls[-1]
    assert "--corpus other --train-list hmdb:train1" in " ".join(own)
    assert f"--multi-task {tmp_path} all" in " ".join(own) and "--multi-task other all" in " ".join(beside)


def test_a_row_that_needs_backward_flow(trainer, monkeypatch, tmp_path):
    """It does not stop the other rows."""
    monkeypatch.setattr(flowprep, "open_corpus", lambda path: FakeCorpus())
    rows = call(trainer, tmp_path, "--lists", "splits", "bidirectional")
    assert rows["bidirectional"]["missing"] == "needs a corpus made with --backward"
    assert not trainer.calls
    monkeypatch.setattr(flowprep, "open_corpus", lambda path: FakeCorpus(backward=True))
    assert call(trainer, tmp_path, "--lists", "splits", "bidirectional")["bidirectional"]["videos"] == 2
    assert trainer.kinds == ["train"]


class Fast(FakeVideo):
    """The same motion, four times as fast for Blue. Statistics of the length see nothing else."""

    def exact(self, start, count, backward=False):
        turning = super().exact(start, count, backward) - self.mean_flow[0][:, None, None]
        return turning * (1 + 3 * ("Blue" in self.id))


@pytest.mark.slow
def test_statistics_see_only_how_much_moves(trainer, tmp_path, monkeypatch):
    corpus = FakeCorpus()
    for n, i in enumerate(corpus):
        corpus.videos[i] = Fast(i, corpus.labels[i], n * 7)
    monkeypatch.setattr(flowprep, "open_corpus", lambda path: corpus)
    found = flow_statistics(next(video for i, video in corpus.items() if "Red" in i))
    length = np.hypot(*next(v for i, v in corpus.items() if "Red" in i).flow(0, PAIRS).transpose(1, 0, 2, 3))
    assert found.shape == (8,)
    np.testing.assert_allclose(found[[0, 5]], [length.mean(), length.mean((1, 2)).std()], rtol=1e-4)
    rows = call(trainer, tmp_path, "--leave-out", r"_g(\d+)_", "flow-statistics")
    # They tell Blue (fast) from Red (slow), but not Spin from Zoom, which have the same lengths.
    assert rows["flow-statistics"]["measured"] < 75 and not trainer.calls
    for path in (tmp_path / "out" / "seed0").glob("*/flow-statistics.npz"):
        found = Scores.load(path)
        assert np.array_equal(found.scores.argmax(1) // 2, found.labels // 2)


@pytest.mark.slow
def test_a_table_of_real_runs(tmp_path, monkeypatch):
    """Every called command exists and accepts its arguments."""
    corpus = FakeCorpus(clips=3)
    (tmp_path / "records").mkdir()  # the command checks that the path is a corpus
    monkeypatch.setattr(flowprep, "open_corpus", lambda path: corpus)
    monkeypatch.setattr("trainer.training.device.share_cores", lambda *_: 0)
    tiny = ["model.width=4", "input.resize=0", "input.crop=32", "input.stack=3", "train.batch=4"]
    tiny += ["train.steps=1", "train.milestones=[]", "test.frames=1", "test.crops=1", "input.scales=[]"]
    options = ["--leave-out", r"_g(\d+)_", "--small", "--fit-folds", 2]
    for change in tiny:
        options += ["--set", change]
    rows = call(None, tmp_path, *options, "L10-calibrated-weighted", "L10-svm", "L10-judged-shuffled")
    assert {row["videos"] for row in rows.values()} == {len(corpus)}
    assert all(row["missing"] is None and 0 <= row["measured"] <= 100 for row in rows.values())
    # If the command fails, the row fails.
    rows = call(None, tmp_path, *options, "--set", "input.crop=999", "L1", code=1)
    assert rows["L1"]["missing"] == "trainer train failed: see above"


def test_an_interrupted_table_ends(opened, tmp_path, monkeypatch):
    """An interrupt is not a fault of a row, so the next row does not start."""

    def interrupt(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("trainer.training.trainer.train", interrupt)
    options = ["--corpus", tmp_path, "--leave-out", r"_g(\d+)_", "--small", "--out", tmp_path / "out"]
    options += ["--set", "input.resize=0", "--set", "input.crop=32", "L1", "L5"]
    done = CliRunner().invoke(main, [str(option) for option in options])
    assert done.exit_code == 1 and "Aborted!" in done.output and not done.stdout.startswith("|")
    assert not (tmp_path / "out" / "table.json").exists()
    assert not list((tmp_path / "out").glob("*/*/L5"))
