"""Export to tar files of samples."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from flowprep.convert.export import export
from flowprep.errors import UsageError
from tests.support.conversions import samples_of


def test_webdataset_tars_are_bounded_and_whole(corpus, tmp_path):
    export(corpus, tmp_path, "webdataset", shard_mb=0.1, sample_pairs=10)
    tars = sorted(tmp_path.glob("*.tar"))
    assert len(tars) > 1 and all(t.stat().st_size <= 100_000 for t in tars)
    samples = samples_of(tars)
    assert set(samples) == {
        *(f"left/long-{n:06d}" for n in (0, 10, 20)),
        *(f"{folder}/v_{n}_é" for folder in ("left", "to_right") for n in (1, 2)),
    }
    video, sample = corpus["left/long.mp4"], samples["left/long-000020"]
    about = json.loads(sample["json"])
    assert (about["id"], about["first_frame"], about["frames"], about["pairs"]) == (video.id, 20, 6, 5)
    assert sample["cls"] == b"0" and sample["img_00025.jpg"] == video.stored("rgb", 25)
    codes = cv2.imdecode(np.frombuffer(sample["flow_y_00024.jpg"], np.uint8), cv2.IMREAD_GRAYSCALE)
    v = (codes.astype(np.float32) - np.float32(about["zero"][4][1])) * np.float32(about["scale"][4][1])
    assert np.array_equal(v, video.flow(24, 1)[0, 1])
    with pytest.raises(UsageError, match="give a larger one"):
        export(corpus, tmp_path / "small", "webdataset", shard_mb=0.02, sample_pairs=10)
    assert not (tmp_path / "small").exists()
    tars[1].unlink()
    before = {t: t.stat().st_mtime_ns for t in tars if t != tars[1]}
    export(corpus, tmp_path, "webdataset", shard_mb=0.1, sample_pairs=10)
    assert all(t.stat().st_mtime_ns == n for t, n in before.items()) and samples_of(tars) == samples


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_webdataset_itself_reads_them(corpus, tmp_path):
    wds = pytest.importorskip("webdataset")
    export(corpus, tmp_path, "webdataset")
    samples = list(wds.WebDataset(str(tmp_path / "000000.tar"), shardshuffle=False).decode("rgb8"))
    assert [s["json"]["id"] for s in samples] == list(corpus)
    for sample in samples:
        video = corpus[sample["json"]["id"]]
        assert sample["cls"] == ["left", "to right"].index(video.label)
        assert sample["img_00003.jpg"].shape == (video.height, video.width, 3)
        assert np.array_equal(sample["flow_x_00003.jpg"][..., 0], video.codes(3, 1)[0, 0])
