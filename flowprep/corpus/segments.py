"""The segments of a video: the shards, and the rows of their tables, that hold its frames and pairs."""

from __future__ import annotations

from collections.abc import Iterator
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
        self.num_frames = sum(int(row["num_frames"]) for _, row in parts)
        self.num_pairs = sum(int(row["num_pairs"]) for _, row in parts)

    def image(self, stream: str, index: int) -> bytes:
        """The stored file of an image of a stream, which has it.

        Raises:
            CorpusDamaged: the image does not match its checksum.
        """
        for task, row in self.parts:
            in_part = int(row[f"{stream}_count"])
            if index < in_part:
                return self._image(task, int(row[f"{stream}_first"]) + index)
            index -= in_part
        raise AssertionError("the counts of the segments do not add up")

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

    def pair_rows(self, backward: bool, start: int = 0, count: int | None = None) -> npt.NDArray[Any]:
        """The table rows of `count` pairs from `start` on; of all pairs from there on if it is None.

        Raises:
            CorpusDamaged: a table ends before the last pair.
        """
        remaining = self.num_pairs if count is None else count
        parts = []
        for task, row in self.parts:
            shard = self._corpus.shard(task)
            table = shard.pairs_backward if backward else shard.pairs
            pairs = table[int(row["first_pair"]) :][: int(row["num_pairs"])]
            if len(pairs) != row["num_pairs"]:
                raise CorpusDamaged(f"{self._id}: {shard.path.name}: its tables end before its last pair")
            rows = pairs[start : start + remaining]
            parts.append(rows)
            remaining -= len(rows)
            start = max(0, start - int(row["num_pairs"]))
        return np.concatenate(parts)

    def field_images(self, start: int, count: int, backward: bool) -> Iterator[tuple[bytes, bytes]]:
        """The stored files of u and of v, for each of the pairs."""
        prefix = "flow_back" if backward else "flow"
        for task, row in self.parts:
            pairs = int(row["num_pairs"])
            in_part = min(count, pairs - start)
            if in_part > 0:
                first_u, first_v = int(row[f"{prefix}_u_first"]), int(row[f"{prefix}_v_first"])
                for i in range(start, start + in_part):
                    yield self._image(task, first_u + i), self._image(task, first_v + i)
                count -= in_part
            start = max(0, start - pairs)

    def _image(self, task: str, index: int) -> bytes:
        try:
            return self._corpus.shard(task).image(index)
        except CorpusDamaged as exc:
            raise CorpusDamaged(f"{self._id}: {exc}") from exc
