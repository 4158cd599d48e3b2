"""The solver of a level: its iterations, several in one pass over the rows."""

from __future__ import annotations

import math

import numpy as np

from flowprep.engines.cpu.median import medians
from flowprep.engines.cpu.memory import (
    BLOCK,
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
    U1,
    U2,
    Floats,
    LevelLayout,
    Scratch,
    SolverParameters,
    copy_out,
    make_steps,
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
from flowprep.engines.cpu.warp import make_spline_texels, make_texels, warp, warp_spline
from flowprep.engines.tiles import TILE_HEIGHT
from flowprep.system.jit import jit

FIRST_SWEEP = 2  # iterations of the sweep after a median: how fast the updates shrink is unknown there
CAUTION = 0.35  # share of the iterations predicted until the stop that a sweep does: few run past it


@jit
def _iterate_row(
    state: Floats,
    above: int,
    at: int,
    blocks: int,
    steps: Floats,
    steps_at: int,
    lt: np.float32,
    theta: np.float32,
) -> float:
    """Do the primal step of the row at offset `at`, and the dual step of the row at offset `above`.

    Returns:
        The sum of squared updates of u.
    """
    upper, lower, theta_, one = splat(lt), splat(-lt), splat(theta), splat(ONE)
    error = splat(np.float32(0))
    p11_left, p21_left = splat(np.float32(0)), splat(np.float32(0))
    u1_above, u2_above = load(state, above + U1), load(state, above + U2)
    for b in range(blocks):
        i, j = at + b * BLOCK, above + b * BLOCK
        taut = load(steps, steps_at + b * LANES)

        u1, u2 = load(state, i + U1), load(state, i + U2)
        i1wx, i1wy = load(state, i + I1X), load(state, i + I1Y)
        rho = fma(i1wx, u1, fma(i1wy, u2, load(state, i + RHO)))
        step = maximum(minimum(rho * load(state, i + INVERSE), upper), lower)
        p11, p21 = load(state, i + P11), load(state, i + P21)
        p12_above, p22_above = load(state, j + P12), load(state, j + P22)
        div1 = (p11 - from_left(p11_left, p11)) + (load(state, i + P12) - p12_above)
        div2 = (p21 - from_left(p21_left, p21)) + (load(state, i + P22) - p22_above)
        u1_new = fma(theta_, div1, fma(step, i1wx, u1))
        u2_new = fma(theta_, div2, fma(step, i1wy, u2))
        store(state, i + U1, u1_new)
        store(state, i + U2, u2_new)
        du1, du2 = u1_new - u1, u2_new - u2
        error = fma(du1, du1, fma(du2, du2, error))
        p11_left, p21_left = p11, p21

        u1_right, u2_right = load(state, j + BLOCK + U1), load(state, j + BLOCK + U2)
        u1x, u1y = from_right(u1_above, u1_right) - u1_above, u1_new - u1_above
        u2x, u2y = from_right(u2_above, u2_right) - u2_above, u2_new - u2_above
        norm1 = square_root(fma(u1x, u1x, u1y * u1y))
        norm2 = square_root(fma(u2x, u2x, u2y * u2y))
        shrink1, shrink2 = one / fma(taut, norm1, one), one / fma(taut, norm2, one)
        store(state, j + P11, fma(taut, u1x, load(state, j + P11)) * shrink1)
        store(state, j + P12, fma(taut, u1y, p12_above) * shrink1)
        store(state, j + P21, fma(taut, u2x, load(state, j + P21)) * shrink2)
        store(state, j + P22, fma(taut, u2y, p22_above) * shrink2)
        u1_above, u2_above = u1_right, u2_right
    return float(total(error))


@jit
def _sweep(
    level: LevelLayout, parameters: SolverParameters, scratch: Scratch, iterations: int
) -> tuple[float, float]:
    """Do `iterations` iterations in one pass.

    Returns:
        The sums of squared updates of the first and of the last one.
    """
    state, row = scratch.state, level.row
    ghost = (level.width // LANES) * BLOCK + level.width % LANES
    edge = ((level.width - 1) // LANES) * BLOCK + (level.width - 1) % LANES
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
            steps_at = 0 if y == 0 else level.blocks * LANES  # p of the ghost row above stays 0
            error = _iterate_row(
                state, above, at, level.blocks, scratch.steps, steps_at, parameters.lt, parameters.theta
            )
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
        return LONGEST_SWEEP
    needed = math.log(stop / now) / math.log(now / before) * iterations
    return int(min(max(needed * CAUTION, 1.0), float(LONGEST_SWEEP)))


@jit
def solve_level(
    i0: Floats,
    samples: Floats,
    u1: Floats,
    u2: Floats,
    level: LevelLayout,
    parameters: SolverParameters,
    scratch: Scratch,
) -> None:
    """Improve the flow in the planes u1 and u2 at one level: Algorithm 1 of reference.py."""
    mode = flush_denormals()
    state = scratch.state
    state[: (level.height + 2) * level.row + BLOCK] = 0
    make_steps(level, parameters.taut, scratch.steps)
    for y in range(level.height):
        for b in range(level.blocks):
            i, at = (y + 1) * level.row + b * BLOCK, level.origin + y * level.stride + b * LANES
            store(state, i + U1, load(u1, at))
            store(state, i + U2, load(u2, at))
    if parameters.spline:
        make_spline_texels(samples, level, scratch.texels)
    else:
        make_texels(samples, level, scratch.texels)

    tiles = np.ones(((level.height + TILE_HEIGHT - 1) // TILE_HEIGHT, level.blocks), np.uint8)
    weighted = bool(parameters.fade > 0)
    for _ in range(parameters.warps):
        if parameters.spline:
            warp_spline(i0, level, parameters, scratch)
        else:
            warp(i0, level, parameters, scratch)
        error = np.inf
        for _ in range(parameters.outer):
            if error <= parameters.stop:
                break
            if parameters.median > 1 and not parameters.median_after:
                medians(i0, level, scratch, tiles, u1, u2, weighted, parameters)
            done, sweep = 0, FIRST_SWEEP
            while done < parameters.inner:
                iterations = min(sweep, parameters.inner - done)
                before = error
                first, error = _sweep(level, parameters, scratch, iterations)
                if error <= parameters.stop:
                    break
                if done == 0:
                    sweep = _next_sweep(parameters.stop, first, error, iterations - 1)
                else:
                    sweep = _next_sweep(parameters.stop, before, error, iterations)
                done += iterations
            if parameters.median > 1 and parameters.median_after:
                medians(i0, level, scratch, tiles, u1, u2, weighted, parameters)
    copy_out(level, state, U1, u1)
    copy_out(level, state, U2, u2)
    restore_mode(mode)
