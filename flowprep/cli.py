"""The command line: parse, call, print. No logic lives here."""

from __future__ import annotations

import errno
import json
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from flowprep import __version__
from flowprep.errors import FlowprepError, UsageError, VideoMissing
from flowprep.settings import CODES, PRESETS, Settings, Tvl1Settings, default_preset, tvl1_settings

F = TypeVar("F", bound=Callable[..., Any])

EXIT_FAULT, EXIT_USAGE, EXIT_SOME_FAILED = 1, 2, 3
SHOWN_FAILURES = 20


class _Fault(click.ClickException):
    exit_code = EXIT_FAULT


class _WrongUse(click.ClickException):
    exit_code = EXIT_USAGE


class _Group(click.Group):
    """Turns the errors that flowprep raises on purpose into one line and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (UsageError, VideoMissing) as exc:
            raise _WrongUse(str(exc)) from exc
        except (FlowprepError, OSError) as exc:
            if getattr(exc, "errno", None) == errno.EPIPE:  # `flowprep info | head`: click ends quietly
                raise
            raise _Fault(str(exc)) from exc


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="flowprep")
@click.option("-v", "--verbose", count=True, help="Say more of what is done; twice for debugging.")
def main(verbose: int) -> None:
    """Videos to a corpus of frames and TV-L1 optical flow, as JPEG in HDF5 shards.

    \b
    flowprep samples clips                    a folder of small clips to try it on
    flowprep extract clips --out corpus       frames and flow of every video; run it again to resume
    flowprep verify corpus                    every checksum and every image
    flowprep show corpus VIDEO -o sheet.png   look at one
    flowprep flow A.png B.png -o flow.png     the flow of a single pair
    flowprep bench                            how fast this machine is

    Exit codes: 0 done, 1 a fault, 2 wrong use, 3 done but some videos failed (status names them).
    """
    level = [logging.WARNING, logging.INFO, logging.DEBUG][min(verbose, 2)]
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)


_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
_corpus_argument = click.argument("corpus", type=click.Path(exists=True, file_okay=False, path_type=Path))


_engine_option = click.option(
    "--engine",
    default="auto",
    show_default=True,
    help="What computes TV-L1: auto, cpu, opencv, or reference (slow, to check the others).",
)
_preset_option = click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    help="Parameters of TV-L1. best: smallest errors, twice the time of accurate. fast: a third of its time."
    " opencv: those of OpenCV."
    "  [default: accurate; opencv with --engine opencv]",
)
_tvl1_option = click.option(
    "--tvl1",
    "changes",
    metavar="NAME=VALUE",
    multiple=True,
    help="Change one parameter of the preset, as scales=8; may be repeated.",
)


def _tvl1(engine: str, preset: str | None, changes: tuple[str, ...]) -> Tvl1Settings:
    return tvl1_settings(preset or default_preset(engine), changes)


def _settings(engine: str, preset: str | None, changes: tuple[str, ...], **options: Any) -> Settings:
    return Settings(engine=engine, tvl1=_tvl1(engine, preset, changes), **options)


def _what_to_make(command: F) -> F:
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
        _engine_option,
        _preset_option,
        _tvl1_option,
        click.option(
            "--codes",
            type=click.Choice(CODES),
            default=d.codes,
            show_default=True,
            help="How flow becomes 0-255. adaptive: each field its own range, undone on reading."
            " fixed: [-R, R], no motion is 128. tsn: the formula of older tools.",
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
        click.option("--rgb/--no-rgb", default=d.rgb, show_default=True, help="Store the frames."),
        click.option("--flow/--no-flow", default=d.flow, show_default=True, help="Compute and store flow."),
        click.option(
            "--backward/--no-backward",
            default=d.backward,
            show_default=True,
            help="Store backward flow as well.",
        ),
        click.option(
            "--shard-pairs",
            default=d.shard_pairs,
            show_default=True,
            help="Pairs per shard, about; also what a kill can lose per worker.",
        ),
        click.option(
            "--keep-partial", is_flag=True, help="Keep the clean frames before the damage of a damaged video."
        ),
        _json_option,
    ]
    for option in reversed(options):
        command = option(command)
    return command


@main.command()
@_what_to_make
@click.option("--retry-failed", is_flag=True, help="Try again the videos that could not be taken before.")
@click.option("--jobs", type=click.IntRange(1), help="Worker processes.  [default: all cores]")
def extract(
    inputs: tuple[Path, ...], out: Path, jobs: int | None, retry_failed: bool, as_json: bool, **options: Any
) -> None:
    """Extract frames and flow of videos into a corpus; the same command again resumes.

    INPUT is a video file, a folder (searched for videos and for folders of numbered frames; a video's class
    is the name of its folder), a folder of numbered frames, or a list: .txt with "path [label]" lines, .csv
    with path,label rows. A video that cannot be taken is recorded with its reason and never stops the run.
    """
    from tqdm import tqdm

    from flowprep.corpus.index import load_index
    from flowprep.executors import default_jobs, extract_tasks, plan_corpus
    from flowprep.plan import summarise

    began = time.perf_counter()
    plan, skipped = plan_corpus(inputs, out, _settings(**options))
    before = load_index(out)
    pending = plan.pending(out, before.failures if retry_failed else ())
    click.echo(
        f"{len(plan.video_ids())} videos in {len(plan.tasks)} tasks, {len(pending)} to do;"
        f" engine {plan.settings.engine}; {skipped} other files passed over",
        err=True,
    )
    # On a terminal the bar moves; in a log it is a line twice a minute.
    interval = 0.5 if sys.stderr.isatty() else 30
    with tqdm(
        total=sum(t.estimate for t in pending),
        unit=" pairs",
        mininterval=interval,
        dynamic_ncols=True,
        disable=not pending,
    ) as bar:

        def show(pairs: int, taken: int, failed: int) -> None:
            bar.set_postfix_str(f"{taken} videos" + (f", {failed} failed" if failed else ""), refresh=False)
            bar.update(pairs - bar.n)

        try:
            faults = extract_tasks(out, plan, pending, jobs or default_jobs(), show)
        except KeyboardInterrupt:
            bar.close()
            raise _Fault(f"interrupted; {out} keeps what is done, and the same command resumes") from None
    summary = summarise(plan, load_index(out))
    seconds = time.perf_counter() - began
    pairs = bar.n
    run = {"pairs": pairs, "seconds": round(seconds, 3), "pairs_per_second": round(pairs / seconds, 2)}
    if as_json:
        click.echo(
            json.dumps(
                {"corpus": str(out), **summary, "skipped_files": skipped, "faults": faults, "run": run}
            )
        )
    else:
        _print_failures(summary)
        click.echo(
            f"{_counts(summary)}; {pairs:.0f} pairs in {seconds:.1f} s, {run['pairs_per_second']} a second"
        )
        click.echo(_sizes(summary["totals"]))
    for task, fault in faults.items():
        click.echo(f"Error: task {task}: {fault}", err=True)
    if faults or summary["videos"]["pending"]:
        sys.exit(EXIT_FAULT)
    if summary["videos"]["failed"]:
        sys.exit(EXIT_SOME_FAILED)


@main.command()
@_what_to_make
def plan(inputs: tuple[Path, ...], out: Path, as_json: bool, **options: Any) -> None:
    """Write the plan of a corpus, and extract nothing yet.

    INPUT and options are those of `extract`; the same `extract` command then carries it out.
    """
    from flowprep.executors import plan_corpus

    made, skipped = plan_corpus(inputs, out, _settings(**options))
    counts = {
        "corpus": str(out),
        "videos": len(made.video_ids()),
        "tasks": len(made.tasks),
        "pending_tasks": len(made.pending(out)),
        "pairs": sum(t.estimate for t in made.tasks),
        "skipped_files": skipped,
        "settings": made.settings.to_dict(),
    }
    if as_json:
        click.echo(json.dumps(counts))
    else:
        click.echo(
            "{videos} videos, about {pairs} pairs, in {tasks} tasks, {pending_tasks} to do;"
            " {skipped_files} other files passed over".format(**counts)
        )


@main.command()
@_corpus_argument
@_json_option
def status(corpus: Path, as_json: bool) -> None:
    """Say how far an extraction is, and which videos failed and why."""
    from flowprep.corpus.index import load_index
    from flowprep.plan import read_plan, summarise

    summary = summarise(read_plan(corpus), load_index(corpus))
    if as_json:
        click.echo(json.dumps({"corpus": str(corpus), **summary}))
        return
    tasks = summary["tasks"]
    click.echo(f"{tasks['done']} of {tasks['total']} tasks done")
    click.echo(_counts(summary))
    click.echo(_sizes(summary["totals"]))
    _print_failures(summary, None)


@main.command()
@_corpus_argument
@click.option("--jobs", type=click.IntRange(1), help="Shards checked at a time.  [default: all cores]")
@_json_option
def verify(corpus: Path, jobs: int | None, as_json: bool) -> None:
    """Check every checksum, image and count; exit 1 if one does not hold."""
    from flowprep.corpus.verify import verify_corpus
    from flowprep.executors import default_jobs

    report = verify_corpus(corpus, jobs or default_jobs())
    if as_json:
        problems = [p._asdict() for p in report.problems]
        click.echo(
            json.dumps(
                {
                    "shards": report.shards,
                    "videos": report.videos,
                    "images": report.images,
                    "problems": problems,
                }
            )
        )
    else:
        for problem in report.problems:
            click.echo(str(problem))
        click.echo(
            f"{report.shards} shards, {report.videos} videos, {report.images} images checked:"
            f" {len(report.problems) or 'no'} problems"
        )
    if report.problems:
        sys.exit(EXIT_FAULT)


@main.command()
@_corpus_argument
@click.argument("video", required=False)
@click.option("--list", "as_list", is_flag=True, help="Print id, label, frames and pairs of every video.")
@_json_option
def info(corpus: Path, video: str | None, as_list: bool, as_json: bool) -> None:
    """Describe a corpus (counts, sizes, settings, versions of what made it) or, by its id, one VIDEO."""
    from flowprep.corpus.reader import open_corpus

    opened = open_corpus(corpus)
    if as_list:
        rows = [
            {"id": v.id, "label": v.label, "frames": v.num_frames, "pairs": v.num_pairs}
            for v in opened.values()
        ]
        lines = [json.dumps(rows)] if as_json else ["\t".join(map(str, row.values())) for row in rows]
        click.echo("\n".join(lines))
        return
    facts = opened[video].facts() if video else opened.facts()
    if as_json:
        click.echo(json.dumps(facts))
        return
    _print_facts(facts)


@main.command()
@_corpus_argument
@click.argument("video")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="PNG file to write.")
@click.option("--columns", default=6, show_default=True, type=click.IntRange(1), help="Frames on the sheet.")
@click.option("--width", default=1200, show_default=True, type=click.IntRange(200), help="Pixels.")
@_json_option
def show(corpus: Path, video: str, output: Path, columns: int, width: int, as_json: bool) -> None:
    """Draw a contact sheet of VIDEO (an id, see `info --list`): frames, and flow in colour with a legend."""
    from flowprep.corpus.reader import open_corpus
    from flowprep.view import contact_sheet, save_png

    sheet = contact_sheet(open_corpus(corpus)[video], columns=columns, width=width)
    save_png(sheet, output)
    made = {"output": str(output), "width": sheet.shape[1], "height": sheet.shape[0]}
    click.echo(json.dumps(made) if as_json else str(output))


@main.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--classes", default=8, show_default=True, help="Classes, half of them by motion alone.")
@click.option("--clips", default=20, show_default=True, help="Clips per class.")
@click.option("--seed", default=0, show_default=True, help="Other seeds give other clips.")
@_json_option
def samples(directory: Path, classes: int, clips: int, seed: int, as_json: bool) -> None:
    """Write sample clips (.mp4 in class folders) and split lists into DIRECTORY.

    Some classes differ by motion alone and some by appearance alone, so that neither stream can tell all of
    them and both together can.
    """
    from tqdm import tqdm

    from flowprep.samples import write_samples

    with tqdm(total=classes * clips, unit=" clips", dynamic_ncols=True, disable=None) as bar:
        made = write_samples(directory, classes=classes, clips=clips, seed=seed, progress=bar.update)
    facts = {
        "directory": str(made.directory),
        "classes": list(made.classes),
        "train": len(made.train),
        "test": len(made.test),
        "lists": str(made.lists),
        "written": made.written,
    }
    if as_json:
        click.echo(json.dumps(facts))
    else:
        click.echo(
            f"{len(made.train)} clips to train and {len(made.test)} to test, {len(made.classes)} classes, in"
            f" {directory} ({made.written} written now); split lists in {made.lists}"
        )


@main.command()
@click.argument("first", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("second", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="The file to write: .flo or .png."
)
@_engine_option
@_preset_option
@_tvl1_option
@_json_option
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
    from flowprep.video import read_image, to_grey
    from flowprep.view import flow_to_rgb, save_png

    if output.suffix not in (".flo", ".png"):
        raise UsageError(f"output is {output}; allowed: a name that ends in .flo or .png")
    before, after = (to_grey(read_image(path)) for path in (first, second))
    found = tvl1(before, after, engine=engine, preset=_tvl1(engine, preset, changes))
    if output.suffix == ".flo":
        write_flo(found, output)
    else:
        save_png(flow_to_rgb(found), output)
    largest = float(np.hypot(*found).max())
    made = {"output": str(output), "width": found.shape[2], "height": found.shape[1], "largest_px": largest}
    click.echo(json.dumps(made) if as_json else f"{output}: displacements up to {largest:.3g} px")


@main.command()
@click.argument("videos", metavar="[VIDEO]...", nargs=-1, type=click.Path(exists=True, path_type=Path))
@_engine_option
@_preset_option
@_tvl1_option
@click.option("--size", default="short:256", show_default=True, help="As for `extract`.")
@click.option("--pairs", default=12, show_default=True, help="Pairs of frames, spread over the videos.")
@click.option("--threads", type=click.IntRange(1), help="Of the run with all cores.  [default: all cores]")
@click.option(
    "--truth",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Instead: errors against the .flo files in DIR, each with its two frames beside it.",
)
@_json_option
def bench(
    videos: tuple[Path, ...],
    engine: str,
    preset: str | None,
    changes: tuple[str, ...],
    truth: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Time an engine against OpenCV's TV-L1 on this machine, alternately on the same pairs.

    Without VIDEO, on sample clips. Prints milliseconds a pair on one thread, the ratio, how far the flow is
    from OpenCV's, pairs a second on all cores, what each kind of codes makes of it, and where the time of an
    extraction goes. OpenCV runs with its default parameters, whatever the preset.
    """
    from flowprep.bench import bench, endpoint_errors

    tvl1 = _tvl1(engine, preset, changes)
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
    click.echo(f"{found['threads']} threads: {found['pairs_per_second']} pairs a second")
    for codes, made in found["codes"].items():
        click.echo(
            f"{codes} codes: {made['ratio']} times smaller than float32, {made['error_px']} px mean error"
        )
    stages = ", ".join(f"{stage} {ms}" for stage, ms in found["stages"].items())
    click.echo(f"extraction in one process, ms a pair (stages overlap): {stages}")


def _print_facts(facts: dict[str, Any], indent: str = "") -> None:
    for name, value in facts.items():
        if isinstance(value, dict):
            click.echo(f"{indent}{name}:")
            _print_facts(value, indent + "  ")
        else:
            click.echo(f"{indent}{name}: {value}")


def _counts(summary: dict[str, Any]) -> str:
    videos = summary["videos"]
    text = f"{videos['ok']} of {videos['total']} videos in"
    text += f" ({videos['partial']} of them partial)" if videos["partial"] else ""
    text += f", {videos['failed']} failed"
    return text + (f", {videos['pending']} pending" if videos["pending"] else "")


def _sizes(totals: dict[str, float]) -> str:
    flow = totals.get("flow_bytes", 0)
    text = f"{_bytes(totals.get('shard_bytes', 0))} in shards"
    if flow:
        ratio = totals["flow_float32_bytes"] / flow
        text += f"; flow {_bytes(flow)}, {ratio:.0f} times smaller than float32"
    return text


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.4g} TB"


def _print_failures(summary: dict[str, Any], most: int | None = SHOWN_FAILURES) -> None:
    for kind in ("partial", "failures"):
        named = list(summary[kind].items())
        for video, reason in named[:most]:
            click.echo(f"{'failed' if kind == 'failures' else 'partial'}: {video}: {reason}", err=True)
        if most is not None and len(named) > most:
            click.echo(f"... and {len(named) - most} more: see `flowprep status`", err=True)


if __name__ == "__main__":
    main()
