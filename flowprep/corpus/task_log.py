"""The log of a task: what was done, when, where, and with which result.

It is for people, and not part of the corpus. The holder of a task's lease appends lines to the task's file.
Each line is complete in itself, so that `sort logs/*` gives the history of the whole corpus. The lines of a
process that died stay. A line that cannot be written is left out.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

from flowprep.system.files import read_regular
from flowprep.system.processes import owner

log = logging.getLogger(__name__)

FIELDS = ("time", "task", "by", "what")  # of a line, with spaces between them


def append(path: Path, task: str, event: str) -> None:
    """Append a line to a log file, whose folder is created."""
    # An id or the text of an error may contain a line feed, or a terminal's control sequence.
    event = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in event)
    log.info("task %s: %s", task, event)
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    line = f"{now} {task} {owner()} {event}\n".encode(errors="backslashreplace")
    with suppress(OSError):
        path.parent.mkdir(exist_ok=True)
        # In a corpus of a stranger the file may be a link to one outside, or a pipe that nobody reads.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with open(os.open(path, flags, 0o666), "ab", buffering=0) as file:  # noqa: PTH123
            if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                file.write(line)  # one write: the lines of two processes do not mix


def read_merged(paths: Iterable[Path]) -> list[str]:
    """The lines of log files, in order of the time that their writers gave.

    Raises:
        FileNotFoundError: a file does not exist.
        FileUnsuitable: it is no regular file, or is very large.
    """
    texts = (read_regular(path).decode("utf-8", "replace") for path in paths)
    return sorted(line for text in texts for line in text.splitlines())
