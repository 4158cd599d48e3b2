"""The command `trainer`: parse, call, print.

Exit codes: 0 done, 1 a fault (a damaged file, a device that fails), 2 wrong use. Heavy libraries are loaded
by the commands that need them, so that `--help` is quick.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from tqdm import tqdm

from flowprep.errors import FlowprepError, UsageError

if TYPE_CHECKING:
    from trainer.training.metrics_log import LogRow

FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)


class _NewFile(click.Path):
    """A file to write, in a folder that is made, and tried before anything is computed."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        path = Path(os.fsdecode(super().convert(value, parameter, context)))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path.parent):
                pass
        except OSError as exc:
            self.fail(f"{path} cannot be written: {exc.strerror}", parameter, context)
        return path


NEW_FILE = _NewFile(dir_okay=False, path_type=Path)
SCORES = click.Path(path_type=Path)
LOADER_DIED = "DataLoader worker ("  # how torch's errors begin


class _Commands(click.Group):
    """Turns every error that is raised on purpose into one line and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FlowprepError as exc:
            _fail(_one_line(exc), 2 if isinstance(exc, UsageError) else 1)
        except OSError as exc:
            if exc.errno == errno.EPIPE:  # the reader of a pipe went away: click ends quietly
                raise
            _fail(f"{exc.filename}: {exc.strerror}" if exc.filename else _one_line(exc), 1)
        except KeyboardInterrupt:
            _fail("interrupted", 1)
        except RuntimeError as exc:
            if LOADER_DIED not in str(exc):
                raise
            _fail(_one_line(exc), 1)
        except ModuleNotFoundError as exc:
            if exc.name in ("torch", "tensorboard", "sklearn", "tomli"):
                _fail(f"{exc.name} is not installed; pip install 'flowprep[train]'", 1)
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands in the order of their use, each with its whole first sentence."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, c.get_short_help_str(120)) for name, c in self.commands.items()])


@click.group(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="flowprep")
@click.option("-q", "--quiet", is_flag=True, help="Print warnings and results only.")
def main(quiet: bool) -> None:
    """Train, judge and fuse two-stream networks from a corpus that `flowprep extract` made.

    \b
    The usual way, for each of the two streams and then for both:
      trainer train spatial.toml  --corpus C --train-list train.txt --test-list test.txt --out runs/spatial
      trainer train temporal.toml --corpus C --train-list train.txt --test-list test.txt --out runs/temporal
      trainer fuse runs/spatial runs/temporal --method weighted --calibrate --out fused.npz
      trainer report --spatial runs/spatial --temporal runs/temporal --fused-scores fused.npz --corpus C

    Exit codes: 0 done, 1 a fault (a damaged file, a device that fails), 2 wrong use.
    """
    handler = _Handler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("trainer")
    logger.handlers[:] = [handler]
    # Of the processes that torchrun starts the first speaks.
    silent = "TORCHELASTIC_RUN_ID" in os.environ and os.environ["RANK"] != "0"
    logger.setLevel(logging.ERROR if silent else logging.WARNING if quiet else logging.INFO)
    logger.propagate = False


def _loading_options(command: Any) -> Any:
    command = click.option(
        "--workers",
        type=click.IntRange(0),
        default=None,
        show_default="one per core beside a GPU, else one per two cores",
        help="Processes that load and decode. Changes the speed only, never a result.",
    )(command)
    return click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, ...")(
        command
    )


_corpus_option = click.option("--corpus", required=True, type=FOLDER, help="The corpus of the videos.")
_missing_option = click.option(
    "--allow-missing",
    is_flag=True,
    help="Leave out, and say so, videos and classes of a list that the corpus does not hold.",
)
_index_option = click.option(
    "--class-index", type=FILE, help="classInd.txt: the order of classes, and what a list's numbers mean."
)
_calibrate_option = click.option(
    "--calibrate", is_flag=True, help="First give each stream's scores the temperature that fits."
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")


@main.command()
@click.argument("recipe", type=FILE)
@_corpus_option
@click.option("--train-list", required=True, help="Videos to learn from: a list (see above).")
@click.option("--test-list", required=True, help="Videos to judge by, once, at the end.")
@click.option("--out", required=True, type=FOLDER, help="The run's folder.")
@click.option(
    "--multi-task",
    nargs=2,
    multiple=True,
    metavar="CORPUS LIST",
    help="Another data set, learnt by a head of its own on the same trunk. LIST may be `all`.",
)
@click.option(
    "--add-classes",
    nargs=2,
    multiple=True,
    metavar="CORPUS LIST",
    help="Another data set, whose classes are learnt beside the test's. LIST may be `all`.",
)
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change the recipe: train.lr=0.01")
@click.option("--resume", is_flag=True, help="Go on from the run's last checkpoint.")
@click.option("--compile", "compiled", is_flag=True, help="Compile the network first, by torch.compile.")
@_index_option
@_missing_option
@_loading_options
@_json_option
def train(
    recipe: Path,
    corpus: Path,
    train_list: str,
    test_list: str,
    out: Path,
    multi_task: tuple[tuple[str, str], ...],
    add_classes: tuple[tuple[str, str], ...],
    changes: tuple[str, ...],
    resume: bool,
    compiled: bool,
    class_index: Path | None,
    allow_missing: bool,
    device: str,
    workers: int | None,
    as_json: bool,
) -> None:
    """Train the network of RECIPE (a TOML file) and judge it once by the test list.

    A list has a video per line: `Class/name.avi 3` (UCF-101), `Class/name.avi`, or `path label`;
    FOLDER:train1 and FOLDER:test1 read HMDB-51's split 1. A label in a list counts before the
    folder. Part of the training videos is held out for validation, by group where names have one (_g08_).
    The test list decides nothing.

    OUT receives last.pt (and best.pt), log.jsonl, tensorboard/, trainlist.txt and validationlist.txt (what
    was trained and validated on), test_scores.npz and validation_scores.npz. A run that was killed goes on
    with --resume and gives what it would have given.

    To start from the network of another run: --set model.weights=RUN. On several GPUs:
    `torchrun --nproc-per-node 4 --no-python trainer train ...`; the batch stays the recipe's.
    """
    from flowprep import open_corpus
    from trainer.data import loading, splits
    from trainer.data.annotations import auxiliary_examples
    from trainer.evaluation import evaluate
    from trainer.evaluation.scores import TEST_SCORES, VALIDATION_SCORES
    from trainer.recipe.toml import read_recipe
    from trainer.training import distributed, run_folder
    from trainer.training import trainer as train

    loaders = _share_cores(device, workers)
    parsed = read_recipe(recipe, changes)
    opened = open_corpus(corpus)
    examples, judged = splits.read_split(
        opened, train_list, test_list, class_index, allow_missing=allow_missing
    )
    loading.check_fit(opened, judged.ids, parsed)
    further = []
    for given in (multi_task, add_classes):
        sets = [(open_corpus(Path(path)), source) for path, source in given]
        further.append(
            [(c, auxiliary_examples(c, s, judged, opened, allow_missing=allow_missing)) for c, s in sets]
        )
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:  # as of what a script starts in the background
            signal.signal(number, _interrupt)
    with (
        distributed.process_group(device) as own,
        run_folder.claim_run(out) if not distributed.rank() else nullcontext(),
        _bar(parsed.train.steps, "step", f"training {parsed.stream}") as bar,
    ):

        def on_step(done: int, row: LogRow | None) -> None:
            bar.update(done - bar.n)
            if row:
                bar.set_postfix(loss=f"{row.loss:.3f}", accuracy=f"{row.train_accuracy:.0%}")
                if row.validation or done == parsed.train.steps:
                    logging.getLogger(__name__).info(_describe(row))

        try:
            with _patient():
                new = train.train(
                    parsed,
                    opened,
                    examples,
                    out,
                    multi_task=further[0],
                    add_classes=further[1],
                    resume=resume,
                    device=own,
                    workers=loaders,
                    compiled=compiled,
                    on_step=on_step,
                )
        except KeyboardInterrupt:
            _fail(f"interrupted: the same command with --resume goes on from the last checkpoint in {out}", 1)
        path = out / TEST_SCORES
        scores = None if new else _former_scores(path, judged)
        if scores:
            if not distributed.rank():
                click.echo(f"{out} is finished: {parsed.train.steps} steps, judged in {path}", err=True)
        else:
            held = evaluate.held_out(out, opened)
            if len(held):
                _judge(out, opened, held, out / VALIDATION_SCORES, own, loaders)
            scores = _judge(out, opened, judged, path, own, loaders)
        _print_accuracy(scores, path, as_json, stream=parsed.stream)


@main.command()
@click.argument("run", type=FOLDER)
@_corpus_option
@click.option("--list", "source", required=True, help="Videos to judge: a list as for `trainer train`.")
@click.option("--out", required=True, type=NEW_FILE, help="The file of scores, .npz.")
@click.option("--frames", type=click.IntRange(1), help="Clips per video, instead of the recipe's.")
@click.option(
    "--crops", type=click.Choice(["1", "2", "5", "10"]), help="Crops per clip, instead of the recipe's."
)
@click.option(
    "--control",
    type=click.Choice(["reversed", "shuffled"]),
    help="Judge flow without its direction or its order in time: input.control of the recipe.",
)
@click.option(
    "--svm",
    "fit_source",
    metavar="LIST",
    help="Judge by a linear SVM on the network's features (C3D's fc6), fitted on the videos of LIST.",
)
@_index_option
@_missing_option
@_loading_options
@_json_option
def evaluate(
    run: Path,
    corpus: Path,
    source: str,
    out: Path,
    frames: int | None,
    crops: str | None,
    control: str | None,
    fit_source: str | None,
    class_index: Path | None,
    allow_missing: bool,
    device: str,
    workers: int | None,
    as_json: bool,
) -> None:
    """Judge the videos of a list by the network of RUN.

    Writes an .npz file of four arrays: ids (N,) text; labels (N,), the true class as its position in
    classes (C,) text; scores (N, C) float32, softmax averaged over all clips and crops of a video.

    To fit a fusion: judge RUN/validationlist.txt (or the training list) and hand the scores to
    `trainer fuse --fit`.
    """
    from flowprep import open_corpus
    from trainer.evaluation import evaluate
    from trainer.training import distributed

    loaders = _share_cores(device, workers)
    opened = open_corpus(corpus)
    examples = evaluate.examples_for(run, opened, source, class_index, allow_missing=allow_missing)
    fit = None
    if fit_source:
        fit = evaluate.examples_for(run, opened, fit_source, class_index, allow_missing=allow_missing)
    with distributed.process_group(device) as own:
        some = int(crops) if crops else None
        scores = _judge(run, opened, examples, out, own, loaders, frames, some, control, fit)
        _print_accuracy(scores, out, as_json)


@main.command()
@click.argument("a", type=SCORES)
@click.argument("b", type=SCORES)
@click.option(
    "--method",
    type=click.Choice(["average", "weighted", "svm"]),
    default="average",
    show_default=True,
    help="average: the mean; weighted: w A + (1 - w) B, w a third if nothing tells; "
    "svm: a linear SVM on both, L2-normalised.",
)
@_calibrate_option
@click.option(
    "--fit",
    nargs=2,
    type=SCORES,
    metavar="A_FIT B_FIT",
    help="Scores of both for other videos, which weights, temperatures and the SVM are fitted on.",
)
@click.option("--out", type=NEW_FILE, help="Write the fused scores, .npz.")
@_json_option
def fuse(
    a: Path,
    b: Path,
    method: str,
    calibrate: bool,
    fit: tuple[Path, Path] | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Fuse the scores of the spatial stream, A, and of the temporal one, B, and print the accuracies.

    A and B are folders of training runs, whose test scores are fused, or files of `trainer evaluate`. Videos
    are matched by id. What is fitted is fitted on the scores given by --fit, which must not hold any of the
    judged videos; of two runs, on their validation scores where --fit is not given.
    """
    from trainer.evaluation.fusion import fit_fusion, fit_on_runs
    from trainer.evaluation.scores import Scores
    from trainer.training import checkpoint

    first, second = Scores.load(a), Scores.load(b)
    if [checkpoint.stream_of_run(run) for run in (a, b)] == ["temporal", "spatial"]:
        raise UsageError(f"{a} is a temporal run and {b} a spatial one: give the spatial one first")
    if not fit and a.is_dir() and b.is_dir():
        fusion = fit_on_runs(method, a, b, calibrate=calibrate)
    else:
        fitted = (Scores.load(fit[0]), Scores.load(fit[1])) if fit else None
        fusion = fit_fusion(method, fitted, calibrate=calibrate)
    fused = fusion(first, second)
    if out:
        fused.save(out)
    summary = {
        "method": method,
        "calibrated": calibrate,
        "temperatures": fusion.temperatures,
        "weights": None if method == "svm" else fusion.weights,
        "videos": len(fused.ids),
        "first_accuracy": first.accuracy,
        "second_accuracy": second.accuracy,
        "fused_accuracy": fused.accuracy,
        "out": str(out) if out else None,
    }
    if as_json:
        click.echo(json.dumps(summary))
    else:
        click.echo(
            f"first {first.accuracy:.1%}, second {second.accuracy:.1%}, fused ({method}) {fused.accuracy:.1%}"
        )


@main.command()
@click.argument("files", type=SCORES, nargs=-1, required=True)
@click.option("--confusion", type=NEW_FILE, help="Write the confusion matrix, summed over the files, as CSV.")
@_json_option
def scores(files: tuple[Path, ...], confusion: Path | None, as_json: bool) -> None:
    """Print the accuracy of each of FILES, such as the three splits', their mean, and that of each class.

    FILES are files of `trainer evaluate` and `trainer fuse`, or folders of training runs.
    """
    from trainer.evaluation.metrics import summarise, write_confusion
    from trainer.evaluation.scores import Scores

    found = summarise([Scores.load(path) for path in files])
    if confusion:
        write_confusion(confusion, found)
    if as_json:
        click.echo(json.dumps({"files": [str(path) for path in files], **found}))
        return
    for path, accuracy, count in zip(files, found["accuracy"], found["videos"], strict=True):
        click.echo(f"{accuracy:7.2%}  of {count} videos: {path}")
    click.echo(f"{found['mean_accuracy']:7.2%}  mean of {len(files)}")
    for name, share in zip(found["classes"], found["class_accuracy"], strict=True):
        click.echo(f"   {'-' if share is None else f'{share:.0%}':>6}  {name}")


@main.command()
@click.argument("recipes", type=FILE, nargs=-1, required=True)
@_corpus_option
@click.option("--list", "source", default="all", show_default=True, help="Videos: a list, or `all`.")
@click.option("--steps", type=click.IntRange(1), default=10, show_default=True, help="Training steps timed.")
@click.option("--folder", is_flag=True, help="Time also a loader of JPEGs in folders, as others have it.")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change a recipe: train.batch=64")
@_loading_options
@_json_option
def bench(
    recipes: tuple[Path, ...],
    corpus: Path,
    source: str,
    steps: int,
    folder: bool,
    changes: tuple[str, ...],
    device: str,
    workers: int | None,
    as_json: bool,
) -> None:
    """Print clips per second of the loader, of the model and of both, for each of RECIPES.

    The loader alone; training without loading; and training as it is, with the share of its time that it
    waits for data.

    --folder times, in turn with the loader, the one that two-stream networks are usually trained with: the
    same JPEGs as files in a folder per video, read by Pillow.
    """
    from flowprep import open_corpus
    from trainer.bench import bench
    from trainer.data.annotations import corpus_examples
    from trainer.recipe.toml import read_recipe

    loaders = _share_cores(device, workers)
    opened = open_corpus(corpus)
    examples = corpus_examples(opened, source)
    found = []
    for path in recipes:
        recipe = read_recipe(path, changes)
        speed = bench(recipe, opened, examples, device=device, workers=loaders, steps=steps, folder=folder)
        row = {"recipe": str(path), "stream": recipe.stream, "workers": loaders, **speed.to_dict()}
        found.append(row)
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo("clips/s   loader    model     both  waiting" + ("   folder  loader is" if folder else ""))
    for row in found:
        text = f"{row['stream']:8}" + "".join(f"{row[key]:9.1f}" for key in ("loader", "model", "both"))
        text += f"{row['data_wait']:9.1%}"
        click.echo(text + (f"{row['folder']:9.1f}  {row['ratio']:.1f} times as fast" if folder else ""))


@main.command()
@click.argument("video", type=click.Path(path_type=Path))
@click.option("--spatial", type=FOLDER, help="Folder of a spatial run.")
@click.option("--temporal", type=FOLDER, help="Folder of a temporal run.")
@click.option("--joint", type=FOLDER, help="Folder of the run of a joint network.")
@click.option(
    "--method",
    type=click.Choice(["average", "weighted"]),
    default="average",
    show_default=True,
    help="How a spatial and a temporal run are fused, as by `trainer fuse RUN RUN`.",
)
@_calibrate_option
@click.option(
    "--top", type=click.IntRange(1), default=5, show_default=True, help="How many classes to print."
)
@_loading_options
@_json_option
def predict(
    video: Path,
    spatial: Path | None,
    temporal: Path | None,
    joint: Path | None,
    method: str,
    calibrate: bool,
    top: int,
    device: str,
    workers: int | None,
    as_json: bool,
) -> None:
    """Print the likeliest classes of a raw VIDEO, a file or a folder of numbered frames.

    The video's frames and flow are extracted as those of the runs' corpus were and judged as in the test.
    One run will do; the scores of several are averaged, or fused as the runs' validation scores tell.
    """
    from trainer.predict import predict

    runs = _runs(spatial, temporal, joint)
    loaders = _share_cores(device, workers)
    ranked = predict(video, runs, method, calibrate=calibrate, device=device, workers=loaders)[:top]
    if as_json:
        click.echo(
            json.dumps({"video": str(video), "classes": [{"class": c, "score": s} for c, s in ranked]})
        )
        return
    for name, score in ranked:
        click.echo(f"{score:7.2%}  {name}")


@main.command()
@click.option("--spatial", type=FOLDER, help="Folder of the spatial run.")
@click.option("--temporal", type=FOLDER, help="Folder of the temporal run.")
@click.option("--joint", type=FOLDER, help="Folder of the run of a joint network.")
@click.option("--spatial-scores", type=FILE, help="Default: test_scores.npz of the run.")
@click.option("--temporal-scores", type=FILE, help="Default: test_scores.npz of the run.")
@click.option("--joint-scores", type=FILE, help="Default: test_scores.npz of the run.")
@click.option("--fused-scores", type=FILE, help="Default: the average of the two streams.")
@_corpus_option
@click.option(
    "-o", "--out", type=NEW_FILE, default=Path("report.html"), show_default=True, help="The HTML file."
)
@click.option("--mistakes", type=click.IntRange(0), default=6, show_default=True, help="How many to show.")
def report(
    spatial: Path | None,
    temporal: Path | None,
    joint: Path | None,
    spatial_scores: Path | None,
    temporal_scores: Path | None,
    joint_scores: Path | None,
    fused_scores: Path | None,
    corpus: Path,
    out: Path,
    mistakes: int,
) -> None:
    """Write one HTML file, without any outside resource, on runs of one corpus.

    Runs of both streams are shown with their fusion, and the run of a joint network alone or beside them. It
    has the accuracies, training curves, the confusion matrix, the accuracy of each class, the worst mistakes
    with their frames and flow, and all settings.
    """
    from flowprep import open_corpus
    from trainer.evaluation.fusion import fit_fusion
    from trainer.evaluation.scores import Scores
    from trainer.reports.run import write_report

    runs = _runs(spatial, temporal, joint)
    given = {"spatial": spatial_scores, "temporal": temporal_scores, "both": joint_scores}
    scores = {name: Scores.load(given[name] or run) for name, run in runs.items()}
    if fused_scores:
        scores["fused"] = Scores.load(fused_scores)
    elif spatial and temporal:
        scores["fused"] = fit_fusion("average")(scores["spatial"], scores["temporal"])
    write_report(out, runs, scores, open_corpus(corpus), mistakes=mistakes)
    click.echo(f"{out}: {', '.join(f'{name} {one.accuracy:.1%}' for name, one in scores.items())}")


@main.command()
@click.argument("run", type=FOLDER)
@click.option("-o", "--out", required=True, type=NEW_FILE, help="NAME.onnx, or NAME.pt2 for torch.export.")
@_json_option
def export(run: Path, out: Path, as_json: bool) -> None:
    """Write the network of RUN as one file that runs without this package: ONNX, or torch.export's.

    The file takes any number of clips at the recipe's crop, as `rgb`, `flow` or both, and gives logits; the
    classes and the recipe, which says how inputs are made, are inside. Its outputs are held against the
    network's before it is written: those of ONNX in ONNX Runtime.
    """
    from trainer.export import export

    differs = export(run, out)
    if as_json:
        click.echo(json.dumps({"run": str(run), "out": str(out), "difference": differs}))
    else:
        click.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB, outputs agree to {differs:.0e} of the largest")


@main.command()
@click.argument("runs", type=FOLDER, nargs=-1, required=True)
@click.option("-o", "--out", type=NEW_FILE, help="Write the comparison as one HTML file.")
@click.option(
    "--batch", type=click.IntRange(1), default=8, show_default=True, help="Clips that pass at once."
)
@click.option("--device", default="auto", show_default=True, help="Where inference is timed.")
@_json_option
def compare(runs: tuple[Path, ...], out: Path | None, batch: int, device: str, as_json: bool) -> None:
    """Compare training RUNS with each other, and with what was published of their networks.

    Accuracy is that of each run's test scores. Multiply-adds are of one clip and one crop. The speed of
    training is the median of the run's log; that of inference is timed here, all runs in turn.
    """
    from trainer.reports.compare import as_text, compare, write_page

    _share_cores(device, 0)
    rows = compare(runs, device=device, batch=batch)
    if out:
        write_page(out, rows)
    click.echo(json.dumps([row.to_dict() for row in rows]) if as_json else as_text(rows))


@main.command()
@click.argument("path", type=FILE, required=False, metavar="[RECIPE]")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change the recipe: train.lr=0.01")
def recipe(path: Path | None, changes: tuple[str, ...]) -> None:
    """Print RECIPE whole: every key that a recipe may have, with its meaning and its value there.

    Without RECIPE the values are the defaults, which are for a GPU; `stream` has none and must be given. What
    is printed is a recipe itself. Whether it fits its network is seen by `trainer train` only.
    """
    from trainer.recipe.schema import Recipe
    from trainer.recipe.toml import as_toml, read_recipe

    if changes and not path:
        raise UsageError("--set changes a recipe: name its file")
    click.echo(as_toml(read_recipe(path, changes) if path else Recipe("temporal")), nl=False)


@main.command()
@_json_option
def models(as_json: bool) -> None:
    """List the networks that a recipe's model.name may be, as they were published.

    For each: its paper; the shape of an input, (steps,) channels, height and width, with parameters for 101
    classes and multiply-adds of one clip; its options, the default first; and published accuracy, on split 1
    unless it says otherwise.
    """
    from trainer.models.summary import describe_models, format_count

    rows = [model.to_dict() for model in describe_models()]
    if as_json:
        click.echo(json.dumps(rows))
        return
    click.echo(f"    {'input':<8}  {'of a clip':<28} parameters  multiply-adds")
    for row in rows:
        click.echo(click.style(row["name"], bold=True))
        click.echo(click.wrap_text(row["paper"], 78, "    ", "    "))
        for stream, clip in row["inputs"].items():
            parameters, multiply_adds = (
                format_count(row["parameters"][stream]),
                format_count(row["multiply_adds"][stream]),
            )
            click.echo(f"    {stream:<8}  {clip:<28} {parameters:>10}  {multiply_adds:>13}")
        for key, values in row["options"].items():
            shown = ", ".join("..." if value == "..." else json.dumps(value) for value in values)
            click.echo(f"    options.{key}: {shown}")
        for what, share in row["published"].items():
            click.echo(f"    {share:.1f}%  {what}")


@main.command()
@_corpus_option
@click.option("--out", required=True, type=FOLDER, help="Where the three files go.")
@click.option(
    "--test-share", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.3, show_default=True
)
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True)
@click.option("--check", is_flag=True, help="Write nothing: exit 1 if a video is in no list of OUT.")
def split(corpus: Path, out: Path, test_share: float, seed: int, check: bool) -> None:
    """Divide a corpus that has no lists into training and test videos.

    Writes classInd.txt, trainlist01.txt and testlist01.txt as UCF-101 has them. Videos of one group (_g08_
    in their names) stay on one side; a video without a group is on its own.
    """
    from flowprep import open_corpus
    from trainer.data.splits import unlisted_videos, write_split

    if check:
        opened = open_corpus(corpus)
        if new := unlisted_videos(opened, out):
            click.echo(f"{len(new)} of {len(opened)} videos of {corpus} are in no list of {out}", err=True)
            raise SystemExit(1)
        return
    train, test = write_split(open_corpus(corpus), out, test_share=test_share, seed=seed)
    click.echo(f"{out}: {len(train)} videos to train on, {len(test)} to test, {len(train.classes)} classes")


def _runs(spatial: Path | None, temporal: Path | None, joint: Path | None) -> dict[str, Path]:
    """Those that are given, by their stream."""
    given = {"spatial": spatial, "temporal": temporal, "both": joint}
    runs = {name: run for name, run in given.items() if run}
    if not runs:
        raise UsageError("give --spatial RUN, --temporal RUN, both, or --joint RUN")
    return runs


def _bar(total: int, unit: str, what: str) -> Any:
    from trainer.training import distributed

    return tqdm(total=total, unit=unit, disable=True if distributed.rank() else None, desc=what)


def _judge(
    run: Path,
    corpus: Any,
    examples: Any,
    out: Path,
    device: str,
    workers: int,
    frames: int | None = None,
    crops: int | None = None,
    control: str | None = None,
    fit: Any = None,
) -> Any:
    """Judge the videos and write the scores."""
    from trainer.evaluation.evaluate import evaluate
    from trainer.training import checkpoint, distributed

    clips = (len(examples) + len(fit or ())) * (frames or checkpoint.load_selected(run).recipe.test.frames)
    logging.getLogger(__name__).info("judging %d videos by %d clips for %s", len(examples), clips, out)
    with _bar(clips, "clip", "judging") as bar:
        scores = evaluate(
            run,
            corpus,
            examples,
            frames=frames,
            crops=crops,
            control=control,
            fit=fit,
            device=device,
            workers=workers,
            on_clip=lambda: bar.update(distributed.world_size()),
        )
    scores.save(out)
    return scores


def _former_scores(path: Path, judged: Any) -> Any:
    """The scores of a finished run, if they are of the videos, classes and order that are asked for now."""
    from trainer.evaluation.scores import Scores

    if not path.exists():
        return None
    scores = Scores.load(path)
    stored = (scores.ids.tolist(), scores.labels.tolist(), scores.classes.tolist())
    return scores if stored == (list(judged.ids), list(judged.labels), list(judged.classes)) else None


def _print_accuracy(scores: Any, path: Path, as_json: bool, **more: str) -> None:
    from trainer.training import distributed

    if distributed.rank():
        return
    if as_json:
        summary = {**more, "videos": len(scores.ids), "accuracy": scores.accuracy, "out": str(path)}
        click.echo(json.dumps(summary))
    else:
        click.echo(f"accuracy {scores.accuracy:.1%} on {len(scores.ids)} videos; scores in {path}")


def _interrupt(*_: object) -> NoReturn:
    """End by Ctrl-C or SIGTERM. Slurm sends it to all processes: that loaders end, too, is no fault then."""
    signal.signal(signal.SIGCHLD, lambda *_: None)  # torch's handler would raise another error
    raise KeyboardInterrupt


@contextmanager
def _patient() -> Iterator[None]:
    """Where a loader was killed wait for a signal to this process: it may be that all are told to end."""
    try:
        yield
    except RuntimeError as exc:
        if LOADER_DIED in str(exc):
            time.sleep(1)
        raise


def _describe(row: LogRow) -> str:
    text = f"step {row.step}: loss {row.loss:.3f}, training accuracy {row.train_accuracy:.0%}"
    if row.validation:
        text += f", validation accuracy {row.validation.accuracy:.0%}"
    return f"{text}, {row.clips_per_second:.0f} clips/s, {row.data_wait:.0%} of the time waiting for data"


def _share_cores(device: str, workers: int | None) -> int:
    """Divide the cores between computing and loading; the number of loader processes.

    On a CPU one core is left to loading. A network's threads wait for each other at every layer: where they
    compete with the loaders, or with another program, for the last core, all of them stand still.
    """
    import torch

    from trainer.training.device import pick_device

    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        cores = os.cpu_count() or 1
    cores = max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))  # torchrun's processes here
    if pick_device(device).type != "cpu":
        return min(cores, 16) if workers is None else workers
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, cores - 1))
    return min(max(1, cores // 2), 16) if workers is None else workers


def _one_line(exc: BaseException) -> str:
    """The message; of an error in a loader process, torch's long account of it ends with the message."""
    text = str(exc).strip()
    if "Original Traceback" in text:
        text = text.splitlines()[-1].partition(": ")[2]
    return " ".join(text.split())


def _fail(message: str, code: int) -> NoReturn:
    click.echo(f"error: {message}", err=True)
    raise SystemExit(code)


class _Handler(logging.Handler):
    """Log lines on stderr, above the progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        mark = "warning: " if record.levelno >= logging.WARNING else ""
        tqdm.write(mark + self.format(record), file=sys.stderr)
