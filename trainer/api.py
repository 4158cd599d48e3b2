"""The operations of the command `trainer` as functions.

Arguments are checked, and recipes and lists are read, before torch is loaded. Wrong use therefore fails at
once.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import flowprep
from flowprep.errors import UsageError
from flowprep.system.progress import Progress, progress_bar
from trainer.evaluation.scores import TEST_SCORES, VALIDATION_SCORES, Scores

if TYPE_CHECKING:
    from flowprep import Corpus
    from trainer.data.annotations import Examples
    from trainer.evaluation.fusion import FusionResult
    from trainer.evaluation.trained_run import Run
    from trainer.recipe.schema import Recipe
    from trainer.training.metrics_log import LogRow

log = logging.getLogger(__name__)

DataSet = tuple["Path | str", str]  # a corpus and a list of its videos; the list may be "all"


@dataclass(frozen=True)
class EvaluationResult:
    """Class scores of videos, and their file.

    Attributes:
        scores: The scores.
        out: The file of scores.
        stream: The stream of the run, after training; else "".
        reused: The scores of an earlier call were read, because the run was finished and evaluated.
    """

    scores: Scores
    out: Path
    stream: str = ""
    reused: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The object that `trainer train --json` and `trainer evaluate --json` print."""
        stream = {"stream": self.stream} if self.stream else {}
        count, accuracy = len(self.scores.ids), self.scores.accuracy
        return {**stream, "videos": count, "accuracy": accuracy, "out": str(self.out)}


def open_run(path: Path | str) -> Run:
    """Open the folder of a training run: see `trainer.evaluation.trained_run.Run`.

    Raises:
        UsageError: The folder has no checkpoint.
        CheckpointDamaged: The checkpoint cannot be read.
    """
    from trainer.evaluation.trained_run import open_run

    return open_run(path)


def train(
    recipe: Recipe,
    corpus: Path | str,
    train_list: str,
    test_list: str,
    out: Path,
    *,
    multi_task: Sequence[DataSet] = (),
    add_classes: Sequence[DataSet] = (),
    class_index: Path | None = None,
    allow_missing: bool = False,
    resume: bool = False,
    compiled: bool = False,
    device: str = "auto",
    workers: int | None = None,
    show_progress: bool = False,
) -> EvaluationResult:
    """Train a network, then evaluate it on the test videos.

    Under torchrun each process calls this function. The processes share the batches and the videos.

    Args:
        recipe: The recipe: see `trainer.read_recipe`.
        corpus: The folder of the corpus.
        train_list: The training videos: a file, or FOLDER:trainN for split N of HMDB-51.
        test_list: The test videos: a file, or FOLDER:testN.
        out: The run's folder.
        multi_task: Further data sets, each learnt by a head of its own on the same network.
        add_classes: Further data sets, whose classes the first head learns in addition.
        class_index: File that maps the lists' numbers to classes (classInd.txt).
        allow_missing: Ignore videos and classes of the lists that the corpus lacks.
        resume: Continue from the last checkpoint. A finished run is evaluated if that is missing or was made
            with another test list.
        compiled: Compile the network by torch.compile.
        device: "auto", "cpu", "cuda", "cuda:1", ...
        workers: Loader processes. 0 loads in this process. The number changes only the speed. None divides
            the cores between loading and computing: see `trainer.training.device.share_cores`.
        show_progress: Show progress bars on stderr.

    Returns:
        The scores of the test videos.

    Raises:
        UsageError: The recipe, a list or a corpus does not fit, or `out` is in use or has another run.
        NotFinite: A loss, a weight or a score is infinite or not a number.
    """
    from trainer.data.annotations import auxiliary_examples
    from trainer.data.splits import read_split

    opened = flowprep.open_corpus(Path(corpus))
    examples, test = read_split(
        opened,
        train_list,
        test_list,
        class_index,
        allow_missing=allow_missing,
        groups=recipe.train.groups,
    )

    def read_sets(sets: Sequence[DataSet]) -> list[tuple[Corpus, Examples]]:
        corpora = [(flowprep.open_corpus(Path(path)), source) for path, source in sets]
        return [(c, auxiliary_examples(c, s, test, opened, allow_missing=allow_missing)) for c, s in corpora]

    tasks, classes = read_sets(multi_task), read_sets(add_classes)

    from trainer.data import loading
    from trainer.evaluation.trained_run import open_run
    from trainer.training import distributed, run_folder
    from trainer.training import trainer as training
    from trainer.training.device import share_cores

    loading.check_fit(opened, test.ids, recipe)
    loaders = share_cores(device, workers)
    with distributed.process_group(device) as own_device:
        hidden = not show_progress or distributed.rank() > 0
        with nullcontext() if distributed.rank() else run_folder.claim_run(out):
            with progress_bar("steps", label=f"training {recipe.stream}", hidden=hidden) as progress:
                trained_now = training.train(
                    recipe,
                    opened,
                    examples,
                    out,
                    multi_task=tasks,
                    add_classes=classes,
                    resume=resume,
                    device=own_device,
                    workers=loaders,
                    compiled=compiled,
                    on_step=_StepReport(recipe.train.steps, progress),
                )
            path = out / TEST_SCORES
            if not trained_now and (stored := _stored_scores(path, test)):
                return EvaluationResult(stored, path, recipe.stream, reused=True)
            run = open_run(out)
            listed = dict(zip(examples.ids, examples.groups, strict=bool(examples.groups)))
            if len(held_out := run.held_out(opened).with_groups(listed)):
                _evaluate_to(run, opened, held_out, out / VALIDATION_SCORES, own_device, loaders, hidden)
            scores = _evaluate_to(run, opened, test, path, own_device, loaders, hidden)
            return EvaluationResult(scores, path, recipe.stream)


def evaluate(
    run: Path,
    corpus: Path | str,
    source: str,
    out: Path,
    *,
    frames: int | None = None,
    crops: int | None = None,
    control: str | None = None,
    svm_list: str | None = None,
    class_index: Path | None = None,
    allow_missing: bool = False,
    device: str = "auto",
    workers: int | None = None,
    show_progress: bool = False,
) -> EvaluationResult:
    """Class scores that the network of a run gives to the videos of a list.

    Args:
        run: The run's folder.
        corpus: The folder of the corpus.
        source: The videos: a list as for `train`.
        out: The file of scores, .npz.
        frames: Clips of a video, instead of the recipe's `test.frames`.
        crops: Crops of a clip, instead of the recipe's `test.crops`.
        control: A control of the input, instead of the recipe's `input.control`.
        svm_list: A list of videos. A linear SVM is fitted on the network's features of these videos, and
            classifies instead of the softmax.
        class_index: as for `train`.
        allow_missing: as for `train`.
        device: as for `train`.
        workers: as for `train`.
        show_progress: as for `train`.

    Raises:
        UsageError: The run, the list or the corpus does not fit.
        NotFinite: A score is infinite or not a number.
    """
    opened = flowprep.open_corpus(Path(corpus))

    from trainer.training import distributed
    from trainer.training.device import share_cores

    opened_run = open_run(run)
    examples = opened_run.examples(opened, source, class_index, allow_missing=allow_missing)
    fit = None
    if svm_list:
        fit = opened_run.examples(opened, svm_list, class_index, allow_missing=allow_missing)
    loaders = share_cores(device, workers)
    options = {"frames": frames, "crops": crops, "control": control, "fit": fit}
    with distributed.process_group(device) as own_device:
        hidden = not show_progress or distributed.rank() > 0
        scores = _evaluate_to(opened_run, opened, examples, out, own_device, loaders, hidden, **options)
    return EvaluationResult(scores, out)


def fuse(
    first: Path | str,
    second: Path | str,
    *,
    method: str = "average",
    calibrate: bool = False,
    fit: tuple[Path | str, Path | str] | None = None,
    groups: str = "",
    out: Path | None = None,
) -> FusionResult:
    """Fuse the scores of the spatial stream (`first`) and of the temporal stream (`second`).

    Args:
        first: A file of scores, or the folder of a training run.
        second: likewise.
        method: "average", "weighted" or "svm": see `trainer.evaluation.fusion.Fusion`.
        calibrate: Fit a temperature for each stream first.
        fit: Scores of both streams for other videos, to fit on. Two training runs need none: their validation
            scores serve.
        groups: A pattern that finds the groups of these videos, instead of those that the scores have: see
            `trainer.data.groups.find_groups`.
        out: File for the fused scores, .npz.

    Raises:
        UsageError: The scores do not fit each other, or there are no scores to fit on.
    """
    from trainer.evaluation.fusion import FusionResult, fit_fusion, fit_on_runs

    paths = Path(first), Path(second)
    a, b = (Scores.load(path) for path in paths)
    runs = all(path.is_dir() for path in paths)
    if runs:
        _check_order(*paths)
    if runs and not fit:
        fusion = fit_on_runs(method, *paths, calibrate=calibrate, groups=groups)
    else:
        fit_scores = (Scores.load(Path(fit[0])), Scores.load(Path(fit[1]))) if fit else None
        fusion = fit_fusion(method, fit_scores, calibrate=calibrate, groups=groups)
    result = FusionResult(fusion, a, b, fusion(a, b), calibrate)
    if not out:
        return result
    result.fused.save(out)
    return replace(result, out=out)


def _check_order(first: Path, second: Path) -> None:
    from trainer.training.checkpoint import stream_of_run

    if [stream_of_run(first), stream_of_run(second)] == ["temporal", "spatial"]:
        raise UsageError(f"{first} is a temporal run and {second} a spatial one: give the spatial one first")


def _evaluate_to(
    run: Run,
    corpus: Corpus,
    examples: Examples,
    out: Path,
    device: str,
    workers: int,
    hidden: bool,
    **options: Any,
) -> Scores:
    """Evaluate the run, and write the scores from the first process."""
    from trainer.evaluation.evaluate import evaluate
    from trainer.training import distributed

    log.info("evaluating %d videos for %s", len(examples), out)
    with progress_bar("clips", label="evaluating", hidden=hidden) as progress:
        scores = evaluate(run, corpus, examples, device=device, workers=workers, progress=progress, **options)
    if distributed.rank() == 0:
        scores.save(out)
    return scores


def _stored_scores(path: Path, examples: Examples) -> Scores | None:
    """The scores of an earlier evaluation, if they have these videos, labels and classes in this order."""
    if not path.exists():
        return None
    scores = Scores.load(path)
    stored = (scores.ids.tolist(), scores.labels.tolist(), scores.classes.tolist())
    same = stored == (list(examples.ids), list(examples.labels), list(examples.classes))
    return scores if same else None


class _StepReport:
    """Reports the steps of a training to a progress bar, and validations to the log."""

    def __init__(self, steps: int, progress: Progress) -> None:
        self._steps, self._progress, self._note = steps, progress, ""

    def __call__(self, done: int, row: LogRow | None) -> None:
        if row:
            self._note = f"loss {row.loss:.3f}, accuracy {row.train_accuracy:.0%}"
        self._progress(done, self._steps, self._note)
        if row and (row.validation or done == self._steps):
            log.info(_describe_step(row))


def _describe_step(row: LogRow) -> str:
    text = f"step {row.step}: loss {row.loss:.3f}, training accuracy {row.train_accuracy:.0%}"
    if row.validation:
        text += f", validation accuracy {row.validation.accuracy:.0%}"
    return f"{text}, {row.clips_per_second:.0f} clips/s, {row.data_wait:.0%} of the time waiting for data"
