"""Where tasks run. An executor only decides where `extract.run_task` is called; what is done lies on disk."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowprep.corpus.files import remove_leftovers
from flowprep.corpus.format import PLAN, RECORDS, SHARDS
from flowprep.corpus.index import load_index, save_index
from flowprep.engines import resolve
from flowprep.executors.local import Progress, run_tasks
from flowprep.plan import Plan, Task, find_videos, make_plan, read_plan, summarise
from flowprep.settings import Settings


@dataclass(frozen=True)
class Result:
    """What an extraction came to.

    Attributes:
        summary: counts, sums and failures, as `flowprep status` shows them.
        faults: task -> what broke in it; such a task is still pending.
        skipped: files among the inputs that are no videos.
    """

    summary: dict[str, Any]
    faults: dict[str, str]
    skipped: int


def plan_corpus(inputs: Sequence[str | Path], out: str | Path, settings: Settings) -> tuple[Plan, int]:
    """Plan the videos of the inputs into the corpus `out`, and count the files passed over.

    An engine "auto" becomes the one that the corpus was planned with, or else the best one here.

    Raises:
        UsageError: an input is missing, holds no video, or the corpus has other settings.
    """
    out = Path(out)
    found, skipped = find_videos(inputs)
    if settings.engine == "auto" and (out / PLAN).exists():
        settings = dataclasses.replace(settings, engine=read_plan(out).settings.engine)
    settings = dataclasses.replace(settings, engine=resolve(settings.engine))
    return make_plan(out, found, settings), skipped


def extract_tasks(
    corpus: Path, plan: Plan, tasks: Sequence[Task], jobs: int, progress: Progress | None = None
) -> dict[str, str]:
    """Run tasks of a plan on this machine; returns the faults by task."""
    for folder in (corpus, corpus / SHARDS, corpus / RECORDS):
        remove_leftovers(folder)
    faults = run_tasks(corpus, tasks, plan.settings, jobs, progress)
    save_index(corpus)
    return faults


def make_corpus(
    inputs: Sequence[str | Path],
    out: str | Path,
    settings: Settings | None = None,
    *,
    jobs: int | None = None,
    retry_failed: bool = False,
) -> Result:
    """Extract videos into a corpus, as `flowprep extract` does; continues one that is unfinished.

    Args:
        inputs: video files, folders of videos or of numbered frames, and lists.
        out: folder of the corpus; made if it does not exist.
        settings: the defaults if None. An engine "auto" is resolved.
        jobs: worker processes; one per core if None. Has no influence on what is stored.
        retry_failed: try again the videos that could not be taken before.

    Raises:
        UsageError: the request is wrong; nothing was changed. Bad videos and faults raise nothing: they
            are in the result.
    """
    out = Path(out)
    plan, skipped = plan_corpus(inputs, out, settings or Settings(engine="auto"))
    failed = load_index(out).failures if retry_failed else ()
    faults = extract_tasks(out, plan, plan.pending(out, failed), jobs or default_jobs())
    return Result(summarise(plan, load_index(out)), faults, skipped)


def default_jobs() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
