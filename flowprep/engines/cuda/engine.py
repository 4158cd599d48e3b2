"""TV-L1 on an NVIDIA GPU: batches of pairs, solved by the kernels in tvl1/.

    frames -> pinned memory -> device: pyramid of each frame, then all pairs level by level -> flow -> host

`layout.py` lists the kernel launches of a batch before anything runs. Several batches are in flight, each
with its own memory and queue. While one computes, another is copied, and small levels of one fill the gaps of
another. The result of a pair does not depend on its batch.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowprep.engines import base
from flowprep.engines.cuda.device import Device, Launch
from flowprep.engines.cuda.driver import open_device
from flowprep.engines.cuda.kernels import Tile, kernel_source, tile_for
from flowprep.engines.cuda.layout import BatchLayout, BatchShape
from flowprep.errors import EngineError
from flowprep.presets import Tvl1Settings

log = logging.getLogger(__name__)

BATCH_PIXELS = 24_000_000  # of the pairs of a batch: about 270 of 340x256
BATCH_PAIRS = 1024  # of a batch: far below the limit of a grid, 65,535
EXTRA_FRAMES = 32  # largest number of frames of a batch beyond the number of its pairs
IN_FLIGHT = 3  # batches
MEMORY_SHARE = 0.8  # of the free memory, for all batches together
KEPT_LAYOUTS = 8  # of a batch slot


class CudaEngine(base.Engine):
    """The engine for a GPU. Several threads may solve with one engine.

    Args:
        tvl1: the solver's parameters.
        threads: has no effect: a GPU solves all pairs of a batch at the same time.
        device: a device, or the number of a GPU that this process may see; None for the first one.
        max_batch_pairs: largest number of pairs in a batch; None for as many as keep a GPU busy.

    Attributes:
        tile, source: how the kernels are compiled; `use_tile` changes both.

    Raises:
        SettingsError: `threads` is less than 1.
        EngineError: there is no GPU, no driver, or a package is missing; the message says what to install.
    """

    uses_gpu = True
    batch_pairs = 128  # for each of the processes that share a GPU
    batch_pixels = 12_000_000

    def __init__(
        self,
        tvl1: Tvl1Settings,
        threads: int = 1,
        device: Device | int | None = None,
        max_batch_pairs: int | None = None,
    ) -> None:
        super().__init__(tvl1, threads)
        self.device = open_device(device or 0) if device is None or isinstance(device, int) else device
        self.use_tile(tile_for(self.device, tvl1))
        idle_bytes = sum(slot.bytes for slot in self.device.idle)
        self._batch_bytes = MEMORY_SHARE * (self.device.free_bytes() + idle_bytes) / IN_FLIGHT
        self._max_batch_pairs = max_batch_pairs
        self._batch_sizes: dict[tuple[int, int], int] = {}
        self._warned = False

    def use_tile(self, tile: Tile) -> None:
        """Split levels in another way. The kernels are compiled again."""
        self.tile = tile
        self.source = kernel_source(self.tvl1, tile)

    def batch_size(self, height: int, width: int) -> int:
        """The number of pairs in a batch: limited by memory, and by the work that keeps a GPU busy."""
        size = height, width
        if size not in self._batch_sizes:
            layout = BatchLayout(BatchShape(height, width, 8, 8, True), self.tvl1, self.tile)
            pairs = self._max_batch_pairs or min(BATCH_PIXELS // (height * width), BATCH_PAIRS)
            fitting = int(self._batch_bytes / (layout.bytes / 8))
            self._batch_sizes[size] = max(1, min(pairs, fitting))
        return self._batch_sizes[size]

    def _solve(
        self, frames: NDArray[Any], first: list[int], second: list[int], flow: NDArray[np.float32]
    ) -> None:
        running: deque[tuple[BatchSlot, slice]] = deque()

        def collect() -> None:
            slot, pairs = running[0]
            flow[pairs] = slot.finish()
            running.popleft()
            self.device.idle.append(slot)

        start = 0
        try:
            while start < len(first):
                if len(running) == IN_FLIGHT:
                    collect()
                pairs, needed = self._next_batch(frames, first, second, start)
                slot = self._idle_slot()
                try:
                    slot.start(self, frames, needed, first[pairs], second[pairs])
                except MemoryError as exc:
                    slot.drop()
                    if running:
                        collect()
                    else:
                        self._halve(frames.shape[1], frames.shape[2], exc)
                    continue
                running.append((slot, pairs))
                start = pairs.stop
            while running:
                collect()
        finally:
            for slot, _ in running:  # after an error: nothing may still write to their memory
                slot.drop()

    def _next_batch(
        self, frames: NDArray[Any], first: list[int], second: list[int], start: int
    ) -> tuple[slice, list[int]]:
        """The pairs of the next batch, and the frames that they need."""
        limit = self.batch_size(frames.shape[1], frames.shape[2])
        needed: set[int] = set()
        end = start
        while end < min(start + limit, len(first)):
            more = needed | {first[end], second[end]}
            if needed and len(more) > limit + EXTRA_FRAMES:
                break
            needed, end = more, end + 1
        return slice(start, end), sorted(needed)

    def _idle_slot(self) -> BatchSlot:
        try:
            slot: BatchSlot = self.device.idle.pop()
        except IndexError:  # another thread may have emptied it meanwhile
            slot = BatchSlot(self.device)
        return slot

    def _halve(self, height: int, width: int, exc: MemoryError) -> None:
        """Halve the batches, after one did not fit in memory."""
        while self.device.idle:
            self.device.idle.pop().drop()
        pairs = self._batch_sizes[height, width]
        if pairs == 1:
            raise EngineError(f"the GPU's memory is too small for a pair of {width}x{height} pixels: {exc}")
        if not self._warned:
            log.warning("the GPU's memory is too small for a batch of %d pairs: batches are halved", pairs)
        self._warned = True
        self._batch_sizes[height, width] = pairs // 2


class BatchSlot:
    """The memory and the queue of one batch in flight. It is used again for later batches.

    Attributes:
        bytes: size of its memory on the device.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self.queue = device.queue()
        self.address, self.bytes = 0, 0
        self.input = self.output = np.empty(0, np.uint8)
        # Shape, parameters and tile -> layout and launches. A queue may run the same list faster next time.
        self.layouts: dict[tuple[Any, ...], tuple[BatchLayout, list[Launch]]] = {}

    def start(
        self, engine: CudaEngine, frames: NDArray[Any], needed: list[int], first: list[int], second: list[int]
    ) -> None:
        """Upload frames, solve pairs and download the flow, without waiting.

        Args:
            engine: its parameters, tile and source are used.
            frames: (F, H, W).
            needed: the frames to upload.
            first, second: the frames of each pair.

        Raises:
            MemoryError: the memory is too small. Nothing was started.
        """
        height, width = frames.shape[1:]
        shape = BatchShape(height, width, len(needed), len(first), frames.dtype == np.float32)
        key = shape, engine.tvl1, engine.tile
        if key not in self.layouts:
            layout = BatchLayout(shape, engine.tvl1, engine.tile)
            self._make_room(layout)
            while len(self.layouts) >= KEPT_LAYOUTS:
                del self.layouts[next(iter(self.layouts))]
            self.layouts[key] = layout, layout.launches(self.address)
        self.layout, launches = self.layouts[key]
        place = {frame: i for i, frame in enumerate(needed)}
        self.layout.write_input(
            self.input, frames[needed], [place[i] for i in first], [place[i] for i in second]
        )
        self.queue.upload(self.address, self.input[: self.layout.input_bytes])
        self.queue.run(engine.source, launches)
        self.queue.download(self.output[: self.layout.flow_bytes], self.address + self.layout.flow_at)

    def finish(self) -> NDArray[np.float32]:
        """Wait, and return the flow (N, 2, H, W), which is valid until the next start."""
        self.queue.wait()
        flow = self.output[: self.layout.flow_bytes].view(np.float32)
        return flow.reshape(self.layout.shape.pairs, 2, *self.layout.shape[:2])

    def _make_room(self, layout: BatchLayout) -> None:
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
        self.layouts.clear()
        if self.address:
            self.device.release(self.address)
        self.address, self.bytes = 0, 0

    def drop(self) -> None:
        """Wait for running work, and free the memory."""
        try:
            self.queue.wait()
            self._release()
            self.device.unpin(self.input)
            self.device.unpin(self.output)
        except EngineError as exc:  # the device is lost, and its memory with it
            log.debug("while a batch was dropped: %s", exc)
