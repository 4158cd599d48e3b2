#!/usr/bin/env python3
"""Search for better settings of TV-L1, and check what is found on sets that were left out."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
from flow_measures import BASELINE, Figures, measure, relative_times, set_ratios, total_ratio, tvl1_method
from flow_sets import SETS, FlowSets, load_sets

from flowprep.errors import FlowprepError, SettingsError, UsageError
from flowprep.presets import DEFAULT_PRESET, Tvl1Settings, tvl1_settings

# What is searched: the least and the largest value, or a list of values.
RANGES: dict[str, str] = {
    "lambda_": "0.15:0.6",
    "theta": "0.06:0.25",
    "structure": "0.3:0.95",
    "structure_theta": "5:40",
    "structure_iterations": "4,5,7,10,20",
    "blend": "0.1:0.7",
    "blur": "0.3:1.2",
    "antialias": "0.4:0.9",
    "scale_step": "0.65,0.7,0.75,0.8",
    "warps": "2,3,4,5",
    "inner_iterations": "20,30,40,50,60",
    "finest_warps": "0,2,3",
    "finest_iterations": "0,20,30",
    "keep_dual": "true,false",
    "huber": "0,0.003,0.006,0.012",
    "edge": "0:0.12",
    "edge_least": "0.02:0.9",
    "median": "5,7",
    "median_grey": "3:16",
    "median_stride": "1,2,3",
    "median_occlusion": "0.8:8",
    "median_levels": "0,1,2,3",
    "median_warps": "0,1,2,3",
}
_WIDTH = 0.12  # standard deviation of a change, as a share of the range
_LEAST_NOISE_PX = 0.002  # less noise is no better
_DIGITS = 4  # of values


@dataclass(frozen=True)
class Weights:
    """What a score counts: the logarithms of ratios to accurate@1, each times its weight.

    Attributes:
        sets: of the errors by set, relative to each other. Their sum counts as 1.
        time, noise, size: of processor time, of noise on still background, and of bytes.
    """

    sets: Mapping[str, float]
    time: float
    noise: float
    size: float

    def score(self, trial: Trial, left_out: str = "") -> float:
        """The score of a trial; lower is better.

        Args:
            trial: the trial.
            left_out: a set that does not count.
        """
        ratios = {name: ratio for name, ratio in trial.set_ratios.items() if name != left_out}
        return (
            math.log(total_ratio(ratios, self.sets))
            + self.time * math.log(trial.time)
            + self.noise * math.log(trial.noise)
            + self.size * math.log(trial.size)
        )


@dataclass(frozen=True)
class Trial:
    """A setting and its figures, each relative to accurate@1.

    Attributes:
        tvl1: the parameters that differ from accurate@1.
        set_ratios: error by set.
        time, noise, size: processor time, noise on still background, and bytes.
    """

    tvl1: dict[str, Any]
    set_ratios: dict[str, float]
    time: float
    noise: float
    size: float


class Trials:
    """Measures settings, and stores each trial in a file.

    Args:
        sets: the pairs.
        path: a file with a JSON object on each line. It is continued if it exists.
    """

    def __init__(self, sets: FlowSets, path: Path) -> None:
        self.sets, self.path = sets, path
        self.clock = tvl1_method("accurate@1", BASELINE)
        self.base: Figures = measure(self.clock, sets)
        self.done: list[Trial] = []
        if path.exists():
            self.done = read_trials(path)
            text = path.read_text("utf-8")
            path.write_text(text[: text.rfind("\n") + 1], "utf-8")  # without a line that is cut off

    def measure(self, tvl1: Tvl1Settings) -> Trial:
        """Measure a setting, or find it in the file."""
        changes = {name: value for name, value in asdict(tvl1).items() if value != getattr(BASELINE, name)}
        known = next((trial for trial in self.done if trial.tvl1 == changes), None)
        if known:
            return known
        method = tvl1_method("trial", tvl1)
        figures = measure(method, self.sets)
        (seconds,) = relative_times([method], self.clock, self.sets.clips, rounds=1)
        trial = Trial(
            changes,
            set_ratios(figures.errors_px, self.base),
            seconds,
            max(figures.noise_px, _LEAST_NOISE_PX) / max(self.base.noise_px, _LEAST_NOISE_PX),
            figures.bytes_per_pair / self.base.bytes_per_pair,
        )
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(trial)) + "\n")
        self.done.append(trial)
        return trial


def read_trials(path: Path) -> list[Trial]:
    """The trials of a file. A line that is cut off at the end does not count.

    Raises:
        UsageError: another line is not a trial.
    """
    lines = path.read_text("utf-8").splitlines(keepends=True)
    trials = []
    for number, line in enumerate(lines, 1):
        try:
            trials.append(Trial(**json.loads(line)))
        except (ValueError, TypeError) as exc:
            if number < len(lines) or line.endswith("\n"):
                raise UsageError(f"{path}, line {number}: not a trial: {exc}") from exc
    return trials


def changed(tvl1: Tvl1Settings, ranges: Mapping[str, str], rng: random.Random) -> Tvl1Settings:
    """A setting with one or two other values.

    A combination that is not allowed is drawn again.

    Args:
        tvl1: the setting.
        ranges: as `RANGES`.
        rng: makes the choices.
    """
    while True:
        values: dict[str, Any] = {}
        for name in rng.sample(sorted(ranges), min(rng.choice((1, 1, 2)), len(ranges))):
            now = getattr(tvl1, name)
            if ":" in ranges[name]:
                low, high = map(float, ranges[name].split(":"))
                value = min(max(now + rng.gauss(0, _WIDTH) * (high - low), low), high)
                values[name] = round(value, _DIGITS)
            else:
                text = rng.choice(ranges[name].split(","))
                values[name] = text == "true" if isinstance(now, bool) else type(now)(text)
        try:
            other = replace(tvl1, **values)
        except SettingsError:
            continue
        if other != tvl1:
            return other


def search(
    trials: Trials,
    start: Tvl1Settings,
    ranges: Mapping[str, str],
    weights: Weights,
    seed: int,
    minutes: float,
) -> Trial:
    """Change the best setting at random, and keep what is better, until the time is over.

    A search that continues a file begins with the file's best trial.

    Returns:
        The best trial.
    """
    rng = random.Random(f"{seed} {len(trials.done)}")
    best = min([trials.measure(start), *trials.done], key=weights.score)
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        try:
            trial = trials.measure(changed(replace(BASELINE, **best.tvl1), ranges, rng))
        except FlowprepError as exc:  # the solver diverged
            click.echo(f"left out: {exc}", err=True)
            continue
        if weights.score(trial) < weights.score(best):
            best = trial
            click.echo(f"{len(trials.done)}  {described(best, weights)}")
    return best


def described(trial: Trial, weights: Weights) -> str:
    """A line about a trial."""
    ratios = " ".join(f"{name} {ratio:.3f}" for name, ratio in trial.set_ratios.items())
    changes = ",".join(f"{name}={value}" for name, value in trial.tvl1.items())
    return (
        f"score {weights.score(trial):+.4f}  J {total_ratio(trial.set_ratios):.3f}  {ratios}  "
        f"time {trial.time:.2f}  noise {trial.noise:.2f}  bytes {trial.size:.2f}  {changes or 'accurate@1'}"
    )


def cross_validation(trials: Sequence[Trial], weights: Weights, longest: float) -> str:
    """What the best trial by all other sets gives on each set that is left out.

    Args:
        trials: the trials of a search.
        weights: what counts.
        longest: trials that take more time, relative to accurate@1, do not count.

    Raises:
        UsageError: no trial is fast enough.
    """
    fast = [trial for trial in trials if trial.time <= longest]
    if not fast:
        raise UsageError(f"none of {len(trials)} trials takes at most {longest:g} times accurate@1's time")
    lines, ratios = [], []
    for name in SETS:
        best = min(fast, key=lambda trial: weights.score(trial, left_out=name))
        ratios.append(best.set_ratios[name])
        others = {other: ratio for other, ratio in best.set_ratios.items() if other != name}
        least = min(trial.set_ratios[name] for trial in fast)
        lines.append(
            f"{name} left out: {ratios[-1]:.3f} on it (best of all trials {least:.3f}), "
            f"{total_ratio(others):.3f} on the others, time {best.time:.2f}"
        )
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    best = min(fast, key=weights.score)
    return "\n".join([*lines, f"mean {mean:.3f} of {len(fast)} trials", f"best: {described(best, weights)}"])


def _set_weights(texts: Sequence[str]) -> dict[str, float]:
    weights = dict.fromkeys(SETS, 1.0)
    for text in texts:
        name, _, value = text.partition("=")
        try:
            weights[name], known = float(value), name in SETS
        except ValueError:
            known = False
        if not known or weights[name] < 0:
            raise UsageError(
                f"weight is {text!r}; allowed: SET=NUMBER from 0, with a set of {', '.join(SETS)}"
            )
    return weights


def _ranges(texts: Sequence[str]) -> dict[str, str]:
    ranges = dict(RANGES)
    for text in texts:
        name, _, value = text.partition("=")
        tvl1_settings(DEFAULT_PRESET, [f"{name}={end}" for end in value.replace(":", ",").split(",")])
        ranges[name] = value
    return ranges


@click.command(context_settings={"max_content_width": 110})
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--summary", is_flag=True, help="Search nothing: cross-validate the trials in OUT.")
@click.option(
    "--data",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="Folder with flow_gt, ucf101, ucf24 and ps7_actions.",
)
@click.option("--preset", default=DEFAULT_PRESET, show_default=True, help="Where the search starts.")
@click.option("--tvl1", "changes", multiple=True, metavar="NAME=VALUE", help="Change the start. Repeatable.")
@click.option(
    "--range",
    "range_texts",
    multiple=True,
    metavar="NAME=LOW:HIGH",
    help="Search a parameter in a range, or among values: NAME=A,B,C. Repeatable. Others keep their ranges.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the random changes.")
@click.option("--minutes", type=click.FloatRange(0), default=10, show_default=True, help="Time to search.")
@click.option(
    "--weight", "set_weights", multiple=True, metavar="SET=NUMBER", help="Weight of a set, 1 by default."
)
@click.option("--time-weight", type=click.FloatRange(0), default=0.05, show_default=True)
@click.option("--noise-weight", type=click.FloatRange(0), default=0.03, show_default=True)
@click.option("--bytes-weight", type=click.FloatRange(0), default=0.04, show_default=True)
@click.option(
    "--longest",
    type=click.FloatRange(0, min_open=True),
    default=math.inf,
    help="With --summary: leave out trials that take more time, relative to accurate@1.",
)
def main(out: Path, summary: bool, data: Path | None, **options: Any) -> None:
    """Search for settings of TV-L1 with less error in less time, and write each trial to OUT.

    \b
    python pipelines/bench/tune_flow.py trials.jsonl --data DATA --minutes 60
    python pipelines/bench/tune_flow.py trials.jsonl --summary

    A step changes one or two parameters of the best setting at random. The score of a setting is the
    logarithm of its error relative to accurate@1, plus weighted logarithms of its time, noise and bytes. If
    OUT exists, the search continues it.

    --summary leaves out each set in turn. The best trial by the other sets is chosen, and its error on the
    set that was left out is printed. The mean of these errors is what to expect on other data.
    """
    try:
        weights = Weights(
            _set_weights(options["set_weights"]),
            options["time_weight"],
            options["noise_weight"],
            options["bytes_weight"],
        )
        if summary:
            click.echo(cross_validation(read_trials(out), weights, options["longest"]))
            return
        start, ranges = tvl1_settings(options["preset"], options["changes"]), _ranges(options["range_texts"])
        if data is None:
            raise UsageError("a search needs --data")
        trials = Trials(load_sets(data), out)
        best = search(trials, start, ranges, weights, options["seed"], options["minutes"])
        click.echo(f"best of {len(trials.done)}  {described(best, weights)}")
    except (FlowprepError, OSError) as exc:
        raise click.ClickException(str(exc)) from exc


if __name__ == "__main__":
    main()
