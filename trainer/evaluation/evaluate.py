"""Evaluation of a training run: class scores for videos."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flowprep.errors import UsageError
from flowprep.system.progress import Progress, no_progress
from trainer.data import loading
from trainer.data.annotations import Examples
from trainer.evaluation import svm
from trainer.evaluation.features import Sampling, score_videos, video_features
from trainer.evaluation.scores import Scores
from trainer.evaluation.trained_run import Run, open_run
from trainer.models.registry import MODELS, find_module
from trainer.recipe.schema import Recipe
from trainer.training.device import pick_device, pick_precision

if TYPE_CHECKING:
    from flowprep import Corpus

log = logging.getLogger(__name__)


def evaluate(
    run: Run | Path,
    corpus: Corpus,
    examples: Examples,
    *,
    frames: int | None = None,
    crops: int | None = None,
    control: str | None = None,
    fit: Examples | None = None,
    device: str = "auto",
    workers: int = 0,
    loader: str = "auto",
    progress: Progress = no_progress,
) -> Scores:
    """Class scores that a run's network gives to videos.

    Args:
        run: A training run, or its folder.
        corpus: The corpus of the videos.
        examples: The videos, labelled with the run's classes.
        frames: Number of clips of a video, instead of the recipe's `test.frames`.
        crops: Crops of a clip, instead of the recipe's `test.crops`. 5 and 10 are crops even if the recipe
            evaluates whole frames.
        control: A control of the input, instead of the recipe's `input.control`.
        fit: Fit a linear SVM on these videos, and let it classify instead of the softmax. Its input is the
            mean of the network's features over a video, divided by the L2 norm (Tran et al. 2015, section
            3.3).
        device: "auto", "cpu", "cuda", "cuda:1", ...
        workers, loader: As for `trainer.evaluation.features.score_videos`.
        progress: Called after each clip.

    Raises:
        UsageError: The run or the corpus does not fit, or the network has no features.
        NotFinite: A score is infinite or not a number.
    """
    run = run if isinstance(run, Run) else open_run(run)
    place = pick_device(device)
    recipe = run.recipe
    if fit:
        _check_fit_videos(recipe, fit.ids, examples.ids)
    if control is not None:
        recipe = replace(recipe, input=replace(recipe.input, control=control))
    if differences := run.checkpoint.corpus.differences(corpus.settings):
        log.warning(
            "%s was extracted with other settings than the run's corpus: %s",
            corpus.path,
            "; ".join(differences),
        )
    loading.check_fit(corpus, (*examples.ids, *(fit.ids if fit else ())), recipe)
    model = run.load_model(place)
    # The precision of the training: "auto" may select another one on this device.
    precision = pick_precision(run.checkpoint.precision, place)
    frames, whole = frames or recipe.test.frames, recipe.test.whole and crops in (None, 1, 2)
    sampling = Sampling(recipe, frames, crops or recipe.test.crops, whole=whole)
    if fit:

        def features(ids: Sequence[str], report: Progress) -> np.ndarray:
            return video_features(
                model,
                corpus,
                ids,
                sampling,
                place,
                precision,
                workers=workers,
                loader=loader,
                progress=report,
            )

        scores = _svm_scores(features, fit, examples, recipe, run.classes, frames, progress)
    else:
        scores = score_videos(
            model,
            corpus,
            examples.ids,
            recipe,
            classes=len(run.classes),
            frames=frames,
            crops=sampling.crops,
            whole=whole,
            device=place,
            precision=precision,
            workers=workers,
            loader=loader,
            progress=progress,
        )
    groups = [group.name for group in examples.find_groups(recipe.train.groups)]
    labels = np.array(examples.labels, np.int64)
    return Scores(np.array(examples.ids), labels, np.array(run.classes), scores, np.array(groups))


def _svm_scores(
    features: Callable[[Sequence[str], Progress], np.ndarray],
    fit: Examples,
    examples: Examples,
    recipe: Recipe,
    classes: Sequence[str],
    frames: int,
    progress: Progress,
) -> np.ndarray:
    """Decision values (N, C) of an SVM that is fitted on the features of other videos.

    Args:
        features: A function from video ids and a progress to feature vectors.
        fit: The videos to fit on.
        examples: The N videos to classify.
        recipe: Its `train.groups` finds the groups for the cross-validation.
        classes: C class names.
        frames: Clips of a video.
        progress: Called with the number of clips of all videos.
    """
    first, total = len(examples) * frames, (len(examples) + len(fit)) * frames
    queries = features(examples.ids, lambda done, _, note="": progress(done, total, note))
    training = features(fit.ids, lambda done, _, note="": progress(first + done, total, note))
    groups = [group.name for group in fit.find_groups(recipe.train.groups)]
    values = svm.decision_values(
        svm.unit_length(training), np.array(fit.labels), groups, classes, svm.unit_length(queries)
    )
    return values.astype(np.float32)


def _check_fit_videos(recipe: Recipe, fit_ids: Sequence[str], ids: Sequence[str]) -> None:
    """Refuse an SVM for a network without features, and one that is fitted on evaluated videos."""
    if not find_module(recipe.model.name).SPEC.features:
        names = ", ".join(name for name in MODELS if find_module(name).SPEC.features)
        raise UsageError(f"{recipe.model.name} has no features for an SVM; allowed: {names}")
    if shared := sorted(set(fit_ids) & set(ids)):
        raise UsageError(
            f"the SVM would be fitted on {len(shared)} of the evaluated videos: {', '.join(shared[:5])}; "
            "give a list of other videos"
        )
