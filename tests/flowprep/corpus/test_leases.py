"""Leases of tasks: one owner at a time, and no lease stays for ever."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flowprep.corpus import format as fmt
from flowprep.corpus.store import CorpusStore
from flowprep.system import leases as system_leases
from flowprep.system.atomic import remove_leftovers, temporary_path
from flowprep.system.processes import is_dead, owner


@pytest.fixture
def store(tmp_path: Path) -> CorpusStore:
    for folder in (fmt.SHARDS, fmt.RECORDS, fmt.LEASES):
        (tmp_path / folder).mkdir()
    return CorpusStore(tmp_path)


def leases(store: CorpusStore) -> list[str]:
    return sorted(p.name for p in (store.path / fmt.LEASES).iterdir())


def kill_an_owner(store: CorpusStore, epoch: int = 0) -> str:
    """Leave a lease whose owner was killed, and its unfinished shard. Returns the owner."""
    code = (
        "import sys, os, signal; from pathlib import Path;"
        "from flowprep.corpus.store import CorpusStore;"
        "from flowprep.system.atomic import temporary_path; from flowprep.system.processes import owner;"
        "store = CorpusStore(Path(sys.argv[1]));"
        "lease = store.lease('aa'); lease.__enter__();"
        "temporary_path(store.shard_path('aa')).touch(); print(owner(), flush=True);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    run = subprocess.run([sys.executable, "-c", code, str(store.path)], capture_output=True, text=True)
    assert leases(store)[-1] == f"aa.{epoch}", run.stderr
    return run.stdout.strip()


def test_task_has_one_owner(store):
    with store.lease("aa") as deaths:
        assert deaths == 0 and store.is_leased("aa") and leases(store) == ["aa.0"]
        with store.lease("aa") as second, store.lease("bb") as other:
            assert second is None and other == 0
        assert leases(store) == ["aa.0"]  # a process without the lease removes nothing
    assert leases(store) == [] and not store.is_leased("aa")


def test_lease_of_a_published_task_is_removed_if_its_owner_died(store):
    kill_an_owner(store)
    store.tidy()
    assert leases(store) == ["aa.0"]  # the task is not done: the lease counts a death
    store.record_path("aa").write_text("{}")
    with store.lease("bb"):
        store.record_path("bb").write_text("{}")
        store.tidy()
        assert leases(store) == ["bb.0"]  # its owner lives


def test_task_that_was_done_meanwhile_is_not_leased(store):
    store.record_path("aa").write_text("{}")
    with store.lease("aa") as deaths:
        assert deaths is None
    with store.lease("aa", store.record_stamp("aa")) as deaths:  # a retry
        assert deaths == 0
    assert leases(store) == []


def test_lease_of_a_dead_process_is_taken_over_at_once(store):
    for epoch in (0, 1, 2):
        name = kill_an_owner(store, epoch)
        assert is_dead(name) and not store.is_leased("aa")
    assert (
        len(list((store.path / fmt.SHARDS).iterdir())) == 1
    )  # each owner removed the file of its predecessor
    with store.lease("aa") as deaths:
        assert deaths == 3
        assert list((store.path / fmt.SHARDS).iterdir()) == []
    assert leases(store) == []


def test_lease_of_another_machine_expires(store):
    path = store.path / fmt.LEASES / "aa.0"
    path.write_text('{"owner": "elsewhere.0123abcd.1.1"}')
    now = path.stat().st_mtime
    os.utime(path, (now, now - system_leases.EXPIRY_SECONDS + 20))
    assert store.is_leased("aa")
    os.utime(path, (now, now - system_leases.EXPIRY_SECONDS - 1))
    assert not store.is_leased("aa")
    with store.lease("aa") as deaths:
        assert deaths == 1 and leases(store) == ["aa.0", "aa.1"]
    assert leases(store) == []


def test_empty_lease_is_alive(store):
    (store.path / fmt.LEASES / "aa.0").touch()
    assert store.is_leased("aa")


def test_owner_keeps_its_lease_alive(store, monkeypatch):
    monkeypatch.setattr(system_leases, "HEARTBEAT_SECONDS", 0.01)
    with store.lease("aa"):
        path = store.path / fmt.LEASES / "aa.0"
        os.utime(path, (0, 0))
        for _ in range(500):
            if path.stat().st_mtime > 0:
                break
            threading.Event().wait(0.01)
        assert path.stat().st_mtime > 0


def test_one_of_many_threads_takes_a_lease_over(store):
    for round_ in range(20):
        kill_an_owner(store) if round_ == 0 else None
        (store.path / fmt.LEASES / "aa.0").write_text('{"owner": "elsewhere.0123abcd.1.1"}')
        os.utime(store.path / fmt.LEASES / "aa.0", (0, 0))
        gate = threading.Barrier(8)
        done = threading.Barrier(8)

        def take(_: int, gate: threading.Barrier = gate, done: threading.Barrier = done) -> bool:
            gate.wait()
            with store.lease("aa") as deaths:
                done.wait()
                return deaths is not None

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(take, range(8))) == 1
        assert leases(store) == []


def hold(store: CorpusStore, results: multiprocessing.Queue) -> None:
    got = 0
    for _ in range(200):
        with store.lease("aa") as deaths:
            if deaths is not None:
                got += 1
                # two processes at the same time would raise here
                with (store.path / "inside").open("x"):
                    pass
                (store.path / "inside").unlink()
    results.put(got)


@pytest.mark.slow
def test_two_processes_never_hold_one_lease(store):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=hold, args=(store, results)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert sum(results.get() for _ in processes) > 0
    assert leases(store) == []


def test_release_removes_the_files_of_one_owner(store):
    with store.lease("aa"):
        other = store.path / fmt.LEASES / "bb.0"
        other.write_text('{"owner": "elsewhere.0123abcd.1.1"}')
        temporary_path(store.shard_path("aa")).touch()
        foreign = temporary_path(store.shard_path("bb"), "elsewhere.0123abcd.1.1")
        foreign.touch()
        store.release(owner())
        assert leases(store) == ["bb.0"] and list((store.path / fmt.SHARDS).iterdir()) == [foreign]


def test_leftovers_of_ended_processes_are_removed(store):
    own = temporary_path(store.path / "a.h5")
    own.touch()
    number, start = owner().rsplit(".", 2)[1:]
    reused = temporary_path(store.path / "a.h5", owner().removesuffix(start) + str(int(start) - 1))
    reused.touch()  # of a process that had the number of this one
    ended = subprocess.Popen([sys.executable, "-c", ""])
    name = owner(ended.pid)
    ended.wait()
    dead = temporary_path(store.path / "b.h5", name)
    dead.touch()
    foreign = temporary_path(store.path / "b.h5", f"elsewhere.0123abcd.{number}.1")
    foreign.touch()
    remove_leftovers(store.path)
    assert own.exists() and foreign.exists() and not dead.exists() and not reused.exists()


@pytest.mark.parametrize("call", ["os.link", "pathlib.Path.write_text"])
def test_an_owner_that_is_killed_while_it_creates_a_lease_leaves_none(store, call):
    code = (
        "import sys, os, pathlib, signal; from flowprep.corpus.store import CorpusStore;"
        "from flowprep.system.processes import owner; store = CorpusStore(pathlib.Path(sys.argv[1]));"
        "print(owner(), flush=True);"
        f"{call} = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL);"
        "store.lease('aa').__enter__()"
    )
    run = subprocess.run([sys.executable, "-c", code, str(store.path)], capture_output=True, text=True)
    assert run.returncode == -9 and not [name for name in leases(store) if not name.endswith(".tmp")]
    store.release(run.stdout.strip())
    assert leases(store) == []


def test_a_file_system_without_hard_links_has_leases_too(store, monkeypatch):
    def refuse(*_):
        raise PermissionError("no hard links")

    monkeypatch.setattr(os, "link", refuse)
    with store.lease("aa") as deaths:
        assert deaths == 0 and leases(store) == ["aa.0"] and store.is_leased("aa")
        with store.lease("aa") as second:
            assert second is None
    assert leases(store) == []
