"""Everything that the report on training runs shows, read and checked once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from flowprep.errors import UsageError
from trainer.evaluation.scores import Scores
from trainer.training import checkpoint
from trainer.training.checkpoint import Checkpoint
from trainer.training.metrics_log import LogRow, read_log

if TYPE_CHECKING:
    from flowprep import Corpus


class Predictor(NamedTuple):
    """The words for a source of predictions.

    Attributes:
        title: a heading.
        name: its name in a sentence.
        input: what it sees.
    """

    title: str
    name: str
    input: str


# In the order of the columns. A report shows the mistakes of the last one that it has.
PREDICTORS = {
    "spatial": Predictor("Spatial", "spatial stream", "RGB frames"),
    "temporal": Predictor("Temporal", "temporal stream", "stacks of optical flow"),
    "fused": Predictor("Fused", "fusion", "scores of both streams"),
    "both": Predictor("Joint", "joint network", "frames and flow"),
}


@dataclass(frozen=True)
class ReportData:
    """Runs and their scores on the same test videos.

    Attributes:
        corpus: the corpus with the frames and the flow of the videos.
        runs: the checkpoint of each run, by stream.
        logs: the log of each run, by stream.
        ids: (N,) ids of the test videos.
        labels: (N,) true class of each video, as a position in `classes`.
        classes: names of the C classes.
        scores: (N, C) scores, by the keys of `PREDICTORS`.
    """

    corpus: Corpus
    runs: Mapping[str, Checkpoint]
    logs: Mapping[str, list[LogRow]]
    ids: np.ndarray
    labels: np.ndarray
    classes: list[str]
    scores: Mapping[str, np.ndarray]

    @classmethod
    def read(cls, runs: Mapping[str, Path], scores: Mapping[str, Scores], corpus: Corpus) -> ReportData:
        """Read the runs; arguments and errors are those of `trainer.reports.run.write_report`."""
        names = [name for name in PREDICTORS if name in scores]
        main = scores[names[-1]]
        position = {video: i for i, video in enumerate(main.ids.tolist())}
        aligned = {}
        for name in names:
            other = scores[name]
            if {*other.ids.tolist()} != {*position} or other.classes.tolist() != main.classes.tolist():
                raise UsageError(
                    f"the {name} scores are of other videos or classes than the {names[-1]} scores; "
                    "score all runs on one list"
                )
            aligned[name] = other.scores[np.argsort([position[video] for video in other.ids.tolist()])]
        checkpoints = {name: checkpoint.load_selected(run) for name, run in runs.items()}
        for name, kept in checkpoints.items():
            if kept.recipe.stream != name:
                raise UsageError(
                    f"the run that was given as {name} is a {kept.recipe.stream} run: {runs[name]}"
                )
        logs = {name: read_log(run) for name, run in runs.items()}
        return cls(corpus, checkpoints, logs, main.ids, main.labels, main.classes.tolist(), aligned)

    @property
    def main(self) -> str:
        """The predictor whose mistakes are shown."""
        return list(self.scores)[-1]

    @property
    def num_videos(self) -> int:
        """Number of test videos."""
        return len(self.ids)

    def num_correct(self, name: str) -> int:
        """Number of test videos that get their true class from a predictor."""
        return int((self.scores[name].argmax(1) == self.labels).sum())
