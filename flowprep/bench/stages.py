"""A roofline by stage of engine cpu: the time of each stage, beside the limit of this processor core.

The engine times itself: the solver by its clock (`engines.cpu.clock`), and the other stages by the methods of
`Workspace`. Each pair is solved several times. The least time of each stage counts, because other programs
only ever add time. The clock of the solver also runs while the thread waits for a core. So the longest stage
of a level is never more than what the others leave of the level's processor time.

The limit of a stage is the longest of several times. Each is a number of operations (`bench.operations`),
multiplied by the time that one of them takes at least (`bench.peaks`): arithmetic, divisions, moves of lanes,
loads, stores, and the cache lines that a stage reads or writes, each once. They are in the second-level cache
if they fit, and beyond it otherwise. So a stage at its limit can get faster only by other arithmetic.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from flowprep.bench.fidelity import Grey, sample_pairs
from flowprep.bench.flow import Machine, sample_clips
from flowprep.bench.operations import (
    CLOCK,
    METHODS,
    STAGES,
    Operations,
    blocks_of,
    count_operations,
    level_of,
)
from flowprep.bench.peaks import Peaks, measure_peaks
from flowprep.engines.cpu import clock
from flowprep.engines.cpu.engine import CpuEngine, Workspace
from flowprep.engines.cpu.simd import LANES, ticks
from flowprep.errors import UsageError
from flowprep.planning.inputs import spread, video_paths
from flowprep.presets import PRESETS, Tvl1Settings, default_preset, preset_name
from flowprep.system.jit import jit

ROUNDS = 7  # of each pair
_TICKS_SECONDS = 0.05  # time in which the rate of the clock is measured
_LINE_BYTES = 64
_LEVEL = "level"  # the processor time of all stages that the solver's clock measures
_COARSE = time.get_clock_info("thread_time").resolution > 1e-6
_processor_time = time.perf_counter if _COARSE else time.thread_time

Place = tuple[str, int]  # a stage and a level


@dataclass(frozen=True)
class Stage:
    """The time of a stage, and its limit.

    Attributes:
        ms: milliseconds of a pair, both frames included.
        share: share of the time of a pair.
        megapixels: millions of pixels a pair, those of each iteration, and those that fill the last block.
        ns: nanoseconds a pixel.
        cycles: clock cycles a pixel.
        limit_ns: the least time of a pixel on this core; None without counted operations.
        bound_by: what takes that time.
        times_limit: ns / limit_ns.
    """

    ms: float
    share: float
    megapixels: float
    ns: float
    cycles: float
    limit_ns: float | None
    bound_by: str
    times_limit: float | None


@dataclass(frozen=True)
class StageBenchmark:
    """The roofline of engine cpu on one thread.

    Attributes:
        machine: the machine.
        peaks: what a core can do at most.
        tvl1: the parameters.
        pairs: number of pairs.
        size: size of a frame, such as "341x256".
        ms_per_pair: milliseconds of a pair by the engine, two frames prepared: the mean of the least times.
        stages: the stages that take time.
        rest_ms: ms_per_pair less all stages.
    """

    machine: Machine
    peaks: Peaks
    tvl1: Tvl1Settings
    pairs: int
    size: str
    ms_per_pair: float
    stages: dict[str, Stage]
    rest_ms: float

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON values, and the name of the preset."""
        return {**dataclasses.asdict(self), "preset": preset_name(self.tvl1)}

    def rows(self) -> list[dict[str, str]]:
        """A table of at most 80 columns, with the rest and the sum."""
        rows = []
        for name, stage in self.stages.items():
            limit, times = stage.limit_ns, stage.times_limit
            rows.append(
                {
                    "stage": name,
                    "ms": f"{stage.ms:.2f}",
                    "share": f"{stage.share:.1%}",
                    "Mpixel": f"{stage.megapixels:.3g}",
                    "ns/px": f"{stage.ns:.3f}",
                    "cycles": f"{stage.cycles:.2f}",
                    "limit": "" if limit is None else f"{limit:.3f}",
                    "of": stage.bound_by,
                    "times": "" if times is None else f"{times:.1f}",
                }
            )
        for name, ms in (("rest", self.rest_ms), ("a pair", self.ms_per_pair)):
            share = f"{ms / self.ms_per_pair:.1%}"
            rows.append(dict.fromkeys(rows[0], "") | {"stage": name, "ms": f"{ms:.2f}", "share": share})
        return rows


def bench_stages(
    videos: Sequence[Path] = (),
    *,
    tvl1: Tvl1Settings | None = None,
    size: str = "short:256",
    pairs: int = 12,
    rounds: int = ROUNDS,
) -> StageBenchmark:
    """Time the stages of engine cpu on pairs of real frames, on one thread.

    Args:
        videos: inputs as for an extraction; sample clips if empty.
        tvl1: parameters; None for the default preset.
        size: as `Settings.size`.
        pairs: number of pairs, spread over the videos.
        rounds: how often each pair is solved.

    Raises:
        UsageError: `pairs` is under 1, or the videos have no pairs.
        VideoError: a video cannot be read.
    """
    tvl1 = tvl1 or PRESETS[default_preset("cpu")]
    with tempfile.TemporaryDirectory(prefix="flowprep-bench-") as folder:
        videos = spread(video_paths(videos), pairs) if videos else sample_clips(Path(folder))
        sampled = sample_pairs(videos, size, pairs)
    peaks, tick = measure_peaks(), _tick_seconds()
    engine = CpuEngine(tvl1)
    whole, stages = 0.0, defaultdict[Place, Lap](Lap)
    for before, after in sampled:
        timer = StageTimer(before.shape[0], before.shape[1], tvl1, tick)
        times, least = [], dict[Place, Lap]()
        for _ in range(rounds + 1):
            frames = np.stack([before, after])
            began = _processor_time()
            engine.solve(frames, [0], [1])
            times.append(_processor_time() - began)
            timer.solve(before, after)
            least = {place: min(least.get(place, lap), lap) for place, lap in timer.laps.items()}
        whole += min(times)
        for place, lap in undisturbed(least).items():
            stages[place] = stages[place].plus(lap)
    ms = 1e3 * whole / len(sampled)
    results = _results(stages, tvl1, peaks, len(sampled), ms)
    return StageBenchmark(
        machine=Machine.current(),
        peaks=peaks,
        tvl1=tvl1,
        pairs=len(sampled),
        size=f"{sampled[0][0].shape[1]}x{sampled[0][0].shape[0]}",
        ms_per_pair=round(ms, 3),
        stages=results,
        rest_ms=round(ms - sum(stage.ms for stage in results.values()), 3),
    )


class Lap(NamedTuple):
    """The time of a stage at a level, and the blocks on which it worked."""

    seconds: float = 0.0
    blocks: int = 0

    def plus(self, other: Lap) -> Lap:
        """The sum of two laps."""
        return Lap(self.seconds + other.seconds, self.blocks + other.blocks)


class StageTimer:
    """Solves pairs like engine cpu, and keeps the times of its stages.

    Args:
        height, width: size of the frames.
        tvl1: the parameters.
        tick: seconds of a tick of the solver's clock.

    Attributes:
        laps: of the last pair, by stage and level.
        workspace: of the engine, with methods that take their time.
    """

    def __init__(self, height: int, width: int, tvl1: Tvl1Settings, tick: float) -> None:
        self.laps: dict[Place, Lap] = {}
        self.workspace = Workspace(height, width, tvl1)
        self._tick = tick
        self._frames = [self.workspace.new_frame() for _ in range(2)]
        for name in METHODS:
            setattr(self.workspace, name, self._timed(name, getattr(self.workspace, name)))
        self.workspace.solve_level = self._timed_level(self.workspace.solve_level)  # type: ignore[method-assign]

    def solve(self, before: Grey, after: Grey) -> npt.NDArray[np.float32]:
        """The flow between two frames, (2, H, W)."""
        self.laps.clear()
        flow = np.empty((2, *before.shape), np.float32)
        for image, frame in zip((before, after), self._frames, strict=True):
            self.workspace.prepare(image, frame)
        self.workspace.solve(self._frames[0], self._frames[1], flow)
        return flow

    def _timed(self, name: str, method: Callable[..., None]) -> Callable[..., None]:
        def timed(*arguments: Any) -> None:
            began = _processor_time()
            method(*arguments)
            seconds = _processor_time() - began
            level = level_of(name, arguments, self.workspace)
            self._add((METHODS[name], level), Lap(seconds, blocks_of(name, level, self.workspace)))

        return timed

    def _timed_level(self, method: Callable[..., None]) -> Callable[..., None]:
        def timed(before: Any, after: Any, level: int) -> None:
            times = self.workspace.scratch.clock
            times[:] = 0
            began = _processor_time()
            method(before, after, level)
            self._add((_LEVEL, level), Lap(_processor_time() - began))
            for row, stage in CLOCK.items():
                lap = Lap(float(times[row, clock.TICKS] * self._tick), int(times[row, clock.BLOCKS]))
                self._add((stage, level), lap)

        return timed

    def _add(self, place: Place, lap: Lap) -> None:
        self.laps[place] = self.laps.get(place, Lap()).plus(lap)


def undisturbed(laps: Mapping[Place, Lap]) -> dict[Place, Lap]:
    """The laps of all stages, where the longest one of a level ends with the level's processor time."""
    results = {place: lap for place, lap in laps.items() if place[0] != _LEVEL}
    for level in {level for stage, level in laps if stage == _LEVEL}:
        of_level = {(stage, level): laps[stage, level].seconds for stage in CLOCK.values()}
        longest = max(of_level, key=lambda place: of_level[place])
        left = laps[_LEVEL, level].seconds - sum(of_level.values()) + of_level[longest]
        results[longest] = min(results[longest], Lap(left, results[longest].blocks))
    return results


@jit
def _ticks() -> int:
    return int(ticks())


def _tick_seconds() -> float:
    """Seconds of a tick of the solver's clock."""
    _ticks()
    began, first = time.perf_counter(), _ticks()
    time.sleep(_TICKS_SECONDS)
    ended, last = time.perf_counter(), _ticks()
    if last == first:
        raise UsageError("this processor has no clock that the solver can read; allowed: x86 and ARM")
    return (ended - began) / (last - first)


def _results(
    laps: Mapping[Place, Lap], tvl1: Tvl1Settings, peaks: Peaks, pairs: int, ms_per_pair: float
) -> dict[str, Stage]:
    """The stages that took time, from the sums of all pairs."""
    operations = count_operations(tvl1)
    results = {}
    for name in STAGES:
        levels = [lap for (stage, _), lap in laps.items() if stage == name and lap.blocks]
        if not levels:
            continue
        seconds, blocks = Lap(*map(sum, zip(*levels, strict=True)))
        limits = [limits_of_block(operations[name], lap.blocks // pairs, peaks) for lap in levels]
        sums = {
            kind: sum(limit[kind] * lap.blocks for limit, lap in zip(limits, levels, strict=True))
            for kind in limits[0]
        }
        bound_by = max(sums, key=lambda kind: sums[kind])
        ns, limit = 1e9 * seconds / blocks / LANES, sums[bound_by] / blocks / LANES
        ms = 1e3 * seconds / pairs
        results[name] = Stage(
            ms=round(ms, 3),
            share=round(ms / ms_per_pair, 4),
            megapixels=round(blocks * LANES / pairs / 1e6, 4),
            ns=round(ns, 4),
            cycles=round(ns * peaks.ghz, 3),
            limit_ns=round(limit, 4) if limit else None,
            bound_by=bound_by if limit else "",
            times_limit=round(ns / limit, 2) if limit else None,
        )
    return results


def limits_of_block(operations: Operations, blocks: int, peaks: Peaks) -> dict[str, float]:
    """The least time that each unit of the core needs for a block, ns.

    Args:
        operations: of the block.
        blocks: number of blocks of the level: they decide which cache holds them.
        peaks: of the core.
    """
    o, p = operations, peaks
    # Moves of lanes share units with arithmetic, on all processors.
    every = (o.multiply + o.add + o.shuffle) * p.arithmetic
    far = (o.read + o.update) * o.iterations * blocks * _LINE_BYTES > p.second_bytes
    read, update = (p.far_read, p.far_update) if far else (p.second_read, p.second_update)
    return {
        "arithmetic": max(o.multiply * p.multiply, o.add * p.add, every),
        "division": o.divide * p.divide,
        "shuffles": o.shuffle * p.shuffle,
        "loads": o.load * p.load,
        "stores": o.store * p.store,
        "memory": o.read * read + o.update * update,
    }
