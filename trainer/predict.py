"""Classes of a raw video, by the way that the test takes: extracted as the run's corpus was, then judged."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from flowprep import VIDEO_SUFFIXES, Settings, make_corpus, open_corpus
from flowprep.errors import UsageError, VideoUnreadable
from trainer.data import loading
from trainer.evaluation.evaluate import load_run, score_videos
from trainer.evaluation.fusion import fit_on_runs
from trainer.evaluation.scores import Scores
from trainer.training.device import pick_device, pick_precision

log = logging.getLogger(__name__)


def predict(
    video: Path,
    runs: Mapping[str, Path],
    method: str = "average",
    *,
    calibrate: bool = False,
    device: str = "auto",
    workers: int = 0,
) -> list[tuple[str, float]]:
    """Classes of a video by the runs' softmax scores, averaged or fused, the likeliest first.

    The video is extracted into a temporary corpus with the settings that each run's corpus had, but only
    what the runs look at.

    Args:
        video: a video file, or a folder of numbered frames.
        runs: folders of training runs by stream: "spatial", "temporal", "both" (of a joint network).
        method, calibrate: as trainer.evaluation.fusion.fit_on_runs, of a spatial and a temporal run.
        device, workers: as trainer.evaluation.evaluate.score_videos.

    Raises:
        UsageError: no such video, more than one, a run of another stream, runs of other classes, or no
            validation scores of them to fit a fusion on.
        VideoError: the video cannot be taken.
    """
    if not video.exists():
        raise UsageError(f"{video}: no such file")
    if video.suffix in (".txt", ".csv"):
        raise UsageError(f"{video} is not a video; lists are judged by trainer evaluate")
    if video.is_dir() and any(p.is_dir() or p.suffix.lower() in VIDEO_SUFFIXES for p in video.iterdir()):
        raise UsageError(f"{video} is a folder of videos; give one video, or one folder of numbered frames")
    where = pick_device(device)
    loaded = {name: load_run(run, where) for name, run in runs.items()}
    for name, (_, state) in loaded.items():
        if state.recipe.stream != name:
            raise UsageError(f"{runs[name]} is a {state.recipe.stream} run, not a {name} one")
    classes = next(iter(loaded.values()))[1].classes
    if any(state.classes != classes for _, state in loaded.values()):
        raise UsageError(f"the runs know other classes: {' and '.join(map(str, runs.values()))}")
    fusion = None
    if method != "average" or calibrate:
        if set(runs) != {"spatial", "temporal"}:
            raise UsageError(
                "weights and temperatures are of two streams: give --spatial and --temporal alone"
            )
        if method == "svm":
            raise UsageError("method is 'svm', which gives no probabilities; allowed: average | weighted")
        fusion = fit_on_runs(method, runs["spatial"], runs["temporal"], calibrate=calibrate)
    wanted: dict[str, set[str]] = {}
    for name, (_, state) in loaded.items():
        wanted.setdefault(state.corpus.digest(), set()).add(name)
    scores: dict[str, np.ndarray] = {}
    made: dict[str, Path] = {}
    with tempfile.TemporaryDirectory(prefix="trainer-predict-") as folder:
        for name, (model, state) in loaded.items():
            key = state.corpus.digest()
            if key not in made:
                seen = wanted[key]
                flow = bool(seen & {"temporal", "both"})
                back = any(loaded[name][1].recipe.input.bidirectional for name in seen - {"spatial"})
                settings = replace(
                    state.corpus,
                    rgb=bool(seen & {"spatial", "both"}),
                    flow=flow,
                    backward=back,
                    stabilise=flow and state.corpus.stabilise,
                )
                made[key] = _extract(video, Path(folder) / f"corpus{len(made)}", settings)
            corpus = open_corpus(made[key])
            if not corpus:
                reason = next(iter(corpus.failures.values()), "no video was found in it")
                raise VideoUnreadable(f"{video}: {reason}")
            ids = list(corpus)
            if len(ids) > 1:
                raise UsageError(f"{video} holds {len(ids)} videos; give one")
            loading.check_fit(corpus, ids, state.recipe)
            test = state.recipe.test
            scores[name] = score_videos(
                model,
                corpus,
                ids,
                state.recipe,
                classes=len(classes),
                frames=test.frames,
                crops=test.crops,
                whole=test.whole,
                device=where,
                precision=pick_precision(state.precision, where),
                workers=workers,
            )
    if fusion:
        # The class is not known, and plays no part; nor has the video an id that one of a corpus may have.
        known = {s: Scores(np.array([""]), np.array([0]), np.array(classes), scores[s]) for s in scores}
        fused = fusion(known["spatial"], known["temporal"]).scores[0]
    else:
        fused = np.mean(list(scores.values()), axis=0)[0]
    order = np.argsort(-fused, kind="stable")
    return [(classes[n], float(fused[n])) for n in order]


def _extract(video: Path, out: Path, settings: Settings) -> Path:
    log.info("extracting %s at %s with engine %s", video, settings.size, settings.engine)
    make_corpus([video], out, settings, jobs=1)
    return out
