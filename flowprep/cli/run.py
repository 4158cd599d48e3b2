"""Commands that run the tasks of a plan: run-task, retry; and the end of every run."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flowprep.cli import usage
from flowprep.cli.command import Command, was_interrupted
from flowprep.cli.options import RENAMED_RETRY, corpus_argument, planned_engine_option, run_options
from flowprep.cli.output import (
    EXIT_FAULT,
    EXIT_SOME_FAILED,
    Stopped,
    counts_line,
    notice,
    print_failures,
    print_result,
    print_sources,
    show_progress,
    sizes_line,
)
from flowprep.errors import UsageError
from flowprep.system.progress import Progress
from flowprep.system.signals import stopped
from flowprep.system.units import count_noun

if TYPE_CHECKING:
    from flowprep.api import ExtractionResult
    from flowprep.executors.base import RunOptions


@contextmanager
def run_progress(corpus: Path) -> Iterator[Progress]:
    """Show the progress of a run. A signal that stops it becomes an error of the command."""
    try:
        with show_progress("pairs") as progress:
            yield progress
    except BaseException as exc:
        if not was_interrupted(exc):
            raise
        raise Stopped(
            f"stopped by {stopped() or exc}; {corpus} keeps the finished tasks, and the same command resumes"
        ) from None


def finish_extraction(result: ExtractionResult, values: Mapping[str, Any]) -> None:
    """Print the state of a corpus after a run, and exit with its code.

    Args:
        result: the result.
        values: the values for --json.
    """
    print_faults(result.faults)
    status, run = result.status, result.run

    def show() -> None:
        print_failures(status)
        pairs = count_noun(run.pairs, "pair")
        rate = f"{pairs} computed in {run.seconds:.1f} s, {run.pairs_per_second} a second"
        click.echo(f"{counts_line(status)}; {rate if run.pairs else 'no pair was to be computed'}")
        click.echo(sizes_line(status))
        print_sources(status)

    print_result(values, show)
    if not result.complete:
        sys.exit(EXIT_FAULT)
    if status.videos.failed:
        sys.exit(EXIT_SOME_FAILED)


def print_faults(faults: Mapping[str, str]) -> None:
    """Print a line for each task that ended with an error."""
    for task, fault in faults.items():
        click.echo(f"error: task {task}: {fault}", err=True)


@click.command("run-task", cls=Command)
@corpus_argument
@click.argument("tasks", metavar="[TASK]...", nargs=-1)
@click.option("--array", is_flag=True, help="Run all pending tasks, in random order.")
@planned_engine_option
@run_options
def run_task(corpus: Path, tasks: tuple[str, ...], array: bool, engine: str | None, run: RunOptions) -> None:
    """Run some tasks of a planned corpus, for job arrays. Name the tasks, or give --array for all.

    Several of these commands, and `extract`, can run on one corpus at the same time. Each task is leased by
    one process. A process with no task left waits for the others. If one of them dies, another process takes
    over its task. So each command ends when all tasks are done. Its output counts its own work only.
    """
    if bool(tasks) == array:
        raise click.UsageError("name tasks, as in plan.jsonl, or give --array, but not both")

    from flowprep.api import PlannedCorpus, run_plan

    planned = PlannedCorpus.read(corpus, engine)
    known = {task.id for task in planned.plan.tasks}
    if unknown := [name for name in tasks if name not in known]:
        near = usage.nearest(unknown[0], known)
        tasks_known = count_noun(len(known), "task")
        raise UsageError(f"no task {unknown[0]} in the plan of {corpus}, which has {tasks_known}{near}")
    pending = [task for task in planned.pending_tasks() if array or task.id in tasks]
    random.shuffle(pending)
    with run_progress(corpus) as progress:
        # The index stays as it is: each of a thousand processes would read all records for it.
        result = run_plan(planned, pending, run, progress=progress, announce=notice)
    print_faults(result.faults)
    print_result(
        {
            "corpus": str(corpus),
            "videos": {"ok": result.videos, "failed": result.failed},
            "faults": dict(result.faults),
            "run": result.to_dict(),
        },
        f"{count_noun(result.videos, 'video')} stored, {result.failed} failed;"
        f" {result.pairs} pairs in {result.seconds:.1f} s",
    )
    if result.faults:
        sys.exit(EXIT_FAULT)
    if result.failed:
        sys.exit(EXIT_SOME_FAILED)


@click.command(cls=Command, renamed=RENAMED_RETRY)
@corpus_argument
@click.option("--retry-failed", is_flag=True, help="Also try failed and partial videos again.")
@planned_engine_option
@run_options
def retry(corpus: Path, retry_failed: bool, engine: str | None, run: RunOptions) -> None:
    """Run the pending tasks of a planned corpus, as `extract` does. The plan has the inputs.

    With --retry-failed, a file that changed since it was planned is accepted. Without it, the video fails if
    the size of its file changed.
    """
    from flowprep.api import PlannedCorpus, extract_corpus

    planned = PlannedCorpus.read(corpus, engine)
    with run_progress(corpus) as progress:
        result = extract_corpus(planned, run, retry_failed=retry_failed, progress=progress)
    values = result.to_dict()
    del values["skipped_files"]  # nothing was searched
    finish_extraction(result, values)
