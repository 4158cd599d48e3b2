"""Commands for class scores: evaluate, fuse, scores."""

from __future__ import annotations

from pathlib import Path

import click

from flowprep.cli.output import QUIET, has_flag, print_result
from trainer.cli.command import Command
from trainer.cli.options import (
    RUN,
    SCORES,
    ListSource,
    NewFile,
    calibrate_option,
    corpus_option,
    groups_option,
    list_options,
    loading_options,
    network_option,
    out_option,
)
from trainer.cli.output import print_evaluation


@click.command(cls=Command)
@click.argument("run", type=RUN)
@corpus_option
@click.option(
    "--list",
    "source",
    required=True,
    type=ListSource(),
    metavar="LIST",
    help="Videos, as for `trainer train`.",
)
@out_option("FILE", "File of scores to write, .npz.", type=NewFile(".npz"))
@click.option("--frames", type=click.IntRange(1), help="Clips of a video. [default: the recipe's]")
@click.option(
    "--crops", type=click.Choice(["1", "2", "5", "10"]), help="Crops of a clip. [default: the recipe's]"
)
@click.option(
    "--control",
    type=click.Choice(["reversed", "shuffled"]),
    help="Reverse the flow in time, or shuffle its order. [default: the recipe's input.control]",
)
@click.option(
    "--svm",
    "svm_list",
    type=ListSource(),
    metavar="LIST",
    help="Classify by a linear SVM on the features of the network (fc6 of C3D). It is fitted on LIST.",
)
@list_options
@network_option
@loading_options
def evaluate(
    run: Path,
    corpus: Path,
    source: str,
    out: Path,
    frames: int | None,
    crops: str | None,
    control: str | None,
    svm_list: str | None,
    class_index: Path | None,
    allow_missing: bool,
    device: str,
    workers: int | None,
    loader: str,
) -> None:
    """Write the class scores that the network of RUN gives to the videos of a list.

    \b
    The file has five arrays:
      ids      (N,) text, the videos
      labels   (N,) the true classes, as indices of `classes`
      classes  (C,) text
      scores   (N, C) float32, the mean softmax of a video
      groups   (N,) text, groups: see `trainer train`

    `trainer fuse --fit` fits a fusion on such files. Write them for RUN/validationlist.txt or for the
    training list.
    """
    from trainer import api

    result = api.evaluate(
        run,
        corpus,
        source,
        out,
        frames=frames,
        crops=int(crops) if crops else None,
        control=control,
        svm_list=svm_list,
        class_index=class_index,
        allow_missing=allow_missing,
        device=device,
        workers=workers,
        loader=loader,
        show_progress=not has_flag(QUIET),
    )

    from trainer.training import distributed

    if not distributed.rank():
        print_evaluation(result)


@click.command(cls=Command)
@click.argument("spatial", type=SCORES)
@click.argument("temporal", type=SCORES)
@click.option(
    "--method",
    type=click.Choice(["average", "weighted", "svm"]),
    default="average",
    show_default=True,
    help="average: the mean. weighted: w SPATIAL + (1 - w) TEMPORAL with a fitted w."
    " svm: a linear SVM on the scores of both.",
)
@calibrate_option
@click.option(
    "--fit",
    nargs=2,
    type=SCORES,
    metavar="SPATIAL TEMPORAL",
    help="Scores of both streams for other videos. Weights, temperatures and the SVM are fitted on them.",
)
@groups_option
@out_option("FILE", "File of the fused scores to write, .npz.", type=NewFile(".npz"), required=False)
def fuse(
    spatial: Path,
    temporal: Path,
    method: str,
    calibrate: bool,
    fit: tuple[Path, Path] | None,
    groups: str,
    out: Path | None,
) -> None:
    """Fuse the class scores of a spatial and of a temporal stream, and print the accuracies.

    SPATIAL and TEMPORAL are folders of runs, or files of `trainer evaluate`. For a run, its test scores are
    fused. Both must contain the same videos.

    A fusion is fitted on the scores of --fit, which must not contain any of the fused videos. Two runs need
    no --fit: the fusion is fitted on their validation scores.
    """
    from trainer import api

    result = api.fuse(spatial, temporal, method=method, calibrate=calibrate, fit=fit, groups=groups, out=out)
    print_result(
        result,
        f"spatial {result.first.accuracy:.1%}, temporal {result.second.accuracy:.1%}, "
        f"fused ({method}) {result.fused.accuracy:.1%}",
    )


@click.command(cls=Command)
@click.argument("files", type=SCORES, nargs=-1, required=True)
@click.option(
    "--confusion",
    type=NewFile(),
    metavar="FILE",
    help="Write the confusion matrix, summed over the files, as CSV.",
)
def scores(files: tuple[Path, ...], confusion: Path | None) -> None:
    """Print the accuracy of each of FILES, the mean over FILES, and the accuracy of each class.

    FILES are files of `trainer evaluate` and `trainer fuse`, or folders of runs, such as those of three
    splits.
    """
    from trainer.evaluation.metrics import summarise
    from trainer.evaluation.scores import Scores

    summary = summarise([Scores.load(path) for path in files])
    if confusion:
        summary.write_confusion(confusion)

    def show() -> None:
        for path, accuracy, count in zip(files, summary.accuracy, summary.videos, strict=True):
            click.echo(f"{accuracy:7.2%}  of {count} videos: {path}")
        click.echo(f"{summary.mean_accuracy:7.2%}  mean of {len(files)}")
        for name, share in zip(summary.classes, summary.class_accuracy, strict=True):
            click.echo(f"   {'-' if share is None else f'{share:.0%}':>6}  {name}")

    print_result({"files": [str(path) for path in files], **summary.to_dict()}, show)
