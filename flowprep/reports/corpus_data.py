"""Everything that a corpus report shows, read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flowprep.corpus.reader import Corpus, open_corpus
from flowprep.planning.status import CorpusStatus
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
    status: CorpusStatus
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
    def ratio(self) -> float | None:
        """Bytes of the flow as float32, divided by its stored bytes; None without flow."""
        totals = self.status.totals
        flow = totals.get("flow_bytes", 0)
        return round(totals["flow_float32_bytes"] / flow, 1) if flow else None
