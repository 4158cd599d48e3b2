"""Check a device kernel by kernel: compare the result of each launch with reference.py.

A wrong kernel is named, with the first wrong pixel. A wrong flow alone would not show where the fault is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowprep.engines import reference
from flowprep.engines.cuda.device import Device, Launch
from flowprep.engines.cuda.kernels import LevelArguments, PairState, Span, kernel_source, replaced, tile_for
from flowprep.engines.cuda.layout import BatchLayout, BatchShape
from flowprep.engines.pyramid import TINY_GRADIENT
from flowprep.engines.tiles import TILE_HEIGHT, coarser, grown, tile_counts
from flowprep.errors import EngineError
from flowprep.presets import Tvl1Settings

# Relative to the largest value. Approximate quotients and square roots have 22 bits, and sums of a few dozen
# terms lose some of them.
TOLERANCE = 1e-4
# A weighted median is exact to a thousandth of its window's range. In a few windows the two halves of the
# weight are nearly equal, and the median is another pixel.
MEDIAN_TOLERANCE, MEDIAN_EXCEPTIONS = 2e-3, 0.02

_RUNNING = 0x7FFFFFFF

MEDIANS = ("median", "weighted_median")
TILE_KERNELS = ("judge_tiles", "decide_open_tiles", "coarsen_tiles", "settle")


def check_kernels(
    device: Device, tvl1: Tvl1Settings, frames: NDArray[Any], bounds: bool = False
) -> dict[str, float]:
    """Solve the pairs of consecutive frames, and check the result of each launch.

    Args:
        device: the device to check.
        tvl1: the solver's parameters; the kernels depend on them.
        frames: (F, H, W), uint8 or float32. Small ones, because reference.py is slow.
        bounds: whether to use the build that checks every index.

    Returns:
        For each kernel its largest error, relative to the largest value.

    Raises:
        EngineError: a kernel failed or gave a wrong result; the message names the kernel and the pixel.
    """
    tile, pairs = tile_for(device, tvl1), len(frames) - 1
    height, width = frames.shape[1:]
    shape = BatchShape(height, width, len(frames), pairs, frames.dtype == np.float32)
    layout = BatchLayout(shape, tvl1, tile)
    queue, address = device.queue(), device.allocate(layout.bytes)
    memory = device.pinned(layout.input_bytes)
    layout.write_input(memory, frames, range(pairs), range(1, pairs + 1))
    queue.upload(address, memory[: layout.input_bytes])
    queue.wait()
    check = _Check(device, tvl1, layout)
    source = kernel_source(tvl1, tile, bounds)
    try:
        for launch in layout.launches(address):
            check.expect(launch)
            try:
                queue.run(source, [launch])
                queue.wait()
            except EngineError as exc:
                raise EngineError(f"kernel {launch.kernel}: {exc}") from exc
            check.compare(launch)
        return check.errors
    finally:
        device.release(address)
        device.unpin(memory)


class _Check:
    """The expected result of the next launch, and the largest errors so far."""

    def __init__(self, device: Device, tvl1: Tvl1Settings, layout: BatchLayout) -> None:
        self.device, self.tvl1, self.layout = device, tvl1, layout
        self.errors: dict[str, float] = {}
        self.start: Any = None  # the state before the launch
        self.expected: Any = None

    def read(self, span: Span, dtype: Any = np.float32, parts: int = 1) -> NDArray[Any]:
        """Copy an array from the device; each element has `parts` numbers."""
        size = span.size * parts * np.dtype(dtype).itemsize
        memory, queue = self.device.pinned(size), self.device.queue()
        queue.download(memory[:size], span.data)
        queue.wait()
        values: NDArray[Any] = memory[:size].view(dtype).copy()
        self.device.unpin(memory)
        return values

    def planes(self, span: Span, level: Any, parts: int = 1) -> NDArray[Any]:
        """Copy frames (F, height, width[, parts]) from the device."""
        size = (self.layout.shape.frames, level.height, level.width, parts)[: 3 + (parts > 1)]
        values = self.read(span, np.float32, parts)  # the memory may be longer
        return values[: int(np.prod(size))].reshape(size)

    def states(self, level: Any) -> tuple[list[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Copy the state of all pairs: PairState, u (N, 2, h, w), p (N, 4, h, w), constants (N, 4, h, w)."""
        raw = self.read(level.pairs, np.uint8, 20).tobytes()
        states = [PairState.from_buffer_copy(raw, 20 * i) for i in range(level.count)]
        area, plane = level.height * level.width, level.plane
        u = self.read(level.u, np.float32, 2).reshape(2, level.count, plane, 2)[:, :, :area]
        p = self.read(level.p, np.float32, 4).reshape(2, level.count, plane, 4)[:, :, :area]
        c = self.read(level.constants, np.float32, 4).reshape(level.count, plane, 4)[:, :area]
        us, ps = (
            np.stack([v[at, i].T.reshape(-1, level.height, level.width) for i, at in enumerate(halves)])
            for v, halves in ((u, [s.u_at for s in states]), (p, [s.p_at for s in states]))
        )
        return states, us, ps, c.swapaxes(1, 2).reshape(level.count, 4, level.height, level.width)

    def expect(self, launch: Launch) -> None:
        """Read the input of a launch, and compute the expected result."""
        args: Any = launch.arguments
        kernel, tvl1 = launch.kernel, self.tvl1
        if kernel == "widen":
            size = args.height, args.width
            self.expected = self.read(args.bytes, np.uint8).reshape(-1, *size).astype(np.float32)
        elif kernel == "filter_down":
            taps = np.array(args.taps[: args.reach + 1], np.float32)
            self.start = [reference.symmetric_filter(i, taps) for i in self.planes(args.input, args)]
        elif kernel == "filter_along":
            self.expected = np.stack(self.start)
        elif kernel == "remove_structure":
            self.expected = np.stack(
                [
                    i - np.float32(tvl1.structure) * reference.structure(i, tvl1)
                    for i in self.planes(args.input, args)
                ]
            )
        elif kernel == "shrink":
            size, scale = (args.new_height, args.new_width), (1 / tvl1.scale_step,) * 2
            self.expected = np.stack(
                [reference.resize(i, size, scale) for i in self.planes(args.input, args)]
            )
        elif kernel == "make_texels":
            images = self.planes(args.input, args)
            self.expected = np.stack(
                [np.stack([i, *reference.centred_gradient(i), 0 * i], axis=-1) for i in images]
            )
        elif kernel == "grow":
            coarse = replaced(args, height=args.coarse_height, width=args.coarse_width)
            size = args.height, args.width
            ratio = coarse.height / size[0], coarse.width / size[1]
            _, flows, duals, _ = self.states(coarse)
            flows = flows * np.float32(1 / tvl1.scale_step)
            u, p = (
                np.array([[reference.resize(c, size, ratio) for c in v] for v in a]) for a in (flows, duals)
            )
            p[:, ::2, :, -1] = p[:, 1::2, -1] = 0  # no gradient across the border
            p = p if tvl1.keep_dual else np.zeros_like(p)
            moves, moves_p = (self.moving(args, args.tiles, up) for up in (0, 1))
            self.expected = np.concatenate([u * moves, p * moves_p], axis=1)
        elif kernel == "weigh_edges":
            taut = np.float32(tvl1.tau / tvl1.theta)
            images = self.planes(args.input, args)
            self.expected = np.stack([taut / reference.edge_weights(i, tvl1) for i in images])
        elif kernel in TILE_KERNELS:
            self.expected = self._tiles(kernel, args)
        elif kernel in ("warp", *MEDIANS, "iterate"):
            self.start = self.states(args)
            if kernel in MEDIANS:
                self.expected = self._filtered(args, weighted=kernel == "weighted_median")
            else:
                self.expected = self._warped(args) if kernel == "warp" else self._iterated(args)
        elif kernel == "finish":
            self.expected = self.states(args)[1]

    def compare(self, launch: Launch) -> None:
        """Compare the result of a launch with the expected one."""
        args: Any = launch.arguments
        kernel = launch.kernel
        if kernel in ("filter_down", "structure_step", "judge_tiles"):
            return  # the next kernel's result shows whether it is right
        if kernel in ("widen", "filter_along", "remove_structure", "weigh_edges"):
            actual = self.planes(args.output, args)
        elif kernel == "shrink":
            actual = self.planes(args.output, replaced(args, height=args.new_height, width=args.new_width))
        elif kernel == "make_texels":
            actual = self.planes(args.texels, args, 4)
        elif kernel in TILE_KERNELS:
            actual = self.tiles(args.working if kernel == "settle" else args.tiles, args).astype(np.float32)
        elif kernel == "finish":
            actual = self.read(args.flow).reshape(-1, 2, args.height, args.width)
        else:
            states, u, p, constants = self.states(args)
            if kernel == "begin":
                self.expected = np.zeros((len(u), 6, *u.shape[2:]), np.float32)
            if any(s.arrived for s in states):
                raise EngineError(
                    f"kernel {kernel}: {states[0].arrived} thread blocks are still counted after it"
                )
            if kernel == "warp":
                actual = np.concatenate([constants, self.mismatches(args)], axis=1)
            else:
                actual = u if kernel in MEDIANS else np.concatenate([u, p], axis=1)
        self._compare(launch, actual)

    def _compare(self, launch: Launch, actual: NDArray[Any]) -> None:
        expected, kernel = np.asarray(self.expected, np.float32), launch.kernel
        spread = max(1.0, float(np.abs(expected).max()))
        error = np.abs(actual - expected) / spread
        if kernel == "warp":  # -1 / |grad|^2 is as exact as the actual gradient
            inverse = _inverse(actual[:, 0] ** 2 + actual[:, 1] ** 2)
            error[:, 3] = np.abs(actual[:, 3] - inverse) / np.maximum(1, np.abs(inverse))
        if kernel == "make_texels":
            error = error.max(axis=-1)
        weighted = kernel == "weighted_median"
        wrong = ~(error <= (MEDIAN_TOLERANCE if weighted else TOLERANCE))  # NaN is wrong
        if wrong.mean() > (MEDIAN_EXCEPTIONS if weighted else 0):
            at = tuple(int(i) for i in np.argwhere(wrong)[0])
            number, y, x = at[0], at[-2], at[-1]
            kind = "pair" if isinstance(launch.arguments, LevelArguments) else "frame"
            raise EngineError(
                f"kernel {kernel}: {kind} {number}, level of {actual.shape[-1]}x{actual.shape[-2]}, pixel "
                f"x={x} y={y}: actual {actual[at].max():g}, expected {expected[at].max():g}; "
                f"{wrong.sum()} of {wrong.size} values are wrong"
            )
        self.errors[kernel] = max(self.errors.get(kernel, 0.0), float(error.max()))

    def _warped(self, args: Any) -> NDArray[Any]:
        tvl1, (_, flows, _, _) = self.tvl1, self.start
        images = self.planes(args.images, args)
        first = self.read(args.first, np.int32)
        second = self.read(args.second, np.int32)
        expected = []
        moving = self.moving(args, args.tiles)
        for u, i0, i1, moves in zip(flows, images[first], images[second], moving, strict=True):
            grad, rho_c, mismatch = reference.linearise(i0, i1, u, tvl1)
            constants = [*grad, rho_c, _inverse(grad[0] * grad[0] + grad[1] * grad[1])]
            if tvl1.median_occlusion:
                constants.append(mismatch)
            expected.append(np.where(moves, np.stack(constants), np.float32(0)))
        return np.stack(expected)

    def _filtered(self, args: Any, weighted: bool) -> NDArray[Any]:
        states, flows, _, _ = self.start
        images = self.planes(args.images, args)[self.read(args.first, np.int32)]
        moving, mismatches = self.moving(args, args.tiles), self.mismatches(args)
        expected: NDArray[Any] = flows.copy()
        for i, (state, u, moves) in enumerate(zip(states, flows, moving, strict=True)):
            if state.stopped >= args.block:
                mismatch = (
                    mismatches[i, 0] if weighted and self.tvl1.median_occlusion else np.zeros_like(u[0])
                )
                filtered = reference.filtered(u, images[i], mismatch, weighted, self.tvl1)
                expected[i] = np.where(moves, filtered, u)
        return expected

    def _tiles(self, kernel: str, args: Any) -> NDArray[Any]:
        """The tiles of all pairs after one of TILE_KERNELS."""
        fine = self.layout.shape.height, self.layout.shape.width
        size = args.height, args.width
        if kernel == "coarsen_tiles":
            tiles = self.tiles(args.fine_tiles, replaced(args, height=fine[0], width=fine[1]))
            return np.stack([coarser(t, fine, size) for t in tiles])
        if kernel in ("judge_tiles", "decide_open_tiles"):
            images = self.planes(args.images, args)
            pairs = zip(self.read(args.first, np.int32), self.read(args.second, np.int32), strict=True)
            return np.stack([reference.moving_tiles(images[a], images[b], self.tvl1) for a, b in pairs])
        rows, columns = tile_counts(*size)
        updates = self.read(args.tile_updates)[: args.count * rows * args.width]
        updates = np.repeat(updates.reshape(args.count, rows, args.width), TILE_HEIGHT, axis=1)
        updates = updates[:, : args.height]
        for row in range(rows):  # such that the mean of a tile is right
            tile = updates[:, row * TILE_HEIGHT : (row + 1) * TILE_HEIGHT]
            tile /= tile.shape[1]
        tiles = (
            self.tiles(args.tiles, args) if args.tiles.size else np.ones((args.count, rows, columns), bool)
        )
        return np.stack(
            [t & grown(reference.restless(u, self.tvl1.settle)) for t, u in zip(tiles, updates, strict=True)]
        )

    def tiles(self, span: Span, level: Any) -> NDArray[np.bool_]:
        """Copy tiles (N, tile rows, tile columns) from the device."""
        shape = level.count, *tile_counts(level.height, level.width)
        tiles: NDArray[np.bool_] = self.read(span, np.uint8)[: int(np.prod(shape))].reshape(shape) != 0
        return tiles

    def moving(self, level: Any, span: Span, up: int = 0) -> NDArray[np.bool_]:
        """The pixels (N, 1, h, w) of tiles, as `reference.in_pixels`; all of them for an empty span."""
        size = level.height, level.width
        if not span.size:
            return np.ones((level.count, 1, *size), bool)
        return np.stack([reference.in_pixels(t, size, up)[None] for t in self.tiles(span, level)])

    def mismatches(self, level: Any) -> NDArray[Any]:
        """Copy the mismatch (N, 1, h, w) from the device; (N, 0, h, w) if there is none."""
        size = level.height, level.width
        if not level.mismatch.size:
            return np.empty((level.count, 0, *size), np.float32)
        planes = self.read(level.mismatch).reshape(level.count, 1, level.plane)
        mismatches: NDArray[Any] = planes[..., : level.height * level.width].reshape(level.count, 1, *size)
        return mismatches

    def _iterated(self, args: Any) -> NDArray[Any]:
        tvl1, expected = self.tvl1, []
        images = self.planes(args.images, args)[self.read(args.first, np.int32)]
        masks = (self.moving(args, args.working, up) for up in (0, 1))
        for state, u, p, c, i0, moves, moves_p in zip(*self.start, images, *masks, strict=True):
            start, errors, weight = np.concatenate([u, p]), [], reference.edge_weights(i0, tvl1)
            for _ in range(0 if state.stopped != _RUNNING else state.redo or args.iterations):
                u_before = u
                u, p = _iteration(u, p, c, weight, moves, moves_p, tvl1)
                errors.append(float(((u - u_before) ** 2).sum()))
            # Iterations after the stopping test held do not count: the state stays unchanged.
            stopped = tvl1.epsilon > 0 and not state.redo and min(errors[:-1], default=np.inf) <= args.stop
            expected.append(start if stopped else np.concatenate([u, p]))
        return np.stack(expected)


def _iteration(
    u: NDArray[Any],
    p: NDArray[Any],
    constants: NDArray[Any],
    weight: NDArray[Any],
    moves: Any,
    moves_p: Any,
    tvl1: Tvl1Settings,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """One iteration.

    Args:
        u: the flow (2, h, w).
        p: its dual variables (4, h, w).
        constants: those of a warp (4, h, w).
        weight: that of the regulariser.
        moves: the pixels at which u may change.
        moves_p: the pixels at which p may change.
        tvl1: the parameters.

    Returns:
        u and p after the iteration.
    """
    theta = np.float32(tvl1.theta)
    lt = np.float32(tvl1.lambda_ * tvl1.theta)
    i1x, i1y, rho, inverse = constants
    step = np.clip((rho + i1x * u[0] + i1y * u[1]) * inverse, -lt, lt)
    halves = p.reshape(2, 2, *p.shape[1:])
    change = step * constants[:2] + theta * np.stack([reference.divergence(pk) for pk in halves])
    u = u + np.where(moves, change, np.float32(0))
    return u, np.where(moves_p, reference.dual_step(halves, u, weight, tvl1).reshape(p.shape), p)


def _inverse(square: NDArray[Any]) -> NDArray[Any]:
    """-1 / |grad|^2, or 0 where the gradient is too small for a data term."""
    solved = square > TINY_GRADIENT
    return np.where(solved, -1 / np.where(solved, square, 1), 0)
