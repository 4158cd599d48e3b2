"""The work that is left, in the status of a corpus."""

from __future__ import annotations

import pytest

from flowprep.corpus.index import Index
from flowprep.corpus.plan import Plan, Segment, Task
from flowprep.planning.status import Remaining, corpus_status
from flowprep.settings import Settings

PAIRS = {"a": 100, "b": 300, "c": 600}
PLAN = Plan(
    Settings(), tuple(Task(n, (Segment(n, n, n, "", 1, estimate=pairs),)) for n, pairs in PAIRS.items())
)


@pytest.mark.parametrize(
    ("done", "seconds", "workers", "remaining"),
    [
        (["a"], 10.0, 1, Remaining(900, 1, 90.0)),
        (["a", "b"], 40.0, 3, Remaining(600, 3, 20.0)),
        (["a", "b"], 40.0, 0, Remaining(600, 0, None)),
        ([], 0.0, 2, Remaining(1000, 2, None)),
        (["a", "b", "c"], 10.0, 0, Remaining(0, 0, None)),
    ],
)
def test_the_time_left_is_that_of_the_workers_at_the_rate_of_finished_tasks(
    done, seconds, workers, remaining
):
    status = corpus_status(PLAN, Index(tasks=done, totals={"total_seconds": seconds}), workers=workers)
    assert status.remaining == remaining
    assert status.to_dict()["remaining"]["seconds"] == remaining.seconds
