"""Commands that take a corpus to other layouts and corpora, and bring one from there."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from flowprep.cli.options import corpus_argument, json_option
from flowprep.cli.output import (
    EXIT_SOME_FAILED,
    SHOWN_FAILURES,
    WrongUse,
    counts_line,
    print_failures,
    sizes_line,
)
from flowprep.system.progress import Progress, progress_bar

existing = click.Path(exists=True, file_okay=False, path_type=Path)
out_option = click.option(
    "--out",
    required=True,
    metavar="CORPUS",
    type=click.Path(file_okay=False, path_type=Path),
    help="Its folder.",
)
select_option = click.option(
    "--select",
    "wanted",
    multiple=True,
    metavar="WHAT",
    help="Only these videos: a label, a list file of ids (.txt, .csv) or a pattern of ids as 'Punch/*_g01_*';"
    " may be repeated.  [default: all]",
)


@click.command()
@corpus_argument
@click.argument("dest", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--layout",
    required=True,
    type=click.Choice(["tsn", "denseflow", "gpu_flow", "mmaction2", "webdataset", "npy", "flo"]),
    help="Whose names and numbers: see above.",
)
@select_option
@click.option(
    "--convert",
    is_flag=True,
    help="Where the stored codes are not those of the layout, recode the flow: decoded to pixels, clipped to"
    " the layout's range and compressed a second time. Without it this is refused.",
)
@click.option("--range", type=float, help="R of the layout's codes, pixels.  [default: the corpus's, or 20]")
@click.option("--quality", default=95, show_default=True, help="JPEG quality of recoded flow.")
@click.option(
    "--shard-mb",
    default=256.0,
    show_default=True,
    type=click.FloatRange(min=0.1),
    help="Bound of one tar of webdataset, 10^6 bytes.",
)
@json_option
def export(corpus: Path, dest: Path, as_json: bool, **options: Any) -> None:
    """Write CORPUS to the folder DEST in a layout that other tools read; the same command again resumes.

    Stored JPEGs are copied where the codes agree, as those of `extract --codes tsn` do.

    \b
    tsn         <video>/img_00001.jpg flow_x_00001.jpg flow_y_00001.jpg; image n is the frame that
                flow n leads to, as dense_flow writes it (frame 0 is not there); lists rgb_*.txt, flow_*.txt
                of `folder count class`, one for each list given with --select
    denseflow   <class>/<video>/img_00000.jpg flow_x_00000.jpg (flow_x_p2_00000.jpg for step 2); image n
                is the frame that flow n starts from
    gpu_flow    u/<video>/frame000001.jpg v/<video>/... jpegs_256/<video>/...
    mmaction2   <class>/<video>/img_00001.jpg flow_x_00001.jpg (N images, N - 1 flows); lists as tsn
    webdataset  000000.tar ...: a sample per video (several for one of more than 512 frames) with .json,
                .cls and its images, codes as stored, scale and zero in the json
    npy         <class>/<video>/flow.npy, (pairs, 2, H, W) float32 pixels, and rgb.npy
    flo         <class>/<video>/frame_0001.flo, pixels, and frame_0001.jpg
    """
    from flowprep.convert.export import export as run
    from flowprep.corpus.reader import open_corpus

    with progress_bar("videos") as show:
        done = run(open_corpus(corpus), dest, progress=show, **options).to_dict()
    if as_json:
        click.echo(json.dumps(done))
    else:
        click.echo(
            f"{done['videos']} videos, {done['written']} written now; {done['copied']} flow images copied,"
            f" {done['recoded']} recoded; in {dest}"
        )
    _fail_if(done["failed"])


@click.command(name="import")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@out_option
@click.option(
    "--layout",
    required=True,
    type=click.Choice(["tsn", "denseflow", "gpu_flow", "mmaction2"]),
    help="Whose names and numbers: see `flowprep export --help`; x_00001.jpg is taken as well.",
)
@click.option(
    "--range",
    required=True,
    type=float,
    help="R, the bound that the tool was run with: the files do not tell it.",
)
@click.option(
    "--codes",
    type=click.Choice(["tsn", "fixed"]),
    default="tsn",
    show_default=True,
    help="tsn: round(255 (v + R) / (2 R)), as all these tools store it. fixed: no motion is 128, R is 255.",
)
@click.option(
    "--labels",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="List of `folder count class`, as tsn and mmaction2 have; classInd.txt beside it names the numbers."
    "  [default: a video's class is the folder that its folder is in]",
)
@click.option("--step", default=1, show_default=True, help="Frames from the first to the second of a pair.")
@click.option("--rgb/--no-rgb", default=True, show_default=True, help="Take the frames.")
@click.option("--flow/--no-flow", default=True, show_default=True, help="Take the flow.")
@click.option("--shard-pairs", default=512, show_default=True, help="Pairs per shard, about.")
@click.option("--retry-failed", is_flag=True, help="Take again what failed before, or is partial.")
@json_option
def import_(directory: Path, out: Path, as_json: bool, **options: Any) -> None:
    """Make a corpus of the flow JPEGs in DIRECTORY, each file byte by byte; the same command again resumes.

    A video whose images have gaps, damage, other sizes or counts that do not fit is named with the reason,
    and kept as far as it is sound (partial) or left out (failed); either makes the exit code 3. Of layout
    tsn with as many images as flows, image n is where flow n leads to, and the first flow starts from a
    frame that is not there: it is left out, unless --no-rgb.
    """
    from flowprep.convert.import_folders import import_folders

    _store(lambda progress: import_folders(directory, out, progress=progress, **options), out, as_json)


@click.command()
@click.argument("out", metavar="OUT", type=click.Path(file_okay=False, path_type=Path))
@click.argument("corpora", metavar="CORPUS...", nargs=-1, required=True, type=existing)
@json_option
def merge(out: Path, corpora: tuple[Path, ...], as_json: bool) -> None:
    """Make one corpus OUT of several of the same settings, without recoding."""
    _copy(corpora, out, as_json)


@click.command()
@corpus_argument
@click.argument("out", metavar="OUT", type=click.Path(file_okay=False, path_type=Path))
@select_option
@json_option
def subset(corpus: Path, out: Path, wanted: tuple[str, ...], as_json: bool) -> None:
    """Make a corpus OUT of some videos of CORPUS, without recoding."""
    if not wanted:
        raise WrongUse("--select says which videos; for all of them there are `merge` and `repack`")
    _copy([corpus], out, as_json, wanted=wanted)


@click.command()
@corpus_argument
@click.argument("out", metavar="OUT", type=click.Path(file_okay=False, path_type=Path))
@click.option("--shard-pairs", required=True, type=click.IntRange(1), help="Pairs per shard, about.")
@json_option
def repack(corpus: Path, out: Path, shard_pairs: int, as_json: bool) -> None:
    """Store CORPUS in shards of another size, as the corpus OUT, without recoding."""
    _copy([corpus], out, as_json, shard_pairs=shard_pairs)


def _copy(corpora: Sequence[Path], out: Path, as_json: bool, **options: Any) -> None:
    from flowprep.convert.copy import copy_videos
    from flowprep.corpus.reader import open_corpus

    sources = [open_corpus(c) for c in corpora]
    _store(lambda progress: copy_videos(sources, out, progress=progress, **options), out, as_json)


def _store(make: Callable[[Progress], dict[str, Any]], out: Path, as_json: bool) -> None:
    """Make a corpus behind a progress bar, say what is in it, and exit as its videos say."""
    with progress_bar("pairs") as show:
        summary = make(show)
    if as_json:
        click.echo(json.dumps({"corpus": str(out), **summary}))
    else:
        print_failures(summary)
        click.echo(counts_line(summary))
        click.echo(sizes_line(summary["totals"]))
    if summary["failures"] or summary["partial"]:
        sys.exit(EXIT_SOME_FAILED)


def _fail_if(failed: dict[str, str]) -> None:
    """Name videos that could not be taken, and exit so."""
    for video, reason in list(failed.items())[:SHOWN_FAILURES]:
        click.echo(f"failed: {video}: {reason}", err=True)
    if len(failed) > SHOWN_FAILURES:
        click.echo(f"... and {len(failed) - SHOWN_FAILURES} more", err=True)
    if failed:
        sys.exit(EXIT_SOME_FAILED)
