"""The memory of a batch on the device, and the list of launches that solves it.

The list contains all levels, warps, medians and iterations. It is made before anything runs, so the host
decides nothing while the device works.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flowprep.engines.cuda.device import Launch
from flowprep.engines.cuda.kernels import (
    MEDIAN_ROWS,
    MEDIAN_THREADS,
    PIXELS,
    FrameArguments,
    LevelArguments,
    PairState,
    Span,
    Tile,
    replaced,
)
from flowprep.engines.pyramid import (
    antialias_sigma,
    gaussian_taps,
    level_sizes,
    linear_taps,
    spline_taps,
    stop_below,
)
from flowprep.engines.tiles import SETTLE_EVERY, TILE_HEIGHT, tile_counts
from flowprep.presets import Tvl1Settings


class BatchShape(NamedTuple):
    """The size of a batch: its frames, its pairs, and whether the frames are float32 (else uint8)."""

    height: int
    width: int
    frames: int
    pairs: int
    floats: bool


class BatchLayout:
    """The offsets of a batch's arrays in its memory, and the launches that use them.

    Attributes:
        shape: the size of the batch.
        sizes: (height, width) of each pyramid level, finest first.
        bytes: size of the whole memory.
        input_bytes: size of the upload, which lies at the start: frames, indices and tables.
        flow_at, flow_bytes: offset and size of the flow.
    """

    def __init__(self, shape: BatchShape, tvl1: Tvl1Settings, tile: Tile) -> None:
        self.shape, self.tvl1, self.tile = shape, tvl1, tile
        self.sizes = level_sizes(shape.height, shape.width, tvl1)
        self.bytes = 0
        self._arrays: dict[str, tuple[int, int]] = {}  # name -> offset, number of elements
        self._add_input()
        self.input_bytes = self.bytes
        self._add_pyramids()
        self._add_solver()
        self.flow_at, count = self._arrays["flow"]
        self.flow_bytes = 4 * count

    def _add(self, name: str, size: int, item: int) -> None:
        self._arrays[name] = self.bytes, size
        self.bytes += -(-size * item // 256) * 256

    def _add_input(self) -> None:
        height, width, frames, pairs, floats = self.shape
        self._add("frames", frames * height * width, 4 if floats else 1)
        self._add("first", pairs, 4)
        self._add("second", pairs, 4)
        for i, (fine, coarse) in enumerate(itertools.pairwise(self.sizes)):
            for name, sides in (("down", coarse), ("up", fine)):
                for axis, side in zip("yx", sides, strict=True):
                    self._add(f"{name}_{axis}{i}", side, 4)
                    self._add(f"{name}_{axis}_weights{i}", side, 4)

    def _add_pyramids(self) -> None:
        frames, spline = self.shape.frames, self.tvl1.warp == "spline"
        for i, (h, w) in enumerate(self.sizes):
            if i or not self._frames_are_finest_level:
                self._add(f"image{i}", frames * h * w, 4)
            self._add(f"sample{i}" if spline else f"texel{i}", frames * h * w, 4 if spline else 16)
        area = self.shape.height * self.shape.width
        for name in ("a", "b"):
            self._add(name, frames * area, 4)
        if self.tvl1.structure:
            for name in ("p0", "p1"):
                self._add(name, frames * area, 8)

    def _add_solver(self) -> None:
        pairs, area, tile = self.shape.pairs, self.shape.height * self.shape.width, self.tile
        self._add("u", 2 * pairs * area, 8)
        self._add("p", 2 * pairs * area, 16)
        self._add("constants", pairs * area, 16)
        self._add("pairs", pairs, ctypes.sizeof(PairState))
        if self.tvl1.edge:
            self._add("edges", self.shape.frames * area, 4)
        if self.tvl1.median_occlusion:
            self._add("mismatch", pairs * area, 4)
        self._add_tiles()
        blocks = max(tile.strips(w)[0] * tile.bands(h, rows_of_bands(self.tvl1))[0] for h, w in self.sizes)
        self._add("updates", pairs * blocks * tile.stages, 4)
        self._add("flow", pairs * 2 * area, 4)

    def _add_tiles(self) -> None:
        pairs, tvl1 = self.shape.pairs, self.tvl1
        counts = [tile_counts(*size) for size in self.sizes]
        if tvl1.still:
            for i, (rows, columns) in enumerate(counts):
                self._add(f"tiles{i}", pairs * rows * columns, 1)
        if tvl1.settle:
            rows, columns = counts[0]
            self._add("working", pairs * rows * columns, 1)
            self._add("restless", pairs * rows * columns, 1)
            self._add("tile_updates", pairs * rows * self.shape.width, 4)

    @property
    def _frames_are_finest_level(self) -> bool:
        """Whether the frames need no conversion and no preparation."""
        return self.shape.floats and not self.tvl1.blur and not self.tvl1.structure

    def write_input(
        self, memory: NDArray[np.uint8], frames: NDArray[Any], first: Sequence[int], second: Sequence[int]
    ) -> None:
        """Fill the upload.

        Args:
            memory: the upload, at least `input_bytes` long.
            frames: (F, H, W).
            first, second: the frames of each pair, as indices.
        """
        scale = self.tvl1.scale_step
        self._view(memory, "frames", frames.dtype)[:] = frames.reshape(-1)
        self._view(memory, "first", np.int32)[:] = first
        self._view(memory, "second", np.int32)[:] = second
        for i, (fine, coarse) in enumerate(itertools.pairwise(self.sizes)):
            for k, axis in enumerate("yx"):
                down = linear_taps(fine[k], coarse[k], 1 / scale)
                up = linear_taps(coarse[k], fine[k], coarse[k] / fine[k])
                for name, (left, _, weight) in (("down", down), ("up", up)):
                    self._view(memory, f"{name}_{axis}{i}", np.int32)[:] = left
                    self._view(memory, f"{name}_{axis}_weights{i}", np.float32)[:] = weight

    def _view(self, memory: NDArray[np.uint8], name: str, dtype: Any) -> NDArray[Any]:
        at, size = self._arrays[name]
        return memory[at : at + size * np.dtype(dtype).itemsize].view(dtype)

    def launches(self, address: int) -> list[Launch]:
        """The launches that solve a batch whose memory is at `address`."""
        spans = {name: Span(address + at, size) for name, (at, size) in self._arrays.items()}
        if self._frames_are_finest_level:
            spans["image0"] = spans["frames"]
        pyramids = _FrameLaunches(self.shape, self.sizes, self.tvl1, spans)
        solver = _PairLaunches(self.shape, self.sizes, self.tvl1, self.tile, spans)
        return [*pyramids.prepare(), *pyramids.levels(), *solver.levels()]


class _FrameLaunches:
    """The launches that make the pyramids of all frames."""

    def __init__(
        self, shape: BatchShape, sizes: list[tuple[int, int]], tvl1: Tvl1Settings, spans: dict[str, Span]
    ) -> None:
        self.shape, self.sizes, self.tvl1, self.spans = shape, sizes, tvl1, spans

    def prepare(self) -> Iterator[Launch]:
        """Make float32 of the frames, smooth them, remove their structure: the finest level."""
        tvl1, spans, size = self.tvl1, self.spans, self.sizes[0]
        source = spans["frames"]
        if not self.shape.floats:
            output = spans["a"] if tvl1.blur or tvl1.structure else spans["image0"]
            yield self._launch("widen", size, bytes=source, output=output)
            source = output
        if tvl1.blur:
            output = spans["a"] if tvl1.structure else spans["image0"]
            yield from self._filter(source, spans["b"], output, gaussian_taps(tvl1.blur), size)
            source = output
        if tvl1.structure:
            yield from self._remove_structure(source, size)

    def _remove_structure(self, source: Span, size: tuple[int, int]) -> Iterator[Launch]:
        tvl1, spans = self.tvl1, self.spans
        theta = tvl1.structure_theta
        values: dict[str, Any] = {"taut": tvl1.tau / theta, "theta": theta, "share": tvl1.structure}
        p_in, p_out = spans["p0"], spans["p1"]
        for i in range(tvl1.structure_iterations):
            step = {"input": source, "p_in": p_in, "p_out": p_out, "fresh": int(i == 0)}
            yield self._launch("structure_step", size, **step, **values)
            p_in, p_out = p_out, p_in
        yield self._launch(
            "remove_structure", size, input=source, p_in=p_in, output=spans["image0"], **values
        )

    def levels(self) -> Iterator[Launch]:
        """Make the coarser levels, and the input of a warp for each level."""
        tvl1, spans = self.tvl1, self.spans
        a, b = spans["a"], spans["b"]
        for i, size in enumerate(self.sizes):
            image = spans[f"image{i}"]
            if i:
                fine, smooth = self.sizes[i - 1], spans[f"image{i - 1}"]
                if tvl1.antialias:
                    yield from self._filter(smooth, a, b, gaussian_taps(antialias_sigma(tvl1)), fine)
                    smooth = b
                new = {"new_height": size[0], "new_width": size[1], **_tables(spans, "down", i - 1)}
                yield self._launch("shrink", fine, input=smooth, output=image, **new)
            if tvl1.warp == "spline":
                yield from self._filter(image, a, spans[f"sample{i}"], spline_taps(), size)
            else:
                yield self._launch("make_texels", size, input=image, texels=spans[f"texel{i}"])

    def _filter(
        self, source: Span, between: Span, output: Span, taps: NDArray[np.float32], size: tuple[int, int]
    ) -> Iterator[Launch]:
        values = {"reach": len(taps) - 1, "taps": tuple(float(t) for t in taps)}
        yield self._launch("filter_down", size, input=source, output=between, **values)
        yield self._launch("filter_along", size, input=between, output=output, **values)

    def _launch(self, kernel: str, size: tuple[int, int], **values: Any) -> Launch:
        arguments = FrameArguments(height=size[0], width=size[1])
        height, width = values.get("new_height", size[0]), values.get("new_width", size[1])
        blocks = -(-height * width // PIXELS)
        return Launch(kernel, blocks, self.shape.frames, PIXELS, 0, replaced(arguments, **values))


class _PairLaunches:
    """The launches that solve all pairs, from the coarsest level to the finest."""

    def __init__(
        self,
        shape: BatchShape,
        sizes: list[tuple[int, int]],
        tvl1: Tvl1Settings,
        tile: Tile,
        spans: dict[str, Span],
    ) -> None:
        self.shape, self.sizes, self.tvl1, self.tile, self.spans = shape, sizes, tvl1, tile, spans
        names = ("first", "second", "u", "p", "constants", "pairs", "edges", "updates", "mismatch", "flow")
        tiles = ("restless", "tile_updates")
        self.common = LevelArguments(
            **{name: spans[name] for name in names + tiles if name in spans},
            plane=shape.height * shape.width,
            count=shape.pairs,
            taut=tvl1.tau / tvl1.theta,
            lt=tvl1.lambda_ * tvl1.theta,
            theta=tvl1.theta,
            zoom=1 / tvl1.scale_step,
            blend=tvl1.blend,
            huber=tvl1.huber,
            fade=1 / (8 * tvl1.median_grey**2) if tvl1.median_grey else 0,
            occlusion_fade=1 / (8 * tvl1.median_occlusion**2) if tvl1.median_occlusion else 0,
            still=tvl1.still,
            settle=tvl1.settle**2,
            fine_height=shape.height,
            fine_width=shape.width,
        )

    def levels(self) -> Iterator[Launch]:
        """Find the moving tiles, solve each level, and copy the flow out of the finest one."""
        if self.tvl1.still:
            yield from self._tiles()
        for i in reversed(range(len(self.sizes))):
            level = self._level(i)
            if i + 1 == len(self.sizes):
                yield self._launch("begin", level)
            else:
                coarse = {"coarse_height": self.sizes[i + 1][0], "coarse_width": self.sizes[i + 1][1]}
                yield self._launch("grow", replaced(level, **coarse, **_tables(self.spans, "up", i)))
            if self.tvl1.edge:
                yield self._edges(i)
            for warp in range(self.tvl1.warps_of(i)):
                yield self._launch("warp", level)
                for block in range(self.tvl1.outer_iterations):
                    yield from self._block(replaced(level, block=block), i, warp)
            if i == 0:
                yield self._launch("finish", level)

    def _level(self, i: int) -> LevelArguments:
        height, width = self.sizes[i]
        strips, strip, _ = self.tile.strips(width)
        bands, band = self.tile.bands(height, rows_of_bands(self.tvl1))
        if self.tvl1.still:
            tiles = {"tiles": self.spans[f"tiles{i}"], "working": self.spans[f"tiles{i}"]}
            tiles["fine_tiles"] = self.spans["tiles0"]
        else:
            tiles = {}
        samples = "sample" if self.tvl1.warp == "spline" else "texel"
        return replaced(
            self.common,
            images=self.spans[f"image{i}"],
            height=height,
            width=width,
            stop=stop_below(height, width, self.tvl1),
            strip=strip,
            strips=strips,
            band=band,
            bands=bands,
            **tiles,
            **{f"{samples}s": self.spans[f"{samples}{i}"]},
        )

    def _tiles(self) -> Iterator[Launch]:
        """The tiles of all levels in which the solver works."""
        for i in range(len(self.sizes)):
            level = self._level(i)
            tiles = self._launch("coarsen_tiles" if i else "judge_tiles", level)
            rows, columns = tile_counts(*self.sizes[i])
            yield tiles._replace(blocks=-(-rows * columns // PIXELS))
            if i == 0:
                yield self._launch("decide_open_tiles", level)._replace(blocks=1)

    def _sweeps(self, iterations: int) -> list[int]:
        """The iterations of each pass over the state."""
        whole, rest = divmod(iterations, self.tile.stages)
        return [self.tile.stages] * whole + [rest] * (rest > 0)

    def _edges(self, i: int) -> Launch:
        """The weights of the regulariser at level i, for each frame."""
        height, width = self.sizes[i]
        arguments = FrameArguments(
            input=self.spans[f"image{i}"],
            output=self.spans["edges"],
            height=height,
            width=width,
            taut=self.tvl1.tau / self.tvl1.theta,
            edge=self.tvl1.edge / 32,
            edge_least=self.tvl1.edge_least,
        )
        return Launch("weigh_edges", -(-height * width // PIXELS), self.shape.frames, PIXELS, 0, arguments)

    def _block(self, level: LevelArguments, i: int, warp: int) -> Iterator[Launch]:
        """A median and the inner iterations, in the order of the settings."""
        weighted = self.tvl1.weights_median(i, warp)
        if not self.tvl1.median_after:
            yield from self._median(level, weighted)
        yield from self._iterations(level, self.tvl1.iterations_of(i))
        if self.tvl1.median_after:
            yield from self._median(level, weighted)

    def _iterations(self, level: LevelArguments, iterations: int) -> Iterator[Launch]:
        """The inner iterations; between some of them, the tiles that settled are left out."""
        every = SETTLE_EVERY if self.tvl1.settle else iterations
        for start in range(0, iterations, every):
            if start:
                level = replaced(level, working=self.spans["working"])
                yield self._launch("settle", level)._replace(blocks=1)
            for sweep in self._sweeps(min(every, iterations - start)):
                yield self._iterate(level, sweep)
        if self.tvl1.epsilon:
            yield self._iterate(level, 0)  # undoes the iterations of the last pass that came after the stop

    def _iterate(self, level: LevelArguments, iterations: int) -> Launch:
        blocks, threads = level.strips * level.bands, self.tile.strips(level.width)[2]
        shared = threads * self.tile.thread_bytes(self.tvl1)
        arguments = replaced(level, iterations=iterations)
        return Launch("iterate", blocks, self.shape.pairs, threads, shared, arguments)

    def _median(self, level: LevelArguments, weighted: bool) -> Iterator[Launch]:
        if self.tvl1.median == 1:
            return
        if weighted:
            yield self._launch("weighted_median", level)
        else:
            blocks = -(-level.width // MEDIAN_THREADS) * -(-level.height // MEDIAN_ROWS)
            yield self._launch("median", level)._replace(blocks=blocks, threads=MEDIAN_THREADS)

    def _launch(self, kernel: str, level: LevelArguments) -> Launch:
        blocks = -(-level.height * level.width // PIXELS)
        return Launch(kernel, blocks, self.shape.pairs, PIXELS, 0, level)


def rows_of_bands(tvl1: Tvl1Settings) -> int:
    """The number of rows that a band must be a multiple of."""
    return TILE_HEIGHT if tvl1.settle else 1


def _tables(spans: dict[str, Span], name: str, i: int) -> dict[str, Span]:
    """The tables of a resizing: for each sample, its left pixel and the weight of the right one."""
    return {
        "columns": spans[f"{name}_x{i}"],
        "rows": spans[f"{name}_y{i}"],
        "column_weights": spans[f"{name}_x_weights{i}"],
        "row_weights": spans[f"{name}_y_weights{i}"],
    }
