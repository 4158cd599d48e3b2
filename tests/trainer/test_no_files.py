"""Files that are no files are refused at once, wherever the user names one."""

from __future__ import annotations

import errno
import os
import zipfile

import numpy as np
import pytest
import torch

from flowprep.errors import UsageError
from flowprep.flo import read_flo
from trainer.evaluation.scores import Scores
from trainer.models.weights import read_weights
from trainer.recipe.toml import read_recipe
from trainer.training import checkpoint

READERS = {
    "weights": (read_weights, "17.2 GB"),
    "checkpoint": (checkpoint.load, "17.2 GB"),
    "recipe": (read_recipe, "1.05 MB"),
    "scores": (Scores.load, "268 MB"),
    "flow": (read_flo, "1.07 GB"),
}


def pipe(path):
    os.mkfifo(path)


def device(path):
    path.symlink_to("/dev/zero")


def sparse(path):
    with path.open("wb") as file:
        file.truncate(100 * 10**9)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("make", [pipe, device, sparse])
def test_what_is_no_file_is_refused_at_once(tmp_path, reader, make):
    """`model.weights` = /dev/zero was read to the end of memory; a pipe waited for ever."""
    read, most = READERS[reader]
    path = tmp_path / "x"
    make(path)
    expected = {pipe: "is a pipe", device: "is a device", sparse: f"has 100 GB; at most {most} are read"}
    with pytest.raises(UsageError, match=expected[make]):
        read(path)


def test_weights_of_a_run_that_are_no_file_are_refused(tmp_path):
    (tmp_path / "run").mkdir()
    os.mkfifo(tmp_path / "run" / "last.pt")
    with pytest.raises(UsageError, match="is a pipe"):
        read_weights(tmp_path / "run")


def test_an_error_of_the_machine_is_no_damage_of_a_checkpoint(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    torch.save({}, tmp_path / "last.pt")
    monkeypatch.setattr(checkpoint, "open_regular", fail)
    with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
        checkpoint.load(tmp_path / "last.pt")


def test_scores_that_unpack_to_very_much_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "s.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("ids.npy", bytes(300_000_000))
    with pytest.raises(UsageError, match="not a file of scores"):
        Scores.load(tmp_path / "s.npz")
    header = b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little")
    shape = "{'descr': '<f8', 'fortran_order': False, 'shape': (100000000000000,)}".ljust(117) + "\n"
    with zipfile.ZipFile(tmp_path / "t.npz", "w") as file:
        file.writestr("ids.npy", header + shape.encode())
    with pytest.raises(UsageError, match="not a file of scores"):
        Scores.load(tmp_path / "t.npz")
    np.save(tmp_path / "u.npz.npy", np.zeros(3))
    with pytest.raises(UsageError, match="not a file of scores"):
        Scores.load(tmp_path / "u.npz.npy")
