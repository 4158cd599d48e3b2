"""Options and arguments that several commands share, and the settings that they give."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from functools import partial, reduce
from pathlib import Path
from typing import Any, TypeVar, cast

import click
from click.core import ParameterSource

from flowprep.cli.arguments import CORPUS, INPUT, NEW_FOLDER
from flowprep.cli.command import Option
from flowprep.cli.usage import parameter_name
from flowprep.engines import check_engine_name
from flowprep.errors import UsageError
from flowprep.presets import Tvl1Settings, default_preset, preset_names, tvl1_settings
from flowprep.settings import CODECS, CODES, MAX_SEGMENTS, Settings

F = TypeVar("F", bound=Callable[..., Any])

# Old name of an option -> its name now. The old name is accepted for one more version.
RENAMED_STORAGE = {"--codes": "--quantiser", "--codec": "--image-format", "--error-px": "--step-px"}
RENAMED_OUTPUT = {"--output": "--out"}
RENAMED_RETRY = {"--failed": "--retry-failed"}

DEFAULTS = Settings()


def add_options(*options: Callable[[Any], Any]) -> Callable[[F], F]:
    """Return one decorator that adds options to a command, in this order."""

    def decorate(command: F) -> F:
        return reduce(lambda function, option: option(function), reversed(options), command)

    return decorate


def out_option(metavar: str, help: str, *, type: click.Path, **settings: Any) -> Callable[[F], F]:
    """Return the option `--out`, which every command that writes something has."""
    settings = {"required": True, **settings}
    return click.option("-o", "--out", metavar=metavar, help=help, type=type, **settings)


corpus_argument = click.argument("corpus", type=CORPUS)
corpus_out_option = out_option("CORPUS", "Folder of the corpus to write.", type=NEW_FOLDER)
inputs_argument = click.argument("inputs", metavar="INPUT...", nargs=-1, required=True, type=INPUT)
allow_missing_option = click.option(
    "--allow-missing",
    is_flag=True,
    help="Leave out videos of a list that do not exist. Their number is printed. Without it, a list is"
    " refused if less than half of its videos exist.",
)
input_options = add_options(
    click.option(
        "--list-root",
        metavar="DIR",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Folder that the paths in a list begin at.  [default: the folder of the list]",
    ),
    allow_missing_option,
    click.option(
        "--add-copies",
        is_flag=True,
        help="Also plan files that are copies of planned videos. Without this option, they are left out.",
    ),
)

_engine = partial(click.option, cls=Option, section="Flow engine")
engine_option = _engine(
    "--engine",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="auto, cpu, cuda, opencv, reference, or module:class of your own engine. auto is cuda if a GPU"
    " works, else cpu. reference is slow: it checks the others.",
)
planned_engine_option = _engine(
    "--engine",
    metavar="MODULE:CLASS",
    help="The engine of the plan, if it is none of flowprep. It is code that runs, so name it only if you"
    " trust it.",
)
preset_option = _engine(
    "--preset",
    type=click.Choice(preset_names()),
    metavar="NAME",
    help="Parameters of TV-L1: accurate, best, fast or opencv. best has the smallest errors and needs 1.7"
    " times the time of accurate. fast needs half of it. opencv has the parameters of OpenCV."
    " NAME@1 is the first version of a preset; NAME is the newest.  [default: accurate; opencv with"
    " --engine opencv]",
)
tvl1_option = _engine(
    "--tvl1",
    "changes",
    metavar="NAME=VALUE",
    multiple=True,
    help="Change one parameter of the preset, such as scales=8; repeatable. docs/reference/presets.md"
    " explains each parameter.",
)
solver_options = add_options(engine_option, preset_option, tvl1_option)

_content = partial(click.option, cls=Option, section="Content")
content_options = add_options(
    _content(
        "--size",
        default=DEFAULTS.size,
        show_default=True,
        metavar="SIZE",
        help="Size of stored images: short:S (the short side has S pixels), WIDTHxHEIGHT, or source.",
    ),
    _content(
        "--step",
        default=DEFAULTS.step,
        show_default=True,
        help="Number of frames from the first to the second frame of a pair.",
    ),
    _content("--rgb/--no-rgb", default=DEFAULTS.rgb, show_default=True, help="Store the frames."),
    _content("--flow/--no-flow", default=DEFAULTS.flow, show_default=True, help="Store the flow."),
    _content(
        "--backward/--no-backward",
        default=DEFAULTS.backward,
        show_default=True,
        help="Store backward flow, too.",
    ),
    _content(
        "--stabilise/--no-stabilise",
        default=DEFAULTS.stabilise,
        show_default=True,
        help="Subtract the motion of the camera (a homography) from the flow.",
    ),
    _content("--keep-partial", is_flag=True, help="Store the intact beginning of a damaged video."),
)

_storage = partial(click.option, cls=Option, section="Storage")
storage_options = add_options(
    _storage(
        "--quantiser",
        "codes",
        type=click.Choice(CODES),
        default=DEFAULTS.codes,
        show_default=True,
        help="How flow becomes 8 bits. adaptive: each field has its own range. fixed: all have the range"
        " [-R, R], and 128 is no motion. tsn: the formula of older tools.",
    ),
    _storage(
        "--step-px",
        "error_px",
        default=DEFAULTS.error_px,
        show_default=True,
        metavar="PX",
        help="Quantisation step of adaptive, in pixels. The mean error is about a tenth of it.",
    ),
    _storage(
        "--range",
        default=DEFAULTS.range,
        show_default=True,
        metavar="R",
        help="R of fixed and tsn, in pixels.",
    ),
    _storage(
        "--quality",
        default=DEFAULTS.quality,
        show_default=True,
        help="JPEG quality of frames, and of flow with fixed and tsn.",
    ),
    _storage(
        "--image-format",
        "codec",
        type=click.Choice(CODECS),
        default=DEFAULTS.codec,
        show_default=True,
        help="Format of the flow images. png is lossless and about ten times larger.",
    ),
    _storage(
        "--shard-pairs",
        default=DEFAULTS.shard_pairs,
        show_default=True,
        help="Approximate pairs in a shard. A killed worker loses at most one shard of work.",
    ),
    _storage(
        "--segments",
        type=click.IntRange(1),
        default=MAX_SEGMENTS,
        show_default=True,
        help="Maximum number of tasks for one long video. More tasks use more cores, but each decodes the"
        " video from its beginning. The stored frames and flow stay the same.",
    ),
)

corpus_options = add_options(content_options, solver_options, storage_options)

_run = partial(click.option, cls=Option, section="Run (stored frames and flow stay the same)")
_cluster = partial(click.option, cls=Option, section="Cluster")
_add_run_options = add_options(
    _run("--jobs", type=click.IntRange(1), help="Worker processes.  [default: one for each core]"),
    _run("--devices", metavar="LIST", help="GPUs for --engine cuda, such as 0,1.  [default: all]"),
    _run(
        "--timeout-per-video",
        type=click.FloatRange(0, min_open=True),
        metavar="SECONDS",
        help="A video that takes longer fails.",
    ),
    _run(
        "--scratch",
        type=click.Path(exists=True, file_okay=False, writable=True, path_type=Path),
        help="Folder on a local disk. Shards are built there and then moved into the corpus.",
    ),
    _run(
        "--metrics",
        type=click.Path(dir_okay=False, path_type=Path),
        help="File to keep up to date with pairs, bytes, failures and seconds, in the format of Prometheus.",
    ),
    _cluster(
        "--executor",
        type=click.Choice(["local", "dask"]),
        help="local uses processes of this machine. dask uses a cluster, which one of the next options names."
        "  [default: dask with one of them, else local]",
    ),
    _cluster("--scheduler", metavar="ADDRESS", help="Dask: address of the scheduler of an existing cluster."),
    _cluster(
        "--local-cluster", type=click.IntRange(1), help="Dask: a new cluster of N processes on this machine."
    ),
    _cluster(
        "--slurm",
        type=click.IntRange(1),
        metavar="N",
        help="Dask: a new cluster of N Slurm jobs, which jobqueue.slurm in Dask's configuration defines.",
    ),
)


def run_options(command: F) -> F:
    """Add the options of a run. The command gets them as one argument `run`, a RunOptions."""

    @functools.wraps(command)
    def with_run_options(*args: Any, **values: Any) -> Any:
        from flowprep.executors.base import RunOptions

        run = RunOptions(**{field.name: values.pop(field.name) for field in dataclasses.fields(RunOptions)})
        return command(*args, run=run, **values)

    return cast(F, _add_run_options(with_run_options))


def tvl1_from_options(engine: str, preset: str | None, changes: Sequence[str]) -> Tvl1Settings:
    """Return the parameters of TV-L1 that `solver_options` give. The name of the engine is checked, too."""
    check_engine_name(engine)
    return tvl1_settings(preset or default_preset(engine), tuple(changes))


def check_engine_options(
    engine: str | None,
    preset: str | None,
    changes: Sequence[str],
    size: str | None = None,
    step: int | None = None,
) -> None:
    """Check the options of a flow engine before anything heavy is loaded; None stands for the default.

    Raises:
        SettingsError: a value is not allowed.
    """
    tvl1_from_options(engine or "auto", preset, changes)
    Settings(size=size or DEFAULTS.size, step=step or DEFAULTS.step)


def only_with(condition: str, holds: bool, *names: str) -> None:
    """Refuse options that have no effect.

    Args:
        condition: what the options are for, as the user types it.
        holds: whether it is given.
        names: the options, as parameters of the command.

    Raises:
        UsageError: an option is given without it.
    """
    context = click.get_current_context()
    for param in context.command.params:
        given = param.name in names and context.get_parameter_source(str(param.name)) not in (
            ParameterSource.DEFAULT,
            ParameterSource.DEFAULT_MAP,
        )
        if given and not holds:
            raise UsageError(f"{parameter_name(param)} has no effect here; allowed: only with {condition}")


def settings_from_options(
    engine: str, preset: str | None, changes: Sequence[str], **options: Any
) -> Settings:
    """Return the settings that `corpus_options` give.

    Raises:
        SettingsError: a value is not allowed.
    """
    return Settings(engine=engine, tvl1=tvl1_from_options(engine, preset, changes), **options)
