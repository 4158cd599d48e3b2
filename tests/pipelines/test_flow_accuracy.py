"""The sets and figures that settings of flow are compared by, and the search for settings."""

from __future__ import annotations

import json
import math
import random
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from flowprep.errors import UsageError
from flowprep.flo import write_flo
from flowprep.presets import PRESET_VERSIONS
from tests.support.videos import write_video

sys.path.append(str(Path(__file__).parents[2] / "pipelines" / "bench"))

import flow_accuracy
import flow_measures
import flow_pareto
import flow_scenes
import flow_sets
import tune_flow

POINTS = [
    flow_pareto.Point("slow and good", 0.5, 0.8, True),
    flow_pareto.Point("fast and bad", 0.01, 2.0, False),
    flow_pareto.Point("slower and worse", 0.6, 0.9, False),
]


def picture(height=96, width=128, seed=0):
    """A smooth random picture with a good contrast."""
    rng = np.random.default_rng(seed)
    image = cv2.GaussianBlur(rng.normal(0, 1, (height, width)), (0, 0), 2)
    return np.clip(128 + 45 * image / image.std(), 0, 255).astype(np.uint8)


def residual(frames, flow, du=0.0, dv=0.0):
    """The second frame at p + flow(p) minus the first frame: the median of the absolute difference."""
    x, y = flow_scenes.positions(*frames[0].shape)
    inside = np.isfinite(flow[0])
    u, v = np.nan_to_num(flow).astype(np.float64)
    difference = np.abs(flow_scenes.sample(frames[1], x + u + du, y + v + dv) - frames[0])
    return float(np.median(difference[inside]))


def check_truth(frames, flow, noise):
    """The true flow explains the second frame, and a flow that is 0.3 px beside it does so less."""
    best = residual(frames, flow)
    assert best <= noise
    for du, dv in ((0.3, 0), (-0.3, 0), (0, 0.3), (0, -0.3)):
        assert residual(frames, flow, du, dv) > 1.2 * best


@pytest.fixture(scope="session")
def real_sets(shared_data):
    return flow_sets.load_sets(shared_data)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with the layout of the real data, of synthetic clips."""
    root = tmp_path_factory.mktemp("data")
    for folder in ("ucf101", "ucf24", "ps7_actions"):
        write_video(root / folder / "1.avi", 5, size=(341, 256), speed=0)
    for folder, names in (
        ("middlebury/Still", ("frame10.png", "frame11.png", "flow10.flo")),
        ("sintel_alley_1", ("frame_0002.png", "frame_0003.png", "frame_0002.flo")),
    ):
        path = root / "flow_gt" / folder
        path.mkdir(parents=True)
        for name in names[:2]:
            cv2.imwrite(str(path / name), picture())
        write_flo(np.zeros((2, 96, 128), np.float32), path / names[2])
    return root


def test_sampling_keeps_waves():
    """A wave of ten pixels, at positions that are no multiples of 1/32 pixel."""
    x, y = flow_scenes.positions(40, 60)
    image = 100 * np.sin(2 * np.pi * x / 10) * np.cos(2 * np.pi * y / 12)
    px, py = x[8:-8, 8:-8] + 0.013, y[8:-8, 8:-8] - 0.407
    expected = 100 * np.sin(2 * np.pi * px / 10) * np.cos(2 * np.pi * py / 12)
    assert np.abs(flow_scenes.sample(image, px, py) - expected).max() < 0.6
    assert flow_scenes.sample(image, x, y) == pytest.approx(image, abs=1e-9)


def test_sampling_mirrors_at_the_border():
    image = np.arange(12.0)[None].repeat(12, 0) ** 2
    x, y = np.array([-2.0, 13.0]), np.array([3.0, 3.0])
    assert flow_scenes.sample(image, x, y) == pytest.approx([4.0, 81.0])


@pytest.mark.parametrize("size", [0.1, 2.5])
def test_the_truth_of_warped_pictures(size):
    image = picture()
    motion = flow_scenes.smooth_motion(np.random.default_rng(3), size, *image.shape)
    truth = flow_scenes.known_flow(motion, image.shape, 8)
    assert np.hypot(*np.array(motion(*flow_scenes.positions(*image.shape)))).mean() == pytest.approx(size)
    assert np.isnan(truth[:, :8]).all() and np.isfinite(truth[:, 8:-8, 8:-8]).all()
    check_truth(np.stack([image, flow_scenes.moved(image, motion)]), truth, noise=0.1)


@pytest.mark.parametrize("background", [0, 3])
def test_the_truth_of_scenes(background):
    textures = [picture(200, 260, seed) for seed in range(3)]
    layers = flow_scenes.random_layers(np.random.default_rng(4), textures, background, 144, 192)
    frames = np.stack([flow_scenes.render(layers, 144, 192, second=second) for second in (False, True)])
    truth = flow_scenes.scene_flow(layers, 144, 192)
    check_truth(frames, truth, noise=0.5)
    x, y = flow_scenes.positions(144, 192)
    top = layers[-1].covers(x, y)
    for layer, inside in ((layers[-1], top), (layers[0], ~np.any([la.covers(x, y) for la in layers[1:]], 0))):
        assert inside.any()
        check_truth(frames, np.where(inside, truth, np.nan), noise=1.5)
        assert truth[:, inside] == pytest.approx(np.array(layer.motion(x, y))[:, inside], abs=1e-5)


def test_a_disc_moves_by_its_motion_before_its_background():
    still = np.stack([picture(seed=1)] * 2)
    rng = np.random.default_rng(5)
    frames, inside = flow_scenes.patch_before(still, picture(seed=2), (0.5, -0.2), (60, 50), rng, 0.0)
    truth = np.where(inside, np.array([0.5, -0.2], np.float32)[:, None, None], np.float32(np.nan))
    check_truth(frames, truth, noise=0.5)
    x, y = flow_scenes.positions(96, 128)
    outside = np.hypot(x - 60, y - 50) > 96 / 5 + 2
    assert np.array_equal(frames[:, outside], still[:, outside])
    assert inside[50, 60] and not inside[outside].any()


def test_still_pixels_leave_out_motion_and_black_bars():
    rng = np.random.default_rng(6)
    frames = np.stack([picture()] * 20).astype(np.float64) + rng.normal(0, 1, (20, 96, 128))
    for i, frame in enumerate(frames):
        frame[40:60, 40 + 2 * i : 60 + 2 * i] = 255 if i % 2 else 0
    frames[:, :12], frames[:, :, 120:] = 16, 16
    still = flow_sets.still_pixels(np.clip(frames, 0, 255).astype(np.uint8))
    assert not still[40:60, 40:98].any()
    assert not still[:12].any() and not still[:, 120:].any()
    assert still[13:28, :110].all() and still[75:, :110].all()


@pytest.mark.slow
def test_the_sets_of_a_folder(data):
    sets = flow_sets.load_sets(data)
    assert {name: len(pairs) for name, pairs in sets.known.items()} == {
        "M": 1,
        "S": 2,
        "Y": 10,
        "C": 8,
        "Z": 10,
    }
    assert len(sets.backgrounds) == 10 and len(sets.clips) == 12
    assert sorted({patch.size for patch in sets.patches}) == list(flow_sets.PATCH_MOTIONS)
    lengths = [float(np.nanmean(np.hypot(*pair.truth))) for pair in sets.known["C"]]
    assert lengths == pytest.approx([0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5], abs=1e-5)
    for name, make in (("S", flow_sets.sintel), ("Y", flow_sets.warped)):
        for pair, again in zip(sets.known[name], make(data), strict=True):
            assert np.array_equal(pair.frames, again.frames)
            assert np.array_equal(pair.truth, again.truth, equal_nan=True)


def test_a_folder_without_clips(tmp_path):
    with pytest.raises(UsageError, match=r"no \*\*/\*.avi in .*ucf101"):
        flow_sets.warped(tmp_path)


@pytest.mark.slow
def test_the_truth_of_the_real_sets(real_sets):
    for pair in (*real_sets.known["Y"], *real_sets.known["C"]):
        assert residual(pair.frames, pair.truth) <= 1.5, pair.name
    for pair in real_sets.known["Z"]:
        best = residual(pair.frames, pair.truth)
        assert best <= 2, pair.name
        assert min(residual(pair.frames, pair.truth, *by) for by in ((1, 0), (0, 1))) > best, pair.name


def test_no_clip_has_two_uses():
    uses = (
        flow_sets._WARPED,
        flow_sets._SHIFTED,
        flow_sets._TEXTURES,
        flow_sets._FIXED_CAMERAS,
        flow_sets._CLIPS,
    )
    clips = [(folder, n) for use in uses for folder, numbers in use.items() for n in numbers]
    assert len(set(clips)) == len(clips)


def constant(u, v):
    """A method that always gives the same flow."""

    def solve(frames):
        flow = np.empty((2, *frames.shape[1:]), np.float32)
        flow[0], flow[1] = u, v
        return flow

    return flow_measures.Method("constant", solve)


@pytest.fixture(scope="module")
def small_sets():
    """One pair of each kind, with flow that is known by hand."""
    frames = np.stack([picture(32, 48)] * 2)
    truth = np.zeros((2, 32, 48), np.float32)
    truth[0] = 3
    truth[:, :4] = np.nan
    inside = np.zeros((32, 48), bool)
    inside[8:16, 8:16] = True
    patches = [flow_sets.Patch("p", frames, inside, (size, 0.0)) for size in (0.05, 0.1, 0.5)]
    known = {name: [flow_sets.Pair(f"{name}1", frames, truth)] for name in flow_sets.SETS}
    return flow_sets.FlowSets(known, [flow_sets.Background("b", frames, inside)], patches, [frames])


def test_figures_of_a_known_flow(small_sets):
    figures = flow_measures.measure(constant(0.06, 0.0), small_sets)
    assert figures.set_errors() == pytest.approx(dict.fromkeys("MSYCZ", 2.94))
    assert figures.noise_px == pytest.approx(0.06)
    assert figures.still_exact == 1  # in the dead zone
    assert figures.codec_px == pytest.approx(0.06)
    assert figures.ratio == pytest.approx(2 * 4 * 32 * 48 / figures.bytes_per_pair)
    assert figures.survival == pytest.approx({0.05: 1.2, 0.1: 0.6, 0.5: 0.12})
    assert figures.least_motion() is None  # the largest does not survive
    moving = flow_measures.measure(constant(0.26, 1.0), small_sets)
    assert moving.still_exact == 0 and moving.least_motion() == 0.05
    assert replace(moving, survival={0.05: 0.6, 0.1: 0.4, 0.5: 0.9}).least_motion() == 0.5


def test_ratios_are_geometric_means():
    base = flow_measures.Figures({"M": {"a": 1.0, "b": 2.0}, "S": {"c": 4.0}}, {"b": 0.1}, 1, 1, 1, 1, {})
    ratios = flow_measures.set_ratios({"M": {"a": 2.0, "b": 1.0}, "S": {"c": 1.0}}, base)
    assert ratios == pytest.approx({"M": 1.0, "S": 0.25})
    assert flow_measures.total_ratio(ratios) == pytest.approx(0.5)
    assert flow_measures.total_ratio(ratios, {"M": 1.0, "S": 3.0}) == pytest.approx(0.25**0.75)


def test_times_are_relative_to_the_clock(small_sets):
    def busy(count):
        return flow_measures.Method("busy", lambda frames: sum(range(count)))

    slow, equal = flow_measures.relative_times([busy(900_000), busy(300_000)], busy(300_000), [None], 5)
    assert 2 < slow < 4.5 and 0.6 < equal < 1.6


def test_the_command_prints_a_row_for_each_setting(small_sets, tmp_path, monkeypatch):
    monkeypatch.setattr(flow_accuracy, "load_sets", lambda data: small_sets)
    chart = tmp_path / "chart.svg"
    args = ["--data", tmp_path, "--preset", "accurate@1", "--tvl1", "mine:fast@1,warps=1", "--rounds", 1]
    result = CliRunner().invoke(flow_accuracy.main, [*map(str, args), "--json", "--pareto", str(chart)])
    assert result.exit_code == 0, result.output
    first, second = json.loads(result.stdout)
    assert (first["name"], second["name"]) == ("accurate@1", "mine")
    assert first["J"] == 1 and 0 < first["time"] < 1
    assert {"mine", "accurate@1"} < set(ElementTree.fromstring(chart.read_text("utf-8")).itertext())
    table = CliRunner().invoke(flow_accuracy.main, [*map(str, args[:4])]).stdout.splitlines()
    assert [cell.strip() for cell in table[0].split("|")][2:8] == ["M", "S", "Y", "C", "Z", "J"]
    assert table[2].startswith("| accurate@1 |") and " 1.000 |" in table[2] and len(table) == 3


def test_the_command_names_a_wrong_setting(tmp_path):
    result = CliRunner().invoke(flow_accuracy.main, ["--data", str(tmp_path), "--tvl1", "fast,warp=2"])
    assert result.exit_code == 1 and "warp is 2; allowed: cubic or spline" in result.output


@pytest.mark.slow
def test_other_methods_find_a_shift():
    image = picture()
    second = flow_scenes.moved(image, flow_scenes.shift(1.5, -0.5))
    frames = np.stack([image, np.clip(np.rint(second), 0, 255).astype(np.uint8)])
    methods = flow_accuracy.other_methods()
    assert {"OpenCV TV-L1", "DIS medium", "Farneback"} < {method.name for method in methods}
    for method in methods:
        u, v = method.solve(frames)[:, 20:-20, 20:-20]
        assert (float(np.median(u)), float(np.median(v))) == pytest.approx((1.5, -0.5), abs=0.2), method.name


def test_the_front_has_no_point_that_is_slower_and_worse():
    assert [point.name for point in flow_pareto.pareto_front(POINTS)] == ["fast and bad", "slow and good"]


def test_the_chart_places_points_by_logarithms():
    svg = ElementTree.fromstring(flow_pareto.draw_pareto([*POINTS, flow_pareto.Point("m", 0.1, 1.0, True)]))
    space = {"s": "http://www.w3.org/2000/svg"}
    circles = [(float(c.get("cx")), float(c.get("cy"))) for c in svg.findall("s:circle", space)]
    (good_x, good_y), (bad_x, bad_y), _, (middle_x, middle_y) = circles
    assert bad_x < middle_x < good_x and bad_y < middle_y < good_y  # less error is lower
    per_decade = (good_x - bad_x) / math.log10(50)
    assert middle_x - bad_x == pytest.approx(per_decade, abs=0.2)
    labels = [text.text for text in svg.findall("s:text", space)]
    assert {point.name for point in POINTS} < set(labels)
    assert "prefers-color-scheme:dark" in svg.find("s:style", space).text


WEIGHTS = tune_flow.Weights(dict.fromkeys("MSYCZ", 1.0), time=0.0, noise=0.0, size=0.0)


def trial(ratios, time=1.0, **tvl1):
    return tune_flow.Trial(tvl1, dict(zip("MSYCZ", ratios, strict=True)), time, 1.0, 1.0)


def test_scores_weigh_sets_and_time():
    one = trial([0.5, 1, 1, 1, 1], time=2.0)
    assert WEIGHTS.score(one) == pytest.approx(math.log(0.5) / 5)
    assert WEIGHTS.score(one, left_out="M") == pytest.approx(0)
    timed = tune_flow.Weights({**WEIGHTS.sets, "M": 6.0}, time=0.1, noise=0.0, size=0.0)
    assert timed.score(one) == pytest.approx(0.6 * math.log(0.5) + 0.1 * math.log(2))


def test_cross_validation_chooses_without_the_set_that_is_left_out():
    only_m, others = trial([0.4, 1, 1, 1, 1], warps=1), trial([1.5, 0.9, 0.9, 0.9, 0.9], warps=2)
    slow = trial([0.1] * 5, time=5.0, warps=3)
    text = tune_flow.cross_validation([only_m, others, slow], WEIGHTS, longest=2.0)
    assert "M left out: 1.500 on it (best of all trials 0.400), 0.900 on the others" in text
    assert "S left out: 1.000 on it (best of all trials 0.900)" in text
    assert f"mean {1.5**0.2:.3f} of 2 trials" in text
    with pytest.raises(UsageError, match=r"none of 3 trials takes at most 0\.5 times"):
        tune_flow.cross_validation([only_m, others, slow], WEIGHTS, longest=0.5)


def test_changes_stay_in_their_ranges():
    rng = random.Random(0)
    ranges = {"lambda_": "0.3:0.4", "warps": "2,3", "median_grey": "0,10"}
    settings = [PRESET_VERSIONS["best@1"]]
    for _ in range(200):
        settings.append(tune_flow.changed(settings[-1], ranges, rng))
        assert settings[-1] != settings[-2]
    assert {tvl1.warps for tvl1 in settings[5:]} == {2, 3}
    values = {tvl1.lambda_ for tvl1 in settings[20:]}
    assert min(values) >= 0.3 and max(values) <= 0.4 and len(values) > 20
    assert all(tvl1.median_grey == 10 for tvl1 in settings)  # a median of 7 without it is not allowed


def test_a_search_is_stored_continued_and_summarised(small_sets, tmp_path, monkeypatch):
    monkeypatch.setattr(tune_flow, "load_sets", lambda data: small_sets)
    out = tmp_path / "trials.jsonl"
    args = [
        str(out),
        "--data",
        str(tmp_path),
        "--minutes",
        "0.02",
        "--preset",
        "accurate@1",
        "--range",
        "warps=1,2",
        "--time-weight",
        "1",
    ]
    first = CliRunner().invoke(tune_flow.main, args)
    assert first.exit_code == 0, first.output
    count = len(tune_flow.read_trials(out))
    assert count >= 2
    assert tune_flow.read_trials(out)[0].tvl1 == {}
    assert tune_flow.read_trials(out)[0].set_ratios == dict.fromkeys("MSYCZ", 1.0)
    with out.open("a") as file:
        file.write('{"tvl1": ')  # a process was stopped here
    assert len(tune_flow.read_trials(out)) == count
    second = CliRunner().invoke(tune_flow.main, args)
    assert second.exit_code == 0, second.output
    assert len(tune_flow.read_trials(out)) > count
    summary = CliRunner().invoke(tune_flow.main, [str(out), "--summary"])
    assert summary.exit_code == 0 and "Z left out: " in summary.output


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--weight", "Q=1"], "weight is 'Q=1'; allowed: SET=NUMBER"),
        (["--range", "warps=2,x"], "warps is 'x'; allowed: a whole number"),
        ([], "a search needs --data"),
    ],
)
def test_wrong_options_of_the_search(tmp_path, args, message):
    result = CliRunner().invoke(tune_flow.main, [str(tmp_path / "out"), *args])
    assert result.exit_code == 1 and message in result.output


def test_a_line_that_is_no_trial(tmp_path):
    path = tmp_path / "trials.jsonl"
    path.write_text('{"tvl1": {}}\n')
    with pytest.raises(UsageError, match="line 1: not a trial"):
        tune_flow.read_trials(path)
