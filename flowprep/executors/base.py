"""The types that all executors share: a job, its outcome, and the options and the result of a run."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from flowprep.errors import UsageError

if TYPE_CHECKING:  # the command line makes RunOptions before it loads heavy libraries
    from flowprep.corpus.plan import Task
    from flowprep.corpus.records import TaskRecord
    from flowprep.extraction.task import TaskOptions

# A task may kill its worker, by a bug in a decoder for example. After so many deaths, its videos are tried
# one by one, each so many times.
DEATHS_BEFORE_QUARANTINE = 3
# After so many deaths the task fails. Other causes can kill a worker: too little memory, or a user.
MAX_DEATHS = 4 * DEATHS_BEFORE_QUARANTINE


class Job(NamedTuple):
    """A task to attempt.

    Attributes:
        task: one of the plan's.
        seen: the `record_stamp` of the task when it was found to be pending.
        device: the number of the GPU to use; the first one if None.
    """

    task: Task
    seen: int = 0
    device: int | None = None


class Outcome(NamedTuple):
    """The result of one attempt.

    Attributes:
        task: id of the task.
        record: the record that was written. None if there is a fault, or if another process has the task.
        fault: the error, or "".
        stop: whether every other task would end with the same error.
    """

    task: str
    record: TaskRecord | None
    fault: str = ""
    stop: bool = False


Attempt = Callable[[Job], Outcome]


class Executor(Protocol):
    """Calls a function for each job in some process, and yields each outcome when the job ends.

    After an outcome with `stop`, no further job begins. When the iteration is closed early, everything that
    runs is dropped.
    """

    def __call__(self, attempt: Attempt, jobs: Sequence[Job]) -> Generator[Outcome, None, None]:
        """Run the jobs."""


@dataclass(frozen=True)
class RunOptions:
    """Where and how tasks run. Nothing here changes the stored frames and flow of a video.

    Attributes:
        jobs: cores to use on this machine; all if None.
        devices: GPUs of this machine for engine cuda, such as "0,1"; all if None or "all".
        executor: "local" for processes of this machine, or "dask". None: "dask" if a cluster is named.
        scheduler: Dask: address of the scheduler of an existing cluster.
        local_cluster: Dask: number of processes of a new cluster on this machine.
        slurm: Dask: number of Slurm jobs of a new cluster.
        timeout_per_video: seconds after which a video fails; no limit if None.
        scratch: folder on a local disk in which shards are built; None for the corpus itself.
        metrics: file to keep up to date in the text format of Prometheus; None for no file.

    Raises:
        UsageError: the options contradict each other.
    """

    jobs: int | None = None
    devices: str | None = None
    executor: Literal["local", "dask"] | None = None
    scheduler: str | None = None
    local_cluster: int | None = None
    slurm: int | None = None
    timeout_per_video: float | None = None
    scratch: Path | None = None
    metrics: Path | None = None

    def __post_init__(self) -> None:
        clusters = {
            "--scheduler": self.scheduler,
            "--local-cluster": self.local_cluster,
            "--slurm": self.slurm,
        }
        named = [option for option, value in clusters.items() if value]
        if self.executor is None:
            object.__setattr__(self, "executor", "dask" if named else "local")
        if self.executor == "local" and named:
            raise UsageError(
                f"--executor local and {named[0]}; allowed: {named[0]} with --executor dask or without"
                " --executor"
            )
        if self.executor == "dask" and len(named) != 1:
            raise UsageError(
                f"--executor dask and {' and '.join(named) or 'no cluster'}; allowed: one of --scheduler"
                " ADDRESS, --local-cluster N and --slurm N"
            )
        local = {"--jobs": self.jobs, "--devices": self.devices}
        if named and (wrong := [option for option, value in local.items() if value]):
            raise UsageError(
                f"{wrong[0]} and {named[0]}: {wrong[0]} is for the processes of --executor local. Leave it"
                " out: the workers of a Dask cluster have cores and GPUs of their own"
            )

    def task_options(self) -> TaskOptions:
        """Return the options of each task."""
        from flowprep.extraction.task import TaskOptions

        return TaskOptions(timeout_seconds=self.timeout_per_video or 0, scratch=self.scratch)


DEFAULT_RUN = RunOptions()


@dataclass(frozen=True)
class RunResult:
    """The work of this process and its workers.

    Attributes:
        faults: task -> the error that ended it. Such a task is still pending.
        pairs: pairs computed.
        videos: videos stored, whole or partial.
        failed: videos that failed.
        seconds: duration.
    """

    faults: Mapping[str, str] = field(default_factory=dict)
    pairs: int = 0
    videos: int = 0
    failed: int = 0
    seconds: float = 0.0

    @property
    def pairs_per_second(self) -> float:
        """The rate over the whole duration."""
        return round(self.pairs / self.seconds, 2) if self.seconds else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the values for --json."""
        return {
            "pairs": self.pairs,
            "seconds": round(self.seconds, 3),
            "pairs_per_second": self.pairs_per_second,
        }
