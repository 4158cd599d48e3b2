"""The videos of a list in a corpus, each with its class."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from flowprep.corpus.find import nearest_videos
from flowprep.errors import UsageError
from flowprep.planning.class_index import name_classes
from flowprep.planning.list_entries import ListEntry, join_names, read_list
from flowprep.planning.list_names import NameMatcher

if TYPE_CHECKING:
    from flowprep import Corpus

log = logging.getLogger(__name__)


def match_list(
    source: str,
    corpus: Corpus,
    index: Sequence[str] | None = None,
    *,
    allow_missing: bool = False,
    check_folders: bool = True,
) -> list[tuple[str, str]]:
    """The videos of a list that the corpus holds, as (id, class name).

    Args:
        source: as for flowprep.planning.list_entries.read_list.
        corpus: the corpus.
        index: class names in the order of classInd.txt; the class numbers of a list count them from 1.
        allow_missing: leave out videos that the corpus does not hold, with a warning.
        check_folders: refuse a class number that contradicts the video's folder, if the folder's name is a
            class too.

    Raises:
        UsageError: videos are missing, failed, or have no class; a class number contradicts the folder or is
            not in `index`; or no video of the list is in the corpus.
    """
    matcher = NameMatcher({*corpus.labels, *corpus.failures})
    entries = [replace(e, id=matcher.find(e.id) or e.id) for e in read_list(source, matcher)]
    present = set(match_names(source, [e.id for e in entries], corpus, allow_missing=allow_missing))
    entries = [entry for entry in entries if entry.id in present]
    labels = _class_names(source, entries, corpus, index, check_folders)
    _report_renamed(source, corpus, entries, labels)
    _check_numbers(
        source, [(e.index, name) for e, name in zip(entries, labels, strict=True) if e.index is not None]
    )
    return [(entry.id, label) for entry, label in zip(entries, labels, strict=True)]


def match_names(
    source: str, names: Sequence[str], corpus: Corpus, *, allow_missing: bool = False
) -> list[str]:
    """The ids of the videos that names stand for, as NameMatcher finds them.

    Args:
        source: the list that the names are from, for messages.
        names: the names.
        corpus: the corpus.
        allow_missing: leave out videos that the corpus does not hold, with a warning.

    Raises:
        UsageError: a video is named twice; videos are missing or failed, or all are.
    """
    matcher = NameMatcher({*corpus.labels, *corpus.failures})
    ids = [matcher.find(name) or name for name in names]
    if repeated := [name for name, count in Counter(ids).items() if count > 1]:
        raise UsageError(f"{source}: named more than once: {join_names(repeated)}")
    hint = _report_missing(source, corpus, ids, allow_missing=allow_missing)
    if not (present := [video for video in ids if video in corpus.labels]):
        raise UsageError(f"{source}: no video of the list is in the corpus{hint}")
    return present


def _report_missing(source: str, corpus: Corpus, ids: Sequence[str], *, allow_missing: bool) -> str:
    """Warn of videos that the corpus does not hold, or refuse them; gives a hint at the cause, or ""."""
    failures = corpus.failures
    missing = [video for video in ids if video not in corpus.labels]
    if not missing:
        return ""
    hint = _path_hint([video for video in missing if video not in failures], corpus)
    failed_first = sorted(missing, key=lambda video: video not in failures)
    names = [f"{i} (failed: {failures[i]})" if i in failures else i for i in failed_first]
    text = (
        f"{source}: {len(missing)} of {len(ids)} videos are not in the corpus {corpus.path}: "
        f"{join_names(names)}{hint}"
    )
    if not allow_missing:
        raise UsageError(f"{text}; --allow-missing leaves them out")
    log.warning("%s; left out", text)
    return hint


def _path_hint(missing: Sequence[str], corpus: Corpus) -> str:
    """Why the corpus may not hold the videos, to be appended to a message.

    The ids of a corpus are paths below the extracted folder. The paths of a list may have one folder more or
    less. Or the videos are not extracted yet.
    """
    by_name = {PurePosixPath(video).name: video for video in corpus.labels}
    for video in missing:
        similar = by_name.get(PurePosixPath(video).name)
        if similar and similar != video:
            return f" (the corpus calls a video of that name {similar})"
    if not missing:
        return ""
    near = nearest_videos(corpus.labels, missing[0])
    similar = f" (did you mean {' or '.join(near)}?)" if near else ""
    return f"{similar} (flowprep status tells whether any are still to be extracted)"


def _class_names(
    source: str,
    entries: Sequence[ListEntry],
    corpus: Corpus,
    index: Sequence[str] | None,
    check_folders: bool,
) -> list[str]:
    """The class of each video: that of the list, or else that of the corpus, or else that of its folder."""
    folders = [corpus.labels[entry.id] or PurePosixPath(entry.id).parent.name for entry in entries]
    listed = [entry.label or "" for entry in entries]
    if index is not None:
        rows = [entry.row for entry in entries]
        listed = name_classes(source, rows, index, folders if check_folders else None)
    labels = [label or folder for label, folder in zip(listed, folders, strict=True)]
    for entry, label in zip(entries, labels, strict=True):
        if not label:
            raise UsageError(f"{source}: {entry.id} has no class: neither in the list nor by its folder")
    return labels


def _report_renamed(source: str, corpus: Corpus, entries: Sequence[ListEntry], labels: Sequence[str]) -> None:
    """Warn if the classes of the list and of the corpus differ."""
    renamed = [
        (entry.id, label)
        for entry, label in zip(entries, labels, strict=True)
        if entry.label and corpus.labels[entry.id] not in ("", label)
    ]
    if renamed:
        video, label = renamed[0]
        log.warning(
            "%s: %d videos have another class than their folder in the corpus: %s is %r here, %r there",
            source,
            len(renamed),
            video,
            label,
            corpus.labels[video],
        )


def _check_numbers(source: str, numbered: Sequence[tuple[int, str]]) -> None:
    """Refuse a number that stands for two classes, or a class with two numbers.

    This finds errors without a classInd.txt, by the names of the folders.
    """
    for key, value in ((0, 1), (1, 0)):
        seen: dict[object, object] = {}
        for row in numbered:
            if seen.setdefault(row[key], row[value]) != row[value]:
                raise UsageError(
                    f"{source}: class {row[key]!r} stands for both {seen[row[key]]!r} and {row[value]!r}"
                )
