"""The status of a corpus: how far its plan is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flowprep.corpus.index import Index
from flowprep.corpus.plan import Plan
from flowprep.planning.sources import SourceChanges


@dataclass(frozen=True)
class TaskCounts:
    """Numbers of tasks: planned, and done."""

    total: int
    done: int


@dataclass(frozen=True)
class VideoCounts:
    """Numbers of videos.

    Attributes:
        total: all planned videos.
        ok: those that are stored, whole or partially.
        partial: those of which only the frames before the damage are stored.
        failed: those that are not stored; the reasons are recorded.
        pending: those whose tasks are not done.
    """

    total: int
    ok: int
    partial: int
    failed: int
    pending: int


@dataclass(frozen=True)
class Remaining:
    """The work that is left.

    Attributes:
        pairs: the expected pairs of the tasks that are not done.
        workers: processes that work on tasks now.
        seconds: the time left, if each process is as fast as those of the finished tasks were; None if no
            process works or no task is finished.
    """

    pairs: int = 0
    workers: int = 0
    seconds: float | None = None


@dataclass(frozen=True)
class CorpusStatus:
    """How far a corpus is.

    Attributes:
        tasks: counts of tasks; None if the corpus has no plan.
        videos: counts of videos.
        totals: sums over all records, by name.
        failures: reason by id, for the planned videos that are not stored, or stored twice.
        partial: reason by id, for the planned videos that are stored partially.
        warnings: warning by id, for planned videos.
        sources: what happened to the files of planned videos.
        remaining: the work that is left.
    """

    tasks: TaskCounts | None
    videos: VideoCounts
    totals: Mapping[str, float] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)
    partial: Mapping[str, str] = field(default_factory=dict)
    warnings: Mapping[str, str] = field(default_factory=dict)
    sources: SourceChanges = field(default_factory=SourceChanges)
    remaining: Remaining = field(default_factory=Remaining)

    @property
    def complete(self) -> bool:
        """Whether every planned video is stored."""
        return self.videos.ok == self.videos.total

    def to_dict(self) -> dict[str, Any]:
        """The status in plain types, as `--json` prints it."""
        return {
            **({"tasks": dict(vars(self.tasks))} if self.tasks else {}),
            "videos": dict(vars(self.videos)),
            "totals": dict(self.totals),
            "failures": dict(self.failures),
            "partial": dict(self.partial),
            "warnings": dict(self.warnings),
            "sources": self.sources.to_dict(),
            **({"remaining": dict(vars(self.remaining))} if self.tasks else {}),
        }


def corpus_status(
    plan: Plan, index: Index, sources: SourceChanges | None = None, workers: int = 0
) -> CorpusStatus:
    """The status of a corpus.

    Args:
        plan: its plan.
        index: its index.
        sources: from `find_source_changes`; none by default.
        workers: the number of processes that work on its tasks.
    """
    done = set(index.tasks)
    pending_ids = {segment.id for task in plan.tasks if task.id not in done for segment in task.segments}
    planned = plan.video_ids()
    failures = _selected(index.not_stored, planned)
    pending = len(pending_ids - failures.keys())
    partial = _selected(index.partial, planned - failures.keys())
    return CorpusStatus(
        tasks=TaskCounts(len(plan.tasks), sum(task.id in done for task in plan.tasks)),
        videos=VideoCounts(
            total=len(planned),
            ok=len(planned) - len(failures) - pending,
            partial=len(partial),
            failed=len(failures),
            pending=pending,
        ),
        totals={name: round(value, 3) for name, value in sorted(index.totals.items())},
        failures=failures,
        partial=partial,
        warnings=_selected(index.warnings, planned),
        sources=sources or SourceChanges(),
        remaining=_remaining(plan, done, index.totals.get("total_seconds", 0), workers),
    )


def _remaining(plan: Plan, done: set[str], seconds: float, workers: int) -> Remaining:
    """The work that is left, at the rate of the tasks that are done.

    Args:
        plan: the plan.
        done: ids of the tasks that are done.
        seconds: the time that all of them took together.
        workers: the number of processes that work now.
    """
    # A task of unknown length counts, too. So do frames without flow.
    work = {task.id: max(1, task.estimate) for task in plan.tasks}
    finished = sum(pairs for task, pairs in work.items() if task in done)
    pairs = sum(work.values()) - finished
    known = workers and finished and seconds
    left = pairs * seconds / finished / workers if known and pairs else None
    return Remaining(pairs, workers, None if left is None else round(left, 1))


def _selected(texts: Mapping[str, str], ids: set[str]) -> dict[str, str]:
    return {video: text for video, text in sorted(texts.items()) if video in ids}
