"""The command flow."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from flowprep.flo import read_flo
from tests.support.videos import texture, write_frames, write_images


def test_flow_of_one_pair(cli, tmp_path):
    folder = write_frames(tmp_path / "frames", 2)
    images = sorted(folder.iterdir())
    result = json.loads(cli("flow", *images, "-o", tmp_path / "a.flo", "--json").stdout)
    flow = read_flo(tmp_path / "a.flo")
    assert (result["width"], result["height"]) == (48, 32) and flow.shape == (2, 32, 48)
    assert result["largest_px"] == pytest.approx(np.hypot(*flow).max(), abs=1e-5)
    assert flow[0].mean() == pytest.approx(1, abs=0.2) and abs(flow[1].mean()) < 0.2
    fast = cli("flow", *images, "-o", tmp_path / "b.flo", "--preset", "fast", "--engine", "reference")
    assert fast.exit_code == 0 and "displacements up to" in fast.stdout
    assert (tmp_path / "a.flo").read_bytes() != (tmp_path / "b.flo").read_bytes()
    assert cli("flow", *images, "-o", tmp_path / "a.png").exit_code == 0
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (48, 32)
    assert cli("flow", *images, "-o", tmp_path / "a.jpg").exit_code == 2
    (tmp_path / "text.png").write_text("no image")
    assert cli("flow", images[0], tmp_path / "text.png", "-o", tmp_path / "c.flo").exit_code == 1


def turning_frames(folder):
    """Five frames of a texture: three pairs that move right by a pixel, then one that moves left."""
    return write_images(folder, [texture(32, 48, right) for right in (0, 1, 2, 3, 2)])


@pytest.mark.parametrize("kind", ["folder", "list", "corpus"])
def test_flow_of_a_pair_of_a_video(cli, tmp_path, kind):
    source = [turning_frames(tmp_path / "turning")]
    if kind == "list":
        source = [tmp_path / "list.txt"]
        source[0].write_text("turning 1\n")
    if kind == "corpus":
        corpus = tmp_path / "corpus"
        assert cli("extract", tmp_path / "turning", "--out", corpus, "--size", "source").exit_code == 0
        source = [corpus, "turning"]
    for pair, moved in ((0, 1), (2, 1), (3, -1)):
        assert cli("flow", *source, "--pair", pair, "-o", tmp_path / "a.flo").exit_code == 0
        flow = read_flo(tmp_path / "a.flo")
        assert flow[0].mean() == pytest.approx(moved, abs=0.2) and abs(flow[1].mean()) < 0.2
    beyond = cli("flow", *source, "--pair", 4, "-o", tmp_path / "b.flo")
    assert beyond.exit_code == 2 and "has the pairs 0 to 3" in beyond.stderr
    assert not (tmp_path / "b.flo").exists()


def test_tune_of_a_folder_and_of_a_list_measures_all_its_videos(cli, clips):
    names = sorted(path.relative_to(clips) for path in clips.rglob("*.mp4"))
    (clips / "list.txt").write_text("".join(f"{name}\n" for name in names))
    (clips / "list.csv").write_text("path,label\n" + "".join(f"{name},a class\n" for name in names))

    def measured(*source):
        result = json.loads(
            cli("tune", *source, "--preset", "opencv", "--size", "source", "--pairs", 8, "--json").stdout
        )
        return {**result, "choices": [{**choice, "encode_ms": 0} for choice in result["choices"]]}

    whole = measured(clips)
    assert (whole["pairs"], whole["size"]) == (8, "48x32")
    assert measured(clips / "list.txt") == measured(clips / "list.csv") == whole
    assert measured(*(clips / name for name in names)) == whole
    assert whole not in (measured(clips / "left"), measured(clips / "right"))
