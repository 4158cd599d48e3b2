"""Prediction of the classes of a raw video, by the same steps as a test video."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flowprep import VIDEO_SUFFIXES, Corpus, Settings, make_corpus, open_corpus
from flowprep.corpus.names import is_corpus
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
    loader: str = "auto",
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
        workers: As for `trainer.evaluation.features.score_videos`.
        loader: As for `trainer.evaluation.features.score_videos`.

    Raises:
        UsageError: There is no such video, or several; or a run has another stream or other classes, or no
            validation scores to fit a fusion on.
        VideoError: The video cannot be read.
    """
    _check_video(video)
    return predict_all([video], runs, method, calibrate, device, workers, loader=loader, single=True)[0][0]


def predict_all(
    sources: Sequence[Path],
    runs: Mapping[str, Path],
    method: str = "average",
    calibrate: bool = False,
    device: str = "auto",
    workers: int = 0,
    *,
    loader: str = "auto",
    single: bool = False,
) -> tuple[list[Prediction], dict[str, str]]:
    """Classify several videos, as `predict` does one.

    Args:
        sources: Inputs of `flowprep extract`; or a corpus and names of its videos, as for `Corpus.find`. The
            videos of a corpus are read as they are stored.
        runs, method, calibrate, device, workers, loader: As for `predict`.
        single: Whether only one video is allowed, and one that cannot be read is an error.

    Returns:
        The predictions, and the reason by video for the videos that cannot be read.

    Raises:
        UsageError: As for `predict`; or a name stands for no video of the corpus.
        VideoError: No video can be read.
    """
    opened = {stream: open_run(path) for stream, path in runs.items()}
    _check_runs(opened)
    fusion = _make_fusion(opened, method, calibrate=calibrate)
    torch_device = pick_device(device)
    with tempfile.TemporaryDirectory(prefix="trainer-predict-") as folder:
        failures: dict[str, str] = {}
        if is_corpus(sources[0]):
            corpora, ids = _stored(sources, opened)
        else:
            corpora, ids = _extracted(sources, opened, Path(folder), single)
            for corpus in corpora.values():
                failures.update(corpus.failures)
        scores = {s: _score(run, corpora[s], ids, torch_device, workers, loader) for s, run in opened.items()}
    classes = next(iter(opened.values())).classes
    names = list(sources) if len(sources) == len(ids) == 1 else [Path(video) for video in ids]
    predictions = []
    for video, fused in zip(names, _fuse(fusion, scores, classes), strict=True):
        order = np.argsort(-fused, kind="stable")
        best = tuple(ClassScore(classes[n], float(fused[n])) for n in order)
        predictions.append(Prediction(video, best))
    return predictions, failures


def _stored(sources: Sequence[Path], runs: Mapping[str, Run]) -> tuple[dict[str, Corpus], list[str]]:
    """A corpus for each stream, and the ids of the named videos."""
    path, *names = sources
    corpus = open_corpus(path)
    if not names:
        raise UsageError(f"name a video of {path} by its id, label, file name or a pattern")
    for run in runs.values():
        if corpus.settings.digest() != run.checkpoint.corpus.digest():
            log.warning("%s has other settings than the corpus of %s", path, run.path)
    ids = list(dict.fromkeys(video for name in names for video in corpus.find(str(name))))
    return dict.fromkeys(runs, corpus), ids


def _extracted(
    sources: Sequence[Path], runs: Mapping[str, Run], folder: Path, single: bool
) -> tuple[dict[str, Corpus], list[str]]:
    """A temporary corpus for each stream, and the ids of the videos in all of them."""
    by_settings: dict[str, Corpus] = {}
    corpora: dict[str, Corpus] = {}
    for stream, run in runs.items():
        key = run.checkpoint.corpus.digest()
        if key not in by_settings:
            sharing = [r for r in runs.values() if r.checkpoint.corpus.digest() == key]
            out = folder / f"corpus{len(by_settings)}"
            by_settings[key] = _extract(sources, out, _settings(sharing), single)
        corpora[stream] = by_settings[key]
    return corpora, [
        video for video in next(iter(corpora.values())) if all(video in c for c in corpora.values())
    ]


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


def _extract(sources: Sequence[Path], out: Path, settings: Settings, single: bool) -> Corpus:
    """A corpus of these videos alone.

    Raises:
        VideoUnreadable: No video can be read.
        UsageError: There are several, and `single` is set.
    """
    names = ", ".join(map(str, sources))
    log.info("extracting %s at %s with engine %s", names, settings.size, settings.engine)
    make_corpus(list(sources), out, settings, jobs=1 if single else None)
    corpus = open_corpus(out)
    if not corpus:
        reason = next(iter(corpus.failures.values()), "it contains no video")
        raise VideoUnreadable(f"{names}: {reason}")
    if single and len(corpus) > 1:
        raise UsageError(f"{names} contains {len(corpus)} videos; give one")
    return corpus


def _score(
    run: Run, corpus: Corpus, ids: Sequence[str], device: torch.device, workers: int, loader: str
) -> np.ndarray:
    """(N, C) scores of videos of a corpus."""
    test = run.recipe.test
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
        loader=loader,
    )


def _fuse(fusion: Fusion | None, scores: Mapping[str, np.ndarray], classes: tuple[str, ...]) -> np.ndarray:
    """(N, C) fused scores of videos."""
    if fusion is None:
        return np.asarray(np.mean(list(scores.values()), axis=0))
    # The true classes are unknown: label 0 has no effect. These ids are none of the fitted videos' ids.
    count = len(next(iter(scores.values())))
    ids = np.array([f"//{number}" for number in range(count)])
    first, second = (
        Scores(ids, np.zeros(count, np.int64), np.array(classes), scores[stream])
        for stream in ("spatial", "temporal")
    )
    return np.asarray(fusion(first, second).scores)
