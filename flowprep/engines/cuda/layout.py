"""Where the arrays of a batch lie in its memory, and the launches that solve it."""

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
    Frames,
    Level,
    Pair,
    Span,
    Tile,
    changed,
)
from flowprep.engines.pyramid import (
    antialias_sigma,
    gaussian_taps,
    level_sizes,
    linear_taps,
    spline_taps,
    stop_below,
)
from flowprep.presets import Tvl1Settings


class Shape(NamedTuple):
    """How large a batch is."""

    height: int
    width: int
    frames: int
    pairs: int
    floats: bool  # frames are float32, not uint8


class Layout:
    """Where the arrays of a batch lie in its memory.

    Attributes:
        shape: of the batch.
        input_bytes: what is uploaded, at the start: frames, indices and tables.
        flow_at, flow_bytes: where the flow lies.
        bytes: of all.
    """

    def __init__(self, shape: Shape, tvl1: Tvl1Settings, tile: Tile) -> None:
        self.shape, self.tvl1, self.tile = shape, tvl1, tile
        height, width, frames, pairs, floats = shape
        self.sizes = level_sizes(height, width, tvl1)
        self.bytes = 0
        self._arrays: dict[str, tuple[int, int]] = {}
        area = height * width
        steps = list(itertools.pairwise(self.sizes))

        self._add("frames", frames * area, 4 if floats else 1)
        self._add("first", pairs, 4)
        self._add("second", pairs, 4)
        for i, (fine, coarse) in enumerate(steps):
            for name, sides in (("down", coarse), ("up", fine)):
                for axis, side in zip("yx", sides, strict=True):
                    self._add(f"{name}_{axis}{i}", side, 4)
                    self._add(f"{name}_{axis}_weights{i}", side, 4)
        self.input_bytes = self.bytes

        spline = tvl1.warp == "spline"
        for i, (h, w) in enumerate(self.sizes):
            if i or not self._prepared_already:
                self._add(f"image{i}", frames * h * w, 4)
            self._add(f"sample{i}" if spline else f"texel{i}", frames * h * w, 4 if spline else 16)
        for name in ("a", "b"):
            self._add(name, frames * area, 4)
        if tvl1.structure:
            for name in ("p0", "p1"):
                self._add(name, frames * area, 8)
        self._add("u", 2 * pairs * area, 8)
        self._add("p", 2 * pairs * area, 16)
        self._add("constants", pairs * area, 16)
        self._add("pairs", pairs, ctypes.sizeof(Pair))
        tiles = max(tile.strips(w)[0] * tile.bands(h)[0] for h, w in self.sizes)
        self._add("updates", pairs * tiles * tile.stages, 4)
        self._add("flow", pairs * 2 * area, 4)
        self.flow_at, self.flow_bytes = self._arrays["flow"][0], pairs * 2 * area * 4

    @property
    def _prepared_already(self) -> bool:
        """Whether the frames as they come are the finest level."""
        return self.shape.floats and not self.tvl1.blur and not self.tvl1.structure

    def _add(self, name: str, size: int, item: int) -> None:
        self._arrays[name] = self.bytes, size
        self.bytes += -(-size * item // 256) * 256

    def write_input(
        self, memory: NDArray[np.uint8], frames: NDArray[Any], first: Sequence[int], second: Sequence[int]
    ) -> None:
        """Fill what is uploaded: frames (F, H, W), and the two of each pair."""
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
        """Everything that is done with a batch whose memory is at `address`."""
        spans = {name: Span(address + at, size) for name, (at, size) in self._arrays.items()}
        return [*self._frame_launches(spans), *self._pair_launches(spans)]

    def _frame_launches(self, spans: dict[str, Span]) -> Iterator[Launch]:
        """Pyramids, and what a warp reads."""
        tvl1 = self.tvl1

        def launch(kernel: str, size: tuple[int, int], **values: Any) -> Launch:
            record = Frames(height=size[0], width=size[1])
            blocks = -(-size[0] * size[1] // PIXELS)
            if kernel == "shrink":
                blocks = -(-values["new_height"] * values["new_width"] // PIXELS)
            return Launch(kernel, blocks, self.shape.frames, PIXELS, 0, changed(record, **values))

        def filters(
            source: Span, between: Span, out: Span, taps: NDArray[np.float32], size: tuple[int, int]
        ) -> Iterator[Launch]:
            values = {"reach": len(taps) - 1, "taps": tuple(float(t) for t in taps)}
            yield launch("filter_down", size, input=source, output=between, **values)
            yield launch("filter_along", size, input=between, output=out, **values)

        size = self.sizes[0]
        a, b = spans["a"], spans["b"]
        if self._prepared_already:
            spans["image0"] = spans["frames"]
        source = spans["frames"]
        if not self.shape.floats:
            out = a if tvl1.blur or tvl1.structure else spans["image0"]
            yield launch("widen", size, bytes=source, output=out)
            source = out
        if tvl1.blur:
            out = a if tvl1.structure else spans["image0"]
            yield from filters(source, b, out, gaussian_taps(tvl1.blur), size)
            source = out
        if tvl1.structure:
            values = {
                "taut": tvl1.tau / tvl1.structure_theta,
                "theta": tvl1.structure_theta,
                "share": tvl1.structure,
            }
            p_in, p_out = spans["p0"], spans["p1"]
            for i in range(tvl1.structure_iterations):
                yield launch(
                    "structure_step", size, input=source, p_in=p_in, p_out=p_out, fresh=int(i == 0), **values
                )
                p_in, p_out = p_out, p_in
            yield launch("remove_structure", size, input=source, p_in=p_in, output=spans["image0"], **values)

        for i, size in enumerate(self.sizes):
            image = spans[f"image{i}"]
            if i:
                fine, smooth = self.sizes[i - 1], spans[f"image{i - 1}"]
                if tvl1.antialias:
                    yield from filters(smooth, a, b, gaussian_taps(antialias_sigma(tvl1)), fine)
                    smooth = b
                yield launch(
                    "shrink",
                    fine,
                    input=smooth,
                    output=image,
                    new_height=size[0],
                    new_width=size[1],
                    **_tables(spans, "down", i - 1),
                )
            if tvl1.warp == "spline":
                yield from filters(image, a, spans[f"sample{i}"], spline_taps(), size)
            else:
                yield launch("make_texels", size, input=image, texels=spans[f"texel{i}"])

    def _pair_launches(self, spans: dict[str, Span]) -> Iterator[Launch]:
        """The solver, from coarse to fine."""
        tvl1, tile = self.tvl1, self.tile
        names = ("first", "second", "u", "p", "constants", "pairs", "updates", "flow")
        common = Level(
            **{name: spans[name] for name in names},
            plane=self.shape.height * self.shape.width,
            count=self.shape.pairs,
            taut=tvl1.tau / tvl1.theta,
            lt=tvl1.lambda_ * tvl1.theta,
            theta=tvl1.theta,
            zoom=1 / tvl1.scale_step,
            blend=tvl1.blend,
            fade=1 / (8 * tvl1.median_grey**2) if tvl1.median_grey else 0,
        )
        for i in reversed(range(len(self.sizes))):
            height, width = self.sizes[i]
            strips, strip, threads = tile.strips(width)
            bands, band = tile.bands(height)
            level = changed(
                common,
                images=spans[f"image{i}"],
                height=height,
                width=width,
                stop=stop_below(height, width, tvl1),
                strip=strip,
                strips=strips,
                band=band,
                bands=bands,
            )
            if tvl1.warp == "spline":
                level.samples = spans[f"sample{i}"]
            else:
                level.texels = spans[f"texel{i}"]

            def launch(kernel: str, level: Level = level) -> Launch:
                blocks = -(-level.height * level.width // PIXELS)
                return Launch(kernel, blocks, self.shape.pairs, PIXELS, 0, level)

            if i + 1 == len(self.sizes):
                yield launch("begin")
            else:
                coarse = self.sizes[i + 1]
                grown = changed(
                    level, coarse_height=coarse[0], coarse_width=coarse[1], **_tables(spans, "up", i)
                )
                yield launch("grow", grown)
            sweeps = [tile.stages] * (tvl1.inner_iterations // tile.stages)
            if rest := tvl1.inner_iterations % tile.stages:
                sweeps.append(rest)
            if tvl1.epsilon:
                sweeps.append(0)  # in which the last one's surplus is taken back
            shared = threads * tile.thread_bytes
            for _ in range(tvl1.warps):
                yield launch("warp")
                for block in range(tvl1.outer_iterations):
                    filtering = _median_launch(launch("median", changed(level, block=block)), tvl1)
                    if not tvl1.median_after:
                        yield from filtering
                    for iterations in sweeps:
                        record = changed(level, block=block, iterations=iterations)
                        yield Launch("iterate", strips * bands, self.shape.pairs, threads, shared, record)
                    if tvl1.median_after:
                        yield from filtering
            if i == 0:
                yield launch("finish")


def _median_launch(launch: Launch, tvl1: Tvl1Settings) -> list[Launch]:
    """A median by the settings, or none."""
    if tvl1.median == 1:
        return []
    if tvl1.median_grey:
        return [launch]
    height, width = launch.record.height, launch.record.width
    blocks = -(-width // MEDIAN_THREADS) * -(-height // MEDIAN_ROWS)
    return [launch._replace(blocks=blocks, threads=MEDIAN_THREADS)]


def _tables(spans: dict[str, Span], name: str, i: int) -> dict[str, Span]:
    """Where the samples of a resized level lie."""
    return {
        "columns": spans[f"{name}_x{i}"],
        "rows": spans[f"{name}_y{i}"],
        "column_weights": spans[f"{name}_x_weights{i}"],
        "row_weights": spans[f"{name}_y_weights{i}"],
    }
