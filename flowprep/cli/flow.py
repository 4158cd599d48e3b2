"""Commands for flow without a corpus: flow, tune."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from flowprep.cli.command import Command
from flowprep.cli.options import RENAMED_OUTPUT, out_option, solver_options, tvl1_from_options
from flowprep.cli.output import print_result, print_table
from flowprep.errors import UsageError
from flowprep.system.units import count_noun

existing_file = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(cls=Command, renamed=RENAMED_OUTPUT)
@click.argument("first", type=existing_file)
@click.argument("second", type=existing_file)
@out_option("FILE", "File to write: .flo or .png.")
@solver_options
def flow(
    first: Path, second: Path, out: Path, engine: str, preset: str | None, changes: tuple[str, ...]
) -> None:
    """Compute the flow from image FIRST to image SECOND, at their size.

    A .flo file has u (right) and v (down) of each pixel as float32, in the format of Middlebury. A .png file
    shows the direction as hue and the length as saturation.
    """
    import numpy as np

    from flowprep.engines import tvl1
    from flowprep.flo import write_flo
    from flowprep.video.frames import read_image, to_grey
    from flowprep.viz import flow_to_rgb, save_png

    if out.suffix not in (".flo", ".png"):
        raise UsageError(f"--out is {out}; allowed: a name that ends in .flo or .png")
    before, after = (to_grey(read_image(path)) for path in (first, second))
    field = tvl1(before, after, engine=engine, preset=tvl1_from_options(engine, preset, changes))
    if out.suffix == ".flo":
        write_flo(field, out)
    else:
        save_png(flow_to_rgb(field), out)
    largest = float(np.hypot(*field).max())
    result = {"output": str(out), "width": field.shape[2], "height": field.shape[1], "largest_px": largest}
    print_result(result, f"{out}: displacements up to {largest:.3g} px")


@click.command(cls=Command, renamed=RENAMED_OUTPUT)
@click.argument(
    "videos", metavar="VIDEO...", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path)
)
@out_option("FILE", "PNG file to write: a plot of ratio against error.", required=False)
@click.option(
    "--size",
    default="short:256",
    show_default=True,
    metavar="SIZE",
    help="Size of the frames, as for `extract`.",
)
@click.option("--pairs", default=24, show_default=True, help="Pairs of frames, spread over the videos.")
@click.option(
    "--target-error", metavar="PX", type=float, help="Find the fewest bytes with this mean error or less."
)
@click.option(
    "--target-ratio", metavar="TIMES", type=float, help="Find the smallest error with this ratio or more."
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

    Flow is computed once and encoded with each quantiser. The table has the ratio to float32, the mean and
    the 99th percentile of the error after decoding, the share of clipped values, the share of still pixels
    (under 0.05 px) that decode to exactly 0, and milliseconds to encode a pair. With a target, the options
    of `extract` that reach it follow.
    """
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
