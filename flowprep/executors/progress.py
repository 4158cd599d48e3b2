"""What a run has done so far: for a progress bar, and as a file for Prometheus."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from flowprep.corpus.records import TaskRecord
from flowprep.system.atomic import atomic_path

# Called with the pairs that tasks have done and the videos of finished tasks, taken and failed.
Progress = Callable[[int, int, int], None]

INTERVAL_SECONDS = 0.5
METRICS_SECONDS = 5.0


class Watch:
    """Tells `progress`, twice a second, what the tasks' progress files say, and keeps the metrics file.

    Args:
        folder: of the progress files.
        progress: called while this is entered.
        metrics: the file to write; None for none.
    """

    def __init__(self, folder: Path, progress: Progress | None, metrics: Path | None) -> None:
        self._folder = folder
        self._progress = progress
        self._metrics = metrics
        self._totals: Counter[str] = Counter()
        self._videos: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._faults = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def finished(self, record: TaskRecord) -> None:
        """Count a task by its record."""
        self._totals.update(record.totals)
        if not (path := self._folder / record.task).exists():  # it ran on another machine
            path.write_text(str(record.totals.get("pairs", 0)))
        for video in record.videos:
            if video.segment == 0:
                self._videos[video.status] += 1
            if video.failed:
                self._reasons[_kind(video.reason)] += 1

    def broke(self) -> None:
        """Count a task that ended by a fault."""
        self._faults += 1

    def __enter__(self) -> Watch:
        self._write()  # if it cannot be written, that is better known now
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self._tell()
        self._write()

    def _run(self) -> None:
        written = 0.0
        while not self._end.wait(INTERVAL_SECONDS):
            self._tell()
            if time.monotonic() - written > METRICS_SECONDS:
                with suppress(OSError):  # the next one may succeed
                    self._write()
                written = time.monotonic()

    def _tell(self) -> None:
        if self._progress:
            taken = self._videos["ok"] + self._videos["partial"]
            self._progress(self._pairs(), taken, self._videos["failed"])

    def _pairs(self) -> int:
        pairs = 0
        for path in self._folder.iterdir():
            with suppress(OSError, ValueError):  # not written yet, or just now
                pairs += int(path.read_text())
        return pairs

    def _write(self) -> None:
        if self._metrics is None:
            return
        seconds = {n.removesuffix("_seconds"): v for n, v in self._totals.items() if n.endswith("_seconds")}
        sizes = {n.removesuffix("_bytes"): v for n, v in self._totals.items() if n.endswith("_bytes")}
        lines = [f"flowprep_pairs_total {self._pairs()}", f"flowprep_faults_total {self._faults}"]
        lines += _series("flowprep_videos_total", "status", self._videos)
        lines += _series("flowprep_failures_total", "reason", self._reasons)
        lines += _series("flowprep_bytes_total", "of", sizes)
        lines += _series("flowprep_stage_seconds_total", "stage", seconds)
        with atomic_path(self._metrics) as temporary:
            temporary.write_text("\n".join(lines) + "\n", "utf-8")


def _series(name: str, label: str, values: dict[str, Any]) -> list[str]:
    """Lines of the text format of Prometheus, which escapes backslash, quote and line feed in labels."""
    escaped = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
    return [f'{name}{{{label}="{k.translate(escaped)}"}} {v:g}' for k, v in sorted(values.items())]


def _kind(reason: str) -> str:
    """A reason without what differs from video to video: what follows a colon, and numbers."""
    return re.sub(r"\d+(\.\d+)?", "N", reason.partition(":")[0].partition(",")[0])
