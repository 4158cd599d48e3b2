"""Commands that draw: view, report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from flowprep.cli.arguments import LocalPath, NewFile, check_sources
from flowprep.cli.command import Command, Option
from flowprep.cli.options import (
    RENAMED_OUTPUT,
    check_engine_options,
    corpus_argument,
    only_with,
    out_option,
    preset_option,
    tvl1_option,
)
from flowprep.cli.output import print_result, show_progress

SECTION = "Flow engine"


@click.command(cls=Command, renamed=RENAMED_OUTPUT)
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True, type=LocalPath())
@out_option("FILE", "File to write: .png for a contact sheet, .mp4 for a film.", type=NewFile(".png", ".mp4"))
@click.option(
    "--compare",
    metavar="OTHER",
    help="Show a second flow of the same frames, and the difference. OTHER: a corpus, an engine or a preset.",
)
@click.option(
    "--columns",
    default=6,
    show_default=True,
    type=click.IntRange(1),
    help="Frames in a row of a contact sheet.",
)
@click.option(
    "--width",
    default=1200,
    show_default=True,
    type=click.IntRange(200),
    help="Width of the picture, in pixels.",
)
@click.option("--first", default=0, show_default=True, type=click.IntRange(0), help="First pair of a film.")
@click.option("--pairs", type=click.IntRange(1), help="Maximum number of pairs in a film.  [default: all]")
@click.option(
    "--videos",
    type=click.IntRange(1),
    help="Maximum number of videos in a contact sheet.  [default: 12, or as many as SOURCEs]",
)
@click.option(
    "--size", cls=Option, section=SECTION, metavar="SIZE", help="Size of the frames.  [default: short:256]"
)
@click.option(
    "--step",
    cls=Option,
    section=SECTION,
    type=click.IntRange(1),
    help="Number of frames from the first to the second frame of a pair.  [default: 1]",
)
@click.option(
    "--engine", cls=Option, section=SECTION, metavar="NAME", help="As for `extract`.  [default: auto]"
)
@preset_option
@tvl1_option
def view(
    sources: tuple[Path, ...],
    out: Path,
    compare: str | None,
    columns: int,
    width: int,
    first: int,
    pairs: int | None,
    videos: int | None,
    **options: Any,
) -> None:
    """Draw frames and flow: a contact sheet, or a film with the frame, flow colours and arrows.

    \b
    SOURCE is
      a corpus, then names of its videos,
      or what `flowprep extract` accepts,
      or two images.

    A name of a video is its id, its label, the name of its file, or a pattern such as 'Punch/*_g01_*'.
    `flowprep info CORPUS --list` prints all ids. The flow of files and images is computed, with the options
    of the flow engine.

    \b
    flowprep view corpus v_Punch_g01_c01 -o sheet.png
    flowprep view holiday.mp4 -o flow.mp4 --pairs 250
    flowprep view holiday.mp4 -o a.png --compare fast
    """
    film = out.suffix.lower() == ".mp4"
    only_with(".mp4", film, "first", "pairs")
    only_with(".png", not film, "columns", "videos")
    check_sources(sources)
    check_engine_options(**options)

    from flowprep.viz.sources import draw, open_sources

    opened = open_sources([str(source) for source in sources], compare, limit=videos, single=film, **options)
    with show_progress("pairs", transient=True) as progress:
        result = draw(opened, out, columns=columns, width=width, first=first, pairs=pairs, progress=progress)
    print_result(result, str(out))


@click.command(cls=Command, renamed=RENAMED_OUTPUT)
@corpus_argument
@out_option("FILE", "HTML file to write.", type=NewFile(".html", ".htm", ""))
@click.option(
    "--sample",
    default=1000,
    show_default=True,
    type=click.IntRange(1),
    help="Maximum number of videos whose flow is decoded, for the statistics of motion.",
)
def report(corpus: Path, out: Path, sample: int) -> None:
    """Write one HTML page about a corpus.

    It shows counts, failures, motion, clipping, sizes, rates, classes and pictures. The page needs no other
    file and no script.
    """
    from flowprep.reports.corpus import write_report

    with show_progress("videos", transient=True) as progress:
        result = write_report(corpus, out, sample=sample, progress=progress)
    print_result(result, str(out))
