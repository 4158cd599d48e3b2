"""Export to folders of JPEGs: names, numbers, codes and lists of each layout."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image

from flowprep import Settings, make_corpus, open_corpus
from flowprep.convert.export import export
from flowprep.convert.names import folder_names
from flowprep.errors import UsageError
from flowprep.parameters import Tvl1Settings
from flowprep.presets import PRESETS
from tests.support.conversions import SETTINGS, read_raw_frames, samples_of
from tests.support.preset_versions import add_version


def test_tsn_numbers_images_by_the_flow_that_leads_to_them(corpus, tmp_path):
    done = export(corpus, tmp_path, "tsn")
    assert (done.videos, done.written, done.recoded, done.failed) == (5, 5, 0, {})
    names = folder_names(corpus.labels, flat=True)
    assert len(set(names.values())) == 5 and all("/" not in n and " " not in n for n in names.values())
    rgb = read_raw_frames(tmp_path, "rgb_all.txt", "img_{:05d}.jpg", 1)
    x = read_raw_frames(tmp_path, "flow_all.txt", "flow_x_{:05d}.jpg", 1)
    y = read_raw_frames(tmp_path, "flow_all.txt", "flow_y_{:05d}.jpg", 1)
    for video in corpus.values():
        folder = names[video.id]
        assert len(rgb[folder][0]) == len(x[folder][0]) == video.num_pairs
        assert rgb[folder][1] == {"left": 0, "to right": 1}[video.label]
        assert np.array_equal(np.stack([x[folder][0], y[folder][0]], 1), video.codes(0, video.num_pairs))
        for number in (1, video.num_pairs):  # flow n leads from frame n - 1 to frame n, which is image n
            stored = (tmp_path / folder / f"img_{number:05d}.jpg").read_bytes()
            assert stored == video.stored("rgb", number)
            flow = (tmp_path / folder / f"flow_x_{number:05d}.jpg").read_bytes()
            assert flow == video.stored("flow_u", number - 1)
    assert (tmp_path / "classInd.txt").read_text() == "1 left\n2 to right\n"


def test_mmaction2_has_one_image_more_than_flows(corpus, tmp_path):
    export(corpus, tmp_path, "mmaction2")
    rgb = read_raw_frames(tmp_path, "rgb_all.txt", "img_{:05d}.jpg", 1)
    x = read_raw_frames(tmp_path, "flow_all.txt", "flow_x_{:05d}.jpg", 1)
    assert set(rgb) == {"left/v_1_é", "left/v_2_é", "left/long", "to_right/v_1_é", "to_right/v_2_é"}
    for folder, video_id in (("left/long", "left/long.mp4"), ("to_right/v_2_é", "to right/v_2 é.mp4")):
        video = corpus[video_id]
        assert len(rgb[folder][0]) == video.num_frames == len(x[folder][0]) + 1
        assert np.array_equal(x[folder][0], video.codes(0, video.num_pairs)[:, 0])
        assert (tmp_path / folder / "img_00001.jpg").read_bytes() == video.stored("rgb", 0)


def test_denseflow_and_gpu_flow_as_the_tools_name_them(corpus, tmp_path):
    video = corpus["left/long.mp4"]
    export(corpus, tmp_path / "d", "denseflow")
    folder = tmp_path / "d" / "left" / "long"
    assert len(list(folder.iterdir())) == 26 + 25 + 25
    assert (folder / "flow_y_00024.jpg").read_bytes() == video.stored("flow_v", 24)
    assert (folder / "img_00025.jpg").read_bytes() == video.stored("rgb", 25)
    export(corpus, tmp_path / "g", "gpu_flow")
    for top, stream in (("u", "flow_u"), ("v", "flow_v"), ("jpegs_256", "rgb")):
        folder = tmp_path / "g" / top / "left" / "long"
        assert (folder / "frame000001.jpg").read_bytes() == video.stored(stream, 0)
        assert len(list(folder.iterdir())) == (26 if stream == "rgb" else 25)


def test_other_codes_are_recoded_only_with_convert(videos, corpus, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"tsn --range 8,.*--quantiser tsn --range 20;.*--convert"):
        export(corpus, tmp_path / "x", "tsn", range=20)
    assert not (tmp_path / "x").exists()
    adaptive = Settings(size="source", engine="opencv", tvl1=PRESETS["opencv"])
    make_corpus([videos / "left" / "long.mp4"], tmp_path / "a", adaptive, jobs=1)
    ours = open_corpus(tmp_path / "a")
    with pytest.raises(UsageError, match=r"--quantiser adaptive, and mmaction2 needs --quantiser tsn"):
        export(ours, tmp_path / "x", "mmaction2")
    done = export(ours, tmp_path / "x", "mmaction2", convert=True, range=8)
    assert (done.copied, done.recoded) == (0, 50)
    video = ours["long.mp4"]
    codes = np.asarray(Image.open(tmp_path / "x" / "long" / "flow_x_00003.jpg")).astype(np.float32)
    # Rounding costs half a level of 16/255 px, and JPEG a few levels at edges.
    error = np.abs((codes - 127.5) * 16 / 255 - video.flow(2, 1)[0, 0])
    assert error.mean() < 0.06 and error.max() < 0.5
    add_version(monkeypatch, "accurate@99", Tvl1Settings(scales=3))  # as in a later version of flowprep
    assert export(ours, tmp_path / "x", "mmaction2", convert=True, range=8).written == 0


def test_png_is_not_exported_as_jpeg(videos, tmp_path):
    make_corpus([videos / "left"], tmp_path / "c", dataclasses.replace(SETTINGS, codec="png"), jobs=1)
    corpus = open_corpus(tmp_path / "c")
    with pytest.raises(UsageError, match=r"--range 8 --image-format png, and tsn needs --quantiser tsn"):
        export(corpus, tmp_path / "x", "tsn")
    assert export(corpus, tmp_path / "x", "tsn", convert=True).recoded == 76
    assert (tmp_path / "x" / "long" / "flow_x_00001.jpg").read_bytes()[:2] == b"\xff\xd8"
    export(corpus, tmp_path / "w", "webdataset")
    sample = samples_of([tmp_path / "w" / "000000.tar"])["long"]
    assert sample["flow_x_00003.png"] == corpus["long.mp4"].stored("flow_u", 3)
