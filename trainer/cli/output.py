"""Results that several commands print."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowprep.cli.output import print_result

if TYPE_CHECKING:
    from trainer.api import EvaluationResult


def print_evaluation(result: EvaluationResult) -> None:
    """Print an accuracy and the file of scores."""
    scores = result.scores
    print_result(
        result, f"accuracy {scores.accuracy:.1%} on {len(scores.ids)} videos; scores in {result.out}"
    )
