"""Runs side by side: their accuracy, their size, their speed, and the figures of their papers."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import torch

from flowprep.reports import charts, html
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
            f"{_share(run.accuracy):>8}",
            f"{format_count(run.parameters):>10}",
            f"{format_count(run.multiply_adds):>13}",
            f"{_speed(run.train_clips_per_second):>8}",
            f"{_speed(run.clips_per_second):>9}",
            run.run,
        )
        lines.append("  ".join(cells))
        size = f"{format_count(run.published_parameters)}, {format_count(run.published_multiply_adds)}"
        shares = [f"    {test_set} {percent:g}%" for test_set, percent in run.published.items()]
        lines += [f"    {line}" for line in (_network(run), f"published: {size}", *shares)]
    return "\n".join(lines)


def write_page(path: Path, runs: Sequence[RunFigures]) -> None:
    """Write the runs as one HTML page."""
    table = (
        "<div class=scroll><table class=runs><thead><tr><th>Run<th class=num>Accuracy<th class=num>Parameters"
        "<th class=num>Multiply-adds<th class=num>Training, clips/s<th class=num>Inference, clips/s"
        f"<th class=published>Published accuracy<tbody>{''.join(map(_table_row, runs))}</table></div>"
    )
    header = (
        "<header><p class=eyebrow>Comparison of runs</p>"
        f"<h1>{len(runs)} {'run' if len(runs) == 1 else 'runs'} side by side</h1></header>"
    )
    note = (
        "Accuracy is that of the test videos of each run, with its 95% interval. Multiply-adds are those of "
        "one clip and one crop, in convolutions and matrix products. Training speed includes loading; it is "
        "the median of the run's log. Inference speed excludes loading; it was measured for this page. Small "
        "figures below are those of the published network, for 101 classes."
    )
    body = header + html.section("Figures", table, note)
    html.write_document(path, "Comparison of runs", body, charts.STYLE + _STYLE)


def _table_row(run: RunFigures) -> str:
    accuracy = ""
    if run.accuracy is not None and run.interval:
        low, high = run.interval
        accuracy = (
            f"{charts.meter(run.accuracy, low, high)}"
            f"<p class=note>{run.videos} videos, {100 * low:.0f}&ndash;{100 * high:.0f}%</p>"
        )
    sizes = "".join(
        f"<td class=num>{format_count(own)}<p class=note>{format_count(published)}</p>"
        for own, published in (
            (run.parameters, run.published_parameters),
            (run.multiply_adds, run.published_multiply_adds),
        )
    )
    published = "".join(
        f"<div>{escape(test_set)} <b>{percent:g}%</b></div>" for test_set, percent in run.published.items()
    )
    return (
        f"<tr><th>{escape(run.run)}<p class=note>{escape(_network(run))}</p>"
        f"<td class='num accuracy'>{_share(run.accuracy)}{accuracy}{sizes}"
        f"<td class=num>{_speed(run.train_clips_per_second)}"
        f"<td class=num>{_speed(run.clips_per_second)}"
        f"<td class=published>{published or '&ndash;'}<p class=note>{escape(run.paper)}</p>"
    )


def _network(run: RunFigures) -> str:
    inputs = " + ".join(f"{stream} {shape}" for stream, shape in run.input.items())
    return f"{run.model}, {inputs}, after {run.step:,} steps"


def _share(accuracy: float | None) -> str:
    return "-" if accuracy is None else f"{accuracy:.1%}"


def _speed(clips: float | None) -> str:
    return "-" if clips is None else f"{clips:.3g}" if clips < 100 else f"{clips:,.0f}"


_STYLE = """
main { max-width:1280px }
.runs { --c:var(--green) } .runs .meter { margin:6px 0 }
.runs td,.runs th { vertical-align:top } .runs .published { padding-left:14px; min-width:210px }
.runs th .note { font-weight:400 } .accuracy { min-width:120px }
"""
