"""Options and results of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowprep.errors import UsageError
from flowprep.executors.base import RunOptions, RunResult


@pytest.mark.parametrize(
    "options",
    [
        {"executor": "dask"},
        {"scheduler": "tcp://host:1"},
        {"local_cluster": 2},
        {"executor": "dask", "local_cluster": 2, "slurm": 3},
    ],
)
def test_a_cluster_must_have_exactly_one_name(options):
    with pytest.raises(UsageError, match="allowed: --executor dask with one of them"):
        RunOptions(**options)


def test_a_cluster_is_named_in_one_of_three_ways():
    for name in ({"scheduler": "tcp://host:1"}, {"local_cluster": 2}, {"slurm": 2}):
        assert RunOptions(executor="dask", **name).executor == "dask"


def test_options_of_each_task():
    assert RunOptions().task_options().timeout_seconds == 0
    options = RunOptions(timeout_per_video=2.5, scratch=Path("/scratch")).task_options()
    assert (options.timeout_seconds, options.scratch, options.threads) == (2.5, Path("/scratch"), 1)


def test_the_rate_of_a_result():
    result = RunResult({}, pairs=30, videos=2, failed=1, seconds=4.0)
    assert result.to_dict() == {"pairs": 30, "seconds": 4.0, "pairs_per_second": 7.5}
    assert RunResult().to_dict() == {"pairs": 0, "seconds": 0.0, "pairs_per_second": 0.0}
