"""Commands for flow itself: of a single pair, and how fast and how good it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from flowprep.cli.options import chosen_tvl1, engine_option, json_option, preset_option, tvl1_option
from flowprep.cli.output import print_table
from flowprep.errors import UsageError
from flowprep.presets import default_preset


@click.command()
@click.argument("first", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("second", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="The file to write: .flo or .png."
)
@engine_option
@preset_option
@tvl1_option
@json_option
def flow(
    first: Path,
    second: Path,
    output: Path,
    engine: str,
    preset: str | None,
    changes: tuple[str, ...],
    as_json: bool,
) -> None:
    """Compute the flow from image FIRST to image SECOND, at their size.

    A .flo file holds u (right) and v (down) of every pixel as float32, in Middlebury's format; a .png shows
    directions as hues and lengths as strength of colour.
    """
    import numpy as np

    from flowprep.engines import tvl1
    from flowprep.flo import write_flo
    from flowprep.video.frames import read_image, to_grey
    from flowprep.viz import flow_to_rgb, save_png

    if output.suffix not in (".flo", ".png"):
        raise UsageError(f"output is {output}; allowed: a name that ends in .flo or .png")
    before, after = (to_grey(read_image(path)) for path in (first, second))
    found = tvl1(before, after, engine=engine, preset=chosen_tvl1(engine, preset, changes))
    if output.suffix == ".flo":
        write_flo(found, output)
    else:
        save_png(flow_to_rgb(found), output)
    largest = float(np.hypot(*found).max())
    made = {"output": str(output), "width": found.shape[2], "height": found.shape[1], "largest_px": largest}
    click.echo(json.dumps(made) if as_json else f"{output}: displacements up to {largest:.3g} px")


@click.command()
@click.argument("videos", metavar="[VIDEO]...", nargs=-1, type=click.Path(exists=True, path_type=Path))
@engine_option
@preset_option
@tvl1_option
@click.option("--size", default="short:256", show_default=True, help="As for `extract`.")
@click.option("--pairs", default=12, show_default=True, help="Pairs of frames, spread over the videos.")
@click.option("--threads", type=click.IntRange(1), help="Of the run with all cores.  [default: all cores]")
@click.option(
    "--truth",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Instead: errors against the .flo files in DIR, each with its two frames beside it.",
)
@click.option(
    "--read",
    metavar="CORPUS",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Instead: how fast CORPUS is read, against a folder of its pictures as JPEGs read with Pillow.",
)
@json_option
def bench(
    videos: tuple[Path, ...],
    engine: str,
    preset: str | None,
    changes: tuple[str, ...],
    truth: Path | None,
    read: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Time an engine against OpenCV's TV-L1 on this machine, alternately on the same pairs.

    Without VIDEO, on sample clips. Prints milliseconds a pair on one thread, the ratio, how far the flow is
    from OpenCV's, pairs a second on all cores, what each kind of codes makes of it, and where the time of an
    extraction goes. OpenCV runs with its default parameters, whatever the preset. With engine cuda, also
    pairs a second by size and batch, against the ceiling of the GPU, and the share of each kernel.
    """
    if read:
        if videos or truth:
            raise UsageError("--read takes no VIDEO and no --truth: it measures how CORPUS is read")
        _bench_reading(read, as_json)
        return
    from flowprep.bench.cuda import as_rows
    from flowprep.bench.flow import bench, endpoint_errors

    tvl1 = chosen_tvl1(engine, preset, changes)
    if truth and videos:
        raise UsageError("--truth takes no VIDEO: it judges the pairs in its folder")
    found = endpoint_errors(truth, engine, tvl1) if truth else bench(videos, engine, tvl1=tvl1, **options)
    if as_json:
        click.echo(json.dumps(found))
        return
    name = f"{found['engine']} {preset or default_preset(engine)}" + "".join(
        f" {change}" for change in changes
    )
    if truth:
        click.echo(f"mean end-point errors in pixels, {name} and OpenCV's default:")
        for path, error in found["errors_px"].items():
            click.echo(f"  {error['ours']:8.4f} {error['opencv']:8.4f}  {path}")
        return
    click.echo("{processor}, {cores} cores, Python {python}".format(**found["machine"]))
    click.echo(f"{found['pairs']} pairs of {found['size']}, one thread, alternately; median (quartiles):")
    for which, ms in zip((name, "OpenCV"), found["ms_per_pair"].values(), strict=True):
        click.echo(f"  {which:12} {ms['median']:8.2f} ms a pair  ({ms['low']:.2f} to {ms['high']:.2f})")
    ratio = found["ratio_per_pair"]
    click.echo(f"  {name} is {found['ratio']} times as fast ({ratio['low']} to {ratio['high']} by pair)")
    click.echo(f"  distance to OpenCV {found['distance_px']} px mean; energy {found['energy']} of OpenCV's")
    rates, stages = found["pairs_per_second"], found["stages"]
    click.echo(f"{found['threads']} threads, a pair each, pairs a second:")
    click.echo(
        f"  {name} {rates['ours']}, OpenCV {rates['opencv']}: {rates['ours'] / rates['opencv']:.1f} times"
    )
    click.echo(
        f"  a whole extraction in {found['threads']} processes {rates['extraction']}:"
        f" {rates['extraction'] / rates['opencv']:.1f} times OpenCV's flow alone"
    )
    click.echo(f"  its stages in ms a pair: {', '.join(f'{stage} {ms}' for stage, ms in stages.items())}")
    click.echo(f"  flow is {stages['flow'] / sum(stages.values()):.0%} of that")
    for codes, made in found["codes"].items():
        click.echo(
            f"{codes} codes: {made['ratio']} times smaller than float32, {made['error_px']} px mean error"
        )
    if gpu := found.get("cuda"):
        click.echo(f"\n{gpu['device']['name']}, pairs a second by size and batch, copies counted in:")
        print_table(as_rows(gpu))
        click.echo("share of the time of each kernel:")
        click.echo("  " + ", ".join(f"{kernel} {share:.1%}" for kernel, share in gpu["kernels"].items()))
        for ceiling, rate in gpu["ceilings"].items():
            click.echo(f"  {ceiling.replace('_', ' ')}: {rate:.3g}")
        if gpu["share_of_ceiling"]:
            reached = gpu["pixel_iterations_per_second"]
            click.echo(f"  reached: {reached:.3g} pixel iterations per second, {gpu['share_of_ceiling']:.0%}")


@click.command()
@click.argument(
    "videos", metavar="VIDEO...", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path)
)
@engine_option
@preset_option
@tvl1_option
@click.option("--size", default="short:256", show_default=True, help="As for `extract`.")
@click.option("--pairs", default=24, show_default=True, help="Pairs of frames, spread over the videos.")
@click.option("--target-error", metavar="PX", type=float, help="Name the settings of the least bytes for it.")
@click.option(
    "--target-ratio", metavar="TIMES", type=float, help="Name the settings of the least error for it."
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="PNG file: ratio against error.")
@json_option
def tune(
    videos: tuple[Path, ...],
    engine: str,
    preset: str | None,
    changes: tuple[str, ...],
    output: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Say how small and how true each kind of codes is on your videos.

    Flow is computed once and encoded with each: how many times smaller than float32, mean error and 99th
    percentile after decoding, share clipped, share of the still pixels (under 0.05 px) that decode to exactly
    0, and milliseconds a pair to encode. With a target, the options of `extract` that reach it.
    """
    from flowprep.bench import tune as measured
    from flowprep.viz import save_png

    found = measured.tune(videos, engine, tvl1=chosen_tvl1(engine, preset, changes), **options)
    if output:
        save_png(measured.plot(found), output)
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo(
        f"{found['pairs']} pairs of {found['size']}, {found['still_share']:.0%} of their pixels still:"
    )
    print_table([measured.as_row(choice) for choice in found["choices"]])
    click.echo("(bytes, ms: of a pair; error, 99%: mean and percentile, px;")
    click.echo(" still: share of the still pixels that decode to exactly 0)")
    if found["chosen"]:
        click.echo("\nreaches the target:")
        print_table([measured.as_row(found["chosen"])])


def _bench_reading(corpus: Path, as_json: bool) -> None:
    from flowprep.bench.read import bench_reading
    from flowprep.corpus.reader import open_corpus

    found = bench_reading(open_corpus(corpus))
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo(
        "{clips} places in {videos} videos, {codes} codes, crops of {crop}, one thread, alternately;"
        " medians".format(**found)
    )
    for name, what in (("stacks", "stacks of 10 flows"), ("frames", "frames")):
        if made := found.get(name):
            for which, title in (("corpus", "this corpus"), ("folder", "JPEG folder, Pillow")):
                click.echo(
                    f"  {title:20} {made[which]['per_second']:6} {what} a second,"
                    f" {made[which]['per_core_second']:6} a second of processor time"
                )
            click.echo(f"  {made['ratio']} times as many, by processor time")
