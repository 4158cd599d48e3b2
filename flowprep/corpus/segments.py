"""The segments of a video: the shards, and the rows of their tables, that hold its frames and pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from flowprep.corpus.shard_reader import Shard
from flowprep.errors import CorpusDamaged
from flowprep.settings import Settings


class ShardSource(Protocol):
    """The part of a corpus that its videos use.

    Attributes:
        path: the folder, for messages.
        settings: the settings of the corpus.
        partial: id -> damage, for the videos of which only the beginning is stored.
    """

    path: Path
    settings: Settings
    partial: dict[str, str]

    def shard(self, task: str) -> Shard:
        """Return the shard of a task, opened."""


class Segments:
    """The segments of a video, in the order of time.

    Attributes:
        parts: the task and the row in the video table of each segment.
        num_frames, num_pairs: the numbers of frames and pairs of all segments.
    """

    def __init__(self, corpus: ShardSource, video_id: str, parts: list[tuple[str, Any]]) -> None:
        """Create the segments of `video_id`; `parts` are as the attribute."""
        self._corpus = corpus
        self._id = video_id
        self.parts = parts
        # The number of frames and of pairs up to the end of each segment.
        self._frame_ends = list(accumulate(int(row["num_frames"]) for _, row in parts))
        self._pair_ends = list(accumulate(int(row["num_pairs"]) for _, row in parts))
        self.num_frames, self.num_pairs = self._frame_ends[-1], self._pair_ends[-1]

    def image_rows(self, stream: str) -> npt.NDArray[Any]:
        """The rows of the table of images of a stream."""
        parts = [
            self._corpus.shard(task).images[int(row[f"{stream}_first"]) :][: int(row[f"{stream}_count"])]
            for task, row in self.parts
        ]
        return np.concatenate(parts)

    def times(self) -> npt.NDArray[np.float64]:
        """The rows of the table of times: (num_frames,), seconds."""
        parts = [
            self._corpus.shard(task).times[int(row["first_time"]) :][: int(row["num_frames"])]
            for task, row in self.parts
        ]
        return np.concatenate(parts)

    def pair_rows(self, backward: bool, positions: npt.NDArray[np.int64] | None = None) -> npt.NDArray[Any]:
        """The table rows of pairs, or of all pairs.

        Raises:
            CorpusDamaged: a table ends before the last pair.
        """
        if positions is None:
            positions = np.arange(self.num_pairs)
        parts = []
        for _, (task, row), inside in _runs(positions, self._pair_ends, self.parts):
            shard = self._corpus.shard(task)
            table = shard.pairs_backward if backward else shard.pairs
            first = int(row["first_pair"])
            if first + int(row["num_pairs"]) > len(table):
                raise CorpusDamaged(f"{self._id}: {shard.path.name}: its tables end before its last pair")
            parts.append(table[first + inside])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def image_runs(
        self, streams: Sequence[str], positions: npt.NDArray[np.int64]
    ) -> Iterator[tuple[slice, Shard, npt.NDArray[np.int64]]]:
        """Where the images of pairs or frames are stored.

        Args:
            streams: streams of flow, or the stream of frames.
            positions: pairs, or frames.

        Yields:
            For each run of positions in one segment: its place in `positions`, the shard, and the rows in the
            table of images, (positions, streams).
        """
        ends = self._frame_ends if streams[0] == "rgb" else self._pair_ends
        for place, (task, row), inside in _runs(positions, ends, self.parts):
            try:
                shard = self._corpus.shard(task)
            except CorpusDamaged as exc:
                raise CorpusDamaged(f"{self._id}: {exc}") from exc
            first = [int(row[f"{stream}_first"]) for stream in streams]
            yield place, shard, np.add.outer(inside, first)

    def image(self, shard: Shard, row: int) -> bytes:
        """The stored file of an image.

        Raises:
            CorpusDamaged: the image does not match its checksum.
        """
        try:
            return shard.image(row)
        except CorpusDamaged as exc:
            raise CorpusDamaged(f"{self._id}: {exc}") from exc


def _runs(
    positions: npt.NDArray[np.int64], ends: list[int], parts: list[tuple[str, Any]]
) -> Iterator[tuple[slice, tuple[str, Any], npt.NDArray[np.int64]]]:
    """Cut positions in a video where the segment changes.

    Args:
        positions: pairs or frames, in any order.
        ends: the pair or frame after the last one of each segment.
        parts: the segments.

    Yields:
        For each run of positions in one segment: its place in `positions`, the segment, and the positions
        counted from the segment's first.
    """
    if len(parts) == 1 or not len(positions):
        yield slice(0, len(positions)), parts[0], positions
        return
    segment = np.searchsorted(ends, positions, side="right")
    cuts = [0, *(np.flatnonzero(np.diff(segment)) + 1).tolist(), len(positions)]
    for begin, end in pairwise(cuts):
        k = int(segment[begin])
        yield slice(begin, end), parts[k], positions[begin:end] - (ends[k - 1] if k else 0)
