"""One process at a time is at a run's folder."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from flowprep.errors import UsageError
from flowprep.system import leases
from flowprep.system.processes import owner
from trainer.training import run_folder

RUNNING = f"{run_folder.RUNNING}.0"
ELSEWHERE = "elsewhere.0a1b2c3d.1.2"


def left(run, name, seconds=0.0):
    """A claim that somebody left, so long ago."""
    run.mkdir(exist_ok=True)
    path = run / RUNNING
    path.write_text(json.dumps({"owner": name}) if name else "")
    os.utime(path, (time.time() - seconds,) * 2)


def test_a_second_process_is_refused_and_the_first_lets_go(tmp_path):
    run = tmp_path / "a" / "run"
    with run_folder.claim_run(run):
        (run / "log").touch()
        with pytest.raises(UsageError, match=rf"trained by process {os.getpid()} on .*another --out"):
            run_folder.claim_run(run).__enter__()
    assert [p.name for p in run.iterdir()] == ["log"]
    with run_folder.claim_run(run):
        pass


def test_a_folder_that_nothing_came_into_goes(tmp_path):
    with run_folder.claim_run(tmp_path / "run"):
        assert (tmp_path / "run").is_dir()
    assert not (tmp_path / "run").exists()


def test_a_dead_process_of_this_machine_is_passed_over_at_once(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    name = owner(child.pid)
    left(tmp_path / "run", name, seconds=leases.EXPIRY_SECONDS + 1)
    with pytest.raises(UsageError, match=f"process {child.pid} on"):  # however silent it is
        run_folder.claim_run(tmp_path / "run").__enter__()
    child.communicate(b"")
    left(tmp_path / "run", name)
    with run_folder.claim_run(tmp_path / "run"):
        assert leases.Lease(tmp_path / "run" / f"{run_folder.RUNNING}.1").owner == owner()
    assert not list(tmp_path.iterdir())


def test_of_another_machine_silence_tells(tmp_path, monkeypatch):
    run = tmp_path / "run"
    left(run, ELSEWHERE, seconds=leases.EXPIRY_SECONDS + 1)
    with run_folder.claim_run(run):
        pass
    monkeypatch.setattr(leases, "EXPIRY_SECONDS", 2.0)
    left(run, ELSEWHERE)
    with run_folder.claim_run(run):
        pass


def test_of_another_machine_a_beat_tells(tmp_path):
    run = tmp_path / "run"
    left(run, ELSEWHERE)
    beat = threading.Timer(1, os.utime, [run / RUNNING])
    beat.start()
    with pytest.raises(UsageError, match=r"trained by process 1 on elsewhere"):
        run_folder.claim_run(run).__enter__()
    beat.join()


def test_a_process_number_that_is_used_again_says_nothing(tmp_path):
    name, _, start = owner().rpartition(".")
    left(tmp_path / "run", f"{name}.{int(start) - 1}")
    with run_folder.claim_run(tmp_path / "run"):
        pass


def test_the_same_number_in_another_container_of_this_host_is_another(tmp_path, monkeypatch):
    host, _, number, start = owner().split(".")
    monkeypatch.setattr(leases, "EXPIRY_SECONDS", 5.0)
    left(tmp_path / "run", f"{host}.00000000.{number}.{start}")
    beat = threading.Timer(1, os.utime, [tmp_path / "run" / RUNNING])
    beat.start()
    with pytest.raises(UsageError, match=f"process {number} on"):
        run_folder.claim_run(tmp_path / "run").__enter__()
    beat.join()


def test_a_claim_that_is_not_written_yet_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "EXPIRY_SECONDS", 1.0)
    left(tmp_path / "run", "")
    with run_folder.claim_run(tmp_path / "run"):
        pass


def test_a_long_run_is_not_silent(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "HEARTBEAT_SECONDS", 0.01)
    path = tmp_path / "run" / RUNNING
    with run_folder.claim_run(path.parent):
        os.utime(path, (0, 0))
        until = time.monotonic() + 60
        while path.stat().st_mtime < 1e9:
            assert time.monotonic() < until
            time.sleep(0.01)


def test_an_unfinished_checkpoint_of_a_dead_process_is_removed(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    for name in ("last.pt", "last.pt.elsewhere.0a1b2c3d.1.2.tmp", "best.pt.tmp", "test_scores.npz.x.tmp"):
        (run / name).touch()
    with run_folder.claim_run(run):
        pass
    assert sorted(path.name for path in run.iterdir()) == ["last.pt", "test_scores.npz.x.tmp"]
