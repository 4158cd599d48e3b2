"""Carrying out the tasks of a plan: where and how, with a bar; and the commands for a plan that is there."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from flowprep.cli.command import Command
from flowprep.cli.options import RENAMED_RETRY, corpus_argument, run_options
from flowprep.cli.output import (
    EXIT_FAULT,
    EXIT_SOME_FAILED,
    CommandFailed,
    counts_line,
    notice,
    print_failures,
    print_result,
    show_progress,
    sizes_line,
)
from flowprep.system.units import count_noun

if TYPE_CHECKING:
    from flowprep.corpus.plan import Plan, Task
    from flowprep.corpus.store import CorpusStore


# Names of the options of `run_options`.
HOW = (
    "jobs",
    "devices",
    "executor",
    "scheduler",
    "local_cluster",
    "slurm",
    "timeout_per_video",
    "scratch",
    "metrics",
)


class Ran(NamedTuple):
    """What this process did.

    Attributes:
        faults: task -> what broke in it.
        pairs, taken, failed: numbers of pairs, and of videos.
        seconds: that it took.
    """

    faults: dict[str, str]
    pairs: int
    taken: int
    failed: int
    seconds: float

    def facts(self) -> dict[str, Any]:
        """As --json has them."""
        rate = round(self.pairs / self.seconds, 2)
        return {"pairs": self.pairs, "seconds": round(self.seconds, 3), "pairs_per_second": rate}


def carry_out(
    store: CorpusStore,
    plan: Plan,
    tasks: Sequence[Task],
    *,
    jobs: int | None,
    devices: str | None,
    timeout_per_video: float | None,
    scratch: Path | None,
    metrics: Path | None,
    index: bool = True,
    **where: Any,
) -> Ran:
    """Run tasks with the options of `run_options`, a progress bar, and a line for each fault."""
    from flowprep.api import chosen_executor, default_jobs, extract_tasks
    from flowprep.extraction.task import TaskOptions

    began = time.perf_counter()
    counts = [0, 0, 0]
    expected = sum(t.estimate for t in tasks)
    try:
        with (
            chosen_executor(**where, gpu=plan.settings.engine == "cuda") as cluster,
            show_progress("pairs", hidden=not tasks) as bar,
        ):
            if cluster:
                notice(f"Dask dashboard: {cluster.dashboard}")

            def show(pairs: int, taken: int, failed: int) -> None:
                counts[:] = pairs, taken, failed
                bar(pairs, expected, f"{taken} videos" + (f", {failed} failed" if failed else ""))

            faults = extract_tasks(
                store,
                plan,
                tasks,
                jobs or default_jobs(),
                show,
                options=TaskOptions(timeout_seconds=timeout_per_video or 0, scratch=scratch),
                metrics=metrics,
                executor=cluster and cluster.executor,
                devices=devices,
                index=index,
            )
    except KeyboardInterrupt as exc:
        message = f"stopped by {exc}; {store.path} keeps the finished tasks, and the same command resumes"
        raise CommandFailed(message) from None
    for task, fault in faults.items():
        click.echo(f"error: task {task}: {fault}", err=True)
    return Ran(faults, counts[0], counts[1], counts[2], time.perf_counter() - began)


def report_corpus(store: CorpusStore, plan: Plan, ran: Ran, **more: Any) -> None:
    """Print the state of a corpus after a run, and exit with its code."""
    from flowprep.planning.status import corpus_status

    summary = corpus_status(plan, store.load_index()).to_dict()
    run = ran.facts()

    def show() -> None:
        print_failures(summary)
        click.echo(
            f"{counts_line(summary)};"
            f" {ran.pairs:.0f} pairs computed in {ran.seconds:.1f} s, {run['pairs_per_second']} a second"
        )
        click.echo(sizes_line(summary["totals"]))

    print_result({"corpus": str(store.path), **summary, **more, "faults": ran.faults, "run": run}, show)
    if ran.faults or summary["videos"]["pending"]:
        sys.exit(EXIT_FAULT)
    if summary["videos"]["failed"]:
        sys.exit(EXIT_SOME_FAILED)


@click.command("run-task", cls=Command)
@corpus_argument
@click.argument("tasks", metavar="[TASK]...", nargs=-1)
@click.option("--array", is_flag=True, help="Run all pending tasks, in random order.")
@run_options
def run_task(corpus: Path, tasks: tuple[str, ...], array: bool, **how: Any) -> None:
    """Run tasks of a planned corpus: those named, or with --array all pending tasks, for job arrays.

    Any number of these commands, and of `extract`, can run on one corpus. Each task is leased by one of them.
    A process with no task left waits for the others. If one of them dies, another process takes over its
    task. So each command ends when all tasks are done. The printed counts are those of this process.
    """
    from flowprep.corpus.store import CorpusStore

    store = CorpusStore(corpus)
    plan = store.read_plan()
    planned = {task.id for task in plan.tasks}
    if bool(tasks) == array:
        raise click.UsageError("name tasks, as in plan.jsonl, or give --array")
    if unknown := [name for name in tasks if name not in planned]:
        raise click.UsageError(f"no task {unknown[0]} in the plan of {corpus}; it has {len(planned)} tasks")
    pending = [t for t in store.pending_tasks(plan) if array or t.id in tasks]
    random.shuffle(pending)
    # Each of a thousand processes would read all records for the index. `verify` or `index` makes it later.
    ran = carry_out(store, plan, pending, index=False, **how)
    videos = {"ok": ran.taken, "failed": ran.failed}
    print_result(
        {"corpus": str(corpus), "videos": videos, "faults": ran.faults, "run": ran.facts()},
        f"{count_noun(ran.taken, 'video')} stored, {ran.failed} failed;"
        f" {ran.pairs} pairs in {ran.seconds:.1f} s",
    )
    if ran.faults:
        sys.exit(EXIT_FAULT)
    if ran.failed:
        sys.exit(EXIT_SOME_FAILED)


@click.command(cls=Command, renamed=RENAMED_RETRY)
@corpus_argument
@click.option("--retry-failed", is_flag=True, help="Try videos again that failed or are partial.")
@run_options
def retry(corpus: Path, retry_failed: bool, **how: Any) -> None:
    """Run the pending tasks of a planned corpus.

    This is `extract` without inputs: only the plan counts. A file that changed since then is read as it is
    now.
    """
    from flowprep.corpus.store import CorpusStore

    store = CorpusStore(corpus)
    plan = store.read_plan()
    pending = store.pending_tasks(plan, store.load_index().not_whole if retry_failed else ())
    report_corpus(store, plan, carry_out(store, plan, pending, **how))
