"""Prediction of the classes of a raw video, by the same steps as a test video."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flowprep import VIDEO_SUFFIXES, Corpus, Settings, make_corpus, open_corpus
from flowprep.errors import UsageError, VideoUnreadable
from trainer.data import loading
from trainer.evaluation.features import score_videos
from trainer.evaluation.fusion import Fusion, fit_on_runs
from trainer.evaluation.scores import Scores
from trainer.evaluation.trained_run import Run, open_run
from trainer.training.device import pick_device, pick_precision

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClassScore:
    """A class and its score, a probability."""

    name: str
    score: float


@dataclass(frozen=True)
class Prediction:
    """The classes of a video.

    Attributes:
        video: The video.
        classes: All classes, the most probable first.
    """

    video: Path
    classes: tuple[ClassScore, ...]

    def top(self, count: int) -> Prediction:
        """The `count` most probable classes."""
        return replace(self, classes=self.classes[:count])

    def to_dict(self) -> dict[str, Any]:
        """The object that `trainer predict --json` prints."""
        return {
            "video": str(self.video),
            "classes": [{"class": c.name, "score": c.score} for c in self.classes],
        }


def predict(
    video: Path,
    runs: Mapping[str, Path],
    method: str = "average",
    *,
    calibrate: bool = False,
    device: str = "auto",
    workers: int = 0,
) -> Prediction:
    """Classify a video by training runs. Their softmax scores are averaged or fused.

    The video is extracted into a temporary corpus with the settings of the runs' corpora. Only the streams of
    the runs are extracted.

    Args:
        video: A video file, or a folder of numbered frames.
        runs: Folders of training runs by stream: "spatial", "temporal" or "both" (a joint network).
        method: "average" or "weighted", as for `fusion.fit_on_runs`.
        calibrate: Fit a temperature for each stream, as for `fusion.fit_on_runs`.
        device: "auto", "cpu", "cuda", "cuda:1", ...
        workers: Loader processes. 0 loads in this process.

    Raises:
        UsageError: There is no such video, or several; or a run has another stream or other classes, or no
            validation scores to fit a fusion on.
        VideoError: The video cannot be read.
    """
    _check_video(video)
    opened = {stream: open_run(path) for stream, path in runs.items()}
    _check_runs(opened)
    fusion = _make_fusion(opened, method, calibrate=calibrate)
    scores: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory(prefix="trainer-predict-") as folder:
        corpora: dict[str, Corpus] = {}
        for stream, run in opened.items():
            key = run.checkpoint.corpus.digest()
            if key not in corpora:
                sharing = [r for r in opened.values() if r.checkpoint.corpus.digest() == key]
                corpora[key] = _extract(video, Path(folder) / f"corpus{len(corpora)}", _settings(sharing))
            scores[stream] = _score(run, corpora[key], pick_device(device), workers)
    classes = next(iter(opened.values())).classes
    fused = _fuse(fusion, scores, classes)
    order = np.argsort(-fused, kind="stable")
    return Prediction(video, tuple(ClassScore(classes[n], float(fused[n])) for n in order))


def _check_video(video: Path) -> None:
    if not video.exists():
        raise UsageError(f"{video}: no such file")
    if video.suffix in (".txt", ".csv"):
        raise UsageError(f"{video} is not a video; trainer evaluate scores the videos of a list")
    if video.is_dir() and any(p.is_dir() or p.suffix.lower() in VIDEO_SUFFIXES for p in video.iterdir()):
        raise UsageError(f"{video} is a folder of videos; give one video, or one folder of numbered frames")


def _check_runs(runs: Mapping[str, Run]) -> None:
    for stream, run in runs.items():
        if run.stream != stream:
            raise UsageError(f"{run.path} is a {run.stream} run, not a {stream} one")
    if len({run.classes for run in runs.values()}) > 1:
        names = " and ".join(str(run.path) for run in runs.values())
        raise UsageError(f"the runs have different classes: {names}; give runs of the same classes")


def _make_fusion(runs: Mapping[str, Run], method: str, *, calibrate: bool) -> Fusion | None:
    """The fusion of a spatial and a temporal run; None for the average of any runs."""
    if method == "average" and not calibrate:
        return None
    if set(runs) != {"spatial", "temporal"}:
        raise UsageError("weights and temperatures are of two streams: give --spatial and --temporal alone")
    if method == "svm":
        raise UsageError("method is 'svm', which gives no probabilities; allowed: average | weighted")
    return fit_on_runs(method, runs["spatial"].path, runs["temporal"].path, calibrate=calibrate)


def _settings(runs: list[Run]) -> Settings:
    """The settings of the corpus that runs share, with the streams that they need."""
    streams = {run.stream for run in runs}
    settings = runs[0].checkpoint.corpus
    flow = bool(streams & {"temporal", "both"})
    return replace(
        settings,
        rgb=bool(streams & {"spatial", "both"}),
        flow=flow,
        backward=any(run.recipe.input.bidirectional for run in runs if run.stream != "spatial"),
        stabilise=flow and settings.stabilise,
    )


def _extract(video: Path, out: Path, settings: Settings) -> Corpus:
    """A corpus of this video alone.

    Raises:
        VideoUnreadable: The video cannot be read.
        UsageError: The folder has several videos.
    """
    log.info("extracting %s at %s with engine %s", video, settings.size, settings.engine)
    make_corpus([video], out, settings, jobs=1)
    corpus = open_corpus(out)
    if not corpus:
        reason = next(iter(corpus.failures.values()), "it contains no video")
        raise VideoUnreadable(f"{video}: {reason}")
    if len(corpus) > 1:
        raise UsageError(f"{video} contains {len(corpus)} videos; give one")
    return corpus


def _score(run: Run, corpus: Corpus, device: torch.device, workers: int) -> np.ndarray:
    """(1, C) scores of the only video of a corpus."""
    ids, test = list(corpus), run.recipe.test
    loading.check_fit(corpus, ids, run.recipe)
    return score_videos(
        run.load_model(device),
        corpus,
        ids,
        run.recipe,
        classes=len(run.classes),
        frames=test.frames,
        crops=test.crops,
        whole=test.whole,
        device=device,
        precision=pick_precision(run.checkpoint.precision, device),
        workers=workers,
    )


def _fuse(fusion: Fusion | None, scores: Mapping[str, np.ndarray], classes: tuple[str, ...]) -> np.ndarray:
    """(C,) fused scores of one video."""
    if fusion is None:
        return np.asarray(np.mean(list(scores.values()), axis=0)[0])
    # The true class is unknown: label 0 has no effect. The empty id is none of the fitted videos' ids.
    first, second = (
        Scores(np.array([""]), np.array([0]), np.array(classes), scores[stream])
        for stream in ("spatial", "temporal")
    )
    return np.asarray(fusion(first, second).scores[0])
