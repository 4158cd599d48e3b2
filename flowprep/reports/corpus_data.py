"""Everything that a corpus report shows, read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowprep.corpus.reader import Corpus, open_corpus
from flowprep.reports.statistics import (
    CorpusStatistics,
    TaskSpan,
    collect,
    labels_and_status,
    read_spans,
)
from flowprep.system.progress import Progress, no_progress


@dataclass(frozen=True)
class CorpusData:
    """The numbers of one corpus.

    Attributes:
        corpus: the open corpus.
        labels: label of every video of the plan.
        status: which videos are extracted, failed, partial or pending.
        statistics: counts over the videos.
        spans: when each task ran.
    """

    corpus: Corpus
    labels: Mapping[str, str]
    status: Mapping[str, Any]
    statistics: CorpusStatistics
    spans: list[TaskSpan]

    @classmethod
    def read(cls, path: Path, sample: int, progress: Progress = no_progress) -> CorpusData:
        """Read a corpus; arguments and errors are those of `flowprep.reports.corpus.write_report`."""
        corpus = open_corpus(path)
        index = corpus.index
        labels, status = labels_and_status(corpus, index)
        statistics = collect(corpus, sample, progress)
        return cls(corpus, labels, status, statistics, read_spans(corpus, index))

    @property
    def counts(self) -> dict[str, int]:
        """Number of videos: `total`, `ok`, `partial`, `failed` and `pending`."""
        counts: dict[str, int] = self.status["videos"]
        return counts

    @property
    def totals(self) -> dict[str, Any]:
        """Sums over all records, by name."""
        totals: dict[str, Any] = self.status["totals"]
        return totals

    @property
    def failures(self) -> Mapping[str, str]:
        """Reason of each failed video."""
        failures: Mapping[str, str] = self.status["failures"]
        return failures

    @property
    def partial(self) -> Mapping[str, str]:
        """Damage of each partial video."""
        partial: Mapping[str, str] = self.status["partial"]
        return partial

    @property
    def ratio(self) -> float | None:
        """Bytes of the flow as float32, divided by its stored bytes; None without flow."""
        flow = self.totals.get("flow_bytes", 0)
        return round(self.totals["flow_float32_bytes"] / flow, 1) if flow else None
