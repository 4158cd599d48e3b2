"""Write a corpus from images that are encoded already."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial

from flowprep.corpus.plan import Plan, Segment
from flowprep.corpus.shard_writer import ShardWriter
from flowprep.corpus.store import CorpusStore
from flowprep.errors import UsageError
from flowprep.extraction.task import store_task
from flowprep.planning.status import CorpusStatus, corpus_status
from flowprep.system.progress import Progress

POLL_SECONDS = 1.0  # between two looks at tasks that another process has leased

# Adds the images of a segment to the writer of its shard. Returns a warning to record, or None. A VideoError
# that it raises is recorded as the reason of a failure.
SegmentWriter = Callable[[ShardWriter, Segment], str | None]


def write_corpus(
    store: CorpusStore,
    plan: Plan,
    write_segment: SegmentWriter,
    software: Mapping[str, Mapping[str, str]],
    progress: Progress,
    retry_failed: bool = False,
) -> CorpusStatus:
    """Run all pending tasks of a plan in this process. Tasks with a record are kept as they are.

    Several processes may call this at the same time. They share the tasks by leases, and each call returns
    when all tasks are done.

    Args:
        store: the corpus.
        plan: the plan of the corpus.
        write_segment: writes one segment.
        software: task -> names and versions of the software that made its images.
        progress: called after each task, with pairs.
        retry_failed: also run the tasks with a video that failed before or is partial.

    Raises:
        UsageError: the corpus has another plan, or the folder holds something else.
    """
    if store.has_plan():
        if {task.id for task in store.read_plan().tasks} != {task.id for task in plan.tasks}:
            raise UsageError(f"{store.path} is another corpus already: give another folder")
    elif store.path.is_dir() and any(store.path.iterdir()):
        raise UsageError(f"{store.path} is not empty and is not a corpus: give another folder")
    else:
        store.write_plan(plan)
    store.tidy()
    store.drop_stale_index()
    pending = store.pending_tasks(plan, store.load_index().incomplete if retry_failed else ())
    stamps = {task.id: store.record_stamp(task.id) for task in pending}
    pairs_done, pairs_to_do = 0, sum(task.estimate for task in pending)
    while pending:
        leased_by_others = []
        for task in pending:
            with store.lease(task.id, stamps[task.id]) as deaths:
                if deaths is not None:
                    shard = store.shard_path(task.id)
                    seconds: defaultdict[str, float] = defaultdict(float)
                    with ShardWriter(shard, plan.settings, dict(software[task.id])) as writer:
                        record = store_task(store, task, writer, partial(write_segment, writer), seconds)
                    pairs_done += int(record.totals["pairs"])
                    progress(pairs_done, pairs_to_do)
                elif store.record_stamp(task.id) == stamps[task.id]:
                    leased_by_others.append(task)
        if pending := leased_by_others:
            time.sleep(POLL_SECONDS)
    store.tidy()
    return corpus_status(plan, store.save_index())
