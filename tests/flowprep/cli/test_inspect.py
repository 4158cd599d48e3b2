"""The commands status, verify, info, log and index."""

from __future__ import annotations

import json

from flowprep.corpus.store import CorpusStore

SIZE = ("--size", "source", "--engine", "opencv")


def test_verify_reports_a_damaged_first_shard_too(cli, clips, tmp_path):
    out = tmp_path / "corpus"
    assert cli("extract", clips, "--out", out, *SIZE, "--jobs", 1).exit_code == 0
    shard = next((out / "shards").iterdir())
    shard.write_bytes(shard.read_bytes()[:3000])
    (out / "records" / "notes.json").write_text("{}")
    (out / "index.npz").unlink()
    damaged = cli("verify", out, "--json")
    assert damaged.exit_code == 1
    assert {p["shard"] for p in json.loads(damaged.stdout)["problems"]} == {shard.name, "notes.h5"}


def test_status_prints_ten_failures_on_standard_output_or_all(cli, tmp_path):
    videos = tmp_path / "in"
    videos.mkdir()
    for n in range(12):
        (videos / f"{n:02d}.mp4").write_bytes(b"no video")
    out = tmp_path / "c"
    assert cli("extract", videos, "--out", out, *SIZE, "--jobs", 1).exit_code == 3
    lines = cli("status", out).stdout.splitlines()
    assert sum(line.startswith("failed: ") for line in lines) == 10
    assert lines[-1] == "... and 2 more: `flowprep status --all`"
    every = cli("status", out, "--all")
    assert every.stdout.count("failed: ") == 12 and every.stderr == ""


def test_status_says_who_works_and_for_how_long(cli, clips, tmp_path):
    out = tmp_path / "c"
    assert cli("plan", clips, "--out", out, *SIZE, "--shard-pairs", 4).exit_code == 0
    assert "no process works on the 8 tasks to do" in cli("status", out).stdout
    store = CorpusStore(out)
    first, second, *_ = store.read_plan().tasks
    with store.lease(second.id):
        assert "1 process at work; the time left is known when a task is done" in cli("status", out).stdout
        assert cli("run-task", out, first.id, "--jobs", 1).exit_code == 0
        assert " left, with 1 process at work" in cli("status", out).stdout
        assert json.loads(cli("status", out, "--json").stdout)["remaining"]["workers"] == 1
