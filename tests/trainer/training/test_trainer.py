"""Training: resumed, killed, diverging and compiled runs."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from flowprep.errors import UsageError
from tests.support.fakes import FakeCorpus, examples_of, rows, small
from tests.support.runs import Killed, kill_at, losses, run
from trainer import errors
from trainer.evaluation.evaluate import evaluate
from trainer.training import checkpoint
from trainer.training import trainer as train
from trainer.training.metrics_log import MetricsLog

# Loader processes are forked. From Python 3.12 on a fork in a process with threads gives a warning.
forks = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


@pytest.mark.slow
@forks
@pytest.mark.parametrize("stream", ["spatial", "temporal"])
def test_a_resumed_run_is_the_uninterrupted_one_bit_by_bit(tmp_path, stream):
    """Killed between two checkpoints, resumed with another number of loader processes."""
    recipe = small(stream)
    assert run(tmp_path / "whole", recipe)
    with pytest.raises(Killed):
        run(tmp_path / "parts", recipe, on_step=kill_at(17))
    assert run(tmp_path / "parts", recipe, resume=True, workers=2)
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")
    whole, parts = (checkpoint.load(tmp_path / name / "last.pt") for name in ("whole", "parts"))
    assert whole.step == 30
    for key, value in whole.model.items():
        assert torch.equal(value, parts.model[key]), key


def boards(out):
    # TensorBoard reads files in the order of their names, which is wrong for files of the same second.
    for n, file in enumerate(sorted((out / "tensorboard").iterdir(), key=lambda f: f.stat().st_mtime_ns)):
        file.rename(file.with_name(f"{n}.tfevents"))
    events = EventAccumulator(str(out / "tensorboard")).Reload()
    return [(event.step, event.value) for event in events.Scalars("loss")]


@pytest.mark.slow
def test_the_best_of_a_run_that_was_killed_often(tmp_path):
    """Killed before, at and after validations and checkpoints. TensorBoard loses no row."""
    recipe = small("temporal", train={"keep": "best", "validate_every": 5, "checkpoint_every": 7})
    run(tmp_path / "whole", recipe)
    for step in (6, 12, 18, 26, 28):
        with pytest.raises(Killed):
            run(tmp_path / "parts", recipe, resume=True, on_step=kill_at(step))
    run(tmp_path / "parts", recipe, resume=True)
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")
    assert boards(tmp_path / "whole") == boards(tmp_path / "parts")
    assert len(boards(tmp_path / "whole")) == len(rows(tmp_path / "whole"))
    for name in ("best.pt", "last.pt"):
        whole, parts = (checkpoint.load(tmp_path / kind / name) for kind in ("whole", "parts"))
        assert (whole.step, whole.best) == (parts.step, parts.best)
        assert all(torch.equal(value, parts.model[key]) for key, value in whole.model.items())


def test_the_row_of_a_checkpoint_is_kept(tmp_path):
    recipe = small(train={"steps": 4, "milestones": [], "checkpoint_every": 2, "log_every": 1})
    with pytest.raises(Killed):
        run(tmp_path, recipe, on_step=kill_at(3))
    run(tmp_path, recipe, resume=True)
    assert [step for step, _ in boards(tmp_path)] == [1, 2, 3, 4]


def test_a_resumed_run_keeps_its_precision(tmp_path, monkeypatch, caplog):
    recipe = small(train={"steps": 4, "milestones": [], "checkpoint_every": 2, "precision": "auto"})
    has = {"avx512_bf16": True}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has, raising=False)
    with pytest.raises(Killed):
        run(tmp_path, recipe, on_step=kill_at(3))
    assert checkpoint.load(tmp_path / "last.pt").precision == "bfloat16"
    has["avx512_bf16"] = False
    run(tmp_path, recipe, resume=True)
    assert checkpoint.load(tmp_path / "last.pt").precision == "bfloat16"
    assert "has no bfloat16 instructions" in caplog.text


def test_a_run_is_evaluated_in_its_precision(tmp_path, monkeypatch):
    """Also on a device for which "auto" is another one: the result must not depend on the device."""
    recipe = small(train={"steps": 2, "milestones": [], "precision": "auto"}, test={"frames": 1})
    has = {"avx512_bf16": True}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has, raising=False)
    run(tmp_path, recipe)
    corpus = FakeCorpus()
    here, elsewhere = [], []
    for scores in (here, elsewhere):
        scores.append(evaluate(tmp_path, corpus, examples_of(corpus).subset([0, 9, 20]), device="cpu").scores)
        has["avx512_bf16"] = False
    assert np.array_equal(here, elsewhere)
    wide = replace(checkpoint.load(tmp_path / "last.pt"), precision="float32")
    checkpoint.save(tmp_path / "last.pt", wide)
    exact = evaluate(tmp_path, corpus, examples_of(corpus).subset([0, 9, 20]), device="cpu").scores
    assert not np.array_equal(here[0], exact)


def test_a_pass_of_one_sample_is_refused(tmp_path):
    """A crop of 32 pixels is one pixel in the last layers of a ResNet-18: a channel has one value."""
    with pytest.raises(UsageError, match=r"1 sample passes .* set train.micro_batch, and train.batch"):
        run(tmp_path, small(train={"batch": 5, "micro_batch": 2}))


def test_another_seed_is_another_run(tmp_path):
    recipe = small(train={"steps": 2, "milestones": []})
    run(tmp_path / "a", recipe)
    run(tmp_path / "b", replace(recipe, seed=1))
    assert losses(tmp_path / "a") != losses(tmp_path / "b")


@pytest.mark.slow
def test_it_learns_what_its_stream_can_see(tmp_path):
    """Flow tells the two motions apart but not the two colours: at best half of the videos are right."""
    recipe = small("temporal", train={"steps": 120, "milestones": [90], "batch": 16, "validate_every": 200})
    run(tmp_path / "run", recipe)
    last = rows(tmp_path / "run")[-1]
    assert last["loss"] < 0.95  # log 4 = 1.39 before training, log 2 = 0.69 at best


def test_parts_of_a_batch_add_up_to_it(tmp_path):
    """Without batch statistics and dropout, accumulated gradients differ by rounding only."""
    recipe = small(train={"steps": 3, "milestones": [], "batch": 8, "lr": 1e-3}, model={"dropout": 0.0})
    weights = tmp_path / "w.pt"
    model = train.registry.make_model(recipe, 4)
    torch.save(model.state_dict(), weights)
    frozen = {"dropout": 0.0, "weights": str(weights), "trainable": "last"}
    for name, micro in (("whole", 0), ("parts", 3)):
        run(tmp_path / name, small(train={**recipe.to_dict()["train"], "micro_batch": micro}, model=frozen))
    whole, parts = (checkpoint.load(tmp_path / name / "last.pt").model for name in ("whole", "parts"))
    torch.testing.assert_close(whole["fc.weight"], parts["fc.weight"], atol=1e-6, rtol=1e-5)
    assert torch.equal(whole["conv1.weight"], model.conv1.weight)
    assert torch.equal(whole["bn1.running_mean"], model.bn1.running_mean)


def test_float16_trains_with_a_loss_scale_that_is_resumed(tmp_path):
    recipe = small(train={"steps": 4, "milestones": [], "checkpoint_every": 2, "precision": "float16"})
    run(tmp_path / "whole", recipe)
    with pytest.raises(Killed):
        run(tmp_path / "parts", recipe, on_step=kill_at(3))
    assert checkpoint.load(tmp_path / "parts" / "last.pt").scaler["scale"] > 1
    run(tmp_path / "parts", recipe, resume=True)
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")


@pytest.mark.slow
def test_a_compiled_network_takes_the_same_steps(tmp_path, monkeypatch):
    """Compiled by a backend that only traces. A checkpoint has the names of the plain network."""
    recipe = small(train={"steps": 2, "milestones": [], "log_every": 1})
    run(tmp_path / "plain", recipe)
    compile_ = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compile_(self, backend="eager"))
    run(tmp_path / "compiled", recipe, compiled=True)
    a, b = ([row["loss"] for row in rows(tmp_path / name)] for name in ("plain", "compiled"))
    np.testing.assert_allclose(a, b, rtol=1e-5)
    names = [list(checkpoint.load(tmp_path / name / "last.pt").model) for name in ("plain", "compiled")]
    assert names[0] == names[1]


def test_the_log_describes_the_passes_of_a_batch(tmp_path, caplog):
    with caplog.at_level("INFO"):
        run(tmp_path, small(train={"steps": 1, "milestones": [], "micro_batch": 3}))
    assert "a batch of 8; processes: 1, passes of each: 3, samples of a pass: up to 3" in caplog.text


def test_a_run_is_not_overwritten(tmp_path):
    recipe = small(train={"steps": 2, "milestones": []})
    run(tmp_path, recipe)
    before = (tmp_path / "last.pt").read_bytes()
    with pytest.raises(UsageError, match=r"holds a training run; --resume continues it"):
        run(tmp_path, recipe)
    assert run(tmp_path, recipe, resume=True) is False  # finished
    other = small(train={"steps": 2, "milestones": [], "lr": 0.1})
    with pytest.raises(UsageError, match=r"train.lr: 0.05, 0.1"):
        run(tmp_path, other, resume=True)
    with pytest.raises(UsageError, match=r"the training list, the order of classes, or further"):
        run(tmp_path, recipe, resume=True, corpus=FakeCorpus(clips=3))
    with pytest.raises(UsageError, match=r"corpus quality: 95, 90"):
        run(tmp_path, recipe, resume=True, corpus=FakeCorpus(quality=90))
    assert (tmp_path / "last.pt").read_bytes() == before


def test_resume_without_a_checkpoint_begins(tmp_path):
    assert run(tmp_path / "new", small(train={"steps": 2, "milestones": []}), resume=True)


@pytest.mark.slow
def test_the_best_is_kept_by_validation(tmp_path):
    recipe = small(train={"keep": "best", "validate_every": 5})
    run(tmp_path, recipe)
    validated = [row for row in rows(tmp_path) if "val_accuracy" in row]
    best = max(validated, key=lambda row: (row["val_accuracy"], -row["val_loss"]))
    assert checkpoint.load_selected(tmp_path).step == best["step"]
    with pytest.raises(UsageError, match=r"no video can be held out"):
        run(tmp_path / "none", recipe, corpus=FakeCorpus(clips=1))


def test_the_lists_of_a_run_are_disjoint_and_complete(tmp_path):
    corpus = FakeCorpus()
    run(tmp_path, small(train={"steps": 1, "milestones": []}), corpus=corpus)
    seen = (tmp_path / "trainlist.txt").read_text().split("\n")
    held = (tmp_path / "validationlist.txt").read_text().split("\n")
    assert len(held) == 8 + 1 and len(seen) == 24 + 1
    assert sorted(line.split()[0] for line in [*seen, *held] if line) == sorted(corpus)


def test_a_shortage_of_shared_memory_gives_fewer_loader_processes(tmp_path, monkeypatch, caplog):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=1000))
    run(tmp_path / "run", small(train={"steps": 1, "milestones": []}), workers=2, loader="processes")
    # Of the validation: the processes of the training share other memory.
    assert caplog.text.count("room for 0 loader processes, not 2") == 1


def test_divergence_stops_the_run(tmp_path):
    with pytest.raises(
        errors.TrainingDiverged, match=r"the loss is (nan|inf) at step \d+: try a lower train.lr"
    ):
        run(tmp_path, small(train={"lr": 1e30, "steps": 10, "milestones": []}))


def test_weights_that_are_not_finite_are_not_saved(tmp_path, monkeypatch):
    """The loss is still finite: only the weights are not."""
    step = torch.optim.SGD.step

    def spoil(self, *args):
        step(self, *args)
        self.param_groups[0]["params"][0].data[0, 0, 0, 0] = float("nan")

    recipe = small(train={"steps": 10, "milestones": [], "checkpoint_every": 4, "validation_share": 0.0})
    with pytest.raises(Killed):
        run(tmp_path, recipe, on_step=kill_at(7))
    before = (tmp_path / "last.pt").read_bytes()
    monkeypatch.setattr(torch.optim.SGD, "step", spoil)
    monkeypatch.setattr(MetricsLog, "write", lambda *_args: None)
    with pytest.raises(
        errors.TrainingDiverged, match=r"conv1.weight is not finite at step 8: try a lower train.lr"
    ):
        run(tmp_path, recipe, resume=True)
    assert (tmp_path / "last.pt").read_bytes() == before
