"""Tiles: the parts of an image that the solver leaves out, where nothing moves or nothing changes any more.

A tile is TILE_WIDTH x TILE_HEIGHT pixels. The tiles of a level begin at its first pixel.

**Still tiles.** A statistical test decides whether a tile of the two images shows motion. Both images have
noise, from the sensor and from the compression. At the finest level, let d be the difference of the images,
and g their mean gradient. The least-squares motion m of a tile (Lucas and Kanade, IJCAI 1981) solves A m = b
with A = sum g g' and b = -sum g d. It explains b' m of the energy sum d^2. The rest estimates the noise:

* A tile *moves* if the whole difference is more than noise can be (setting `still`), or if the motion
  explains more than SIGNIFICANT times the noise.
* A tile is *open* if it does not move, but a motion of VISIBLE_PX could hide in its noise. Flat tiles are
  open, and so are straight edges, which may slide along themselves.
* A tile is *fixed* otherwise: even so small a motion would have shown.

An open tile counts as its nearest tile that is not open, on a way through open tiles. If a moving and a fixed
tile are equally near, it counts as moving. The solver works on the moving tiles. In all others the flow is
exactly 0.

**Settled tiles.** Every SETTLE_EVERY iterations, the solver leaves out the tiles whose last update is small
(setting `settle`), unless a neighbour's is not. It keeps their flow, and returns when a neighbour moves.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TILE_HEIGHT, TILE_WIDTH = 8, 16  # pixels
SIGNIFICANT = 80.0  # explained energy over the noise's variance; neighbouring pixels are not independent
VISIBLE_PX = 0.1  # a motion that no tile hides, if its difference is noise otherwise
LEAST_NOISE = 0.25  # grey levels, root mean square: both images are rounded to whole levels
SETTLE_EVERY = 5  # iterations between two decisions about which tiles have settled

Tiles = NDArray[np.bool_]  # (tile rows, tile columns): whether the solver works on a tile


def tile_counts(height: int, width: int) -> tuple[int, int]:
    """The number of tile rows and of tile columns."""
    return -(-height // TILE_HEIGHT), -(-width // TILE_WIDTH)


def grown(tiles: Tiles) -> Tiles:
    """The tiles and their eight neighbours."""
    rows, columns = tiles.shape
    padded = np.pad(tiles, 1)
    shifted = [padded[j : j + rows, i : i + columns] for j in range(3) for i in range(3)]
    result: Tiles = np.logical_or.reduce(shifted)
    return result


def with_open(moving: Tiles, is_open: Tiles) -> Tiles:
    """The moving tiles, and the open ones whose nearest tile that is not open moves.

    Moving and fixed tiles grow by their neighbours among the open ones, step by step. Moving ones grow first.
    """
    fixed = ~moving & ~is_open
    while True:
        more_moving = grown(moving) & is_open
        more_fixed = grown(fixed) & is_open & ~more_moving
        if not (more_moving | more_fixed).any():
            return moving
        moving, fixed, is_open = (
            moving | more_moving,
            fixed | more_fixed,
            is_open & ~more_moving & ~more_fixed,
        )


def tile_span(tile: int, size: int, fine_size: int, side: int) -> tuple[int, int]:
    """The first tile and the one after the last of the finest level that a tile of a coarser level covers.

    One pixel of the coarser level is added on both sides, as resizing reads it.

    Args:
        tile: number of the tile along one axis.
        size: pixels of the coarser level along this axis.
        fine_size: pixels of the finest level.
        side: TILE_HEIGHT or TILE_WIDTH.
    """
    first = max(tile * side - 1, 0) * fine_size // size
    end = -(-min((tile + 1) * side + 1, size) * fine_size // size)
    return first // side, -(-end // side)


def coarser(tiles: Tiles, fine: tuple[int, int], size: tuple[int, int]) -> Tiles:
    """The tiles of a level (height, width) that cover a tile in which the finest level's solver works.

    Args:
        tiles: tiles of the finest level.
        fine: size of the finest level, (height, width).
        size: size of the level.
    """
    rows, columns = tile_counts(*size)
    result = np.zeros((rows, columns), bool)
    for row in range(rows):
        top, bottom = tile_span(row, size[0], fine[0], TILE_HEIGHT)
        for column in range(columns):
            left, right = tile_span(column, size[1], fine[1], TILE_WIDTH)
            result[row, column] = tiles[top:bottom, left:right].any()
    return result
