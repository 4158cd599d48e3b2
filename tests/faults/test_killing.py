"""Workers and runs that are killed: nothing is lost, nothing is done twice, and the bytes are the same."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from flowprep.corpus.store import CorpusStore
from flowprep.corpus.verify import verify_corpus
from flowprep.executors import run
from flowprep.system.processes import is_dead
from tests.support.faults import OPTIONS, TASKS, VIDEOS, children, environment, leftovers, shards, wait_for

KILLS = 20
WITHIN = 10.0  # seconds from a signal to the end, as the README promises
LOKY = "popen_loky_posix"  # what the command lines of local workers hold


def records(corpus: Path) -> int:
    return len(list(corpus.glob("records/*.json")))


def working(corpus: Path) -> list[int]:
    """Processes that hold a lease."""
    found = []
    for path in (corpus / "leases").glob("*"):
        with suppress(OSError, ValueError, KeyError):
            owner = json.loads(path.read_text())["owner"]
            if not is_dead(owner):
                found.append(int(owner.split(".")[-2]))
    return found


@pytest.mark.parametrize("how", [["--jobs", "2"], ["--executor", "dask", "--local-cluster", "4"]])
def test_workers_killed_in_the_middle_of_tasks(how, videos, undisturbed, tmp_path, start):
    if "dask" in how:
        pytest.importorskip("distributed")
    rng = random.Random(0)
    kills = rounds = 0
    while kills < KILLS:
        corpus = tmp_path / str(rounds)
        rounds += 1
        with (tmp_path / "log").open("w") as log:
            process = start("extract", videos, "--out", corpus, *OPTIONS, *how, stderr=log)
        while process.poll() is None:
            if (workers := working(corpus)) and kills < min(KILLS, 7 * rounds):
                with suppress(ProcessLookupError):
                    os.kill(rng.choice(workers), signal.SIGKILL)
                    kills += 1
                    time.sleep(rng.uniform(0, 0.5))
            time.sleep(0.01)
        assert process.returncode == 0, (tmp_path / "log").read_text()
        assert shards(corpus) == undisturbed and leftovers(corpus) == []
        assert verify_corpus(CorpusStore(corpus)).problems == ()


@pytest.fixture
def crashing(tmp_path: Path) -> dict[str, str]:
    """The environment of processes whose decoder crashes on one file, whoever opens it."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import os, signal, flowprep.extraction.pipeline as e\n"
        "whole = e.decode_frames\n"
        "def decode(path, start=0, **options):\n"
        "    if path.name == '3.mp4': os.kill(os.getpid(), signal.SIGSEGV)\n"
        "    return whole(path, start, **options)\n"
        "e.decode_frames = decode\n"
    )
    return environment(PYTHONPATH=str(site))


def test_a_video_that_kills_its_workers_costs_one_video(videos, crashing, tmp_path, start):
    corpus = tmp_path / "c"
    options = ["--size", "source", "--shard-pairs", "60", "--jobs", "2"]  # several videos in each task
    process = start("extract", videos, "--out", corpus, *options, "--json", env=crashing)
    out, err = process.communicate()
    assert process.returncode == 3, err
    summary = json.loads(out)
    assert summary["videos"] == {
        "total": VIDEOS,
        "ok": VIDEOS - 1,
        "partial": 0,
        "failed": 1,
        "pending": 0,
    }
    assert summary["failures"] == {"3.mp4": "killed its worker 3 times, SIGSEGV"}
    assert summary["faults"] == {} and leftovers(corpus) == []
    assert start("retry", corpus, "--retry-failed").wait() == 0  # with a decoder that does not crash
    assert start("extract", videos, "--out", tmp_path / "d", *options).wait() == 0
    assert shards(corpus) == shards(tmp_path / "d")


def test_an_array_element_that_dies_by_a_video_is_well_when_it_is_requeued_often_enough(
    videos, crashing, tmp_path, start
):
    """With one job there is no worker to die but the process itself: the leases count its deaths."""
    corpus = tmp_path / "c"
    assert start("plan", videos, "--out", corpus, "--size", "source", "--shard-pairs", "60").wait() == 0
    codes = [start("run-task", corpus, "--array", "--jobs", 1, env=crashing).wait() for _ in range(4)]
    assert codes == [-signal.SIGSEGV] * 3 + [3]
    process = start("status", corpus, "--json")
    summary = json.loads(process.communicate()[0])
    assert summary["videos"]["ok"] == VIDEOS - 1 and leftovers(corpus) == []
    assert summary["failures"] == {"3.mp4": "killed its worker 3 times, SIGSEGV"}


def test_two_runs_share_a_corpus(videos, undisturbed, tmp_path, start):
    corpus = tmp_path / "c"
    assert start("plan", videos, "--out", corpus, *OPTIONS).wait() == 0
    first = start("extract", videos, "--out", corpus, *OPTIONS, "--json", "--jobs", "2")
    others = [start("run-task", corpus, "--array", "--json", "--jobs", "1") for _ in range(2)]
    results = [json.loads(p.communicate()[0]) for p in (first, *others)]
    assert [p.returncode for p in (first, *others)] == [0, 0, 0]
    assert results[0]["videos"]["ok"] == VIDEOS  # who ends, ends when all is done
    assert sum(r["run"]["pairs"] for r in results) == VIDEOS * 13  # each pair once
    assert shards(corpus) == undisturbed and leftovers(corpus) == []


def frozen_in_the_middle(process, corpus: Path) -> None:
    """Stop a run, workers and all, when some of its tasks are done."""
    wait_for(lambda: records(corpus) > 1)
    os.killpg(process.pid, signal.SIGSTOP)
    assert records(corpus) < TASKS


def test_a_run_takes_over_from_one_that_was_killed(videos, undisturbed, tmp_path, start):
    corpus = tmp_path / "c"
    first = start("extract", videos, "--out", corpus, *OPTIONS, "--jobs", "2")
    frozen_in_the_middle(first, corpus)
    done = {p.stem for p in corpus.glob("records/*.json")}
    held = {p.stem for p in corpus.glob("leases/*.*[0-9]")} - done
    second = start("extract", videos, "--out", corpus, *OPTIONS, "--jobs", "2")
    wait_for(lambda: records(corpus) >= TASKS - len(held))
    assert second.poll() is None or not held  # it waits for those
    os.killpg(first.pid, signal.SIGKILL)
    assert second.wait() == 0
    # What the first had published and not yet put away, while it lived, goes with the next run.
    assert start("extract", videos, "--out", corpus, *OPTIONS).wait() == 0
    assert shards(corpus) == undisturbed and leftovers(corpus) == []


def test_workers_end_with_the_run_that_started_them(videos, tmp_path, start):
    process = start("extract", videos, "--out", tmp_path / "c", *OPTIONS, "--jobs", "2")
    frozen_in_the_middle(process, tmp_path / "c")
    workers = children(process.pid, LOKY)
    assert workers
    process.kill()
    os.killpg(process.pid, signal.SIGCONT)
    wait_for(lambda: not any(Path(f"/proc/{w}").exists() for w in workers), 20)


def processor_seconds(*processes: int) -> float:
    """What some processes, and those of theirs that have ended, have had of the processor."""
    ticks = 0
    for process in processes:
        ticks += sum(map(int, Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drops_what_is_running(jobs, number, videos, undisturbed, tmp_path, start):
    corpus = tmp_path / "c"
    process = start("extract", videos, "--out", corpus, *OPTIONS, "--jobs", jobs)
    frozen_in_the_middle(process, corpus)
    before = processor_seconds(process.pid, *children(process.pid, LOKY))
    os.killpg(process.pid, number)  # as a terminal or a scheduler does, to all of them
    os.killpg(process.pid, signal.SIGCONT)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)  # and again: cleaning up is not interrupted
    err = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    # By the processor's clock, which others' load does not touch: on an idle machine it is that of the wall.
    assert used.ru_utime + used.ru_stime - before < WITHIN / 2
    assert process.returncode == 1 and "the same command resumes" in err and "Traceback" not in err, err
    assert leftovers(corpus) == [] and verify_corpus(CorpusStore(corpus)).problems == ()
    assert records(corpus) < TASKS
    assert start("extract", videos, "--out", corpus, *OPTIONS).wait() == 0
    assert shards(corpus) == undisturbed


def test_a_signal_ends_also_who_hangs(videos, undisturbed, tmp_path, start):
    """Where a decoder never returns, the program's own limit ends it; the limit is what is promised."""
    assert 0 < run.GRACE_SECONDS < WITHIN
    site = tmp_path / "site"
    site.mkdir()
    hangs = tmp_path / "hangs"
    (site / "sitecustomize.py").write_text(
        "import pathlib, time, flowprep.extraction.pipeline as e\n"
        "whole = e.decode_frames\n"
        "def decode(path, start=0, **options):\n"
        "    while path.name == '3.mp4':\n"
        f"        pathlib.Path({str(hangs)!r}).touch()\n"
        "        time.sleep(1)\n"
        "    return whole(path, start, **options)\n"
        "e.decode_frames = decode\n"
    )
    corpus = tmp_path / "c"
    env = environment(PYTHONPATH=str(site))
    process = start("extract", videos, "--out", corpus, *OPTIONS, "--jobs", 1, env=env)
    wait_for(hangs.exists)
    began = time.monotonic()
    process.terminate()
    _, err = process.communicate()
    assert time.monotonic() - began >= run.GRACE_SECONDS  # it was not the ordinary way that ended it
    assert process.returncode == 1 and "stopped during a task, which is dropped" in err, err
    assert leftovers(corpus) == [] and verify_corpus(CorpusStore(corpus)).problems == ()
    assert start("extract", videos, "--out", corpus, *OPTIONS).wait() == 0
    assert shards(corpus) == undisturbed
