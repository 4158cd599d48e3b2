"""Options and kinds of arguments that several commands share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from flowprep.cli.arguments import CORPUS, NEW_FOLDER, LocalPath, NewFile, NewFolder, check_sources
from flowprep.cli.options import add_options, out_option
from flowprep.errors import UsageError
from flowprep.planning.video_lists import hmdb_part

__all__ = ["CORPUS", "NEW_FOLDER", "LocalPath", "NewFile", "add_options", "check_sources", "out_option"]


class RunFolder(LocalPath):
    """The folder of a training run."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path, if a run is there."""
        from trainer.training.run_folder import LAST

        path = super().convert(value, param, ctx)
        if not (path / LAST).exists():
            found = (
                f"it has no {LAST}"
                if path.is_dir()
                else "it is a file"
                if path.exists()
                else "there is no such folder"
            )
            allowed = "a folder that `trainer train` wrote"
            self.fail(f"{path} is not a training run: {found}; allowed: {allowed}", param, ctx)
        return path


class NewRun(NewFolder):
    """The folder of a run to train: new, empty, or one with a run."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path, if a run can be there."""
        from trainer.training.run_folder import holds_something_else

        path = super().convert(value, param, ctx)
        if holds_something_else(path):
            self.fail(f"{path} is not empty and holds no run; allowed: a new or an empty folder", param, ctx)
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


class ScoresPath(LocalPath):
    """A file of scores, or the folder of a run, which has test scores."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path, if there may be scores."""
        path = super().convert(value, param, ctx)
        if path.is_dir():
            return RUN.convert(value, param, ctx)
        if not path.exists():
            self.fail(
                f"no such file or run: {path}; allowed: scores of `trainer evaluate`, or a run", param, ctx
            )
        return path


class ListSource(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions of click
    """A list of videos: a file, `FOLDER:train1` for HMDB-51, or `all` where it is allowed.

    Args:
        allow_all: whether `all` stands for every video of the corpus.
    """

    name = "list"

    def __init__(self, *, allow_all: bool = False) -> None:
        self.allow_all = allow_all

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text, if there is such a list."""
        text = str(value)
        is_known = (self.allow_all and text == "all") or hmdb_part(text) or Path(text).exists()
        if Path(text).is_dir():
            self.fail(
                f"{text} is a folder; allowed: a file, or {text}:train1 and {text}:test1 for HMDB-51's lists",
                param,
                ctx,
            )
        if not is_known:
            more = ", or `all`" if self.allow_all else ""
            self.fail(f"no such list: {text}; allowed: a file, or FOLDER:train1{more}", param, ctx)
        return text


class DeviceName(click.ParamType):  # type: ignore[type-arg]
    """The name of a device. Whether the device exists is known only when torch is loaded."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name, if a device can have it."""
        if not re.fullmatch(r"auto|cpu|mps|(cuda|xpu)(:\d+)?", str(value)):
            self.fail(f"{value} is no device; allowed: auto, cpu, cuda, or cuda:N for GPU N", param, ctx)
        return str(value)


FOLDS = Folds()
RUN = RunFolder(path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
SCORES = ScoresPath(path_type=Path)

corpus_option = click.option("--corpus", required=True, type=CORPUS, help="Folder of the corpus.")
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
    "--device",
    type=DeviceName(),
    default="auto",
    show_default=True,
    metavar="NAME",
    help="auto, cpu, cuda, cuda:1, ...",
)
loading_options = add_options(
    device_option,
    click.option(
        "--workers",
        type=click.IntRange(0),
        default=None,
        show_default="one per core with a GPU, else one per two cores; at most 16",
        help="Number of threads or processes that load and decode. 0 loads when a batch is needed. It "
        "changes only the speed.",
    ),
    click.option(
        "--loader",
        type=click.Choice(["auto", "threads", "processes"]),
        default="auto",
        show_default=True,
        help="What loads. auto measures at the start whether threads are enough. It changes only the speed.",
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
            click.option(f"--{name}", type=RUN, metavar="RUN", help=f"Folder of a run of {text}.")
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
