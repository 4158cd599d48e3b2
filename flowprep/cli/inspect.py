"""Commands for a corpus that exists: status, verify, info, log, index."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flowprep.cli.command import Command
from flowprep.cli.options import corpus_argument
from flowprep.cli.output import (
    EXIT_FAULT,
    counts_line,
    print_failures,
    print_result,
    print_tree,
    sizes_line,
)
from flowprep.system.units import count_noun

if TYPE_CHECKING:
    from flowprep.corpus.verify import Report


@click.command(cls=Command)
@corpus_argument
def status(corpus: Path) -> None:
    """Print the progress of an extraction, and each failed video with its reason."""
    from flowprep.corpus.store import CorpusStore
    from flowprep.planning.status import corpus_status

    store = CorpusStore(corpus)
    result = corpus_status(store.read_plan(), store.load_index())

    def show() -> None:
        if tasks := result.tasks:
            click.echo(f"{tasks.done} of {count_noun(tasks.total, 'task')} done")
        click.echo(counts_line(result))
        click.echo(sizes_line(result))
        print_failures(result, limit=None)

    print_result({"corpus": str(corpus), **result.to_dict()}, show)


@click.command(cls=Command)
@corpus_argument
@click.option(
    "--jobs", type=click.IntRange(1), help="Shards to check at the same time.  [default: one for each core]"
)
@click.option(
    "--repair", is_flag=True, help="Move damaged shards to CORPUS/damaged. `retry` makes them again."
)
def verify(corpus: Path, jobs: int | None, repair: bool) -> None:
    """Check every checksum, image and count. The exit code is 1 if there is a problem."""
    from flowprep.corpus.store import CorpusStore
    from flowprep.corpus.verify import set_aside, verify_corpus
    from flowprep.system.processes import usable_cores

    store = CorpusStore(corpus)
    report = verify_corpus(store, jobs or usable_cores())
    aside = set_aside(store, report) if repair else []
    print_result({**report.to_dict(), "set_aside": aside}, lambda: _show_verification(corpus, report, aside))
    if report.problems:
        sys.exit(EXIT_FAULT)


def _show_verification(corpus: Path, report: Report, aside: list[str]) -> None:
    from flowprep.corpus.format import DAMAGED

    for problem in report.problems:
        click.echo(str(problem))
    problems = count_noun(len(report.problems), "problem") if report.problems else "no problems"
    click.echo(
        f"{count_noun(report.shards, 'shard')}, {count_noun(report.videos, 'video')},"
        f" {count_noun(report.images, 'image')} checked: {problems}"
    )
    if aside:
        click.echo(
            f"{count_noun(len(aside), 'damaged shard')} moved to {corpus / DAMAGED};"
            f" `flowprep retry {corpus}` makes them again"
        )


@click.command(cls=Command)
@corpus_argument
@click.argument("video", required=False)
@click.option("--list", "as_list", is_flag=True, help="Print id, label, frames and pairs of every video.")
def info(corpus: Path, video: str | None, as_list: bool) -> None:
    """Describe a corpus: counts, sizes, settings, software versions. Or describe one VIDEO, by its id."""
    from flowprep.corpus.reader import open_corpus

    opened = open_corpus(corpus)
    if as_list:
        rows = [
            {"id": v.id, "label": v.label, "frames": v.num_frames, "pairs": v.num_pairs}
            for v in opened.values()
        ]
        print_result(rows, "\n".join("\t".join(map(str, row.values())) for row in rows))
        return
    values = opened[video].info() if video else opened.info()
    print_result(values, lambda: print_tree(values))


@click.command(cls=Command)
@corpus_argument
@click.argument("tasks", metavar="[TASK]...", nargs=-1)
def log(corpus: Path, tasks: tuple[str, ...]) -> None:
    """Print the log of CORPUS, or of the named TASKs only: time, task, process and event."""
    from flowprep.corpus.store import CorpusStore
    from flowprep.corpus.task_log import FIELDS

    lines = CorpusStore(corpus).read_logs(tasks)

    def show() -> None:
        if lines:
            click.echo("\n".join(lines))
        else:
            click.echo(f"{corpus} has no logs: no task ran in it, or the logs were deleted", err=True)

    print_result([dict(zip(FIELDS, line.split(" ", 3), strict=False)) for line in lines], show)


@click.command(cls=Command)
@corpus_argument
def index(corpus: Path) -> None:
    """Rebuild the index of CORPUS from its shards and records."""
    from flowprep.corpus.store import CorpusStore

    built = CorpusStore(corpus).rebuild_index()
    counts = {"corpus": str(corpus), "tasks": len(built.tasks), "segments": len(built.rows)}
    tasks, segments = count_noun(len(built.tasks), "task"), count_noun(len(built.rows), "segment")
    print_result(counts, f"index of {tasks}, {segments}")
