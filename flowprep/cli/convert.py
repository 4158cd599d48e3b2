"""Commands that convert a corpus: export, import, merge, subset, repack."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flowprep.cli.arguments import CORPUS, NEW_FOLDER, LocalPath
from flowprep.cli.command import Command
from flowprep.cli.options import (
    allow_missing_option,
    corpus_argument,
    corpus_out_option,
    only_with,
    out_option,
)
from flowprep.cli.output import (
    EXIT_SOME_FAILED,
    counts_line,
    print_failures,
    print_reasons,
    print_result,
    show_progress,
    sizes_line,
)
from flowprep.system.progress import Progress
from flowprep.system.units import count_noun

if TYPE_CHECKING:
    from flowprep.convert.export import ExportResult
    from flowprep.planning.status import CorpusStatus


def select_option(required: bool) -> Callable[[Any], Any]:
    """Return the option that chooses videos; all are chosen without it, unless it is required."""
    text = (
        "Only these videos: a label, a list of ids (.txt or .csv file), an id, the name of a file, or a"
        " pattern of ids such as 'Punch/*_g01_*'. Can be repeated."
    )
    help = text if required else f"{text}  [default: all]"
    return click.option("--select", "wanted", multiple=True, required=required, metavar="VIDEOS", help=help)


@click.command(cls=Command, old_destination="last")
@corpus_argument
@out_option("DIR", "Folder to write.", type=NEW_FOLDER)
@click.option(
    "--layout",
    required=True,
    metavar="LAYOUT",
    type=click.Choice(["tsn", "denseflow", "gpu_flow", "mmaction2", "webdataset", "npy", "flo"]),
    help="Names and numbers of the files: see above.",
)
@select_option(required=False)
@allow_missing_option
@click.option(
    "--convert",
    is_flag=True,
    help="Recode the flow if its quantisation is not that of the layout: decode it to pixels, clip it to the"
    " range of the layout, and compress it again. Without this option, such an export is refused.",
)
@click.option(
    "--range",
    type=float,
    metavar="R",
    help="Range of the layout's codes, in pixels.  [default: that of the corpus, or 20]",
)
@click.option(
    "--quality",
    default=95,
    show_default=True,
    type=click.IntRange(1, 100),
    help="JPEG quality of recoded flow; only with --convert.",
)
@click.option(
    "--shard-mb",
    default=256.0,
    show_default=True,
    type=click.FloatRange(min=0.1),
    help="Maximum size of one tar of layout webdataset, in 10^6 bytes.",
)
def export(corpus: Path, out: Path, **options: Any) -> None:
    """Write CORPUS in a layout that other tools read. The same command again resumes.

    Stored JPEGs are copied if their quantisation is that of the layout, as after
    `flowprep extract --quantiser tsn`.

    \b
    tsn         <video>/img_00001.jpg flow_x_00001.jpg
                Image n is the second frame of flow n, as
                dense_flow writes it. Frame 0 is left out.
                Lists rgb_*.txt and flow_*.txt have lines
                `folder count class`; each list of --select
                gives one.
    denseflow   <class>/<video>/img_00000.jpg flow_x_00000.jpg
                (flow_x_p2_00000.jpg for step 2)
                Image n is the first frame of flow n.
    gpu_flow    u/<video>/frame000001.jpg v/<video>/...
                jpegs_256/<video>/...
    mmaction2   <class>/<video>/img_00001.jpg flow_x_00001.jpg
                N images and N - 1 flows; lists as for tsn
    webdataset  000000.tar ... with one sample for each video,
                or several if it has more than 512 frames:
                .json (with scale and zero point), .cls, and
                the images as stored
    npy         <class>/<video>/flow.npy: float32 pixels
                (pairs, 2, H, W); rgb.npy
    flo         <class>/<video>/frame_0001.flo: pixels;
                frame_0001.jpg
    """
    layout, coded = options["layout"], ("tsn", "denseflow", "gpu_flow", "mmaction2")
    only_with(f"--layout {' or '.join(coded)}", layout in coded, "convert", "range", "quality")
    only_with("--convert", options["convert"], "quality")
    only_with("--layout webdataset", layout == "webdataset", "shard_mb")

    from flowprep.convert.export import export as write_export
    from flowprep.corpus.reader import open_corpus

    with show_progress("videos") as progress:
        result = write_export(open_corpus(corpus), out, progress=progress, **options)
    print_result(
        result,
        f"{count_noun(result.videos, 'video')}, {result.written} of them new; {describe_images(result)};"
        f" in {out}",
    )
    print_reasons("failed", result.failed)
    if result.failed:
        sys.exit(EXIT_SOME_FAILED)


def describe_images(result: ExportResult) -> str:
    """Return how many images an export wrote."""
    counts = {
        f"{count_noun(result.frames, 'frame')}": result.frames,
        f"{count_noun(result.copied, 'flow image')} copied": result.copied,
        f"{count_noun(result.recoded, 'flow image')} recoded": result.recoded,
        f"{count_noun(result.flow_fields, 'flow field')} in pixels": result.flow_fields,
    }
    return ", ".join(text for text, count in counts.items() if count) or "no images to write"


@click.command(name="import", cls=Command, renamed={"--codes": "--quantiser"})
@click.argument("directory", type=LocalPath(exists=True, file_okay=False))
@corpus_out_option
@click.option(
    "--layout",
    required=True,
    type=click.Choice(["tsn", "denseflow", "gpu_flow", "mmaction2"]),
    help="Names and numbers of the files: see `flowprep export --help`. x_00001.jpg is accepted, too.",
)
@click.option(
    "--range",
    required=True,
    type=float,
    metavar="R",
    help="Range that the other tool was run with, in pixels. The files do not contain it.",
)
@click.option(
    "--quantiser",
    "codes",
    type=click.Choice(["tsn", "fixed"]),
    default="tsn",
    show_default=True,
    help="Formula of the other tool. tsn: round(255 (v + R) / (2 R)); all of these tools use it. fixed: 128"
    " is no motion, and 255 is R.",
)
@click.option(
    "--labels",
    metavar="LIST",
    help="List of the classes, such as lines `folder count class` of tsn and mmaction2. A classInd.txt in the"
    " same folder names the numbers.  [default: the class of a video is the name of the parent folder]",
)
@allow_missing_option
@click.option(
    "--step",
    default=1,
    show_default=True,
    help="Number of frames from the first to the second frame of a pair.",
)
@click.option("--rgb/--no-rgb", default=True, show_default=True, help="Import the frames.")
@click.option("--flow/--no-flow", default=True, show_default=True, help="Import the flow.")
@click.option("--shard-pairs", default=512, show_default=True, help="Approximate pairs in a shard.")
@click.option("--retry-failed", is_flag=True, help="Also import failed and partial videos again.")
def import_(directory: Path, out: Path, **options: Any) -> None:
    """Make a corpus of the flow JPEGs in DIRECTORY. The same command again resumes.

    Files are copied byte by byte. A video can have gaps, damaged images, different sizes, or counts that do
    not match. Then its intact beginning is stored (partial), or nothing of it (failed). The reason is printed
    and recorded. In both cases the exit code is 3.

    In layout tsn with as many images as flows, image n is the second frame of flow n. The first frame is
    missing, so the first flow is left out, unless --no-rgb is given.
    """
    from flowprep.convert.import_folders import import_folders

    _make_corpus(lambda progress: import_folders(directory, out, progress=progress, **options), out)


@click.command(cls=Command, old_destination="first")
@click.argument("corpora", metavar="CORPUS...", nargs=-1, required=True, type=CORPUS)
@corpus_out_option
def merge(corpora: tuple[Path, ...], out: Path) -> None:
    """Make one corpus of several that have the same settings. Images are copied, not recoded."""
    _copy(corpora, out)


@click.command(cls=Command, old_destination="last")
@corpus_argument
@corpus_out_option
@select_option(required=True)
@allow_missing_option
def subset(corpus: Path, out: Path, wanted: tuple[str, ...], allow_missing: bool) -> None:
    """Make a corpus of some videos of CORPUS. Images are copied, not recoded."""
    _copy([corpus], out, wanted=wanted, allow_missing=allow_missing)


@click.command(cls=Command, old_destination="last")
@corpus_argument
@corpus_out_option
@click.option("--shard-pairs", required=True, type=click.IntRange(1), help="Approximate pairs in a shard.")
def repack(corpus: Path, out: Path, shard_pairs: int) -> None:
    """Make a corpus with the videos of CORPUS in shards of another size. Images are copied, not recoded."""
    _copy([corpus], out, shard_pairs=shard_pairs)


def _copy(corpora: Sequence[Path], out: Path, **options: Any) -> None:
    from flowprep.convert.copy import copy_videos
    from flowprep.corpus.reader import open_corpus

    sources = [open_corpus(corpus) for corpus in corpora]
    _make_corpus(lambda progress: copy_videos(sources, out, progress=progress, **options), out)


def _make_corpus(make: Callable[[Progress], CorpusStatus], out: Path) -> None:
    """Make a corpus with a progress bar, print its counts, and exit as its videos require."""
    with show_progress("pairs") as progress:
        status = make(progress)

    def show() -> None:
        print_failures(status)
        click.echo(counts_line(status))
        click.echo(sizes_line(status))

    print_result({"corpus": str(out), **status.to_dict()}, show)
    if status.failures or status.partial:
        sys.exit(EXIT_SOME_FAILED)
