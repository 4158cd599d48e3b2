"""The progress of a run: for a progress bar, and as a file for Prometheus."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from flowprep.corpus.records import TaskRecord
from flowprep.system.atomic import atomic_path
from flowprep.system.progress import Progress, no_progress

REPORT_SECONDS = 0.5
METRICS_SECONDS = 5.0


class ProgressReporter:
    """Adds up the work of all tasks, and reports it twice a second while it is entered.

    Each task writes its number of pairs to a file. So the report includes tasks that are not done yet.

    Args:
        folder: folder of those files.
        progress: called with pairs; the note has the numbers of videos.
        expected_pairs: pairs of all tasks; 0 if not known.
        metrics: file to write in the text format of Prometheus; None for no file.

    Attributes:
        videos: number of videos of finished tasks, by status.
    """

    def __init__(
        self,
        folder: Path,
        progress: Progress = no_progress,
        expected_pairs: int = 0,
        metrics: Path | None = None,
    ) -> None:
        self.videos: Counter[str] = Counter()
        self._folder = folder
        self._progress = progress
        self._expected_pairs = expected_pairs
        self._metrics = metrics
        self._totals: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._faults = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._report_until_end, daemon=True)

    @property
    def stored(self) -> int:
        """Videos that are stored, whole or partial."""
        return self.videos["ok"] + self.videos["partial"]

    @property
    def failed(self) -> int:
        """Videos that failed."""
        return self.videos["failed"]

    def add_record(self, record: TaskRecord) -> None:
        """Count a task that is done."""
        self._totals.update(record.totals)
        if not (path := self._folder / record.task).exists():  # it ran on another machine
            with suppress(OSError):  # it is for the progress only
                path.write_text(str(record.totals.get("pairs", 0)))
        for video in record.videos:
            if video.segment == 0:
                self.videos[video.status] += 1
            if video.failed:
                self._reasons[_general_reason(video.reason)] += 1

    def add_fault(self) -> None:
        """Count a task that ended with an error."""
        self._faults += 1

    def pairs(self) -> int:
        """Return the pairs computed so far."""
        pairs = 0
        for path in self._folder.iterdir():
            with suppress(OSError, ValueError):  # being written at this moment
                pairs += int(path.read_text())
        return pairs

    def __enter__(self) -> ProgressReporter:
        self._write_metrics()  # an error of this file must not come after hours of work
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self._report()
        self._write_metrics()

    def _report_until_end(self) -> None:
        written = 0.0
        while not self._end.wait(REPORT_SECONDS):
            self._report()
            if time.monotonic() - written > METRICS_SECONDS:
                with suppress(OSError):  # the next attempt may succeed
                    self._write_metrics()
                written = time.monotonic()

    def _report(self) -> None:
        note = f"{self.stored} videos" + (f", {self.failed} failed" if self.failed else "")
        self._progress(self.pairs(), self._expected_pairs, note)

    def _write_metrics(self) -> None:
        if self._metrics is None:
            return
        seconds = {n.removesuffix("_seconds"): v for n, v in self._totals.items() if n.endswith("_seconds")}
        sizes = {n.removesuffix("_bytes"): v for n, v in self._totals.items() if n.endswith("_bytes")}
        lines = [f"flowprep_pairs_total {self.pairs()}", f"flowprep_faults_total {self._faults}"]
        lines += _series("flowprep_videos_total", "status", self.videos)
        lines += _series("flowprep_failures_total", "reason", self._reasons)
        lines += _series("flowprep_bytes_total", "of", sizes)
        lines += _series("flowprep_stage_seconds_total", "stage", seconds)
        with atomic_path(self._metrics) as temporary:
            temporary.write_text("\n".join(lines) + "\n", "utf-8")


def _series(name: str, label: str, values: Mapping[str, float]) -> list[str]:
    """Return lines of the text format of Prometheus. It escapes backslash, quote and line feed in labels."""
    escaped = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
    return [f'{name}{{{label}="{k.translate(escaped)}"}} {v:g}' for k, v in sorted(values.items())]


def _general_reason(reason: str) -> str:
    """Return a reason without its numbers and details, so that the same reasons of videos count together."""
    return re.sub(r"\d+(\.\d+)?", "N", reason.partition(":")[0].partition(",")[0])
