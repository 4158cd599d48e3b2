"""What several commands print, and the exit codes."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from flowprep.cli import usage
from flowprep.system.progress import Progress, progress_bar
from flowprep.system.units import count_noun, format_bytes, format_duration

if TYPE_CHECKING:
    from flowprep.planning.status import CorpusStatus

EXIT_FAULT, EXIT_USAGE, EXIT_SOME_FAILED = 1, 2, 3
SHOWN_FAILURES = 20  # at the end of a run
STATUS_FAILURES = 10  # by `status`, without --all

# Keys of the flags --json and --quiet in the context of click.
JSON, QUIET = "flowprep.json", "flowprep.quiet"


class CommandFailed(click.ClickException):
    """The request was right, and something went wrong while it was carried out."""

    exit_code = EXIT_FAULT


class Stopped(CommandFailed):
    """Ctrl-C or SIGTERM has ended the command. The message says what was done, and how to go on."""


class WrongUse(click.ClickException):
    """The request is wrong."""

    exit_code = EXIT_USAGE


def has_flag(key: str) -> bool:
    """Return whether the flag JSON or QUIET was given to this command."""
    return bool(click.get_current_context().meta.get(key))


class Result(Protocol):
    """A result of an operation, with its values for --json."""

    def to_dict(self) -> dict[str, Any]:
        """Return the values for --json."""


def print_result(result: Result | Mapping[str, Any] | Sequence[Any], text: str | Callable[[], None]) -> None:
    """Print a result on standard output.

    Args:
        result: printed as JSON with --json, by its `to_dict` if it has one.
        text: printed without --json; or a function that prints it.
    """
    if has_flag(JSON):
        values = result if isinstance(result, Mapping | Sequence) else result.to_dict()
        click.echo(json.dumps(values))
    elif callable(text):
        text()
    else:
        click.echo(text)


def notice(text: str) -> None:
    """Print a line on standard error, but not with --quiet."""
    if not has_flag(QUIET):
        click.echo(text, err=True)


def warn(text: str) -> None:
    """Print a warning on standard error."""
    click.echo(f"warning: {text}", err=True)


def print_error(error: click.ClickException) -> None:
    """Print an error on standard error, as one line."""
    click.echo(f"error: {usage.describe(error)}", err=True)


def show_progress(
    unit: str, *, transient: bool = False, hidden: bool = False
) -> AbstractContextManager[Progress]:
    """Show progress of a command as `progress_bar` does, but not with --quiet."""
    return progress_bar(unit, transient=transient, hidden=hidden or has_flag(QUIET))


def describe_os_error(exc: OSError) -> str:
    """Return the path and the reason of an error of the operating system, without its number.

    For a temporary file, the path is that of its folder.
    """
    name = exc.filename2 or exc.filename
    if not exc.strerror or not isinstance(name, str | bytes | os.PathLike):
        return str(exc)
    path = Path(os.fsdecode(name))
    if isinstance(exc, FileExistsError) and path.is_file():  # mkdir, where a file has the name
        return f"{path}: Not a directory"
    return f"{path.parent if path.suffix == '.tmp' else path}: {exc.strerror}"


def print_tree(values: Mapping[str, Any], indent: str = "") -> None:
    """Print nested values, one on a line."""
    for name, value in values.items():
        if isinstance(value, dict):
            click.echo(f"{indent}{name}:")
            print_tree(value, indent + "  ")
        else:
            plain = {True: "yes", False: "no"}[value] if isinstance(value, bool) else value
            click.echo(f"{indent}{name or '(none)'}: {'none' if plain in (None, []) else plain}")


def print_table(rows: Sequence[dict[str, str]]) -> None:
    """Print a table: names of columns, then rows. The first column is aligned left, the others right.

    On a narrow terminal, the first column has a line of its own.
    """
    table = [list(rows[0]), *(list(row.values()) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    room = shutil.get_terminal_size((sys.maxsize, 0)).columns
    between = "  " if sum(widths) + 2 * (len(widths) - 1) <= room else "\n  "
    for first, *others in table:
        cells = "  ".join(o.rjust(w) for o, w in zip(others, widths[1:], strict=True))
        click.echo((first.ljust(widths[0]) if between == "  " else first) + between + cells)


def counts_line(status: CorpusStatus) -> str:
    """Return how many videos are stored, failed and pending."""
    videos = status.videos
    text = f"{videos.ok} of {count_noun(videos.total, 'video')} stored"
    text += f" ({videos.partial} of them partial)" if videos.partial else ""
    text += f", {videos.failed} failed"
    return text + (f", {videos.pending} pending" if videos.pending else "")


def sizes_line(status: CorpusStatus) -> str:
    """Return the size of the shards, and how many times smaller than float32 the flow is."""
    totals = status.totals
    flow_bytes = totals.get("flow_bytes", 0)
    text = f"{format_bytes(totals.get('shard_bytes', 0))} in shards"
    if flow_bytes:
        ratio = totals["flow_float32_bytes"] / flow_bytes
        text += f"; flow {format_bytes(flow_bytes)}, {ratio:.0f} times smaller than float32"
    return text


def print_sources(status: CorpusStatus) -> None:
    """Print what happened to the files of the videos since they were planned or extracted."""
    for remark in status.sources.remarks():
        click.echo(remark)


def remaining_line(status: CorpusStatus) -> str:
    """Return the time that is left, and who works; "" if all tasks are done."""
    tasks, left = status.tasks, status.remaining
    if not tasks or tasks.done == tasks.total:
        return ""
    if not left.workers:
        return f"no process works on the {count_noun(tasks.total - tasks.done, 'task')} to do"
    workers = f"{count_noun(left.workers, 'process')} at work"
    if left.seconds is None:
        return f"{workers}; the time left is known when a task is done"
    return f"about {format_duration(left.seconds)} left, with {workers}"


def print_failures(
    status: CorpusStatus,
    limit: int | None = SHOWN_FAILURES,
    more: str = "see `flowprep status`",
    err: bool = True,
) -> None:
    """Print each video with a warning, each partial and each failed video.

    Args:
        status: the corpus.
        limit: maximum number of lines of each kind; None for all.
        more: how to see the others.
        err: print on standard error.
    """
    print_reasons("warning", status.warnings, limit, more, err)
    print_reasons("partial", status.partial, limit, more, err)
    print_reasons("failed", status.failures, limit, more, err)


def print_reasons(
    word: str,
    reasons: Mapping[str, str],
    limit: int | None = SHOWN_FAILURES,
    more: str = "",
    err: bool = True,
) -> None:
    """Print a line for each video and its reason.

    Args:
        word: begins each line.
        reasons: id -> reason.
        limit: maximum number of lines; None for all.
        more: how to see the others.
        err: print on standard error.
    """
    for video, reason in list(reasons.items())[:limit]:
        click.echo(f"{word}: {video}: {reason}", err=err)
    if limit is not None and len(reasons) > limit:
        click.echo(f"... and {len(reasons) - limit} more{more and ': '}{more}", err=err)
