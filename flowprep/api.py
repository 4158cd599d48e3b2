"""Where tasks run. An executor only decides where `extract.run_task` is called; what is done lies on disk."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowprep.corpus.plan import Plan, Task
from flowprep.corpus.store import CorpusStore
from flowprep.engines import gpu_fault, resolve
from flowprep.errors import EngineError, UsageError
from flowprep.executors.progress import Progress
from flowprep.executors.run import Executor, run_tasks
from flowprep.extraction.task import TaskOptions
from flowprep.planning.discover import discover_videos
from flowprep.planning.status import corpus_status
from flowprep.planning.tasks import make_plan
from flowprep.settings import MAX_SEGMENTS, Settings
from flowprep.system.progress import Progress as ReportProgress
from flowprep.system.progress import no_progress

if TYPE_CHECKING:
    from flowprep.executors.dask import Cluster


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


def plan_corpus(
    inputs: Sequence[str | Path],
    out: str | Path,
    settings: Settings,
    *,
    here: bool = False,
    progress: ReportProgress = no_progress,
    segments: int = MAX_SEGMENTS,
) -> tuple[Plan, int]:
    """Plan the videos of the inputs into the corpus `out`, as make_plan does; count the files passed over.

    An engine "auto" becomes the one that the corpus was planned with, or else the best one here.

    Raises:
        UsageError: an input is missing, holds no video, lies in `out`, or the corpus has other settings.
        EngineError: the engine does not work on this machine, and `here` says that it must.
    """
    out = Path(out)
    store = CorpusStore(out)
    discovery = discover_videos(inputs)
    folder = os.path.abspath(out) + os.sep
    if inside := [f.path for f in discovery.videos if f.path.startswith(folder)]:
        raise UsageError(
            f"{out} holds {inside[0]}, an input; use a folder of its own as --out: {out}/corpus, say"
        )
    if settings.engine == "auto" and store.has_plan():
        settings = dataclasses.replace(settings, engine=store.read_plan().settings.engine)
    settings = dataclasses.replace(settings, engine=resolve(settings.engine))
    if here and settings.flow and settings.engine == "cuda" and (fault := gpu_fault()):
        raise EngineError(fault)
    return make_plan(store, discovery.videos, settings, progress, segments), discovery.skipped


def extract_tasks(
    store: CorpusStore,
    plan: Plan,
    tasks: Sequence[Task],
    jobs: int,
    progress: Progress | None = None,
    *,
    options: TaskOptions | None = None,
    metrics: Path | None = None,
    executor: Executor | None = None,
    devices: str | None = None,
    index: bool = True,
) -> dict[str, str]:
    """Run tasks of a plan as `run_tasks` does, and bring the index up to date if `index` says so.

    Returns:
        The faults by task.
    """
    scratch = options.scratch if options else None
    store.tidy(scratch)
    store.drop_stale_index()
    faults = run_tasks(
        store,
        tasks,
        plan.settings,
        jobs,
        progress,
        options=options,
        metrics=metrics,
        executor=executor,
        devices=devices,
    )
    store.tidy(scratch)  # another run may have been killed meanwhile
    if index:
        store.save_index()
    return faults


@contextmanager
def chosen_executor(
    executor: str, scheduler: str | None, local_cluster: int | None, slurm: int | None, gpu: bool
) -> Iterator[Cluster | None]:
    """The Dask cluster that the options of a command name; None for this machine without one.

    Raises:
        UsageError: the options contradict each other, or there is no such cluster.
    """
    named = [name for name in (scheduler, local_cluster, slurm) if name]
    if len(named) != (executor == "dask"):
        raise UsageError(
            f"--executor {executor} and {len(named)} of --scheduler, --local-cluster and --slurm;"
            " allowed: --executor dask with one of them, or --executor local with none"
        )
    if executor == "local":
        yield None
        return
    from flowprep.executors.dask import connected

    with connected(scheduler, local_cluster, slurm, gpu) as cluster:
        yield cluster


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
        retry_failed: try again the videos that could not be taken, or not whole, before.

    Raises:
        UsageError: the request is wrong; nothing was changed. Bad videos and faults raise nothing: they
            are in the result.
    """
    store = CorpusStore(Path(out))
    plan, skipped = plan_corpus(inputs, out, settings or Settings(engine="auto"), here=True)
    again = store.load_index().not_whole if retry_failed else ()
    faults = extract_tasks(store, plan, store.pending_tasks(plan, again), jobs or default_jobs())
    return Result(corpus_status(plan, store.load_index()).to_dict(), faults, skipped)


def default_jobs() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
