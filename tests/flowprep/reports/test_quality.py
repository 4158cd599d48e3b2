"""The quality of videos: repeated frames, still pairs, scene cuts and duplicates."""

import shutil

import numpy as np
import pytest

from flowprep import open_corpus
from flowprep.api import make_corpus
from flowprep.presets import PRESETS
from flowprep.reports.quality import VideoQuality, find_duplicates, measure_all, measure_quality, pairs_across
from flowprep.reports.thumbnails import FrameChanges, frame_changes
from flowprep.settings import Settings
from tests.support.videos import scene, write_images, write_video

SIZE = 96, 128  # height, width
OPENCV = {"size": "source", "engine": "opencv", "tvl1": PRESETS["opencv"]}


def moving(count, seed, speed=2.0):
    """Frames of a texture that moves to the right."""
    return [scene(*SIZE, right=speed * i, seed=seed) for i in range(count)]


def measured(tmp_path, frames, **settings):
    """The video of these frames as a corpus stores them, and its quality."""
    write_images(tmp_path / "in" / "clip", frames)
    make_corpus([tmp_path / "in"], tmp_path / "out", Settings(**{**OPENCV, **settings}), jobs=1)
    (video,) = open_corpus(tmp_path / "out").values()
    return video, measure_quality(video)


def noisy(frame, seed, spread=1.5):
    """A frame as another encoder would repeat it."""
    noise = np.random.default_rng(seed).normal(0, spread, frame.shape)
    return np.clip(np.rint(frame + noise), 0, 255).astype(np.uint8)


def test_repeated_frames_are_found_with_coding_noise(tmp_path):
    once = moving(8, 1)
    frames = [noisy(frame, 2 * i + k) for i, frame in enumerate(once) for k in range(2)]
    video, quality = measured(tmp_path, frames, flow=False)
    assert quality.repeated_frames == 8 and quality.cuts == 0
    assert frame_changes(video).repeated.tolist() == [True, False] * 7 + [True]
    assert quality.still_pairs is quality.motion_px is None


def test_a_small_thing_that_moves_makes_no_repeated_frame(tmp_path):
    still = scene(*SIZE, seed=1)
    frames = [still.copy() for _ in range(6)]
    for i, frame in enumerate(frames):
        frame[40:52, 10 + 8 * i : 22 + 8 * i] = 255
    assert measured(tmp_path, frames, flow=False)[1].repeated_frames == 0


def test_a_slow_fade_makes_no_repeated_frame(tmp_path):
    still = scene(*SIZE, seed=1).astype(float)
    frames = [np.rint(still * (1 - 0.02 * i)).astype(np.uint8) for i in range(8)]
    assert measured(tmp_path, frames, flow=False)[1].repeated_frames == 0


def test_still_pairs_have_99_percent_still_pixels(tmp_path):
    first, *others = moving(4, 1)
    frames = [first, first, *others, others[-1]]
    video, quality = measured(tmp_path, frames)
    flow = np.hypot(*video.flow(0, video.num_pairs).swapaxes(0, 1))
    expected = (flow < 0.05).mean(axis=(1, 2)) >= 0.99
    assert quality.still_pairs == expected.sum() == 2 and quality.repeated_frames == 2
    assert quality.motion_px == pytest.approx(flow.mean(), rel=1e-5)


def test_a_cut_is_found_where_it_is(tmp_path):
    video, quality = measured(tmp_path, moving(7, 1) + moving(6, 2) + moving(5, 3))
    assert quality.cuts == 2 and quality.cut_pairs == (6, 12)
    assert np.flatnonzero(frame_changes(video).cuts).tolist() == [6, 12]


def test_neighbouring_cuts_are_one():
    """A mixed frame between two scenes makes two of them."""
    for cuts, expected in (([], 0), ([1], 1), ([0, 1, 1, 0, 1], 2), ([1, 1], 1), ([1, 0, 1], 2)):
        assert FrameChanges(np.zeros(len(cuts), bool), np.array(cuts, bool)).num_cuts == expected


@pytest.mark.parametrize(
    ("step", "pairs", "expected"), [(1, 9, (4,)), (3, 7, (2, 3, 4)), (3, 4, (2, 3)), (9, 1, (0,))]
)
def test_the_pairs_across_a_cut(step, pairs, expected):
    cuts = np.zeros(9, bool)
    cuts[4] = True
    assert pairs_across(cuts, step, pairs) == expected


def test_a_fast_camera_a_flash_and_a_fade_are_no_cuts(tmp_path):
    pan = moving(8, 1, speed=10.0)
    flash = moving(8, 2)
    flash[4] = np.full_like(flash[4], 250)
    fade = [np.rint(frame * (1 - i / 10)).astype(np.uint8) for i, frame in enumerate(moving(10, 3))]
    for name, frames in (("pan", pan), ("flash", flash), ("fade", fade)):
        assert measured(tmp_path / name, frames, flow=False)[1].cuts == 0, name


def test_noise_is_no_cut(tmp_path):
    dark = [noisy(np.full((*SIZE, 3), 20, np.uint8), i, 6.0) for i in range(8)]
    assert measured(tmp_path, dark, flow=False)[1].cuts == 0


def test_the_chunks_of_a_long_video_make_no_difference(tmp_path, monkeypatch):
    flash = moving(6, 3)
    flash[3] = np.full_like(flash[3], 250)
    frames = moving(5, 1) + moving(5, 2) + flash + [flash[-1]]
    video, whole = measured(tmp_path, frames, flow=False)
    assert (whole.cuts, whole.repeated_frames) == (2, 1)
    for size in (1, 2, 3, 7):
        monkeypatch.setattr("flowprep.reports.thumbnails._CHUNK", size)
        assert measure_quality(video) == whole


@pytest.mark.parametrize("shape", [(16, 16), (16, 700), (700, 16), (33, 47)])
def test_every_shape_has_thumbnails(tmp_path, shape):
    frames = [scene(*shape, seed=seed) for seed in (1, 1, 2)]
    quality = measured(tmp_path, frames, flow=False)[1]
    assert quality.repeated_frames == 1


def test_one_frame_has_no_changes(tmp_path):
    write_video(tmp_path / "in" / "clip.mp4", 1)
    make_corpus([tmp_path / "in"], tmp_path / "out", Settings(**OPENCV, flow=False), jobs=1)
    (video,) = open_corpus(tmp_path / "out").values()
    assert measure_quality(video) == VideoQuality(0, 0, (), None, None)


def test_without_frames_there_is_only_flow(tmp_path):
    quality = measured(tmp_path, moving(4, 1), rgb=False)[1]
    assert quality.repeated_frames is quality.cuts is quality.cut_pairs is None
    assert quality.still_pairs == 0 and quality.motion_px > 1


@pytest.mark.parametrize("settings", [{"flow": False}, {"rgb": False}])
def test_copies_are_duplicates_of_the_first(tmp_path, settings):
    for name, seed in (("b/clip", 1), ("c/other", 2)):
        write_images(tmp_path / "in" / name, moving(4, seed))
    shutil.copytree(tmp_path / "in" / "b" / "clip", tmp_path / "in" / "d" / "copy")
    write_images(tmp_path / "in" / "e" / "shorter", moving(3, 1))
    make_corpus([tmp_path / "in"], tmp_path / "out", Settings(**{**OPENCV, **settings}), jobs=1)
    corpus = open_corpus(tmp_path / "out")
    assert find_duplicates(corpus) == {"d/copy": "b/clip"}
    calls = []
    qualities = measure_all(corpus, list(corpus), lambda *both: calls.append(both), jobs=2)
    assert list(qualities) == list(corpus) and calls == [(i, 4) for i in range(1, 5)]
    assert qualities == {name: measure_quality(video) for name, video in corpus.items()}


@pytest.mark.slow
def test_joins_of_real_clips_are_found(shared_data, tmp_path):
    """At least 95 of 100 joins, and no other cut in the same frames."""
    videos = sorted((shared_data / "ucf101").rglob("*.avi"))[::7]
    settings = Settings(size="short:64", flow=False)
    make_corpus(videos, tmp_path / "out", settings, jobs=2)
    videos = list(open_corpus(tmp_path / "out").values())
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(100):
        first, second = (videos[i] for i in rng.choice(len(videos), 2, replace=False))
        joined = Joined([(first, i) for i in range(20, 30)] + [(second, i) for i in range(30, 40)])
        cuts = np.flatnonzero(frame_changes(joined).cuts).tolist()
        found += cuts == [9]
    assert found >= 95


class Joined:
    """Frames of several videos, with the attributes that `frame_changes` reads."""

    def __init__(self, frames):
        self.frames, self.num_frames = frames, len(frames)
        self.width, self.height, self.id = frames[0][0].width, frames[0][0].height, "joined"

    def stored(self, stream, index):
        video, frame = self.frames[index]
        return video.stored(stream, frame)
