"""Checkpoints are written atomically, read without running code, and checked for damage."""

import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import torch

from flowprep.errors import UsageError
from tests.support.fakes import CLASSES, FakeCorpus, small
from tests.support.runs import run
from trainer import errors
from trainer.models import registry, weights
from trainer.training import checkpoint
from trainer.training import trainer as train


@pytest.mark.slow
def test_a_kill_while_writing_leaves_the_previous_checkpoint(tmp_path):
    """A process is killed in the middle of writing, again and again."""
    path = tmp_path / "last.pt"
    code = """
import sys, torch
from pathlib import Path
from flowprep import Settings
from trainer.training.checkpoint import Checkpoint, save
from trainer.recipe.schema import Recipe
for step in range(10**6):
    weights = {"w": torch.full((2_000_000,), float(step))}
    state = Checkpoint(
        Recipe("spatial"), ("a", "b"), (2,), Settings(), "", step, weights, {}, {}, None, "float32"
    )
    save(Path(sys.argv[1]), state)
"""
    env = {**os.environ, "PYTHONPATH": str(Path(train.__file__).parents[2])}
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], env=env)
    try:
        deadline = time.monotonic() + 60
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        for _ in range(5):
            time.sleep(0.05)
            kept = checkpoint.load(path)
            assert (kept.model["w"] == kept.step).all()
    finally:
        process.kill()
        process.wait()
    kept = checkpoint.load(path)
    assert (kept.model["w"] == kept.step).all()


def test_damaged_checkpoints_are_named(tmp_path):
    recipe = small(train={"steps": 1, "milestones": []})
    run(tmp_path, recipe)
    path = tmp_path / "last.pt"
    newer = torch.load(path, weights_only=True)
    newer["recipe"]["later"], newer["version"] = 1, checkpoint.UNSEALED
    torch.save(newer, path)
    with pytest.raises(errors.CheckpointDamaged, match=r"another version .*: unknown key later"):
        checkpoint.load(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(errors.CheckpointDamaged, match=r"last.pt: not a readable checkpoint"):
        checkpoint.load(path)
    with pytest.raises(UsageError, match=r"is not a training run"):
        checkpoint.load(tmp_path / "none" / "last.pt")


def test_a_flipped_bit_in_the_weights_is_found(tmp_path):
    """torch.load itself does not notice it."""
    run(tmp_path, small(train={"steps": 1, "milestones": []}))
    path = tmp_path / "last.pt"
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        middle = archive.getinfo("archive/data/0").header_offset + 200
    data[middle] ^= 1
    path.write_bytes(data)
    torch.load(path, weights_only=True)
    with pytest.raises(errors.CheckpointDamaged, match=r"readable checkpoint: its checksum does not match"):
        checkpoint.load(path)
    with pytest.raises(UsageError, match=r"model.weights: .* is not a state dict"):
        weights.load_weights(torch.nn.Linear(1, 1), path, registry.find_module("resnet18").SPEC)
    path.write_bytes(data[: -checkpoint.SEAL.size])
    with pytest.raises(errors.CheckpointDamaged, match=r"not a whole checkpoint"):
        checkpoint.load(path)


def test_a_checkpoint_without_a_seal_is_read(tmp_path):
    run(tmp_path, small(train={"steps": 1, "milestones": []}))
    before = torch.load(tmp_path / "last.pt", weights_only=True)
    torch.save(before | {"version": checkpoint.UNSEALED}, tmp_path / "older.pt")
    assert checkpoint.load(tmp_path / "older.pt").step == 1


class Code:
    """Runs when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("was-run"),)


def test_no_code_in_a_checkpoint_is_run_and_nothing_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"version": checkpoint.UNSEALED, "model": Code()}, "code.pt")
    with pytest.raises(errors.CheckpointDamaged, match=r"code.pt: not a readable checkpoint"):
        checkpoint.load(Path("code.pt"))
    assert not Path("was-run").exists()
    with (
        zipfile.ZipFile("code.pt") as stored,
        zipfile.ZipFile("packed.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in stored.namelist():
            packed.writestr(name, stored.read(name))
    with pytest.raises(errors.CheckpointDamaged, match=r"it is compressed"):
        checkpoint.load(Path("packed.pt"))


def test_a_checkpoint_is_read_back(tmp_path):
    recipe = small(train={"steps": 1, "milestones": []})
    run(tmp_path, recipe)
    kept = checkpoint.load(tmp_path / "last.pt")
    assert kept.recipe == recipe
    assert kept.classes == CLASSES
    assert kept.corpus == FakeCorpus().settings
    assert set(kept.optimizer["state"]) == set(range(len(kept.optimizer["param_groups"][0]["params"])))
