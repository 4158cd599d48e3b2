"""From videos to tasks."""

from __future__ import annotations

import pytest

from flowprep.corpus.store import CorpusStore
from flowprep.errors import SettingsConflict, UsageError
from flowprep.settings import Settings
from tests.support.planning import plan_inputs, touch, video_ids
from tests.support.videos import write_video


def test_equal_ids_get_the_name_of_the_input(tmp_path):
    for root in ("a/x", "b/y"):
        touch(tmp_path / root / "same.mp4")
    touch(tmp_path / "b" / "y" / "other.mp4")
    assert video_ids(tmp_path / "c", tmp_path / "a/x", tmp_path / "b/y") == {
        "x/same.mp4",
        "y/same.mp4",
        "other.mp4",
    }


def test_inputs_of_equal_names_get_longer_names(tmp_path):
    one, two = touch(tmp_path / "a" / "v" / "same.mp4"), touch(tmp_path / "b" / "v" / "same.mp4")
    assert video_ids(tmp_path / "c", one, two) == {"a/v/same.mp4", "b/v/same.mp4"}


def test_same_video_in_two_inputs_is_one_video(tmp_path):
    path = touch(tmp_path / "in" / "a.mp4")
    assert video_ids(tmp_path / "c", tmp_path / "in", path, tmp_path / "in" / ".." / "in") == {"a.mp4"}


def test_plan_does_not_depend_on_the_folder(tmp_path):
    names = [f"{k}.mp4" for k in range(40)]
    for root in ("p/in", "q/in"):
        for name in names:
            touch(tmp_path / root / name)
    plans = [plan_inputs(tmp_path / r / "c", tmp_path / r / "in") for r in "pq"]
    assert [t.id for t in plans[0].tasks] == [t.id for t in plans[1].tasks]
    other = plan_inputs(tmp_path / "c", tmp_path / "p/in", settings=Settings(step=2))
    assert {t.id for t in other.tasks}.isdisjoint(t.id for t in plans[0].tasks)


def test_new_videos_become_further_tasks(tmp_path):
    folder, corpus = tmp_path / "in", tmp_path / "c"
    for k in (1, 3, 5):
        write_video(folder / f"{k}.mp4", 4)
    settings = Settings(shard_pairs=6)
    before = plan_inputs(corpus, folder, settings=settings)
    assert len(before.tasks) == 2  # 3 + 3 pairs, and 3
    assert plan_inputs(corpus, folder, settings=settings) == before
    write_video(folder / "2.mp4", 4)
    after = plan_inputs(corpus, folder, settings=settings)
    assert after.tasks[:2] == before.tasks and len(after.tasks) == 3
    assert CorpusStore(corpus).read_plan() == after
    (folder / "1.mp4").unlink()
    assert plan_inputs(corpus, folder, settings=settings) == after  # planned videos stay in the plan


def test_long_videos_are_split_and_short_ones_share_a_task(tmp_path):
    write_video(tmp_path / "in" / "a.mp4", 26)
    for k in range(3):
        write_video(tmp_path / "in" / f"b{k}.mp4", 5)
    plan = plan_inputs(tmp_path / "c", tmp_path / "in", settings=Settings(shard_pairs=10))
    shape = [[(s.id, s.first_frame, s.count, s.segment, s.segments) for s in t.segments] for t in plan.tasks]
    assert shape == [
        [("a.mp4", 0, 10, 0, 3)],
        [("a.mp4", 10, 10, 1, 3)],
        [("a.mp4", 20, 0, 2, 3)],  # to the end of the video
        [("b0.mp4", 0, 0, 0, 1), ("b1.mp4", 0, 0, 0, 1)],
        [("b2.mp4", 0, 0, 0, 1)],
    ]
    assert sum(t.estimate for t in plan.tasks) == 25 + 3 * 4


def test_videos_of_unknown_length_share_a_limited_task(tmp_path):
    for n in range(9):
        touch(tmp_path / "in" / f"{n}.mp4")
    tasks = plan_inputs(tmp_path / "c", tmp_path / "in", settings=Settings(shard_pairs=4)).tasks
    assert [len(task.segments) for task in tasks] == [4, 4, 1]
    assert sum(task.estimate for task in tasks) == 0


def test_very_long_video_has_few_long_segments(tmp_path):
    touch(tmp_path / "in" / "a.mp4")

    def estimate(path):
        return 100_001

    plan = plan_inputs(tmp_path / "c", tmp_path / "in", estimate=estimate)
    assert [t.estimate for t in plan.tasks] == [6250] * 16
    assert [t.segments[0].first_frame for t in plan.tasks] == list(range(0, 100_000, 6250))
    touch(tmp_path / "in" / "b.mp4")
    more = plan_inputs(tmp_path / "c", tmp_path / "in", max_segments=100, estimate=estimate)
    assert more.tasks[:16] == plan.tasks  # planned videos stay in the plan
    assert [t.estimate for t in more.tasks[16:]] == [1000] * 100


def test_other_settings_are_refused_by_name(tmp_path):
    touch(tmp_path / "in" / "a.mp4")
    plan_inputs(tmp_path / "c", tmp_path / "in")
    before = (tmp_path / "c" / "plan.jsonl").read_bytes()
    with pytest.raises(SettingsConflict, match="codes: fixed, adaptive; quality: 90, 95"):
        plan_inputs(tmp_path / "c", tmp_path / "in", settings=Settings(quality=90, codes="fixed"))
    assert (tmp_path / "c" / "plan.jsonl").read_bytes() == before


def test_moved_videos_keep_their_ids(tmp_path):
    for k in range(3):
        touch(tmp_path / "in" / f"{k}.mp4")
    before = plan_inputs(tmp_path / "c", tmp_path / "in")
    (tmp_path / "in").rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "2.mp4").write_bytes(b"another f")
    after = plan_inputs(tmp_path / "c", tmp_path / "elsewhere")
    assert [t.id for t in after.tasks][:1] == [t.id for t in before.tasks]
    assert [s.path for s in after.tasks[0].segments] == [
        str(tmp_path / "elsewhere" / "0.mp4"),
        str(tmp_path / "elsewhere" / "1.mp4"),
        str(tmp_path / "in" / "2.mp4"),
    ]
    assert after.video_ids() == {"0.mp4", "1.mp4", "2.mp4", "elsewhere/2.mp4"}
    assert CorpusStore(tmp_path / "c").read_plan() == after


def test_corpus_without_its_plan_is_not_extended(tmp_path):
    touch(tmp_path / "in" / "a.mp4")
    plan_inputs(tmp_path / "c", tmp_path / "in")
    (tmp_path / "c" / "plan.jsonl").unlink()
    plan_inputs(tmp_path / "c", tmp_path / "in")  # no task is done
    (tmp_path / "c" / "plan.jsonl").unlink()
    (tmp_path / "c" / "records" / "0123.json").write_text("{}")
    with pytest.raises(UsageError, match="can be read but not extended"):
        plan_inputs(tmp_path / "c", tmp_path / "in")
