"""The logs of tasks: complete, merged in order of time, and without influence on the corpus."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from flowprep.corpus.store import CorpusStore
from flowprep.corpus.task_log import FIELDS
from flowprep.errors import UsageError

SMALL = ["--size", "source", "--engine", "opencv", "--preset", "opencv", "--jobs", "1"]
DIES = """
import os, sys
from pathlib import Path
from flowprep.corpus.store import CorpusStore
with CorpusStore(Path(sys.argv[1])).lease("aa"):
    os._exit(1)
"""


def test_each_task_has_a_log(clips, cli, tmp_path):
    (clips / "left" / "bad.mp4").write_text("no video")
    corpus = tmp_path / "c"
    assert cli("extract", clips, "--out", corpus, *SMALL, "--shard-pairs", "10").exit_code == 3
    rows = json.loads(cli("log", corpus, "--json").stdout)
    assert [tuple(row) for row in rows] == [FIELDS] * len(rows)
    assert [r["time"] for r in rows] == sorted(r["time"] for r in rows)
    tasks = {p.stem for p in corpus.glob("records/*.json")}
    assert len(tasks) > 1 and {r["task"] for r in rows} == tasks
    for task in tasks:
        said = [r["what"] for r in rows if r["task"] == task]
        videos = json.loads((corpus / "records" / f"{task}.json").read_text())["videos"]
        assert said[0] == "begun" and said[-1].startswith("done: ") and len(said) == 2 + len(videos)
        for line, video in zip(said[1:-1], videos, strict=True):
            counts = f"{video['id']}: {video['status']}, {video['frames']} frames, {video['pairs']} pairs, "
            assert line.startswith(counts) and line.endswith(video["reason"])
    one = min(tasks)
    assert cli("log", corpus, one).stdout == (corpus / "logs" / f"{one}.log").read_text()
    for unknown in ("no-such-task", "../../secret"):
        result = cli("log", corpus, unknown)
        assert result.exit_code == 2 and f"'{unknown}'" in result.output
        with pytest.raises(UsageError, match=r"has no log of task .*; it has logs of"):
            CorpusStore(corpus).read_logs([unknown])
    assert cli("verify", corpus).exit_code == 0


def test_copies_and_repairs_are_logged(clips, cli, tmp_path):
    assert cli("extract", clips, "--out", tmp_path / "c", *SMALL).exit_code == 0
    assert cli("repack", tmp_path / "c", "-o", tmp_path / "d", "--shard-pairs", "100").exit_code == 0
    (shard,) = (tmp_path / "d" / "shards").iterdir()
    shard.write_bytes(shard.read_bytes()[:-20])
    assert cli("verify", tmp_path / "d", "--repair").exit_code == 1
    assert cli("repack", tmp_path / "c", "-o", tmp_path / "d", "--shard-pairs", "100").exit_code == 0
    said = [line.split(" ", 3)[3].partition(":")[0] for line in CorpusStore(tmp_path / "d").read_logs()]
    assert [s for s in said if "mp4" not in s] == ["begun", "done", "damaged, set aside", "begun", "done"]


def test_log_has_the_lines_of_dead_and_interrupted_owners(tmp_path):
    (tmp_path / "records").mkdir()
    for _ in range(2):
        subprocess.run([sys.executable, "-c", DIES, tmp_path], check=False)
    try:
        with CorpusStore(tmp_path).lease("aa"):
            raise KeyboardInterrupt("SIGTERM")
    except KeyboardInterrupt:
        pass
    rows = [line.split(" ", 3) for line in CorpusStore(tmp_path).read_logs()]
    begun = "begun; earlier owners that died: "
    assert [r[3] for r in rows] == [
        "begun",
        f"{begun}1",
        f"{begun}2",
        "broken off: KeyboardInterrupt: SIGTERM",
    ]
    assert len({r[2] for r in rows}) == 3  # by whom


def test_event_is_one_line_and_a_log_that_cannot_be_written_is_ignored(clips, cli, tmp_path):
    CorpusStore(tmp_path).log("aa", "a\nb\x1b[2J \udcff é")
    (line,) = CorpusStore(tmp_path).read_logs()
    assert line.endswith(r" a\nb\x1b[2J \udcff é")
    corpus = tmp_path / "c"
    corpus.mkdir()
    (corpus / "logs").write_text("no folder")
    assert cli("extract", clips, "--out", corpus, *SMALL).exit_code == 0
    assert cli("verify", corpus).exit_code == 0 and cli("log", corpus).exit_code == 0
