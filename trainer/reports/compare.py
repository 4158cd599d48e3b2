"""Several runs side by side: how right they are, how large, how fast, and what their papers say of them.

As rows of plain types, as text, and as one HTML file that needs nothing from outside itself.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import torch

from flowprep.reports import html
from trainer.evaluation.evaluate import load_run
from trainer.evaluation.scores import TEST_SCORES, Scores
from trainer.models import layers, registry, summary
from trainer.reports.run import interval, read_log
from trainer.training import checkpoint
from trainer.training.device import autocast, pick_device, pick_precision

_ROUNDS = 5  # passes that are timed, of each network in turn


def compare(runs: Sequence[Path], *, device: str = "auto", batch: int = 8) -> list[dict[str, Any]]:
    """A row for each run.

    Args:
        runs: folders of training runs.
        device: where inference is timed.
        batch: clips that pass at once when it is.

    Returns:
        run, model, stream, options that the recipe sets, step; input, the shape of a clip by stream;
        accuracy, interval (95%) and videos of its test scores, None where it has not been judged; parameters;
        multiply_adds of a clip; train_clips_per_second, the median of its log's rows, None without any;
        clips_per_second of inference, the median of some passes that alternate with the other runs',
        without loading; published (accuracies in percent), published_parameters and
        published_multiply_adds, of the network at its published size and for 101 classes; paper.

    Raises:
        UsageError, CheckpointDamaged: as trainer.evaluation.evaluate.load_run.
    """
    where = pick_device(device)
    published = {row["name"]: row for row in summary.describe_models()}
    rows, passes = [], []
    for run in runs:
        model, kept = load_run(run, where)
        recipe = kept.recipe
        shapes = registry.input_shapes(recipe, batch)
        inputs = [layers.channels_last(torch.randn(shape, device=where)) for shape in shapes.values()]
        parameters, multiply_adds = summary.count_operations(model.eval(), inputs)
        passes.append((model, inputs, pick_precision(kept.precision, where)))
        known = published[recipe.model.name]
        column = recipe.stream if recipe.stream in known["parameters"] else "both"
        speeds = [row["clips_per_second"] for row in read_log(run)]
        rows.append(
            {
                "run": str(run),
                "model": recipe.model.name,
                "stream": recipe.stream,
                "step": kept.step,
                "input": {stream: "x".join(map(str, shape[1:])) for stream, shape in shapes.items()},
                **_judged(run),
                "parameters": parameters,
                "multiply_adds": multiply_adds // batch,
                "train_clips_per_second": statistics.median(speeds) if speeds else None,
                "published": known["published"],
                "published_parameters": known["parameters"][column],
                "published_multiply_adds": known["multiply_adds"][column],
                "paper": known["paper"],
            }
        )
    seconds: list[list[float]] = [[] for _ in passes]
    for turn in range(_ROUNDS + 1):
        for times, (model, inputs, precision) in zip(seconds, passes, strict=True):
            taken = _time(model, inputs, precision, where)
            if turn:  # the first finds nothing prepared
                times.append(taken)
    for row, times in zip(rows, seconds, strict=True):
        row["clips_per_second"] = batch / statistics.median(times)
    return rows


def _judged(run: Path) -> dict[str, Any]:
    if not (run / TEST_SCORES).exists():
        return {"accuracy": None, "interval": None, "videos": 0}
    scores = Scores.load(run)
    count = len(scores.ids)
    return {
        "accuracy": scores.accuracy,
        "interval": interval(round(scores.accuracy * count), count),
        "videos": count,
    }


def _time(
    model: torch.nn.Module, inputs: Sequence[torch.Tensor], precision: str, device: torch.device
) -> float:
    """Seconds that a pass takes."""
    began = time.perf_counter()
    with torch.inference_mode(), autocast(precision, device):
        logits = model(*inputs)
    logits.cpu()  # waits for a GPU
    return time.perf_counter() - began


def as_text(rows: Sequence[dict[str, Any]]) -> str:
    """The rows for a terminal: figures on a line, and below it what they are of."""
    lines = ["accuracy  parameters  multiply-adds  training  inference (clips/s)"]
    for row in rows:
        cells = (
            f"{_share(row['accuracy']):>8}",
            f"{summary.format_count(row['parameters']):>10}",
            f"{summary.format_count(row['multiply_adds']):>13}",
            f"{_speed(row['train_clips_per_second']):>8}",
            f"{_speed(row['clips_per_second']):>9}",
            row["run"],
        )
        lines.append("  ".join(cells))
        lines += [f"    {line}" for line in (_what(row), *_published(row))]
    return "\n".join(lines)


def write_page(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write the HTML file."""
    body = []
    for row in rows:
        low, high = row["interval"] or (0.0, 0.0)
        meter = note = ""
        if row["accuracy"] is not None:
            meter = (
                f"<div class=meter><i style='width:{100 * row['accuracy']:.2f}%'></i>"
                f"<b style='left:{100 * low:.2f}%;width:{100 * (high - low):.2f}%'></b></div>"
            )
            note = f"<p class=note>{row['videos']} videos, {100 * low:.0f}&ndash;{100 * high:.0f}%</p>"
        published = "".join(
            f"<div>{escape(what)} <b>{share:g}%</b></div>" for what, share in row["published"].items()
        )
        cells = "".join(
            f"<td class=num>{summary.format_count(row[key])}"
            f"<p class=note>{summary.format_count(row[f'published_{key}'])}</p>"
            for key in ("parameters", "multiply_adds")
        )
        body.append(
            f"<tr><th>{escape(row['run'])}<p class=note>{escape(_what(row))}</p>"
            f"<td class='num right'>{_share(row['accuracy'])}{meter}{note}{cells}"
            f"<td class=num>{_speed(row['train_clips_per_second'])}"
            f"<td class=num>{_speed(row['clips_per_second'])}"
            f"<td class=published>{published or '&ndash;'}<p class=note>{escape(row['paper'])}</p>"
        )
    table = (
        "<div class=scroll><table class=runs><thead><tr><th>Run<th class=num>Accuracy<th class=num>Parameters"
        "<th class=num>Multiply-adds<th class=num>Training, clips/s<th class=num>Inference, clips/s"
        f"<th class=published>Published accuracy<tbody>{''.join(body)}</table></div>"
    )
    head = (
        "<header><p class=eyebrow>Comparison of runs</p>"
        f"<h1>{len(rows)} {'run' if len(rows) == 1 else 'runs'} side by side</h1></header>"
    )
    note = (
        "Accuracy is of each run's own test videos, with its 95% interval. Multiply-adds are of one clip and "
        "one crop, in convolutions and matrix products. Training speed is the median of the run's log, with "
        "loading; inference is timed here, without. Small figures below are those of the network as "
        "published, for 101 classes."
    )
    text = html.document("Comparison of runs", head + html.section("Figures", table, note), _STYLE)
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.write_whole(path, lambda file: file.write(text.encode()))


def _what(row: dict[str, Any]) -> str:
    inputs = " + ".join(f"{stream} {shape}" for stream, shape in row["input"].items())
    return f"{row['model']}, {inputs}, after {row['step']:,} steps"


def _published(row: dict[str, Any]) -> list[str]:
    counts = (row["published_parameters"], row["published_multiply_adds"])
    size = ", ".join(map(summary.format_count, counts))
    shares = [f"{what} {share:g}%" for what, share in row["published"].items()]
    return [f"published: {size}", *(f"    {share}" for share in shares)]


def _share(accuracy: float | None) -> str:
    return "-" if accuracy is None else f"{accuracy:.1%}"


def _speed(clips: float | None) -> str:
    return "-" if clips is None else f"{clips:.3g}" if clips < 100 else f"{clips:,.0f}"


_STYLE = """
main { max-width:1280px }
.runs td,.runs th { vertical-align:top } .runs .published { padding-left:14px; min-width:210px }
.runs th .note { font-weight:400 } .right { min-width:120px }
.meter { position:relative; height:8px; border-radius:4px; background:var(--track); margin:6px 0 }
.meter i { position:absolute; inset:0 auto 0 0; border-radius:4px; background:var(--green) }
.meter b { position:absolute; top:3px; height:2px; background:var(--ink); opacity:.55 }
"""
