"""Commands that draw what is in a corpus, or in a video."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from flowprep.cli.options import corpus_argument, json_option, preset_option, tvl1_option
from flowprep.system.progress import progress_bar


@click.command()
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="The file to write: .png for a sheet, .mp4 for a film.",
)
@click.option(
    "--compare",
    metavar="OTHER",
    help="Show a second flow of the same frames, and the distance: another corpus, an engine, or a preset.",
)
@click.option(
    "--columns",
    default=6,
    show_default=True,
    type=click.IntRange(1),
    help="Of a sheet: frames beside each other.",
)
@click.option(
    "--width", default=1200, show_default=True, type=click.IntRange(200), help="Of the picture, pixels."
)
@click.option(
    "--first", default=0, show_default=True, type=click.IntRange(0), help="Of a film: its first pair."
)
@click.option("--pairs", type=click.IntRange(1), help="Of a film: pairs at most.  [default: to the end]")
@click.option("--size", help="Of video files: as for `extract`.  [default: short:256]")
@click.option("--step", type=click.IntRange(1), help="Of video files: as for `extract`.  [default: 1]")
@click.option("--engine", help="Of video files: as for `extract`.  [default: auto]")
@preset_option
@tvl1_option
@json_option
def view(
    sources: tuple[str, ...],
    output: Path,
    compare: str | None,
    columns: int,
    width: int,
    first: int,
    pairs: int | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Draw frames and flow: a contact sheet, or a film of frame, flow colours and arrows.

    \b
    SOURCE is
      a corpus, then ids of its videos (see `info --list`): what is stored;
      or video files or folders of frames: their flow is computed on the way;
      or two images: their flow.

    \b
    flowprep view corpus Punch/v_Punch_g01_c01.avi -o sheet.png
    flowprep view holiday.mp4 -o holiday-flow.mp4 --pairs 250
    flowprep view holiday.mp4 --compare fast -o difference.png
    """
    from flowprep.viz.sources import draw, open_sources

    opened = open_sources(sources, compare, **options)
    with progress_bar("pairs", transient=True) as show:
        drawing = draw(opened, output, columns=columns, width=width, first=first, pairs=pairs, progress=show)
    click.echo(json.dumps(drawing.to_dict()) if as_json else drawing.output)


@click.command()
@corpus_argument
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="The HTML file to write."
)
@click.option(
    "--sample",
    default=1000,
    show_default=True,
    type=click.IntRange(1),
    help="Videos at most whose flow is decoded, to tell how far things move.",
)
@json_option
def report(corpus: Path, output: Path, sample: int, as_json: bool) -> None:
    """Write one HTML page on a corpus: counts, failures, motion, clipping, sizes, rates, classes, pictures.

    The page needs nothing from outside itself, and no script.
    """
    from flowprep.reports.corpus import write_report

    with progress_bar("videos", transient=True) as show:
        summary = write_report(corpus, output, sample=sample, progress=show)
    click.echo(json.dumps(summary.to_dict()) if as_json else summary.output)
