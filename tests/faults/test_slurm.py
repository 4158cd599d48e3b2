"""A job array on a real Slurm: its controller and two nodes on this machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.faults import FLOWPREP, OPTIONS, ROOT, environment, leftovers, shards

SCRIPTS = ROOT / "pipelines" / "slurm"
CONFIGURATION = """
ClusterName=flowprep
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
AuthInfo=cred_expire=5
CredType=cred/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
KillWait=5
SchedulerParameters=sched_interval=1
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={port1} CPUs=2 RealMemory=1000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={port2} CPUs=2 RealMemory=1000
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


@pytest.fixture
def slurm(tmp_path):
    """Runs Slurm's commands: slurm("squeue", "-h") -> what it prints."""
    if missing := [name for name in ("slurmctld", "slurmd", "sbatch") if not shutil.which(name)]:
        pytest.skip(
            f"Slurm is not installed: {', '.join(missing)} missing (Debian: slurmctld slurmd slurm-client)"
        )
    if os.geteuid() != 0:
        pytest.skip("only the superuser can start Slurm here")
    folder = tmp_path / "slurm"
    (folder / "state").mkdir(parents=True)
    port, port1, port2 = free_ports(3)
    names = {"host": socket.gethostname(), "folder": folder, "port": port, "port1": port1, "port2": port2}
    (folder / "slurm.conf").write_text(CONFIGURATION.format(**names))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = environment(SLURM_CONF=str(folder / "slurm.conf"), PATH=path)
    log = (folder / "log").open("w")
    commands = [["slurmctld", "-D"], ["slurmd", "-D", "-N", "n1"], ["slurmd", "-D", "-N", "n2"]]
    daemons = [subprocess.Popen(c, env=env, stdout=log, stderr=log) for c in commands]

    def run(*command: object) -> str:
        ran = subprocess.run([str(c) for c in command], env=env, capture_output=True, text=True, check=True)
        return ran.stdout.strip()

    for _ in range(60):
        with suppress(subprocess.CalledProcessError):
            if run("sinfo", "-h", "-N", "-t", "idle").count("idle") == 2:
                break
        time.sleep(0.5)
    else:
        for daemon in daemons:
            daemon.kill()
        pytest.skip(f"Slurm does not start here: {(folder / 'log').read_text()[-300:]}")
    yield run
    for daemon in reversed(daemons):
        daemon.terminate()
    for daemon in daemons:
        daemon.wait()
    log.close()


def an_element_at_work(corpus: Path) -> tuple[int, str]:
    """A process of the array in the middle of a task, stopped, and the name of its element."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for lease in (corpus / "leases").glob("*"):
            with suppress(OSError, ValueError, KeyError):
                process = int(json.loads(lease.read_text())["owner"].split(".")[-2])
                os.kill(process, signal.SIGSTOP)
                lines = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
                names = dict(line.decode().split("=", 1) for line in lines if b"=" in line)
                return process, f"{names['SLURM_ARRAY_JOB_ID']}_{names['SLURM_ARRAY_TASK_ID']}"
        time.sleep(0.002)
    raise AssertionError("no element came to work")


def test_an_array_with_a_killed_element_and_a_drained_node(slurm, videos, undisturbed, tmp_path):
    corpus = tmp_path / "c"
    subprocess.run([*FLOWPREP, "plan", str(videos), "--out", str(corpus), *OPTIONS], check=True)
    output = f"--output={tmp_path}/%x-%a.txt"
    array = ["--parsable", "--array=0-7", "--cpus-per-task=1", output]
    job = slurm("sbatch", *array, SCRIPTS / "extract.sbatch", corpus)
    after = ["--cpus-per-task=1", f"--dependency=afterany:{job}", output]
    slurm("sbatch", *after, SCRIPTS / "verify.sbatch", corpus)
    process, element = an_element_at_work(corpus)
    slurm("scontrol", "update", "NodeName=n2", "State=DRAIN", "Reason=test")
    os.kill(process, signal.SIGKILL)
    slurm("scontrol", "requeue", element)
    deadline = time.monotonic() + 240
    while slurm("squeue", "-h"):
        assert time.monotonic() < deadline, slurm("squeue")
        time.sleep(1)
    logs = {p.name: p.read_text() for p in tmp_path.glob("*.txt")}
    verified = next(text for name, text in logs.items() if "verify" in name)
    assert "24 of 24 tasks done" in verified and "no problems" in verified, logs
    assert shards(corpus) == undisturbed and leftovers(corpus) == []
    states = slurm("sinfo", "-h", "-N", "-o", "%N %T")
    assert "n2 drained" in states


def test_dask_workers_in_slurm_jobs(slurm, videos, undisturbed, tmp_path):
    pytest.importorskip("dask_jobqueue")
    corpus = tmp_path / "c"
    names = {"CORES": "1", "MEMORY": "500MB", "LOG_DIRECTORY": str(tmp_path), "WALLTIME": "00:10:00"}
    given = [f"DASK_JOBQUEUE__SLURM__{name}={value}" for name, value in names.items()]
    command = [*FLOWPREP, "extract", videos, "--out", corpus, *OPTIONS, "--executor", "dask", "--slurm", "2"]
    slurm("env", *given, *command)
    assert shards(corpus) == undisturbed and leftovers(corpus) == []
    assert not slurm("squeue", "-h", "-t", "running")  # the jobs end with the run


def test_training_on_two_nodes_that_is_requeued_goes_on(slurm, frames_of_samples, tmp_path):
    """Two processes without a GPU, one a node; the job is cut off between two checkpoints."""
    pytest.importorskip("trainer.training.trainer")
    corpus, lists = frames_of_samples
    run = tmp_path / "run"
    small = ["train.steps=40", "train.batch=4", "train.milestones=[]", "train.checkpoint_every=3"]
    small += ["train.log_every=1", "train.validation_share=0.0", "model.width=8", "input.crop=64"]
    log, said = run / "log.jsonl", tmp_path / "log.txt"
    given = ["--parsable", "--nodes=2", "--gpus-per-node=0", "--cpus-per-task=1", f"--output={said}"]
    options = ["--corpus", corpus, *lists, "--out", run]
    options += [
        "--device",
        "cpu",
        "--workers",
        "0",
        *(word for change in small for word in ("--set", change)),
    ]
    recipe = ROOT / "pipelines" / "demo" / "spatial.toml"
    job = slurm("sbatch", *given, SCRIPTS / "train.sbatch", recipe, *options)

    def wait(done: Callable[[], object]) -> None:
        deadline = time.monotonic() + 240
        while not done():
            failed = "JobState=FAILED" in slurm("scontrol", "show", "job", job)
            assert not failed and time.monotonic() < deadline, said.exists() and said.read_text()
            time.sleep(0.1)

    wait(lambda: log.exists() and log.read_text().count("loss") > 7)
    before = log.read_text().splitlines()[:6]  # behind the second checkpoint
    slurm("scontrol", "requeue", job)
    wait(lambda: "Restarts=1" in slurm("scontrol", "show", "job", job))
    wait(lambda: "JobState=COMPLETED" in slurm("scontrol", "show", "job", job))
    rows = log.read_text().splitlines()
    assert rows[: len(before)] == before  # rows say how long they took, too: these were not done again
    assert [row["step"] for row in map(json.loads, rows) if "loss" in row] == list(range(1, 41))
    assert said.read_text().count("processes: 2") == 2 and (run / "test_scores.npz").exists()


def test_dask_workers_in_slurm_jobs_that_die_at_once(slurm, videos, tmp_path):
    """The error has the log of a worker, and comes within half a minute of the processor's free time."""
    pytest.importorskip("dask_jobqueue")
    given = ["DASK_JOBQUEUE__SLURM__CORES=1", "DASK_JOBQUEUE__SLURM__MEMORY=500MB"]
    given += ["DASK_JOBQUEUE__SLURM__PYTHON=/no/such/python"]
    command = [*FLOWPREP, "extract", videos, "--out", tmp_path / "c", *OPTIONS, "--slurm", "2"]
    with pytest.raises(subprocess.CalledProcessError) as error:
        slurm("timeout", "120", "env", *given, *command)
    assert error.value.returncode == 1
    err = error.value.stderr
    assert "error: the Slurm jobs of all 2 Dask workers ended" in err and "Traceback" not in err, err
    assert "/no/such/python: No such file or directory" in err
    assert len(err.splitlines()) < 12 and not slurm("squeue", "-h", "-t", "running")
    assert leftovers(tmp_path / "c") == []
