"""A random-access source of clips of a corpus, as NumPy arrays."""

from __future__ import annotations

import difflib
import logging
import operator
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from flowprep.clips.draws import Draws
from flowprep.clips.layout import ClipLayout, View, as_pair, is_count
from flowprep.clips.read import CONTENTS, Shapes, pixel_shapes, read_pixels
from flowprep.clips.videos import Labels, choose_videos, video_table
from flowprep.corpus.reader import Corpus, open_corpus
from flowprep.corpus.selection import output
from flowprep.corpus.video import Video
from flowprep.errors import UsageError
from flowprep.system.buffers import BufferPool
from flowprep.validation import check, check_count

log = logging.getLogger(__name__)

_KEPT_VIDEOS = 4096  # some kilobytes each

Key = int | tuple[int, int]
Arrays = dict[str, Any]


class _Item(NamedTuple):
    """A clip that is to be read: its video and its number, its first frames, all frames, their part."""

    video: Video
    number: int
    starts: npt.NDArray[np.int64]
    positions: npt.NDArray[np.int64]
    view: View


class ClipSource:
    """Clips of a corpus by number: `source[i]` is a dictionary of arrays.

    It has `len`, can be pickled and forked, and is a `grain` RandomAccessDataSource. A clip has L frames, or
    the flow of L pairs, or both; pair k begins at frame k. Its entries, with C crops and S segments before
    them if there are several:

        flow         (L, 2, h, w) float32: u (right) and v (down) in pixels of the result, per pair
        codes        (L, 2, h, w) uint8, with scale and zero_point, (L, 2) float32 each:
                     flow = (codes - zero_point[..., None, None]) * scale[..., None, None]
        rgb          (L, h, w, 3) uint8
        label        number of the class in `classes`, int64; -1 if the videos have none
        id           id of the video
        start        first frame of the clip, int64; (S,) with segments
        times        (L,) or (S, L) float64: time of each frame in seconds, NaN if the source has none

    Args:
        corpus: a corpus or its folder.
        length: L.
        content: "flow", "codes", "rgb", or several of them.
        spacing: frames from one frame or pair of a clip to the next.
        stride: frames from the beginning of one clip to that of the next; 0 gives one clip a video.
        segments: S; the video is divided into S parts, and L frames or pairs are taken from each.
        resize: short side of the resized frames, pixels; or (least, greatest), for a random one between them.
        crop: side of the crop, or (height, width), pixels; None shows whole frames.
        crops: 1, 5 (the corners and the centre) or 10 (these, then the same mirrored).
        random: take a random beginning and a random crop; else those in the middle.
        mirror: mirror every second clip, at random. Flow to the right then becomes flow to the left.
        subtract_mean: subtract the mean of each displacement field over the whole frame.
        videos: a list of videos, as a file or as ids; None takes all. The forms of files are those of
            `flowprep extract` and `trainer train`; the classes of a file come first.
        labels: class of each video by id, a name or a number; None takes that of the list or of the corpus.
        classes: names of the classes in the order of their numbers, or a classInd.txt; None sorts the names.
        allow_missing: leave out videos of the list that the corpus does not have, with a warning; and such
            videos of `labels`.
        short: what becomes of a video that is shorter than a clip: "repeat" repeats its last frame or pair,
            "drop" leaves it out.
        seed: seed of all random choices. They depend on (seed, epoch, number of the clip) only.

    Attributes:
        corpus, layout, contents, seed: as the arguments.
        ids: the ids of the videos.
        labels: the number of the class of each video, (N,).
        classes: the names of the classes.
        num_short: the number of videos that are shorter than a clip.

    Raises:
        SettingsError: an argument has a value that is not allowed.
        UsageError: the corpus lacks the content; a frame is smaller than the crop; a list does not fit.
        NotACorpus, CorpusFormatError, CorpusDamaged: as `open_corpus`.
    """

    def __init__(
        self,
        corpus: str | Path | Corpus,
        length: int = 10,
        *,
        content: str | Sequence[str] = "flow",
        spacing: int = 1,
        stride: int = 0,
        segments: int = 0,
        resize: int | tuple[int, int] | None = None,
        crop: int | tuple[int, int] | None = None,
        crops: int = 1,
        random: bool = False,
        mirror: bool = False,
        subtract_mean: bool = False,
        videos: str | Path | Sequence[str] | None = None,
        labels: Labels | None = None,
        classes: str | Path | Sequence[str] | None = None,
        allow_missing: bool = False,
        short: str = "repeat",
        seed: int = 0,
    ) -> None:
        check(short in ("repeat", "drop"), "short", repr(short), '"repeat" or "drop"')
        check(is_count(seed, 0), "seed", repr(seed), "a whole number from 0")
        self.layout = ClipLayout(
            length, spacing, stride, segments, as_pair(resize), as_pair(crop), crops, random, mirror
        )
        self.corpus = corpus if isinstance(corpus, Corpus) else open_corpus(corpus)
        self.contents = _check_contents(self.corpus, content)
        self.seed, self.subtract_mean = seed, subtract_mean
        chosen = choose_videos(self.corpus, videos, labels, classes, allow_missing=allow_missing)
        self.classes = chosen.classes
        available = self._check_videos(chosen.ids)
        too_short = available < self.layout.reach
        self.num_short = int(too_short.sum())
        kept = np.flatnonzero((available > 0) & (~too_short if short == "drop" else True))
        if self.num_short:
            done = "their last one is repeated" if short == "repeat" else "left out"
            log.warning(
                "%d of %d videos have fewer than %d frames or pairs: %s",
                *(self.num_short, len(available), self.layout.reach, done),
            )
        if not len(kept):
            raise UsageError(f"no video of {self.corpus.path} is long enough: make length or spacing smaller")
        self.ids = tuple(chosen.ids[i] for i in kept)
        self.labels = np.array(chosen.labels, np.int64)[kept]
        self._available = available[kept]
        self._first = np.concatenate([[0], np.cumsum(self.layout.num_clips(self._available))])
        self._pool = BufferPool()
        self._videos: dict[int, Video] = {}

    def __len__(self) -> int:
        return int(self._first[-1])

    def __getitem__(self, key: Key) -> Arrays:
        """Clip i of epoch 0, or of epoch e with the key (e, i)."""
        return self.sample(*_item_and_epoch(key))

    def __iter__(self) -> Iterator[Arrays]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        values = [(field, getattr(self.layout, field.name)) for field in fields(ClipLayout)]
        options = [f"{f.name}={value}" for f, value in values if value != f.default or f.name == "length"]
        digest = zlib.crc32("\n".join(self.ids).encode("utf-8", "surrogatepass") + self.labels.tobytes())
        counts = f"{len(self.ids)} videos, {len(self)} clips of {' and '.join(self.contents)}"
        return f"<ClipSource {counts}, {', '.join(options)}, seed={self.seed}, videos {digest:08x}>"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pool": None, "_videos": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _pool=BufferPool(), _videos={})

    def sample(self, item: int, epoch: int | np.random.Generator = 0) -> Arrays:
        """Clip `item` with the random choices of an epoch.

        Args:
            item: the number of the clip.
            epoch: the number of the epoch; or a generator that makes the choices, as `grain` hands one on.

        Raises:
            IndexError: there is no such clip.
            CorpusDamaged: an image does not match its checksum.
        """
        plan = self._plan(item, epoch)
        arrays = {name: np.empty(shape, dtype) for name, (shape, dtype) in self._shapes(plan.view).items()}
        self._read(plan, arrays)
        return self._describe(plan) | arrays

    def batch(self, keys: Sequence[Key], out: Mapping[str, npt.NDArray[Any]] | None = None) -> Arrays:
        """Several clips, each entry with a first axis for the clips. `id` is a list.

        Args:
            keys: numbers of clips, or pairs (epoch, number); the epoch may be a generator, as in `sample`.
            out: arrays that receive the entries that `shapes` names. By default the memory of earlier
                batches that nobody refers to any more is used again.

        Raises:
            UsageError: frames have different sizes: give crop=; or `out` does not fit, or there is no key.
            IndexError, CorpusDamaged: as `sample`.
        """
        check(len(keys) > 0, "keys", repr(keys), "one clip or more")
        plans = [self._plan(*_item_and_epoch(key)) for key in keys]
        shapes = self._shapes(plans[0].view)
        if out is None:
            empty = self._pool.empty
            out = {name: empty((len(plans), *shape), dtype) for name, (shape, dtype) in shapes.items()}
        elif set(out) == set(shapes):
            for name, (shape, dtype) in shapes.items():
                output(out[name], (len(plans), *shape), dtype, f"out[{name!r}]")
        else:
            raise UsageError(f"out has the names {', '.join(out)}; allowed here: {', '.join(shapes)}")
        described = []
        for i, plan in enumerate(plans):
            if plan.view.size != plans[0].view.size:
                sizes = " and ".join(f"{p.video.id} is {p.view.size}" for p in (plans[0], plan))
                raise UsageError(
                    f"frames of a batch have different sizes, (height, width): {sizes}; give crop="
                )
            self._read(plan, {name: array[i] for name, array in out.items()})
            described.append(self._describe(plan))
        stacked = {name: [entry[name] for entry in described] for name in described[0]}
        return {name: v if name == "id" else np.stack(v) for name, v in stacked.items()} | dict(out)

    def shapes(self, item: int = 0) -> Shapes:
        """Shape and type of the pixels of a clip by name; those of every clip if crop= is given."""
        return self._shapes(self._plan(item, 0).view)

    def shards(self) -> npt.NDArray[np.int64]:
        """The number of the shard in which the video of each clip begins: (len(self),)."""
        return np.repeat(video_table(self.corpus, self.ids).shard, np.diff(self._first))

    def shard_path(self, shard: int) -> Path:
        """The file of a shard of that number."""
        return self.corpus.store.shard_path(self.corpus.index.tasks[shard])

    def _check_videos(self, ids: Sequence[str]) -> npt.NDArray[np.int64]:
        """The number of frames or pairs of each video. Refuses videos that are smaller than the crop."""
        table = video_table(self.corpus, ids)
        if crop := self.layout.crop:
            sizes = zip(table.height.tolist(), table.width.tolist(), strict=True)
            for video, stored in zip(ids, sizes, strict=True):
                height, width = self.layout.smallest(*stored)
                if crop[0] > height or crop[1] > width:
                    after, advice = ("", "set resize")
                    if self.layout.resize:
                        after, advice = (" after resize", "make resize larger")
                    shown = f"{width}x{height} pixels{after}"
                    raise UsageError(
                        f"crop is {crop[1]}x{crop[0]} and {video} is {shown}: make crop smaller, {advice},"
                        " or extract at a larger --size"
                    )
        if "rgb" not in self.contents:
            return table.pairs
        return table.frames if self.contents == ("rgb",) else np.minimum(table.frames, table.pairs)

    def _plan(self, item: int, epoch: int | np.random.Generator) -> _Item:
        """What is to be read for a clip."""
        item = operator.index(item)
        if not -len(self) <= item < len(self):
            raise IndexError(f"clip {item}; the source has {len(self)} clips")
        item %= len(self)
        number = int(np.searchsorted(self._first, item, "right")) - 1 if self.layout.stride else item
        draws = None
        if self.layout.random:
            draws = (
                Draws(int(epoch.integers(1 << 63)))
                if isinstance(epoch, np.random.Generator)
                else Draws(self.seed, check_count("epoch", operator.index(epoch)), item)
            )
        video = self._video(number)
        available = int(self._available[number])
        starts = self.layout.starts(available, item - int(self._first[number]), draws)
        positions = self.layout.positions(starts, available)
        return _Item(video, number, starts, positions, self.layout.view(video.height, video.width, draws))

    def _video(self, number: int) -> Video:
        """A video. Those that were used last are kept."""
        video = self._videos.get(number)
        if video is None:
            if len(self._videos) >= _KEPT_VIDEOS:
                self._videos.clear()
            video = self._videos[number] = self.corpus[self.ids[number]]
        return video

    def _shapes(self, view: View) -> Shapes:
        return pixel_shapes(self.contents, self.layout.lead, view.size)

    def _read(self, plan: _Item, out: Mapping[str, npt.NDArray[Any]]) -> None:
        layout, first, last = self.layout, int(plan.positions[0]), int(plan.positions[-1])
        is_run = layout.spacing == 1 and not layout.segments and last - first == layout.length - 1
        place = (first, layout.length) if is_run else (plan.positions, None)
        read_pixels(plan.video, place, plan.view, out, subtract_mean=self.subtract_mean)

    def _describe(self, plan: _Item) -> Arrays:
        """The entries of a clip that are not pixels."""
        layout = self.layout
        times = plan.video.times_seconds[plan.positions]
        return {
            "label": self.labels[plan.number],
            "id": plan.video.id,
            "start": plan.starts if layout.segments else plan.starts[0],
            "times": times.reshape(-1, layout.length) if layout.segments else times,
        }


def _item_and_epoch(key: Any) -> tuple[Any, Any]:
    """The number of a clip and the epoch: 0 if the key is the number alone."""
    if not isinstance(key, tuple):
        return key, 0
    check(len(key) == 2, "the key of a clip", repr(key), "its number, or (epoch, number)")
    return key[1], key[0]


def _check_contents(corpus: Corpus, content: str | Sequence[str]) -> tuple[str, ...]:
    """The contents of a clip, which the corpus has.

    Raises:
        SettingsError: a content is unknown, or named twice.
        UsageError: the corpus does not have it.
    """
    contents = (content,) if isinstance(content, str) else tuple(content)
    for name in contents:
        near = difflib.get_close_matches(str(name), CONTENTS, 1)
        hint = f"; did you mean {near[0]!r}?" if near and name not in CONTENTS else ""
        check(name in CONTENTS, "content", repr(name), f"{', '.join(CONTENTS)}, or several of them{hint}")
        part, option = ("RGB frames", "--no-rgb") if name == "rgb" else ("flow", "--no-flow")
        if not (corpus.settings.rgb if name == "rgb" else corpus.settings.flow):
            raise UsageError(
                f"content is {name!r}, and the corpus {corpus.path} was made without {part} ({option}); it"
                f" has {', '.join(corpus.settings.streams)}"
            )
    check(0 < len(contents) == len(set(contents)), "content", repr(content), "different names")
    return contents
