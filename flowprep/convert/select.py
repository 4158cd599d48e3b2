"""Which videos of a corpus are meant: by class, by list or by pattern."""

from __future__ import annotations

import logging
from collections.abc import Container, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from flowprep.errors import UsageError

log = logging.getLogger(__name__)


def select(
    labels: Mapping[str, str], wanted: Sequence[str], failures: Container[str] = ()
) -> dict[str, list[str]]:
    """The ids that each of `wanted` names, sorted.

    Args:
        labels: id -> label of all there are.
        wanted: each a list file (.txt or .csv, a video's id first in each line), a label, or a pattern of
            ids with `*`, `?` and `[...]`. With none of them, all videos are meant.
        failures: ids that a list may name though they are not there.

    Returns:
        For each of `wanted` its ids; {"all": ids} where there is none.

    Raises:
        UsageError: one of them names no video.
    """
    if not wanted:
        return {"all": sorted(labels)}
    classes = set(labels.values()) - {""}
    chosen: dict[str, list[str]] = {}
    for what in wanted:
        path = Path(what)
        if path.suffix.lower() in (".txt", ".csv") and path.is_file():
            ids = _listed(path, labels, failures)
        elif what in classes:
            ids = [i for i, label in labels.items() if label == what]
        else:
            ids = [i for i in labels if fnmatchcase(i, what)]
        if not ids:
            some = ", ".join(sorted(classes)[:8]) or "none"
            raise UsageError(
                f"--select {what!r} names no video of the corpus; allowed: a .txt or .csv list of ids, a"
                f" label ({some}) or a pattern of ids such as 'Punch/*_g01_*' (see `flowprep info --list`)"
            )
        chosen[what] = sorted(ids)
    return chosen


def _listed(path: Path, labels: Mapping[str, str], failures: Container[str]) -> list[str]:
    separator = "," if path.suffix.lower() == ".csv" else None
    ids: dict[str, None] = {}
    missing: list[str] = []
    for line in map(str.strip, path.read_text("utf-8-sig").splitlines()):
        names = (line, line.rsplit(separator, 1)[0].strip() if line else "")  # an id may hold spaces itself
        found = next((n for n in names if n in labels), None)
        if found is not None:
            ids[found] = None
        elif line and not any(n in failures for n in names):
            missing.append(line)
    if missing:
        some = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        log.warning("%s: %d videos are not in the corpus and are left out: %s", path, len(missing), some)
    return list(ids)
