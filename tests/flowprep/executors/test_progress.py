"""Progress of a run, and its file for Prometheus."""

from __future__ import annotations

import pytest

from flowprep.corpus.records import SegmentRecord, TaskRecord
from flowprep.executors.progress import ProgressReporter

RECORD = TaskRecord(
    task="abc",
    shard=None,
    videos=(
        SegmentRecord("a", "ok", frames=4, pairs=3),
        SegmentRecord("long", "ok", segment=1, segments=2, pairs=5),
        SegmentRecord("b", "partial", reason="damaged"),
        SegmentRecord("c", "failed", reason='too few frames: 1; a "pair" needs 2'),
        SegmentRecord("d", "failed", reason="too few frames: 0"),
    ),
    totals={"pairs": 8, "flow_bytes": 90, "decode_seconds": 1.5},
)


def test_the_last_report_has_everything(tmp_path):
    reports = []
    with ProgressReporter(tmp_path, lambda *report: reports.append(report), 20) as reporter:
        (tmp_path / "running").write_text("4")
        (tmp_path / "just begun").write_text("")
        reporter.add_record(RECORD)
    assert reports[-1] == (12, 20, "2 videos, 2 failed")
    assert (reporter.stored, reporter.failed, reporter.pairs()) == (2, 2, 12)


def test_a_task_that_wrote_its_own_progress_is_counted_once(tmp_path):
    with ProgressReporter(tmp_path) as reporter:
        (tmp_path / "abc").write_text("8")
        reporter.add_record(RECORD)
    assert reporter.pairs() == 8


def test_the_metrics_file(tmp_path):
    folder, metrics = tmp_path / "progress", tmp_path / "metrics.prom"
    folder.mkdir()
    with ProgressReporter(folder, metrics=metrics) as reporter:
        assert metrics.exists()  # written at once: a wrong path is known before the work
        reporter.add_record(RECORD)
        reporter.add_fault()
    assert metrics.read_text().splitlines() == [
        "flowprep_pairs_total 8",
        "flowprep_faults_total 1",
        'flowprep_videos_total{status="failed"} 2',
        'flowprep_videos_total{status="ok"} 1',
        'flowprep_videos_total{status="partial"} 1',
        'flowprep_failures_total{reason="too few frames"} 2',
        'flowprep_bytes_total{of="flow"} 90',
        'flowprep_stage_seconds_total{stage="decode"} 1.5',
    ]


def test_a_metrics_file_that_cannot_be_written_is_an_error_at_once(tmp_path):
    with pytest.raises(FileNotFoundError), ProgressReporter(tmp_path, metrics=tmp_path / "no" / "file"):
        raise AssertionError("entered")
