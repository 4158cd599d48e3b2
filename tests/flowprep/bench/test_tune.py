"""The table of quantisations against encoding and decoding."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from flowprep import decode, encode
from flowprep.bench.fidelity import STILL_PX, fidelity, sample_pairs
from flowprep.bench.tune import CHOICES, options, tune
from flowprep.bench.tune_chart import place_labels
from flowprep.errors import UsageError
from flowprep.viz.canvas import text_width
from tests.support.videos import write_video


@pytest.fixture(scope="module")
def flows() -> list[np.ndarray]:
    """Smooth flow with a still region at the left."""
    rng = np.random.default_rng(0)
    made = []
    for n in range(3):
        flow = np.stack([cv2.GaussianBlur(rng.normal(size=(64, 96)), (0, 0), 8) for _ in "uv"])
        flow *= (2.0 + 12 * n) / np.abs(flow).max()
        flow[:, :, :40] = 0
        made.append(flow.astype(np.float32))
    return made


@pytest.mark.parametrize("choice", [{"codes": "adaptive", "error_px": 0.3}, {"codes": "tsn", "range": 5.0}])
def test_fidelity_is_that_of_encode_and_decode(flows, choice):
    result = fidelity(flows, **choice)
    encoded = [encode(flow, **choice) for flow in flows]
    errors = [np.hypot(*(decode(e) - flow)) for e, flow in zip(encoded, flows, strict=True)]
    assert result.bytes_per_pair == round(np.mean([e.nbytes for e in encoded]))
    assert result.ratio == pytest.approx(8 * 64 * 96 / np.mean([e.nbytes for e in encoded]), abs=0.05)
    assert result.error_px == pytest.approx(np.mean(errors), abs=6e-5)
    assert result.error_px_99 == pytest.approx(np.percentile(errors, 99), abs=6e-4)
    assert (result.clipped > 0) == (choice["codes"] == "tsn")
    still = [np.hypot(*flow) < STILL_PX for flow in flows]
    exact = sum((s & np.all(decode(e) == 0, axis=0)).sum() for s, e in zip(still, encoded, strict=True))
    assert result.still_exact == pytest.approx(exact / np.sum(still), abs=6e-5)
    assert result.still_exact == 0 or choice["codes"] == "adaptive"


def test_without_still_pixels_there_is_no_share(flows):
    assert fidelity([flows[0] + np.float32(5)], codes="fixed").still_exact is None


def test_choices_are_options_of_extract():
    assert options({"codes": "adaptive", "error_px": 0.4}) == "--quantiser adaptive --step-px 0.4"
    assert (
        options({"codes": "fixed", "range": 20.0, "codec": "png"})
        == "--quantiser fixed --range 20 --image-format png"
    )


def test_pairs_are_spread_over_the_videos(tmp_path):
    videos = [write_video(tmp_path / f"{n}.mp4", 12) for n in range(3)]
    assert len(sample_pairs(videos, "source", 7)) == 7
    assert len(sample_pairs(videos, "source", 2)) == 2
    with pytest.raises(UsageError, match="no pair"):
        sample_pairs([write_video(tmp_path / "one.mp4", 1)], "source", 4)


def test_a_target_names_settings_that_reach_it(tmp_path, cli):
    videos = [write_video(tmp_path / f"{n}.mp4", 6, (96, 64), speed=3, seed=n) for n in range(2)]
    shared = [*videos, "--size", "source", "--pairs", 4, "--json"]
    found = json.loads(cli("tune", *shared, "--target-error", 0.05, "-o", tmp_path / "plot.png").stdout)
    assert [row["choice"] for row in found["choices"]] == list(CHOICES)
    best = found["chosen"]
    assert best["error_px"] <= 0.05
    assert best["ratio"] >= max(r["ratio"] for r in found["choices"] if r["error_px"] <= 0.05)
    assert cv2.imread(str(tmp_path / "plot.png")).shape == (560, 900, 3)

    ratio = json.loads(cli("tune", *shared, "--target-ratio", 40).stdout)["chosen"]
    assert ratio["ratio"] >= 40
    assert ratio["error_px"] <= min(r["error_px"] for r in found["choices"] if r["ratio"] >= 40)

    refused = cli("tune", *shared, "--target-error", 1e-9)
    assert refused.exit_code == 2 and "no quantisation reaches" in refused.stderr
    with pytest.raises(UsageError, match="one of the two"):
        tune(videos, target_error=0.1, target_ratio=100)


@pytest.mark.parametrize(("columns", "each"), [(200, 1), (60, 2)])
def test_the_table_has_each_choice_and_fits_the_terminal(tmp_path, cli, monkeypatch, columns, each):
    monkeypatch.setenv("COLUMNS", str(columns))
    video = write_video(tmp_path / "a.mp4", 6, (96, 64), speed=2)
    _, *lines = cli("tune", video, "--size", "source", "--pairs", 2).stdout.splitlines()
    assert len(lines) == each * (1 + len(CHOICES)) + 2 and lines[0].startswith("options")
    assert max(map(len, lines)) <= columns


@pytest.mark.slow
@pytest.mark.real
def test_real_flow_reaches_the_promised_ratios(shared_data):
    """Real clips: 200 times smaller at 0.05 px and 100 times at 0.03 px, and still pixels stay exactly 0."""
    clips = sorted([*shared_data.glob("ucf101/*/*.avi"), *shared_data.glob("ps7_actions/*.avi")])[::3]
    fine, coarse = (
        tune(clips, size="340x256", pairs=len(clips), target_error=error).chosen for error in (0.03, 0.05)
    )
    assert coarse.ratio >= 200 and fine.ratio >= 100
    assert min(coarse.still_exact, fine.still_exact) >= 0.97


@pytest.mark.parametrize("seed", range(5))
def test_labels_cover_no_other_label_and_no_point(seed):
    """Fourteen points as near as in real plots, and nearer."""
    rng = np.random.default_rng(seed)
    spread = (40, 200)[seed % 2]
    points = [(int(x), int(y)) for x, y in rng.uniform((300 - spread, 60), (300 + spread, 460), (14, 2))]
    labels = [(point, f"adaptive {i / 10}", (0, 0, 0)) for i, point in enumerate(points)]
    placed = place_labels(labels, points, (900, 520))
    boxes = [(x, y, x + text_width(text, 13), y + 13) for (x, y), text, _ in placed]
    assert [text for _, text, _ in placed] == [text for _, text, _ in labels]
    for i, (left, top, right, bottom) in enumerate(boxes):
        assert left >= 0 and top >= 0 and right <= 900 and bottom <= 520
        assert not any(left < x < right and top < y < bottom for x, y in points)
        for other in boxes[:i]:
            assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top
