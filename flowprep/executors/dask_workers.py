"""The workers of a new Dask cluster: processes of this machine, or Slurm jobs. Each has a log.

The libraries of Dask start workers, too. But they neither keep the output of a worker that dies at once, nor
say that all are gone.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from flowprep.errors import ClusterError
from flowprep.system.processes import owner
from flowprep.system.units import count_noun

END_SECONDS = 5.0  # for worker processes to end by themselves
LOG_LINES = 12  # of a worker's log, in an error
CHECK_SECONDS = 2.0  # between two questions to Slurm

_TRACEBACK_LINES = (" ", "Traceback ", "The above exception ", "During handling ")  # how its lines begin


class Workers(Protocol):
    """The workers of a cluster."""

    def check(self) -> None:
        """Raise ClusterError if none can work any more."""


@contextmanager
def local_workers(address: str, count: int, gpu: bool, logs: Path) -> Iterator[Workers]:
    """Start worker processes on this machine. They end with the block.

    Args:
        address: of the scheduler.
        count: the number of processes.
        gpu: let the scheduler give them tasks for GPUs.
        logs: folder for their log, which is removed if they did not fail.
    """
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"dask-{owner()}.txt"
    command = [sys.executable, "-m", "distributed.cli.dask_worker", address]
    command += ["--nworkers", str(count), "--nthreads", "1", "--memory-limit", f"{1 / count:.6f}"]
    command += ["--no-dashboard", *(["--resources", "GPU=1"] if gpu else [])]
    with log.open("wb") as output:
        # In a session of their own: Ctrl-C in a terminal ends this process, which ends them.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    failed = False
    try:
        yield _LocalWorkers(process, count, log)
    except ClusterError:
        failed = True
        raise
    finally:
        _end_group(process)
        if not failed:
            log.unlink(missing_ok=True)


class _LocalWorkers:
    """Worker processes that one process has started and restarts."""

    def __init__(self, process: subprocess.Popen[bytes], count: int, log: Path) -> None:
        self._process = process
        self._count = count
        self._log = log

    def check(self) -> None:
        """Raise ClusterError if the process has ended."""
        code = self._process.poll()
        if code is not None:
            raise ClusterError(
                f"{count_noun(self._count, 'Dask worker')} of this machine ended, with exit code {code};"
                f" {tail_of(self._log)}"
            )


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process that leads a group, and its children."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(END_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def slurm_workers(script: str, count: int, logs: Path) -> Iterator[Workers]:
    """Submit Slurm jobs that each run a worker. They are cancelled at the end of the block.

    Args:
        script: of a job.
        count: the number of jobs.
        logs: folder for the logs of the jobs, on a file system that their machines share.

    Raises:
        ClusterError: Slurm refuses a job.
    """
    logs.mkdir(parents=True, exist_ok=True)
    output = logs.absolute() / "dask-slurm-%j.txt"
    jobs: list[str] = []
    try:
        for number in range(count):
            named = script.replace("dummy-name", f"{owner()}-{number}")  # each worker needs its own name
            jobs.append(_submit(named, output))
        yield _SlurmWorkers(jobs, output)
    finally:
        if jobs:
            with suppress(OSError):
                subprocess.run(["scancel", *jobs], capture_output=True)


def _submit(script: str, output: Path) -> str:
    """Submit a job. Returns its number."""
    command = ["sbatch", "--parsable", f"--output={output}", f"--error={output}"]
    try:
        done = subprocess.run(command, input=script, capture_output=True, text=True)
    except OSError as exc:
        raise ClusterError(f"sbatch cannot be run: {exc.strerror}") from exc
    if done.returncode:
        raise ClusterError(f"sbatch refuses the job of a Dask worker: {' '.join(done.stderr.split())}")
    return done.stdout.strip().partition(";")[0]


class _SlurmWorkers:
    """Slurm jobs that run workers."""

    def __init__(self, jobs: Sequence[str], output: Path) -> None:
        self._jobs = jobs
        self._output = output
        self._checked = time.monotonic()

    def check(self) -> None:
        """Raise ClusterError if no job is waiting or running."""
        if time.monotonic() - self._checked < CHECK_SECONDS:
            return
        self._checked = time.monotonic()
        done = subprocess.run(
            ["squeue", "-h", "-o", "%i", "-j", ",".join(self._jobs)], capture_output=True, text=True
        )
        # Slurm forgets jobs that ended. Another error, such as a controller that does not answer, may pass.
        if done.stdout.strip() or (done.returncode and "Invalid job id" not in done.stderr):
            return
        log = Path(str(self._output).replace("%j", self._jobs[-1]))
        raise ClusterError(
            f"the Slurm jobs of all {count_noun(len(self._jobs), 'Dask worker')} ended"
            f" ({', '.join(self._jobs)}); {tail_of(log)}"
        )


def tail_of(log: Path) -> str:
    """The end of a log, for an error."""
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 20_000))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError as exc:
        return f"their log {log} cannot be read: {exc.strerror}"
    printable = ["".join(c for c in line if c.isprintable()) for line in lines]
    # Of a traceback, the error itself is enough: the whole is in the log.
    said = [line for line in printable if line.strip() and not line.startswith(_TRACEBACK_LINES)]
    if not said:
        return f"their log {log} says nothing"
    return "\n  ".join([f"the end of their log {log}:", *said[-LOG_LINES:]])


def check_slurm_configured() -> str:
    """Return what is missing for `--slurm`; "" if nothing is."""
    if missing := [name for name in ("sbatch", "squeue", "scancel") if not shutil.which(name)]:
        return f"{', '.join(missing)} not found: --slurm needs the commands of Slurm"
    import dask

    slurm = dask.config.get("jobqueue.slurm", {})
    if missing := [name for name in ("cores", "memory") if not slurm.get(name)]:
        return (
            f"Dask's configuration lacks {' and '.join(f'jobqueue.slurm.{name}' for name in missing)}, which"
            " --slurm needs. Write a file such as ~/.config/dask/jobqueue.yaml:"
            ' "jobqueue: {slurm: {cores: 8, memory: 16GB, walltime: 04:00:00}}"'
        )
    walltime = slurm.get("walltime")
    if walltime and not re.fullmatch(r"(\d+-)?\d+(:\d+){0,2}", str(walltime)):
        return (
            f"jobqueue.slurm.walltime is {walltime} in Dask's configuration; allowed: hours:minutes:seconds"
        )
    return ""
