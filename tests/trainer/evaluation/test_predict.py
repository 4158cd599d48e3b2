"""Prediction of the videos of inputs and of a corpus; the network is replaced by known scores."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from flowprep import Settings, UsageError, VideoError, VideoMissing, make_corpus
from flowprep.presets import PRESETS
from tests.support.videos import write_video
from trainer.evaluation import predict as prediction

CLASSES = ("left", "right")
SETTINGS = Settings(engine="opencv", tvl1=PRESETS["opencv"], size="source")


@pytest.fixture
def clips(tmp_path):
    """Three videos in class folders, and one file that is none."""
    for name in ("left/v_left_g01.mp4", "left/v_left_g02.mp4", "right/v_right_g01.mp4"):
        write_video(tmp_path / "clips" / name, 4)
    return tmp_path / "clips"


@pytest.fixture(autouse=True)
def network(monkeypatch):
    """A run whose network says the class that is in the id of a video."""
    recipe = SimpleNamespace(input=SimpleNamespace(bidirectional=False))
    run = SimpleNamespace(
        path=Path("run"), stream="spatial", classes=CLASSES, recipe=recipe,
        checkpoint=SimpleNamespace(corpus=SETTINGS),
    )  # fmt: skip
    monkeypatch.setattr(prediction, "open_run", lambda path: run)

    def score(run, corpus, ids, device, workers, loader):
        return np.array([[0.9, 0.1] if "left" in corpus[video].id else [0.2, 0.8] for video in ids])

    monkeypatch.setattr(prediction, "_score", score)


def predicted(sources, **options):
    """Video -> best class, and the failures."""
    found, failures = prediction.predict_all(sources, {"spatial": Path("run")}, device="cpu", **options)
    return {str(p.video): p.classes[0].name for p in found}, failures


def test_one_file_keeps_its_path(clips):
    video = clips / "left" / "v_left_g01.mp4"
    assert predicted([video], single=True) == ({str(video): "left"}, {})
    found = prediction.predict(video, {"spatial": Path("run")}, device="cpu")
    assert found.video == video and [c.score for c in found.classes] == [0.9, 0.1]


def test_a_folder_gives_all_its_videos_and_names_the_damaged_ones(clips):
    (clips / "left" / "bad.mp4").write_text("not a video")
    found, failures = predicted([clips])
    assert found == {
        "left/v_left_g01.mp4": "left", "left/v_left_g02.mp4": "left", "right/v_right_g01.mp4": "right"
    }  # fmt: skip
    assert list(failures) == ["left/bad.mp4"] and failures["left/bad.mp4"].startswith("not a video")


def test_a_list_gives_its_videos(clips):
    (clips / "l.txt").write_text("right/v_right_g01.mp4 right\nleft/v_left_g02.mp4 left\n")
    assert set(predicted([clips / "l.txt"])[0]) == {"right/v_right_g01.mp4", "left/v_left_g02.mp4"}


@pytest.mark.parametrize(
    ("name", "videos"),
    [("v_left_g02", ["left/v_left_g02.mp4"]), ("right", ["right/v_right_g01.mp4"]),
     ("*g01*", ["left/v_left_g01.mp4", "right/v_right_g01.mp4"])],
)  # fmt: skip
def test_videos_of_a_corpus_by_name(clips, tmp_path, name, videos):
    make_corpus([clips], tmp_path / "corpus", SETTINGS, jobs=1)
    found, failures = prediction.predict_all(
        [tmp_path / "corpus", Path(name)], {"spatial": Path("run")}, device="cpu"
    )
    assert len(found) == len(videos) and failures == {}
    with pytest.raises(VideoMissing, match=r"did you mean left/v_left_g02.mp4"):
        predicted([tmp_path / "corpus", Path("v_left_g2")])
    with pytest.raises(UsageError, match=r"name a video"):
        predicted([tmp_path / "corpus"])


def test_nothing_to_read_is_an_error(clips):
    (clips / "bad.mp4").write_text("not a video")
    with pytest.raises(VideoError, match=r"bad.mp4: not a video"):
        predicted([clips / "bad.mp4"])
