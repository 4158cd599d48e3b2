"""Commands that make a corpus: samples, plan, extract."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flowprep.cli.arguments import NEW_FOLDER
from flowprep.cli.command import Command
from flowprep.cli.options import (
    RENAMED_STORAGE,
    corpus_options,
    corpus_out_option,
    input_options,
    inputs_argument,
    out_option,
    run_options,
    settings_from_options,
)
from flowprep.cli.output import EXIT_SOME_FAILED, QUIET, has_flag, notice, print_result, show_progress
from flowprep.cli.run import finish_extraction, run_progress
from flowprep.errors import ListMismatch
from flowprep.system.units import count_noun

if TYPE_CHECKING:
    from flowprep.api import PlannedCorpus
    from flowprep.executors.base import RunOptions


estimate_option = click.option(
    "--estimate/--no-estimate",
    default=True,
    show_default=True,
    help="Measure a few frames first, and print the time and the space that the run needs. Runs of less than"
    " 2,000 pairs begin at once.",
)


@click.command(cls=Command, renamed=RENAMED_STORAGE)
@inputs_argument
@corpus_out_option
@click.option("--retry-failed", is_flag=True, help="Also try failed and partial videos again.")
@input_options
@corpus_options
@estimate_option
@run_options
def extract(
    inputs: tuple[Path, ...],
    out: Path,
    segments: int,
    list_root: Path | None,
    allow_missing: bool,
    add_copies: bool,
    retry_failed: bool,
    estimate: bool,
    run: RunOptions,
    **options: Any,
) -> None:
    """Extract frames and flow of videos into a corpus. The same command again resumes.

    A corpus that exists keeps its engine and its preset, if no other ones are named.

    \b
    INPUT is
      a video file,
      a folder: it is searched for videos and for folders of
        numbered frames; the class is the name of the folder,
      a folder of numbered frames,
      a list: .txt with lines "path [label]"; or .csv with
        rows path,label, or with names of columns in its first
        line: path,label,frames,bytes,group;
        or FOLDER:train1 for split 1 of HMDB-51's lists.

    A video that cannot be read is recorded with the reason, and the run goes on.
    Several of these commands can run on one corpus at the same time. They share the tasks, and each ends when
    all tasks are done.
    """
    lists = {"list_root": list_root, "allow_missing": allow_missing, "add_copies": add_copies}
    planned = _plan(inputs, out, segments, options, run=run, **lists)
    from flowprep.api import estimate_run, extract_corpus

    measured = (
        estimate_run(planned, run, retry_failed=retry_failed) if estimate and not has_flag(QUIET) else None
    )
    if measured:
        notice(f"estimate: {measured}")
    with run_progress(out) as progress:
        result = extract_corpus(planned, run, retry_failed=retry_failed, progress=progress, announce=notice)
    finish_extraction(result, result.to_dict() | planned.skipped_to_dict())


@click.command(cls=Command, renamed=RENAMED_STORAGE)
@inputs_argument
@corpus_out_option
@input_options
@corpus_options
@estimate_option
def plan(
    inputs: tuple[Path, ...],
    out: Path,
    segments: int,
    list_root: Path | None,
    allow_missing: bool,
    add_copies: bool,
    estimate: bool,
    **options: Any,
) -> None:
    """Write the plan of a corpus, and extract nothing yet.

    INPUT and options are those of `flowprep extract`. The same `extract` command then runs the plan. The exit
    code is 3 if videos of a list do not exist.
    """
    try:
        lists = {"list_root": list_root, "allow_missing": allow_missing, "add_copies": add_copies}
        planned = _plan(inputs, out, segments, options, **lists)
    except ListMismatch as exc:
        click.echo(f"error: {exc}; nothing was planned", err=True)
        sys.exit(EXIT_SOME_FAILED)
    from flowprep.api import estimate_run

    measured = estimate_run(planned) if estimate else None
    values = {**planned.to_dict(), "estimate": measured and measured.to_dict()}
    print_result(
        values,
        f"{count_noun(values['videos'], 'video')}, about {values['pairs']} pairs,"
        f" in {count_noun(values['tasks'], 'task')}, {values['pending_tasks']} to do;"
        f" engine {planned.plan.settings.solver}; {planned.describe_skipped()}"
        + (f"\nestimate: {measured}" if measured else ""),
    )
    if planned.missing:
        sys.exit(EXIT_SOME_FAILED)


def _plan(
    inputs: Sequence[Path], out: Path, segments: int, options: Mapping[str, Any], **arguments: Any
) -> PlannedCorpus:
    settings = settings_from_options(**options)  # wrong settings are reported before anything heavy loads
    stored_preset = options["preset"] is None and not options["changes"]
    from flowprep.api import plan_corpus

    with show_progress("videos planned", transient=True) as progress:
        return plan_corpus(
            inputs,
            out,
            settings,
            stored_preset=stored_preset,
            segments=segments,
            progress=progress,
            **arguments,
        )


@click.command(cls=Command, old_destination="last")
@out_option("DIR", "Folder to write.", type=NEW_FOLDER)
@click.option(
    "--classes",
    type=click.IntRange(2, 16),
    default=8,
    show_default=True,
    help="Classes; half of them differ in motion only.",
)
@click.option(
    "--clips", type=click.IntRange(2, 198), default=20, show_default=True, help="Clips of each class."
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32),
    default=0,
    show_default=True,
    help="Another seed gives other clips.",
)
def samples(out: Path, classes: int, clips: int, seed: int) -> None:
    """Write sample clips (.mp4 in class folders) and split lists.

    Some classes differ in motion only, others in appearance only. So neither stream alone can tell all of
    them, and both together can.
    """
    from flowprep.synthetic import write_samples

    with show_progress("clips") as progress:
        result = write_samples(out, classes=classes, clips=clips, seed=seed, progress=progress)
    values = {
        "directory": str(result.directory),
        "classes": list(result.classes),
        "train": len(result.train),
        "test": len(result.test),
        "lists": str(result.lists),
        "written": result.written,
    }
    print_result(
        values,
        f"{len(result.train)} training clips and {len(result.test)} test clips of"
        f" {len(result.classes)} classes in {out} ({result.written} of them new);"
        f" split lists in {result.lists}",
    )
