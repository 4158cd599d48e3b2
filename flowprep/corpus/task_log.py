"""A log of each task: what was done, when, where, and what came of it.

It is for people, and no part of the corpus: who holds the lease of a task appends lines to its file, each
complete in itself, so that `sort logs/*` is what all of them did. Who dies leaves what it wrote until then;
a line that cannot be written is left out.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

from flowprep.corpus import format as fmt
from flowprep.system.processes import owner

log = logging.getLogger(__name__)

FIELDS = ("time", "task", "by", "what")  # of a line, with spaces between them


def note(corpus: Path, task: str, what: str) -> None:
    """Append a line to the log of a task."""
    # An id or an error's text may hold what would end the line, or move a terminal's cursor.
    what = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in what)
    log.info("task %s: %s", task, what)
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    line = f"{now} {task} {owner()} {what}\n".encode(errors="backslashreplace")
    path = fmt.log_path(corpus, task)
    with suppress(OSError):
        path.parent.mkdir(exist_ok=True)
        with path.open("ab", buffering=0) as file:  # one write: lines of two processes do not mix
            file.write(line)


def merged(corpus: Path, tasks: Iterable[str] = ()) -> list[str]:
    """The lines of some tasks' logs, of all if none is named, in order of the time of those who wrote them.

    Raises:
        FileNotFoundError: a task that is named has no log.
    """
    paths = [fmt.log_path(corpus, task) for task in tasks] or (corpus / fmt.LOGS).glob("*.log")
    return sorted(line for path in paths for line in path.read_text("utf-8", "replace").splitlines())
