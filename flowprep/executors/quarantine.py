"""Finding the videos that kill a worker process, by a dry run of each in a process of its own."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

from flowprep.corpus.format import SHARDS
from flowprep.corpus.plan import Segment, Task
from flowprep.corpus.store import CorpusStore
from flowprep.executors.base import DEATHS_BEFORE_QUARANTINE
from flowprep.executors.worker import ONE_THREAD, end_with_parent
from flowprep.extraction.task import TaskOptions, dry_run
from flowprep.settings import Settings
from flowprep.system.atomic import remove_leftovers

log = logging.getLogger(__name__)

DRY_RUN = [sys.executable, "-c", "from flowprep.executors import quarantine; quarantine.dry_run_from_stdin()"]


def find_poison_videos(
    store: CorpusStore, task: Task, settings: Settings, options: TaskOptions
) -> dict[str, str]:
    """Try each video of a task in processes of its own.

    Returns:
        Video id -> reason, for each video that killed all of its processes.
    """
    log.warning(
        "task %s: its workers died %d times; trying its videos one by one", task.id, DEATHS_BEFORE_QUARANTINE
    )
    store.log(task.id, "trying its videos one by one")
    poison = {}
    for segment in task.segments:
        request = {
            "corpus": str(store.path),
            "task": task.id,
            "segment": dataclasses.asdict(segment),
            "settings": settings.to_dict(),
            "timeout_seconds": options.timeout_seconds,
            "scratch": options.scratch and str(options.scratch),
            "device": options.device,
        }
        if reason := _deadly_signal(json.dumps(request)):
            poison[segment.id] = f"killed its worker {DEATHS_BEFORE_QUARANTINE} times, {reason}"
        remove_leftovers(options.scratch or store.path / SHARDS)
    return poison


def _deadly_signal(request: str) -> str:
    """Return the name of the signal that ended all dry runs of a segment; "" if one run survived."""
    code = 0
    for _ in range(DEATHS_BEFORE_QUARANTINE):
        # A new interpreter, not a child of multiprocessing: some workers must not have those.
        # In a session of its own: it ends with this process, which handles the signals of a terminal.
        run = subprocess.run(
            DRY_RUN, input=request, text=True, env={**os.environ, **ONE_THREAD}, start_new_session=True
        )
        code = run.returncode
        if code >= 0:
            return ""
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def dry_run_from_stdin() -> None:
    """Extract the segment that standard input describes, and store nothing: main function of a dry run."""
    end_with_parent(os.getppid())
    request = json.load(sys.stdin)
    options = TaskOptions(
        timeout_seconds=request["timeout_seconds"],
        scratch=request["scratch"] and Path(request["scratch"]),
        accept_changed=True,
        device=request["device"],
    )
    dry_run(
        CorpusStore(Path(request["corpus"])),
        request["task"],
        Segment(**request["segment"]),
        Settings.from_dict(request["settings"]),
        options,
    )
