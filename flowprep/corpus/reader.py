"""Reading a corpus: a mapping from video id to video, with flow in pixels.

    corpus = flowprep.open_corpus("corpus")
    video = corpus["Punch/v_Punch_g01_c01.avi"]
    flow = video.flow(0, 10)          # (10, 2, H, W) float32, pixels

Images are read from memory-mapped shards, each against its checksum. A corpus can be pickled and forked:
every process maps the shards for itself, on first use.
"""

from __future__ import annotations

import resource
import sys
from bisect import bisect_left
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from flowprep.codec import images, quantise
from flowprep.codec.quantise import EncodedField
from flowprep.corpus import format as fmt
from flowprep.corpus.index import Index
from flowprep.corpus.shard_reader import Shard
from flowprep.corpus.store import CorpusStore
from flowprep.errors import CorpusDamaged, CorpusFormatError, OutOfRange, VideoMissing
from flowprep.settings import IMPORTED, Settings

# Shards mapped at a time. Each holds a file descriptor, of which a process has often only 1,024.
OPEN_SHARDS = min(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)
_FIELD_COLUMNS = ("scale", "zero", "mean", "clipped")  # of the table of pairs, after u_ or v_


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
        failures: id -> reason, for the videos that could not be taken.
        partial: id -> reason, for the videos of which only the frames before a damage were taken.
        warnings: id -> what is wrong with a video that was taken all the same.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()
        if not self.path.is_dir():
            raise CorpusFormatError(f"{self.path} is not a corpus: no such folder")
        self.store = CorpusStore(self.path)
        self.index: Index = self.store.load_index()
        self.settings: Settings = self.store.read_settings(self.index)
        self.failures: dict[str, str] = dict(self.index.failures)
        self.partial: dict[str, str] = dict(self.index.partial)
        self.warnings: dict[str, str] = dict(self.index.warnings)
        self._shards: OrderedDict[str, Shard] = OrderedDict()

    def __getitem__(self, video_id: str) -> Video:
        rows = self._rows_of(video_id)
        if not rows:
            reason = self.failures.get(video_id)
            raise VideoMissing(
                f"{video_id!r} could not be taken: {reason}"
                if reason
                else f"no video {video_id!r} in {self.path}"
            )
        index = self.index
        return Video(self, [(index.tasks[index.row_task[r]], index.rows[r]) for r in rows])

    def __contains__(self, video_id: object) -> bool:
        return bool(self._rows_of(video_id))

    def __iter__(self) -> Iterator[str]:
        return _texts(self.index.ids)

    def __len__(self) -> int:
        return len(self.index.whole)

    @cached_property
    def labels(self) -> dict[str, str]:
        """id -> label, without opening any shard; "" where a video has none."""
        # One text for all videos of a class.
        return {i: sys.intern(label) for i, label in zip(self, _texts(self.index.labels), strict=True)}

    def _rows_of(self, video_id: object) -> range:
        """A video's rows of the index; none if it is not there."""
        if not isinstance(video_id, str):
            return range(0)
        index, key = self.index, video_id.encode()
        place = bisect_left(index.ids, key)
        if place == len(index.ids) or index.ids[place] != key:
            return range(0)
        first, count = index.whole[place].tolist()
        return range(first, first + count)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Corpus) and self.path.resolve() == other.path.resolve()

    def __hash__(self) -> int:
        return hash(self.path.resolve())

    def facts(self) -> dict[str, Any]:
        """What the corpus is, in plain types: counts, sizes, settings, versions of what made it."""
        first = next(iter(self.values()), None)
        shard = self._shard(first._parts[0][0]) if first else None
        labels = Counter(self.labels.values())
        unknown = ("tvl1", "quality", "error_px") if self.settings.engine == IMPORTED else ()
        return {
            "path": str(self.path),
            "format": ".".join(map(str, fmt.VERSION)),
            "videos": len(self),
            "failed": len(self.failures),
            "frames": int(self.index.totals.get("frames", 0)),
            "pairs": int(self.index.totals.get("pairs", 0)),
            "streams": list(self.settings.streams),
            "labels": dict(sorted(labels.items())),
            "bytes": {k: int(v) for k, v in sorted(self.index.totals.items()) if k.endswith("_bytes")},
            "settings": {k: v for k, v in self.settings.to_dict().items() if k not in unknown},
            "software": shard.software if shard else {},
        }

    def __repr__(self) -> str:
        return f"<Corpus {str(self.path)!r}: {len(self)} videos, streams {', '.join(self.settings.streams)}>"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_shards": OrderedDict()}

    def _shard(self, task: str) -> Shard:
        shard = self._shards.get(task)
        if shard is None:
            shard = self._shards[task] = Shard(self.store.shard_path(task))
            if len(self._shards) > OPEN_SHARDS:
                self._shards.popitem(last=False)
        else:
            self._shards.move_to_end(task)
        return shard


class Coding(NamedTuple):
    """What codes stand for: pixels = (code - zero) * scale. Each is (count, 2) float32, of u and of v.

    Attributes:
        scale: pixels per code.
        zero: the code that stands for no motion.
        mean: of the field before quantisation, pixels.
    """

    scale: npt.NDArray[np.float32]
    zero: npt.NDArray[np.float32]
    mean: npt.NDArray[np.float32]


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
        damage: what that damage is, or "".
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
        self.streams: tuple[str, ...] = corpus.settings.streams
        self.codec: str = corpus.settings.codec
        self.damage = corpus.partial.get(self.id, "unknown") if self.partial else ""

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
        if self._corpus.settings.stabilise:
            found = ~np.isnan(self._table(backward=False)["camera"]).any(axis=(1, 2))
            facts["stabilised_share"] = round(float(found.mean()), 6)
        facts["shards"] = [f"{task}.h5" for task, _ in self._parts]
        return facts

    def flow(
        self,
        start: int,
        count: int,
        backward: bool = False,
        window: tuple[int, int, int, int] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Flow of pairs start to start + count - 1: (count, 2, H, W) float32, pixels per pair.

        u (right) is channel 0, v (down) channel 1. Backward flow i goes from frame i + step to frame i. Of a
        `window`, (top, left, height, width), only that part: (count, 2, height, width), in less time.

        Raises:
            OutOfRange: the video does not have all of them.
            CorpusDamaged: a checksum does not hold.
        """
        self._check(start, count, backward)
        out = np.empty((count, 2, *self._window(window)[2:]), np.float32)
        scale, zero, _ = self.coding(start, count, backward)
        for place, codes in self._decoded(start, count, backward, window):
            quantise.to_pixels(codes, scale[place], zero[place], out[place])
        return out

    def codes(
        self,
        start: int,
        count: int,
        backward: bool = False,
        window: tuple[int, int, int, int] | None = None,
    ) -> npt.NDArray[np.uint8]:
        """The stored codes of the same pairs: (count, 2, H, W) uint8, or of a window; see `coding`.

        Raises:
            OutOfRange, CorpusDamaged: as `flow`.
        """
        self._check(start, count, backward)
        out = np.empty((count, 2, *self._window(window)[2:]), np.uint8)
        for place, codes in self._decoded(start, count, backward, window):
            out[place] = codes
        return out

    def coding(self, start: int, count: int, backward: bool = False) -> Coding:
        """What the codes of the same pairs stand for. Raises OutOfRange as `flow`."""
        self._check(start, count, backward)
        rows = self._table(backward, start, count)
        return Coding(*(np.stack([rows[f"u_{n}"], rows[f"v_{n}"]], axis=1) for n in Coding._fields))

    def rgb(self, index: int) -> npt.NDArray[np.uint8]:
        """Frame `index`: (H, W, 3) uint8.

        Raises:
            OutOfRange: there is no such frame, or the corpus has no RGB stream.
            CorpusDamaged: a checksum does not hold.
        """
        return images.decode_rgb(self.stored("rgb", index), (self.height, self.width))

    def stored(self, stream: str, index: int) -> bytes:
        """Image `index` of a stream, "rgb", "flow_u", ..., as it is stored.

        Raises:
            OutOfRange: there is no such image, or the corpus does not have the stream.
            CorpusDamaged: a checksum does not hold.
        """
        if stream not in self.streams:
            options = {"rgb": "frames (--no-rgb)", "flow_u": "flow (--no-flow)", "flow_v": "flow (--no-flow)"}
            missing = options.get(stream, f"{stream}: it has {', '.join(self.streams)}")
            raise OutOfRange(f"{self._corpus.path} was made without {missing}")
        count, what = (self.num_frames, "frame") if stream == "rgb" else (self.num_pairs, f"{stream} image")
        if not 0 <= index < count:
            raise OutOfRange(f"{what} {index} of {self.id}; it has {what}s 0 to {count - 1}")
        for task, row in self._parts:
            here = int(row[f"{stream}_count"])
            if index < here:
                return self._image(task, int(row[f"{stream}_first"]) + index)
            index -= here
        raise AssertionError("counts of the segments add up")

    def sizes(self, stream: str) -> npt.NDArray[np.uint32]:
        """Bytes of each image of a stream: (num_frames,) or (num_pairs,)."""
        parts = [
            self._corpus._shard(task).images["size"][int(row[f"{stream}_first"]) :][
                : int(row[f"{stream}_count"])
            ]
            for task, row in self._parts
        ]
        return np.concatenate(parts)

    def fields(
        self, start: int, count: int, backward: bool = False
    ) -> Iterator[tuple[EncodedField, EncodedField]]:
        """u and v of the same pairs as `flow`, encoded as they are stored. Raises as `flow`."""
        self._check(start, count, backward)
        rows = self._table(backward, start, count)
        for jpegs, pair in zip(self._jpegs(start, count, backward), rows, strict=True):
            u, v = (
                [float(pair[f"{c}_{what}"]) for what in ("scale", "zero", "mean", "clipped")] for c in "uv"
            )
            yield EncodedField(jpegs[0], *u), EncodedField(jpegs[1], *v)

    def camera(
        self, start: int, count: int, backward: bool = False
    ) -> Sequence[npt.NDArray[np.float32] | None]:
        """The camera's motion that was taken off the flow of the same pairs: each a homography (3, 3).

        NaN where none was found and the flow is as it was; None in a corpus made without `stabilise`.
        """
        self._check(start, count, backward)
        if not self._corpus.settings.stabilise:
            return [None] * count
        return list(self._table(backward, start, count)["camera"])

    @property
    def software(self) -> dict[str, str]:
        """Versions of what made it."""
        return self._corpus._shard(self._parts[0][0]).software

    @property
    def origin(self) -> dict[str, Any]:
        """What it was made from: source, source_bytes, source_width, source_height."""
        row = self._parts[0][1]
        sizes = {n: int(row[n]) for n in ("source_bytes", "source_width", "source_height")}
        return {"source": _text(row["source"]), **sizes}

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

    @property
    def scale(self) -> npt.NDArray[np.float32]:
        """Of u and of v of each pair: (num_pairs, 2); pixels = (code - zero) * scale."""
        return self._columns("scale", backward=False)

    @property
    def zero(self) -> npt.NDArray[np.float32]:
        """The code, of u and of v of each pair, that stands for no motion: (num_pairs, 2)."""
        return self._columns("zero", backward=False)

    def _mean_flow(self, backward: bool) -> npt.NDArray[np.float32]:
        return self._columns("mean", backward)

    def _columns(self, what: str, backward: bool) -> npt.NDArray[np.float32]:
        pairs = self._table(backward)
        return np.stack([pairs[f"u_{what}"], pairs[f"v_{what}"]], axis=1)

    def _table(self, backward: bool, start: int = 0, count: int | None = None) -> npt.NDArray[Any]:
        """The rows of its pairs, or of `count` of them from `start` on."""
        left = self.num_pairs if count is None else count
        parts = []
        for task, row in self._parts:
            shard = self._corpus._shard(task)
            table = shard.pairs_backward if backward else shard.pairs
            here = table[int(row["first_pair"]) :][: int(row["num_pairs"])][start : start + left]
            parts.append(here)
            left -= len(here)
            start = max(0, start - int(row["num_pairs"]))
        return np.concatenate(parts)

    def _jpegs(self, start: int, count: int, backward: bool) -> Iterator[tuple[bytes, bytes]]:
        """Those of u and of v, for each pair asked for."""
        prefix = "flow_back" if backward else "flow"
        for task, row in self._parts:
            pairs = int(row["num_pairs"])
            here = min(count, pairs - start)
            if here > 0:
                first_u, first_v = int(row[f"{prefix}_u_first"]), int(row[f"{prefix}_v_first"])
                for i in range(start, start + here):
                    yield self._image(task, first_u + i), self._image(task, first_v + i)
                count -= here
            start = max(0, start - pairs)

    def _decoded(
        self, start: int, count: int, backward: bool, window: tuple[int, int, int, int] | None
    ) -> Iterator[tuple[tuple[int, int], npt.NDArray[np.uint8]]]:
        """For u and v of each pair: its place (i, channel), its codes in the window."""
        top, left, height, width = self._window(window)
        shape = (self.height, self.width)
        for i, jpegs in enumerate(self._jpegs(start, count, backward)):
            for channel, jpeg in enumerate(jpegs):
                codes = images.decode_codes(jpeg, shape)
                yield (i, channel), codes[top : top + height, left : left + width]

    def _check(self, start: int, count: int, backward: bool) -> None:
        if not self._corpus.settings.flow:
            raise OutOfRange(f"{self._corpus.path} was made without flow (--no-flow)")
        if backward:
            self._check_backward()
        if start < 0 or count < 0 or start + count > self.num_pairs:
            raise OutOfRange(f"{count} pairs from {start} on of {self.id}; it has {self.num_pairs} pairs")

    def _window(self, window: tuple[int, int, int, int] | None) -> tuple[int, int, int, int]:
        top, left, height, width = window or (0, 0, self.height, self.width)
        if min(top, left, height, width) < 0 or top + height > self.height or left + width > self.width:
            raise OutOfRange(
                f"window {window} (top, left, height, width) of {self.id}; it is {self.height} pixels high"
                f" and {self.width} wide"
            )
        return top, left, height, width

    def _check_backward(self) -> None:
        if not self._corpus.settings.backward:
            raise OutOfRange(f"{self._corpus.path} was made without backward flow; it needs --backward")

    def _image(self, task: str, index: int) -> bytes:
        try:
            return self._corpus._shard(task).image(index)
        except CorpusDamaged as exc:
            raise CorpusDamaged(f"{self.id}: {exc}") from exc


def _texts(column: npt.NDArray[np.bytes_]) -> Iterator[str]:
    """Texts of a column, some at a time: a million at once would double what they take."""
    for start in range(0, len(column), 4096):
        yield from map(_text, column[start : start + 4096].tolist())


def _text(value: bytes) -> str:
    return value.decode("utf-8")
