"""The command group bench."""

from __future__ import annotations

import json

import numpy as np
import pytest

from flowprep.flo import write_flo
from flowprep.presets import NEWEST
from tests.support.videos import write_frames


@pytest.mark.slow
def test_bench_measures_both_engines_on_the_same_pairs(cli, clips):
    video = clips / "left" / "v_left_g01.mp4"
    quick = ("--preset", "opencv", "--size", "source", "--pairs")
    result = json.loads(cli("bench", "flow", video, *quick, 3, "--threads", 1, "--json").stdout)
    assert (result["engine"], result["pairs"], result["size"]) == ("cpu", 3, "48x32")
    assert result["ms_per_pair"]["ours"]["median"] > 0 and result["ratio"] > 0
    assert result["distance_px"] < 0.03 and result["energy"] == pytest.approx(1, abs=0.03)
    assert result["preset"] == "opencv"
    assert set(result["codes"]) == {"adaptive", "fixed", "tsn"}
    assert result["codes"]["tsn"]["error_px"] > result["codes"]["adaptive"]["error_px"] > 0
    assert set(result["stages"]) == {"decode", "resize", "flow", "jpeg", "codes", "write"}
    assert result["pairs_per_second"].keys() == {"ours", "opencv", "extraction"}
    same = json.loads(
        cli("bench", "flow", video, "--engine", "opencv", "--size", "source", "--pairs", 1, "--json").stdout
    )
    assert same["distance_px"] == 0 and same["energy"] == 1
    shown = cli("bench", "flow", video, "--size", "source", "--pairs", 1).stdout
    assert f"{NEWEST['accurate']} is" in shown and "times as fast" in shown
    assert cli("bench", "flow", video, "--pairs", 0).exit_code == 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "list"])
def test_bench_takes_pairs_of_a_folder_or_a_list(cli, clips, kind):
    source = clips
    if kind == "list":
        source = clips / "list.txt"
        source.write_text("left/v_left_g01.mp4\nright/v_right_g01\n")
    quick = ("--preset", "opencv", "--size", "source", "--pairs", 4, "--threads", 1, "--json")
    result = json.loads(cli("bench", "flow", source, *quick).stdout)
    assert (result["pairs"], result["size"]) == (4, "48x32") and result["distance_px"] < 0.03


def test_bench_against_truth(cli, tmp_path):
    truth = np.zeros((2, 32, 48), np.float32)
    truth[0] = 1  # what the frames move by
    truth[:, :4] = 1e10  # not known
    for name, pattern, flo in (
        ("a", "frame{:02d}.png", "flow01.flo"),
        ("b", "frame_{:04d}.png", "frame_0001.flo"),
    ):
        write_flo(truth, write_frames(tmp_path / "t" / name, 2, pattern=pattern) / flo)
    result = json.loads(cli("bench", "truth", tmp_path / "t", "--preset", "fast@1", "--json").stdout)
    assert list(result["errors_px"]) == ["a/flow01.flo", "b/frame_0001.flo", "mean"]
    assert result["tvl1"]["scale_step"] == 0.65 and result["preset"] == "fast@1"
    assert all(0 < error < 0.2 for errors in result["errors_px"].values() for error in errors.values())
    shown = cli("bench", "truth", tmp_path / "t", "--tvl1", "scales=3").stdout
    assert f"{NEWEST['accurate']} scales=3 and OpenCV" in shown and "b/frame_0001.flo" in shown
    (tmp_path / "t" / "a" / "frame02.png").unlink()
    assert "flow10.flo needs frame10.png" in cli("bench", "truth", tmp_path / "t").stderr
    (tmp_path / "none").mkdir()
    assert cli("bench", "truth", tmp_path / "none").exit_code == 2


def test_bench_of_stages(cli, clips):
    video = clips / "left" / "v_left_g01.mp4"
    quick = ("bench", "flow", video, "--stages", "--size", "source", "--pairs", 2)
    result = json.loads(cli(*quick, "--preset", "fast@1", "--json").stdout)
    assert (result["pairs"], result["size"], result["tvl1"]["scale_step"]) == (2, "48x32", 0.65)
    assert result["preset"] == "fast@1"
    stages = result["stages"]
    assert list(stages)[:3] == ["blur", "structure", "pyramid"] and "weighted median" not in stages
    total = sum(stage["ms"] for stage in stages.values()) + result["rest_ms"]
    assert total == pytest.approx(result["ms_per_pair"], abs=0.01)
    # Two levels of 3 x 32 and 2 x 21 blocks, 3 warps of 35 iterations.
    assert stages["iterations"]["megapixels"] == pytest.approx(16 * (96 + 42) * 105 / 1e6, abs=1e-4)
    warp = stages["warp"]
    assert warp["cycles"] == pytest.approx(warp["ns"] * result["peaks"]["ghz"], rel=0.01)
    assert warp["times_limit"] == pytest.approx(warp["ns"] / warp["limit_ns"], rel=0.02)
    table = cli(*quick).stdout.splitlines()
    assert max(map(len, table)) <= 80 and f"{NEWEST['accurate']}, 2 pairs" in table[1]
    assert table[2].split() == ["stage", "ms", "share", "Mpixel", "ns/px", "cycles", "limit", "of", "times"]
    assert table[-1].startswith("a pair") and table[-1].rstrip().endswith("100.0%")
    assert "only with bench flow without --stages" in cli(*quick, "--threads", 2).stderr
    refused = cli(*quick, "--engine", "opencv")
    assert refused.exit_code == 2 and "allowed: engine cpu" in refused.stderr
