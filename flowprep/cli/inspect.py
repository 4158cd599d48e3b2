"""Commands for a corpus that exists."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from flowprep.cli.options import corpus_argument, json_option
from flowprep.cli.output import EXIT_FAULT, counts_line, print_facts, print_failures, sizes_line
from flowprep.system.units import count_noun


@click.command()
@corpus_argument
@json_option
def status(corpus: Path, as_json: bool) -> None:
    """Say how far an extraction is, and which videos failed and why."""
    from flowprep.corpus.store import CorpusStore
    from flowprep.planning.status import corpus_status

    store = CorpusStore(corpus)
    summary = corpus_status(store.read_plan(), store.load_index()).to_dict()
    if as_json:
        click.echo(json.dumps({"corpus": str(corpus), **summary}))
        return
    tasks = summary["tasks"]
    click.echo(f"{tasks['done']} of {tasks['total']} tasks done")
    click.echo(counts_line(summary))
    click.echo(sizes_line(summary["totals"]))
    print_failures(summary, None)


@click.command()
@corpus_argument
@click.option("--jobs", type=click.IntRange(1), help="Shards checked at a time.  [default: all cores]")
@click.option("--repair", is_flag=True, help="Set damaged shards aside, so that `retry` makes them again.")
@json_option
def verify(corpus: Path, jobs: int | None, repair: bool, as_json: bool) -> None:
    """Check every checksum, image and count; exit 1 if one does not hold."""
    from flowprep.api import default_jobs
    from flowprep.corpus.format import DAMAGED
    from flowprep.corpus.store import CorpusStore
    from flowprep.corpus.verify import set_aside, verify_corpus

    store = CorpusStore(corpus)
    report = verify_corpus(store, jobs or default_jobs())
    aside = set_aside(store, report) if repair else []
    if as_json:
        problems = [p._asdict() for p in report.problems]
        click.echo(
            json.dumps(
                {
                    "shards": report.shards,
                    "videos": report.videos,
                    "images": report.images,
                    "problems": problems,
                    "set_aside": aside,
                }
            )
        )
    else:
        for problem in report.problems:
            click.echo(str(problem))
        click.echo(
            f"{count_noun(report.shards, 'shard')}, {count_noun(report.videos, 'video')},"
            f" {count_noun(report.images, 'image')} checked:"
            f" {count_noun(len(report.problems), 'problem') if report.problems else 'no problems'}"
        )
        if aside:
            click.echo(
                f"{len(aside)} damaged shards set aside in {corpus / DAMAGED}; `flowprep retry {corpus}`"
                " makes them again"
            )
    if report.problems:
        sys.exit(EXIT_FAULT)


@click.command()
@corpus_argument
@click.argument("video", required=False)
@click.option("--list", "as_list", is_flag=True, help="Print id, label, frames and pairs of every video.")
@json_option
def info(corpus: Path, video: str | None, as_list: bool, as_json: bool) -> None:
    """Describe a corpus (counts, sizes, settings, versions of what made it) or, by its id, one VIDEO."""
    from flowprep.corpus.reader import open_corpus

    opened = open_corpus(corpus)
    if as_list:
        rows = [
            {"id": v.id, "label": v.label, "frames": v.num_frames, "pairs": v.num_pairs}
            for v in opened.values()
        ]
        lines = [json.dumps(rows)] if as_json else ["\t".join(map(str, row.values())) for row in rows]
        click.echo("\n".join(lines))
        return
    facts = opened[video].facts() if video else opened.facts()
    if as_json:
        click.echo(json.dumps(facts))
        return
    print_facts(facts)


@click.command()
@corpus_argument
@click.argument("tasks", metavar="[TASK]...", nargs=-1)
@json_option
def log(corpus: Path, tasks: tuple[str, ...], as_json: bool) -> None:
    """Print what was done with each task of CORPUS, or with those named: when, where, and what came of it."""
    from flowprep.corpus.store import CorpusStore
    from flowprep.corpus.task_log import FIELDS

    lines = CorpusStore(corpus).read_logs(tasks)
    if as_json:
        click.echo(json.dumps([dict(zip(FIELDS, line.split(" ", 3), strict=False)) for line in lines]))
    elif lines:
        click.echo("\n".join(lines))
    else:
        click.echo(f"{corpus} has no logs: nothing was run in it, or they were deleted", err=True)


@click.command()
@corpus_argument
@json_option
def index(corpus: Path, as_json: bool) -> None:
    """Make the index of CORPUS anew from its shards and records."""
    from flowprep.corpus.store import CorpusStore

    made = CorpusStore(corpus).rebuild_index()
    facts = {"corpus": str(corpus), "tasks": len(made.tasks), "segments": len(made.rows)}
    click.echo(
        json.dumps(facts) if as_json else "index of {tasks} tasks, {segments} segments".format(**facts)
    )
