"""Legends, text and files of pictures."""

import numpy as np
import pytest
from PIL import Image

from flowprep.errors import UsageError
from flowprep.viz import canvas, contact_sheet, distance_legend, legend, save_png
from tests.support.clips import Clip, colour_of


def test_the_legend_shows_each_motion_at_its_place():
    image = legend(200, 7.5).astype(int)
    side = 200 - round(28 * 1.35)
    centre, reach = np.array([100, side / 2]), side / 2 / 1.04
    assert image[int(side / 2), 100].min() > 245
    for angle in np.arange(0, 2 * np.pi, 0.3):
        motion = np.array([np.cos(angle), np.sin(angle)])
        x, y = (centre + 0.8 * reach * motion).astype(int)
        assert np.abs(image[y, x] - colour_of(0.8 * motion, 1)).max() < 12  # a pixel is 0.013 of the wheel
    for corner in (image[0, 0], image[0, -1], image[-1, 0], image[-1, -1]):
        assert corner.tolist() == [255, 255, 255]


def test_the_legend_names_its_scale():
    differ = np.abs(legend(120, 2.5).astype(int) - legend(120, 7)).sum(axis=(1, 2))
    assert differ[-20:].any()
    assert not differ[:90].any()


@pytest.mark.parametrize("size", [16, 48, 91, 500])
def test_the_legend_has_the_requested_size(size):
    assert legend(size, 123.4).shape == (size, size, 3)


def test_a_legend_too_small_is_refused():
    with pytest.raises(UsageError, match="allowed: pixels from 16"):
        legend(15, 1)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.25, "0.25"),
        (0.123456, "0.123"),
        (2.0, "2"),
        (9.999, "10"),
        (18.44, "18.4"),
        (120.0, "120"),
    ],
)
def test_numbers_are_short_and_plain(value, text):
    assert canvas.number(value) == text


def test_the_legend_of_distances_goes_from_white_to_black():
    image = distance_legend(200, 12, 1.5)
    assert image.shape == (2 * 14 + 12, 200, 3)
    assert image[5, 2].min() > 240 and image[5, -3].max() < 5


@pytest.mark.skipif(canvas.unicode_font() is None, reason="OpenCV before 5 has no font beyond ASCII")
def test_names_are_written_in_their_own_letters():
    def written(name):
        made = contact_sheet(Clip(id=name))
        return made[:50, :880]

    for one, other in (("日本.mp4", "映画.mp4"), ("été", "ete"), ("Привет", "??????")):
        assert (written(one) != written(other)).any()


def test_without_such_a_font_names_are_written_without_accents():
    assert canvas.drawable("été/a b.mp4") == "ete/a b.mp4"
    assert canvas.drawable("映.mp4") == "?.mp4"


def test_a_png_holds_the_picture_and_no_other_file_remains(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    (tmp_path / "sheet.png").write_text("older")
    save_png(picture, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as image:
        assert (np.array(image) == picture).all()
    assert [p.name for p in tmp_path.iterdir()] == ["sheet.png"]


def test_a_png_that_cannot_be_written_gives_an_error_and_no_file(tmp_path):
    picture = np.zeros((2, 2, 3), np.uint8)
    with pytest.raises(UsageError, match="cannot be written"):
        save_png(picture, tmp_path / "missing" / "sheet.png")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="cannot be written"):
        save_png(picture, tmp_path / "folder")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]
