"""A corpus from a stranger, with right checksums: nothing outside it is written, and no command hangs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from flowprep import open_corpus
from flowprep.corpus import format as fmt
from flowprep.corpus.records import read_record
from flowprep.corpus.shard_writer import ShardWriter
from flowprep.corpus.store import CorpusStore
from flowprep.corpus.verify import verify_corpus
from flowprep.errors import CorpusDamaged, CorpusError, CorpusFormatError, FlowprepError, SettingsError
from flowprep.settings import Settings
from tests.support.forged import everything_in, forge_plan, forge_record
from tests.support.planning import plan_inputs
from tests.support.videos import write_video

NO_FLOW = Settings(size="source", flow=False)
IDS = [
    "../../escaped",
    "{outside}/escaped",
    "..",
    ".",
    "",
    "a/b",
    "a\0b",
    "a\nb",
    "a b",
    "a.b",
    "\u202egpj.exe",
    "\ud800",
    "\uff0e\uff0e\u2215x",  # wide dots and a slash of another script
    "x" * 101,
    "~",
    7,
    None,
    ["x"],
    True,
]
COMMANDS = [
    ("status",),
    ("retry",),
    ("retry", "--retry-failed"),
    ("run-task", "--array"),
    ("verify", "--repair"),
    ("index",),
    ("info",),
    ("log",),
]


@pytest.fixture
def planned(tmp_path: Path) -> Path:
    """A corpus with a plan of one video, beside a folder of somebody's files."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "escaped.h5").write_bytes(b"precious")
    write_video(tmp_path / "in" / "a.mp4", 3, size=(32, 32))
    plan_inputs(tmp_path / "c", tmp_path / "in", settings=NO_FLOW)
    return tmp_path / "c"


@pytest.mark.parametrize("task", IDS)
def test_no_task_of_a_plan_leads_out_of_the_corpus(planned, cli, task):
    """`retry` wrote ../../escaped.h5, .json and .log."""
    outside = planned.parent / "outside"
    task = task.format(outside=outside) if isinstance(task, str) else task
    forge_plan(planned, lambda rows: rows[1].update(task=task))
    before = everything_in(planned.parent, but=planned)
    for name, *options in COMMANDS:
        result = cli(name, planned, *options)
        expected = {"info", "log", "index", "verify"}  # these do not need the tasks of a plan
        assert result.exit_code == (0 if name in expected else 1), (name, result.output)
        if name not in expected:
            assert "task is " in result.output and "allowed: 1 to 100 letters" in result.output
    assert everything_in(planned.parent, but=planned) == before


@pytest.mark.parametrize(
    "change",
    [
        {"id": "../x"},
        {"id": "a/../../x"},
        {"id": ""},
        {"id": "a\0b"},
        {"id": "\ud800"},
        {"id": 7},
        {"id": "x" * 20_000},
        {"path": "a\0b"},
        {"path": None},
        {"label": ["x"]},
        {"source": "\udfff"},
        {"segments": -1},
        {"first_frame": 1.5},
        {"count": True},
        {"estimate": 10**400},
        {"modified_ns": "now"},
        {"unknown": 1},
    ],
)
def test_segments_of_a_plan_are_checked(planned, change):
    forge_plan(planned, lambda rows: rows[1]["segments"][0].update(change))
    with pytest.raises(CorpusFormatError, match=r"plan.jsonl cannot be read"):
        CorpusStore(planned).read_plan()


def test_ids_of_many_kinds_are_accepted(planned):
    for name in ("a..b/…/ü.mp4", "/absolute/x.mp4", "tab\tand\nline.mp4", "...", "x" * 4000):
        forge_plan(planned, lambda rows, name=name: rows[1]["segments"][0].update(id=name, label=name))
        assert CorpusStore(planned).read_plan().video_ids() == {name}


def test_a_plan_that_is_deeply_nested_or_no_file_is_refused(planned):
    path = planned / "plan.jsonl"
    head = path.read_text().splitlines()[0]
    path.write_text(head + "\n" + "[" * 200_000 + "\n")
    with pytest.raises(CorpusFormatError):
        CorpusStore(planned).read_plan()
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(CorpusFormatError, match="a pipe"):
        CorpusStore(planned).read_plan()


@pytest.mark.parametrize(
    "change",
    [
        {"task": "../x"},
        {"task": "bbbb"},
        {"shard": {"name": "../x.h5", "bytes": 1, "sha256": ""}},
        {"shard": {"name": "aaaa.h5", "bytes": -1, "sha256": ""}},
        {"shard": {"name": "aaaa.h5", "bytes": 1, "sha256": 5}},
        {"shard": "aaaa.h5"},
        {"version": "1"},
        {"finished": 5},
        {"totals": {"pairs": float("nan")}},
        {"totals": {"pairs": 1e300}},
        {"totals": {"pairs": "8"}},
        {"totals": {"<script>": 1}},
        {"totals": []},
        {"videos": [{"id": "../x", "status": "ok"}]},
        {"videos": [{"id": "x", "status": "<b>"}]},
        {"videos": [{"id": "x", "status": "ok", "frames": -1}]},
        {"videos": [{"id": "x", "status": "ok", "reason": {}}]},
        {"videos": [{"id": "x", "status": "ok", "bytes": {"rgb": "1"}}]},
        {"videos": {"id": "x"}},
    ],
)
def test_records_are_checked(corpus, change):
    path = corpus / "records" / "aaaa.json"
    forge_record(path, lambda record: record.update(change))
    with pytest.raises(CorpusDamaged, match=r"record aaaa\.json"):
        read_record(path)
    with pytest.raises(CorpusError):
        open_corpus(corpus)
    assert any(p.shard == "aaaa.h5" for p in verify_corpus(CorpusStore(corpus)).problems)


def test_files_with_other_names_are_no_records(corpus):
    """Such as those that macOS leaves beside each file on a foreign disk."""
    known = CorpusStore(corpus).recorded_tasks()
    for name in ("._aaaa", "a b", "x" * 101, "..aa"):
        (corpus / "records" / f"{name}.json").write_bytes(b"\0\5\26\7")
        (corpus / "shards" / f"{name}.h5").write_bytes(b"\0\5\26\7")
    assert CorpusStore(corpus).recorded_tasks() == known
    assert len(open_corpus(corpus)) == 3 and verify_corpus(CorpusStore(corpus)).problems == ()


@pytest.mark.parametrize("name", ["shards", "records", "leases", "logs", "damaged"])
def test_nothing_is_written_through_a_folder_that_is_a_link(planned, cli, name):
    outside = planned.parent / "outside"
    if (planned / name).exists():
        (planned / name).rmdir()
    (planned / name).symlink_to(outside)
    (outside / "notes.0").write_text("{}")
    before = everything_in(planned.parent, but=planned)
    for command in (("retry",), ("run-task", "--array"), ("verify", "--repair")):
        result = cli(command[0], planned, *command[1:])
        assert result.exit_code == 1 and f"{name} is a link" in result.output, (command, result.output)
    result = cli("extract", planned.parent / "in", "--out", planned, "--size", "source", "--no-flow")
    assert result.exit_code == 1 and f"{name} is a link" in result.output
    assert everything_in(planned.parent, but=planned) == before


def test_a_log_or_a_lease_that_is_a_link_or_a_pipe_is_not_followed(planned, cli):
    outside = planned.parent / "outside"
    (task,) = (t.id for t in CorpusStore(planned).read_plan().tasks)
    for name in ("logs", "leases"):
        (planned / name).mkdir()
    (planned / "logs" / f"{task}.log").symlink_to(outside / "new.sh")
    os.mkfifo(planned / "leases" / f"{task}.0")
    (planned / "leases" / f"{task}.x1").write_text("{}")
    (planned / "leases" / f"{task}.1").write_text(json.dumps({"owner": "../../../x"}))
    os.utime(planned / "leases" / f"{task}.1", (1, 1))
    assert cli("retry", planned, "--jobs", "1").exit_code == 0
    assert [p.name for p in outside.iterdir()] == ["escaped.h5"]
    assert len(open_corpus(planned)) == 1
    (planned / "logs" / f"{task}.log").unlink()
    os.mkfifo(planned / "logs" / f"{task}.log")
    CorpusStore(planned).log(task, "an event")
    assert cli("log", planned).exit_code == 2


def test_files_of_a_corpus_that_are_pipes_or_devices_are_refused(corpus):
    for path in (corpus / "records" / "aaaa.json", corpus / "shards" / "aaaa.h5"):
        whole = path.read_bytes()
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(CorpusDamaged, match="a pipe"):
            for video in open_corpus(corpus).values():
                video.rgb(0)
        assert any(p.shard == "aaaa.h5" for p in verify_corpus(CorpusStore(corpus)).problems)
        path.unlink()
        path.symlink_to("/dev/zero")
        with pytest.raises(CorpusDamaged, match="a device"):
            for video in open_corpus(corpus).values():
                video.rgb(0)
        path.unlink()
        path.write_bytes(whole)
    CorpusStore(corpus).save_index()
    (corpus / "index.npz").unlink()
    os.mkfifo(corpus / "index.npz")
    assert len(open_corpus(corpus)) == 3  # from shards and records


@pytest.mark.parametrize(
    "change",
    [
        {"rgb_first": 10**6},
        {"flow_u_count": 2**63},
        {"num_frames": 10**6},
        {"first_pair": 2**64 - 1},
        {"width": 65_000, "height": 65_000},
        {"id": b"../x"},
        {"id": b"\xff\xfe"},
    ],
)
def test_rows_of_a_shard_are_checked(corpus, monkeypatch, change):
    """The shard is written by the writer itself, so that all its checksums are right."""
    table = ShardWriter._video_table

    def forged(self):
        rows = table(self)
        for name, value in change.items():
            rows[name][0] = value
        return rows

    monkeypatch.setattr(ShardWriter, "_video_table", forged)
    with pytest.raises(CorpusDamaged, match=r"aaaa\.h5"):
        rewrite_shard(corpus)


def test_a_shard_with_other_columns_is_refused(corpus, monkeypatch):
    monkeypatch.setattr(fmt, "TIME_DTYPE", np.dtype("<f4"))
    path = corpus / "shards" / "aaaa.h5"
    with ShardWriter(path, NO_FLOW, {}) as writer:
        writer.publish()
    monkeypatch.undo()
    with pytest.raises(CorpusDamaged, match="table times does not have the columns"):
        open_corpus(corpus)


def rewrite_shard(corpus: Path) -> None:
    """Write aaaa.h5 again with one frame, and open the corpus."""
    with ShardWriter(corpus / "shards" / "aaaa.h5", NO_FLOW, {}) as writer:
        row = {"source_bytes": 1, "step": 1, "segment": 0, "segments": 1, "first_frame": 0}
        writer.begin(id="x/a.mp4", source="a", label="x", **row)
        writer.add_frame(np.zeros((16, 16, 3), np.uint8), 0.0)
        writer.end()
        writer.publish()
    open_corpus(corpus)


@pytest.mark.parametrize(
    "change",
    [
        {"engine": ["cpu"]},
        {"codes": 7},
        {"grey": "x" * 2000},
        {"step": "1"},
        {"tvl1": []},
        {"range": None},
    ],
)
def test_settings_on_disk_are_checked(planned, change):
    forge_plan(planned, lambda rows: rows[0]["settings"].update(change))
    with pytest.raises(FlowprepError):
        CorpusStore(planned).read_plan()
    with pytest.raises(CorpusFormatError):
        open_corpus(planned)


def test_an_index_that_contradicts_itself_is_not_used(corpus):
    store = CorpusStore(corpus)
    expected = store.save_index()
    for change in (
        {"row_task": expected.row_task + 100},
        {"whole": expected.whole * -1},
        {"whole": expected.whole + 10**6},
        {"ids": expected.ids[:1]},
        {"rows": expected.rows[["id", "label"]]},
        {"tasks": ["../x", *expected.tasks[1:]]},
        {"totals": {"pairs": float("inf")}},
        {"failures": {"x": 5}},
    ):
        from flowprep.corpus.index import Index, write_index

        write_index(store.index_path, Index(**{**vars(expected), **change}))
        assert list(open_corpus(corpus)) == ["a/öne.mp4", "b/two.mp4", "c/long.mp4"], change
        assert store.load_index().totals == expected.totals


def test_every_path_of_the_store_is_made_of_a_checked_id(tmp_path):
    store = CorpusStore(tmp_path)
    for make in (store.shard_path, store.record_path, store.log_path, store.is_leased, store.record_stamp):
        with pytest.raises(SettingsError, match="task is"):
            make("../x")


def test_a_plan_does_not_run_code_that_only_it_names(planned, cli, monkeypatch, tmp_path):
    """An engine outside flowprep is imported if the user names it, and not if a stranger's plan does."""
    (tmp_path / "evil.py").write_text(f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()")
    monkeypatch.syspath_prepend(tmp_path)
    forge_plan(planned, lambda rows: rows[0]["settings"].update(engine="evil:Engine", flow=True))
    inputs = [tmp_path / "in", "--out", planned, "--size", "source"]
    for command in (
        ("retry", planned),
        ("run-task", planned, "--array"),
        ("extract", *inputs),
        ("plan", *inputs),
    ):
        result = cli(*command)
        assert result.exit_code == 2 and "name it: --engine 'evil:Engine'" in result.output
    for command in ("status", "info", "verify"):
        assert cli(command, planned).exit_code == 0
    assert cli("report", planned, "--out", tmp_path / "r.html").exit_code == 0
    assert not (tmp_path / "ran").exists()
    assert cli("retry", planned, "--engine", "cpu").exit_code == 2
    cli("retry", planned, "--engine", "evil:Engine", "--jobs", "1")
    assert (tmp_path / "ran").exists()
