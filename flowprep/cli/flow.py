"""Commands for flow without a corpus: flow, tune."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from flowprep.cli.arguments import INPUT, LocalPath, NewFile, check_sources
from flowprep.cli.command import Command, Option
from flowprep.cli.options import (
    RENAMED_OUTPUT,
    check_engine_options,
    only_with,
    out_option,
    preset_option,
    solver_options,
    tvl1_from_options,
    tvl1_option,
)
from flowprep.cli.output import print_result, print_table
from flowprep.corpus.names import is_corpus
from flowprep.errors import UsageError
from flowprep.system.units import count_noun
from flowprep.video.suffixes import IMAGE_SUFFIXES, suffix_of

SECTION = "Flow engine"


@click.command(cls=Command, renamed=RENAMED_OUTPUT)
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True, type=LocalPath())
@out_option("FILE", "File to write: .flo or .png.", type=NewFile(".flo", ".png"))
@click.option("--pair", type=click.IntRange(0), default=0, show_default=True, help="Pair of a video, from 0.")
@click.option("--size", metavar="SIZE", help="Size of the frames of a video.  [default: source]")
@click.option(
    "--step",
    type=click.IntRange(1),
    help="Number of frames from the first to the second frame of a pair.  [default: 1]",
)
@click.option(
    "--engine", cls=Option, section=SECTION, metavar="NAME", help="As for `extract`.  [default: auto]"
)
@preset_option
@tvl1_option
def flow(
    sources: tuple[Path, ...],
    out: Path,
    pair: int,
    size: str | None,
    step: int | None,
    engine: str | None,
    preset: str | None,
    changes: tuple[str, ...],
) -> None:
    """Compute the flow of one pair of frames.

    \b
    SOURCE is
      two images, the first and the second frame,
      or a video, as a file, a folder of frames or a list,
      or a corpus and a name of a video: its stored flow.

    A .flo file has u (right) and v (down) of each pixel as float32, in the format of Middlebury. A .png file
    shows the direction as hue and the length as saturation.

    \b
    flowprep flow A.png B.png -o flow.png
    flowprep flow holiday.mp4 --pair 12 -o flow.flo
    flowprep flow corpus v_Punch_g01_c01 -o flow.flo
    """
    images = len(sources) == 2 and all(suffix_of(str(path)) in IMAGE_SUFFIXES for path in sources)
    only_with("a video", not images, "pair", "size", "step")
    check_sources(sources)
    check_engine_options(engine, preset, changes, size, step)

    import numpy as np

    from flowprep.flo import write_flo
    from flowprep.viz import flow_to_rgb, save_png
    from flowprep.viz.sources import open_sources

    stored = is_corpus(sources[0])
    ((video, *_),) = open_sources(
        [str(source) for source in sources],
        size=size if stored else size or "source",
        step=step,
        engine=engine,
        preset=preset,
        changes=changes,
        single=True,
    )
    if pair >= video.num_pairs:
        raise UsageError(f"--pair is {pair}; allowed: {video.id} has the pairs 0 to {video.num_pairs - 1}")
    field = video.flow(pair, 1)[0]
    if out.suffix.lower() == ".flo":
        write_flo(field, out)
    else:
        save_png(flow_to_rgb(field), out)
    largest = float(np.hypot(*field).max())
    result = {"output": str(out), "width": field.shape[2], "height": field.shape[1], "largest_px": largest}
    print_result(result, f"{out}: displacements up to {largest:.3g} px")


@click.command(cls=Command, renamed=RENAMED_OUTPUT)
@click.argument("videos", metavar="INPUT...", nargs=-1, required=True, type=INPUT)
@out_option(
    "FILE",
    "PNG file to write: a plot of ratio against error.",
    type=NewFile(".png"),
    required=False,
)
@click.option(
    "--size",
    default="short:256",
    show_default=True,
    metavar="SIZE",
    help="Size of the frames, as for `extract`.",
)
@click.option(
    "--pairs",
    type=click.IntRange(1),
    default=24,
    show_default=True,
    help="Pairs of frames, spread over the videos.",
)
@click.option(
    "--target-error",
    metavar="PX",
    type=click.FloatRange(0, min_open=True),
    help="Find the fewest bytes with this mean error or less.",
)
@click.option(
    "--target-ratio",
    metavar="TIMES",
    type=click.FloatRange(0, min_open=True),
    help="Find the smallest error with this ratio or more.",
)
@solver_options
def tune(
    videos: tuple[Path, ...],
    out: Path | None,
    engine: str,
    preset: str | None,
    changes: tuple[str, ...],
    **options: Any,
) -> None:
    """Measure size and error of each quantiser on your videos.

    INPUT is what `flowprep extract` accepts. Of a folder or a list, videos are taken from all parts.
    Flow is computed once and encoded with each quantiser. The table has the ratio to float32, the mean and
    the 99th percentile of the error after decoding, the share of clipped values, the share of still pixels
    (under 0.05 px) that decode to exactly 0, and milliseconds to encode a pair. With a target, the options
    of `extract` that reach it follow.
    """
    if options["target_error"] and options["target_ratio"]:
        raise UsageError("both --target-error and --target-ratio are given; allowed: one of the two")
    check_engine_options(engine, preset, changes, options["size"])

    from flowprep.bench import tune as tuning
    from flowprep.bench.tune_chart import draw_tuning
    from flowprep.viz import save_png

    result = tuning.tune(videos, engine, tvl1=tvl1_from_options(engine, preset, changes), **options)
    if out:
        save_png(draw_tuning(result), out)

    def show() -> None:
        pairs = count_noun(result.pairs, "pair")
        click.echo(f"{pairs} of {result.size}, {result.still_share:.0%} of their pixels still:")
        print_table([tuning.as_row(choice) for choice in result.choices])
        click.echo("(bytes, ms: of a pair; error, 99%: mean and percentile, px;")
        click.echo(" still: share of the still pixels that decode to exactly 0)")
        if result.chosen:
            click.echo("\nreaches the target:")
            print_table([tuning.as_row(result.chosen)])

    print_result(result, show)
