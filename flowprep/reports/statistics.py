"""The numbers of a corpus report.

Counts, clipping and mean flow cover all videos; they stand in the tables of the shards. The distribution of
displacements needs decoded flow. It covers a sample of videos, spread evenly over the corpus. Memory does not
grow with the length of the videos. It grows with their number, by some hundred bytes each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from flowprep.corpus.index import Index
from flowprep.corpus.reader import Corpus
from flowprep.corpus.video import Video
from flowprep.errors import CorpusFormatError
from flowprep.planning.status import CorpusStatus, VideoCounts, corpus_status
from flowprep.system.progress import Progress, no_progress

# Lower edges of the bins of displacements, in pixels. A bin is an eighth of an octave, from 1/64 px on. The
# first bin holds everything below.
DISPLACEMENTS = np.concatenate([[0], 2.0 ** (np.arange(-6 * 8, 10 * 8 + 1) / 8)])
# Centres of the bins of mean flow, 0.02 px apart.
MEANS = np.arange(-5000, 5001) / 50
PAIRS_SAMPLED = 2  # of each sampled video
NUM_RATES = 80  # points of the rate over time
LEAST_PAUSE = 30.0  # seconds; shorter gaps between tasks are no interruption


class TaskSpan(NamedTuple):
    """When a task ran, in seconds since the epoch, and how many pairs it computed."""

    began: float
    ended: float
    pairs: int


class Throughput(NamedTuple):
    """Pairs per second over the working time, which is the time in which at least one task ran.

    Attributes:
        seconds: the working time.
        rates: the mean rate in each of the equal parts of the working time.
        pauses: where in the working time a long pause was cut out, in seconds.
    """

    seconds: float
    rates: list[float]
    pauses: list[float]


@dataclass
class CorpusStatistics:
    """Counts over the videos of a corpus.

    Attributes:
        videos: ids. The next four lists have one entry per video.
        frames: number of frames.
        pairs: number of pairs.
        seconds: duration; NaN without a frame rate.
        clipped: share of the flow values outside the range of the codes.
        sizes: number of videos by stored (width, height).
        mean_u, mean_v: number of pairs in each bin of `MEANS`.
        sampled: positions of the decoded videos in `videos`.
        motion: mean displacement of each decoded video, pixels.
        displacements: number of decoded pixels in each bin of `DISPLACEMENTS`.
    """

    videos: list[str] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)
    pairs: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    clipped: list[float] = field(default_factory=list)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    mean_u: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(MEANS), np.int64))
    mean_v: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(MEANS), np.int64))
    sampled: list[int] = field(default_factory=list)
    motion: list[float] = field(default_factory=list)
    displacements: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(DISPLACEMENTS), np.int64))

    def percentile(self, percent: float) -> float:
        """A percentile of the decoded displacements, in pixels. It is linear within a bin."""
        edges, shares = self._cumulative()
        i = int(np.searchsorted(shares, percent / 100))
        if i == 0:
            return float(edges[0])
        part = (percent / 100 - shares[i - 1]) / (shares[i] - shares[i - 1])
        return float(edges[i - 1] + part * (edges[i] - edges[i - 1]))

    def share_below(self, displacement: float) -> float:
        """Share of the decoded displacements under a number of pixels, linear within a bin."""
        edges, shares = self._cumulative()
        return float(np.interp(displacement, edges, shares))

    def _cumulative(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Edges of the bins in pixels, and the share of displacements below each edge."""
        edges = np.append(DISPLACEMENTS, 2 * DISPLACEMENTS[-1])
        total = max(1, self.displacements.sum())
        return edges, np.concatenate([[0], np.cumsum(self.displacements) / total])


def collect(corpus: Corpus, sample: int = 1000, progress: Progress = no_progress) -> CorpusStatistics:
    """Go once through all videos of a corpus.

    Args:
        corpus: an open corpus.
        sample: number of videos whose flow is decoded, at most.
        progress: called with the number of videos done, and of all.

    Raises:
        CorpusDamaged: a table or an image fails its checksum.
    """
    statistics = CorpusStatistics()
    positions = np.linspace(0, len(corpus) - 1, min(sample, len(corpus))).astype(int)
    sampled = set(positions.tolist())
    for i, video in enumerate(corpus.values()):
        statistics.videos.append(video.id)
        statistics.frames.append(video.num_frames)
        statistics.pairs.append(video.num_pairs)
        statistics.seconds.append(video.num_frames / video.frame_rate if video.frame_rate else np.nan)
        statistics.sizes[video.width, video.height] += 1
        has_flow = corpus.settings.flow and video.num_pairs > 0
        statistics.clipped.append(float(video.clipped.mean()) if has_flow else 0.0)
        if has_flow:
            _count_means(video, statistics)
        if has_flow and i in sampled:
            statistics.sampled.append(i)
            statistics.motion.append(_count_displacements(video, statistics.displacements))
        progress(i + 1, len(corpus))
    return statistics


def _count_means(video: Video, statistics: CorpusStatistics) -> None:
    for counts, means in zip((statistics.mean_u, statistics.mean_v), video.mean_flow.T, strict=True):
        bins = np.clip(np.rint((means - MEANS[0]) * 50), 0, len(counts) - 1).astype(int)
        counts += np.bincount(bins, minlength=len(counts))


def _count_displacements(video: Video, counts: NDArray[np.int64]) -> float:
    """Add the displacements of `PAIRS_SAMPLED` pairs to the counts. Returns their mean, in pixels."""
    pairs = {round(k * (video.num_pairs - 1) / (PAIRS_SAMPLED + 1)) for k in range(1, PAIRS_SAMPLED + 1)}
    means = []
    for pair in pairs:
        displacement = np.hypot(*video.flow(pair, 1)[0])
        means.append(float(displacement.mean()))
        eighths = 8 * (np.log2(np.maximum(displacement, DISPLACEMENTS[1] / 2)) + 6)
        bins = np.clip(np.floor(eighths).astype(int) + 1, 0, len(counts) - 1)
        counts += np.bincount(bins.ravel(), minlength=len(counts))
    return float(np.mean(means))


def labels_and_status(corpus: Corpus, index: Index) -> tuple[dict[str, str], CorpusStatus]:
    """The label of every video of the plan, and the status of the corpus.

    Without a plan, both cover the videos of the index alone.
    """
    try:
        plan = corpus.store.read_plan()
    except CorpusFormatError:
        counts = VideoCounts(
            total=len(corpus) + len(index.failures),
            ok=len(corpus),
            partial=len(index.partial),
            failed=len(index.failures),
            pending=0,
        )
        return corpus.labels, CorpusStatus(
            None, counts, totals=index.totals, failures=index.failures, partial=index.partial
        )
    labels = {segment.id: segment.label for task in plan.tasks for segment in task.segments}
    return labels, corpus_status(plan, index)


def read_spans(corpus: Corpus, index: Index) -> list[TaskSpan]:
    """When each task ran. Tasks whose record has no time are left out."""
    spans = []
    for record in map(corpus.store.read_record, index.tasks):
        if record.finished:
            ended, totals = datetime.fromisoformat(record.finished).timestamp(), record.totals
            pairs = int(totals.get("pairs", 0))
            spans.append(TaskSpan(ended - totals.get("total_seconds", 0.0), ended, pairs))
    return spans


def throughput(spans: Sequence[TaskSpan], num_rates: int = NUM_RATES) -> Throughput:
    """Pairs per second over the working time.

    A task's pairs are spread evenly over its span. A time without any task is a pause from `LEAST_PAUSE`
    seconds on. Shorter ones count as work: a worker starts its next task in some seconds, and the times of
    records are whole seconds. A pause is marked if it is also longer than a fiftieth of the working time.

    Args:
        spans: of all tasks.
        num_rates: number of equal parts of the working time.
    """
    if not spans:
        return Throughput(0.0, [], [])
    began, ended, pairs = np.array(sorted(spans), float).T
    ended = np.maximum(ended, began + 1e-3)
    latest_end = np.maximum.accumulate(ended)
    gaps = np.concatenate([[0.0], began[1:] - latest_end[:-1]])
    gaps[gaps < LEAST_PAUSE] = 0
    idle = np.cumsum(gaps)
    first, last = began - began[0] - idle, ended - began[0] - idle
    seconds = float(last.max())
    edges = np.linspace(0, seconds, num_rates + 1)
    done = np.array([(pairs * np.clip((edge - first) / (last - first), 0, 1)).sum() for edge in edges])
    rates = np.diff(done) / (seconds / num_rates)
    return Throughput(seconds, rates.tolist(), first[gaps > seconds / 50].tolist())
