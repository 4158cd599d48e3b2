"""Makes the rows: trains, evaluates and fuses networks by calls of `trainer`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablation_study.options import (
    MissingInput,
    Part,
    StudyOptions,
    recipe_of,
)
from ablation_study.rows import BY_NAME, SHARED_CLASSES, Control, Fusion, Network, Row

if TYPE_CHECKING:
    import numpy as np


class TrainerFailed(Exception):
    """A call of `trainer` failed."""


def call_trainer(*args: Any) -> None:
    """Call `trainer` in this process: it takes long to import, and there are many short calls.

    Raises:
        TrainerFailed: the call failed; its message is on standard error.
    """
    from trainer.cli import main

    try:
        with contextlib.redirect_stdout(sys.stderr):  # standard output is for the table
            main([*map(str, args)])
    except SystemExit as exc:
        if exc.__context__ and isinstance(exc.__context__.__cause__, KeyboardInterrupt):
            raise KeyboardInterrupt from None  # the end of the study, not a fault of the row
        if exc.code:
            raise TrainerFailed(f"trainer {args[0]} failed: see above") from exc


@dataclass(frozen=True)
class Measurement:
    """The result of a row.

    Attributes:
        measured: mean accuracy over the seeds, percent.
        by_seed: accuracy of each seed, percent: the mean over the parts.
        parts: names of the parts.
        videos: number of evaluated videos.
    """

    measured: float
    by_seed: list[float]
    parts: list[str]
    videos: int


class Study:
    """Makes rows and everything on which they build, once each.

    Args:
        options: of the study.
        trainer: calls `trainer` with some arguments.
    """

    def __init__(self, options: StudyOptions, trainer: Callable[..., None] = call_trainer) -> None:
        self.options = options
        self.trainer = trainer
        # Several rows build on one network. If its training fails, they all fail, without a second try.
        self._trained: dict[tuple[Network, Part, int], Path | TrainerFailed] = {}
        self._out_of_fold: dict[tuple[Network, Part, int], Path] = {}
        self._statistics: dict[str, np.ndarray] = {}

    def measure(self, row: Row) -> Measurement:
        """Make a row with every seed.

        Raises:
            MissingInput: an option that it needs is not given.
            TrainerFailed: a call of `trainer` failed.
        """
        from trainer.evaluation.metrics import summarise
        from trainer.evaluation.scores import Scores

        if isinstance(row, Network):
            self.options.check_inputs(row)
        parts = self.options.parts(row)
        by_seed, videos = [], 0
        for seed in range(self.options.seeds):
            summary = summarise([Scores.load(self._scores(row, part, seed)) for part in parts])
            by_seed.append(100 * summary.mean_accuracy)
            videos = sum(summary.videos)
        return Measurement(sum(by_seed) / len(by_seed), by_seed, [part.name for part in parts], videos)

    def _scores(self, row: Row, part: Part, seed: int) -> Path:
        """Make a row for one part and one seed. Returns its file of scores."""
        if isinstance(row, Network):
            return self._train(row, part, seed)
        if isinstance(row, Fusion):
            return self._fuse(row, part, seed)
        if isinstance(row, Control):
            return self._evaluate(row, part, seed)
        from ablation_study.flow_statistics import classify, flow_statistics

        def statistics(video: str) -> np.ndarray:
            if video not in self._statistics:
                self._statistics[video] = flow_statistics(self.options.opened[video])
            return self._statistics[video]

        path = self.options.folder(seed, part) / f"{row.name}.npz"
        classify(statistics, *self.options.examples(part)).save(path)
        return path

    def _train(self, row: Network, part: Part, seed: int) -> Path:
        """Train and evaluate a network, once. Returns its file of scores."""
        key = row, part, seed
        if key not in self._trained:
            self.options.check_inputs(row)
            try:
                self._trained[key] = self._train_now(row, part, seed)
            except TrainerFailed as exc:
                self._trained[key] = exc
        result = self._trained[key]
        if isinstance(result, TrainerFailed):
            raise result
        return result

    def _train_now(self, row: Network, part: Part, seed: int) -> Path:
        options = self.options
        run = options.folder(seed, part) / row.name
        corpus = options.second_corpus if row.hmdb51 else options.corpus
        call = ["train", recipe_of(row, small=options.small), "--corpus", corpus, *part.options]
        for change in (*self._changes(row, seed), *options.changes):
            call += ["--set", change]
        if row.second_task == "multi-task":
            call += ["--multi-task", *self._second_task(row)]
        elif row.second_task == "add-classes":
            call += ["--add-classes", options.corpus, self._write_added_classes()]
        self.trainer(*call, "--out", run, "--allow-missing", "--resume")
        return run / "test_scores.npz"

    def _changes(self, row: Network, seed: int) -> list[str]:
        """The changes of a row's recipe."""
        changes = [*row.changes, f"seed={seed}"]
        if self.options.fit_folds:
            changes.append("train.validation_share=0")  # fusions are fitted on the folds
        if row.weights:
            changes.append(f"model.weights={self.options.weights}")
        if row.start:
            first = BY_NAME[row.start]
            assert isinstance(first, Network)
            run = self._train(first, self.options.parts(first)[0], seed).parent
            changes.append(f"model.weights={run}")
        return changes

    def _second_task(self, row: Network) -> tuple[Any, str]:
        """Corpus and list of the second task: all videos if the second data set has splits."""
        if row.hmdb51:
            return self.options.corpus, "all"
        source = self.options.second_lists
        return self.options.second_corpus, source if Path(source).is_file() else "all"

    def _write_added_classes(self) -> Path:
        """Write the list of the videos of UCF-101 whose classes HMDB-51 does not have."""
        path = self.options.out / "added_classes.txt"
        labels = self.options.opened.labels.items()
        lines = [f"{video}\t{label}\n" for video, label in labels if label not in SHARED_CLASSES]
        path.write_text("".join(lines), encoding="utf-8")
        return path

    def _fuse(self, row: Fusion, part: Part, seed: int) -> Path:
        """Train both networks and fuse their scores. Returns the file of fused scores."""
        temporal = BY_NAME[row.temporal]
        assert isinstance(temporal, Network)
        networks = (self.options.spatial, temporal)
        runs = [self._train(network, part, seed).parent for network in networks]
        path = runs[0].parent / f"{row.name}.npz"
        call = ["fuse", *runs, "--method", row.method, *["--calibrate"] * row.calibrate]
        if row.method != "average" or row.calibrate:
            call += ["--fit", *(self._fit_scores(row, network, part, seed) for network in networks)]
        self.trainer(*call, "--out", path)
        return path

    def _evaluate(self, row: Control, part: Part, seed: int) -> Path:
        """Evaluate a trained network with a control. Returns its file of scores."""
        network = BY_NAME[row.network]
        assert isinstance(network, Network)
        run = self._train(network, part, seed).parent
        path = run.parent / f"{row.name}.npz"
        call = ["evaluate", run, "--corpus", self.options.corpus, "--list", part.option("--test-list")]
        if index := part.option("--class-index"):
            call += ["--class-index", index]
        self.trainer(*call, "--allow-missing", "--control", row.control, "--out", path)
        return path

    def _fit_scores(self, row: Fusion, network: Network, part: Part, seed: int) -> Path:
        """The file of scores on which a fusion is fitted.

        With folds, it has all training videos, each scored by a network that was not trained on its group, as
        a stacked model needs (Wolpert 1992; Breiman 1996). Without folds, it has the videos that the run held
        out. For the SVM it then has the training videos, as in the paper.
        """
        run = self.options.folder(seed, part) / network.name
        if self.options.fit_folds:
            return self._out_of_fold_scores(network, part, seed)
        if row.method != "svm":
            if not (scores := run / "validation_scores.npz").exists():
                raise MissingInput("needs --fit-folds, because the recipe holds no videos out")
            return scores
        if not (scores := run / "train_scores.npz").exists():
            training = run / "trainlist.txt"
            self.trainer(
                "evaluate", run, "--corpus", self.options.corpus, "--list", training, "--out", scores
            )
        return scores

    def _out_of_fold_scores(self, network: Network, part: Part, seed: int) -> Path:
        """Scores of the training videos of a part, each by a network that was not trained on its group."""
        key = network, part, seed
        if key not in self._out_of_fold:
            self._out_of_fold[key] = self._score_folds(network, part, seed)
        return self._out_of_fold[key]

    def _score_folds(self, network: Network, part: Part, seed: int) -> Path:
        import numpy as np

        from trainer.evaluation.scores import Scores

        options = self.options
        training, _ = options.examples(part)
        labels = {
            video: training.classes[label] for video, label in zip(training.ids, training.labels, strict=True)
        }
        own = set(labels)
        prefix = f"{part.name}-"
        if options.leave_out:
            # With the left-out groups. So "1 without 2" is the same part as "2 without 1", and trained once.
            labels, prefix = dict(options.opened.labels), ""
        groups = sorted({group for video, group in options.groups(labels).items() if video in own})
        folds = [groups[k :: options.fit_folds] for k in range(min(options.fit_folds, len(groups)))]
        results = []
        for fold in folds:
            inner = options.part_without(labels, tuple(sorted({*part.left_out, *fold})), prefix)
            scores = Scores.load(self._train(network, inner, seed))
            keep = [n for n, video in enumerate(scores.ids.tolist()) if video in own]
            results.append(Scores(scores.ids[keep], scores.labels[keep], scores.classes, scores.scores[keep]))
        ids, true, values = (
            np.concatenate([getattr(scores, name) for scores in results])
            for name in ("ids", "labels", "scores")
        )
        path = options.folder(seed, part) / f"{network.name}-out-of-fold.npz"
        Scores(ids, true, results[0].classes, values).save(path)
        return path
