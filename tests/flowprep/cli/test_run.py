"""The commands run-task and retry, and runs as such."""

from __future__ import annotations

import json
import sys

import pytest

from flowprep import open_corpus
from flowprep.corpus.store import CorpusStore
from flowprep.executors.base import Outcome, RunOptions
from flowprep.executors.progress import ProgressReporter
from flowprep.executors.run import run_tasks
from tests.support.videos import write_video

SMALL = ["--size", "source", "--no-flow", "--shard-pairs", "4"]


@pytest.fixture
def planned(clips, tmp_path, cli):
    """A corpus of four videos, planned."""
    assert cli("plan", clips, "--out", tmp_path / "c", *SMALL).exit_code == 0
    return tmp_path / "c"


def test_run_task_runs_those_that_are_named(planned, cli):
    lines = (planned / "plan.jsonl").read_text().splitlines()[1:-1]
    one, two, *_ = (json.loads(line)["task"] for line in lines)
    result = cli("run-task", planned, one, two, "--jobs", 1, "--json")
    assert result.exit_code == 0 and json.loads(result.stdout)["faults"] == {}
    assert {p.stem for p in (planned / "records").iterdir()} == {one, two}
    assert cli("run-task", planned, one, "--jobs", 1).exit_code == 0  # done already
    assert cli("run-task", planned, "--array", "--jobs", 1).exit_code == 0
    assert len(list((planned / "records").iterdir())) == len(lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name tasks"),
        (["abc", "--array"], "name tasks"),
        (["abc"], "no task abc in the plan"),
        (["--array", "--executor", "dask"], "--executor dask and no cluster; allowed: one of --scheduler"),
        (["--array", "--local-cluster", "2", "--executor", "local"], "--executor local and --local-cluster"),
        (["--array", "--scratch", "/nowhere"], "--scratch: no such folder: /nowhere"),
        (["--array", "--timeout-per-video", "0"], "0"),
    ],
)
def test_wrong_use_of_run_task(planned, cli, arguments, message):
    result = cli("run-task", planned, *arguments)
    assert result.exit_code == 2 and message in result.stderr
    assert list((planned / "records").iterdir()) == []


CLUSTERS = {
    "--scheduler": "no Dask scheduler answers at --scheduler",
    "--slurm": "jobqueue.slurm.cores and jobqueue.slurm.memory",
}


@pytest.mark.parametrize("option", CLUSTERS)
def test_a_cluster_that_cannot_be_used_is_refused_before_anything_is_written(
    clips, tmp_path, planned, cli, monkeypatch, option
):
    pytest.importorskip("dask_jobqueue")
    monkeypatch.setattr("flowprep.executors.dask.CONNECT_SECONDS", 1)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    value = {"--scheduler": "tcp://127.0.0.1:9", "--slurm": 2}[option]
    for command in (["extract", clips, "--out", tmp_path / "new", *SMALL], ["run-task", planned, "--array"]):
        result = cli(*command, option, value)
        assert result.exit_code == 2 and result.stderr.count("\n") == 1, result.stderr
        assert CLUSTERS[option] in result.stderr
    assert not (tmp_path / "new").exists()


def test_dask_that_is_not_installed_is_refused_before_anything_is_written(clips, tmp_path, cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    result = cli("extract", clips, "--out", tmp_path / "c", *SMALL, "--local-cluster", 2)
    assert result.exit_code == 2 and "distributed is not installed; run pip install" in result.stderr
    assert not (tmp_path / "c").exists()


def test_retry_failed_accepts_a_file_that_was_mended(clips, planned, cli):
    video = clips / "left" / "v_left_g01.mp4"
    whole = video.read_bytes()
    video.write_bytes(whole[: len(whole) // 2])
    assert cli("retry", planned, "--jobs", 1).exit_code == 3
    result = cli("retry", planned, "--jobs", 1, "--json")  # it stays failed
    failures = json.loads(result.stdout)["failures"]
    assert result.exit_code == 3 and "when it was planned" in failures["left/v_left_g01.mp4"]
    write_video(video, 12)
    assert cli("retry", planned, "--retry-failed", "--jobs", 1).exit_code == 0
    result = cli("status", planned, "--json")
    assert json.loads(result.stdout)["videos"]["ok"] == 4


def test_tasks_that_run_again_after_a_repair_replace_the_data(clips, planned, cli):
    assert cli("retry", planned, "--jobs", 1).exit_code == 0
    for shard in (planned / "shards").glob("*.h5"):
        with shard.open("ab") as file:
            file.write(b"x")
    (clips / "left" / "v_left_g01.mp4").write_bytes(b"no video any more")
    assert cli("verify", planned, "--repair").exit_code == 1
    result = cli("retry", planned, "--jobs", 1, "--json")
    assert result.exit_code == 3 and list(json.loads(result.stdout)["failures"]) == ["left/v_left_g01.mp4"]
    assert "left/v_left_g01.mp4" not in open_corpus(planned) and len(open_corpus(planned)) == 3


def test_a_shard_that_is_lost_is_made_again(clips, planned, cli):
    assert cli("retry", planned, "--jobs", 1).exit_code == 0
    lost = sorted((planned / "shards").iterdir())[0]
    stored = lost.read_bytes()
    lost.unlink()
    status = cli("status", planned)
    assert "7 of 8 tasks done" in status.stdout and "1 pending" in status.stdout
    assert len(open_corpus(planned)) == 3
    result = cli("verify", planned)
    assert result.exit_code == 1 and f"{lost.name}: the file is missing" in result.stdout
    assert cli("retry", planned, "--jobs", 1).exit_code == 0
    assert lost.read_bytes() == stored and len(open_corpus(planned)) == 4


def test_a_stop_while_an_outcome_is_handled_drops_the_running_tasks(planned):
    ended = []

    def executor(call, jobs):
        try:
            yield Outcome(jobs[0].task.id, {"totals": {"pairs": 1}, "videos": [], "task": jobs[0].task.id})
        finally:
            ended.append(True)

    plan = CorpusStore(planned).read_plan()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt) as stopped:
        patch.setattr(
            ProgressReporter, "add_record", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt("SIGTERM"))
        )
        run_tasks(CorpusStore(planned), plan.tasks, plan.settings, RunOptions(jobs=1), executor=executor)
    assert ended and stopped  # while the exception, which holds all frames, is still alive


def test_a_wrong_request_is_refused_before_anything_is_written(clips, tmp_path, cli, monkeypatch):
    out = tmp_path / "c"
    monkeypatch.setattr("flowprep.executors.run.gpu_fault", lambda: "no GPU")
    refused = cli("extract", clips, "--out", out, "--engine", "cuda")
    assert refused.exit_code == 1 and "no GPU" in refused.stderr and not out.exists()
    assert cli("plan", clips, "--out", out, "--engine", "cuda").exit_code == 0  # to be done elsewhere
    refused = cli("extract", clips, "--out", clips, *SMALL)
    assert refused.exit_code == 2 and "an input; use a folder of its own" in refused.stderr
    assert not (clips / "plan.jsonl").exists()
    for folder, options, code, message in (
        ("d", [*SMALL, "--devices", "0"], 2, "--devices is 0, and a corpus without flow uses no GPU"),
        ("e", ["--engine", "cpu", "--devices", "0"], 2, "--devices is 0, and engine cpu uses no GPU"),
        ("f", [*SMALL, "--metrics", tmp_path / "no" / "m"], 1, "/no: No such file"),
        ("g", [*SMALL, "--local-cluster", 2, "--jobs", 2], 2, "--jobs and --local-cluster"),
    ):
        refused = cli("extract", clips, "--out", tmp_path / folder, *options)
        assert refused.exit_code == code and message in refused.stderr
        assert not (tmp_path / folder).exists()


def test_a_run_without_work_names_no_rate(cli, clips, tmp_path):
    arguments = ("extract", clips, "--out", tmp_path / "corpus", "--size", "source", "--engine", "opencv")
    assert "pairs computed in" in cli(*arguments).stdout
    again = cli(*arguments).stdout
    assert "4 of 4 videos stored, 0 failed; no pair was to be computed" in again and "a second" not in again
