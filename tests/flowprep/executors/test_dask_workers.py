"""The workers of a new Dask cluster. Slurm's commands are small scripts here."""

from __future__ import annotations

import os
from contextlib import suppress

import pytest

from flowprep.errors import ClusterError
from flowprep.executors import dask_workers
from flowprep.executors.dask_workers import check_slurm_configured, local_workers, slurm_workers, tail_of

SCRIPT = "#!/bin/sh\n#SBATCH -n 1\ndask worker tcp://host:1 --name dummy-name\n"


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A folder with fake commands: sbatch stores each job, and squeue prints the file `queue`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    commands = {
        "sbatch": f"n=$(ls {folder} | grep -c job); cat >{folder}/job$n; echo $@ >>{folder}/asked; echo 7$n",
        "squeue": f"cat {folder}/queue",
        "scancel": f'echo "$@" > {folder}/cancelled',
    }
    for name, text in commands.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    (folder / "queue").write_text("70 RUNNING\n")
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.setattr(dask_workers, "CHECK_SECONDS", 0)
    return folder


def test_each_job_has_a_name_of_its_own_and_is_cancelled_at_the_end(slurm, tmp_path):
    with slurm_workers(SCRIPT, 2, tmp_path / "logs") as workers:
        workers.check()
        names = [(slurm / f"job{n}").read_text().split()[-1] for n in range(2)]
        assert len(set(names)) == 2 and "dummy-name" not in names
        assert (slurm / "asked").read_text().count(f"--output={tmp_path}/logs/dask-slurm-%j.txt") == 2
    assert (slurm / "cancelled").read_text().split() == ["70", "71"]


def test_jobs_that_all_ended_are_an_error_with_their_log(slurm, tmp_path):
    with slurm_workers(SCRIPT, 2, tmp_path / "logs") as workers:
        (slurm / "queue").write_text("")
        (tmp_path / "logs" / "dask-slurm-71.txt").write_text("python: command not found\n")
        with pytest.raises(ClusterError) as error:
            workers.check()
    first, *log = str(error.value).splitlines()
    assert first.startswith("the Slurm jobs of all 2 Dask workers ended (70, 71); the end of their log")
    assert log == ["  python: command not found"]


def test_a_controller_that_does_not_answer_is_no_end_of_the_jobs(slurm, tmp_path):
    with slurm_workers(SCRIPT, 1, tmp_path / "logs") as workers:
        (slurm / "squeue").write_text("#!/bin/sh\necho 'Unable to contact slurm controller' >&2\nexit 1\n")
        workers.check()
        (slurm / "squeue").write_text("#!/bin/sh\necho 'error: Invalid job id specified' >&2\nexit 1\n")
        with pytest.raises(ClusterError):
            workers.check()


def test_a_job_that_slurm_refuses_is_an_error_in_its_words(slurm, tmp_path):
    (slurm / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid partition: gpu' >&2\nexit 1\n")
    refused = pytest.raises(ClusterError, match=r"refuses the job of a Dask worker: .*invalid partition: gpu")
    with refused, slurm_workers(SCRIPT, 1, tmp_path / "logs"):
        pass
    assert not (slurm / "cancelled").exists()


def test_workers_of_this_machine_that_end_at_once(tmp_path, monkeypatch):
    (tmp_path / "distributed").mkdir()
    (tmp_path / "distributed" / "__init__.py").write_text("raise SystemExit('this worker cannot start')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    logs = tmp_path / "logs"
    ended = pytest.raises(ClusterError, match="2 Dask workers of this machine ended, with exit code 1")
    with ended as error, local_workers("tcp://127.0.0.1:9", 2, False, logs) as workers:
        while True:
            workers.check()
    assert str(error.value).endswith("\n  this worker cannot start")
    assert len(list(logs.iterdir())) == 1  # the log stays
    with suppress(KeyError), local_workers("tcp://127.0.0.1:9", 2, False, tmp_path / "others"):
        raise KeyError
    assert list((tmp_path / "others").iterdir()) == []  # of workers that did not fail, none stays


def test_the_tail_of_a_log_has_the_errors_and_no_traceback(tmp_path):
    log = tmp_path / "log"
    assert "No such file" in tail_of(log)
    log.write_bytes(b"\n")
    assert tail_of(log).endswith("says nothing")
    trace = "Traceback (most recent call last):\n  File x\n    code\nOSError: \x1b[31mno disk\n"
    log.write_text("x\n" * 5000 + "started\n" + trace)
    assert tail_of(log).splitlines()[-2:] == ["  started", "  OSError: [31mno disk"]
    assert len(tail_of(log).splitlines()) == 1 + dask_workers.LOG_LINES


def test_the_configuration_of_slurm_jobs(slurm, monkeypatch):
    dask = pytest.importorskip("dask")
    with dask.config.set({"jobqueue.slurm": {"cores": None, "memory": "1GB"}}):
        assert "lacks jobqueue.slurm.cores, which --slurm needs" in check_slurm_configured()
    with dask.config.set({"jobqueue.slurm": {"cores": 1, "memory": "1GB", "walltime": "soon"}}):
        assert "walltime is soon" in check_slurm_configured()
    for walltime in ("00:10:00", "1-00:00:00", "60", None):
        with dask.config.set({"jobqueue.slurm": {"cores": 1, "memory": "1GB", "walltime": walltime}}):
            assert check_slurm_configured() == ""
    (slurm / "squeue").unlink()
    monkeypatch.setenv("PATH", str(slurm))
    assert "squeue not found" in check_slurm_configured()
