"""A classifier on how much moves, without a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from flowprep import Video
    from trainer.data.annotations import Examples
    from trainer.evaluation.scores import Scores


def classify(statistics: Callable[[str], np.ndarray], training: Examples, test: Examples) -> Scores:
    """Scores of the test videos by logistic regression.

    Args:
        statistics: gives the statistics of a video by its id.
        training, test: the videos.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from trainer.evaluation.scores import Scores

    inputs, test_inputs = (
        np.array([statistics(video) for video in examples.ids]) for examples in (training, test)
    )
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=10_000))
    scores = model.fit(inputs, training.labels).predict_proba(test_inputs)
    return Scores(*map(np.array, (test.ids, test.labels, test.classes, scores)))


def flow_statistics(video: Video) -> np.ndarray:
    """Eight statistics of the displacements of a video, in pixels.

    The first five are mean, standard deviation, and 50th, 90th and 99th percentile of a flow, averaged over
    the video. The last three are the standard deviations over the video of the mean and of the 90th and the
    99th percentile.
    """
    rows = []
    for pair in range(video.num_pairs):
        displacement = np.hypot(*video.flow(pair, 1)[0])
        rows.append([displacement.mean(), displacement.std(), *np.percentile(displacement, [50, 90, 99])])
    over_time = np.array(rows)
    return np.concatenate([over_time.mean(0), over_time.std(0)[[0, 3, 4]]])
