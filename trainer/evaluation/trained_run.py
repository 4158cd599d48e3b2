"""A finished or interrupted training run, as evaluation, prediction and export read it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from flowprep.planning import list_entries as lists
from flowprep.planning.list_matching import match_list
from trainer.data.annotations import Examples, label_examples
from trainer.evaluation.scores import VALIDATION_SCORES, Scores
from trainer.models.layers import channels_last
from trainer.models.registry import make_model
from trainer.recipe.schema import Recipe
from trainer.training import checkpoint
from trainer.training.run_folder import TRAIN_LIST, VALIDATION_LIST

if TYPE_CHECKING:
    from flowprep import Corpus


@dataclass(frozen=True)
class Run:
    """A training run.

    Attributes:
        path: The run's folder.
        checkpoint: Its best or its last checkpoint, as the recipe's `train.keep` selects.
    """

    path: Path
    checkpoint: checkpoint.Checkpoint

    @property
    def recipe(self) -> Recipe:
        """The recipe of the training."""
        return self.checkpoint.recipe

    @property
    def stream(self) -> str:
        """ "spatial", "temporal" or "both"."""
        return self.recipe.stream

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the network's outputs."""
        return self.checkpoint.classes

    def load_model(self, device: torch.device | str = "cpu") -> nn.Module:
        """The trained network. Outputs after the first `len(classes)` belong to other heads."""
        model = make_model(self.recipe, sum(self.checkpoint.heads))
        model.load_state_dict(self.checkpoint.model)
        channels_last(model.to(device))
        return model

    def test_scores(self) -> Scores:
        """The class scores of the test videos.

        Raises:
            UsageError: The run has none yet.
        """
        return Scores.load(self.path)

    def validation_scores(self) -> Scores:
        """The class scores of the held-out training videos.

        Raises:
            UsageError: The run has none.
        """
        return Scores.load(self.path / VALIDATION_SCORES)

    def examples(
        self, corpus: Corpus, source: str, class_index: Path | None = None, *, allow_missing: bool = False
    ) -> Examples:
        """The videos of a list, labelled with the run's classes.

        Args:
            corpus: The corpus of the videos.
            source: A list, as for `flowprep.planning.list_matching.match_list`. Lists that the run wrote
                contain its own classes, whatever the folders are called.
            class_index: File that maps the list's numbers to classes (classInd.txt).
            allow_missing: Ignore videos and classes that the corpus or the run lacks.

        Raises:
            UsageError: The list cannot be read, or its videos or classes are missing.
        """
        written = [(self.path / name).resolve() for name in (TRAIN_LIST, VALIDATION_LIST)]
        own = class_index is None and Path(source).resolve() in written
        index = lists.read_classes(class_index) if class_index else self.classes if own else None
        pairs = match_list(source, corpus, index, allow_missing=allow_missing, check_folders=not own)
        examples = label_examples(source, pairs, self.classes, allow_missing=allow_missing)
        return examples.with_groups(lists.read_groups(source, corpus.labels))

    def held_out(self, corpus: Corpus) -> Examples:
        """The training videos that the run held out for validation. There may be none."""
        path = self.path / VALIDATION_LIST
        return self.examples(corpus, str(path)) if path.stat().st_size else Examples((), (), ())


def open_run(path: Path | str) -> Run:
    """Open the folder of a training run.

    Raises:
        UsageError: The folder has no checkpoint.
        CheckpointDamaged: The checkpoint cannot be read.
    """
    return Run(Path(path), checkpoint.load_selected(Path(path)))
