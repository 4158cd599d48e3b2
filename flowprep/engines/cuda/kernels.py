"""The kernels of tvl1.cu: their records, how they cut up a level, and their compile-time options."""

from __future__ import annotations

import itertools
from ctypes import Structure, c_float, c_int, c_longlong, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowprep.engines import networks
from flowprep.engines.cuda.device import Device
from flowprep.engines.pyramid import CUBIC_A, LONGEST_TAPS, TINY_GRADIENT
from flowprep.presets import Tvl1Settings

SOURCE = Path(__file__).with_name("tvl1.cu")

PIXELS = 256  # threads of a block whose threads have a pixel each
MEDIAN_THREADS, MEDIAN_ROWS = 128, 8  # columns and rows of a block that finds medians
BLOCK_BYTES = 1040  # of shared memory that a block takes beside what it asks for


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
