"""The roofline by stage of engine cpu."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from flowprep.bench.operations import CLOCK, Operations, count_operations
from flowprep.bench.peaks import Peaks, measure_peaks
from flowprep.bench.stages import Lap, StageTimer, limits_of_block, undisturbed
from flowprep.engines.cpu.engine import CpuEngine
from flowprep.presets import PRESET_VERSIONS, Tvl1Settings
from flowprep.testing.engines import drifting_frames

PEAKS = Peaks("any", 4.0, 2.0, 3.0, 1.0, 10.0, 1.0, 0.5, 1.0, 1000, 2.0, 3.0, 20.0, 30.0)
FEW = replace(PRESET_VERSIONS["accurate@1"], scales=2, warps=2, inner_iterations=12)


@pytest.mark.parametrize(
    "change", [{}, {"still": 2.0, "settle": 0.01}, {"warp": "cubic", "median": 3}], ids=str
)
def test_the_timed_flow_is_that_of_the_engine(change: dict[str, Any]) -> None:
    tvl1 = replace(FEW, **change)
    frames = np.asarray(drifting_frames(2, 45, 70, 2.2, -1.4))
    timer = StageTimer(45, 70, tvl1, 1e-9)
    for _ in range(2):  # laps are those of the last pair
        flow = timer.solve(*frames)
    np.testing.assert_array_equal(flow, CpuEngine(tvl1).solve(frames, [0], [1])[0])
    assert flow.any()
    fine, coarse = 45 * 5, 34 * 4  # blocks of 16 pixels
    blocks = {place: lap.blocks for place, lap in timer.laps.items()}
    assert blocks["blur", 0] == 2 * fine and blocks["structure", 0] == 2 * 11 * fine
    assert blocks["pyramid", 0] == 2 * fine and blocks["larger flow", 0] == fine
    assert blocks["begin of level", 1] == coarse
    if not change:
        assert blocks["spline filter", 1] == 2 * coarse
        assert blocks["iterations", 0] == 2 * 12 * fine and blocks["plain median", 1] == 2 * coarse
    if "settle" in change:
        assert 0 < blocks["iterations", 0] <= 2 * 12 * fine and blocks["still tiles", 0] == fine
    assert all(lap.seconds > 0 for lap in timer.laps.values() if lap.blocks)
    assert timer.laps["level", 1].seconds > 0


def test_operations_are_those_of_the_engine() -> None:
    split, coupled = (
        count_operations(tvl1)
        for tvl1 in (FEW, replace(FEW, coupled=True, edge=0.1, median_grey=9.0, median=3))
    )
    end = split["end of level"]  # copies two vectors of each block
    assert (end.load, end.store, end.read, end.update) == (2, 2, 2, 2)
    assert (end.multiply, end.add, end.divide, end.iterations) == (0, 0, 0, 1)
    # Each of these is done once more for the ghost row.
    rows = 48 + 36
    assert split["iterations"].divide == pytest.approx(4 * (rows + 2) / rows, rel=0.02)  # two norms
    assert coupled["iterations"].divide == pytest.approx(2 * (rows + 2) / rows, rel=0.02)
    assert split["iterations"].iterations == 10
    assert split["begin of level"].divide == 0 and coupled["begin of level"].divide == 2
    # 12 taps to each side and the central one, along both axes; the borders of a row count, too.
    spline = split["spline filter"]
    assert (spline.multiply, spline.add) == (26, 24)
    assert 50 < spline.load < 51 and 2 < spline.store < 3
    # A median of 5 x 5 is one network for u1 and one for u2.
    assert split["plain median"].add > 150 and split["weighted median"] == Operations()
    assert coupled["weighted median"].multiply >= 9 and coupled["plain median"] == Operations()


def test_the_limit_is_the_slowest_unit() -> None:
    operations = Operations(multiply=4, add=2, divide=1, shuffle=3, load=5, store=6, read=2, update=1)
    expected = {"arithmetic": 9, "division": 10, "shuffles": 3, "loads": 2.5, "stores": 6, "memory": 7}
    assert limits_of_block(operations, 5, PEAKS) == expected  # 3 lines of 64 bytes, 5 blocks: 960 bytes
    assert limits_of_block(operations, 6, PEAKS) == expected | {"memory": 70}
    assert limits_of_block(replace(operations, iterations=2), 5, PEAKS) == expected | {"memory": 70}
    mixed = Operations(multiply=5, add=4, shuffle=1)
    assert limits_of_block(mixed, 1, PEAKS)["arithmetic"] == 12  # additions
    assert limits_of_block(replace(mixed, multiply=7), 1, PEAKS)["arithmetic"] == 14
    assert limits_of_block(mixed, 1, replace(PEAKS, arithmetic=2.0))["arithmetic"] == 20


def test_peaks_of_this_machine_are_plausible() -> None:
    peaks = measure_peaks()
    assert 0.3 < peaks.ghz < 10
    # No core does more than 8 vectors of 512 bits in a cycle; a division takes longer than an addition.
    for ns in (peaks.multiply, peaks.add, peaks.arithmetic, peaks.shuffle, peaks.load, peaks.store):
        assert ns * peaks.ghz > 0.1
    assert peaks.arithmetic < peaks.multiply + peaks.add < peaks.divide + peaks.add
    assert peaks.second_update < peaks.far_update + peaks.store


def test_a_stage_is_not_longer_than_what_the_others_leave() -> None:
    laps = {(stage, level): Lap(1.0, 8) for stage in CLOCK.values() for level in range(2)}
    laps |= {("iterations", 0): Lap(5.0, 80), ("iterations", 1): Lap(5.0, 90), ("blur", 0): Lap(3.0, 2)}
    others = float(len(CLOCK) - 1)
    expected = laps | {("iterations", 0): Lap(4.0, 80)}
    disturbed = laps | {("level", 0): Lap(others + 4.0), ("level", 1): Lap(others + 6.0)}
    assert undisturbed(disturbed) == expected


def test_laps_add_up() -> None:
    assert Lap(1.0, 2).plus(Lap(0.5, 3)) == Lap(1.5, 5)


def test_settings_without_optional_stages_have_no_operations_of_them() -> None:
    operations = count_operations(Tvl1Settings(scales=2, warps=1, inner_iterations=3))
    for stage in ("blur", "structure", "spline filter", "still tiles", "weighted median"):
        assert operations[stage] == replace(Operations(), iterations=operations[stage].iterations)
    assert operations["warp"].multiply > 50
