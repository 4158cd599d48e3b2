"""Commands for a corpus that exists: status, verify, info, log, index."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flowprep.cli.command import Command, Option
from flowprep.cli.options import corpus_argument
from flowprep.cli.output import (
    EXIT_FAULT,
    STATUS_FAILURES,
    counts_line,
    print_failures,
    print_result,
    print_sources,
    print_tree,
    remaining_line,
    show_progress,
    sizes_line,
)
from flowprep.errors import UsageError
from flowprep.system.units import count_noun

if TYPE_CHECKING:
    from flowprep.corpus.store import CorpusStore
    from flowprep.corpus.verify import Report


@click.command(cls=Command)
@corpus_argument
@click.option("--all", "everything", is_flag=True, help="Print all failures and warnings, not ten of each.")
def status(corpus: Path, everything: bool) -> None:
    """Print the progress of an extraction, the time left, and failed videos with their reasons.

    The time left is that of the processes that work now, at the rate of the finished tasks.
    """
    from flowprep.corpus.store import CorpusStore
    from flowprep.planning.sources import find_source_changes
    from flowprep.planning.status import corpus_status

    store = CorpusStore(corpus)
    plan = store.read_plan()
    sources = find_source_changes(store, plan)
    result = corpus_status(plan, store.load_index(), sources, len(store.leased_tasks()))

    def show() -> None:
        if tasks := result.tasks:
            click.echo(f"{tasks.done} of {count_noun(tasks.total, 'task')} done")
        click.echo(counts_line(result))
        click.echo(sizes_line(result))
        print_sources(result)
        if left := remaining_line(result):
            click.echo(left)
        more = "`flowprep status --all`"
        print_failures(result, None if everything else STATUS_FAILURES, more, err=False)

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
@click.option(
    "--list",
    "as_list",
    is_flag=True,
    help="Print id, label, frames and pairs of every video, or of those that VIDEO names.",
)
@click.option(
    "--table",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a row per video, failed ones too, with its quality: .csv, or .parquet with pyarrow.",
)
@click.option("--failed", is_flag=True, cls=Option, section="Filters", help="Only failed and partial videos.")
@click.option("--label", metavar="LABEL", cls=Option, section="Filters", help="Only videos of this class.")
@click.option(
    "--where",
    multiple=True,
    metavar="EXPR",
    cls=Option,
    section="Filters",
    help='Only videos whose row satisfies EXPR, such as "pairs > 100 and still_share > 0.2"; repeatable.',
)
def info(
    corpus: Path,
    video: str | None,
    as_list: bool,
    table: Path | None,
    failed: bool,
    label: str | None,
    where: tuple[str, ...],
) -> None:
    """Describe a corpus: counts, sizes, settings, software versions. Or describe one VIDEO.

    VIDEO is the id, the name of the file, a label or a pattern such as 'Punch/*_g01_*'.

    Filters select videos for --list and --table. With a filter alone, the videos are listed.

    \b
    EXPR    COLUMN OP VALUE, joined by "and"
    OP      one of = != < <= > >= ~ (contains)
    COLUMN  a column of the table, such as status, frames,
            pairs, seconds, width, height, clipped_share,
            duplicate_of, repeated_share, still_share, cuts,
            motion_px

    The last four read all images, which takes a while. docs/guides/quality.md explains each column.
    """
    from flowprep.corpus.reader import open_corpus

    has_filter = failed or label is not None or bool(where)
    if table or has_filter:
        _list_or_write(corpus, video, table, failed, label, where)
        return
    opened = open_corpus(corpus)
    ids = opened.find(video) if video else opened
    if as_list:
        rows = [
            {"id": v.id, "label": v.label, "frames": v.num_frames, "pairs": v.num_pairs}
            for v in (opened[video_id] for video_id in ids)
        ]
        _print_rows(rows)
        return
    if video and len(ids) > 1:
        examples = ", ".join(list(ids)[:3])
        raise UsageError(f"{video} names {len(ids)} videos: {examples}, ...; give one, or --list for all")
    values = opened[next(iter(ids))].info() if video else opened.info()
    print_result(values, lambda: print_tree(values))


def _list_or_write(
    corpus: Path,
    video: str | None,
    table: Path | None,
    failed: bool,
    label: str | None,
    where: tuple[str, ...],
) -> None:
    """Print or write the rows of the videos that pass the filters."""
    from flowprep.corpus.reader import open_corpus
    from flowprep.reports.filters import parse_conditions
    from flowprep.reports.table import COLUMNS, check_table, video_rows, write_table

    conditions = [condition for text in where for condition in parse_conditions(text, COLUMNS)]
    if table:
        check_table(table)
    opened = open_corpus(corpus)
    with show_progress("videos", transient=True) as progress:
        rows = video_rows(
            opened,
            name=video,
            failed=failed,
            label=label,
            conditions=conditions,
            quality=table is not None,
            progress=progress,
        )
    if table:
        write_table(table, rows)
        values = {"table": str(table), "videos": len(rows)}
        print_result(values, f"{table}: {count_noun(len(rows), 'video')}")
        return
    shown = ["id", "label", "frames", "pairs", *(["status", "reason"] if failed else [])]
    shown += [condition.column for condition in conditions]
    _print_rows([{name: row[name] for name in shown} for row in rows])


def _print_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the values of each row on a line, with tabs between."""
    lines = ("\t".join("" if v is None else str(v) for v in row.values()) for row in rows)
    print_result(rows, "\n".join(lines))


@click.command(cls=Command)
@corpus_argument
@click.argument("names", metavar="[TASK|VIDEO]...", nargs=-1)
def log(corpus: Path, names: tuple[str, ...]) -> None:
    """Print the log of CORPUS: time, task, process and event.

    With TASKs, or with names of VIDEOs as for `flowprep info`, only their tasks are printed.
    """
    from flowprep.corpus.store import CorpusStore
    from flowprep.corpus.task_log import FIELDS

    store = CorpusStore(corpus)
    lines = store.read_logs(_tasks_of(store, names))

    def show() -> None:
        if lines:
            click.echo("\n".join(lines))
        else:
            click.echo(f"{corpus} has no logs: no task ran in it, or the logs were deleted", err=True)

    print_result([dict(zip(FIELDS, line.split(" ", 3), strict=False)) for line in lines], show)


def _tasks_of(store: CorpusStore, names: Sequence[str]) -> list[str]:
    """The tasks that have a log, of those that are named by their ids or by their videos.

    Raises:
        UsageError: a name is neither a task nor a video, or no task has a log.
    """
    from flowprep.corpus.find import find_videos, nearest_videos

    logged = store.logged_tasks()
    planned = store.read_plan().tasks if names and store.has_plan() else []
    labels = {segment.id: segment.label for task in planned for segment in task.segments}
    found: dict[str, None] = {}
    for name in names:
        if name in logged:
            found[name] = None
            continue
        videos = set(find_videos(labels, name))
        tasks = [t.id for t in planned if t.id == name or any(s.id in videos for s in t.segments)]
        if not tasks:
            known = [*sorted(logged), *labels]
            near = " or ".join(nearest_videos(known, name))
            raise UsageError(
                f"no task or video {name!r} in {store.path}"
                + (f"; did you mean {near}?" if near else ";")
                + f" `flowprep info {store.path} --list` prints all ids"
            )
        found.update(dict.fromkeys(task for task in tasks if task in logged))
    if names and not found:
        raise UsageError(f"{', '.join(names)} has no log in {store.path}: its task did not run yet")
    return list(found)


@click.command(cls=Command)
@corpus_argument
def index(corpus: Path) -> None:
    """Rebuild the index of CORPUS from its shards and records."""
    from flowprep.corpus.store import CorpusStore

    built = CorpusStore(corpus).rebuild_index()
    counts = {"corpus": str(corpus), "tasks": len(built.tasks), "segments": len(built.rows)}
    tasks, segments = count_noun(len(built.tasks), "task"), count_noun(len(built.rows), "segment")
    print_result(counts, f"index of {tasks}, {segments}")
