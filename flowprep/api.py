"""Making a corpus: plan, run, result. The command line and Python programs use the same functions."""

from __future__ import annotations

import dataclasses
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowprep.corpus import format as fmt
from flowprep.corpus.plan import Plan, Task
from flowprep.corpus.store import CorpusStore
from flowprep.engines import ENGINES, resolve
from flowprep.errors import UsageError
from flowprep.executors.base import DEFAULT_RUN, Executor, RunOptions, RunResult
from flowprep.executors.run import check_run, run_tasks
from flowprep.planning.discover import discover_videos
from flowprep.planning.sources import find_source_changes
from flowprep.planning.status import CorpusStatus, corpus_status
from flowprep.planning.tasks import make_plan
from flowprep.presets import Tvl1Settings, preset_name
from flowprep.settings import IMPORTED, MAX_SEGMENTS, Settings
from flowprep.system.paths import check_no_address
from flowprep.system.progress import Progress, no_progress
from flowprep.system.units import count_noun

if TYPE_CHECKING:
    from flowprep.executors.estimate import Estimate

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlannedCorpus:
    """A corpus with its plan.

    Attributes:
        store: the corpus.
        plan: its plan.
        skipped_files: number of input files that are not videos.
        skipped_links: number of links that were not followed.
        skipped_folders: folder -> why it, or the images in it, was not read.
        missing: the names of listed videos that do not exist.
    """

    store: CorpusStore
    plan: Plan
    skipped_files: int = 0
    skipped_links: int = 0
    skipped_folders: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    def skipped_to_dict(self) -> dict[str, Any]:
        """Return what was skipped in the inputs, for --json."""
        return {
            "skipped_files": self.skipped_files,
            "skipped_links": self.skipped_links,
            "skipped_folders": dict(self.skipped_folders),
        }

    @classmethod
    def read(cls, corpus: str | Path, engine: str | None = None) -> PlannedCorpus:
        """Open a corpus that has a plan.

        Args:
            corpus: its folder.
            engine: the engine of the plan, which must be named if it is not one of flowprep.

        Raises:
            NotACorpus: the folder is no corpus.
            CorpusFormatError: there is no plan, or this version cannot read it.
            UsageError: the plan has another engine than `engine`, or one outside flowprep that is not named.
        """
        store = CorpusStore(Path(corpus))
        plan = store.read_plan()
        _check_engine(store, plan.settings, engine)
        return cls(store, plan)

    def describe_skipped(self) -> str:
        """Return how many files and links of the inputs were skipped."""
        links = f" and {count_noun(self.skipped_links, 'link')}" if self.skipped_links else ""
        return f"{count_noun(self.skipped_files, 'other file')}{links} skipped"

    def pending_tasks(self, retry_failed: bool = False) -> list[Task]:
        """Return the tasks that are not done; also tasks with failed or partial videos, if `retry_failed`."""
        retry = self.store.load_index().incomplete if retry_failed else ()
        return self.store.pending_tasks(self.plan, retry)

    def to_dict(self) -> dict[str, Any]:
        """Return the values for --json."""
        return {
            "corpus": str(self.store.path),
            "videos": len(self.plan.video_ids()),
            "tasks": len(self.plan.tasks),
            "pending_tasks": len(self.pending_tasks()),
            "pairs": sum(task.estimate for task in self.plan.tasks),
            **self.skipped_to_dict(),
            "preset": self.plan.settings.preset,
            "settings": self.plan.settings.to_dict(),
        }


@dataclass(frozen=True)
class ExtractionResult:
    """The state of a corpus after an extraction, and the work of the extraction.

    Attributes:
        path: the folder of the corpus.
        status: counts, sums and failures of the whole corpus, as `flowprep status` prints them.
        run: the work of this process and its workers.
        skipped_files: number of input files that are not videos.
    """

    path: Path
    status: CorpusStatus
    run: RunResult
    skipped_files: int = 0

    @property
    def faults(self) -> dict[str, str]:
        """Task -> the error that ended it. Such a task is still pending."""
        return dict(self.run.faults)

    @property
    def summary(self) -> dict[str, Any]:
        """The old form of `status`."""
        warnings.warn("summary is deprecated: use status", DeprecationWarning, stacklevel=2)
        return self.status.to_dict()

    @property
    def skipped(self) -> int:
        """The old name of `skipped_files`."""
        warnings.warn("skipped is deprecated: use skipped_files", DeprecationWarning, stacklevel=2)
        return self.skipped_files

    @property
    def complete(self) -> bool:
        """Whether every task is done. Videos may still have failed: see `status.failures`."""
        return not self.run.faults and not self.status.videos.pending

    def to_dict(self) -> dict[str, Any]:
        """Return the values for --json."""
        return {
            "corpus": str(self.path),
            **self.status.to_dict(),
            "skipped_files": self.skipped_files,
            "faults": self.faults,
            "run": self.run.to_dict(),
        }


def plan_corpus(
    inputs: Sequence[str | Path],
    out: str | Path,
    settings: Settings | None = None,
    *,
    stored_preset: bool = False,
    segments: int = MAX_SEGMENTS,
    list_root: Path | None = None,
    allow_missing: bool = False,
    add_copies: bool = False,
    run: RunOptions | None = None,
    progress: Progress = no_progress,
) -> PlannedCorpus:
    """Find videos, and write the plan of a corpus. An existing plan is extended.

    Args:
        inputs: video files, folders of videos or of numbered frames, and lists.
        out: folder of the corpus; it is created.
        settings: default settings if None. Engine "auto" becomes the engine of an existing plan, or else the
            fastest one of this machine.
        stored_preset: use the parameters of TV-L1 of an existing plan in place of those of `settings`, with a
            warning if they differ. Always so if `settings` is None.
        segments: maximum number of tasks for one long video.
        list_root: the folder that relative paths in lists begin at; the folder of each list if None.
        allow_missing: leave out videos of a list that do not exist, with a warning. Without it, such videos
            fail, and a list is refused if less than half of its videos exist.
        add_copies: also plan files that are copies of planned videos. Without it, they are left out, with a
            warning.
        run: the run that follows. If it would be refused, no plan is written.
        progress: called with the videos read and to read.

    Raises:
        UsageError: an input is missing, has no video, or is inside `out`; or the corpus has other settings.
        ListMismatch: of a list, no video exists, or less than half of the videos.
        EngineError, FileNotFoundError: `run` is refused, as `check_run` says.
    """
    check_no_address("", str(out))
    store = CorpusStore(Path(out))
    stored_preset = stored_preset or settings is None
    settings = settings or Settings(engine="auto")
    discovery = discover_videos(inputs, list_root, allow_missing=allow_missing)
    folder = os.path.abspath(out) + os.sep
    if inside := [video.path for video in discovery.videos if video.path.startswith(folder)]:
        raise UsageError(
            f"{out} holds {inside[0]}, an input; use a folder of its own as --out, such as {out}/corpus"
        )
    engine, tvl1 = settings.engine, settings.tvl1
    if store.has_plan() and (engine == "auto" or stored_preset):
        stored = store.read_plan().settings
        if engine == "auto":
            _check_engine(store, stored, None)
            engine = stored.engine
        if stored_preset and (engine == stored.engine or engine != "opencv"):
            tvl1 = _stored_preset(store, stored, tvl1)
    settings = dataclasses.replace(settings, engine=resolve(engine), tvl1=tvl1)
    if run:
        check_run(run, settings)
    plan = make_plan(store, discovery.videos, settings, progress, segments, add_copies=add_copies)
    return PlannedCorpus(
        store,
        plan,
        discovery.skipped,
        discovery.links,
        discovery.passed_over,
        tuple(discovery.missing),
    )


def _stored_preset(store: CorpusStore, stored: Settings, requested: Tvl1Settings) -> Tvl1Settings:
    """The parameters of TV-L1 of a corpus; warns if they are not the requested ones."""
    if stored.preset and stored.tvl1 != requested:
        log.warning(
            "%s was made with preset %s, which is used again instead of %s",
            store.path,
            stored.preset,
            preset_name(requested),
        )
    return stored.tvl1


def _check_engine(store: CorpusStore, stored: Settings, named: str | None) -> None:
    """Refuse to run code that only the plan of a corpus names. The corpus may be from a stranger.

    Args:
        store: the corpus.
        stored: the settings of its plan.
        named: the engine that the user names; None for none.

    Raises:
        UsageError: the engine is not one of flowprep, and the user does not name it, or names another one.
    """
    engine = stored.engine
    if named is not None and named != engine:
        raise UsageError(f"--engine is {named}, and the plan of {store.path} has {engine}: leave it out")
    if named is None and stored.flow and engine not in (*ENGINES, IMPORTED):
        raise UsageError(
            f"the plan of {store.path} has the engine {engine!a}, which is none of flowprep: it would"
            f" run code of that module. If you trust it, name it: --engine {engine!a}"
        )


def estimate_run(
    planned: PlannedCorpus, options: RunOptions = DEFAULT_RUN, *, retry_failed: bool = False
) -> Estimate | None:
    """Measure a few frames of the pending videos: what would a run on this machine need?

    Args:
        planned: the corpus.
        options: of the run.
        retry_failed: as for `extract_corpus`.

    Returns:
        None for a short run, and where the videos cannot be measured within seconds.
    """
    from flowprep.executors.estimate import estimate_tasks

    return estimate_tasks(planned.pending_tasks(retry_failed), planned.plan.settings, options.jobs)


def extract_corpus(
    planned: PlannedCorpus,
    options: RunOptions = DEFAULT_RUN,
    *,
    retry_failed: bool = False,
    progress: Progress = no_progress,
    announce: Callable[[str], object] = log.info,
) -> ExtractionResult:
    """Run the pending tasks of a planned corpus. An unfinished extraction is continued.

    Args:
        planned: the corpus.
        options: where and how the tasks run.
        retry_failed: also run tasks with videos that failed or are partial.
        progress: called with the pairs done and to do.
        announce: called with lines about the start of the run.

    Raises:
        UsageError: the request is wrong. Bad videos and errors of tasks raise nothing; the result has them.
        ClusterError: the workers of a new cluster do not start, or all of them end.
        KeyboardInterrupt: SIGINT or SIGTERM; its name is the argument. The corpus keeps all finished tasks.
    """
    plan = planned.plan
    tasks = planned.pending_tasks(retry_failed)
    announce(
        f"{count_noun(len(plan.video_ids()), 'video')} in {count_noun(len(plan.tasks), 'task')},"
        f" {len(tasks)} to do; engine {plan.settings.solver};"
        f" {planned.describe_skipped()}"
    )
    result = run_plan(planned, tasks, options, progress=progress, announce=announce)
    index = planned.store.save_index()
    status = corpus_status(plan, index, find_source_changes(planned.store, plan))
    return ExtractionResult(planned.store.path, status, result, planned.skipped_files)


def run_plan(
    planned: PlannedCorpus,
    tasks: Sequence[Task],
    options: RunOptions = DEFAULT_RUN,
    *,
    progress: Progress = no_progress,
    announce: Callable[[str], object] = log.info,
) -> RunResult:
    """Run tasks of a plan, and leave the index file as it is: for the elements of a job array.

    Arguments and errors are those of `extract_corpus`.
    """
    began = time.perf_counter()
    store, settings = planned.store, planned.plan.settings
    store.tidy(options.scratch)
    store.drop_stale_index()
    with _open_executor(options, settings.engine == "cuda", store, announce) as executor:
        result = run_tasks(store, tasks, settings, options, progress, executor)
    store.tidy(options.scratch)  # another process may have been killed during this run
    return dataclasses.replace(result, seconds=time.perf_counter() - began)


@contextmanager
def _open_executor(
    options: RunOptions, gpu: bool, store: CorpusStore, announce: Callable[[str], object]
) -> Iterator[Executor | None]:
    """Connect to the cluster that the options name; yield None for this machine."""
    if options.executor == "local":
        yield None
        return
    from flowprep.executors.dask import connect_cluster

    with connect_cluster(options, store.path / fmt.LOGS, gpu) as executor:
        announce(f"Dask dashboard: {executor.dashboard}")
        yield executor


def make_corpus(
    inputs: Sequence[str | Path],
    out: str | Path,
    settings: Settings | None = None,
    *,
    jobs: int | None = None,
    retry_failed: bool = False,
    list_root: Path | None = None,
    allow_missing: bool = False,
    options: RunOptions | None = None,
    progress: Progress = no_progress,
) -> ExtractionResult:
    """Extract videos into a corpus, as `flowprep extract` does. An unfinished corpus is continued.

    Args:
        inputs: video files, folders of videos or of numbered frames, and lists.
        out: folder of the corpus; it is created.
        settings: default settings if None, with the parameters of TV-L1 of an existing plan. Engine "auto"
            becomes the engine of an existing plan, or else the fastest one of this machine.
        jobs: worker processes; one for each core if None. The stored data does not depend on it.
        retry_failed: also try videos again that failed or are partial.
        list_root: as for `plan_corpus`.
        allow_missing: as for `plan_corpus`.
        options: where and how the tasks run, in place of `jobs`.
        progress: called with the pairs done and to do.

    Raises:
        UsageError: the request is wrong; nothing was changed. Bad videos and errors of tasks raise nothing:
            they are in the result.
        EngineError: the engine is cuda, and no GPU works.
    """
    options = options or RunOptions(jobs=jobs)
    planned = plan_corpus(
        inputs,
        out,
        settings,
        list_root=list_root,
        allow_missing=allow_missing,
        run=options,
    )
    return extract_corpus(planned, options, retry_failed=retry_failed, progress=progress)
