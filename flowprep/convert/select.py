"""Selections of videos of a corpus: by label, by list or by pattern."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from flowprep.corpus.find import find_videos, nearest_videos
from flowprep.errors import UsageError
from flowprep.planning.list_names import NameMatcher, check_coverage, describe_missing
from flowprep.planning.video_lists import hmdb_part, is_list, path_exists, read_lists
from flowprep.system.paths import printable

log = logging.getLogger(__name__)


def select(
    labels: Mapping[str, str],
    wanted: Sequence[str],
    failures: Collection[str] = (),
    *,
    allow_missing: bool = False,
) -> dict[str, list[str]]:
    """The ids of each selection, sorted.

    Args:
        labels: id -> label of all videos.
        wanted: the selections. Each is a list, as `flowprep.planning.video_lists` describes it, or a name as
            for `find_videos`. Without any selection, all videos are selected.
        failures: ids that a list may name although they are not in the corpus.
        allow_missing: a list may name any number of videos that are not in the corpus.

    Returns:
        Each selection with its ids; {"all": ids} without any.

    Raises:
        UsageError: a selection has no video, or a list is wrong.
        ListMismatch: no video of a list is in the corpus, or less than half of them.
    """
    if not wanted:
        return {"all": sorted(labels)}
    ids_by_selection: dict[str, list[str]] = {}
    for selection in wanted:
        if is_list(selection) and (path_exists(Path(selection)) or hmdb_part(selection)):
            ids = _read_ids(selection, labels, failures, allow_missing=allow_missing)
        else:
            ids = find_videos(labels, selection)
        if not ids:
            near = " or ".join(nearest_videos(labels, selection))
            examples = ", ".join(sorted(set(labels.values()) - {""})[:8]) or "none"
            raise UsageError(
                f"--select {selection!r} names no video of the corpus; "
                + (f"did you mean {near}? Allowed: " if near else "allowed: ")
                + f"a .txt or .csv list of ids, a label ({examples}), a name of a file, or a pattern of ids"
                " such as 'Punch/*_g01_*'. `flowprep info CORPUS --list` prints all ids"
            )
        ids_by_selection[selection] = sorted(ids)
    return ids_by_selection


def _read_ids(
    source: str, labels: Mapping[str, str], failures: Collection[str], *, allow_missing: bool
) -> list[str]:
    """The ids in a list. Warns of videos that are not in the corpus."""
    matcher = NameMatcher({*labels, *failures})
    names = [row.path for row in read_lists(source, matcher.__contains__)]
    ids = {name: matcher.find(name) for name in names}
    missing = [printable(name) for name, video in ids.items() if video is None]
    place = "in the corpus"
    check_coverage(source, len(ids), missing, place, allowed=allow_missing)
    if missing:
        log.warning("%s; left out", describe_missing(source, len(ids), missing, place))
    return [video for video in dict.fromkeys(ids.values()) if video and video in labels]
