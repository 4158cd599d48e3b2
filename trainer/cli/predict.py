"""Commands that use a trained network: predict, export."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from flowprep.cli.output import EXIT_SOME_FAILED, print_reasons, print_result
from flowprep.errors import UsageError
from flowprep.planning.video_lists import LIST_SUFFIXES
from trainer.cli.command import Command
from trainer.cli.options import (
    RUN,
    LocalPath,
    NewFile,
    calibrate_option,
    check_sources,
    loading_options,
    network_option,
    out_option,
    run_options,
    runs_by_stream,
)


@click.command(cls=Command)
@click.argument("sources", metavar="VIDEO...", nargs=-1, required=True, type=LocalPath())
@run_options
@click.option(
    "--method",
    type=click.Choice(["average", "weighted"]),
    default="average",
    show_default=True,
    help="How a spatial and a temporal run are fused, as by `trainer fuse RUN RUN`.",
)
@calibrate_option
@click.option(
    "--top", type=click.IntRange(1), default=5, show_default=True, help="Number of classes to print."
)
@loading_options
def predict(
    sources: tuple[Path, ...],
    spatial: Path | None,
    temporal: Path | None,
    joint: Path | None,
    method: str,
    calibrate: bool,
    top: int,
    device: str,
    workers: int | None,
    loader: str,
) -> None:
    """Print the most probable classes of each VIDEO.

    \b
    VIDEO is
      what `flowprep extract` accepts: videos, folders, lists,
      or a corpus and then names of its videos.

    A name is an id, a label, the name of a file or a pattern such as 'Punch/*_g01_*'. The exit code is 3 if
    some of several videos cannot be read.

    Frames and flow are extracted with the settings of the runs' corpora, and evaluated as in the test. One
    run is enough. The scores of several runs are averaged, or fused by a fusion fitted on their validation
    scores.
    """
    runs = runs_by_stream(spatial, temporal, joint)
    check_sources(sources)
    if (method != "average" or calibrate) and set(runs) != {"spatial", "temporal"}:
        raise UsageError(
            "--method weighted and --calibrate fit two streams; allowed: only with --spatial and --temporal"
        )

    from trainer.evaluation.predict import predict_all
    from trainer.training.device import share_cores

    loaders = share_cores(device, workers)
    predictions, failures = predict_all(
        sources, runs, method, calibrate, device, loaders, loader=loader, single=_is_one(sources)
    )
    top_classes = [prediction.top(top) for prediction in predictions]

    def show() -> None:
        for prediction in top_classes:
            if len(top_classes) > 1:
                click.echo(f"{prediction.video}:")
            for each in prediction.classes:
                click.echo(f"{each.score:7.2%}  {each.name}")

    if len(top_classes) == 1 and not failures:
        print_result(top_classes[0], show)
    else:
        print_result({"videos": [each.to_dict() for each in top_classes], "failed": failures}, show)
    print_reasons("failed", failures)
    if failures:
        sys.exit(EXIT_SOME_FAILED)


def _is_one(sources: Sequence[Path]) -> bool:
    """Whether the sources can only be one video: a file that is no list."""
    return len(sources) == 1 and sources[0].is_file() and sources[0].suffix.lower() not in LIST_SUFFIXES


@click.command(cls=Command)
@click.argument("run", type=RUN)
@out_option(
    "FILE", "File to write: NAME.onnx, or NAME.pt2 for torch.export's format.", type=NewFile(".onnx", ".pt2")
)
@network_option
def export(run: Path, out: Path) -> None:
    """Write the network of RUN to one file that runs without this package.

    The file accepts any number of clips at the recipe's crop, with the inputs `rgb`, `flow` or both, and
    returns logits. The classes and the recipe are stored inside; the recipe defines how inputs are made.
    Before the file is written, its outputs are compared with those of the network.
    """
    from trainer.export import export

    result = export(run, out)
    print_result(
        result,
        f"{out}: {out.stat().st_size / 1e6:.1f} MB, outputs agree to {result.difference:.0e} of the largest",
    )
