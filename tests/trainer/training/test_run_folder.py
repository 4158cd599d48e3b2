"""Only one process at a time trains into the folder of a run."""

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
from tests.support.fakes import small
from tests.support.runs import Killed, kill_at, run
from trainer.training import run_folder
from trainer.training.run_folder import TRAIN_LIST, VALIDATION_LIST

RUNNING = f"{run_folder.RUNNING}.0"
OTHER_MACHINE = "elsewhere.0a1b2c3d.1.2"


def write_lease(run, name, seconds=0.0):
    """A lease of another process that was renewed so many seconds ago."""
    run.mkdir(exist_ok=True)
    path = run / RUNNING
    path.write_text(json.dumps({"owner": name}) if name else "")
    os.utime(path, (time.time() - seconds,) * 2)


def test_a_second_process_is_refused_until_the_first_ends(tmp_path):
    run = tmp_path / "a" / "run"
    with run_folder.claim_run(run):
        (run / "log").touch()
        with pytest.raises(UsageError, match=rf"trained by process {os.getpid()} on .*another --out"):
            run_folder.claim_run(run).__enter__()
    assert [p.name for p in run.iterdir()] == ["log"]
    with run_folder.claim_run(run):
        pass


def test_an_empty_folder_is_removed(tmp_path):
    with run_folder.claim_run(tmp_path / "run"):
        assert (tmp_path / "run").is_dir()
    assert not (tmp_path / "run").exists()


def test_the_lease_of_a_dead_process_of_this_machine_is_replaced_at_once(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    name = owner(child.pid)
    write_lease(tmp_path / "run", name, seconds=leases.EXPIRY_SECONDS + 1)
    with pytest.raises(UsageError, match=f"process {child.pid} on"):  # although it did not renew its lease
        run_folder.claim_run(tmp_path / "run").__enter__()
    child.communicate(b"")
    write_lease(tmp_path / "run", name)
    with run_folder.claim_run(tmp_path / "run"):
        assert leases.Lease(tmp_path / "run" / f"{run_folder.RUNNING}.1").owner == owner()
    assert not list(tmp_path.iterdir())


def test_a_lease_of_another_machine_expires(tmp_path, monkeypatch):
    run = tmp_path / "run"
    write_lease(run, OTHER_MACHINE, seconds=leases.EXPIRY_SECONDS + 1)
    with run_folder.claim_run(run):
        pass
    monkeypatch.setattr(leases, "EXPIRY_SECONDS", 2.0)
    write_lease(run, OTHER_MACHINE)
    with run_folder.claim_run(run):
        pass


def test_a_renewed_lease_of_another_machine_is_respected(tmp_path):
    run = tmp_path / "run"
    write_lease(run, OTHER_MACHINE)
    beat = threading.Timer(1, os.utime, [run / RUNNING])
    beat.start()
    with pytest.raises(UsageError, match=r"trained by process 1 on elsewhere"):
        run_folder.claim_run(run).__enter__()
    beat.join()


def test_a_reused_process_number_is_another_process(tmp_path):
    name, _, start = owner().rpartition(".")
    write_lease(tmp_path / "run", f"{name}.{int(start) - 1}")
    with run_folder.claim_run(tmp_path / "run"):
        pass


def test_a_process_number_in_another_container_is_another_process(tmp_path, monkeypatch):
    host, _, number, start = owner().split(".")
    monkeypatch.setattr(leases, "EXPIRY_SECONDS", 5.0)
    write_lease(tmp_path / "run", f"{host}.00000000.{number}.{start}")
    beat = threading.Timer(1, os.utime, [tmp_path / "run" / RUNNING])
    beat.start()
    with pytest.raises(UsageError, match=f"process {number} on"):
        run_folder.claim_run(tmp_path / "run").__enter__()
    beat.join()


def test_an_unfinished_lease_expires(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "EXPIRY_SECONDS", 1.0)
    write_lease(tmp_path / "run", "")
    with run_folder.claim_run(tmp_path / "run"):
        pass


def test_a_long_run_renews_its_lease(tmp_path, monkeypatch):
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


def test_a_resumed_run_keeps_the_videos_that_it_held_out(tmp_path):
    """Also those that the rules would not select today."""
    recipe = small(train={"steps": 4, "milestones": [], "checkpoint_every": 2})
    with pytest.raises(Killed):
        run(tmp_path, recipe, on_step=kill_at(3))
    held = (tmp_path / VALIDATION_LIST).read_text().splitlines()
    moved = (tmp_path / TRAIN_LIST).read_text().splitlines()[0]
    (tmp_path / VALIDATION_LIST).write_text("\n".join([moved, *held[1:]]) + "\n")
    assert run(tmp_path, recipe, resume=True)
    lists = [(tmp_path / name).read_text().splitlines() for name in (TRAIN_LIST, VALIDATION_LIST)]
    assert sorted(lists[1]) == sorted([moved, *held[1:]])
    assert held[0] in lists[0] and moved not in lists[0]


@pytest.mark.parametrize("name", ["last.pt", "log.jsonl", "trainlist.txt", "running.0", ".gitkeep", ""])
def test_a_folder_of_a_run_or_an_empty_one_may_be_trained_into(tmp_path, name):
    assert not run_folder.holds_something_else(tmp_path / "none")
    if name:
        (tmp_path / name).touch()
    assert not run_folder.holds_something_else(tmp_path)


def test_a_folder_of_other_files_is_no_folder_for_a_run(tmp_path):
    (tmp_path / "holiday.mp4").touch()
    assert run_folder.holds_something_else(tmp_path)
    (tmp_path / "last.pt").touch()  # a run, with a file of the user
    assert not run_folder.holds_something_else(tmp_path)
