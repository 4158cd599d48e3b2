"""Options and results of a run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from flowprep.errors import UsageError
from flowprep.executors.base import RunOptions, RunResult


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"executor": "dask"}, "--executor dask and no cluster; allowed: one of --scheduler ADDRESS"),
        ({"executor": "local", "scheduler": "tcp://host:1"}, "--executor local and --scheduler; allowed"),
        ({"local_cluster": 2, "slurm": 3}, "--executor dask and --local-cluster and --slurm; allowed: one"),
        ({"local_cluster": 2, "jobs": 3}, "--jobs and --local-cluster: --jobs is for the processes of"),
        ({"slurm": 2, "devices": "0"}, "--devices and --slurm: --devices is for the processes of"),
    ],
)
def test_options_that_contradict_each_other_are_refused_by_name(options, message):
    with pytest.raises(UsageError, match=message):
        RunOptions(**options)


@pytest.mark.parametrize("name", [{"scheduler": "tcp://host:1"}, {"local_cluster": 2}, {"slurm": 2}])
@pytest.mark.parametrize("executor", [{"executor": "dask"}, {}])
def test_a_cluster_that_is_named_is_used(name, executor):
    options = RunOptions(**executor, **name)
    assert options.executor == "dask" and dataclasses.replace(options) == options


def test_without_a_cluster_this_machine_is_used():
    assert RunOptions().executor == RunOptions(executor="local", jobs=2).executor == "local"


def test_options_of_each_task():
    assert RunOptions().task_options().timeout_seconds == 0
    options = RunOptions(timeout_per_video=2.5, scratch=Path("/scratch")).task_options()
    assert (options.timeout_seconds, options.scratch, options.threads) == (2.5, Path("/scratch"), 1)


def test_the_rate_of_a_result():
    result = RunResult({}, pairs=30, videos=2, failed=1, seconds=4.0)
    assert result.to_dict() == {"pairs": 30, "seconds": 4.0, "pairs_per_second": 7.5}
    assert RunResult().to_dict() == {"pairs": 0, "seconds": 0.0, "pairs_per_second": 0.0}
