"""A corpus in numbers: what its report is made of.

Counts, clipping and mean flow are of all videos, from the shards' tables. How far things move can only be
told from decoded flow: that is of a sample of videos, spread evenly over all. Memory does not grow with the
length of videos, and with their number by some hundred bytes each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowprep.corpus.index import Index, read_record
from flowprep.corpus.reader import Corpus, Video
from flowprep.errors import CorpusFormatError
from flowprep.planning.tasks import read_plan, summarise
from flowprep.system.progress import Progress, no_progress

# Displacements are counted in bins of an eighth of an octave, from 1/64 px; below is the bin that holds 0.
LENGTHS = np.concatenate([[0], 2.0 ** (np.arange(-6 * 8, 10 * 8 + 1) / 8)])
# Mean flow is counted in bins of 0.02 px around these values.
MEANS = np.arange(-5000, 5001) / 50
PAIRS_SAMPLED = 2  # of each sampled video
MOMENTS = 80  # points of the rate over time

Span = tuple[float, float, float]


@dataclass
class Measured:
    """What is counted over a corpus' videos.

    Attributes:
        videos: ids.
        frames, pairs, seconds, clipped: of each of them; seconds are NaN without a frame rate, `clipped` is
            the share of the values outside the codes' range.
        sizes: stored (width, height) -> videos.
        mean_u, mean_v: pairs in each bin around `MEANS`.
        sampled: positions in `videos` of those that were decoded.
        motion: mean displacement of each of those, pixels.
        lengths: pixels of the decoded pairs in each bin that begins at `LENGTHS`.
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
    lengths: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(LENGTHS), np.int64))

    def percentile(self, percent: float) -> float:
        """A percentile of the decoded displacements, pixels, linear within a bin."""
        share = np.concatenate([[0], np.cumsum(self.lengths) / max(1, self.lengths.sum())])
        i = int(np.searchsorted(share, percent / 100))
        ends = np.append(LENGTHS, 2 * LENGTHS[-1])
        part = (percent / 100 - share[i - 1]) / (share[i] - share[i - 1]) if i else 0.0
        return float(ends[max(i - 1, 0)] + part * (ends[i] - ends[max(i - 1, 0)]))

    def share_below(self, length: float) -> float:
        """Share of the decoded displacements under `length` pixels, linear within a bin."""
        share = np.concatenate([[0], np.cumsum(self.lengths) / max(1, self.lengths.sum())])
        return float(np.interp(length, np.append(LENGTHS, 2 * LENGTHS[-1]), share))


def measure(corpus: Corpus, sample: int = 1000, progress: Progress = no_progress) -> Measured:
    """Go through a corpus once.

    Args:
        corpus: opened.
        sample: videos whose flow is decoded, at most.
        progress: called with the videos done and to do.

    Raises:
        CorpusDamaged: a table or an image fails its checksum.
    """
    found = Measured()
    chosen = set(np.unique(np.linspace(0, len(corpus) - 1, min(sample, len(corpus))).astype(int)).tolist())
    for i, video in enumerate(corpus.values()):
        found.videos.append(video.id)
        found.frames.append(video.num_frames)
        found.pairs.append(video.num_pairs)
        found.seconds.append(video.num_frames / video.frame_rate if video.frame_rate else np.nan)
        found.sizes[video.width, video.height] += 1
        if corpus.settings.flow and video.num_pairs:
            found.clipped.append(float(video.clipped.mean()))
            for bins, means in zip((found.mean_u, found.mean_v), video.mean_flow.T, strict=True):
                place = np.clip(np.rint((means - MEANS[0]) * 50), 0, len(bins) - 1).astype(int)
                bins += np.bincount(place, minlength=len(bins))
        else:
            found.clipped.append(0.0)
        if i in chosen and corpus.settings.flow and video.num_pairs:
            found.sampled.append(i)
            found.motion.append(_decoded(video, found.lengths))
        progress(i + 1, len(corpus))
    return found


def _decoded(video: Video, lengths: NDArray[np.int64]) -> float:
    """Count the displacements of a few pairs; their mean, pixels."""
    places = {round(k * (video.num_pairs - 1) / (PAIRS_SAMPLED + 1)) for k in range(1, PAIRS_SAMPLED + 1)}
    means = []
    for i in places:
        length = np.hypot(*video.flow(i, 1)[0])
        means.append(float(length.mean()))
        octaves = 8 * (np.log2(np.maximum(length, LENGTHS[1] / 2)) + 6)
        bins = np.clip(np.floor(octaves).astype(int) + 1, 0, len(lengths) - 1)
        lengths += np.bincount(bins.ravel(), minlength=len(lengths))
    return float(np.mean(means))


def planned(corpus: Corpus, index: Index) -> tuple[dict[str, str], dict[str, Any]]:
    """The label of every video, and where the corpus stands; of what is there, if the plan is not."""
    try:
        plan = read_plan(corpus.path)
    except CorpusFormatError:
        counts = {
            "ok": len(corpus),
            "partial": len(index.partial),
            "failed": len(index.failures),
            "pending": 0,
        }
        return corpus.labels, {
            "videos": {"total": len(corpus) + len(index.failures), **counts},
            "totals": index.totals,
            "failures": index.failures,
            "partial": index.partial,
        }
    return {s.id: s.label for t in plan.tasks for s in t.segments}, summarise(plan, index)


def read_spans(corpus: Corpus, index: Index) -> list[Span]:
    """When each task began and ended, by the clock in seconds, and its pairs; some records have no time."""
    spans = []
    for record in (read_record(corpus.path, task) for task in index.tasks):
        if "finished" in record:
            end = datetime.fromisoformat(record["finished"]).timestamp()
            totals = record["totals"]
            spans.append((end - totals.get("total_seconds", 0.0), end, totals.get("pairs", 0)))
    return spans


def rate_over_time(spans: Sequence[Span], moments: int = MOMENTS) -> tuple[float, list[float], list[float]]:
    """Pairs a second over the time in which tasks ran, pauses left out.

    Args:
        spans: (began, ended, pairs) of each task, seconds; its pairs are taken as evenly spread.
        moments: how many rates.

    Returns:
        Seconds in which at least one task ran; the rate in each of `moments` equal parts of them; and where,
        in those seconds, pauses of more than a fiftieth of them were left out.
    """
    if not spans:
        return 0.0, [], []
    began, ended, pairs = np.array(sorted(spans), float).T
    ended = np.maximum(ended, began + 1e-3)
    until = np.maximum.accumulate(ended)
    gaps = np.concatenate([[0.0], np.maximum(0, began[1:] - until[:-1])])
    left_out = np.cumsum(gaps)
    begin, end = began - began[0] - left_out, ended - began[0] - left_out
    total = float(end.max())
    edges = np.linspace(0, total, moments + 1)
    done = np.array([(pairs * np.clip((edge - begin) / (end - begin), 0, 1)).sum() for edge in edges])
    rates = np.diff(done) / (total / moments)
    return total, rates.tolist(), begin[gaps > total / 50].tolist()
