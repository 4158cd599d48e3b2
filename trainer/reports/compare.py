"""Runs side by side: their accuracy, their size, their speed, and the figures of their papers."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from flowprep.reports.numbers import format_noun
from trainer.evaluation.metrics import wilson_interval
from trainer.evaluation.scores import TEST_SCORES, Scores
from trainer.evaluation.trained_run import open_run
from trainer.models import layers, registry, summary
from trainer.models.summary import format_count
from trainer.training.device import autocast, pick_device, pick_precision
from trainer.training.metrics_log import read_log

_ROUNDS = 5  # timed passes of each network


@dataclass(frozen=True)
class RunFigures:
    """The figures of one run.

    Attributes:
        run: its folder.
        model: name of the network.
        stream: "spatial", "temporal" or "both".
        step: training step of the weights.
        input: shape of a clip, such as "3x224x224", by stream.
        accuracy: accuracy on the run's test videos; None before they were scored.
        interval: 95% interval of the accuracy.
        videos: number of test videos.
        parameters: number of parameters.
        multiply_adds: multiply-adds of one clip, in convolutions and matrix products.
        train_clips_per_second: training speed with loading, the median of the log; None without a log.
        published: accuracies of the paper in percent, by test set.
        published_parameters: parameters at the published size, for 101 classes.
        published_multiply_adds: multiply-adds at the published size.
        paper: the reference.
        clips_per_second: inference speed without loading.
    """

    run: str
    model: str
    stream: str
    step: int
    input: dict[str, str]
    accuracy: float | None
    interval: tuple[float, float] | None
    videos: int
    parameters: int
    multiply_adds: int
    train_clips_per_second: float | None
    published: dict[str, float]
    published_parameters: int
    published_multiply_adds: int
    paper: str
    clips_per_second: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class _TimedPass:
    """A network with a batch of random clips."""

    model: torch.nn.Module
    inputs: list[torch.Tensor]
    precision: str
    device: torch.device

    def seconds(self) -> float:
        """Seconds of one pass."""
        began = time.perf_counter()
        with torch.inference_mode(), autocast(self.precision, self.device):
            logits = self.model(*self.inputs)
        logits.cpu()  # waits for a GPU
        return time.perf_counter() - began


def compare(runs: Sequence[Path], *, device: str = "auto", batch: int = 8) -> list[RunFigures]:
    """Collect the figures of each run. Inference is timed here, the runs in turn.

    Args:
        runs: folders of training runs.
        device: where inference is timed.
        batch: number of clips in a timed pass.

    Raises:
        UsageError, CheckpointDamaged: as `trainer.evaluation.trained_run.open_run`.
    """
    chosen = pick_device(device)
    figures, passes = [], []
    for run in runs:
        run_figures, timed_pass = _load(run, chosen, batch)
        figures.append(run_figures)
        passes.append(timed_pass)
    for timed_pass in passes:  # not timed: the first pass prepares the device
        timed_pass.seconds()
    rounds = [[timed_pass.seconds() for timed_pass in passes] for _ in range(_ROUNDS)]
    return [
        dataclasses.replace(run_figures, clips_per_second=batch / statistics.median(seconds))
        for run_figures, seconds in zip(figures, zip(*rounds, strict=True), strict=True)
    ]


def _load(run: Path, device: torch.device, batch: int) -> tuple[RunFigures, _TimedPass]:
    """The figures of a run without the speed of inference, and the pass that measures it."""
    opened = open_run(run)
    model, checkpoint = opened.load_model(device), opened.checkpoint
    recipe = checkpoint.recipe
    shapes = registry.input_shapes(recipe, batch)
    inputs = [layers.channels_last(torch.randn(shape, device=device)) for shape in shapes.values()]
    parameters, multiply_adds = summary.count_operations(model.eval(), inputs)
    published = summary.describe_model(recipe.model.name)
    column = recipe.stream if recipe.stream in published.parameters else "both"
    accuracy, interval, videos = _accuracy(run)
    speeds = [row.clips_per_second for row in read_log(run)]
    figures = RunFigures(
        run=str(run),
        model=recipe.model.name,
        stream=recipe.stream,
        step=checkpoint.step,
        input={stream: "x".join(map(str, shape[1:])) for stream, shape in shapes.items()},
        accuracy=accuracy,
        interval=interval,
        videos=videos,
        parameters=parameters,
        multiply_adds=multiply_adds // batch,
        train_clips_per_second=statistics.median(speeds) if speeds else None,
        published=published.published,
        published_parameters=published.parameters[column],
        published_multiply_adds=published.multiply_adds[column],
        paper=published.paper,
    )
    return figures, _TimedPass(model, inputs, pick_precision(checkpoint.precision, device), device)


def _accuracy(run: Path) -> tuple[float | None, tuple[float, float] | None, int]:
    """Accuracy on the test videos, its interval, and the number of videos."""
    if not (run / TEST_SCORES).exists():
        return None, None, 0
    scores = Scores.load(run)
    count = len(scores.ids)
    return scores.accuracy, wilson_interval(round(scores.accuracy * count), count), count


def as_text(runs: Sequence[RunFigures]) -> str:
    """The runs for a terminal: a line of figures for each, and details below it."""
    lines = ["accuracy  parameters  multiply-adds  training  inference (clips/s)"]
    for run in runs:
        cells = (
            f"{format_accuracy(run.accuracy):>8}",
            f"{format_count(run.parameters):>10}",
            f"{format_count(run.multiply_adds):>13}",
            f"{format_speed(run.train_clips_per_second):>8}",
            f"{format_speed(run.clips_per_second):>9}",
            run.run,
        )
        lines.append("  ".join(cells))
        size = f"{format_count(run.published_parameters)}, {format_count(run.published_multiply_adds)}"
        shares = [f"    {test_set} {percent:g}%" for test_set, percent in run.published.items()]
        lines += [f"    {line}" for line in (describe_network(run), f"published: {size}", *shares)]
    return "\n".join(lines)


def describe_network(run: RunFigures) -> str:
    """The network of a run, its inputs and its steps."""
    inputs = " + ".join(f"{stream} {shape}" for stream, shape in run.input.items())
    return f"{run.model}, {inputs}, after {format_noun(run.step, 'step')}"


def format_accuracy(accuracy: float | None) -> str:
    """An accuracy in percent, or "-"."""
    return "-" if accuracy is None else f"{accuracy:.1%}"


def format_speed(clips: float | None) -> str:
    """Clips per second, or "-"."""
    return "-" if clips is None else f"{clips:.3g}" if clips < 100 else f"{clips:,.0f}"
