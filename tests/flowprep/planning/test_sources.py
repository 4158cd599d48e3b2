"""Files of planned videos that were moved, copied, replaced or deleted."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil

import pytest

from flowprep.corpus.store import CorpusStore
from flowprep.planning.sources import source_digest
from tests.support.planning import plan_inputs
from tests.support.videos import write_frames, write_video


def write(path, content=b"", size=100_000):
    """Write a file whose beginning, middle and end differ from those of other contents."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((content or os.fsencode(path.name)).ljust(size, b"-"))
    return path


def paths(plan):
    """Path of each video below the folder of the test, by id."""
    return {s.id: "/".join(s.path.split("/")[-3:]) for task in plan.tasks for s in task.segments}


@pytest.fixture
def planned(tmp_path):
    """Three planned videos in the folder `in`; gives the corpus."""
    for name in ("Jump/a.mp4", "Jump/b.mp4", "Run/c.mp4"):
        write(tmp_path / "in" / name)
    plan_inputs(tmp_path / "c", tmp_path / "in")
    return tmp_path / "c"


def test_a_renamed_class_folder_keeps_its_videos(tmp_path, planned, caplog):
    (tmp_path / "in" / "Jump").rename(tmp_path / "in" / "HighJump")
    plan = plan_inputs(planned, tmp_path / "in")
    assert paths(plan) == {
        "Jump/a.mp4": "in/HighJump/a.mp4",
        "Jump/b.mp4": "in/HighJump/b.mp4",
        "Run/c.mp4": "in/Run/c.mp4",
    }
    assert "2 videos were renamed since they were planned" in caplog.text
    assert "HighJump/a.mp4 (was Jump/a.mp4)" in caplog.text
    caplog.clear()
    assert plan_inputs(planned, tmp_path / "in") == plan and not caplog.records


def test_copies_are_left_out_unless_wanted(tmp_path, planned, caplog):
    shutil.copytree(tmp_path / "in", tmp_path / "copy")
    write(tmp_path / "copy" / "Run" / "new.mp4")
    plan = plan_inputs(planned, tmp_path / "copy")
    assert plan.video_ids() == {"Jump/a.mp4", "Jump/b.mp4", "Run/c.mp4", "Run/new.mp4"}
    assert "3 files are copies of planned videos and left out; --add-copies" in caplog.text
    assert f"{tmp_path / 'copy' / 'Jump' / 'a.mp4'} (of Jump/a.mp4)" in caplog.text
    more = plan_inputs(planned, tmp_path / "copy", add_copies=True)
    assert more.video_ids() == plan.video_ids() | {"copy/Jump/a.mp4", "copy/Jump/b.mp4", "copy/Run/c.mp4"}


def test_equal_files_of_one_input_are_all_planned(tmp_path, planned, caplog):
    write(tmp_path / "in" / "Run" / "twice.mp4", b"a.mp4")
    assert "Run/twice.mp4" in plan_inputs(planned, tmp_path / "in").video_ids()
    assert not caplog.records


def test_files_of_equal_size_and_name_are_other_videos_if_they_differ(tmp_path, planned):
    other = write(tmp_path / "other" / "Jump" / "a.mp4", b"something else")
    assert other.stat().st_size == (tmp_path / "in" / "Jump" / "a.mp4").stat().st_size
    shutil.rmtree(tmp_path / "in")
    plan = plan_inputs(planned, tmp_path / "other")
    assert paths(plan)["Jump/a.mp4"] == "in/Jump/a.mp4" and "other/Jump/a.mp4" in plan.video_ids()


def test_a_plan_without_digests_knows_moved_files_by_size_and_place(tmp_path, planned):
    store = CorpusStore(planned)
    plan = store.read_plan()
    assert all(len(segment.digest) == 32 for task in plan.tasks for segment in task.segments)
    old = [
        dataclasses.replace(task, segments=tuple(dataclasses.replace(s, digest="") for s in task.segments))
        for task in plan.tasks
    ]
    store.write_plan(dataclasses.replace(plan, tasks=tuple(old)))
    assert '"digest":' not in (planned / "plan.jsonl").read_text()
    (tmp_path / "in").rename(tmp_path / "moved")
    after = plan_inputs(planned, tmp_path / "moved")
    assert after.video_ids() == plan.video_ids() and paths(after)["Run/c.mp4"] == "moved/Run/c.mp4"


def test_digests_sample_files_and_folders_of_frames(tmp_path):
    a = write(tmp_path / "a.mp4", b"x")
    b = write(tmp_path / "b.mp4", b"x")
    assert source_digest(a) == source_digest(b)
    for position in (0, 50_000, 99_999):
        data = bytearray(a.read_bytes())
        data[position] ^= 1
        b.write_bytes(data)
        assert source_digest(a) != source_digest(b)
    write_frames(tmp_path / "one", 5)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    assert source_digest(tmp_path / "one") == source_digest(tmp_path / "two")
    (tmp_path / "two" / "img_00003.png").rename(tmp_path / "two" / "img_00009.png")
    assert source_digest(tmp_path / "one") != source_digest(tmp_path / "two")
    (tmp_path / "empty.mp4").touch()
    assert source_digest(tmp_path / "empty.mp4") == source_digest(tmp_path / "none.mp4") == ""


def test_replaced_and_deleted_sources_are_reported(tmp_path, cli):
    folder = tmp_path / "in"
    for name in ("a", "b", "c", "d"):
        write_video(folder / f"{name}.mp4", 4)
    command = ("extract", folder, "--out", tmp_path / "c", "--no-flow", "--jobs", 1)
    first = cli(*command, "--json")
    assert first.exit_code == 0 and json.loads(first.stdout)["sources"] == {"deleted": [], "replaced": []}
    (folder / "a.mp4").unlink()
    write_video(folder / "b.mp4", 9)
    state = (folder / "c.mp4").stat()
    data = bytearray((folder / "c.mp4").read_bytes())
    data[-1] ^= 1
    (folder / "c.mp4").write_bytes(data)  # the same size
    os.utime(folder / "d.mp4")  # the same content
    status = cli("status", tmp_path / "c")
    assert "1 source was deleted since: a.mp4. What was extracted before stays" in status.stdout
    assert "2 sources were replaced since: b.mp4, c.mp4." in status.stdout
    assert (folder / "c.mp4").stat().st_size == state.st_size
    again = cli(*command)
    assert again.exit_code == 0 and "2 sources were replaced since: b.mp4, c.mp4." in again.stdout
    assert json.loads(cli("status", tmp_path / "c", "--json").stdout)["sources"] == {
        "deleted": ["a.mp4"],
        "replaced": ["b.mp4", "c.mp4"],
    }


def test_a_changed_source_that_a_retry_accepted_is_not_reported(tmp_path, cli):
    folder = tmp_path / "in"
    write_video(folder / "a.mp4", 4)
    assert cli("plan", folder, "--out", tmp_path / "c", "--no-flow").exit_code == 0
    write_video(folder / "a.mp4", 9)
    assert "1 source was replaced since: a.mp4" in cli("status", tmp_path / "c").stdout
    assert cli("retry", tmp_path / "c", "--jobs", 1).exit_code == 3  # it differs from the plan
    assert cli("retry", tmp_path / "c", "--jobs", 1, "--retry-failed").exit_code == 0
    assert "replaced" not in cli("status", tmp_path / "c").stdout
