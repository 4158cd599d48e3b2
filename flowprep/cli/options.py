"""Options and arguments that several commands share, and the settings they make."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from flowprep.presets import PRESETS, Tvl1Settings, default_preset, tvl1_settings
from flowprep.settings import CODECS, CODES, MAX_SEGMENTS, Settings

F = TypeVar("F", bound=Callable[..., Any])


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
corpus_argument = click.argument("corpus", type=click.Path(exists=True, file_okay=False, path_type=Path))


engine_option = click.option(
    "--engine",
    default="auto",
    show_default=True,
    help="What computes TV-L1: auto (cuda where a GPU works, or else cpu), cpu, cuda, opencv, or reference"
    " (slow, to check the others).",
)
preset_option = click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    help="Parameters of TV-L1. best: smallest errors, twice the time of accurate. fast: under half of it."
    " opencv: those of OpenCV."
    "  [default: accurate; opencv with --engine opencv]",
)
tvl1_option = click.option(
    "--tvl1",
    "changes",
    metavar="NAME=VALUE",
    multiple=True,
    help="Change one parameter of the preset, as scales=8; may be repeated.",
)


def chosen_tvl1(engine: str, preset: str | None, changes: tuple[str, ...]) -> Tvl1Settings:
    """The solver's parameters that these options name."""
    return tvl1_settings(preset or default_preset(engine), changes)


def chosen_settings(engine: str, preset: str | None, changes: tuple[str, ...], **options: Any) -> Settings:
    """The settings that the options of `what_to_make` name."""
    return Settings(engine=engine, tvl1=chosen_tvl1(engine, preset, changes), **options)


def what_to_make(command: F) -> F:
    """The inputs and the options that change a corpus, shared by `plan` and `extract`."""
    d = Settings()
    options = [
        click.argument(
            "inputs", metavar="INPUT...", nargs=-1, required=True, type=click.Path(path_type=Path)
        ),
        click.option(
            "--out", required=True, metavar="CORPUS", type=click.Path(path_type=Path), help="Its folder."
        ),
        click.option(
            "--size",
            default=d.size,
            show_default=True,
            help="Stored size: short:S (short side S pixels), WxH, or source.",
        ),
        click.option(
            "--step", default=d.step, show_default=True, help="Frames from the first to the second of a pair."
        ),
        engine_option,
        preset_option,
        tvl1_option,
        click.option(
            "--codes",
            type=click.Choice(CODES),
            default=d.codes,
            show_default=True,
            help="How flow becomes 0-255. adaptive: each field its own range, undone on reading."
            " fixed: [-R, R], no motion is 128. tsn: the formula of older tools.",
        ),
        click.option(
            "--error-px",
            default=d.error_px,
            show_default=True,
            help="Quantisation step of adaptive codes, pixels: the mean error is some 0.04 at the default.",
        ),
        click.option(
            "--range", default=d.range, show_default=True, help="R of fixed and tsn codes, in pixels."
        ),
        click.option(
            "--quality",
            default=d.quality,
            show_default=True,
            help="JPEG quality of frames and of fixed and tsn codes.",
        ),
        click.option(
            "--codec",
            type=click.Choice(CODECS),
            default=d.codec,
            show_default=True,
            help="What codes are stored as. png: each code as it is, in some ten times the bytes.",
        ),
        click.option("--rgb/--no-rgb", default=d.rgb, show_default=True, help="Store the frames."),
        click.option("--flow/--no-flow", default=d.flow, show_default=True, help="Compute and store flow."),
        click.option(
            "--backward/--no-backward",
            default=d.backward,
            show_default=True,
            help="Store backward flow as well.",
        ),
        click.option(
            "--stabilise/--no-stabilise",
            default=d.stabilise,
            show_default=True,
            help="Take the camera's motion, a homography, off the flow.",
        ),
        click.option(
            "--shard-pairs",
            default=d.shard_pairs,
            show_default=True,
            help="Pairs per shard, about; also what a kill can lose per worker.",
        ),
        click.option(
            "--segments",
            type=click.IntRange(1),
            default=MAX_SEGMENTS,
            show_default=True,
            help="Tasks that a long video is cut into, at most: as many cores are at it, and each decodes it"
            " from its beginning. Its frames and flow stay the same.",
        ),
        click.option(
            "--keep-partial", is_flag=True, help="Keep the clean frames before the damage of a damaged video."
        ),
        json_option,
    ]
    for option in reversed(options):
        command = option(command)
    return command
