"""TV-L1 on the processor: the algorithm of reference.py in vectors of 16 pixels, with one pair per thread.

Symbols are those of reference.py. The vectors of simd.py make it fast, and three ideas:

* Layout. The data of an iteration lies together. A row of the state is a row of blocks of 16 pixels. A block
  has 10 vectors: u1, u2, the four parts of p, and the four constants of a warp. All offsets are relative to
  two pointers, and a row of blocks streams through the cache.
* Sweeps. The primal step of row y needs p of rows y and y - 1. The dual step of row y - 1 needs u of rows
  y - 1 and y. So one pass does both, and the next iteration can follow one row later. One sweep over the
  image does several iterations while their rows are in the cache. The order of arithmetic is that of complete
  iterations, one after the other.
* Ghosts. A row above the image, a row below it and a column to its right hold values that make gradients and
  divergences right at the border. So no loop has a special case.

The work that depends on one frame only (smoothing, structure, pyramid, spline coefficients) is done once per
frame.

The stopping test runs once per sweep. The length of a sweep is predicted from how fast the updates shrink, so
that it ends about where a test in every iteration would have ended.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowprep.engines import base
from flowprep.engines.cpu.clock import new_clock
from flowprep.engines.cpu.iterate import solve_level
from flowprep.engines.cpu.memory import (
    BLOCK,
    DUAL_PARTS,
    ONE,
    TEXEL_MARGIN,
    Floats,
    LevelLayout,
    PreparedFrame,
    Scratch,
    SolverParameters,
    aligned,
    aligned_shorts,
    copy_duals_out,
    level_layout,
    new_plane,
    pixels_of,
    plane_length,
    resizing_taps,
)
from flowprep.engines.cpu.prepare import (
    mirror_border,
    remove_structure,
    repeat_border,
    resize,
    symmetric_filter,
)
from flowprep.engines.cpu.simd import LANES
from flowprep.engines.cpu.tiles import coarsen, find_moving_tiles, span_row_length
from flowprep.engines.cpu.warp import PIXELS
from flowprep.engines.cpu.weighted import WINDOWS
from flowprep.engines.pyramid import (
    antialias_sigma,
    gaussian_taps,
    level_sizes,
    spline_taps,
    stop_below,
)
from flowprep.engines.tiles import tile_counts
from flowprep.presets import Tvl1Settings

PAIRS_AT_ONCE = 16  # per thread: their frames are prepared together; it limits the memory


class CpuEngine(base.Engine):
    """The compiled engine, the fastest on a processor. Engine "auto" is this one where no GPU works."""

    def __init__(self, tvl1: Tvl1Settings, threads: int = 1, device: int | None = None) -> None:
        super().__init__(tvl1, threads, device)
        self._idle: list[Workspace] = []
        self._spare: list[PreparedFrame] = []

    def _solve(
        self, frames: NDArray[Any], first: list[int], second: list[int], flow: NDArray[np.float32]
    ) -> None:
        height, width = frames.shape[1:]
        prepared: dict[int, PreparedFrame] = {}

        def prepare_one(index: int) -> PreparedFrame:
            workspace = self._idle_workspace(height, width)
            memory = self._spare.pop() if self._spare else workspace.new_frame()
            frame = workspace.prepare(frames[index], memory)
            self._idle.append(workspace)
            return frame

        def solve_one(i: int) -> None:
            workspace = self._idle_workspace(height, width)
            workspace.solve(prepared[first[i]], prepared[second[i]], flow[i])
            self._idle.append(workspace)

        for start in range(0, len(first), PAIRS_AT_ONCE * self.threads):
            pairs = range(start, min(start + PAIRS_AT_ONCE * self.threads, len(first)))
            needed = {index for i in pairs for index in (first[i], second[i])}
            self._spare += [prepared.pop(index) for index in prepared.keys() - needed]
            missing = sorted(needed - prepared.keys())
            prepared.update(zip(missing, self._map(prepare_one, missing), strict=True))
            self._map(solve_one, pairs)
        self._spare += prepared.values()

    def _idle_workspace(self, height: int, width: int) -> Workspace:
        while self._idle:
            workspace = self._idle.pop()
            if workspace.size == (height, width):
                return workspace
            self._spare.clear()  # frames of another size
        return Workspace(height, width, self.tvl1)


class Workspace:
    """The arrays for solving one pair. They are used again: new memory costs a page fault per 4 KB."""

    def __init__(self, height: int, width: int, tvl1: Tvl1Settings) -> None:
        self.size = height, width
        self.tvl1 = tvl1
        self.zoom = np.float32(1 / tvl1.scale_step)
        self.levels = [level_layout(*size) for size in level_sizes(height, width, tvl1)]
        self.parameters = [_parameters(i, level, tvl1) for i, level in enumerate(self.levels)]
        self.blur = tuple(gaussian_taps(tvl1.blur)) if tvl1.blur else None
        self.antialias = tuple(gaussian_taps(antialias_sigma(tvl1))) if tvl1.antialias else None
        self.spline = tuple(spline_taps()) if tvl1.warp == "spline" else None
        self.flows = [[new_plane(level) for _ in range(2)] for level in self.levels]
        # The four parts of the dual variables, one after the other.
        parts = DUAL_PARTS if tvl1.keep_dual else 0
        self.duals = [aligned(parts * plane_length(level)) for level in self.levels]
        self.tiles = [np.ones(tile_counts(level.height, level.width), np.uint8) for level in self.levels]
        finest, tile_rows = self.levels[0], len(self.tiles[0])
        self.scratch = Scratch(
            aligned((height + 2) * finest.row + BLOCK),
            aligned((height + 2 * TEXEL_MARGIN) * finest.texels),
            aligned(5 * finest.stride),
            aligned(2 * finest.blocks * LANES),
            aligned(tile_rows * finest.blocks * LANES),
            np.zeros(tile_rows * span_row_length(finest), np.int32),
            np.zeros((tile_rows + 2, finest.blocks + 2), np.uint8),
            aligned(PIXELS),
            np.zeros(finest.blocks * LANES, np.int32),
            new_plane(finest),
            aligned_shorts(plane_length(finest)),
            aligned_shorts(plane_length(finest)),
            aligned_shorts(plane_length(finest)),
            aligned_shorts(plane_length(finest)),
            aligned_shorts(WINDOWS),
            new_clock(),
        )
        self.row = aligned(finest.stride)
        shrink = 1 / tvl1.scale_step
        self.down = [
            resizing_taps(fine, coarse, shrink, shrink) for fine, coarse in itertools.pairwise(self.levels)
        ]
        self.up = [
            resizing_taps(coarse, fine, coarse.height / fine.height, coarse.width / fine.width)
            for fine, coarse in itertools.pairwise(self.levels)
        ]

    def new_frame(self) -> PreparedFrame:
        """Memory for a frame of this size."""
        images = [new_plane(level) for level in self.levels]
        samples = images if self.spline is None else [new_plane(level) for level in self.levels]
        return PreparedFrame(images, samples)

    def prepare(self, image: NDArray[Any], frame: PreparedFrame) -> PreparedFrame:
        """Fill `frame` with the pyramid of an image (H, W)."""
        images = frame.images
        # The planes of the flow are free now; they hold intermediate images.
        source, spare = self.flows[0] if self.tvl1.structure else (images[0], self.flows[0][0])
        self.smooth(image, spare, source)
        if self.tvl1.structure:
            self.remove_structure(source, images[0])
        for i in range(len(self.levels)):
            if i:
                self.shrink(images, i)
            repeat_border(images[i], self.levels[i])
            if self.spline is not None:
                self.find_coefficients(images[i], self.levels[i], self.spline, frame.samples[i])
        return frame

    def smooth(self, image: NDArray[Any], spare: Floats, out: Floats) -> None:
        """Fill the plane `out` with an image (H, W), smoothed by the first Gaussian."""
        pixels_of(out if self.blur is None else spare, self.levels[0])[...] = image
        if self.blur is not None:
            symmetric_filter(spare, self.levels[0], self.blur, out, self.row)

    def remove_structure(self, image: Floats, out: Floats) -> None:
        """Fill the plane `out` with an image less its structure."""
        tvl1 = self.tvl1
        remove_structure(
            image,
            self.levels[0],
            np.float32(tvl1.tau / tvl1.structure_theta),
            np.float32(tvl1.structure_theta),
            tvl1.structure_iterations,
            np.float32(tvl1.structure),
            out,
            self.scratch,
        )

    def shrink(self, images: list[Floats], i: int) -> None:
        """Make level i of a pyramid from the next finer one."""
        smooth, finer = images[i - 1], self.levels[i - 1]
        if self.antialias is not None:
            smooth = self.flows[i - 1][0]
            symmetric_filter(images[i - 1], finer, self.antialias, smooth, self.row)
        resize(smooth, finer, images[i], self.levels[i], self.down[i - 1], ONE, self.row)

    def find_coefficients(
        self, image: Floats, level: LevelLayout, taps: tuple[np.float32, ...], samples: Floats
    ) -> None:
        """Fill the plane `samples` with the spline coefficients of an image."""
        symmetric_filter(image, level, taps, samples, self.row)
        mirror_border(samples, level)

    def solve(self, before: PreparedFrame, after: PreparedFrame, flow: NDArray[np.float32]) -> None:
        """Fill `flow` (2, H, W) with the flow from one frame to the other."""
        for plane in self.flows[-1]:
            plane[:] = 0
        self.duals[-1][:] = 0
        if self.tvl1.still:
            self.find_tiles(before.images[0], after.images[0])
        for i in reversed(range(len(self.levels))):
            self.solve_level(before.images[i], after.samples[i], i)
            if i:
                self.enlarge(i)
        for k in range(2):
            flow[k] = pixels_of(self.flows[0][k], self.levels[0])

    def find_tiles(self, before: Floats, after: Floats) -> None:
        """Find the tiles of all levels in which the solver works."""
        finest, tiles = self.levels[0], self.tiles[0]
        find_moving_tiles(before, after, finest, np.float32(self.tvl1.still), tiles)
        for level, coarse_tiles in zip(self.levels[1:], self.tiles[1:], strict=True):
            coarsen(tiles, finest, level, coarse_tiles)

    def solve_level(self, before: Floats, after: Floats, i: int) -> None:
        """Improve the flow of level i, from a plane of the image before to the samples of the one after."""
        u1, u2 = self.flows[i]
        level, parameters = self.levels[i], self.parameters[i]
        solve_level(before, after, u1, u2, self.duals[i], level, self.tiles[i], parameters, self.scratch)

    def enlarge(self, i: int) -> None:
        """Begin the flow of level i - 1 with that of level i, and the dual variables if they are kept."""
        level, finer, taps = self.levels[i], self.levels[i - 1], self.up[i - 1]
        for coarse, fine in zip(self.flows[i], self.flows[i - 1], strict=True):
            resize(coarse, level, fine, finer, taps, self.zoom, self.row)
        if not self.tvl1.keep_dual:
            return
        copy_duals_out(level, self.scratch.state, self.duals[i])
        parts = (np.split(self.duals[k], DUAL_PARTS) for k in (i, i - 1))
        for k, (coarse, fine) in enumerate(zip(*parts, strict=True)):
            resize(coarse, level, fine, finer, taps, ONE, self.row)
            # No gradient across the border: parts 0 and 2 are along rows, 1 and 3 along columns.
            pixels_of(fine, finer)[(np.s_[:, -1], np.s_[-1])[k % 2]] = 0


def _parameters(number: int, level: LevelLayout, tvl1: Tvl1Settings) -> SolverParameters:
    warps = tvl1.warps_of(number)
    return SolverParameters(
        np.float32(tvl1.tau / tvl1.theta),
        np.float32(tvl1.huber),
        np.float32(tvl1.edge / 32),
        np.float32(tvl1.edge_least),
        np.float32(tvl1.settle**2),
        np.float32(tvl1.lambda_ * tvl1.theta),
        np.float32(tvl1.theta),
        stop_below(level.height, level.width, tvl1),
        warps,
        tvl1.outer_iterations,
        tvl1.iterations_of(number),
        tvl1.median,
        next((warp for warp in range(warps) if tvl1.weights_median(number, warp)), warps),
        _fade(tvl1.median_grey),
        _fade(tvl1.median_occlusion),
        tvl1.median_stride,
        tvl1.median_after,
        tvl1.warp == "spline",
        np.float32(tvl1.blend),
        tvl1.mask,
        tvl1.coupled,
        tvl1.keep_dual,
    )


def _fade(grey: float) -> np.float32:
    """1 / (8 grey^2): a weight is (1 - fade d^2)^4 for a difference d in grey levels; 0 for no weights."""
    fade: np.float32 = np.float32(1 / (8 * grey**2) if grey else 0)
    return fade
