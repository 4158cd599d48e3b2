"""Commands that make a corpus."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from flowprep.cli.options import chosen_settings, json_option, what_to_make
from flowprep.cli.run import HOW, carry_out, how_to_run, report_corpus
from flowprep.system.progress import progress_bar
from flowprep.system.units import count_noun


@click.command()
@what_to_make
@click.option("--retry-failed", is_flag=True, help="Try again the videos that failed before, or are partial.")
@how_to_run
def extract(
    inputs: tuple[Path, ...], out: Path, segments: int, retry_failed: bool, as_json: bool, **options: Any
) -> None:
    """Extract frames and flow of videos into a corpus; the same command again resumes.

    INPUT is a video file, a folder (searched for videos and for folders of numbered frames; a video's class
    is the name of its folder), a folder of numbered frames, or a list: .txt with "path [label]" lines, .csv
    with path,label rows, or with the columns path,label,frames,bytes that its first line names. A video that
    cannot be taken is recorded with its reason and never stops the run.
    Several of these may run on one corpus: they share the tasks, and each ends when all are done.
    """
    from flowprep.api import plan_corpus
    from flowprep.corpus.store import CorpusStore

    how = {name: options.pop(name) for name in HOW}
    with progress_bar("videos planned", transient=True) as show:
        here = how["executor"] == "local"
        plan, skipped = plan_corpus(
            inputs, out, chosen_settings(**options), here=here, progress=show, segments=segments
        )
    store = CorpusStore(out)
    pending = store.pending_tasks(plan, store.load_index().not_whole if retry_failed else ())
    click.echo(
        f"{count_noun(len(plan.video_ids()), 'video')} in {count_noun(len(plan.tasks), 'task')},"
        f" {len(pending)} to do;"
        f" engine {plan.settings.engine}; {count_noun(skipped, 'other file')} passed over",
        err=True,
    )
    ran = carry_out(store, plan, pending, **how)
    report_corpus(store, plan, ran, as_json, skipped_files=skipped)


@click.command()
@what_to_make
def plan(inputs: tuple[Path, ...], out: Path, segments: int, as_json: bool, **options: Any) -> None:
    """Write the plan of a corpus, and extract nothing yet.

    INPUT and options are those of `extract`; the same `extract` command then carries it out.
    """
    from flowprep.api import plan_corpus
    from flowprep.corpus.store import CorpusStore

    with progress_bar("videos planned", transient=True) as show:
        made, skipped = plan_corpus(inputs, out, chosen_settings(**options), progress=show, segments=segments)
    counts = {
        "corpus": str(out),
        "videos": len(made.video_ids()),
        "tasks": len(made.tasks),
        "pending_tasks": len(CorpusStore(out).pending_tasks(made)),
        "pairs": sum(t.estimate for t in made.tasks),
        "skipped_files": skipped,
        "settings": made.settings.to_dict(),
    }
    if as_json:
        click.echo(json.dumps(counts))
    else:
        click.echo(
            f"{count_noun(len(made.video_ids()), 'video')}, about {counts['pairs']} pairs,"
            f" in {count_noun(len(made.tasks), 'task')}, {counts['pending_tasks']} to do;"
            f" {count_noun(skipped, 'other file')} passed over"
        )


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--classes", default=8, show_default=True, help="Classes, half of them by motion alone.")
@click.option("--clips", default=20, show_default=True, help="Clips per class.")
@click.option("--seed", default=0, show_default=True, help="Other seeds give other clips.")
@json_option
def samples(directory: Path, classes: int, clips: int, seed: int, as_json: bool) -> None:
    """Write sample clips (.mp4 in class folders) and split lists into DIRECTORY.

    Some classes differ by motion alone and some by appearance alone, so that neither stream can tell all of
    them and both together can.
    """
    from flowprep.synthetic import write_samples

    with progress_bar("clips") as show:
        made = write_samples(directory, classes=classes, clips=clips, seed=seed, progress=show)
    facts = {
        "directory": str(made.directory),
        "classes": list(made.classes),
        "train": len(made.train),
        "test": len(made.test),
        "lists": str(made.lists),
        "written": made.written,
    }
    if as_json:
        click.echo(json.dumps(facts))
    else:
        click.echo(
            f"{len(made.train)} clips to train and {len(made.test)} to test, {len(made.classes)} classes, in"
            f" {directory} ({made.written} written now); split lists in {made.lists}"
        )
