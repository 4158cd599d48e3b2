"""The command `trainer train`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from flowprep.cli.command import was_interrupted
from flowprep.cli.output import QUIET, Stopped, has_flag
from trainer.cli.command import Command, loader_death
from trainer.cli.options import (
    FILE,
    FOLDS,
    ListSource,
    NewRun,
    corpus_option,
    groups_option,
    list_options,
    loading_options,
    out_option,
    set_option,
)
from trainer.cli.output import print_evaluation
from trainer.training.interrupts import raise_on_signals


@click.command(cls=Command)
@click.argument("recipe", type=FILE)
@corpus_option
@click.option("--train-list", required=True, type=ListSource(), metavar="LIST", help="Videos to train on.")
@click.option(
    "--test-list",
    required=True,
    type=ListSource(),
    metavar="LIST",
    help="Videos to test on, once, at the end.",
)
@out_option("RUN", "Folder of the run.", type=NewRun(path_type=Path))
@set_option
@click.option("--resume", is_flag=True, help="Continue from the last checkpoint of the run.")
@list_options
@groups_option
@click.option(
    "--multi-task",
    nargs=2,
    multiple=True,
    metavar="CORPUS LIST",
    help="A further data set, learnt by a head of its own on the same network. LIST can be `all`.",
)
@click.option(
    "--add-classes",
    nargs=2,
    multiple=True,
    metavar="CORPUS LIST",
    help="A further data set, whose classes are learnt beside those of the test. LIST can be `all`.",
)
@click.option(
    "--fit-folds",
    type=FOLDS,
    default=0,
    metavar="N",
    help="Train N more networks, each without a part of the training videos, and score this part by it. "
    "`trainer fuse` then fits on all training videos. The training takes 1 + N times as long.",
)
@click.option("--compile", "compiled", is_flag=True, help="Compile the network by torch.compile.")
@loading_options
def train(
    recipe: Path,
    corpus: Path,
    train_list: str,
    test_list: str,
    out: Path,
    changes: tuple[str, ...],
    resume: bool,
    class_index: Path | None,
    allow_missing: bool,
    multi_task: tuple[tuple[str, str], ...],
    add_classes: tuple[tuple[str, str], ...],
    groups: str,
    fit_folds: int,
    compiled: bool,
    device: str,
    workers: int | None,
    loader: str,
) -> None:
    """Train the network of RECIPE, a TOML file, and test it once.

    \b
    A LIST has one video on each line:
      Class/name.avi 3    UCF-101; --class-index names numbers
      Class/name.avi      the folder is the class
      path label          any path and any label
    FOLDER:train1 and FOLDER:test1 read split 1 of HMDB-51.

    A label in a list has priority over the folder. A part of the training videos is held out for validation.
    Whole groups are held out, which are clips of one recording: those of a group of UCF-101 (_g08_ in the
    name), of a source of HMDB-51 (the name before the class), of the column `group` of a CSV list, or those
    that --groups finds. The test list has no influence on the training.

    \b
    The folder RUN receives
      last.pt, best.pt        checkpoints; best.pt only if
                              train.keep is "best"
      log.jsonl, tensorboard/ losses and accuracies
      trainlist.txt           videos to train on
      validationlist.txt      videos to validate on
      test_scores.npz         class scores of the test videos
      validation_scores.npz   those of the held-out videos
      folds/, fold_scores.npz with --fit-folds: further
                              networks, and scores of all
                              training videos by them

    An interrupted run continues with --resume. On a CPU, the result is bit by bit that of a run without the
    interruption.

    To start from the network of another run: --set model.weights=RUN. To use several GPUs:
    `torchrun --nproc-per-node 4 --no-python trainer train ...`. The batch of the recipe is divided among
    them.
    """
    from trainer.recipe.toml import read_recipe

    parsed = read_recipe(recipe, (*changes, f"train.groups={json.dumps(groups)}") if groups else changes)

    from trainer import api

    raise_on_signals()
    try:
        with signal_before_its_errors():
            result = api.train(
                parsed,
                corpus,
                train_list,
                test_list,
                out,
                multi_task=multi_task,
                add_classes=add_classes,
                class_index=class_index,
                allow_missing=allow_missing,
                resume=resume,
                compiled=compiled,
                fit_folds=fit_folds,
                device=device,
                workers=workers,
                loader=loader,
                show_progress=not has_flag(QUIET),
            )
    except KeyboardInterrupt as exc:
        from trainer.training.run_folder import LAST

        if (out / LAST).exists():
            how = f"the same command with --resume continues from the last checkpoint in {out}"
        else:
            how = f"there is no checkpoint in {out} yet, so the same command begins anew"
        raise Stopped(f"interrupted: {how}") from exc

    from trainer.training import distributed

    if distributed.rank():
        return
    if result.reused:
        click.echo(f"{out} is finished: {parsed.train.steps} steps, evaluated in {result.out}", err=True)
    print_evaluation(result)


@contextmanager
def signal_before_its_errors() -> Iterator[None]:
    """Raise KeyboardInterrupt for errors that follow from a signal.

    After a loader process was killed, wait for a signal to this process: maybe all processes shall end.
    """
    try:
        yield
    except Exception as exc:
        if was_interrupted(exc):
            raise KeyboardInterrupt from exc
        if loader_death(exc):
            time.sleep(1)
        raise
