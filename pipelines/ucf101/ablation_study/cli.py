"""The command line of the ablations."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ablation_study.options import MissingInput, StudyOptions
from ablation_study.rows import BY_NAME, SETS
from ablation_study.study import Study, TrainerFailed, call_trainer
from ablation_study.table import Table, TableRow

file = click.Path(dir_okay=False, exists=True, path_type=Path)
folder = click.Path(file_okay=False, exists=True, path_type=Path)


@click.command(context_settings={"max_content_width": 110})
@click.argument("names", nargs=-1, metavar="[ROW]...", type=click.Choice([*SETS, *BY_NAME]))
@click.option(
    "--corpus",
    required=True,
    type=folder,
    help="UCF-101, extracted with --backward for bi-directional stacks.",
)
@click.option("--lists", help="Folder of classInd.txt, trainlist01.txt, testlist01.txt.")
@click.option(
    "--leave-out",
    metavar="PATTERN",
    help="Instead of --lists: a regular expression that finds the group of a video, such as a person, in its "
    "id. Each group is evaluated by networks that learnt from the other groups.",
)
@click.option(
    "--second",
    nargs=2,
    metavar="CORPUS LISTS",
    help="The second data set: HMDB-51 and the folder of its lists, or a corpus and one list of its videos.",
)
@click.option("--weights", type=file, help="ImageNet weights.")
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the networks and the table.",
)
@click.option("--split", type=click.IntRange(1, 3), default=1, show_default=True, help="Number of the split.")
@click.option(
    "--seeds", type=click.IntRange(1), default=1, show_default=True, help="Number of seeds of each row."
)
@click.option(
    "--fit-folds",
    type=click.IntRange(0),
    default=0,
    help="Number of folds for fusions. A fusion is then fitted on all training videos, each scored by a "
    "network that was not trained on its group. By default a fusion is fitted on the held-out videos of a "
    "run, and the SVM on its training videos.",
)
@click.option("--small", is_flag=True, help="Use the networks and schedules of pipelines/ucf101/small.")
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change every recipe, such as train.steps=100.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the table as JSON.")
@click.pass_obj
def main(
    trainer: Callable[..., None] | None, /, names: tuple[str, ...], as_json: bool, **options: Any
) -> None:
    """Make the ablations of Simonyan and Zisserman 2014, and further rows at a small scale.

    \b
    pipelines/ucf101/ablations --corpus CORPUS --lists SPLITS --out OUT [ROW ...]
    pipelines/ucf101/ablations --corpus CORPUS --leave-out 'P(\\d)' --small --seeds 3 --out OUT streams

    A ROW is a row of the paper's tables, or a set of rows: paper (the default), streams (both streams and
    every fusion), controls (inputs without direction, order or length). Networks on which a row builds are
    trained first. A finished row is not repeated, and a stopped one continues. If a row fails, the others are
    still made.

    OUT gets a folder for each network, table.md and table.json. The table has the published figure beside the
    measured one: the mean, the minimum and the maximum over the seeds.
    """
    study = Study(StudyOptions(**options), trainer or call_trainer)
    if (study.options.lists is None) == (study.options.leave_out is None):
        raise click.UsageError("give --lists or --leave-out, one of the two")
    if study.options.fit_folds == 1:
        raise click.UsageError("--fit-folds is 1; allowed: 0, or from 2")
    study.options.out.mkdir(parents=True, exist_ok=True)
    table = Table(study.options.out)
    wanted = [row for name in names or ("paper",) for row in SETS.get(name, (name,))]
    failed = []
    for name in dict.fromkeys(wanted):
        try:
            row = TableRow.measured_row(name, study.measure(BY_NAME[name]))
        except MissingInput as exc:
            row = TableRow.missing_row(name, str(exc))
        except TrainerFailed as exc:
            row = TableRow.missing_row(name, str(exc))
            failed.append(name)
        table.add(row)
    click.echo(table.to_json() if as_json else table.to_markdown(), nl=as_json)
    if failed:
        click.echo(f"error: rows that failed: {', '.join(failed)}", err=True)
        sys.exit(1)
