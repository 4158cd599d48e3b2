import itertools
import subprocess
import sys

import av
import cv2
import numpy as np
import pytest

from flowprep.errors import SettingsError, UsageError
from flowprep.synthetic import write_samples
from flowprep.synthetic.clip import Clip, draw_scene, encode_mp4, plan_clips
from flowprep.synthetic.drawing import FIGURES, colour, draw_endless_sheet, draw_sheet
from flowprep.synthetic.motion import MOTIONS, Pose

CLASSES = (
    "Crosses",
    "DotsGrowing",
    "DotsSliding",
    "DotsSpinning",
    "DotsSwaying",
    "Rings",
    "Squares",
    "Stars",
)
DOTS = [name for name in CLASSES if name.startswith("Dots")]
TEXTURES = [name for name in CLASSES if name not in DOTS]


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return write_samples(tmp_path_factory.mktemp("samples"), clips=2)


@pytest.fixture(scope="module")
def many_clips(tmp_path_factory):
    """Decoded frames of 12 clips per class, by path."""
    samples = write_samples(tmp_path_factory.mktemp("many"), clips=12)
    return {path: decode(samples.directory / path) for path in samples.train + samples.test}


def decode(path):
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def files(directory):
    return {p.relative_to(directory).as_posix(): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def group_of(path):
    return path.split("_")[-2]


# --- Files


def test_lists_name_every_clip_once_with_its_class(samples):
    assert samples.classes == CLASSES
    index = (samples.lists / "classInd.txt").read_text().splitlines()
    assert index == [f"{i} {name}" for i, name in enumerate(CLASSES, 1)]
    train = (samples.lists / "trainlist01.txt").read_text().splitlines()
    test = (samples.lists / "testlist01.txt").read_text().splitlines()
    assert train == [f"{path} {CLASSES.index(path.split('/')[0]) + 1}" for path in samples.train]
    assert tuple(test) == samples.test
    on_disk = sorted(p.relative_to(samples.directory).as_posix() for p in samples.directory.rglob("*.mp4"))
    assert on_disk == sorted(samples.train + samples.test)
    assert samples.clips == samples.written == 8 * 2
    assert "DotsSliding/v_DotsSliding_g01_c01.mp4" in samples.test


@pytest.mark.parametrize("clips", [2, 12, 20])
def test_no_group_is_on_both_sides_and_every_class_is_on_both(clips):
    plan = list(plan_clips(8, clips, 0))
    train, test = ([clip for clip in plan if clip.is_test == is_test] for is_test in (False, True))
    assert not {group_of(clip.path) for clip in train} & {group_of(clip.path) for clip in test}
    for part in (train, test):
        assert {clip.label for clip in part} == set(CLASSES)


def test_clips_are_short_h264_videos(samples):
    with av.open(str(samples.directory / samples.train[0])) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.average_rate == 25
    clips = [decode(samples.directory / path) for path in samples.train + samples.test]
    assert {frames.shape[1:] for frames in clips} == {(120, 160, 3)}
    counts = {len(frames) for frames in clips}
    assert min(counts) >= 30
    assert max(counts) <= 36
    assert len(counts) > 3


def test_the_arguments_determine_every_byte(tmp_path):
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        write_samples(tmp_path / name, classes=2, clips=2, seed=seed)
    a, b, c = (files(tmp_path / name) for name in "abc")
    assert a == b
    assert a.keys() == c.keys()
    assert all(a[path] != c[path] for path in a if path.endswith(".mp4"))


def test_a_repeated_call_writes_only_missing_clips(tmp_path):
    first = write_samples(tmp_path, classes=3, clips=2)
    before = files(tmp_path)
    assert write_samples(tmp_path, classes=3, clips=2).written == 0
    # As a killed process leaves it: one clip not begun, another half written.
    (tmp_path / first.train[0]).unlink()
    victim = tmp_path / first.test[1]
    code = "from pathlib import Path; from flowprep.system.atomic import temporary_path as t;"
    code += f"v = Path({str(victim)!r}); v.rename(t(v))"
    subprocess.run([sys.executable, "-c", code], check=True)
    steps = []
    assert (
        write_samples(tmp_path, classes=3, clips=2, progress=lambda *report: steps.append(report)).written
        == 2
    )
    assert steps == [(done, 6) for done in range(1, 7)]
    assert files(tmp_path) == before


@pytest.mark.parametrize("classes", [2, 5, 16])
@pytest.mark.parametrize("clips", [2, 3, 7])
def test_any_number_of_classes_and_clips(classes, clips):
    plan = list(plan_clips(classes, clips, 0))
    assert len({clip.path for clip in plan}) == len(plan) == classes * clips
    assert len({clip.label for clip in plan}) == classes
    for label in {clip.label for clip in plan}:
        assert {clip.is_test for clip in plan if clip.label == label} == {True, False}


@pytest.mark.parametrize(
    "bad", [{"classes": 1}, {"classes": 17}, {"classes": 2.5}, {"clips": 1}, {"clips": 199}, {"seed": -1}]
)
def test_a_bad_number_is_refused_before_anything_is_made(tmp_path, bad):
    with pytest.raises(SettingsError, match=f"{next(iter(bad))} is .*; allowed: "):
        write_samples(tmp_path / "new", **bad)
    assert not (tmp_path / "new").exists()


def test_a_folder_of_something_else_is_refused_untouched(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        write_samples(tmp_path)
    with pytest.raises(UsageError, match="not a folder"):
        write_samples(tmp_path / "thesis.txt")
    assert files(tmp_path) == {"thesis.txt": b"mine"}


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_a_record_that_is_not_ours_is_refused(tmp_path, content):
    (tmp_path / "samples.json").write_text(content)
    with pytest.raises(UsageError, match="another folder"):
        write_samples(tmp_path)


def test_samples_of_other_arguments_are_refused_naming_them(tmp_path):
    write_samples(tmp_path, classes=2, clips=2)
    before = files(tmp_path)
    with pytest.raises(UsageError, match=r"clips 2 \(now: 3\)"):
        write_samples(tmp_path, classes=2, clips=3)
    assert files(tmp_path) == before


# --- Sheets


@pytest.fixture
def sheet():
    rng = np.random.default_rng(0)
    return draw_sheet(rng, "Dots"), rng.uniform(0, 96, (64, 2))


@pytest.mark.parametrize("figure", FIGURES)
def test_every_figure_covers_the_same_share(figure):
    assert draw_sheet(np.random.default_rng(1), figure).mean() == pytest.approx(0.36, abs=0.012)


def test_a_colour_has_the_brightness_asked_for():
    for hue in np.linspace(0, 6, 7):
        assert colour(100, hue, 30) @ [0.299, 0.587, 0.114] == pytest.approx(100, abs=1e-3)


def test_moving_right_and_down_shifts_the_sheet_by_as_many_pixels(sheet):
    still = draw_endless_sheet(*sheet, [80, 60], Pose(0, 0, 0.7, 0.3))
    moved = draw_endless_sheet(*sheet, [80, 60], Pose(3, 2, 0.7, 0.3))
    # OpenCV's warp may place samples to 1/32 of a texel only: 0.01 pixel on edges of slope 1.
    assert np.abs(moved[2:, 3:] - still[:-2, :-3]).mean() < 0.01
    assert np.abs(moved - still).mean() > 0.1


def test_half_a_turn_shows_the_sheet_upside_down(sheet):
    # (79.5, 59.5) is the centre of the frame; (0, 0) is the centre of the first pixel.
    upright = draw_endless_sheet(*sheet, [79.5, 59.5], Pose(0, 0, 0.2, 0.3))
    turned = draw_endless_sheet(*sheet, [79.5, 59.5], Pose(0, 0, 0.2 + np.pi, 0.3))
    assert np.abs(turned - upright[::-1, ::-1]).mean() < 0.01


def test_a_positive_angle_turns_right_to_down(sheet):
    before = draw_endless_sheet(*sheet, [79.5, 59.5], Pose(0, 0, 0, 0))
    after = draw_endless_sheet(*sheet, [79.5, 59.5], Pose(0, 0, np.pi / 2, 0))
    square = before[:, 20:140]
    assert np.abs(after[:, 20:140] - np.rot90(square, -1)).mean() < 0.01


def test_growing_is_continuous_and_keeps_the_brightness(sheet):
    views = [draw_endless_sheet(*sheet, [80, 60], Pose(0, 0, 0, octave)) for octave in np.arange(-1, 2, 0.01)]
    steps = [np.abs(b - a).mean() for a, b in itertools.pairwise(views)]
    assert max(steps) < 3 * np.mean(steps)  # no jump from one octave to the next
    # About 75 dots cover a frame by a share that varies a little. Weights that do not add to 1 give 0.15.
    assert np.ptp([view.mean() for view in views]) < 0.05


# --- Information in one frame, and in motion


def nearest_class(features, labels, groups):
    """Share of clips whose class is that of the nearest class mean, leaving out the clip's group."""
    features = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-9)
    right = 0
    names = sorted(set(labels))
    for group in set(groups):
        out = groups == group
        means = np.stack([features[(labels == name) & ~out].mean(axis=0) for name in names])
        nearest = np.square(features[out][:, None] - means[None]).sum(axis=2).argmin(axis=1)
        right += np.sum(np.array(names)[nearest] == labels[out])
    return right / len(labels)


def look(frame):
    """Features of one frame: places, coarseness, sharpness and colours."""
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
    small = cv2.resize(frame, (8, 6), interpolation=cv2.INTER_AREA).ravel()
    power = np.log1p(np.abs(np.fft.fftshift(np.fft.fft2(grey))))
    spectrum = cv2.resize(power, (10, 10), interpolation=cv2.INTER_AREA).ravel()
    slopes = [
        np.abs(cv2.Sobel(grey, cv2.CV_32F, *order)).mean() for order in ((1, 0), (0, 1), (2, 0), (0, 2))
    ]
    hues = cv2.calcHist([cv2.cvtColor(frame, cv2.COLOR_RGB2HSV)], [0], None, [12], [0, 180]).ravel()
    # Each kind of feature has the same weight.
    return np.concatenate([f / len(f) ** 0.5 for f in map(np.asarray, (small, spectrum, slopes, hues))])


def movement(frames):
    """Shift, turn and growth about the middle of the moving pixels, on average and from pair to pair."""
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    flow = np.stack([dis.calc(a, b, None) for a, b in itertools.pairwise(grey)])
    moving = np.hypot(flow[..., 0], flow[..., 1]).mean(axis=0) > 0.7
    y, x = np.nonzero(moving)
    u, v = flow[:, y, x, 0], flow[:, y, x, 1]
    x, y = x - x.mean(), y - y.mean()
    spread = np.sqrt(np.mean(x**2 + y**2))
    series = [u.mean(axis=1), v.mean(axis=1), (x * v - y * u).mean(axis=1) / spread]
    growth = (x * u + y * v).mean() / spread
    return np.array(
        [growth, *(f(s) for s in series for f in (lambda s: np.abs(s).mean(), lambda s: abs(s.mean())))]
    )


def probe(clips, names, feature):
    chosen = {path: frames for path, frames in clips.items() if path.split("/")[0] in names}
    labels = np.array([path.split("/")[0] for path in chosen])
    groups = np.array([group_of(path) for path in chosen])
    return nearest_class(np.stack([feature(frames) for frames in chosen.values()]), labels, groups)


# 48 clips of 4 classes: chance is 0.25, and guessing comes above 0.45 less than once in 500 times.
CHANCE = 0.45


@pytest.mark.slow
@pytest.mark.parametrize("t", [0, 15, 29])
def test_one_frame_does_not_tell_the_motion(many_clips, t):
    assert probe(many_clips, DOTS, lambda frames: look(frames[t])) < CHANCE


@pytest.mark.parametrize("motion", MOTIONS)
@pytest.mark.parametrize("t", [0, 12])
def test_the_pose_of_a_sheet_is_uniform_at_any_time_for_every_motion(motion, t):
    """Angle, scale and place are uniform on their circles at each time: so no frame can tell the motion."""
    n = 25
    at_t = []
    for i in range(n):
        clip = Clip("", "", "Dots", motion, False, (0, 0, 0), (0, 1, i))
        scene = draw_scene(clip, draw_sheet=lambda rng, figure: None)
        pose = scene.pose_at(t)
        place = (scene.starts[0] - pose[:2]) / 96 % 1
        at_t.append((*place, pose.angle / (2 * np.pi) % 1, pose.octave % 1))
    # Kolmogorov and Smirnov: uniform numbers stray further than this once in a thousand times.
    strays = np.abs(np.sort(at_t, axis=0) - (np.arange(n)[:, None] + 0.5) / n).max(axis=0)
    assert (strays < 1.95 / n**0.5).all(), dict(
        zip(("right", "down", "angle", "octave"), strays, strict=True)
    )


@pytest.mark.slow
def test_one_frame_tells_the_texture(many_clips):
    assert probe(many_clips, TEXTURES, lambda frames: look(frames[0])) > 0.7


@pytest.mark.slow
def test_movement_tells_the_motion(many_clips):
    assert probe(many_clips, DOTS, lambda frames: movement(frames[:14])) > 0.9


@pytest.mark.slow
def test_movement_does_not_tell_the_texture(many_clips):
    assert probe(many_clips, TEXTURES, lambda frames: movement(frames[:14])) < CHANCE


@pytest.mark.slow
def test_clips_of_a_group_share_a_background_and_groups_differ(many_clips):
    """No window reaches the border, so its colours tell the group."""

    def border(frames):
        return np.concatenate(
            [frames[0][:3].reshape(-1, 3).mean(axis=0), frames[0][-3:].reshape(-1, 3).mean(axis=0)]
        )

    colours = {path: border(frames) for path, frames in many_clips.items()}
    within, between = [], []
    for a in colours:
        for b in colours:
            if a != b:
                (within if group_of(a) == group_of(b) else between).append(
                    np.abs(colours[a] - colours[b]).mean()
                )
    assert np.mean(within) < 0.6 * np.mean(between)


def test_without_x264_the_clips_are_mpeg4(tmp_path):
    clip = next(plan_clips(2, 2, 0))
    path = tmp_path / "a.mp4"
    encode_mp4(path, draw_scene(clip).frames(), codecs={"mpeg4"})
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "mpeg4"
    error = np.stack(list(draw_scene(clip).frames())) - decode(path).astype(float)
    assert np.abs(error).mean() < 5  # levels; mostly noise and the halved resolution of colour


def test_a_clip_is_never_left_half_written(tmp_path):
    def broken_frames():
        yield from list(draw_scene(next(plan_clips(2, 2, 0))).frames())[:3]
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        encode_mp4(tmp_path / "a.mp4", broken_frames())
    assert not list(tmp_path.iterdir())
