"""Contact sheets and comparisons."""

import numpy as np
import pytest

from flowprep.errors import UsageError
from flowprep.viz import comparison_sheet, contact_sheet, distance_to_rgb, sheet
from tests.support.clips import FLOW, FRAME, Clip, Twice, blocks, colour_of


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
def test_each_frame_is_above_its_flow(size, columns, width):
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
    assert blocks(sheet, FRAME)[0][2] == 333  # a single picture gets a third of the sheet


def test_flow_is_shown_at_even_times_from_the_first_pair_to_the_last():
    clip = Clip(num_frames=41)
    contact_sheet(clip, 6)
    assert sorted(set(clip.requested)) == [0, 8, 16, 23, 31, 39]


def test_even_times_follow_the_clock_and_not_the_count():
    # Twenty frames in the first second, then one per second.
    times = np.concatenate([np.arange(20) / 20, np.arange(1, 6)])
    clip = Clip(num_frames=25, times=times)
    contact_sheet(clip, 5)
    assert times[sorted(set(clip.requested))].tolist() == [0, 1, 2, 3, 4]


def test_a_video_without_a_clock_is_shown_by_frame_number():
    clip = Clip(num_frames=10, times=np.full(10, np.nan), frame_rate=0.0)
    contact_sheet(clip, 3)
    assert sorted(set(clip.requested)) == [0, 4, 8]


@pytest.mark.parametrize("pairs", [1, 2, 5])
def test_fewer_pairs_than_columns_are_each_shown_once(pairs):
    clip = Clip(num_frames=pairs + 1)
    sheet = contact_sheet(clip, 6)
    assert len(blocks(sheet, FLOW)) == pairs
    assert sorted(set(clip.requested)) == list(range(pairs))


def test_a_longer_step_has_fewer_pairs():
    clip = Clip(num_frames=10, step=4)
    contact_sheet(clip, 6)
    assert max(clip.requested) == 5


def test_a_corpus_without_frames_or_without_flow_shows_the_other():
    both = contact_sheet(Clip())
    only_flow, only_rgb = contact_sheet(Clip(has_rgb=False)), contact_sheet(Clip(has_flow=False))
    assert (len(blocks(only_flow, FRAME)), len(blocks(only_flow, FLOW))) == (0, 6)
    assert (len(blocks(only_rgb, FRAME)), len(blocks(only_rgb, FLOW))) == (6, 0)
    assert max(len(only_flow), len(only_rgb)) < len(both) - 80
    assert sheet.video_facts(Clip(), has_rgb=False, has_flow=True)[1].endswith("no frames in this corpus")
    assert sheet.video_facts(Clip(), has_rgb=True, has_flow=False)[1] == "no flow in this corpus"


def test_the_facts_of_a_video():
    facts = sheet.video_facts(
        Clip(damage="cut short", frame_rate=29.97003, step=2), has_rgb=True, has_flow=True
    )
    assert facts == [
        "Punch · 160x120 pixels · 33 frames, 31 pairs · 29.97 frames/s",
        "flow from each frame to the one 2 later",
        "ends before a damage (cut short)",
    ]
    assert sheet.video_facts(Clip(label="", frame_rate=0.0, num_frames=2), has_rgb=True, has_flow=True) == [
        "160x120 pixels · 2 frames, 1 pair",
        "flow from each frame to the next",
    ]


def test_a_sheet_explains_its_colour_scale():
    assert "full from 3.15 px on, the 99th percentile" in sheet.scale_fact(3.149, 8)
    assert "full from 0.25 px on, the least that a sheet uses" in sheet.scale_fact(0.25, 0.1)


def test_a_sheet_has_one_scale_that_outliers_do_not_set():
    class Varied(Clip):
        def flow(self, start, count):
            flow = super().flow(start, count)
            flow *= (start + 1) / self.num_pairs
            flow[:, 0, 0, 0] = 500
            return flow

    sheet = contact_sheet(Varied(num_frames=5, motion=(8.0, 0.0)), 4)
    paled = [colour_of((share, 0), 1) for share in (0.25, 0.5, 0.75)]
    assert [len(blocks(sheet, c)) for c in (*paled, FLOW)] == [1, 1, 1, 1]


@pytest.mark.parametrize("has_rgb", [True, False])
def test_a_repeated_frame_says_so_instead_of_an_empty_square(has_rgb):
    sheet = contact_sheet(Clip(motion=(0.0, 0.0), has_rgb=has_rgb), 2, 400)
    if not has_rgb:  # whether the frames are the same is not known
        assert (sheet[-100:-30, 20:380] > 200).all()
        return
    x, y, w, h = blocks(sheet, FRAME)[0]
    below = sheet[y + h + 10 : y + 2 * h, x + 2 : x + w - 2]
    words = (below < 128).any(axis=(1, 2))
    assert 5 < words.sum() < 20 and (below[~words] > 128).all()
    rows = np.flatnonzero(words)
    assert abs((rows[0] + rows[-1]) / 2 + 10 - h / 2) < 0.15 * h  # in the middle


def test_a_still_pair_of_two_pictures_is_not_marked():
    class Changing(Clip):
        def rgb(self, index):
            return super().rgb(index) // 4 + 40 * index

    sheet = contact_sheet(Changing(motion=(0.0, 0.0), num_frames=3), 2, 400)
    assert (sheet[-60:-30, 20:380] > 200).all()


@pytest.mark.parametrize("name", ["a" * 500, "日本/映画.mp4", "été – 1.mp4", "line\nbreak.mp4", ""])
def test_any_name_fits_beside_the_legend(name):
    usual, sheet = contact_sheet(Clip(id="a")), contact_sheet(Clip(id=name))
    assert sheet.shape == usual.shape
    assert (sheet[:, 885:] == usual[:, 885:]).all()


@pytest.mark.parametrize(("columns", "width"), [(0, 1000), (6, 199), (30, 1000)])
def test_a_sheet_without_room_is_refused(columns, width):
    with pytest.raises(UsageError, match="columns in"):
        contact_sheet(Clip(), columns, width)


def test_a_comparison_shows_frames_both_flows_and_their_distance():
    made = comparison_sheet(Clip(), Twice(), ("a", "b"), 3, 800)
    frames = blocks(made, FRAME)
    assert len(frames) == 3
    # Distances of 0.5, 3, 0.5 px: the 99th percentile is 3, drawn black.
    half = tuple(distance_to_rgb(np.array([[0.5]]), 3)[0, 0].tolist())
    assert [len(blocks(made, c)) for c in (half, (0, 0, 0))] == [2, 1]
    (x, y, w, h), middle = blocks(made, (0, 0, 0))[0], frames[1]
    assert (x, w, h) == (middle[0], *middle[2:]) and y > middle[1] + 3 * h
    assert sheet.distance_note(np.full((4, 5), 0.5)) == "mean 0.500 · p99 0.50"


def test_a_comparison_of_a_single_pair_has_one_row():
    made = comparison_sheet(Clip(num_frames=2), Twice(num_frames=2), ("a", "b"), 6, 800)
    (frame,), (black,) = blocks(made, FRAME), blocks(made, (0, 0, 0))
    assert frame[1] == black[1] and frame[0] < black[0] and frame[2:] == black[2:]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (Clip(width=100), "size 160x120 in a and 100x120 in b"),
        (Clip(step=2), "step 1 in a and 2 in b"),
        (Clip(has_flow=False), "b has no flow"),
    ],
)
def test_flows_that_cannot_be_compared_are_refused(other, message):
    with pytest.raises(UsageError, match=message):
        comparison_sheet(Clip(), other, ("a", "b"))
