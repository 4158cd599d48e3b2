"""One attempt of a task, in the process that runs it. Errors become values."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

from flowprep.corpus.store import CorpusStore
from flowprep.executors.base import DEATHS_BEFORE_QUARANTINE, Job, Outcome
from flowprep.executors.quarantine import find_poison_videos
from flowprep.extraction.task import TaskOptions, run_task
from flowprep.settings import Settings
from flowprep.system.opencv_threads import one_opencv_thread
from flowprep.system.signals import raise_if_stopped

log = logging.getLogger(__name__)


def attempt_task(
    store: CorpusStore, settings: Settings, options: TaskOptions, progress: Path | None, job: Job
) -> Outcome:
    """Run a task in this process, unless another process has it.

    Args:
        store: the corpus.
        settings: the settings of its plan.
        options: options of each task.
        progress: folder for a file with the number of pairs done so far; None for no file.
        job: the task.
    """
    task = job.task
    try:
        with one_opencv_thread(), store.lease(task.id, job.seen) as deaths:
            if deaths is None:
                return Outcome(task.id, None)
            options = dataclasses.replace(
                options,
                accept_changed=options.accept_changed or job.seen != 0,
                device=options.device if job.device is None else job.device,
            )
            if deaths >= DEATHS_BEFORE_QUARANTINE:
                refused = find_poison_videos(store, task, settings, options)
                options = dataclasses.replace(options, refused=refused)
            record = run_task(store, task, settings, options, progress and progress / task.id)
            return Outcome(task.id, record)
    except OSError as exc:
        raise_if_stopped(exc)
        if store.record_stamp(task.id) != job.seen:
            # This process was suspended. Another took over the task, and finished it.
            return Outcome(task.id, None)
        return Outcome(task.id, None, f"{exc} (while writing {store.shard_path(task.id)})", stop=True)
    except Exception as exc:
        raise_if_stopped(exc)
        log.debug("task %s", task.id, exc_info=True)  # workers do not show it: their fault is a text
        return Outcome(task.id, None, f"{type(exc).__name__}: {exc}")
