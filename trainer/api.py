"""The operations of the command `trainer` as functions.

Arguments are checked, and recipes and lists are read, before torch is loaded. Wrong use therefore fails at
once.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import flowprep
from flowprep.errors import UsageError
from trainer.evaluation.scores import TEST_SCORES, Scores
from trainer.train_run import EvaluationResult as EvaluationResult
from trainer.train_run import evaluate_to

if TYPE_CHECKING:
    from flowprep import Corpus
    from trainer.data.annotations import Examples
    from trainer.evaluation.fusion import FusionResult
    from trainer.evaluation.trained_run import Run
    from trainer.recipe.schema import Recipe

log = logging.getLogger(__name__)

DataSet = tuple["Path | str", str]  # a corpus and a list of its videos; the list may be "all"


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
    fit_folds: int = 0,
    device: str = "auto",
    workers: int | None = None,
    loader: str = "auto",
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
        fit_folds: Number of further networks that score the training videos for the fit of a fusion: see
            `trainer.train_run.score_folds`. 0 trains none.
        device: "auto", "cpu", "cuda", "cuda:1", ...
        workers: Threads or processes that load. 0 loads when a batch is needed. The number changes only the
            speed. None divides the cores between loading and computing: see
            `trainer.training.device.share_cores`.
        loader: "threads", "processes", or "auto": see `trainer.data.loaders.pick_loader`. It changes only
            the speed.
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
    from trainer.train_run import RunOptions, score_folds, train_run
    from trainer.training import distributed
    from trainer.training.device import share_cores

    loading.check_fit(opened, test.ids, recipe)
    loaders = share_cores(device, workers)
    with distributed.process_group(device) as own_device:
        hidden = not show_progress or distributed.rank() > 0
        options = RunOptions(
            opened, tuple(tasks), tuple(classes), resume, compiled, own_device, loaders, loader, hidden
        )
        result = train_run(recipe, examples, test, out, options)
        if fit_folds:
            score_folds(recipe, examples, fit_folds, out, options)
        return result


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
    loader: str = "auto",
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
        loader: as for `train`.
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
        scores = evaluate_to(
            opened_run, opened, examples, out, own_device, loaders, loader, hidden, **options
        )
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
    _check_streams(paths)
    result = FusionResult(fusion, a, b, fusion(a, b), calibrate)
    if not out:
        return result
    result.fused.save(out, fused_by=method)
    return replace(result, out=out)


def _check_streams(paths: tuple[Path, Path]) -> None:
    """Refuse fused scores in place of a stream, and one stream twice."""
    for path in paths:
        if not path.is_dir() and (method := Scores.fused_by(path)):
            raise UsageError(
                f"{path} has scores that are fused already ({method}); allowed: a run, or scores of"
                " `trainer evaluate`, for each stream"
            )
    files = [(path / TEST_SCORES if path.is_dir() else path).resolve() for path in paths]
    if files[0] == files[1]:
        raise UsageError(
            f"{paths[0]} and {paths[1]} are the same scores; allowed: a spatial and a temporal stream"
        )


def _check_order(first: Path, second: Path) -> None:
    from trainer.training.checkpoint import stream_of_run

    if [stream_of_run(first), stream_of_run(second)] == ["temporal", "spatial"]:
        raise UsageError(f"{first} is a temporal run and {second} a spatial one: give the spatial one first")
