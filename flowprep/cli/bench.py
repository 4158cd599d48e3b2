"""The commands `flowprep bench flow|read|truth|gpu`: how fast and how exact this machine is."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flowprep.cli.arguments import INPUT
from flowprep.cli.command import SHARED_FLAGS, Group, warn_old_spelling
from flowprep.cli.options import (
    check_engine_options,
    corpus_argument,
    only_with,
    preset_option,
    solver_options,
    tvl1_from_options,
    tvl1_option,
)
from flowprep.cli.output import print_result, print_table
from flowprep.errors import UsageError
from flowprep.presets import Tvl1Settings, solver_name
from flowprep.system.units import count_noun

if TYPE_CHECKING:
    from flowprep.bench.cuda import CudaBenchmark
    from flowprep.bench.flow import FlowBenchmark
    from flowprep.bench.read import Rates, ReadBenchmark

videos_argument = click.argument("videos", metavar="[INPUT]...", nargs=-1, type=INPUT)
size_option = click.option(
    "--size",
    default="short:256",
    show_default=True,
    metavar="SIZE",
    help="Size of frames, as for `extract`.",
)


class BenchGroup(Group):
    """The group `bench`. It still accepts the options that stood in place of its commands."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse arguments, after an old form was translated."""
        return super().parse_args(ctx, self._translate(args))

    def _translate(self, args: list[str]) -> list[str]:
        first = next((arg for arg in args if arg not in SHARED_FLAGS), "")
        if first in self.commands or first in ("-h", "--help"):
            return args
        for option in ("--truth", "--read"):
            for place, arg in enumerate(args):
                if arg == option and place + 1 < len(args):
                    warn_old_spelling(f"`bench {option} PATH`", f"`bench {option[2:]} PATH`")
                    return [option[2:], args[place + 1], *args[:place], *args[place + 2 :]]
                if arg.startswith(option + "="):
                    warn_old_spelling(f"`bench {option}=PATH`", f"`bench {option[2:]} PATH`")
                    return [option[2:], arg.partition("=")[2], *args[:place], *args[place + 1 :]]
        if first and not first.startswith("-") and not Path(first).exists():
            return args  # a misspelt command
        warn_old_spelling("`bench` without a command", "`bench flow`")
        return ["flow", *args]


@click.group(cls=BenchGroup)
def bench() -> None:
    """Measure this machine: speed and errors of flow, speed of reading, speed of a GPU."""


@bench.command("flow")
@videos_argument
@size_option
@click.option(
    "--pairs",
    type=click.IntRange(1),
    default=12,
    show_default=True,
    help="Pairs of frames, spread over the videos.",
)
@click.option(
    "--threads", type=click.IntRange(1), help="Threads of the run on all cores.  [default: one for each core]"
)
@click.option(
    "--stages",
    is_flag=True,
    help="Time each stage of engine cpu instead, beside the limit of this processor.",
)
@solver_options
def bench_flow(
    videos: tuple[Path, ...],
    stages: bool,
    engine: str,
    preset: str | None,
    changes: tuple[str, ...],
    **options: Any,
) -> None:
    """Time an engine against OpenCV's TV-L1, alternately on the same pairs.

    INPUT is what `flowprep extract` accepts. Without it, sample clips are used.

    The output has milliseconds per pair on one thread, the distance to OpenCV's flow, pairs per second on all
    cores, size and error of each quantiser, and the time of each stage of an extraction. OpenCV runs with its
    default parameters, whatever the preset. With engine cuda, the output of `bench gpu` follows.

    With --stages, the output is a table of the stages of engine cpu on one thread. Its columns are
    milliseconds a pair, millions of pixels (those of each iteration, in tiles where the solver works),
    nanoseconds and clock cycles a pixel, the limit in nanoseconds, what bounds it, and the time as a multiple
    of the limit.
    """
    check_engine_options(engine, preset, changes, options["size"])
    if stages:
        only_with("bench flow without --stages", False, "threads")
        if engine not in ("auto", "cpu"):
            raise UsageError(f"--stages is given with engine {engine}; allowed: engine cpu")
        _bench_stages(videos, tvl1_from_options("cpu", preset, changes), options["size"], options["pairs"])
        return

    from flowprep.bench.flow import bench

    result = bench(videos, engine, tvl1=tvl1_from_options(engine, preset, changes), **options)
    name = solver_name(result.engine, result.tvl1)
    print_result(result, lambda: _show_flow(result, name))


@bench.command("truth")
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@solver_options
def bench_truth(folder: Path, engine: str, preset: str | None, changes: tuple[str, ...]) -> None:
    """Compute the end-point errors of an engine, and of OpenCV, against the .flo files in DIR.

    The two frames of each file are in the same folder: those of flow10.flo are frame10.png and frame11.png.
    """
    check_engine_options(engine, preset, changes)

    from flowprep.bench.truth import endpoint_errors

    result = endpoint_errors(folder, engine, tvl1_from_options(engine, preset, changes))
    name = solver_name(result.engine, result.tvl1)

    def show() -> None:
        click.echo(f"mean end-point errors in pixels, {name} and OpenCV's default:")
        for path, error in result.errors_px.items():
            click.echo(f"  {error['ours']:8.4f} {error['opencv']:8.4f}  {path}")

    print_result(result, show)


@bench.command("read")
@corpus_argument
@click.option(
    "--videos",
    type=click.IntRange(1),
    default=8,
    show_default=True,
    help="Videos that are exported and read.",
)
@click.option(
    "--threads",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    help="Threads of a second comparison; 1 for none.",
)
def bench_read(corpus: Path, videos: int, threads: int) -> None:
    """Compare the speed of reading CORPUS with that of a folder of JPEG files, read with Pillow.

    The output has stacks of flow in pixels, stacks of codes, and frames: reads per second of one thread and
    of several. It also has rates by thirds of the stacks: "still" are those with the fewest bytes, "violent"
    those with the most.
    """
    from flowprep.bench.read import bench_reading
    from flowprep.corpus.reader import open_corpus

    result = bench_reading(open_corpus(corpus), videos=videos, threads=threads)
    print_result(result, lambda: _show_reading(result))


@bench.command("gpu")
@videos_argument
@size_option
@preset_option
@tvl1_option
def bench_gpu(videos: tuple[Path, ...], size: str, preset: str | None, changes: tuple[str, ...]) -> None:
    """Time engine cuda on the first GPU: pairs per second by size and batch, and the share of each kernel.

    The speed is compared with the maximum of the GPU. INPUT is what `flowprep extract` accepts, and its first
    video is used. Without it, a sample clip is used.
    """
    check_engine_options("cuda", preset, changes, size)

    from flowprep.bench.flow import bench_gpu

    result = bench_gpu(videos, size, tvl1_from_options("cuda", preset, changes))
    print_result(result, lambda: _show_gpu(result))


def _bench_stages(videos: tuple[Path, ...], tvl1: Tvl1Settings, size: str, pairs: int) -> None:
    from flowprep.bench.stages import bench_stages

    result = bench_stages(videos, tvl1=tvl1, size=size, pairs=pairs)

    def show() -> None:
        machine, peaks = result.machine, result.peaks
        click.echo(f"{machine.processor}, {peaks.ghz:.2f} GHz, compiled for {peaks.target}")
        click.echo(
            f"{solver_name('cpu', result.tvl1)}, {count_noun(result.pairs, 'pair')} of {result.size},"
            " one thread, both frames prepared:"
        )
        print_table(result.rows())

    print_result(result, show)


def _show_flow(result: FlowBenchmark, name: str) -> None:
    machine = result.machine
    click.echo(f"{machine.processor}, {machine.cores} cores, Python {machine.python}")
    pairs = count_noun(result.pairs, "pair")
    click.echo(f"{pairs} of {result.size}, one thread, alternately; median (quartiles):")
    for solver, ms in zip((name, "OpenCV"), result.ms_per_pair.values(), strict=True):
        click.echo(f"  {solver:12} {ms.median:8.2f} ms a pair  ({ms.low:.2f} to {ms.high:.2f})")
    ratio = result.ratio_per_pair
    click.echo(f"  {name} is {result.ratio} times as fast ({ratio.low} to {ratio.high} by pair)")
    click.echo(f"  distance to OpenCV {result.distance_px} px mean; energy {result.energy} of OpenCV's")
    rates, stages = result.pairs_per_second, result.stages
    click.echo(f"{result.threads} threads, one pair each, pairs per second:")
    speedup = rates["ours"] / rates["opencv"]
    click.echo(f"  {name} {rates['ours']}, OpenCV {rates['opencv']}: {speedup:.1f} times")
    click.echo(
        f"  a whole extraction in {result.threads} processes {rates['extraction']}:"
        f" {rates['extraction'] / rates['opencv']:.1f} times OpenCV's flow alone"
    )
    click.echo(f"  its stages in ms a pair: {', '.join(f'{stage} {ms}' for stage, ms in stages.items())}")
    click.echo(f"  flow is {stages['flow'] / sum(stages.values()):.0%} of that")
    for codes, fidelity in result.codes.items():
        click.echo(
            f"quantiser {codes}: {fidelity.ratio} times smaller than float32,"
            f" {fidelity.error_px} px mean error"
        )
    if result.cuda:
        click.echo()
        _show_gpu(result.cuda)


def _show_gpu(result: CudaBenchmark) -> None:
    click.echo(f"{result.device.name}, pairs per second by size and batch, with copies:")
    print_table(result.rows())
    click.echo("share of each kernel in the time:")
    click.echo("  " + ", ".join(f"{kernel} {share:.1%}" for kernel, share in result.kernels.items()))
    for ceiling, rate in dataclasses.asdict(result.ceilings).items():
        click.echo(f"  {ceiling.replace('_', ' ')}: {rate:.3g}")
    if share := result.share_of_ceiling:
        reached = result.pixel_iterations_per_second
        click.echo(f"  reached: {reached:.3g} pixel iterations per second, {share:.0%}")


def _show_reading(result: ReadBenchmark) -> None:
    click.echo(
        f"{result.clips} places in {count_noun(result.videos, 'video')}, quantiser {result.codes},"
        f" crops of {result.crop}, alternately; medians"
    )
    for rates, unit in (
        (result.stacks, "stacks of 10 flows"),
        (result.code_stacks, "stacks of 10 codes"),
        (result.frames, "frames"),
    ):
        if rates:
            _show_rates(rates, unit)


def _show_rates(rates: Rates, unit: str) -> None:
    for rate, title in ((rates.corpus, "this corpus"), (rates.folder, "JPEG folder, Pillow")):
        click.echo(
            f"  {title:20} {rate.per_second:6} {unit} a second,"
            f" {rate.per_core_second:6} a second of processor time"
        )
    click.echo(f"  {rates.ratio} times as many, by processor time")
    for kind, of_kind in (rates.kinds or {}).items():
        click.echo(
            f"    {kind:18} {of_kind.corpus.per_core_second:6} and {of_kind.folder.per_core_second} a second"
            f" of processor time: {of_kind.ratio} times"
        )
    if several := rates.threads:
        click.echo(
            f"    {several.threads} threads          {several.corpus:6} and {several.folder} a second:"
            f" {several.ratio} times; {several.corpus_scaling} and {several.folder_scaling} times one thread"
        )
