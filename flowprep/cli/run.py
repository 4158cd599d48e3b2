"""Carrying out the tasks of a plan: where and how, with a bar; and the commands for a plan that is there."""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from flowprep.cli.options import corpus_argument, json_option
from flowprep.cli.output import EXIT_FAULT, EXIT_SOME_FAILED, Fault, counts_line, print_failures, sizes_line
from flowprep.system.progress import progress_bar

if TYPE_CHECKING:
    from flowprep.corpus.plan import Plan, Task
    from flowprep.corpus.store import CorpusStore

F = TypeVar("F", bound=Callable[..., Any])

# Names of the options of `how_to_run`.
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


def how_to_run(command: F) -> F:
    """The options that change where and how tasks run, and nothing of what is stored."""
    options = [
        click.option("--jobs", type=click.IntRange(1), help="Worker processes.  [default: all cores]"),
        click.option(
            "--devices", metavar="LIST", help="GPUs for --engine cuda, such as 0,1.  [default: all]"
        ),
        click.option(
            "--executor",
            type=click.Choice(["local", "dask"]),
            default="local",
            show_default=True,
            help="Where tasks run: in processes of this machine, or on a Dask cluster, which one of the next"
            " three names.",
        ),
        click.option("--scheduler", metavar="ADDRESS", help="Dask: the cluster of this scheduler."),
        click.option(
            "--local-cluster", type=click.IntRange(1), metavar="N", help="Dask: N processes of this machine."
        ),
        click.option(
            "--slurm",
            type=click.IntRange(1),
            metavar="N",
            help="Dask: N Slurm jobs, as Dask's configuration (jobqueue.slurm) describes them.",
        ),
        click.option(
            "--timeout-per-video",
            type=click.FloatRange(0, min_open=True),
            metavar="SECONDS",
            help="A video that takes longer fails.",
        ),
        click.option(
            "--scratch",
            type=click.Path(exists=True, file_okay=False, writable=True, path_type=Path),
            help="Build shards in this folder, on a disk near by, and move them into place.",
        ),
        click.option(
            "--metrics",
            type=click.Path(dir_okay=False, path_type=Path),
            help="Keep this file up to date: pairs, bytes, failures, seconds, as Prometheus reads them.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


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
    """Run tasks with the options of `how_to_run`, a progress bar, and a line for each fault."""
    from flowprep.api import chosen_executor, default_jobs, extract_tasks
    from flowprep.extraction.task import TaskOptions

    began = time.perf_counter()
    counts = [0, 0, 0]
    expected = sum(t.estimate for t in tasks)
    try:
        with (
            chosen_executor(**where, gpu=plan.settings.engine == "cuda") as cluster,
            progress_bar("pairs", hidden=not tasks) as bar,
        ):
            if cluster:
                click.echo(f"Dask dashboard: {cluster.dashboard}", err=True)

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
        raise Fault(
            f"stopped by {exc}; {store.path} keeps what is done, and the same command resumes"
        ) from None
    for task, fault in faults.items():
        click.echo(f"Error: task {task}: {fault}", err=True)
    return Ran(faults, counts[0], counts[1], counts[2], time.perf_counter() - began)


def report_corpus(store: CorpusStore, plan: Plan, ran: Ran, as_json: bool, **more: Any) -> None:
    """Print where a corpus stands after a run, and exit by it."""
    from flowprep.planning.status import corpus_status

    summary = corpus_status(plan, store.load_index()).to_dict()
    run = ran.facts()
    if as_json:
        facts = {"corpus": str(store.path), **summary, **more, "faults": ran.faults, "run": run}
        click.echo(json.dumps(facts))
    else:
        print_failures(summary)
        click.echo(
            f"{counts_line(summary)};"
            f" {ran.pairs:.0f} pairs computed in {ran.seconds:.1f} s, {run['pairs_per_second']} a second"
        )
        click.echo(sizes_line(summary["totals"]))
    if ran.faults or summary["videos"]["pending"]:
        sys.exit(EXIT_FAULT)
    if summary["videos"]["failed"]:
        sys.exit(EXIT_SOME_FAILED)


@click.command("run-task")
@corpus_argument
@click.argument("tasks", metavar="[TASK]...", nargs=-1)
@click.option("--array", is_flag=True, help="All pending tasks, in an order of this process's own.")
@how_to_run
@json_option
def run_task(corpus: Path, tasks: tuple[str, ...], array: bool, as_json: bool, **how: Any) -> None:
    """Run tasks of a planned corpus: those named, or with --array what is pending, for job arrays.

    Any number of these, and of `extract`, may run on one corpus: each task is claimed by one of them. Who has
    nothing left to claim waits for the others, and takes over from those that die; so each ends when all is
    done. The counts are of this process.
    """
    from flowprep.corpus.store import CorpusStore

    store = CorpusStore(corpus)
    plan = store.read_plan()
    known = {task.id: task for task in plan.tasks}
    if bool(tasks) == array:
        raise click.UsageError("name tasks, as they stand in plan.jsonl, or give --array")
    if unknown := [name for name in tasks if name not in known]:
        raise click.UsageError(f"no task {unknown[0]} in the plan of {corpus}; it has {len(known)}")
    pending = [t for t in store.pending_tasks(plan) if array or t.id in tasks]
    random.shuffle(pending)
    # Each of a thousand processes would read all records for the index; `verify`, behind them, does.
    ran = carry_out(store, plan, pending, index=False, **how)
    if as_json:
        videos = {"ok": ran.taken, "failed": ran.failed}
        facts = {"corpus": str(corpus), "videos": videos, "faults": ran.faults, "run": ran.facts()}
        click.echo(json.dumps(facts))
    else:
        click.echo(f"{ran.taken} videos in, {ran.failed} failed; {ran.pairs} pairs in {ran.seconds:.1f} s")
    if ran.faults:
        sys.exit(EXIT_FAULT)
    if ran.failed:
        sys.exit(EXIT_SOME_FAILED)


@click.command()
@corpus_argument
@click.option("--failed", is_flag=True, help="Also the videos that failed before, or are partial.")
@how_to_run
@json_option
def retry(corpus: Path, failed: bool, as_json: bool, **how: Any) -> None:
    """Carry out what is pending in a planned corpus, and with --failed what could not be taken whole.

    As `extract` does, but without its inputs: what the plan says counts. A file that has changed since then
    is taken as it is now.
    """
    from flowprep.corpus.store import CorpusStore

    store = CorpusStore(corpus)
    plan = store.read_plan()
    pending = store.pending_tasks(plan, store.load_index().not_whole if failed else ())
    report_corpus(store, plan, carry_out(store, plan, pending, **how), as_json)
