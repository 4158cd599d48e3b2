"""TV-L1 on an NVIDIA GPU: batches of pairs, in the kernels of tvl1.cu.

What a batch comes to is a list of kernel launches that is made before anything runs (`launches`): all levels,
warps, medians and iterations, with nothing for the host to decide. A device (see nvidia.py) runs such a list.

    frames -> pinned memory -> device: pyramids (a frame once), then level by level the pairs -> flow -> host

Several batches are in flight, each with memory and a queue of its own: while one computes, another is copied,
and small levels of one fill the gaps of another. A pair's result depends on neither.
"""

from __future__ import annotations

import ctypes
import itertools
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from ctypes import Structure, c_float, c_int, c_longlong, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from flowprep.engines import base, networks
from flowprep.engines.pyramid import (
    CUBIC_A,
    LONGEST_TAPS,
    TINY_GRADIENT,
    antialias_sigma,
    gaussian_taps,
    level_sizes,
    linear_taps,
    spline_taps,
    stop_below,
)
from flowprep.errors import EngineError
from flowprep.settings import Tvl1Settings

log = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("tvl1.cu")

PIXELS = 256  # threads of a block whose threads have a pixel each
MEDIAN_THREADS, MEDIAN_ROWS = 128, 8  # columns and rows of a block that finds medians

BLOCK_BYTES = 1040  # of shared memory that a block takes beside what it asks for

BATCH_PIXELS = 24_000_000  # of the pairs of a batch: about 270 of 340x256
BATCH_PAIRS = 1024  # of a batch: a grid's limit, 65,535, is far away
FRAMES_MORE = 32  # frames of a batch beyond the number of its pairs, at most
IN_FLIGHT = 3  # batches
SHARE = 0.8  # of the free memory that they may take together
KEPT_LAYOUTS = 8  # of a batch


# ---- What a device must do ---------------------------------------------------------------------------------


class Launch(NamedTuple):
    """A kernel, its grid and its record."""

    kernel: str
    blocks: int  # of threads, for each plane
    planes: int  # frames or pairs
    threads: int
    shared: int  # bytes of shared memory
    record: Structure


class Queue(Protocol):
    """Work that a device does one after the other, while the host goes on."""

    def upload(self, address: int, values: NDArray[Any]) -> None:
        """Copy from pinned memory."""

    def run(self, source: str, sequence: Sequence[Launch]) -> None:
        """Run kernels of a source. The same list object may come again."""

    def download(self, values: NDArray[Any], address: int) -> None:
        """Copy to pinned memory."""

    def wait(self) -> None:
        """Until all is done. Raises EngineError if something failed."""


class Device(Protocol):
    """A GPU, or what stands in for one."""

    shared_bytes: int  # of shared memory that a block of threads may have
    idle: deque[Any]  # batches that are ready to be used again, for all engines of this device

    def free_bytes(self) -> int:
        """Memory that can still be allocated."""

    def allocate(self, size: int) -> int:
        """The address of `size` bytes. Raises MemoryError."""

    def release(self, address: int) -> None:
        """Give memory back."""

    def pinned(self, size: int) -> NDArray[np.uint8]:
        """Host memory that is copied from and to directly. Raises MemoryError."""

    def unpin(self, memory: NDArray[np.uint8]) -> None:
        """Give pinned memory back."""

    def queue(self) -> Queue:
        """A new queue."""


# ---- Records of the kernels, as in tvl1.cu -----------------------------------------------------------------


class Span(Structure):
    """An array: address and number of elements."""

    _fields_ = (("data", c_void_p), ("size", c_longlong))


class Pair(Structure):
    """Where the solver stands with a pair."""

    _fields_ = tuple((name, c_int) for name in ("u_at", "p_at", "stopped", "redo", "arrived"))


class Frames(Structure):
    """What the kernels of frames get."""

    _fields_ = (
        *((name, Span) for name in ("bytes", "input", "output", "texels", "p_in", "p_out")),
        *((name, Span) for name in ("columns", "rows", "column_weights", "row_weights")),
        *((name, c_int) for name in ("height", "width", "new_height", "new_width", "reach", "fresh")),
        *((name, c_float) for name in ("taut", "theta", "share")),
        ("taps", c_float * (LONGEST_TAPS + 1)),
    )


class Level(Structure):
    """What the kernels of pairs get."""

    _fields_ = (
        *((name, Span) for name in ("images", "samples", "texels", "first", "second")),
        *((name, Span) for name in ("u", "p", "constants", "pairs", "updates", "flow")),
        *((name, Span) for name in ("columns", "rows", "column_weights", "row_weights")),
        ("plane", c_longlong),
        *((name, c_int) for name in ("count", "height", "width", "coarse_height", "coarse_width")),
        *((name, c_int) for name in ("strip", "strips", "band", "bands", "iterations", "block")),
        *((name, c_float) for name in ("taut", "lt", "theta", "stop", "zoom", "blend", "fade")),
    )


def changed(record: Structure, **values: Any) -> Any:
    """A copy of a record with other values."""
    copy = type(record).from_buffer_copy(record)
    for name, value in values.items():
        setattr(copy, name, value)
    return copy


# ---- Options of the kernels --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tile:
    """How `iterate` cuts a level up; results do not depend on it, but for the last bit of a stopping test.

    Attributes:
        stages: iterations from one reading of the state to its writing.
        threads: columns of a strip at most, with `stages` on each side that are computed twice.
        blocks: of threads that a multiprocessor holds at least: bounds the registers of a thread.
        rows: that a block of threads goes down, about.
    """

    stages: int = 8
    threads: int = 192
    blocks: int = 2
    rows: int = 256

    @property
    def thread_bytes(self) -> int:
        """Shared memory of a thread: Column and Seen in tvl1.cu."""
        ring = next(size for size in (4, 8, 16, 32) if size >= 2 * self.stages)
        return 16 * (ring + 1) + 8 * (4 * self.stages + 1)

    def strips(self, width: int) -> tuple[int, int, int]:
        """(number of strips, columns of each, threads) for a level."""
        for count in itertools.count(1):
            strip = -(-width // count)
            halo = min(count - 1, 2) * self.stages
            if strip + halo <= self.threads:
                return count, strip, -(-(strip + halo) // 32) * 32
        raise AssertionError

    def bands(self, height: int) -> tuple[int, int]:
        """(number of bands, rows of each) for a level."""
        count = max(1, round(height / self.rows))
        return count, -(-height // count)


def tile_for(device: Device) -> Tile:
    """The largest tile of which a multiprocessor has room for its number of blocks."""
    for tile in (Tile(), Tile(threads=128), Tile(stages=4, threads=160)):
        if tile.blocks * (tile.threads * tile.thread_bytes + BLOCK_BYTES) <= device.shared_bytes:
            return tile
    return Tile(stages=4, threads=96)


def source(tvl1: Tvl1Settings, tile: Tile, bounds: bool = False) -> str:
    """tvl1.cu with its compile-time options."""
    options: dict[str, Any] = {
        "STAGES": tile.stages,
        "THREADS": tile.threads,
        "BLOCKS": tile.blocks,
        "STOPPING": int(tvl1.epsilon > 0),
        "SPLINE": int(tvl1.warp == "spline"),
        "MASK": int(tvl1.mask),
        "MEDIAN": tvl1.median,
        "WEIGHTED": int(tvl1.median_grey > 0 and tvl1.median > 1),
        "BOUNDS": int(bounds),
        "PIXELS": PIXELS,
        "MEDIAN_THREADS": MEDIAN_THREADS,
        "MEDIAN_ROWS": MEDIAN_ROWS,
        "LONGEST_TAPS": LONGEST_TAPS,
        "CUBIC_A": f"{CUBIC_A}f",
        "TINY_GRADIENT": f"{TINY_GRADIENT}f",
    }
    if tvl1.median in (3, 5):
        sort = networks.SORT_3 if tvl1.median == 3 else networks.SORT_5
        select = networks.SELECT_9 if tvl1.median == 3 else networks.SELECT_25
        options["SORT"] = " ".join(f"ORDER({i}, {j})" for i, j in sort)
        options["SELECT"] = " ".join(f"ORDER({i}, {j})" for i, j in select)
        options["MIDDLE"] = networks.MEDIAN_9 if tvl1.median == 3 else networks.MEDIAN_25
    lines = [f"#define {name} {value}" for name, value in options.items()]
    return "\n".join([*lines, '#line 1 "tvl1.cu"', SOURCE.read_text("utf-8")])


# ---- Where things lie, and what is done with them ----------------------------------------------------------


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


# ---- The engine --------------------------------------------------------------------------------------------


class Engine(base.Engine):
    """The engine for a GPU. Several threads may solve with one engine, and share the GPU.

    Args:
        tvl1: the solver's parameters.
        threads: of no influence: a GPU solves all pairs of a batch at the same time.
        device: what to run on, or the number of a GPU; the first GPU that this process may see if None.

    Attributes:
        tile, source: how kernels are compiled; `use_tile` changes both.
        batch: pairs of a batch; as many as keep a GPU busy and as the memory takes if None.

    Raises:
        SettingsError: fewer than one thread.
        EngineError: no GPU, no driver, or the packages are missing; the message says what to install.
    """

    uses_gpu = True
    batch_pairs = 128  # of each of the processes that share a GPU
    batch_pixels = 12_000_000

    def __init__(self, tvl1: Tvl1Settings, threads: int = 1, device: Device | int | None = None) -> None:
        super().__init__(tvl1, threads)
        if device is None or isinstance(device, int):
            from flowprep.engines.cuda.driver import open_device

            device = open_device(device or 0)
        self.device = device
        self.use_tile(tile_for(device))
        held = sum(batch.bytes for batch in device.idle)
        self._batch_bytes = SHARE * (device.free_bytes() + held) / IN_FLIGHT
        self._most: dict[tuple[int, ...], int] = {}  # pairs of a batch, by the shape of a frame
        self._halved = False
        self.batch: int | None = None

    def use_tile(self, tile: Tile) -> None:
        """Cut levels up in another way; the kernels are compiled anew."""
        self.tile = tile
        self.source = source(self.tvl1, tile)

    def _solve(
        self, frames: NDArray[Any], first: list[int], second: list[int], flow: NDArray[np.float32]
    ) -> None:
        running: deque[tuple[Batch, slice]] = deque()

        def collect() -> None:
            batch, pairs = running[0]
            flow[pairs] = batch.finish()
            running.popleft()
            self.device.idle.append(batch)

        start = 0
        try:
            while start < len(first):
                if len(running) == IN_FLIGHT:
                    collect()
                pairs, needed = self._cut(frames, first, second, start)
                batch = self._take()
                try:
                    batch.start(self, frames, needed, first[pairs], second[pairs])
                except MemoryError as exc:
                    batch.drop()
                    if running:
                        collect()
                    else:
                        self._halve(frames.shape[1:], exc)
                    continue
                running.append((batch, pairs))
                start = pairs.stop
            while running:
                collect()
        finally:
            for batch, _ in running:  # after an error: nothing may still write to their memory
                batch.drop()

    def _cut(
        self, frames: NDArray[Any], first: list[int], second: list[int], start: int
    ) -> tuple[slice, list[int]]:
        """The next pairs that go into one batch, and the frames that they need."""
        most = self._most_pairs(frames)
        needed: set[int] = set()
        end = start
        while end < min(start + most, len(first)):
            more = needed | {first[end], second[end]}
            if needed and len(more) > most + FRAMES_MORE:
                break
            needed, end = more, end + 1
        return slice(start, end), sorted(needed)

    def _most_pairs(self, frames: NDArray[Any]) -> int:
        """Pairs of a batch, by its memory and by what keeps a GPU busy."""
        shape = frames.shape[1], frames.shape[2]
        if shape not in self._most:
            pair_bytes = Layout(Shape(*shape, 8, 8, True), self.tvl1, self.tile).bytes / 8
            wanted = self.batch or min(BATCH_PIXELS // frames[0].size, BATCH_PAIRS)
            self._most[shape] = max(1, min(wanted, int(self._batch_bytes / pair_bytes)))
        return self._most[shape]

    def _take(self) -> Batch:
        try:
            batch: Batch = self.device.idle.pop()
        except IndexError:
            batch = Batch(self.device)
        return batch

    def _halve(self, shape: tuple[int, ...], exc: MemoryError) -> None:
        """Go on with smaller batches, after the memory did not suffice for one."""
        while self.device.idle:
            self.device.idle.pop().drop()
        if self._most[shape] == 1:
            raise EngineError(f"the GPU's memory does not suffice for a pair of {shape[1]}x{shape[0]}: {exc}")
        if not self._halved:
            log.warning(
                "the GPU's memory does not suffice for %d pairs: batches are halved", self._most[shape]
            )
        self._halved = True
        self._most[shape] //= 2


class Batch:
    """The memory and the queue of a batch."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.queue = device.queue()
        self.address, self.bytes = 0, 0
        self.input = self.output = np.empty(0, np.uint8)
        # What was made for which shape and engine: with the same one again, a queue may do it faster.
        self.made: dict[tuple[Any, ...], tuple[Layout, list[Launch]]] = {}

    def start(
        self, engine: Engine, frames: NDArray[Any], needed: list[int], first: list[int], second: list[int]
    ) -> None:
        """Upload frames, solve, and download, without waiting. Raises MemoryError, with nothing begun."""
        height, width = frames.shape[1:]
        shape = Shape(height, width, len(needed), len(first), frames.dtype == np.float32)
        key = shape, engine.tvl1, engine.tile
        if key not in self.made:
            layout = Layout(shape, engine.tvl1, engine.tile)
            self._make_room(layout)
            while len(self.made) >= KEPT_LAYOUTS:
                del self.made[next(iter(self.made))]
            self.made[key] = layout, layout.launches(self.address)
        self.layout, sequence = self.made[key]
        place = {frame: i for i, frame in enumerate(needed)}
        self.layout.write_input(
            self.input, frames[needed], [place[i] for i in first], [place[i] for i in second]
        )
        self.queue.upload(self.address, self.input[: self.layout.input_bytes])
        self.queue.run(engine.source, sequence)
        self.queue.download(self.output[: self.layout.flow_bytes], self.address + self.layout.flow_at)

    def finish(self) -> NDArray[np.float32]:
        """The flow (N, 2, H, W), valid until the next start."""
        self.queue.wait()
        flow = self.output[: self.layout.flow_bytes].view(np.float32)
        return flow.reshape(self.layout.shape.pairs, 2, *self.layout.shape[:2])

    def _make_room(self, layout: Layout) -> None:
        if layout.bytes > self.bytes:
            self._release()
            self.address = self.device.allocate(layout.bytes)
            self.bytes = layout.bytes
        if layout.input_bytes > len(self.input):
            self.device.unpin(self.input)
            self.input = np.empty(0, np.uint8)
            self.input = self.device.pinned(layout.input_bytes)
        if layout.flow_bytes > len(self.output):
            self.device.unpin(self.output)
            self.output = np.empty(0, np.uint8)
            self.output = self.device.pinned(layout.flow_bytes)

    def _release(self) -> None:
        self.made.clear()
        if self.address:
            self.device.release(self.address)
        self.address, self.bytes = 0, 0

    def drop(self) -> None:
        """Wait for what is running, and give the memory back."""
        try:
            self.queue.wait()
            self._release()
            self.device.unpin(self.input)
            self.device.unpin(self.output)
        except EngineError as exc:  # the device is lost, and its memory with it
            log.debug("while dropping a batch: %s", exc)
