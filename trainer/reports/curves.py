"""The training curves of a run, for all pages about runs."""

from __future__ import annotations

from collections.abc import Sequence

from flowprep.reports.charts import Point
from trainer.training.metrics_log import LogRow


def curves(log: Sequence[LogRow], quantity: str) -> list[tuple[str, list[Point]]]:
    """The lines of a `line_chart`: a quantity over the steps, of training batches and of held-out videos.

    Args:
        log: the rows of a run's log.
        quantity: "accuracy" or "loss".
    """
    train: list[Point] = [(r.step, r.train_accuracy if quantity == "accuracy" else r.loss) for r in log]
    held_out: list[Point] = [(r.step, getattr(r.validation, quantity)) for r in log if r.validation]
    return [("train", train), ("val", held_out)]


STYLE = """
.curves { display:grid; grid-template-columns:1fr 1fr; gap:22px 26px }
@media (max-width:760px) { .curves { grid-template-columns:1fr } }
"""
