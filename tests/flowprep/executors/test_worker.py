"""A worker process that ends in the middle of a call."""

import gc
import os

import pytest

from flowprep.executors.worker import Worker, WorkerDied


def test_the_error_of_a_dead_worker_can_be_collected_as_garbage(monkeypatch):
    unraisable = []
    monkeypatch.setattr("sys.unraisablehook", unraisable.append)
    worker = Worker()
    worker.start()
    with pytest.raises(WorkerDied) as raised:
        worker.call(os._exit, 1)
    worker.kill()
    raised.value.cycle = raised.value
    del raised
    gc.collect()
    assert not unraisable
