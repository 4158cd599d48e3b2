"""Selections of videos of a corpus: by label, by list or by pattern."""

from __future__ import annotations

import logging
from collections.abc import Container, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from flowprep.errors import UsageError
from flowprep.planning.video_lists import LIST_SUFFIXES, read_list_rows
from flowprep.system.units import count_noun

log = logging.getLogger(__name__)

_EXAMPLES = 3  # names in a warning


def select(
    labels: Mapping[str, str], wanted: Sequence[str], failures: Container[str] = ()
) -> dict[str, list[str]]:
    """The ids of each selection, sorted.

    Args:
        labels: id -> label of all videos.
        wanted: the selections. Each is a list file, a label, or a pattern of ids with `*`, `?` and `[...]`.
            A list file (.txt or .csv) has the id of a video first in each line. Without any selection, all
            videos are selected.
        failures: ids that a list may name although they are not in the corpus.

    Returns:
        Each selection with its ids; {"all": ids} without any.

    Raises:
        UsageError: a selection has no video.
    """
    if not wanted:
        return {"all": sorted(labels)}
    classes = set(labels.values()) - {""}
    ids_by_selection: dict[str, list[str]] = {}
    for selection in wanted:
        path = Path(selection)
        if path.suffix.lower() in LIST_SUFFIXES and path.is_file():
            ids = _read_ids(path, labels, failures)
        elif selection in classes:
            ids = [video_id for video_id, label in labels.items() if label == selection]
        else:
            ids = [video_id for video_id in labels if fnmatchcase(video_id, selection)]
        if not ids:
            examples = ", ".join(sorted(classes)[:8]) or "none"
            raise UsageError(
                f"--select {selection!r} names no video of the corpus; allowed: a .txt or .csv list of ids, a"
                f" label ({examples}) or a pattern of ids such as 'Punch/*_g01_*'. `flowprep info --list`"
                " prints all ids"
            )
        ids_by_selection[selection] = sorted(ids)
    return ids_by_selection


def _read_ids(path: Path, labels: Mapping[str, str], failures: Container[str]) -> list[str]:
    """The ids in a list. Warns of ids that are not in the corpus."""

    def is_id(line: str) -> bool:
        return line in labels or line in failures

    names = dict.fromkeys(row.path for row in read_list_rows(path, is_id))
    if missing := [name for name in names if not is_id(name)]:
        examples = ", ".join(missing[:_EXAMPLES]) + (", ..." if len(missing) > _EXAMPLES else "")
        count = count_noun(len(missing), "video")
        log.warning("%s: left out %s that the corpus does not hold: %s", path, count, examples)
    return [name for name in names if name in labels]
