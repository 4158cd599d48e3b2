"""TV-L1 on an NVIDIA GPU: batches of pairs, in the kernels of tvl1.cu.

What a batch comes to is a list of kernel launches that is made before anything runs (`launches`): all levels,
warps, medians and iterations, with nothing for the host to decide. A device (see nvidia.py) runs such a list.

    frames -> pinned memory -> device: pyramids (a frame once), then level by level the pairs -> flow -> host

Several batches are in flight, each with memory and a queue of its own: while one computes, another is copied,
and small levels of one fill the gaps of another. A pair's result depends on neither.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowprep.engines import base
from flowprep.engines.cuda.device import Device, Launch
from flowprep.engines.cuda.kernels import Tile, source, tile_for
from flowprep.engines.cuda.layout import Layout, Shape
from flowprep.errors import EngineError
from flowprep.presets import Tvl1Settings

log = logging.getLogger(__name__)

BATCH_PIXELS = 24_000_000  # of the pairs of a batch: about 270 of 340x256
BATCH_PAIRS = 1024  # of a batch: a grid's limit, 65,535, is far away
FRAMES_MORE = 32  # frames of a batch beyond the number of its pairs, at most
IN_FLIGHT = 3  # batches
SHARE = 0.8  # of the free memory that they may take together
KEPT_LAYOUTS = 8  # of a batch


class CudaEngine(base.Engine):
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
        self, engine: CudaEngine, frames: NDArray[Any], needed: list[int], first: list[int], second: list[int]
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
