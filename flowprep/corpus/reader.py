"""Reading a corpus: a mapping from video id to video, with flow in pixels.

    corpus = flowprep.open_corpus("corpus")
    video = corpus["Punch/v_Punch_g01_c01.avi"]
    flow = video.flow(0, 10)          # (10, 2, H, W) float32, pixels

Images are read from memory-mapped shards, and each is compared with its checksum. A corpus can be pickled and
forked: each process maps the shards when it uses them first. Several threads may read one corpus.
"""

from __future__ import annotations

import resource
import sys
from bisect import bisect_left
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from flowprep.corpus import format as fmt
from flowprep.corpus.find import find_videos, unknown_video
from flowprep.corpus.index import Index
from flowprep.corpus.shard_reader import Shard
from flowprep.corpus.store import CorpusStore
from flowprep.corpus.video import QuantParams, Video, as_text, deprecated
from flowprep.errors import VideoMissing
from flowprep.settings import IMPORTED, Settings

# The number of shards that are mapped at a time. Each has a file descriptor, and a process often has only
# 1,024.
OPEN_SHARDS = min(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)


def open_corpus(path: str | Path) -> Corpus:
    """Open a corpus for reading.

    Args:
        path: its folder.

    Raises:
        NotACorpus: the folder is not a corpus.
        CorpusFormatError: it is a corpus of a newer format.
        CorpusDamaged: a record or a table does not match its checksum.
    """
    return Corpus(path)


class Corpus(Mapping[str, Video]):
    """A mapping from video id to Video. Iteration gives the ids, sorted.

    It contains the videos whose segments are all stored. Partial videos are among them, with `keep_partial`.

    Attributes:
        path: the folder.
        store: the files in the folder.
        index: the data of all records and video tables.
        settings: the settings of the corpus.
        failures: reason by id, for the videos that are not stored, or stored twice.
        partial: reason by id, for the videos of which only the frames before the damage are stored.
        warnings: warning by id, for stored videos.
    """

    def __init__(self, path: str | Path, max_open_shards: int = OPEN_SHARDS) -> None:
        """Open a corpus. Errors are those of `open_corpus`.

        Args:
            path: its folder.
            max_open_shards: the number of shards that stay open.
        """
        self.path = Path(path).absolute()
        self.store = CorpusStore(self.path)
        self.store.check_exists()
        self.index: Index = self.store.load_index()
        self.settings: Settings = self.store.read_settings(self.index)
        self.failures: dict[str, str] = self.index.not_stored
        self.partial: dict[str, str] = dict(self.index.partial)
        self.warnings: dict[str, str] = dict(self.index.warnings)
        self._max_open_shards = max_open_shards
        self._shards: OrderedDict[str, Shard] = OrderedDict()

    def __getitem__(self, video_id: str) -> Video:
        rows = self._rows_of(video_id)
        if not rows:
            raise VideoMissing(unknown_video(self, video_id, self.path, self.failures))
        index = self.index
        return Video(self, [(index.tasks[index.row_task[row]], index.rows[row]) for row in rows])

    def __contains__(self, video_id: object) -> bool:
        return bool(self._rows_of(video_id))

    def __iter__(self) -> Iterator[str]:
        return _texts(self.index.ids)

    def __len__(self) -> int:
        return len(self.index.whole)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Corpus) and self.path.resolve() == other.path.resolve()

    def __hash__(self) -> int:
        return hash(self.path.resolve())

    def __repr__(self) -> str:
        return f"<Corpus {str(self.path)!r}: {len(self)} videos, streams {', '.join(self.settings.streams)}>"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_shards": OrderedDict()}

    @cached_property
    def labels(self) -> dict[str, str]:
        """Label by id; "" for a video without one. No shard is opened."""
        # One string for all videos of a class.
        return {i: sys.intern(label) for i, label in zip(self, _texts(self.index.labels), strict=True)}

    def get(self, video_id: str, default: Any = None) -> Any:
        """The video of an id, or a default. Unlike `corpus[video_id]`, it searches for no similar id."""
        return self[video_id] if video_id in self else default  # noqa: SIM401

    def find(self, name: str) -> list[str]:
        """The ids that a name stands for: an id, a label, the name of a file, or a pattern of ids.

        Args:
            name: an id; or a label, for all videos of a class; or the last part of an id, with or without its
                suffix; or a pattern of ids with `*`, `?` and `[...]`.

        Raises:
            VideoMissing: it stands for no video. The message suggests the nearest ids, or has the reason if
                the video failed.
        """
        if ids := find_videos(self.labels, name):
            return ids
        raise VideoMissing(unknown_video(self, name, self.path, self.failures))

    def info(self) -> dict[str, Any]:
        """A description of the corpus in plain types: counts, sizes, settings, software versions."""
        totals, settings = self.index.totals, self.settings
        first = next(iter(self.values()), None)
        labels = Counter(self.labels.values())
        unknown = ("tvl1", "quality", "error_px") if settings.engine == IMPORTED else ()
        return {
            "path": str(self.path),
            "format": ".".join(map(str, fmt.VERSION)),
            "videos": len(self),
            "failed": len(self.failures),
            "frames": int(totals.get("frames", 0)),
            "pairs": int(totals.get("pairs", 0)),
            "streams": list(settings.streams),
            "labels": dict(sorted(labels.items())),
            "bytes": {name: int(n) for name, n in sorted(totals.items()) if name.endswith("_bytes")},
            **({"preset": settings.preset} if settings.preset else {}),
            "settings": {name: v for name, v in settings.to_dict().items() if name not in unknown},
            "software": first.software if first else {},
        }

    def facts(self) -> dict[str, Any]:
        """Deprecated: use `info`."""
        deprecated("Corpus.facts", "info")
        return self.info()

    def shard(self, task: str) -> Shard:
        """The shard of a task. The shards that were used last stay open.

        Several threads may call it: each step is one operation of the dictionary, and no lock is needed.
        """
        try:
            self._shards.move_to_end(task)
            return self._shards[task]
        except KeyError:  # it is not open, or another thread has just closed it
            shard = self._shards.setdefault(task, Shard(self.store.shard_path(task)))
        while len(self._shards) > self._max_open_shards:
            with suppress(KeyError):
                self._shards.popitem(last=False)
        return shard

    def _rows_of(self, video_id: object) -> range:
        """The rows of a video in the index; none if the corpus does not contain it."""
        if not isinstance(video_id, str):
            return range(0)
        index, key = self.index, video_id.encode()
        place = bisect_left(index.ids, key)
        if place == len(index.ids) or index.ids[place] != key:
            return range(0)
        first, count = index.whole[place].tolist()
        return range(first, first + count)


def _texts(column: npt.NDArray[np.bytes_]) -> Iterator[str]:
    """The texts of a column, in blocks: a list of a million would double the memory."""
    for start in range(0, len(column), 4096):
        yield from map(as_text, column[start : start + 4096].tolist())


if not TYPE_CHECKING:  # a type checker would accept every name

    def __getattr__(name: str) -> Any:
        """Old names, which work one version longer."""
        if name == "Coding":
            deprecated("flowprep.corpus.reader.Coding", "flowprep.corpus.video.QuantParams")
            return QuantParams
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
