"""A training run from its videos to its scores, and the networks of its folds."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowprep.system.progress import Progress, progress_bar
from trainer.evaluation.scores import FOLD_SCORES, TEST_SCORES, VALIDATION_SCORES, Scores, join_scores

if TYPE_CHECKING:
    from flowprep import Corpus
    from trainer.data.annotations import Examples
    from trainer.evaluation.trained_run import Run
    from trainer.recipe.schema import Recipe
    from trainer.training.metrics_log import LogRow

log = logging.getLogger(__name__)

FOLDS = "folds"  # folder of the folds' runs in a run


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


@dataclass(frozen=True)
class RunOptions:
    """What the networks of a run and of its folds have in common.

    Attributes:
        corpus: The corpus of the videos.
        multi_task, add_classes, resume, compiled: as for `trainer.training.trainer.train`.
        device: The device of this process.
        workers, loader: as for `trainer.training.trainer.train`.
        hidden: Whether to hide progress bars.
    """

    corpus: Corpus
    multi_task: tuple[tuple[Corpus, Examples], ...]
    add_classes: tuple[tuple[Corpus, Examples], ...]
    resume: bool
    compiled: bool
    device: str
    workers: int
    loader: str
    hidden: bool


def train_run(
    recipe: Recipe, examples: Examples, test: Examples, out: Path, options: RunOptions
) -> EvaluationResult:
    """Train a network into `out`, and write the scores of its held-out and of its test videos.

    Raises:
        UsageError: The recipe or a corpus does not fit, or `out` is in use or has another run.
        NotFinite: A loss, a weight or a score is infinite or not a number.
    """
    from trainer.evaluation.trained_run import open_run
    from trainer.training import distributed, run_folder
    from trainer.training import trainer as training

    with nullcontext() if distributed.rank() else run_folder.claim_run(out):
        with progress_bar("steps", label=f"training {recipe.stream}", hidden=options.hidden) as progress:
            trained_now = training.train(
                recipe,
                options.corpus,
                examples,
                out,
                multi_task=options.multi_task,
                add_classes=options.add_classes,
                resume=options.resume,
                device=options.device,
                workers=options.workers,
                loader=options.loader,
                compiled=options.compiled,
                on_step=_StepReport(recipe.train.steps, progress),
            )
        path = out / TEST_SCORES
        if not trained_now and (stored := stored_scores(path, test)):
            return EvaluationResult(stored, path, recipe.stream, reused=True)
        run = open_run(out)
        place = options.device, options.workers, options.loader, options.hidden
        listed = dict(zip(examples.ids, examples.groups, strict=bool(examples.groups)))
        if len(held_out := run.held_out(options.corpus).with_groups(listed)):
            evaluate_to(run, options.corpus, held_out, out / VALIDATION_SCORES, *place)
        scores = evaluate_to(run, options.corpus, test, path, *place)
        return EvaluationResult(scores, path, recipe.stream)


def score_folds(recipe: Recipe, examples: Examples, folds: int, out: Path, options: RunOptions) -> Scores:
    """Scores of all training videos, each by a network that was not trained on its group.

    Each network learns by the recipe from the videos outside its fold, and holds none out. A fusion that is
    fitted on these scores sees as many recordings as there are in the training list, instead of the few that
    the run holds out (Wolpert 1992; Breiman 1996). The cost is that of `folds` further runs.

    Args:
        recipe: The recipe of the run.
        examples: The training videos of the run.
        folds: The number of folds.
        out: The run's folder. Fold k is the run `folds/<k>-of-<folds>` in it; the scores are in
            fold_scores.npz.
        options: as for `train_run`.

    Raises:
        UsageError: as `train_run` and `trainer.data.splits.divide_groups`.
        NotFinite: as `train_run`.
    """
    from trainer.data.splits import divide_groups
    from trainer.training import distributed

    section = replace(recipe.train, validation_share=0.0, keep="last")
    parts = []
    for number, (rest, fold) in enumerate(divide_groups(examples, folds, recipe.train.groups), 1):
        log.info("fold %d of %d: %d videos to train on, %d to score", number, folds, len(rest), len(fold))
        run = out / FOLDS / f"{number}-of-{folds}"
        parts.append(train_run(replace(recipe, train=section), rest, fold, run, options).scores)
    scores = join_scores(parts)
    if distributed.rank() == 0:
        scores.save(out / FOLD_SCORES)
    return scores


def evaluate_to(
    run: Run,
    corpus: Corpus,
    examples: Examples,
    out: Path,
    device: str,
    workers: int,
    loader: str,
    hidden: bool,
    **options: Any,
) -> Scores:
    """Evaluate the run, and write the scores from the first process."""
    from trainer.evaluation.evaluate import evaluate
    from trainer.training import distributed

    log.info("evaluating %d videos for %s", len(examples), out)
    with progress_bar("clips", label="evaluating", hidden=hidden) as progress:
        scores = evaluate(
            run,
            corpus,
            examples,
            device=device,
            workers=workers,
            loader=loader,
            progress=progress,
            **options,
        )
    if distributed.rank() == 0:
        scores.save(out)
    return scores


def stored_scores(path: Path, examples: Examples) -> Scores | None:
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
