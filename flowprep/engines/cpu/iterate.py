"""The solver of a level: its iterations, several in one pass over the rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from flowprep.engines.cpu.clock import (
    BEGIN,
    BLOCKS,
    END,
    ITERATIONS,
    PLAIN_MEDIAN,
    TEXELS,
    WARP,
    WEIGHTED_MEDIAN,
    lap,
    start,
)
from flowprep.engines.cpu.median import medians
from flowprep.engines.cpu.memory import (
    BLOCK,
    DUAL_PARTS,
    HALF,
    I1X,
    I1Y,
    INVERSE,
    LONGEST_SWEEP,
    ONE,
    P11,
    P12,
    P21,
    P22,
    RHO,
    TAUT,
    U1,
    U2,
    Floats,
    LevelLayout,
    Scratch,
    SolverParameters,
    Tiles,
    copy_out,
    make_steps,
    plane_length,
)
from flowprep.engines.cpu.simd import (
    LANES,
    flush_denormals,
    fma,
    from_left,
    from_right,
    load,
    maximum,
    minimum,
    restore_mode,
    splat,
    square_root,
    store,
    total,
)
from flowprep.engines.cpu.tiles import fill_spans, leave_out_settled, span_row_length
from flowprep.engines.cpu.warp import make_spline_texels, make_texels, warp, warp_spline
from flowprep.engines.tiles import SETTLE_EVERY, TILE_HEIGHT
from flowprep.system.jit import inline_jit, jit

FIRST_SWEEP = 2  # iterations of the sweep after a median: how fast the updates shrink is unknown there
LONGEST_UNTESTED = 6  # iterations between two stopping tests
CAUTION = 0.35  # share of the iterations predicted until the stop that a sweep does: few run past it


@inline_jit
def _primal(
    state: Floats, i: int, j: int, p11_left: Any, p21_left: Any, lt: np.float32, theta: np.float32
) -> tuple[Any, Any, Any, Any, Any, Any]:
    """Do the primal step of the block at offset i; the block above is at offset j.

    Returns:
        The new u1 and u2, their changes, and p11 and p21 of the block.
    """
    upper, lower, theta_ = splat(lt), splat(-lt), splat(theta)
    u1, u2 = load(state, i + U1), load(state, i + U2)
    i1wx, i1wy = load(state, i + I1X), load(state, i + I1Y)
    rho = fma(i1wx, u1, fma(i1wy, u2, load(state, i + RHO)))
    step = maximum(minimum(rho * load(state, i + INVERSE), upper), lower)
    p11, p21 = load(state, i + P11), load(state, i + P21)
    div1 = (p11 - from_left(p11_left, p11)) + (load(state, i + P12) - load(state, j + P12))
    div2 = (p21 - from_left(p21_left, p21)) + (load(state, i + P22) - load(state, j + P22))
    u1_new = fma(theta_, div1, fma(step, i1wx, u1))
    u2_new = fma(theta_, div2, fma(step, i1wy, u2))
    store(state, i + U1, u1_new)
    store(state, i + U2, u2_new)
    return u1_new, u2_new, u1_new - u1, u2_new - u2, p11, p21


@inline_jit
def _dual(
    state: Floats,
    j: int,
    u1_below: Any,
    u2_below: Any,
    u1: Any,
    u2: Any,
    taut: Any,
    coupled: bool | None,
    huber: np.float32 | None,
) -> tuple[Any, Any]:
    """Do the dual step of the block at offset j; u1 and u2 are its new flow.

    Returns:
        The flow of the block on the right.
    """
    one = splat(ONE)
    p11, p12 = load(state, j + P11), load(state, j + P12)
    p21, p22 = load(state, j + P21), load(state, j + P22)
    u1_right, u2_right = load(state, j + BLOCK + U1), load(state, j + BLOCK + U2)
    u1x, u1y = from_right(u1, u1_right) - u1, u1_below - u1
    u2x, u2y = from_right(u2, u2_right) - u2, u2_below - u2
    if huber is not None:
        less = splat(-huber)
        u1x, u1y, u2x, u2y = (
            fma(less, p11, u1x),
            fma(less, p12, u1y),
            fma(less, p21, u2x),
            fma(less, p22, u2y),
        )
    square1, square2 = fma(u1x, u1x, u1y * u1y), fma(u2x, u2x, u2y * u2y)
    weighted = load(state, j + TAUT)
    if coupled is None:
        shrink1 = one / fma(weighted, square_root(square1), one)
        shrink2 = one / fma(weighted, square_root(square2), one)
    else:
        shrink1 = one / fma(weighted, square_root(square1 + square2), one)
        shrink2 = shrink1
    store(state, j + P11, fma(taut, u1x, p11) * shrink1)
    store(state, j + P12, fma(taut, u1y, p12) * shrink1)
    store(state, j + P21, fma(taut, u2x, p21) * shrink2)
    store(state, j + P22, fma(taut, u2y, p22) * shrink2)
    return u1_right, u2_right


@inline_jit
def _iterate_row(
    state: Floats,
    above: int,
    at: int,
    first: int,
    end: int,
    steps: Floats,
    steps_at: int,
    lt: np.float32,
    theta: np.float32,
    updates: Floats,
    updates_at: int | None,
    coupled: bool | None,
    huber: np.float32 | None,
) -> float:
    """Do the primal step of blocks of the row at offset `at`, and the dual step of the row at `above`.

    The function is compiled for each combination of arguments that are None, so that the others cost no time.
    The dual step works one block behind the primal step: so the processor overlaps them.

    Args:
        state: the rows of blocks.
        above: offset of the row above.
        at: offset of the row.
        first: number of the first block.
        end: number of the block after the last one.
        steps: as in Scratch.
        steps_at: offset of tau / theta in steps.
        lt: lambda theta.
        theta: the setting.
        updates: as in Scratch.
        updates_at: where to add up the squared updates; None to leave them out.
        coupled: True for one total variation of both components; None for one of each.
        huber: the setting; None for total variation.

    Returns:
        The sum of squared updates of u; 0 if they are left out.
    """
    error = splat(np.float32(0))
    i, j = at + first * BLOCK, above + first * BLOCK
    # The last lane of the block on the left is 0 at the border of the image.
    p11, p21 = load(state, i - BLOCK + P11), load(state, i - BLOCK + P21)
    u1_above, u2_above = load(state, j + U1), load(state, j + U2)
    u1, u2, du1, du2, p11, p21 = _primal(state, i, j, p11, p21, lt, theta)
    for b in range(first + 1, end):
        if updates_at is not None:
            error = _add_update(error, du1, du2, updates, updates_at + (b - 1) * LANES)
        i, j = at + b * BLOCK, above + b * BLOCK
        u1_new, u2_new, du1, du2, p11, p21 = _primal(state, i, j, p11, p21, lt, theta)
        taut = load(steps, steps_at + (b - 1) * LANES)
        u1_above, u2_above = _dual(state, j - BLOCK, u1, u2, u1_above, u2_above, taut, coupled, huber)
        u1, u2 = u1_new, u2_new
    if updates_at is not None:
        error = _add_update(error, du1, du2, updates, updates_at + (end - 1) * LANES)
    taut = load(steps, steps_at + (end - 1) * LANES)
    _dual(state, above + (end - 1) * BLOCK, u1, u2, u1_above, u2_above, taut, coupled, huber)
    return float(total(error))


@inline_jit
def _add_update(error: Any, du1: Any, du2: Any, updates: Floats, at: int) -> Any:
    """Add squared updates to a sum, and to a tile's sums."""
    store(updates, at, fma(du1, du1, fma(du2, du2, load(updates, at))))
    return fma(du1, du1, fma(du2, du2, error))


@inline_jit
def _iterate_span(
    state: Floats,
    above: int,
    at: int,
    first: int,
    end: int,
    steps: Floats,
    steps_at: int,
    updates: Floats,
    updates_at: int,
    parameters: SolverParameters,
) -> float:
    """Call _iterate_row for the settings; a negative `updates_at` leaves the updates out."""
    lt, theta, huber = parameters.lt, parameters.theta, parameters.huber
    place = state, above, at, first, end
    if updates_at >= 0:
        if not parameters.coupled:
            return _iterate_row(*place, steps, steps_at, lt, theta, updates, updates_at, None, None)
        if huber > 0:
            return _iterate_row(*place, steps, steps_at, lt, theta, updates, updates_at, True, huber)
        return _iterate_row(*place, steps, steps_at, lt, theta, updates, updates_at, True, None)
    if not parameters.coupled:
        return _iterate_row(*place, steps, steps_at, lt, theta, updates, None, None, None)
    if huber > 0:
        return _iterate_row(*place, steps, steps_at, lt, theta, updates, None, True, huber)
    return _iterate_row(*place, steps, steps_at, lt, theta, updates, None, True, None)


@jit
def _sweep(
    level: LevelLayout, parameters: SolverParameters, scratch: Scratch, iterations: int
) -> tuple[float, float]:
    """Do `iterations` iterations in one pass, on the blocks of `scratch.spans`.

    `scratch.updates` then has the squared updates of the last iteration.

    Returns:
        The sums of squared updates of the first and of the last iteration; 0 without a stopping test.
    """
    state, steps, updates, spans = scratch.state, scratch.steps, scratch.updates, scratch.spans
    row = level.row
    ghost = (level.width // LANES) * BLOCK + level.width % LANES
    edge = ((level.width - 1) // LANES) * BLOCK + (level.width - 1) % LANES
    pixels = level.blocks * LANES
    first, last = 0.0, 0.0
    for front in range(level.height + iterations):
        for k in range(iterations):
            y = front - k
            if y < 0 or y > level.height:
                continue
            above = y * row
            at = above + row
            if y == level.height:  # the ghost row repeats the last row: the gradient is 0
                for b in range(0, row, BLOCK):
                    store(state, at + b + U1, load(state, above + b + U1))
                    store(state, at + b + U2, load(state, above + b + U2))
            steps_at = 0 if y == 0 else pixels  # p of the ghost row above stays 0
            tile_row = min(y, level.height - 1) // TILE_HEIGHT
            updates_at = -1
            if (parameters.settle > 0 and k == iterations - 1) or (
                parameters.stop > 0 and (k == 0 or k == iterations - 1)
            ):
                updates_at = tile_row * pixels
                if y % TILE_HEIGHT == 0 and y < level.height:
                    updates[updates_at : updates_at + pixels] = 0
            error = 0.0
            s = tile_row * span_row_length(level)
            while spans[s] < level.blocks:
                error += _iterate_span(
                    state, above, at, spans[s], spans[s + 1], steps, steps_at, updates, updates_at, parameters
                )
                s += 2
            # The ghost column repeats the last column.
            state[at + ghost + U1] = state[at + edge + U1]
            state[at + ghost + U2] = state[at + edge + U2]
            if k == 0:
                first += error
            if k == iterations - 1:
                last += error
    return first, last


@jit
def _next_sweep(stop: float, before: float, now: float, iterations: int) -> int:
    """The number of iterations of the next sweep, so that it probably ends before the stop.

    In the last `iterations` iterations, the sum of squared updates went from `before` to `now`. It will
    shrink more slowly from now on.
    """
    if stop <= 0 or iterations == 0 or now >= before:
        return LONGEST_UNTESTED
    needed = math.log(stop / now) / math.log(now / before) * iterations
    return int(min(max(needed * CAUTION, 1.0), float(LONGEST_UNTESTED)))


@jit
def _begin_level(
    i0: Floats,
    u1: Floats,
    u2: Floats,
    duals: Floats,
    level: LevelLayout,
    tiles: Tiles,
    parameters: SolverParameters,
    scratch: Scratch,
) -> None:
    """Fill the state of a level: flow and dual variables of the planes, weights of the regulariser."""
    state, stride = scratch.state, level.stride
    state[: (level.height + 2) * level.row + BLOCK] = 0
    make_steps(level, parameters.taut, scratch.steps)
    taut, one, zero = splat(parameters.taut), splat(ONE), splat(np.float32(0))
    half_edge, least = splat(HALF * parameters.edge), splat(parameters.edge_least)
    for y in range(level.height):
        for b in range(level.blocks):
            i, at = (y + 1) * level.row + b * BLOCK, level.origin + y * stride + b * LANES
            store(state, i + TAUT, taut)
            if tiles[y // TILE_HEIGHT, b] == 0:
                continue
            store(state, i + U1, load(u1, at))
            store(state, i + U2, load(u2, at))
            if parameters.edge > 0:
                gx = load(i0, at + 1) - load(i0, at - 1)
                gy = load(i0, at + stride) - load(i0, at - stride)
                weight = maximum(one - half_edge * square_root(fma(gx, gx, gy * gy)), zero)
                for _ in range(5):  # to the 32nd power
                    weight = weight * weight
                store(state, i + TAUT, taut / maximum(weight, least))
    if not parameters.keep_dual:
        return
    length = plane_length(level)
    for y in range(level.height):
        tile_row = (
            min(y + 1, level.height - 1) // TILE_HEIGHT
        )  # see _sweep: the dual step works one row behind
        for b in range(level.blocks):
            if tiles[tile_row, b] != 0:
                i, at = (y + 1) * level.row + b * BLOCK, level.origin + y * stride + b * LANES
                for part in range(DUAL_PARTS):
                    store(state, i + P11 + part * LANES, load(duals, part * length + at))


@jit
def _iterate(
    level: LevelLayout, tiles: Tiles, parameters: SolverParameters, scratch: Scratch, error: float
) -> float:
    """Do a block of inner iterations.

    Returns:
        The sum of squared updates of the last one; infinite without a stopping test.
    """
    blocks = fill_spans(tiles, level, scratch.spans)
    done, sweep = 0, FIRST_SWEEP if parameters.stop > 0 else LONGEST_SWEEP
    while done < parameters.inner:
        if parameters.settle > 0:
            sweep = SETTLE_EVERY
        iterations = min(sweep, parameters.inner - done)
        before = error
        first, error = _sweep(level, parameters, scratch, iterations)
        scratch.clock[ITERATIONS, BLOCKS] += iterations * blocks
        if parameters.stop <= 0:
            error = np.inf
            if parameters.settle > 0 and iterations == SETTLE_EVERY:
                blocks = leave_out_settled(level, tiles, scratch, parameters.settle)
        elif error <= parameters.stop:
            break
        elif done == 0:
            sweep = _next_sweep(parameters.stop, first, error, iterations - 1)
        else:
            sweep = _next_sweep(parameters.stop, before, error, iterations)
        done += iterations
    return error


@jit
def solve_level(
    i0: Floats,
    samples: Floats,
    u1: Floats,
    u2: Floats,
    duals: Floats,
    level: LevelLayout,
    tiles: Tiles,
    parameters: SolverParameters,
    scratch: Scratch,
) -> None:
    """Improve the flow in the planes u1 and u2 at one level: Algorithm 1 of reference.py.

    `duals` has the dual variables to begin with, if they are kept.
    """
    clock, whole = scratch.clock, level.height * level.blocks
    mode = flush_denormals()
    start(clock)
    _begin_level(i0, u1, u2, duals, level, tiles, parameters, scratch)
    lap(clock, BEGIN, whole)
    if parameters.spline:
        make_spline_texels(samples, level, scratch.texels)
    else:
        make_texels(samples, level, scratch.texels)
    lap(clock, TEXELS, whole)
    worked = fill_spans(tiles, level, scratch.spans)

    for warp_number in range(parameters.warps):
        weighted = warp_number >= parameters.weighted_from
        median = WEIGHTED_MEDIAN if weighted else PLAIN_MEDIAN
        if parameters.spline:
            warp_spline(i0, level, tiles, parameters, scratch)
        else:
            warp(i0, level, tiles, parameters, scratch)
        lap(clock, WARP, worked)
        error = np.inf
        for _ in range(parameters.outer):
            if error <= parameters.stop:
                break
            if parameters.median > 1 and not parameters.median_after:
                medians(i0, level, scratch, tiles, u1, u2, weighted, parameters)
                lap(clock, median, worked)
            error = _iterate(level, tiles, parameters, scratch, error)
            lap(clock, ITERATIONS, 0)  # it has counted its blocks
            if parameters.median > 1 and parameters.median_after:
                medians(i0, level, scratch, tiles, u1, u2, weighted, parameters)
                lap(clock, median, worked)
    copy_out(level, scratch.state, U1, u1)
    copy_out(level, scratch.state, U2, u2)
    lap(clock, END, whole)
    restore_mode(mode)
