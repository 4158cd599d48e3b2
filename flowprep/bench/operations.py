"""How many operations each stage of engine cpu does for a block of 16 pixels.

The counts come from the engine's own source. Each compiled function runs as plain Python on a small image.
The operations with vectors (`engines.cpu.simd` and `engines.cpu.shorts`) are replaced by functions that count
and compute nothing. The clock of the solver divides the counts among the stages, as it does with the time.

Operations with single numbers, such as indices, are not counted. Some that count are not done: the compiler
leaves out what nothing uses, and loads what it has loaded before only once.
"""

from __future__ import annotations

import dataclasses
import types
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from flowprep.engines import networks
from flowprep.engines.cpu import clock, shorts, simd
from flowprep.engines.cpu.engine import Workspace
from flowprep.engines.cpu.memory import LONGEST_SWEEP
from flowprep.engines.cpu.shorts import SHORT_LANES
from flowprep.engines.cpu.simd import LANES
from flowprep.engines.tiles import SETTLE_EVERY
from flowprep.presets import Tvl1Settings

# Stages by the method of Workspace, and by the row of the solver's clock.
METHODS = {
    "smooth": "blur",
    "remove_structure": "structure",
    "shrink": "pyramid",
    "find_coefficients": "spline filter",
    "find_tiles": "still tiles",
    "enlarge": "larger flow",
}
CLOCK = {
    clock.BEGIN: "begin of level",
    clock.TEXELS: "texels",
    clock.WARP: "warp",
    clock.ITERATIONS: "iterations",
    clock.PLAIN_MEDIAN: "plain median",
    clock.WEIGHTED_MEDIAN: "weighted median",
    clock.END: "end of level",
}
STAGES = (*METHODS.values(), *CLOCK.values())

HALVINGS = 8  # of a weighted median: its number depends on the flow; some 8 or 9 in flow of moving scenes
LINE = 64  # bytes of a cache line
HEIGHT, WIDTH = 48, 96  # pixels of the image: the whole trace takes some 2 s


@dataclass
class Operations:
    """Operations with vectors of 64 bytes (16 floats), for a block of 16 pixels.

    Attributes:
        multiply: multiplications, with or without an addition.
        add: additions, minima, comparisons and choices.
        divide: divisions and square roots.
        shuffle: moves of lanes.
        load: loads.
        store: stores.
        read: cache lines that the stage reads and does not write. Each counts once in a pass over the image.
        update: cache lines that it writes, likewise.
        iterations: number of iterations that one pass does.
    """

    multiply: float = 0
    add: float = 0
    divide: float = 0
    shuffle: float = 0
    load: float = 0
    store: float = 0
    read: float = 0
    update: float = 0
    iterations: int = 1


def count_operations(tvl1: Tvl1Settings) -> dict[str, Operations]:
    """The operations of each stage of `stages.STAGES`, for a block."""
    sweep = SETTLE_EVERY if tvl1.settle else LONGEST_SWEEP
    small = dataclasses.replace(
        tvl1,
        scales=2,
        warps=min(tvl1.warps, 2),
        finest_warps=0,
        outer_iterations=1,
        inner_iterations=min(tvl1.inner_iterations, sweep),
        finest_iterations=0,
        median_warps=min(tvl1.median_warps, 1),
    )
    operations = _Trace(small).run()
    operations["iterations"].iterations = small.inner_iterations
    operations["structure"].iterations = min(tvl1.structure_iterations + 1, LONGEST_SWEEP)
    return operations


KINDS = [field.name for field in dataclasses.fields(Operations)][:-1]

# What the operations of simd.py and shorts.py cost; all others cost an addition.
_FREE = {"splat", "splat_ints", "splat_shorts", "lane_numbers", "ticks", "flush_denormals", "restore_mode"}
# All others have one result.
_RESULTS = {"load_pairs": 2, "load_interleaved": 4, "load_transposed": 16, "to_floats": 2}
_COSTS: dict[str, dict[str, int]] = {
    "load": {"load": 1},
    "store": {"store": 1},
    "load_ints": {"load": 1},
    "store_ints": {"store": 1},
    "load_each_four_times": {"load": 1, "shuffle": 1},
    "load_interleaved": {"load": 4, "shuffle": 12},
    "load_pairs": {"load": 16, "shuffle": 16},
    "load_transposed": {"load": 16, "shuffle": 64},
    "store_interleaved": {"store": 4, "shuffle": 8},
    "fma": {"multiply": 1},
    "square_root": {"divide": 1},
    "choose_above": {"add": 2},  # a comparison and a choice
    "where_above": {"add": 2},
    "from_left": {"shuffle": 1},
    "from_right": {"shuffle": 1},
    "reverse": {"shuffle": 1},
    "sums_of_fours": {"add": 3, "shuffle": 6},
    "total": {"add": 4, "shuffle": 4},
    "largest": {"add": 4, "shuffle": 4},
    "load_shorts": {"load": 1},
    "store_shorts": {"store": 1},
    "to_shorts": {"add": 2, "shuffle": 2},
    "to_floats": {"add": 2, "shuffle": 2},
    "high_product": {"multiply": 1},
    "middle_of": {"add": 4},
    "add_above": {"add": 2},  # a comparison and an addition where it holds
    "where_positive": {"add": 2},
}


def _sorted_columns(side: int, network: networks.Network) -> dict[str, int]:
    return {"load": side, "store": side, "add": 2 * len(network)}


def _selected(values: int, network: networks.Network, result: int) -> dict[str, int]:
    """The cost of a network of which one result is used: LLVM leaves the other comparisons out."""
    needed, comparisons = {result}, 0
    for i, j in reversed(network):
        comparisons += (i in needed) + (j in needed)
        if i in needed or j in needed:
            needed |= {i, j}
    return {"load": values, "add": comparisons}


_COSTS["sort_columns_3"] = _sorted_columns(3, networks.SORT_3)
_COSTS["sort_columns_5"] = _sorted_columns(5, networks.SORT_5)
_COSTS["median_of_columns_3"] = _selected(9, networks.SELECT_9, networks.MEDIAN_9)
_COSTS["median_of_columns_5"] = _selected(25, networks.SELECT_25, networks.MEDIAN_25)


def level_of(method: str, arguments: tuple[Any, ...], workspace: Workspace) -> int:
    """The level on whose pixels a method of METHODS works. A resizing counts pixels of the larger level."""
    if method == "find_coefficients":
        return workspace.levels.index(arguments[1])
    return int(arguments[-1]) - 1 if method in ("shrink", "enlarge") else 0


def blocks_of(method: str, level: int, workspace: Workspace) -> int:
    """The blocks of 16 pixels on which a method of METHODS works; of a structure, those of all iterations."""
    layout = workspace.levels[level]
    iterations = workspace.tvl1.structure_iterations + 1 if method == "remove_structure" else 1
    return layout.height * layout.blocks * iterations


class _Vector:
    """The place of a vector in a trace: it has no values."""

    def __init__(self, count: Callable[[dict[str, int]], None]) -> None:
        self._count = count

    def _with(self, kind: str) -> _Vector:
        self._count({kind: 1})
        return self

    def __add__(self, other: _Vector) -> _Vector:
        return self._with("add")

    def __sub__(self, other: _Vector) -> _Vector:
        return self._with("add")

    def __mul__(self, other: _Vector) -> _Vector:
        return self._with("multiply")

    def __or__(self, other: _Vector) -> _Vector:
        return self._with("add")

    def __truediv__(self, other: _Vector) -> _Vector:
        return self._with("divide")


class _Watched(np.ndarray):
    """An array that reports how it is filled by slices."""

    report: Callable[[Any, int, int], None]

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(key, slice):
            start, stop, _ = key.indices(len(self))
            self.report(self, start, stop)
        super().__setitem__(key, value)


class _Trace:
    """One pair of small frames, solved in plain Python by functions that count."""

    def __init__(self, tvl1: Tvl1Settings) -> None:
        self.workspace = Workspace(HEIGHT, WIDTH, tvl1)
        self.totals = {stage: dict.fromkeys(KINDS, 0) for stage in STAGES}
        self.blocks: dict[str, int] = defaultdict(int)
        self._functions: dict[Any, Any] = {}
        self._vector = _Vector(self._count)
        self._halvings = 0
        self._start()

    def run(self) -> dict[str, Operations]:
        """The operations of each stage, for a block."""
        workspace = self.workspace
        state = workspace.scratch.state.view(_Watched)
        state.report = self._filled
        workspace.scratch = workspace.scratch._replace(state=state)
        for name in (*METHODS, "prepare", "solve", "solve_level"):
            method = types.MethodType(self._traced(getattr(Workspace, name)), workspace)
            setattr(workspace, name, self._stage(name, method) if name in METHODS else method)
        images = np.random.default_rng(0).integers(0, 256, (2, HEIGHT, WIDTH), np.uint8)
        before, after = (workspace.prepare(image, workspace.new_frame()) for image in images)
        workspace.solve(before, after, np.empty((2, HEIGHT, WIDTH), np.float32))
        for row, stage in CLOCK.items():
            self.blocks[stage] = int(workspace.scratch.clock[row, clock.BLOCKS])
        operations = {stage: Operations() for stage in STAGES}
        for stage, counts in self.totals.items():
            for kind, count in counts.items():
                setattr(operations[stage], kind, count / max(self.blocks[stage], 1))
        return operations

    def _stage(self, name: str, method: Callable[..., None]) -> Callable[..., None]:
        def counted(*arguments: Any) -> None:
            self._start()
            method(*arguments)
            self._end(METHODS[name])
            level = level_of(name, arguments, self.workspace)
            self.blocks[METHODS[name]] += blocks_of(name, level, self.workspace)
            if name == "find_tiles":  # vectors without values tell no motion
                for tiles in self.workspace.tiles:
                    tiles[:] = 1

        return counted

    def _start(self, *_: Any) -> None:
        self._counts: dict[str, int] = defaultdict(int)
        self._read: set[tuple[int, int]] = set()
        self._written: set[tuple[int, int]] = set()

    def _end(self, stage: str) -> None:
        self._counts["read"] = len(self._read - self._written)
        self._counts["update"] = len(self._written)
        for kind, count in self._counts.items():
            self.totals[stage][kind] += count
        self._start()

    def _lap(self, times: clock.Clock, row: int, blocks: int) -> None:
        times[row, clock.BLOCKS] += blocks
        self._end(CLOCK[row])

    def _traced(self, function: Any) -> Any:
        """A function whose operations with vectors count, as do those of the functions that it calls."""
        source = getattr(function, "py_func", function)
        if source not in self._functions:
            names = dict(source.__globals__)
            self._functions[source] = types.FunctionType(
                source.__code__, names, source.__name__, source.__defaults__
            )
            names.update({name: self._replaced(name, value) for name, value in names.items()})
        return self._functions[source]

    def _replaced(self, name: str, value: Any) -> Any:
        if value in (clock.lap, clock.start):
            return self._lap if value is clock.lap else self._start
        if hasattr(value, "py_func"):
            return self._traced(value)
        if isinstance(value, types.FunctionType) and any(
            getattr(module, name, None) is value for module in (simd, shorts)
        ):
            return self._operation(name)
        return value

    def _operation(self, name: str) -> Callable[..., Any]:
        loads, stores = name.startswith("load"), name.startswith("store")
        results = _RESULTS.get(name, 1)
        cost = _COSTS.get(name, {"load": 1} if loads else {"store": 1} if stores else {"add": 1})
        cost = {} if name in _FREE else cost
        widths = {"load_each_four_times": 4, "load_pairs": 2, "load_transposed": LANES}
        lanes = SHORT_LANES if name.endswith("_shorts") else LANES
        width = widths.get(name, lanes * cost.get("store" if stores else "load", 0))

        def counted(*arguments: Any) -> Any:
            self._count(cost)
            if loads or stores:
                array, index, *first = arguments[:3]
                gathered = isinstance(index, np.ndarray)  # from there on, an index for each lane
                for start in index[first[0] : first[0] + LANES] if gathered else (index,):
                    self._touch(self._written if stores else self._read, array, start, start + width)
            elif name.startswith("sort_columns"):
                self._touch_columns(arguments, cost["load"])
            if name in ("flush_denormals", "total", "largest"):
                return 1.0
            if name == "any_nonzero":
                return self._halves_again()
            return (self._vector,) * results if results > 1 else self._vector

        return counted

    def _halves_again(self) -> bool:
        """True HALVINGS times in a row, then False."""
        self._halvings = (self._halvings + 1) % (HALVINGS + 1)
        return self._halvings > 0

    def _count(self, cost: dict[str, int]) -> None:
        for kind, count in cost.items():
            self._counts[kind] += count

    def _touch(self, lines: set[tuple[int, int]], array: Any, start: int, stop: int) -> None:
        values = LINE // array.itemsize
        lines.update((id(array), line) for line in range(start // values, (stop - 1) // values + 1))

    def _touch_columns(self, arguments: Any, side: int) -> None:
        source, index, stride, out, at, step = arguments
        for row in range(side):
            self._touch(self._read, source, index + row * stride, index + row * stride + LANES)
            self._touch(self._written, out, at + row * step, at + row * step + LANES)

    def _filled(self, array: Any, start: int, stop: int) -> None:
        self._count({"store": (stop - start) // LANES})
        self._touch(self._written, array, start, stop)
