"""A finished run can be prolonged, and a resumed run may change what changes no weight."""

from dataclasses import replace

import pytest
import torch

from flowprep.errors import UsageError
from tests.support.fakes import small
from tests.support.runs import Killed, kill_at, losses, run
from trainer.evaluation.scores import FOLD_SCORES, TEST_SCORES, VALIDATION_SCORES
from trainer.training import checkpoint


def recipe(stream="temporal", name="resnet18", **train):
    values = {"steps": 4, "milestones": [3], "validate_every": 2, "checkpoint_every": 2, "log_every": 1}
    return small(
        stream,
        model={"name": name, "width": 4, "dropout": 0.3},
        input={"crop": 32},
        train={**values, **train},
    )


def weights(out):
    return checkpoint.load(out / "last.pt").model


def same_weights(a, b):
    first, second = weights(a), weights(b)
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_a_finished_run_is_prolonged(tmp_path):
    """It takes the steps of a run that was planned so long, also where a later milestone was added."""
    assert run(tmp_path / "a", recipe())
    scores = [tmp_path / "a" / name for name in (TEST_SCORES, VALIDATION_SCORES, FOLD_SCORES)]
    for path in scores:
        path.write_bytes(b"of four steps")
    longer = recipe(steps=7, milestones=[3, 5])
    assert run(tmp_path / "a", longer, resume=True)
    assert not any(path.exists() for path in scores)  # they belonged to other weights
    run(tmp_path / "b", longer)
    assert same_weights(tmp_path / "a", tmp_path / "b")
    kept = checkpoint.load(tmp_path / "a" / "last.pt")
    assert kept.step == 7 and kept.recipe == longer
    assert [row[:3] for row in losses(tmp_path / "a")] == [row[:3] for row in losses(tmp_path / "b")]
    assert not run(tmp_path / "a", longer, resume=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"log_every": 3},
        {"checkpoint_every": 3},
        {"validate_every": 3, "validation_frames": 2},
        {"steps": 3},
        {"milestones": [3, 900]},
    ],
)
def test_what_changes_no_weight_may_change(tmp_path, changes):
    with pytest.raises(Killed):
        run(tmp_path / "a", recipe(), on_step=kill_at(2))
    changed = recipe(**changes)
    run(tmp_path / "a", changed, resume=True)
    run(tmp_path / "b", changed)
    assert same_weights(tmp_path / "a", tmp_path / "b")
    assert checkpoint.load(tmp_path / "a" / "last.pt").recipe == changed


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"steps": 1}, "train.steps: 4, 1"),
        ({"milestones": [1, 3]}, r"train.milestones: \[3\], \[1, 3\]"),
        ({"lr": 0.1}, "train.lr: 0.05, 0.1"),
        ({"micro_batch": 4}, "train.micro_batch: 0, 4"),  # batch normalisation sees one pass at a time
    ],
)
def test_what_changes_the_steps_may_not_change(tmp_path, changes, says):
    with pytest.raises(Killed):
        run(tmp_path, recipe(), on_step=kill_at(2))
    with pytest.raises(UsageError, match=says):
        run(tmp_path, recipe(**changes), resume=True)


def test_validations_that_choose_the_weights_may_not_change(tmp_path):
    with pytest.raises(Killed):
        run(tmp_path, recipe(keep="best"), on_step=kill_at(2))
    with pytest.raises(UsageError, match=r"train.validate_every: 2, 3"):
        run(tmp_path, recipe(keep="best", validate_every=3), resume=True)
    assert run(tmp_path, recipe(keep="best", log_every=3), resume=True)


def test_passes_may_change_without_batch_normalisation(tmp_path):
    """The same batch in smaller passes: the same weights up to rounding, where there is no dropout."""
    first = recipe(name="vgg16", lr=0.001)
    first = replace(first, model=replace(first.model, dropout=0.0))
    smaller = replace(first, train=replace(first.train, micro_batch=2))
    with pytest.raises(Killed):
        run(tmp_path / "a", first, on_step=kill_at(2))
    run(tmp_path / "a", smaller, resume=True)
    run(tmp_path / "b", first)
    a, b = weights(tmp_path / "a"), weights(tmp_path / "b")
    for key in a:
        torch.testing.assert_close(a[key], b[key], rtol=1e-3, atol=1e-5)
