"""A check of a device, kernel by kernel: what each makes of its input against reference.py, step by step.

The first that is wrong is named, with the pixel: what a whole flow that is wrong does not tell.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowprep.engines import reference
from flowprep.engines.cuda.device import Device, Launch
from flowprep.engines.cuda.kernels import Level, Pair, Span, changed, source, tile_for
from flowprep.engines.cuda.layout import Layout, Shape
from flowprep.engines.pyramid import TINY_GRADIENT
from flowprep.errors import EngineError
from flowprep.presets import Tvl1Settings

# Relative to the largest value: approximate quotients and square roots have 22 bits, and sums of a few dozen
# terms lose some.
TOLERANCE = 1e-4
# A weighted median is found to a thousandth of its window's range; and where two halves of the weight are
# nearly alike, which are few places, it falls on another pixel.
TOLERANCE_OF_CHOICES, PLACES_OF_CHOICES = 2e-3, 0.02

_RUNNING = 0x7FFFFFFF


def check_kernels(
    device: Device, tvl1: Tvl1Settings, frames: NDArray[Any], bounds: bool = False
) -> dict[str, float]:
    """Solve the pairs of consecutive frames a launch at a time, and check each.

    Args:
        device: what to check.
        tvl1: the solver's parameters, on which depends what kernels there are.
        frames: (F, H, W), uint8 or float32, small: reference.py is slow.
        bounds: use the build that checks every index.

    Returns:
        kernel -> its largest error, relative to the largest value.

    Raises:
        EngineError: a kernel is wrong, or fails; the message says which, and where.
    """
    tile, pairs = tile_for(device), len(frames) - 1
    height, width = frames.shape[1:]
    shape = Shape(height, width, len(frames), pairs, frames.dtype == np.float32)
    layout = Layout(shape, tvl1, tile)
    queue, address = device.queue(), device.allocate(layout.bytes)
    memory = device.pinned(layout.input_bytes)
    layout.write_input(memory, frames, range(pairs), range(1, pairs + 1))
    queue.upload(address, memory[: layout.input_bytes])
    queue.wait()
    check = _Check(device, tvl1, layout)
    text = source(tvl1, tile, bounds)
    try:
        for launch in layout.launches(address):
            check.before(launch)
            try:
                queue.run(text, [launch])
                queue.wait()
            except EngineError as exc:
                raise EngineError(f"kernel {launch.kernel}: {exc}") from exc
            check.after(launch)
        return check.errors
    finally:
        device.release(address)
        device.unpin(memory)


class _Check:
    """What a launch finds, and what it should leave."""

    def __init__(self, device: Device, tvl1: Tvl1Settings, layout: Layout) -> None:
        self.device, self.tvl1, self.layout = device, tvl1, layout
        self.errors: dict[str, float] = {}
        self.kept: Any = None  # what the first of several kernels started from
        self.expected: Any = None

    def read(self, span: Span, dtype: Any = np.float32, parts: int = 1) -> NDArray[Any]:
        """An array of the device; with `parts` numbers an element."""
        size = span.size * parts * np.dtype(dtype).itemsize
        memory, queue = self.device.pinned(size), self.device.queue()
        queue.download(memory[:size], span.data)
        queue.wait()
        values: NDArray[Any] = memory[:size].view(dtype).copy()
        self.device.unpin(memory)
        return values

    def planes(self, span: Span, record: Any, parts: int = 1) -> NDArray[Any]:
        """Frames (F, height, width[, parts])."""
        size = (self.layout.shape.frames, record.height, record.width, parts)[: 3 + (parts > 1)]
        values = self.read(span, np.float32, parts)  # scratch may be longer
        return values[: int(np.prod(size))].reshape(size)

    def states(self, record: Any) -> tuple[list[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Of each pair: where it stands, and u (2, h, w), p (4, h, w), constants (4, h, w)."""
        raw = self.read(record.pairs, np.uint8, 20).tobytes()
        states = [Pair.from_buffer_copy(raw, 20 * i) for i in range(record.count)]
        area, plane = record.height * record.width, record.plane
        u = self.read(record.u, np.float32, 2).reshape(2, record.count, plane, 2)[:, :, :area]
        p = self.read(record.p, np.float32, 4).reshape(2, record.count, plane, 4)[:, :, :area]
        c = self.read(record.constants, np.float32, 4).reshape(record.count, plane, 4)[:, :area]
        us, ps = (
            np.stack([v[at, i].T.reshape(-1, record.height, record.width) for i, at in enumerate(which)])
            for v, which in ((u, [s.u_at for s in states]), (p, [s.p_at for s in states]))
        )
        return states, us, ps, c.swapaxes(1, 2).reshape(record.count, 4, record.height, record.width)

    def before(self, launch: Launch) -> None:
        """Read what a launch starts from, and compute what it should leave."""
        record, kernel, tvl1 = launch.record, launch.kernel, self.tvl1
        if kernel == "widen":
            size = record.height, record.width
            self.expected = self.read(record.bytes, np.uint8).reshape(-1, *size).astype(np.float32)
        elif kernel == "filter_down":
            taps = np.array(record.taps[: record.reach + 1], np.float32)
            self.kept = [reference.symmetric_filter(i, taps) for i in self.planes(record.input, record)]
        elif kernel == "filter_along":
            self.expected = np.stack(self.kept)
        elif kernel == "remove_structure":
            self.expected = np.stack(
                [
                    i - np.float32(tvl1.structure) * reference.structure(i, tvl1)
                    for i in self.planes(record.input, record)
                ]
            )
        elif kernel == "shrink":
            size, scale = (record.new_height, record.new_width), (1 / tvl1.scale_step,) * 2
            self.expected = np.stack(
                [reference.resize(i, size, scale) for i in self.planes(record.input, record)]
            )
        elif kernel == "make_texels":
            images = self.planes(record.input, record)
            self.expected = np.stack(
                [np.stack([i, *reference.centred_gradient(i), 0 * i], axis=-1) for i in images]
            )
        elif kernel == "grow":
            coarse = changed(record, height=record.coarse_height, width=record.coarse_width)
            size = record.height, record.width
            ratio = coarse.height / size[0], coarse.width / size[1]
            flows = self.states(coarse)[1] * np.float32(1 / tvl1.scale_step)
            self.expected = np.stack([np.stack([reference.resize(c, size, ratio) for c in u]) for u in flows])
        elif kernel in ("warp", "median", "iterate"):
            self.kept = self.states(record)
            step = {"warp": self._warped, "median": self._filtered, "iterate": self._iterated}[kernel]
            self.expected = step(record)
        elif kernel == "finish":
            self.expected = self.states(record)[1]

    def after(self, launch: Launch) -> None:
        """Compare what a launch left."""
        record, kernel = launch.record, launch.kernel
        if kernel in ("filter_down", "structure_step"):
            return  # judged by what the next kernels make of it
        if kernel in ("widen", "filter_along", "remove_structure"):
            found = self.planes(record.output, record)
        elif kernel == "shrink":
            found = self.planes(
                record.output, changed(record, height=record.new_height, width=record.new_width)
            )
        elif kernel == "make_texels":
            found = self.planes(record.texels, record, 4)
        elif kernel == "finish":
            found = self.read(record.flow).reshape(-1, 2, record.height, record.width)
        else:
            states, u, p, constants = self.states(record)
            if kernel == "begin":
                self.expected = np.zeros_like(u)
            if kernel in ("begin", "grow") and p.any():
                raise EngineError(f"kernel {kernel}: dual variables are not 0")
            if any(s.arrived for s in states):
                raise EngineError(f"kernel {kernel}: {states[0].arrived} blocks are counted at its end")
            found = {"warp": constants, "iterate": np.concatenate([u, p], axis=1)}.get(kernel, u)
        self._compare(launch, found)

    def _compare(self, launch: Launch, found: NDArray[Any]) -> None:
        expected, kernel = np.asarray(self.expected), launch.kernel
        spread = max(1.0, float(np.abs(expected).max()))
        error = np.abs(found - expected) / spread
        if kernel == "warp":  # the last one, -1 / |grad|^2, is as good as the gradient that was found
            inverse = _inverse(found[:, 0] ** 2 + found[:, 1] ** 2)
            error[:, 3] = np.abs(found[:, 3] - inverse) / np.maximum(1, np.abs(inverse))
        if kernel == "make_texels":
            error = error.max(axis=-1)
        chosen = kernel == "median" and self.tvl1.median_grey > 0
        wrong = ~(error <= (TOLERANCE_OF_CHOICES if chosen else TOLERANCE))  # NaN is wrong
        if wrong.mean() > (PLACES_OF_CHOICES if chosen else 0):
            at = tuple(int(i) for i in np.argwhere(wrong)[0])
            number, y, x = at[0], at[-2], at[-1]
            kind = "pair" if isinstance(launch.record, Level) else "frame"
            raise EngineError(
                f"kernel {kernel}: {kind} {number}, level of {found.shape[-1]}x{found.shape[-2]}, pixel "
                f"x={x} y={y}: found {found[at].max():g}, expected {expected[at].max():g}; "
                f"{wrong.sum()} of {wrong.size} values are wrong"
            )
        self.errors[kernel] = max(self.errors.get(kernel, 0.0), float(error.max()))

    def _warped(self, record: Any) -> NDArray[Any]:
        tvl1, (_, flows, _, _) = self.tvl1, self.kept
        images = self.planes(record.images, record)
        first = self.read(record.first, np.int32)
        second = self.read(record.second, np.int32)
        found = []
        for u, i0, i1 in zip(flows, images[first], images[second], strict=True):
            i1w, i1wx, i1wy = reference.warp(i1, u, tvl1.warp)
            if tvl1.blend:
                i0x, i0y = reference.centred_gradient(i0)
                blend = np.float32(tvl1.blend)
                i1wx, i1wy = (1 - blend) * i1wx + blend * i0x, (1 - blend) * i1wy + blend * i0y
            if tvl1.mask:
                i1wx, i1wy = (np.where(reference.outside(u), np.float32(0), g) for g in (i1wx, i1wy))
            rho_c = i1w - i1wx * u[0] - i1wy * u[1] - i0
            found.append(np.stack([i1wx, i1wy, rho_c, _inverse(i1wx * i1wx + i1wy * i1wy)]))
        return np.stack(found)

    def _filtered(self, record: Any) -> NDArray[Any]:
        states, flows, _, _ = self.kept
        images = self.planes(record.images, record)[self.read(record.first, np.int32)]
        return np.stack(
            [
                reference.filtered(u, i0, self.tvl1) if s.stopped >= record.block else u
                for s, u, i0 in zip(states, flows, images, strict=True)
            ]
        )

    def _iterated(self, record: Any) -> NDArray[Any]:
        tvl1, found = self.tvl1, []
        taut, theta = np.float32(tvl1.tau / tvl1.theta), np.float32(tvl1.theta)
        lt = np.float32(tvl1.lambda_ * tvl1.theta)
        for state, u, p, c in zip(*self.kept, strict=True):
            start = np.concatenate([u, p])
            errors = []
            for _ in range(0 if state.stopped != _RUNNING else state.redo or record.iterations):
                step = np.clip((c[2] + c[0] * u[0] + c[1] * u[1]) * c[3], -lt, lt)
                div = np.stack([reference.divergence(pk) for pk in (p[:2], p[2:])])
                u_before, u = u, u + step * c[:2] + theta * div
                gradients = [reference.forward_gradient(uk) for uk in u]
                p = np.concatenate(
                    [
                        (pk + taut * g) / (1 + taut * np.hypot(*g))
                        for pk, g in zip((p[:2], p[2:]), gradients, strict=True)
                    ]
                )
                errors.append(float(((u - u_before) ** 2).sum()))
            # Iterations beyond the one where the stopping test holds do not count: the state stays as it was.
            surplus = tvl1.epsilon > 0 and not state.redo and min(errors[:-1], default=np.inf) <= record.stop
            found.append(start if surplus else np.concatenate([u, p]))
        return np.stack(found)


def _inverse(square: NDArray[Any]) -> NDArray[Any]:
    """-1 / |grad|^2, or 0 where the data term is not solved."""
    solved = square > TINY_GRADIENT
    return np.where(solved, -1 / np.where(solved, square, 1), 0)
