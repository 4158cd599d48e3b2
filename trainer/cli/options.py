"""Options and kinds of arguments that several commands share."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import click

from flowprep.cli.options import add_options, out_option
from flowprep.errors import UsageError

__all__ = ["add_options", "out_option"]


class NewFile(click.Path):
    """A file to write. Its folder is created and tested before anything is computed."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, if a file can be written there."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path.parent):
                pass
        except OSError as exc:
            self.fail(f"{path} cannot be written: {exc.strerror}", param, ctx)
        return path


class Folds(click.IntRange):
    """A number of folds: 0, or from 2."""

    name = "folds"

    def __init__(self) -> None:
        super().__init__(0)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number, if it is allowed."""
        if (number := super().convert(value, param, ctx)) == 1:
            self.fail("1 fold leaves no video to train on; allowed: 0, or from 2", param, ctx)
        return number


FOLDS = Folds()
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
NEW_FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
NEW_FILE = NewFile(dir_okay=False, path_type=Path)
SCORES = click.Path(exists=True, path_type=Path)  # a file of scores, or the folder of a run

corpus_option = click.option("--corpus", required=True, type=FOLDER, help="Folder of the corpus.")
class_index_option = click.option(
    "--class-index",
    type=FILE,
    help="File with the number and the name of each class (classInd.txt), for lists that contain numbers.",
)
allow_missing_option = click.option(
    "--allow-missing",
    is_flag=True,
    help="Skip videos and classes of a list that the corpus does not contain. Their number is printed.",
)
list_options = add_options(class_index_option, allow_missing_option)
set_option = click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a value of the recipe, such as train.lr=0.01. Can be repeated.",
)
device_option = click.option(
    "--device", default="auto", show_default=True, metavar="NAME", help="auto, cpu, cuda, cuda:1, ..."
)
loading_options = add_options(
    device_option,
    click.option(
        "--workers",
        type=click.IntRange(0),
        default=None,
        show_default="a process per core with a GPU, else one per two cores; at most 16",
        help="Number of processes that load and decode. It changes only the speed.",
    ),
)
groups_option = click.option(
    "--groups",
    default="",
    metavar="PATTERN",
    help="Regular expression that finds the group of a video in its id, such as 'person(\\d+)'. Videos of a "
    "group stay on one side. [default: the rules of UCF-101 and HMDB-51]",
)


def _allow_networks(_ctx: click.Context, _param: click.Parameter, names: tuple[str, ...]) -> None:
    from trainer.recipe.networks import allow_network

    for name in names:
        allow_network(name)


network_option = click.option(
    "--network",
    multiple=True,
    metavar="MODULE",
    expose_value=False,
    callback=_allow_networks,
    help="A network outside trainer that a run may name, package.module. Its code is run. Can be repeated.",
)
calibrate_option = click.option(
    "--calibrate", is_flag=True, help="First fit a temperature for the scores of each stream."
)


def run_options(command: Any) -> Any:
    """The options that name a run of each stream."""
    options = add_options(
        *(
            click.option(f"--{name}", type=FOLDER, metavar="RUN", help=f"Folder of a run of {text}.")
            for name, text in (
                ("spatial", "the spatial stream"),
                ("temporal", "the temporal stream"),
                ("joint", "a joint network"),
            )
        ),
        network_option,
    )
    return options(command)


def runs_by_stream(spatial: Path | None, temporal: Path | None, joint: Path | None) -> dict[str, Path]:
    """The runs that were named, by stream.

    Raises:
        UsageError: None was named.
    """
    named = {"spatial": spatial, "temporal": temporal, "both": joint}
    runs = {stream: run for stream, run in named.items() if run}
    if not runs:
        raise UsageError("no run is named: give --spatial RUN, --temporal RUN, both of them, or --joint RUN")
    return runs
