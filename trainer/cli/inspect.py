"""Commands that show runs, networks and recipes: report, compare, bench, models, recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flowprep.cli.output import print_result
from flowprep.errors import UsageError
from trainer.cli.command import Command
from trainer.cli.options import (
    FILE,
    RUN,
    ListSource,
    NewFile,
    add_options,
    corpus_option,
    device_option,
    loading_options,
    network_option,
    out_option,
    run_options,
    runs_by_stream,
    set_option,
)

if TYPE_CHECKING:
    from trainer.models.summary import ModelSummary


def scores_options(command: Any) -> Any:
    """The options that name other scores than the test scores of a run."""
    return add_options(
        *(
            click.option(
                f"--{stream}-scores",
                type=FILE,
                metavar="FILE",
                help=f"Scores of {text}. [default: the run's test scores]",
            )
            for stream, text in (
                ("spatial", "the spatial stream"),
                ("temporal", "the temporal stream"),
                ("joint", "the joint network"),
            )
        ),
        click.option(
            "--fused-scores",
            type=FILE,
            metavar="FILE",
            help="Fused scores. [default: the average of both streams]",
        ),
    )(command)


@click.command(cls=Command)
@run_options
@corpus_option
@scores_options
@out_option(
    "FILE",
    "HTML file to write.",
    type=NewFile(".html", ".htm", ""),
    required=False,
    default="report.html",
    show_default=True,
)
@click.option(
    "--mistakes", type=click.IntRange(0), default=6, show_default=True, help="Number of mistakes to show."
)
def report(
    spatial: Path | None,
    temporal: Path | None,
    joint: Path | None,
    corpus: Path,
    spatial_scores: Path | None,
    temporal_scores: Path | None,
    joint_scores: Path | None,
    fused_scores: Path | None,
    out: Path,
    mistakes: int,
) -> None:
    """Write one HTML page about runs of one corpus.

    The page has accuracies, training curves, the confusion matrix, the accuracy of each class, the worst
    mistakes with their frames and flow, and all settings. A spatial and a temporal run are shown with their
    fusion. The page needs no other file and no internet connection.
    """
    runs = runs_by_stream(spatial, temporal, joint)

    from flowprep import open_corpus
    from trainer.evaluation.fusion import fit_fusion
    from trainer.evaluation.scores import Scores

    files = {"spatial": spatial_scores, "temporal": temporal_scores, "both": joint_scores}
    scores = {stream: Scores.load(files[stream] or run) for stream, run in runs.items()}
    if fused_scores:
        scores["fused"] = Scores.load(fused_scores)
    elif spatial and temporal:
        scores["fused"] = fit_fusion("average")(scores["spatial"], scores["temporal"])
    opened = open_corpus(corpus)

    from trainer.reports.run import write_report

    write_report(out, runs, scores, opened, mistakes=mistakes)
    accuracies = {name: s.accuracy for name, s in scores.items()}
    text = ", ".join(f"{name} {accuracy:.1%}" for name, accuracy in accuracies.items())
    print_result({"out": str(out), "accuracy": accuracies}, f"{out}: {text}")


@click.command(cls=Command)
@click.argument("runs", type=RUN, nargs=-1, required=True)
@out_option("FILE", "HTML file to write.", type=NewFile(".html", ".htm", ""), required=False)
@click.option(
    "--batch", type=click.IntRange(1), default=8, show_default=True, help="Clips in a timed forward pass."
)
@network_option
@device_option
def compare(runs: tuple[Path, ...], out: Path | None, batch: int, device: str) -> None:
    """Compare RUNS with each other and with the published results of their networks.

    \b
    accuracy          of the test scores of a run
    multiply-adds     of one clip and one crop
    training speed    the median of the run's log
    inference speed   measured here, all runs in turn
    """
    from trainer.reports.compare import as_text, compare
    from trainer.training.device import share_cores

    share_cores(device, 0)
    figures = compare(runs, device=device, batch=batch)
    if out:
        from trainer.reports.compare_page import write_page

        write_page(out, figures)
    print_result([figure.to_dict() for figure in figures], as_text(figures))


@click.command(cls=Command)
@click.argument("recipes", type=FILE, nargs=-1, required=True)
@corpus_option
@click.option(
    "--list",
    "source",
    type=ListSource(allow_all=True),
    default="all",
    show_default=True,
    metavar="LIST",
    help="Videos: a list, or `all`.",
)
@click.option(
    "--steps", type=click.IntRange(1), default=10, show_default=True, help="Training steps to measure."
)
@click.option("--folder", is_flag=True, help="Also measure a loader of JPEG files in folders.")
@set_option
@loading_options
def bench(
    recipes: tuple[Path, ...],
    corpus: Path,
    source: str,
    steps: int,
    folder: bool,
    changes: tuple[str, ...],
    device: str,
    workers: int | None,
    loader: str,
) -> None:
    """Measure clips per second of loading and training for each of RECIPES.

    \b
    loader   the loader alone
    model    training without loading
    both     training
    waiting  share of the time that training waits for data

    The second line has the loader without workers (in process), in threads and in processes, and with batches
    that are inputs of a network (to float32).

    With --folder, the usual loader of two-stream networks is measured in turn with this loader. It reads the
    same JPEGs with Pillow, as files in one folder per video, and gives float32. Processor time is that of all
    processes of a loader together. Other work on the machine hardly changes it.
    """
    from trainer.recipe.toml import read_recipe

    parsed = [read_recipe(path, changes) for path in recipes]

    from flowprep import open_corpus
    from trainer.data.annotations import corpus_examples

    opened = open_corpus(corpus)
    examples = corpus_examples(opened, source)

    from trainer.bench import bench
    from trainer.training.device import share_cores

    loaders = share_cores(device, workers)
    rows = []
    for path, recipe in zip(recipes, parsed, strict=True):
        speed = bench(
            recipe,
            opened,
            examples,
            device=device,
            workers=loaders,
            loader=loader,
            steps=steps,
            folder=folder,
        )
        run = {"recipe": str(path), "stream": recipe.stream, "workers": loaders}
        rows.append({**run, **speed.to_dict()})

    def show() -> None:
        click.echo("clips/s   loader    model     both  waiting" + ("   folder  loader is" if folder else ""))
        for row in rows:
            text = f"{row['stream']:8}" + "".join(f"{row[key]:9.1f}" for key in ("loader", "model", "both"))
            text += f"{row['data_wait']:9.1%}"
            click.echo(text + (f"{row['folder']:9.1f}  {row['ratio']:.1f} times as fast" if folder else ""))
            kinds = {**row["loaders"], "to float32": row["float32"]}
            click.echo(
                "  " + ", ".join(f"{name.replace('_', ' ')} {rate:.1f}" for name, rate in kinds.items())
            )
            if folder:
                click.echo(
                    f"  times the folder: as loaded {row['ratio']:.1f}, by processor time"
                    f" {row['ratio_processor']:.1f}; as float32, as the folder's are,"
                    f" {row['ratio_float32']:.1f}"
                )

    print_result(rows, show)


@click.command(cls=Command)
def models() -> None:
    """List the networks that `model.name` of a recipe can name, with their published sizes.

    \b
    For each network:
      the paper
      the input: (time steps), channels, height, width
      parameters for 101 classes; multiply-adds of a clip
      options, the default first
      published accuracy, on split 1 if none is named

    A network outside this package has the name package.module.
    """
    from trainer.models.summary import describe_models

    summaries = describe_models()

    def show() -> None:
        click.echo(f"    {'input':<8}  {'of a clip':<28} parameters  multiply-adds")
        for summary in summaries:
            _show_model(summary)

    print_result([summary.to_dict() for summary in summaries], show)


def _show_model(model: ModelSummary) -> None:
    from trainer.models.summary import format_count

    click.echo(click.style(model.name, bold=True))
    click.echo(click.wrap_text(model.paper, 78, "    ", "    "))
    for stream, clip in model.inputs.items():
        parameters = format_count(model.parameters[stream])
        multiply_adds = format_count(model.multiply_adds[stream])
        click.echo(f"    {stream:<8}  {clip:<28} {parameters:>10}  {multiply_adds:>13}")
    for key, values in model.options.items():
        shown = ", ".join("..." if value == "..." else json.dumps(value) for value in values)
        click.echo(f"    options.{key}: {shown}")
    for description, accuracy in model.published.items():
        click.echo(f"    {accuracy:.1f}%  {description}")


@click.command(cls=Command)
@click.argument("path", type=FILE, required=False, metavar="[RECIPE]")
@set_option
def recipe(path: Path | None, changes: tuple[str, ...]) -> None:
    """Print every key of a recipe, with its meaning and its value in RECIPE.

    Without RECIPE the values are the defaults, which are for a GPU. `stream` has no default. The output is a
    recipe itself. `trainer train` checks whether a recipe fits its network.
    """
    from trainer.recipe.schema import Recipe
    from trainer.recipe.toml import as_toml, read_recipe

    if changes and not path:
        raise UsageError("--set changes a recipe: name its file")
    parsed = read_recipe(path, changes) if path else Recipe("temporal")
    print_result(parsed, as_toml(parsed).rstrip("\n"))
