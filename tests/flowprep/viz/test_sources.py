"""The videos that `flowprep view` shows."""

import numpy as np
import pytest

from flowprep.api import make_corpus
from flowprep.errors import OutOfRange, SettingsError, UsageError, VideoMissing, VideoUnreadable
from flowprep.presets import NEWEST, PRESETS
from flowprep.settings import Settings
from flowprep.viz.sources import open_sources
from tests.support.videos import texture, write_frames, write_video

OPENCV = {"size": "source", "engine": "opencv"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("preview")
    write_video(root / "clips" / "right" / "a.mp4", 30)
    write_video(root / "clips" / "right" / "b.mp4", 5)
    settings = Settings(engine="opencv", tvl1=PRESETS["opencv"], size="source")
    make_corpus([root / "clips"], root / "corpus", settings, jobs=1)
    return root / "corpus"


def test_a_file_has_the_frames_and_flow_of_its_corpus(corpus):
    (stored,) = open_sources([str(corpus), "right/a.mp4"])
    (file,) = open_sources([str(corpus.parent / "clips" / "right" / "a.mp4")], **OPENCV)
    for name in ("width", "height", "num_frames", "num_pairs", "frame_rate", "step", "damage"):
        assert getattr(stored.video, name) == getattr(file.video, name)
    assert np.array_equal(stored.video.times_seconds, file.video.times_seconds)
    # Quantisation changes flow by about 0.04 px on average; JPEG changes frames by a few levels.
    assert np.abs(stored.video.flow(3, 4) - file.video.flow(3, 4)).mean() < 0.1
    assert np.abs(stored.video.rgb(7).astype(int) - file.video.rgb(7)).mean() < 3


def test_frames_of_a_file_are_the_same_in_any_order(tmp_path):
    path = write_frames(tmp_path / "frames", 40)
    (one,) = open_sources([str(path)], **OPENCV)
    for i in (0, 39, 5, 6, 38, 20, 0):
        assert np.array_equal(one.video.rgb(i), texture(32, 48, i))
    with pytest.raises(OutOfRange, match="frames 0 to 39"):
        one.video.rgb(40)


def test_flow_of_a_file_has_its_step(tmp_path):
    path = write_video(tmp_path / "a.mp4", 8, speed=1)
    (one,) = open_sources([str(path)], step=2, **OPENCV)
    assert one.video.num_pairs == 6
    inner = one.video.flow(2, 2)[:, 0, 8:-8, 8:-8]
    assert inner.shape[0] == 2 and inner.mean() == pytest.approx(2, abs=0.3)  # MPEG-4 at 48x32 pixels


def test_a_damaged_file_is_shown_up_to_the_damage(tmp_path):
    folder = write_frames(tmp_path / "frames", 6)
    (folder / "img_00005.png").write_bytes(b"no image")
    (one,) = open_sources([str(folder)], **OPENCV)
    assert one.video.num_frames == 4 and "img_00005.png cannot be read" in one.video.damage
    assert one.video.flow(2, 1).shape == (1, 2, 32, 48)


def test_a_partial_video_of_a_corpus_names_its_damage(tmp_path):
    folder = write_frames(tmp_path / "in" / "frames", 6)
    (folder / "img_00005.png").write_bytes(b"no image")
    settings = Settings(engine="opencv", tvl1=PRESETS["opencv"], size="source", keep_partial=True)
    make_corpus([tmp_path / "in"], tmp_path / "corpus", settings, jobs=1)
    (one,) = open_sources([str(tmp_path / "corpus"), "frames"])
    assert one.video.num_frames == 4 and "img_00005.png cannot be read" in one.video.damage


def test_two_images_are_a_pair(tmp_path):
    folder = write_frames(tmp_path / "frames", 2)
    (one,) = open_sources([str(folder / "img_00001.png"), str(folder / "img_00002.png")], **OPENCV)
    assert one.video.num_pairs == 1 and one.video.id == "img_00001.png to img_00002.png"
    assert one.video.flow(0, 1)[0, 0, 8:-8, 8:-8].mean() == pytest.approx(1, abs=0.2)


def test_images_of_two_sizes_are_refused(tmp_path):
    one, other = write_frames(tmp_path / "a", 1), write_frames(tmp_path / "b", 1, (64, 32))
    with pytest.raises(VideoUnreadable, match="48x32 and 64x32"):
        open_sources([str(one / "img_00001.png"), str(other / "img_00001.png")], **OPENCV)


@pytest.mark.slow
def test_a_preset_and_an_engine_are_compared_on_the_same_frames(tmp_path):
    path = write_video(tmp_path / "a.mp4", 6)
    (one,) = open_sources([str(path)], "opencv", size="source", preset="opencv")
    assert one.names == ("cpu opencv", "opencv")
    # With the parameters of OpenCV, the cpu engine computes the same flow.
    assert np.abs(one.video.flow(1, 2) - one.other.flow(1, 2)).mean() < 0.03
    (two,) = open_sources([str(path)], "fast", size="source")
    assert two.names == (f"cpu {NEWEST['accurate']}", f"cpu {NEWEST['fast']}")
    assert np.abs(two.video.flow(1, 2) - two.other.flow(1, 2)).max() > 0


def test_a_corpus_is_compared_with_another_and_with_a_preset(corpus, tmp_path):
    other = tmp_path / "other"
    settings = Settings(engine="opencv", tvl1=PRESETS["opencv"], size="source", codes="tsn")
    make_corpus([corpus.parent / "clips"], other, settings, jobs=1)
    (one,) = open_sources([str(corpus), "right/b.mp4"], str(other))
    assert one.names == ("corpus", "other")
    assert 0 < np.abs(one.video.flow(0, 4) - one.other.flow(0, 4)).mean() < 0.2  # tsn: a level is 0.16 px
    (two,) = open_sources([str(corpus), "right/b.mp4"], "opencv")
    assert two.names == ("as in corpus", "opencv")
    # One flow is computed from the stored JPEG frames, the other from the decoded frames.
    assert np.abs(two.video.flow(0, 4) - two.other.flow(0, 4)).mean() < 0.3


@pytest.mark.parametrize(
    ("sources", "options", "error", "message"),
    [
        (["{corpus}"], {}, UsageError, r"name a video of .*right/a.mp4, right/b.mp4"),
        (["{corpus}", "x"], {}, VideoMissing, "no video 'x'"),
        (["{corpus}", "right/a.mp4"], {"step": 2}, UsageError, "shown as it is stored"),
        (["{corpus}", "right/a.mp4"], {"compare": "quick"}, UsageError, "compare is 'quick'; allowed"),
        (["nowhere.mp4"], {}, UsageError, "no such video, folder, list or corpus: nowhere.mp4"),
        (["{corpus}/plan.jsonl"], {}, VideoUnreadable, "plan.jsonl: not a video"),
        (["{corpus}/plan.jsonl"], {"size": "big"}, SettingsError, "short:S"),
    ],
)
def test_sources_that_cannot_be_shown_are_refused(corpus, sources, options, error, message):
    with pytest.raises(error, match=message):
        open_sources([s.format(corpus=corpus) for s in sources], **options)
