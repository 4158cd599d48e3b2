"""Prefetching: a thread computes ahead, and passes errors on."""

from __future__ import annotations

import itertools
import time

import pytest

from flowprep.errors import VideoUnsuitable
from flowprep.extraction.prefetch import prefetch


def test_prefetch_computes_ahead_and_passes_errors_on():
    computed = []

    def numbers():
        for i in range(100):
            computed.append(i)
            yield i

    stream = prefetch(numbers())
    assert next(stream) == 0
    deadline = time.monotonic() + 60
    while len(computed) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert 3 <= len(computed) <= 4  # one waits in the queue, one is computed
    stream.close()
    assert len(computed) <= 5  # the thread has ended

    def failing():
        yield 1
        raise ValueError("in the thread")

    stream = prefetch(failing())
    assert next(stream) == 1
    with pytest.raises(ValueError, match="in the thread"):
        next(stream)


def test_limit_of_prefetch_is_for_all_items():
    stream = prefetch(itertools.count(), limit=0.2)
    with pytest.raises(VideoUnsuitable, match=r"took longer than 0\.2 s"):
        for _ in stream:
            pass
