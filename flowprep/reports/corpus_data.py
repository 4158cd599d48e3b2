"""Everything that a corpus report shows, read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flowprep.corpus.reader import Corpus, open_corpus
from flowprep.planning.status import CorpusStatus
from flowprep.reports.quality import VideoQuality, find_duplicates, measure_all
from flowprep.reports.statistics import (
    CorpusStatistics,
    TaskSpan,
    collect,
    labels_and_status,
    read_spans,
)
from flowprep.system.progress import Progress, no_progress

MAX_QUALITY_VIDEOS = 200  # all images of a video are read, so these are fewer than the other samples


@dataclass(frozen=True)
class CorpusData:
    """The numbers of one corpus.

    Attributes:
        corpus: the open corpus.
        labels: label of every video of the plan.
        status: which videos are extracted, failed, partial or pending.
        statistics: counts over the videos.
        spans: when each task ran.
        quality: the quality of some videos, spread evenly over the corpus.
        duplicates: the videos whose pictures are those of another video, with its id.
    """

    corpus: Corpus
    labels: Mapping[str, str]
    status: CorpusStatus
    statistics: CorpusStatistics
    spans: list[TaskSpan]
    quality: Mapping[str, VideoQuality]
    duplicates: Mapping[str, str]

    @classmethod
    def read(cls, path: Path, sample: int, progress: Progress = no_progress) -> CorpusData:
        """Read a corpus; arguments and errors are those of `flowprep.reports.corpus.write_report`."""
        corpus = open_corpus(path)
        index = corpus.index
        labels, status = labels_and_status(corpus, index)
        statistics = collect(corpus, sample, progress)
        ids, count = statistics.videos, min(sample, MAX_QUALITY_VIDEOS, len(corpus))
        chosen = [ids[i] for i in np.linspace(0, len(ids) - 1, count).astype(int)]
        return cls(
            corpus,
            labels,
            status,
            statistics,
            read_spans(corpus, index),
            measure_all(corpus, chosen, progress),
            find_duplicates(corpus),
        )

    @property
    def ratio(self) -> float | None:
        """Bytes of the flow as float32, divided by its stored bytes; None without flow."""
        totals = self.status.totals
        flow = totals.get("flow_bytes", 0)
        return round(totals["flow_float32_bytes"] / flow, 1) if flow else None
