"""The command view, for folders and lists."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

QUICK = ("--engine", "opencv", "--size", "source", "--width", 800, "--json")


def test_a_folder_and_a_list_show_the_sheets_of_their_videos(cli, clips, tmp_path, caplog):
    def sheet(*sources):
        shown = cli("view", *sources, *QUICK, "-o", tmp_path / "sheet.png")
        assert shown.exit_code == 0, shown.stderr
        with Image.open(tmp_path / "sheet.png") as image:
            picture = np.asarray(image)
        result = json.loads(shown.stdout)
        assert (result["height"], result["width"]) == picture.shape[:2]
        return picture

    files = [clips / "left" / "v_left_g01.mp4", clips / "left" / "v_left_g02.mp4"]
    below = sheet(*files)
    assert np.array_equal(below, np.concatenate([sheet(file) for file in files]))
    assert np.array_equal(sheet(clips / "left"), below)
    (clips / "list.txt").write_text("left/v_left_g01.mp4\nleft/v_left_g02\n")
    assert np.array_equal(sheet(clips / "list.txt"), below)
    assert np.array_equal(sheet(clips, "--videos", 2), below)
    assert "the first 2 of 4 videos are shown" in caplog.text


@pytest.mark.parametrize("name", ["", "list.txt"])
def test_a_film_shows_one_video(cli, clips, tmp_path, name):
    (clips / "list.txt").write_text("left/v_left_g01.mp4\nright/v_right_g01.mp4\n")
    result = cli("view", clips / name, *QUICK, "-o", tmp_path / "film.mp4")
    assert result.exit_code == 2 and "allowed: one" in result.stderr and not (tmp_path / "film.mp4").exists()
    (clips / "one.txt").write_text("right/v_right_g01.mp4\n")
    shown = cli("view", clips / "one.txt", *QUICK, "--pairs", 3, "-o", tmp_path / "film.mp4")
    assert shown.exit_code == 0 and json.loads(shown.stdout)["frames"] == 3
