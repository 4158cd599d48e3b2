"""The kernels in tvl1/ as Python sees them: their arguments, their tile and their compile-time options."""

from __future__ import annotations

import itertools
from ctypes import Structure, c_float, c_int, c_longlong, c_void_p
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from flowprep.engines import networks
from flowprep.engines.cuda.device import Device
from flowprep.engines.pyramid import CUBIC_A, LEAST_VISIBLE, LONGEST_TAPS, TINY_GRADIENT
from flowprep.engines.tiles import (
    LEAST_NOISE,
    SETTLE_EVERY,
    SIGNIFICANT,
    TILE_HEIGHT,
    TILE_WIDTH,
    VISIBLE_PX,
)
from flowprep.presets import Tvl1Settings

SOURCE = Path(__file__).with_name("tvl1")
PARTS = ("types.cu", "steps.cu", "frames.cu", "tiles.cu", "pairs.cu", "median.cu", "iterate.cu")

PIXELS = 256  # threads of a block that has one thread per pixel
MEDIAN_THREADS, MEDIAN_ROWS = 128, 8  # columns and rows of a block of the plain median

BLOCK_BYTES = 1040  # of shared memory that a block needs in addition to its dynamic shared memory


class Span(Structure):
    """An array: its address and number of elements."""

    _fields_ = (("data", c_void_p), ("size", c_longlong))


class PairState(Structure):
    """The state of the solver for one pair. The fields are those of types.cu, as in the two classes below."""

    _fields_ = tuple((name, c_int) for name in ("u_at", "p_at", "stopped", "redo", "arrived"))


class FrameArguments(Structure):
    """The argument of the kernels that work on frames."""

    _fields_ = (
        *((name, Span) for name in ("bytes", "input", "output", "texels", "p_in", "p_out")),
        *((name, Span) for name in ("columns", "rows", "column_weights", "row_weights")),
        *((name, c_int) for name in ("height", "width", "new_height", "new_width", "reach", "fresh")),
        *((name, c_float) for name in ("taut", "theta", "share", "edge", "edge_least")),
        ("taps", c_float * (LONGEST_TAPS + 1)),
    )


class LevelArguments(Structure):
    """The argument of the kernels that work on one pyramid level of all pairs."""

    _fields_ = (
        *((name, Span) for name in ("images", "samples", "texels", "first", "second")),
        *((name, Span) for name in ("u", "p", "constants", "pairs", "edges", "updates", "mismatch")),
        *((name, Span) for name in ("tiles", "fine_tiles", "working", "restless", "tile_updates", "flow")),
        *((name, Span) for name in ("columns", "rows", "column_weights", "row_weights")),
        ("plane", c_longlong),
        *((name, c_int) for name in ("count", "height", "width", "coarse_height", "coarse_width")),
        *((name, c_int) for name in ("fine_height", "fine_width")),
        *((name, c_int) for name in ("strip", "strips", "band", "bands", "iterations", "block")),
        *((name, c_float) for name in ("taut", "lt", "theta", "stop", "zoom", "blend", "huber", "fade")),
        *((name, c_float) for name in ("occlusion_fade", "still", "settle")),
    )


_Arguments = TypeVar("_Arguments", bound=Structure)


def replaced(arguments: _Arguments, **values: Any) -> _Arguments:
    """A copy with other values in some fields, like `dataclasses.replace`."""
    copy = type(arguments).from_buffer_copy(arguments)
    for name, value in values.items():
        setattr(copy, name, value)
    return copy


@dataclass(frozen=True)
class Tile:
    """How the kernel `iterate` splits a level. The result does not depend on it.

    Only the last bit of a sum in the stopping test does.

    Attributes:
        stages: number of iterations in one pass over the state.
        threads: largest number of columns of a strip. `stages` columns on each side are computed twice.
        blocks: smallest number of thread blocks on a multiprocessor; it limits the registers of a thread.
        rows: approximate number of rows of a thread block.
    """

    stages: int = 8
    threads: int = 192
    blocks: int = 2
    rows: int = 256

    def thread_bytes(self, tvl1: Tvl1Settings) -> int:
        """Shared memory of a thread: the structs Column and Seen of iterate.cu, and weights of edges."""
        ring = next(size for size in (4, 8, 16, 32) if size >= 2 * self.stages)
        edges = 4 * ring if tvl1.edge else 0
        return 16 * (ring + 1) + 8 * (4 * self.stages + 1) + edges

    def strips(self, width: int) -> tuple[int, int, int]:
        """Split the columns of a level: (number of strips, columns of a strip, threads of a block)."""
        for count in itertools.count(1):
            strip = -(-width // count)
            halo = min(count - 1, 2) * self.stages
            if strip + halo <= self.threads:
                return count, strip, -(-(strip + halo) // 32) * 32
        raise AssertionError

    def bands(self, height: int, whole: int = 1) -> tuple[int, int]:
        """Split the rows of a level in multiples of `whole` rows: (number of bands, rows of a band)."""
        band = -(-height // max(1, round(height / self.rows)))
        band = -(-band // whole) * whole
        return -(-height // band), band


def tile_for(device: Device, tvl1: Tvl1Settings) -> Tile:
    """The largest tile for which `Tile.blocks` thread blocks fit on a multiprocessor."""
    for tile in (Tile(), Tile(threads=160), Tile(threads=128), Tile(stages=4, threads=160)):
        if tile.blocks * (tile.threads * tile.thread_bytes(tvl1) + BLOCK_BYTES) <= device.shared_bytes:
            break
    else:
        tile = Tile(stages=4, threads=96)
    # Tiles settle between passes, so a pass of more iterations would never be complete.
    return replace(tile, stages=min(tile.stages, SETTLE_EVERY)) if tvl1.settle else tile


def kernel_source(tvl1: Tvl1Settings, tile: Tile, bounds: bool = False) -> str:
    """The text of all kernels, after their compile-time options.

    Args:
        tvl1: the solver's parameters. Those that are only numbers are no options.
        tile: how `iterate` splits a level.
        bounds: whether to check every index.
    """
    options: dict[str, Any] = {
        "STAGES": tile.stages,
        "THREADS": tile.threads,
        "BLOCKS": tile.blocks,
        "STOPPING": int(tvl1.epsilon > 0),
        "SPLINE": int(tvl1.warp == "spline"),
        "MASK": int(tvl1.mask),
        "COUPLED": int(tvl1.coupled),
        "HUBER": int(tvl1.huber > 0),
        "EDGE": int(tvl1.edge > 0),
        "KEEP_DUAL": int(tvl1.keep_dual),
        "STILL": int(tvl1.still > 0),
        "SETTLE": int(tvl1.settle > 0),
        "TILE_HEIGHT": TILE_HEIGHT,
        "TILE_WIDTH": TILE_WIDTH,
        "SIGNIFICANT": SIGNIFICANT,
        "VISIBLE_PX": VISIBLE_PX,
        "LEAST_NOISE": LEAST_NOISE,
        "WEIGHTED": tvl1.median if tvl1.median_grey and tvl1.median > 1 else 0,
        "STRIDE": tvl1.median_stride,
        "OCCLUSION": int(tvl1.median_occlusion > 0),
        "BOUNDS": int(bounds),
        "PIXELS": PIXELS,
        "MEDIAN_THREADS": MEDIAN_THREADS,
        "MEDIAN_ROWS": MEDIAN_ROWS,
        "LONGEST_TAPS": LONGEST_TAPS,
        "CUBIC_A": f"{CUBIC_A}f",
        "TINY_GRADIENT": f"{TINY_GRADIENT}f",
        "LEAST_VISIBLE": f"{LEAST_VISIBLE}f",
        **_plain_median_options(tvl1),
    }
    lines = [f"#define {name} {value}" for name, value in options.items()]
    parts = [f'#line 1 "{name}"\n{(SOURCE / name).read_text("utf-8")}' for name in PARTS]
    return "\n".join([*lines, *parts])


def plain_median_side(tvl1: Tvl1Settings) -> int:
    """The side of the plain median; 0 if all medians are weighted, or if there are none."""
    if tvl1.median == 1 or (tvl1.median_grey and not tvl1.median_levels and not tvl1.median_warps):
        return 0
    return min(tvl1.median, 5)


def _plain_median_options(tvl1: Tvl1Settings) -> dict[str, Any]:
    """The side of the plain median, and its networks."""
    side = plain_median_side(tvl1)
    if not side:
        return {"PLAIN": 0}
    sort = networks.SORT_3 if side == 3 else networks.SORT_5
    select = networks.SELECT_9 if side == 3 else networks.SELECT_25
    return {
        "PLAIN": side,
        "SORT": " ".join(f"ORDER({i}, {j})" for i, j in sort),
        "SELECT": " ".join(f"ORDER({i}, {j})" for i, j in select),
        "MIDDLE": networks.MEDIAN_9 if side == 3 else networks.MEDIAN_25,
    }
