"""Commands that use a trained network: predict, export."""

from __future__ import annotations

from pathlib import Path

import click

from flowprep.cli.output import print_result
from trainer.cli.command import Command
from trainer.cli.options import (
    FOLDER,
    NEW_FILE,
    calibrate_option,
    loading_options,
    network_option,
    out_option,
    run_options,
    runs_by_stream,
)


@click.command(cls=Command)
@click.argument("video", type=click.Path(exists=True, path_type=Path))
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
    video: Path,
    spatial: Path | None,
    temporal: Path | None,
    joint: Path | None,
    method: str,
    calibrate: bool,
    top: int,
    device: str,
    workers: int | None,
) -> None:
    """Print the most probable classes of VIDEO, a video file or a folder of numbered frames.

    Frames and flow are extracted with the settings of the runs' corpora, and evaluated as in the test. One
    run is enough. The scores of several runs are averaged, or fused by a fusion fitted on their validation
    scores.
    """
    runs = runs_by_stream(spatial, temporal, joint)

    from trainer.evaluation.predict import predict
    from trainer.training.device import share_cores

    loaders = share_cores(device, workers)
    prediction = predict(video, runs, method, calibrate=calibrate, device=device, workers=loaders).top(top)
    print_result(prediction, "\n".join(f"{c.score:7.2%}  {c.name}" for c in prediction.classes))


@click.command(cls=Command)
@click.argument("run", type=FOLDER)
@out_option("FILE", "File to write: NAME.onnx, or NAME.pt2 for torch.export's format.", type=NEW_FILE)
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
