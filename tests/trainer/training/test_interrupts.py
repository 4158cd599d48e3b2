"""Signals, within and outside of blocks that must not be interrupted."""

import os
import signal

import pytest
import torch

from flowprep import Settings
from flowprep.system import signals
from trainer.recipe.schema import Recipe
from trainer.training import checkpoint
from trainer.training.checkpoint import Checkpoint
from trainer.training.interrupts import raise_on_signals, uninterrupted

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)


@pytest.fixture(autouse=True)
def handlers():
    """Default handlers, also where the tests run in the background of a script. Restored afterwards."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in NUMBERS}
    yield
    signals.forget()
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def small_checkpoint():
    model = {"w": torch.ones(1000)}
    return Checkpoint(Recipe("spatial"), ("a", "b"), (2,), Settings(), "", 3, model, {}, {}, None, "float32")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_end_of_the_block(number):
    raise_on_signals()
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)
    raise_on_signals()
    steps = []
    with pytest.raises(KeyboardInterrupt):
        with uninterrupted():
            with uninterrupted():
                os.kill(os.getpid(), number)
                steps.append("inner")
            steps.append("outer")
        steps.append("after")
    assert steps == ["inner", "outer"]
    with uninterrupted():
        pass  # the signal was raised once


def test_an_ignored_signal_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise_on_signals()
    os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_a_signal_while_a_checkpoint_is_written_leaves_it_whole(tmp_path, monkeypatch, small_checkpoint):
    """torch.save reports an interruption of a write as an error of the file."""
    save = torch.save

    class Interrupting:
        """A file that receives a signal while the weights are written."""

        def __init__(self, file):
            self.file = file

        def write(self, data):
            if len(data) >= 4000:
                os.kill(os.getpid(), signal.SIGTERM)
            return self.file.write(data)

        def __getattr__(self, name):
            return getattr(self.file, name)

    monkeypatch.setattr(torch, "save", lambda values, file: save(values, Interrupting(file)))
    raise_on_signals()
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(tmp_path / "last.pt", small_checkpoint)
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []  # the next checkpoint finds the previous one in place
    checkpoint.save(tmp_path / "last.pt", small_checkpoint)
    assert checkpoint.load(tmp_path / "last.pt").step == small_checkpoint.step
