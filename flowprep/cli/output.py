"""What several commands print, and the exit codes."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from flowprep.system.units import count_noun, format_bytes

EXIT_FAULT, EXIT_USAGE, EXIT_SOME_FAILED = 1, 2, 3
SHOWN_FAILURES = 20


class Fault(click.ClickException):
    """Something went wrong while doing what was asked."""

    exit_code = EXIT_FAULT


class WrongUse(click.ClickException):
    """What was asked cannot be done."""

    exit_code = EXIT_USAGE


def in_words(exc: OSError) -> str:
    """What the system says of which file, without its number; a temporary file stands for its folder."""
    name = exc.filename2 or exc.filename
    if not exc.strerror or not isinstance(name, str | bytes | os.PathLike):
        return str(exc)
    path = Path(os.fsdecode(name))
    if isinstance(exc, FileExistsError) and path.is_file():  # of making a folder
        return f"{path}: Not a directory"
    return f"{path.parent if path.suffix == '.tmp' else path}: {exc.strerror}"


def print_facts(facts: dict[str, Any], indent: str = "") -> None:
    """Print nested facts, one to a line."""
    for name, value in facts.items():
        if isinstance(value, dict):
            click.echo(f"{indent}{name}:")
            print_facts(value, indent + "  ")
        else:
            plain = {True: "yes", False: "no"}[value] if isinstance(value, bool) else value
            click.echo(f"{indent}{name or '(none)'}: {'none' if plain in (None, []) else plain}")


def print_table(rows: Sequence[dict[str, str]]) -> None:
    """Print rows of the same columns below their names: the first to the left, others to the right.

    On a terminal that is too narrow for that, the first stands on a line of its own.
    """
    table = [list(rows[0]), *(list(row.values()) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    room = shutil.get_terminal_size((sys.maxsize, 0)).columns
    between = "  " if sum(widths) + 2 * (len(widths) - 1) <= room else "\n  "
    for first, *others in table:
        cells = "  ".join(o.rjust(w) for o, w in zip(others, widths[1:], strict=True))
        click.echo((first.ljust(widths[0]) if between == "  " else first) + between + cells)


def counts_line(summary: dict[str, Any]) -> str:
    """How many videos are in, failed and pending."""
    videos = summary["videos"]
    text = f"{videos['ok']} of {count_noun(videos['total'], 'video')} in"
    text += f" ({videos['partial']} of them partial)" if videos["partial"] else ""
    text += f", {videos['failed']} failed"
    return text + (f", {videos['pending']} pending" if videos["pending"] else "")


def sizes_line(totals: dict[str, float]) -> str:
    """Bytes in shards, and how much smaller than float32 the flow is."""
    flow = totals.get("flow_bytes", 0)
    text = f"{format_bytes(totals.get('shard_bytes', 0))} in shards"
    if flow:
        ratio = totals["flow_float32_bytes"] / flow
        text += f"; flow {format_bytes(flow)}, {ratio:.0f} times smaller than float32"
    return text


def print_failures(summary: dict[str, Any], most: int | None = SHOWN_FAILURES) -> None:
    """Name the videos that failed, are partial or have a warning, up to `most` of each, on stderr."""
    for kind, said in {"warnings": "warning", "partial": "partial", "failures": "failed"}.items():
        named = list(summary[kind].items())
        for video, reason in named[:most]:
            click.echo(f"{said}: {video}: {reason}", err=True)
        if most is not None and len(named) > most:
            click.echo(f"... and {len(named) - most} more: see `flowprep status`", err=True)
