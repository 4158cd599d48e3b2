"""Making a corpus from Python."""

from __future__ import annotations

import pytest

from flowprep import RunOptions, Settings, make_corpus, open_corpus
from flowprep.api import PlannedCorpus, extract_corpus, plan_corpus, run_plan
from flowprep.errors import CorpusFormatError, EngineError, UsageError

FRAMES_ONLY = Settings(engine="cpu", size="source", flow=False, shard_pairs=8)


def test_a_plan_is_made_once_and_then_read(clips, tmp_path):
    planned = plan_corpus([clips], tmp_path / "c", FRAMES_ONLY)
    assert planned.skipped_files == 2 and len(planned.pending_tasks()) == len(planned.plan.tasks) == 4
    assert PlannedCorpus.read(tmp_path / "c").plan == planned.plan
    values = planned.to_dict()
    assert (values["videos"], values["tasks"], values["pending_tasks"]) == (4, 4, 4)
    with pytest.raises(CorpusFormatError):
        PlannedCorpus.read(tmp_path)


def test_an_extraction_announces_its_start_and_returns_its_work(clips, tmp_path):
    lines, reports = [], []
    planned = plan_corpus([clips], tmp_path / "c", FRAMES_ONLY)
    result = extract_corpus(
        planned,
        RunOptions(jobs=1),
        progress=lambda *report: reports.append(report),
        announce=lines.append,
    )
    assert lines == ["4 videos in 4 tasks, 4 to do; engine cpu; 2 other files skipped"]
    assert result.complete and (result.run.videos, result.run.failed) == (4, 0)
    assert reports[-1][2] == "4 videos"
    values = result.to_dict()
    assert values["videos"]["ok"] == 4 and values["skipped_files"] == 2 and values["faults"] == {}
    assert values["run"].keys() == {"pairs", "seconds", "pairs_per_second"}


def test_a_part_of_a_plan_leaves_the_rest_pending_and_writes_no_index(clips, tmp_path):
    planned = plan_corpus([clips], tmp_path / "c", FRAMES_ONLY)
    result = run_plan(planned, planned.plan.tasks[:1], RunOptions(jobs=1))
    assert (result.videos, len(planned.pending_tasks())) == (1, 3)
    assert not (tmp_path / "c" / "index.npz").exists()


def test_failed_videos_are_retried_on_request(clips, tmp_path):
    video = clips / "left" / "v_left_g01.mp4"
    content = video.read_bytes()
    video.write_bytes(b"damaged")
    result = make_corpus([clips], tmp_path / "c", FRAMES_ONLY, jobs=1)
    assert result.complete and list(result.status.failures) == ["left/v_left_g01.mp4"]
    video.write_bytes(content)
    result = make_corpus([clips], tmp_path / "c", FRAMES_ONLY, jobs=1, retry_failed=True)
    assert result.status.complete and len(open_corpus(tmp_path / "c")) == 4


def test_options_replace_jobs(clips, tmp_path):
    metrics = tmp_path / "metrics.prom"
    make_corpus([clips], tmp_path / "c", FRAMES_ONLY, options=RunOptions(jobs=1, metrics=metrics))
    assert 'flowprep_videos_total{status="ok"} 4' in metrics.read_text()


def test_wrong_requests_change_nothing(clips, tmp_path, monkeypatch):
    monkeypatch.setattr("flowprep.executors.run.gpu_fault", lambda: "no GPU works")
    with pytest.raises(EngineError, match="no GPU works"):
        make_corpus([clips], tmp_path / "c", Settings(engine="cuda"))
    with pytest.raises(UsageError, match="use a folder of its own as --out"):
        make_corpus([clips], clips, FRAMES_ONLY)
    with pytest.raises(UsageError, match="no such input"):
        make_corpus([tmp_path / "none"], tmp_path / "c", FRAMES_ONLY)
    assert not (tmp_path / "c").exists() and not (clips / "plan.jsonl").exists()


def test_old_names_of_the_result_still_work(clips, tmp_path):
    result = make_corpus([clips], tmp_path / "c", FRAMES_ONLY, jobs=1)
    with pytest.warns(DeprecationWarning, match="use status"):
        assert result.summary == result.status.to_dict()
    with pytest.warns(DeprecationWarning, match="use skipped_files"):
        assert result.skipped == 2
