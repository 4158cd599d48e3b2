"""Several processes under torchrun take the steps of one process; a killed process leaves a good run."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from flowprep.errors import UsageError
from tests.support.distributed_run import RECIPES
from tests.support.fakes import FakeCorpus, examples_of, rows
from tests.support.runs import run
from trainer.evaluation.evaluate import evaluate
from trainer.evaluation.scores import Scores
from trainer.evaluation.trained_run import open_run
from trainer.training import checkpoint, distributed
from trainer.training.batch_norm import RunningStatistics

ROOT = Path(__file__).parents[3]


def start(out, *, processes=1, kill=0, name="resnet18", backend=""):
    """Train in processes of their own: see tests/support/distributed_run.py."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    program = ROOT / "tests" / "support" / "distributed_run.py"
    arguments = [str(program), str(out), str(kill), name, backend]
    command = [sys.executable, *(launch if processes > 1 else []), *arguments]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)


def run_alone(out, name="resnet18", **options):
    return run(out, RECIPES[name], **options)


# "eager" only traces, so that no compiler is needed.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "backend"),
    [*((name, "") for name in RECIPES if name != "sync"), ("conv_fusion", "eager")],
)
def test_two_processes_take_the_steps_of_one(tmp_path, name, backend):
    """The same batch of 16 in the same four parts, with dropout and batch normalisation.

    The losses agree to 1e-6 in the first step and to 1e-4 in the sixth. Only the order of sums differs, and
    later steps amplify that.
    """
    done = start(tmp_path / "two", processes=2, name=name, backend=backend)
    assert done.returncode == 0, done.stderr
    run_alone(tmp_path / "one", name)
    one, two = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert (
        [row["step"] for row in one]
        == [row["step"] for row in two]
        == list(range(1, RECIPES[name].train.steps + 1))
    )
    np.testing.assert_allclose([r["loss"] for r in two], [r["loss"] for r in one], rtol=1e-4)
    assert two[0]["loss"] == pytest.approx(one[0]["loss"], rel=1e-6)
    assert [r["train_accuracy"] for r in two] == [r["train_accuracy"] for r in one]
    a, b = (checkpoint.load(tmp_path / name / "last.pt").model for name in ("one", "two"))
    assert any("running_var" in key for key in a) or name == "conv_fusion"
    for key in a:  # the statistics of batch normalisation, too
        torch.testing.assert_close(b[key], a[key], rtol=1e-4, atol=1e-5)
    # Two processes evaluate a share of the videos each, with the result of one process.
    corpus = FakeCorpus()
    held = evaluate(
        tmp_path / "two", corpus, open_run(tmp_path / "two").held_out(corpus), frames=1, crops=1, device="cpu"
    )
    right = held.scores[np.arange(len(held.ids)), held.labels]
    assert two[-1]["val_loss"] == pytest.approx(-np.log(right).mean(), rel=1e-5)
    alone = evaluate(tmp_path / "two", corpus, examples_of(corpus).subset(range(5)), device="cpu")
    shared = Scores.load(tmp_path / "two" / "scores.npz")
    assert shared.ids.tolist() == alone.ids.tolist()
    np.testing.assert_allclose(shared.scores, alone.scores, atol=1e-6)


@pytest.mark.slow
def test_synchronised_normalisation_sees_the_samples_of_all_processes(tmp_path):
    """Two processes of 4 samples a pass take the steps of one process of 8 samples a pass."""
    done = start(tmp_path / "two", processes=2, name="sync")
    assert done.returncode == 0, done.stderr
    section = replace(RECIPES["sync"].train, micro_batch=8)
    run(tmp_path / "one", replace(RECIPES["sync"], train=section))
    one, two = rows(tmp_path / "one"), rows(tmp_path / "two")
    np.testing.assert_allclose([r["loss"] for r in two], [r["loss"] for r in one], rtol=1e-4)
    a, b = (checkpoint.load(tmp_path / name / "last.pt").model for name in ("one", "two"))
    assert a.keys() == b.keys()
    for key in a:
        torch.testing.assert_close(b[key], a[key], rtol=1e-4, atol=1e-5)
    run(tmp_path / "other", RECIPES["sync"])  # one process of 4 samples a pass is another run
    assert abs(rows(tmp_path / "other")[0]["loss"] / one[0]["loss"] - 1) > 1e-3


@pytest.mark.parametrize("momentum", [0.1, None])
def test_statistics_of_processes_add_up_to_those_of_one(monkeypatch, momentum):
    """Three processes in turn: each computes its own parts, and the sum is the statistic of one process."""

    def network():
        torch.manual_seed(0)
        return torch.nn.Sequential(
            torch.nn.BatchNorm1d(3, momentum=momentum), torch.nn.BatchNorm1d(3)
        ).train()

    parts = [torch.randn(4, 3) * k + k for k in range(1, 8)]
    one = network()
    for x in [*parts, *parts]:
        one(x)
    monkeypatch.setattr(distributed, "world_size", lambda: 3)
    shares = []
    for rank in range(3):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        model = network()
        statistics = RunningStatistics(model)
        for _step in range(2):
            done = 0
            for part in range(rank, len(parts), 3):
                statistics.skip(part - done)
                model(parts[part])
                done = part + 1
            statistics.skip(len(parts) - done)
        shares.append(model.state_dict())
    for key, value in one.state_dict().items():
        if "running" in key:
            torch.testing.assert_close(sum(share[key] for share in shares), value, rtol=1e-6, atol=1e-6)
        if "tracked" in key:
            assert {int(share[key]) for share in shares} == {int(value)} == {14}


def test_processes_with_unequal_passes_cannot_normalise_together(tmp_path, monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: 3)
    with pytest.raises(
        UsageError, match=r"train.sync_batch_norm is true: 16 passes cannot be divided equally"
    ):
        run(tmp_path, replace(RECIPES["sync"], train=replace(RECIPES["sync"].train, micro_batch=1)))


@pytest.mark.slow
def test_a_run_continues_after_a_kill(tmp_path):
    """SIGKILL after step 5, between checkpoints: the resumed run has the losses of a whole one."""
    done = start(tmp_path / "parts", kill=5)
    assert done.returncode == -9
    assert checkpoint.load(tmp_path / "parts" / "last.pt").step == 4
    run_alone(tmp_path / "parts", resume=True)
    run_alone(tmp_path / "whole")
    parts, whole = ([(r["step"], r["loss"]) for r in rows(tmp_path / n)] for n in ("parts", "whole"))
    assert parts == whole


@pytest.mark.parametrize(
    ("world_size", "max_samples", "lengths"),
    [(1, 0, [256]), (4, 0, [64] * 4), (2, 50, [43] * 4 + [42] * 2), (3, 0, [86, 85, 85]), (3, 1, [1] * 256)],
)
def test_microbatches_cover_the_batch(monkeypatch, world_size, max_samples, lengths):
    monkeypatch.setattr(distributed, "world_size", lambda: world_size)
    parts = distributed.microbatches(256, max_samples)
    assert [len(p) for p in parts] == lengths
    assert np.concatenate(parts).tolist() == list(range(256))


def test_refusals(monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: 17)
    with pytest.raises(UsageError, match=r"train.batch is 16 and there are 17 processes"):
        distributed.microbatches(16, 0)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    with (
        pytest.raises(UsageError, match="--device cuda:1: under torchrun each process has its own"),
        distributed.process_group("cuda:1"),
    ):
        pass
