"""The videos of a data set and their classes: those of a corpus, of a list, or of a mapping."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from flowprep.corpus.find import nearest_videos
from flowprep.corpus.reader import Corpus
from flowprep.errors import UsageError
from flowprep.planning.class_index import read_class_index
from flowprep.planning.list_entries import join_names
from flowprep.planning.list_matching import match_list, match_names
from flowprep.planning.list_names import NameMatcher

Labels = Mapping[str, str | int]


class LabelledVideos(NamedTuple):
    """The videos of a data set.

    Attributes:
        ids: their ids.
        labels: the number of the class of each; -1 for all if they have none.
        classes: the names of the classes.
    """

    ids: tuple[str, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]


class VideoTable(NamedTuple):
    """Numbers of frames and pairs, the stored size, and the first shard of videos: each (N,) int64."""

    frames: npt.NDArray[np.int64]
    pairs: npt.NDArray[np.int64]
    height: npt.NDArray[np.int64]
    width: npt.NDArray[np.int64]
    shard: npt.NDArray[np.int64]


def video_table(corpus: Corpus, ids: Sequence[str]) -> VideoTable:
    """Facts of videos from the index of the corpus: no shard is opened, and a million takes seconds."""
    index = corpus.index
    place = np.searchsorted(index.ids, np.array([video.encode() for video in ids], index.ids.dtype))
    first, count = index.whole[place].T
    frames, pairs = (_sums(index.rows[name], first, count) for name in ("num_frames", "num_pairs"))
    height, width = (index.rows[name][first].astype(np.int64) for name in ("height", "width"))
    return VideoTable(frames, pairs, height, width, index.row_task[first].astype(np.int64))


def _sums(
    column: npt.NDArray[Any], first: npt.NDArray[np.int64], count: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """The sums of `count` values of a column from `first` on."""
    total: npt.NDArray[np.int64] = np.concatenate([[0], np.cumsum(column, dtype=np.int64)])
    sums: npt.NDArray[np.int64] = total[first + count] - total[first]
    return sums


def choose_videos(
    corpus: Corpus,
    videos: str | Path | Sequence[str] | None,
    labels: Labels | None,
    classes: str | Path | Sequence[str] | None,
    *,
    allow_missing: bool,
) -> LabelledVideos:
    """The videos of a data set. The arguments are those of ClipSource.

    Raises:
        UsageError: videos are not in the corpus, have no class or an unknown one, or none is left.
    """
    names = read_class_index(Path(classes)) if isinstance(classes, str | Path) else classes
    chosen = _named_classes(corpus, videos, names, allow_missing=allow_missing)
    if labels is not None:
        numbers = [label for label in labels.values() if not isinstance(label, str)]
        if names is None and numbers:
            names = [str(number) for number in range(max(numbers) + 1)]
        chosen = _relabelled(corpus, chosen, labels, names or (), allow_missing=allow_missing)
    if not chosen:
        raise UsageError(f"the corpus {corpus.path} has no video")
    return _numbered(chosen, names)


def _named_classes(
    corpus: Corpus,
    videos: str | Path | Sequence[str] | None,
    classes: Sequence[str] | None,
    *,
    allow_missing: bool,
) -> dict[str, str]:
    """Id -> class name, or "", of the chosen videos."""
    if videos is None:
        return dict(corpus.labels)
    try:
        if isinstance(videos, str | Path):
            return dict(match_list(str(videos), corpus, classes, allow_missing=allow_missing))
        ids = match_names("videos", list(videos), corpus, allow_missing=allow_missing)
    except UsageError as exc:
        # Lists are read for commands, too. Here the option is an argument.
        raise type(exc)(str(exc).replace("--allow-missing", "allow_missing=True")) from exc
    return {video: corpus.labels[video] for video in ids}


def _relabelled(
    corpus: Corpus,
    chosen: Mapping[str, str],
    labels: Labels,
    classes: Sequence[str],
    *,
    allow_missing: bool,
) -> dict[str, str]:
    """The chosen videos with the classes of `labels`."""
    matcher = NameMatcher(corpus.labels)
    by_id = {matcher.find(name): label for name, label in labels.items()}
    unknown = [name for name in labels if name not in matcher] if None in by_id else []
    if unknown and not allow_missing:
        near = nearest_videos(corpus.labels, unknown[0])
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UsageError(
            f"labels has {len(unknown)} videos that the corpus {corpus.path} does not have:"
            f" {join_names(unknown)}{hint}; allow_missing=True leaves them out"
        )
    if lacking := [video for video in chosen if video not in by_id]:
        raise UsageError(f"labels has no class for {len(lacking)} videos: {join_names(lacking)}")
    named = {}
    for video in chosen:
        label = by_id[video]
        if not isinstance(label, str) and not 0 <= label < len(classes):
            raise UsageError(f"labels: {video} has class {label}; classes has 0 to {len(classes) - 1}")
        named[video] = label if isinstance(label, str) else classes[label]
    return named


def _numbered(chosen: Mapping[str, str], classes: Sequence[str] | None) -> LabelledVideos:
    """The videos with the numbers of their classes: in the order of `classes`, or else of the alphabet."""
    ids, named = tuple(chosen), list(chosen.values())
    if not any(named) and classes is None:
        return LabelledVideos(ids, (-1,) * len(ids), ())
    if without := [video for video, name in chosen.items() if not name]:
        raise UsageError(
            f"{len(without)} videos have no class: {join_names(without)}; give labels=, or videos="
        )
    present = sorted(set(named))
    order = tuple(present if classes is None else classes)
    numbers = {name: number for number, name in enumerate(order)}
    if len(numbers) < len(order):
        twice = next(name for name in order if order.count(name) > 1)
        raise UsageError(f"classes has {twice!r} twice")
    if unknown := [name for name in present if name not in numbers]:
        near = difflib.get_close_matches(unknown[0], order, 3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"classes are {join_names(order)}"
        raise UsageError(f"classes that videos have and classes= lacks: {join_names(unknown)}; {hint}")
    return LabelledVideos(ids, tuple(numbers[name] for name in named), order)
