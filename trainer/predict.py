"""Classes of a raw video, by the way that the test takes: extracted as the run's corpus was, then judged."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from flowprep import Settings, make_corpus, open_corpus
from flowprep.errors import UsageError, VideoUnreadable
from trainer import inputs
from trainer.evaluate import load_run, pick_device, pick_precision, score_videos
from trainer.lists import VIDEO_SUFFIX

log = logging.getLogger(__name__)


def predict(
    video: Path, runs: Mapping[str, Path], *, device: str = "auto", workers: int = 0
) -> list[tuple[str, float]]:
    """Classes of a video by the average of the runs' softmax scores, the likeliest first.

    The video is extracted into a temporary corpus with the settings that each run's corpus had, but only
    what the runs look at.

    Args:
        video: a video file, or a folder of numbered frames.
        runs: folders of training runs by stream: "spatial", "temporal", "both" (of a joint network).
        device, workers: as trainer.evaluate.score_videos.

    Raises:
        UsageError: no such video, more than one, a run of another stream, or runs of other classes.
        VideoError: the video cannot be taken.
    """
    if not video.exists():
        raise UsageError(f"{video}: no such file")
    if video.suffix in (".txt", ".csv"):
        raise UsageError(f"{video} is not a video; lists are judged by trainer evaluate")
    if video.is_dir() and any(p.is_dir() or VIDEO_SUFFIX.search(p.name) for p in video.iterdir()):
        raise UsageError(f"{video} is a folder of videos; give one video, or one folder of numbered frames")
    where = pick_device(device)
    loaded = {name: load_run(run, where) for name, run in runs.items()}
    for name, (_, state) in loaded.items():
        if state.recipe.stream != name:
            raise UsageError(f"{runs[name]} is a {state.recipe.stream} run, not a {name} one")
    classes = next(iter(loaded.values()))[1].classes
    if any(state.classes != classes for _, state in loaded.values()):
        raise UsageError(f"the runs know other classes: {' and '.join(map(str, runs.values()))}")
    wanted: dict[str, set[str]] = {}
    for name, (_, state) in loaded.items():
        wanted.setdefault(state.corpus.digest(), set()).add(name)
    scores = np.zeros(len(classes))
    made: dict[str, Path] = {}
    with tempfile.TemporaryDirectory(prefix="trainer-predict-") as folder:
        for model, state in loaded.values():
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
            inputs.check_fit(corpus, ids, state.recipe)
            test = state.recipe.test
            scores += score_videos(
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
            )[0]
    order = np.argsort(-scores, kind="stable")
    return [(classes[n], float(scores[n] / len(runs))) for n in order]


def _extract(video: Path, out: Path, settings: Settings) -> Path:
    log.info("extracting %s at %s with engine %s", video, settings.size, settings.engine)
    make_corpus([video], out, settings, jobs=1)
    return out
