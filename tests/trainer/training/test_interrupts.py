"""Signals, within and outside of blocks that must not be interrupted."""

import os
import signal

import pytest

from trainer.training.interrupts import raise_on_signals, uninterrupted

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)


@pytest.fixture(autouse=True)
def handlers():
    """Default handlers, also where the tests run in the background of a script. Restored afterwards."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in NUMBERS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_end_of_the_block(number):
    raise_on_signals()
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)
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
