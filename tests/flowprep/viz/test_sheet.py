import subprocess
import sys
from dataclasses import dataclass, field

import numpy as np
import pytest
from PIL import Image

from flowprep.errors import OutOfRange, UsageError
from flowprep.viz import (
    canvas,
    comparison_sheet,
    contact_sheet,
    distance_legend,
    distance_to_rgb,
    draw_arrows,
    flow_to_rgb,
    legend,
    save_png,
    sheet,
)

RIGHT, DOWN, LEFT, UP = (1, 0), (0, 1), (-1, 0), (0, -1)


def colour_of(motion, max_px=None):
    return tuple(flow_to_rgb(np.array(motion, np.float32).reshape(2, 1, 1), max_px)[0, 0].tolist())


# --- Colours, against the definition of the wheel


def test_no_motion_is_white():
    assert (flow_to_rgb(np.zeros((2, 4, 5))) == 255).all()
    assert colour_of((0, 0), 3) == (255, 255, 255)


@pytest.mark.parametrize(
    ("motion", "colour"),
    # A quarter turn is 13.5 of the wheel's 54 steps: half way between two hues, which are 255 i / n, rounded
    # down, in a ramp of n: red-yellow n = 15, yellow-green 6, green-cyan 4, cyan-blue 11, blue-magenta 13.
    [
        (RIGHT, (255, 0, 0)),
        (DOWN, (255, (221 + 238) / 2, 0)),
        (LEFT, (0, 255 - 46, 255)),
        (UP, ((78 + 98) / 2, 0, 255)),
    ],
)
def test_full_colour_of_the_four_directions(motion, colour):
    assert colour_of(motion) == tuple(int(c) for c in colour)
    assert colour_of(5 * np.array(motion)) == colour_of(motion)  # without a scale, the largest has it


@pytest.mark.parametrize(
    ("step", "colour"), [(15, (255, 255, 0)), (21, (0, 255, 0)), (25, (0, 255, 255)), (36, (0, 0, 255))]
)
def test_corners_of_the_wheel(step, colour):
    angle = 2 * np.pi * step / 54  # from right to down, with y downwards
    found = colour_of((np.cos(angle), np.sin(angle)), 1.001)
    assert np.abs(np.subtract(found, colour)).max() <= 1  # one level, for the scale


def test_either_sign_of_zero_is_right():
    assert colour_of((1, -0.0)) == colour_of((1, 0.0)) == (255, 0, 0)


def test_colour_pales_in_proportion_and_is_a_quarter_darker_beyond_the_scale():
    assert colour_of((1, 0), 2) == (255, 127, 127)
    assert colour_of((0.5, 0), 2) == (255, 191, 191)
    assert colour_of((2.5, 0), 2) == (191, 0, 0)


def test_colours_do_not_depend_on_the_field_around():
    rng = np.random.default_rng(0)
    flow = rng.normal(0, 3, (2, 7, 9))
    picture = flow_to_rgb(flow, 4)
    assert picture.shape == (7, 9, 3)
    assert picture.dtype == np.uint8
    assert all(tuple(picture[y, x]) == colour_of(flow[:, y, x], 4) for y in range(7) for x in range(9))


def test_what_is_not_finite_is_black_and_does_not_set_the_scale():
    flow = np.array([[1, np.nan, np.inf, 0]], np.float32)[None].repeat(2, 0)
    flow[1] = 0
    flow[0, 0, 1:3] = np.nan, np.inf
    assert flow_to_rgb(flow).tolist() == [[[255, 0, 0], [0, 0, 0], [0, 0, 0], [255, 255, 255]]]


@pytest.mark.parametrize("shape", [(2, 4), (4, 5, 2), (1, 2, 4, 5)])
def test_another_shape_is_refused(shape):
    with pytest.raises(UsageError, match=r"allowed: \(2, H, W\)"):
        flow_to_rgb(np.zeros(shape))


@pytest.mark.parametrize("max_px", [0, -1, np.nan, np.inf])
def test_a_scale_that_is_none_is_refused(max_px):
    with pytest.raises(UsageError, match="max_px"):
        flow_to_rgb(np.zeros((2, 3, 3)), max_px)


# --- The legend


def test_the_legend_shows_each_motion_where_it_leads():
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


def test_the_legend_says_its_scale():
    differ = np.abs(legend(120, 2.5).astype(int) - legend(120, 7)).sum(axis=(1, 2))
    assert differ[-20:].any()
    assert not differ[:90].any()


@pytest.mark.parametrize("size", [16, 48, 91, 500])
def test_the_legend_has_the_size_asked_for(size):
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


# --- Contact sheets


@dataclass
class Clip:
    """Has what a video of a corpus has, with flow of one known motion per pair."""

    width: int = 160
    height: int = 120
    num_frames: int = 33
    step: int = 1
    id: str = "Punch/v_Punch_g01_c01.avi"
    label: str = "Punch"
    frame_rate: float = 25.0
    damage: str = ""
    has_rgb: bool = True
    has_flow: bool = True
    motion: tuple[float, float] = (2.0, 0.0)
    times: np.ndarray | None = None
    asked: list = field(default_factory=list)

    @property
    def num_pairs(self):
        return self.num_frames - self.step

    @property
    def times_seconds(self):
        return np.arange(self.num_frames) / 25 if self.times is None else self.times

    def rgb(self, index):
        if not self.has_rgb:
            raise OutOfRange("made without frames")
        assert 0 <= index < self.num_frames
        return np.full((self.height, self.width, 3), (10, 90, 10), np.uint8)

    def flow(self, start, count):
        if not self.has_flow:
            raise OutOfRange("made without flow")
        assert 0 <= start <= start + count <= self.num_pairs
        self.asked.append(start)
        flow = np.empty((count, 2, self.height, self.width), np.float32)
        flow[:, 0], flow[:, 1] = self.motion
        return flow


def blocks(sheet, colour):
    """(x, y, width, height) of each rectangle of one colour, left to right, then top to bottom."""
    same = (sheet == colour).all(axis=2)
    found = []
    for y, x in np.argwhere(same):
        if not same[y, x]:
            continue
        width = int(np.argmin(np.append(same[y, x:], False)))
        height = int(np.argmin(np.append(same[y:, x], False)))
        if width > 4 and height > 4:
            found.append((int(x), int(y), width, height))
        same[y : y + height, x : x + width] = False
    return sorted(found)


FRAME, FLOW = (10, 90, 10), (255, 0, 0)


@pytest.mark.parametrize(
    ("size", "columns", "width"),
    [
        ((160, 120), 6, 1000),
        ((16, 16), 4, 400),
        ((120, 214), 5, 800),
        ((1920, 1080), 3, 1200),
        ((64, 48), 1, 200),
    ],
)
def test_each_frame_stands_over_its_flow(size, columns, width):
    sheet = contact_sheet(Clip(*size), columns, width)
    assert sheet.dtype == np.uint8
    assert sheet.shape[1:] == (width, 3)
    frames, flows = blocks(sheet, FRAME), blocks(sheet, FLOW)
    assert len(frames) == len(flows) == columns
    for (x, y, w, h), (flow_x, flow_y, flow_w, flow_h) in zip(frames, flows, strict=True):
        assert (x, w, h) == (flow_x, flow_w, flow_h)
        assert y + h <= flow_y < y + h + 20
        assert w / h == pytest.approx(size[0] / size[1], rel=1.5 / min(w, h))
        assert 0 < x < x + w < width
        assert flow_y + flow_h < len(sheet)
    steps = np.diff([x for x, *_ in frames])
    assert (steps == steps[:1]).all()
    assert (steps > frames[0][2]).all()  # none overlaps the next


def test_a_large_video_is_shown_too():
    sheet = contact_sheet(Clip(3840, 2160, num_frames=2))
    assert len(blocks(sheet, FRAME)) == len(blocks(sheet, FLOW)) == 1
    assert sheet.shape[1] == 1000
    assert blocks(sheet, FRAME)[0][2] == 333  # a third of the sheet, for a picture alone


def test_flow_is_shown_at_even_times_from_the_first_pair_to_the_last():
    clip = Clip(num_frames=41)
    contact_sheet(clip, 6)
    assert sorted(set(clip.asked)) == [0, 8, 16, 23, 31, 39]


def test_even_times_are_those_of_the_clock_not_of_the_count():
    # Twenty frames in the first second, then one per second.
    times = np.concatenate([np.arange(20) / 20, np.arange(1, 6)])
    clip = Clip(num_frames=25, times=times)
    contact_sheet(clip, 5)
    assert times[sorted(set(clip.asked))].tolist() == [0, 1, 2, 3, 4]


def test_a_video_without_a_clock_is_shown_by_frame_number():
    clip = Clip(num_frames=10, times=np.full(10, np.nan), frame_rate=0.0)
    contact_sheet(clip, 3)
    assert sorted(set(clip.asked)) == [0, 4, 8]


@pytest.mark.parametrize("pairs", [1, 2, 5])
def test_fewer_pairs_than_columns_are_each_shown_once(pairs):
    clip = Clip(num_frames=pairs + 1)
    sheet = contact_sheet(clip, 6)
    assert len(blocks(sheet, FLOW)) == pairs
    assert sorted(set(clip.asked)) == list(range(pairs))


def test_a_longer_step_has_fewer_pairs():
    clip = Clip(num_frames=10, step=4)
    contact_sheet(clip, 6)
    assert max(clip.asked) == 5


def test_a_corpus_without_frames_or_without_flow_shows_the_other():
    both = contact_sheet(Clip())
    only_flow, only_rgb = contact_sheet(Clip(has_rgb=False)), contact_sheet(Clip(has_flow=False))
    assert (len(blocks(only_flow, FRAME)), len(blocks(only_flow, FLOW))) == (0, 6)
    assert (len(blocks(only_rgb, FRAME)), len(blocks(only_rgb, FLOW))) == (6, 0)
    assert max(len(only_flow), len(only_rgb)) < len(both) - 80
    assert sheet._facts(Clip(), has_rgb=False, has_flow=True)[1].endswith("no frames in this corpus")
    assert sheet._facts(Clip(), has_rgb=True, has_flow=False)[1] == "no flow in this corpus"


def test_the_facts_of_a_video():
    facts = sheet._facts(Clip(damage="cut short", frame_rate=29.97003, step=2), has_rgb=True, has_flow=True)
    assert facts == [
        "Punch · 160x120 pixels · 33 frames, 31 pairs · 29.97 frames/s",
        "flow from each frame to the one 2 later",
        "ends before a damage (cut short)",
    ]
    assert sheet._facts(Clip(label="", frame_rate=0.0, num_frames=2), has_rgb=True, has_flow=True) == [
        "160x120 pixels · 2 frames, 1 pair",
        "flow from each frame to the next",
    ]


def test_a_sheet_says_what_the_rim_of_its_wheel_is():
    assert "full from 3.15 px on, the 99th percentile" in sheet._scale_fact(3.149, 8)
    assert "full from 0.25 px on, the least that a sheet uses" in sheet._scale_fact(0.25, 0.1)


def test_one_scale_holds_for_the_whole_sheet_and_single_outliers_do_not_set_it():
    class Varied(Clip):
        def flow(self, start, count):
            flow = super().flow(start, count)
            flow *= (start + 1) / self.num_pairs
            flow[:, 0, 0, 0] = 500
            return flow

    sheet = contact_sheet(Varied(num_frames=5, motion=(8.0, 0.0)), 4)
    paled = [colour_of((share, 0), 1) for share in (0.25, 0.5, 0.75)]
    assert [len(blocks(sheet, c)) for c in (*paled, FLOW)] == [1, 1, 1, 1]


def test_a_still_video_stays_white():
    sheet = contact_sheet(Clip(motion=(0.0, 0.0)), 2, 400)
    x, y, w, h = blocks(sheet, FRAME)[0]
    below = sheet[y + h + 10 : y + h + 10 + h // 2, x + 2 : x + w - 2]
    assert (below == 255).all()


@pytest.mark.parametrize("name", ["a" * 500, "日本/映画.mp4", "été – 1.mp4", "line\nbreak.mp4", ""])
def test_any_name_fits_beside_the_legend(name):
    usual, sheet = contact_sheet(Clip(id="a")), contact_sheet(Clip(id=name))
    assert sheet.shape == usual.shape
    assert (sheet[:, 885:] == usual[:, 885:]).all()


@pytest.mark.skipif(canvas._unicode() is None, reason="OpenCV before 5 has no font beyond ASCII")
def test_names_are_written_in_their_own_letters():
    def written(name):
        made = contact_sheet(Clip(id=name))
        return made[:50, :880]

    for one, other in (("日本.mp4", "映画.mp4"), ("été", "ete"), ("Привет", "??????")):
        assert (written(one) != written(other)).any()


def test_without_such_a_font_names_are_written_in_letters_that_there_are():
    assert canvas._drawable("été/a b.mp4") == "ete/a b.mp4"
    assert canvas._drawable("映.mp4") == "?.mp4"


@pytest.mark.parametrize(("columns", "width"), [(0, 1000), (6, 199), (30, 1000)])
def test_a_sheet_without_room_is_refused(columns, width):
    with pytest.raises(UsageError, match="columns in"):
        contact_sheet(Clip(), columns, width)


# --- Distances


def test_distances_are_white_to_black_and_darken_all_the_way():
    heat = distance_to_rgb(np.linspace(0, 2, 9)[None], 2)[0].astype(int)
    assert heat[0].tolist() == [255, 255, 255] and heat[-1].tolist() == [0, 0, 0]
    assert (np.diff(heat.sum(axis=1)) < 0).all()
    assert (distance_to_rgb(np.array([[2.0, 7.0, np.inf, np.nan]]), 2) == 0).all()


def test_a_scale_of_distances_that_is_none_is_refused():
    with pytest.raises(UsageError, match="max_px"):
        distance_to_rgb(np.zeros((2, 2)), 0)


def test_the_legend_of_distances_goes_from_none_to_the_most():
    image = distance_legend(200, 12, 1.5)
    assert image.shape == (2 * 14 + 12, 200, 3)
    assert image[5, 2].min() > 240 and image[5, -3].max() < 5


class Twice(Clip):
    """Moves 0.5 px further to the right, and 3 px further in one pair."""

    def flow(self, start, count):
        flow = super().flow(start, count)
        flow[:, 0] += 0.5
        flow[[i for i in range(count) if start + i == 15], 0] += 2.5
        return flow


def test_a_comparison_shows_frames_both_flows_and_how_far_they_are_apart():
    made = comparison_sheet(Clip(), Twice(), ("a", "b"), 3, 800)
    frames = blocks(made, FRAME)
    assert len(frames) == 3
    # Distances of 0.5, 3, 0.5 px: the 99th percentile is 3, drawn black.
    half = tuple(distance_to_rgb(np.array([[0.5]]), 3)[0, 0].tolist())
    assert [len(blocks(made, c)) for c in (half, (0, 0, 0))] == [2, 1]
    (x, y, w, h), middle = blocks(made, (0, 0, 0))[0], frames[1]
    assert (x, w, h) == (middle[0], *middle[2:]) and y > middle[1] + 3 * h
    assert sheet.distance_note(np.full((4, 5), 0.5)) == "mean 0.500 · p99 0.50"


def test_a_comparison_of_a_single_pair_stands_in_one_row():
    made = comparison_sheet(Clip(num_frames=2), Twice(num_frames=2), ("a", "b"), 6, 800)
    (frame,), (black,) = blocks(made, FRAME), blocks(made, (0, 0, 0))
    assert frame[1] == black[1] and frame[0] < black[0] and frame[2:] == black[2:]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (Clip(width=100), "size 160x120 in a and 100x120 in b"),
        (Clip(step=2), "step 1 in a and 2 in b"),
        (Clip(has_flow=False), "b has no flow"),
    ],
)
def test_what_is_not_alike_is_not_compared(other, said):
    with pytest.raises(UsageError, match=said):
        comparison_sheet(Clip(), other, ("a", "b"))


# --- Arrows


@pytest.mark.parametrize("motion", [RIGHT, DOWN, LEFT, UP])
def test_arrows_lead_where_the_motion_leads(motion):
    flow = np.zeros((2, 90, 90), np.float32)
    flow[:, 30:60, 30:60] = 2 * np.array(motion, np.float32)[:, None, None]  # around the one arrow at 45, 45
    drawn = draw_arrows(np.zeros((90, 90, 3), np.uint8), flow, 10, 30).astype(int)
    bright = np.argwhere(drawn[..., 0] - drawn[..., 2] > 90)[:, ::-1]  # yellow, as x and y
    along = (bright - 45) @ np.array(motion)
    across = np.abs((bright - 45) @ np.array(motion[::-1]))
    assert along.min() >= -1 and 19 <= along.max() <= 21  # 2 px, ten times, and a pixel for the round end
    assert across.max() <= 5
    assert along[across.argmax()] > 10  # the head


def test_what_is_still_has_dots_and_no_arrows():
    drawn = draw_arrows(np.full((60, 60, 3), 200, np.uint8), np.zeros((2, 60, 60), np.float32), 10, 20)
    assert (drawn[..., 0] == drawn[..., 2]).all()
    assert (drawn[10::20, 10::20] != drawn[0, 0]).all()


# --- Files


def test_a_png_holds_the_picture_and_nothing_else_is_left(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    (tmp_path / "sheet.png").write_text("older")
    save_png(picture, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as image:
        assert (np.array(image) == picture).all()
    assert [p.name for p in tmp_path.iterdir()] == ["sheet.png"]


def test_a_png_that_cannot_be_written_is_said_and_leaves_nothing(tmp_path):
    picture = np.zeros((2, 2, 3), np.uint8)
    with pytest.raises(UsageError, match="cannot be written"):
        save_png(picture, tmp_path / "missing" / "sheet.png")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="cannot be written"):
        save_png(picture, tmp_path / "folder")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_importing_it_imports_no_solver_decoder_or_network():
    code = "import sys, flowprep.viz; sys.exit(bool({'torch', 'numba', 'av', 'h5py'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
