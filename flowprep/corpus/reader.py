"""Reading a corpus: a mapping from video id to video, with flow in pixels.

    corpus = flowprep.open_corpus("corpus")
    video = corpus["Punch/v_Punch_g01_c01.avi"]
    flow = video.flow(0, 10)          # (10, 2, H, W) float32, pixels

Images are read from memory-mapped shards, each against its checksum. A corpus can be pickled and forked:
every process maps the shards for itself, on first use.
"""

from __future__ import annotations

import resource
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from flowprep import codec
from flowprep.corpus import format as fmt
from flowprep.corpus.index import Index, load_index, read_settings
from flowprep.corpus.shard import Shard
from flowprep.errors import CorpusDamaged, CorpusFormatError, OutOfRange, VideoMissing
from flowprep.settings import Settings

# Shards mapped at a time. Each holds a file descriptor, of which a process has often only 1,024.
OPEN_SHARDS = min(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)


def open_corpus(path: str | Path) -> Corpus:
    """Open a corpus for reading.

    Args:
        path: its folder.

    Raises:
        CorpusFormatError: the folder is no corpus, or one of a newer format.
    """
    return Corpus(path)


class Corpus(Mapping[str, "Video"]):
    """A mapping from video id to Video; iterating gives the ids, sorted.

    A video is in it when it was taken whole, or partially with `keep_partial`: all its segments are there.

    Attributes:
        path: the folder.
        settings: what it was made with.
        labels: id -> label, without opening any shard; "" where a video has none.
        failures: id -> reason, for the videos that could not be taken.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()
        if not self.path.is_dir():
            raise CorpusFormatError(f"{self.path} is not a corpus: no such folder")
        index = load_index(self.path)
        self.settings: Settings = read_settings(self.path, index)
        self.failures: dict[str, str] = dict(index.failures)
        self._totals = index.totals
        self._tasks = index.tasks
        self._parts = _whole_videos(index)
        self._rows = index.rows
        self._row_task = index.row_task
        self.labels: dict[str, str] = {i: _text(self._rows[p[0]]["label"]) for i, p in self._parts.items()}
        self._shards: OrderedDict[str, Shard] = OrderedDict()

    def __getitem__(self, video_id: str) -> Video:
        if video_id not in self._parts:
            reason = self.failures.get(video_id)
            raise VideoMissing(
                f"{video_id!r} could not be taken: {reason}"
                if reason
                else f"no video {video_id!r} in {self.path}"
            )
        rows = self._parts[video_id]
        return Video(self, [(self._tasks[self._row_task[r]], self._rows[r]) for r in rows])

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Corpus) and self.path.resolve() == other.path.resolve()

    def __hash__(self) -> int:
        return hash(self.path.resolve())

    def facts(self) -> dict[str, Any]:
        """What the corpus is, in plain types: counts, sizes, settings, versions of what made it."""
        first = next(iter(self.values()), None)
        shard = self._shard(first._parts[0][0]) if first else None
        labels = Counter(self.labels.values())
        return {
            "path": str(self.path),
            "format": ".".join(map(str, fmt.VERSION)),
            "videos": len(self),
            "failed": len(self.failures),
            "frames": int(self._totals.get("frames", 0)),
            "pairs": int(self._totals.get("pairs", 0)),
            "streams": list(self.settings.streams),
            "labels": dict(sorted(labels.items())),
            "bytes": {k: int(v) for k, v in sorted(self._totals.items()) if k.endswith("_bytes")},
            "settings": self.settings.to_dict(),
            "software": shard.software if shard else {},
        }

    def __repr__(self) -> str:
        return f"<Corpus {str(self.path)!r}: {len(self)} videos, streams {', '.join(self.settings.streams)}>"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_shards": OrderedDict()}

    def _shard(self, task: str) -> Shard:
        shard = self._shards.get(task)
        if shard is None:
            shard = self._shards[task] = Shard(fmt.shard_path(self.path, task))
            if len(self._shards) > OPEN_SHARDS:
                self._shards.popitem(last=False)
        else:
            self._shards.move_to_end(task)
        return shard


class Video:
    """One video of a corpus; made by `corpus[id]`.

    Attributes:
        id: POSIX path relative to the input that it came from.
        label: its class, "" where it has none.
        num_frames: frames, whether stored as RGB or not.
        num_pairs: pairs with flow; pair i goes from frame i to frame i + step.
        step: frames between the two of a pair.
        width, height: stored size, pixels.
        frame_rate: frames per second as the source declares; 0 where unknown.
        partial: only the clean frames before a damage are here.
    """

    def __init__(self, corpus: Corpus, parts: list[tuple[str, Any]]) -> None:
        self._corpus = corpus
        self._parts = parts
        first = parts[0][1]
        self.id: str = _text(first["id"])
        self.label: str = _text(first["label"])
        self.width, self.height = int(first["width"]), int(first["height"])
        self.frame_rate = float(first["frame_rate"])
        self.step = int(first["step"])
        self.num_frames = sum(int(row["num_frames"]) for _, row in parts)
        self.num_pairs = sum(int(row["num_pairs"]) for _, row in parts)
        self.partial = any(row["partial"] for _, row in parts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Video) and (self.id, self._corpus) == (other.id, other._corpus)

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        counts = f"{self.num_frames} frames, {self.num_pairs} pairs"
        return f"<Video {self.id!r}: {counts}, {self.width}x{self.height}>"

    def facts(self) -> dict[str, Any]:
        """What the video is, in plain types."""
        names = ("id", "label", "num_frames", "num_pairs", "step", "width", "height", "frame_rate", "partial")
        times = self.times_seconds
        span = None if np.isnan(times).any() else [float(times[0]), float(times[-1])]
        facts = {name: getattr(self, name) for name in names} | {"first_and_last_seconds": span}
        if self._corpus.settings.flow:
            facts["mean_flow_px"] = [round(float(m), 4) for m in self.mean_flow.mean(axis=0)]
            facts["clipped_share"] = round(float(self.clipped.mean()), 6)
        facts["shards"] = [f"{task}.h5" for task, _ in self._parts]
        return facts

    def flow(self, start: int, count: int, backward: bool = False) -> npt.NDArray[np.float32]:
        """Flow of pairs start to start + count - 1: (count, 2, H, W) float32, pixels per pair.

        u (right) is channel 0, v (down) channel 1. Backward flow i goes from frame i + step to frame i.

        Raises:
            OutOfRange: the video does not have all of them.
            CorpusDamaged: a checksum does not hold.
        """
        self._check(start, count, backward)
        out = np.empty((count, 2, self.height, self.width), np.float32)
        for i, (jpegs, pair) in enumerate(self._pairs(start, count, backward)):
            for channel, (jpeg, c) in enumerate(zip(jpegs, "uv", strict=True)):
                codec.decode_field(jpeg, pair[f"{c}_scale"], pair[f"{c}_zero"], out[i, channel])
        return out

    def codes(self, start: int, count: int, backward: bool = False) -> npt.NDArray[np.uint8]:
        """The stored codes of the same pairs: (count, 2, H, W) uint8, not undone to pixels.

        Raises:
            OutOfRange, CorpusDamaged: as `flow`.
        """
        self._check(start, count, backward)
        out = np.empty((count, 2, self.height, self.width), np.uint8)
        for i, (jpegs, _) in enumerate(self._pairs(start, count, backward)):
            for channel, jpeg in enumerate(jpegs):
                out[i, channel] = codec.decode_codes(jpeg, (self.height, self.width))
        return out

    def rgb(self, index: int) -> npt.NDArray[np.uint8]:
        """Frame `index`: (H, W, 3) uint8.

        Raises:
            OutOfRange: there is no such frame, or the corpus has no RGB stream.
            CorpusDamaged: a checksum does not hold.
        """
        if not self._corpus.settings.rgb:
            raise OutOfRange(f"{self._corpus.path} was made without frames (--no-rgb)")
        if not 0 <= index < self.num_frames:
            raise OutOfRange(f"frame {index} of {self.id}; it has frames 0 to {self.num_frames - 1}")
        for task, row in self._parts:
            if index < row["num_frames"]:
                jpeg = self._image(task, int(row["rgb_first"]) + index)
                return codec.decode_rgb(jpeg, (self.height, self.width))
            index -= int(row["num_frames"])
        raise AssertionError("counts of the segments add up to num_frames")

    @property
    def times_seconds(self) -> npt.NDArray[np.float64]:
        """When each frame is shown, by the source's clock: (num_frames,); NaN where it has none."""
        parts = [
            self._corpus._shard(task).times[int(row["first_time"]) :][: int(row["num_frames"])]
            for task, row in self._parts
        ]
        return np.concatenate(parts)

    @property
    def mean_flow(self) -> npt.NDArray[np.float32]:
        """Mean u and v of each pair before quantisation: (num_pairs, 2), pixels."""
        return self._mean_flow(backward=False)

    @property
    def mean_flow_backward(self) -> npt.NDArray[np.float32]:
        """The same of the backward flow."""
        self._check_backward()
        return self._mean_flow(backward=True)

    @property
    def clipped(self) -> npt.NDArray[np.float32]:
        """Share of u and of v of each pair that lay outside the codes' range: (num_pairs, 2), 0 to 1."""
        return self._columns("clipped", backward=False)

    def _mean_flow(self, backward: bool) -> npt.NDArray[np.float32]:
        return self._columns("mean", backward)

    def _columns(self, what: str, backward: bool) -> npt.NDArray[np.float32]:
        parts = []
        for task, row in self._parts:
            shard = self._corpus._shard(task)
            table = shard.pairs_backward if backward else shard.pairs
            pairs = table[int(row["first_pair"]) :][: int(row["num_pairs"])]
            parts.append(np.stack([pairs[f"u_{what}"], pairs[f"v_{what}"]], axis=1))
        return np.concatenate(parts)

    def _pairs(self, start: int, count: int, backward: bool) -> Iterator[tuple[tuple[bytes, bytes], Any]]:
        """JPEGs of u and v, and the row of the pairs table, for each pair asked for."""
        prefix = "flow_back" if backward else "flow"
        for task, row in self._parts:
            here = min(count, int(row["num_pairs"]) - start)
            if here > 0:
                shard = self._corpus._shard(task)
                pairs = shard.pairs_backward if backward else shard.pairs
                for i in range(start, start + here):
                    u = self._image(task, int(row[f"{prefix}_u_first"]) + i)
                    v = self._image(task, int(row[f"{prefix}_v_first"]) + i)
                    yield (u, v), pairs[int(row["first_pair"]) + i]
                count -= here
            start = max(0, start - int(row["num_pairs"]))

    def _check(self, start: int, count: int, backward: bool) -> None:
        if not self._corpus.settings.flow:
            raise OutOfRange(f"{self._corpus.path} was made without flow (--no-flow)")
        if backward:
            self._check_backward()
        if start < 0 or count < 0 or start + count > self.num_pairs:
            raise OutOfRange(f"{count} pairs from {start} on of {self.id}; it has {self.num_pairs} pairs")

    def _check_backward(self) -> None:
        if not self._corpus.settings.backward:
            raise OutOfRange(f"{self._corpus.path} was made without backward flow; it needs --backward")

    def _image(self, task: str, index: int) -> bytes:
        try:
            return self._corpus._shard(task).image(index)
        except CorpusDamaged as exc:
            raise CorpusDamaged(f"{self.id}: {exc}") from exc


def _whole_videos(index: Index) -> dict[str, list[int]]:
    """Rows of each video of which every segment is there and none failed, by id, sorted.

    A video ends at its first segment that the next one does not follow at once: what comes behind is empty,
    or lies behind a damage.
    """
    parts: dict[str, list[int]] = {}
    for row, video_id in enumerate(index.rows["id"]):
        parts.setdefault(_text(video_id), []).append(row)
    segment, segments = index.rows["segment"], index.rows["segments"]
    first, frames = index.rows["first_frame"], index.rows["num_frames"]
    whole: dict[str, list[int]] = {}
    for video_id in sorted(parts):
        rows = sorted(parts[video_id], key=lambda r: int(segment[r]))
        if len(rows) == segments[rows[0]] and video_id not in index.failures:
            ends = (k for k, (a, b) in enumerate(pairwise(rows), 1) if first[a] + frames[a] != first[b])
            whole[video_id] = rows[: next(ends, None)]
    return whole


def _text(value: bytes) -> str:
    return value.decode("utf-8")
