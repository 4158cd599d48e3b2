"""Reading parts of a video: pairs and frames in any order, windows, sizes, mirror images, given arrays."""

from __future__ import annotations

import pickle

import cv2
import numpy as np
import pytest

from flowprep import open_corpus
from flowprep.errors import OutOfRange, UsageError
from flowprep.settings import Settings
from tests.support.corpora import SHAPE, random_flow, store_video
from tests.support.videos import scene

PAIRS = [6, 0, 5, 4, 4, 3, 0]  # of both segments


@pytest.fixture
def video(corpus):
    """A video of 8 frames and 7 pairs in two segments."""
    return open_corpus(corpus)["c/long.mp4"]


def test_pairs_are_read_in_any_order_and_repeatedly(video):
    for backward in (False, True):
        for read in (video.codes, video.flow):
            whole = read(0, 7, backward)
            for pairs in (PAIRS, np.array(PAIRS, np.int32), tuple(PAIRS)):
                assert np.array_equal(read(pairs, backward=backward), whole[PAIRS])
            assert read([], backward=backward).shape == (0, 2, *SHAPE)
            assert read(np.int64(2), np.int16(3), backward).shape == (3, 2, *SHAPE)
        params, some = video.quant_params(0, 7, backward), video.quant_params(PAIRS, backward=backward)
        assert all(np.array_equal(a[PAIRS], b) for a, b in zip(params, some, strict=True))


def test_a_video_can_be_sent_to_other_processes(video):
    again = pickle.loads(pickle.dumps(video))
    assert again == video and np.array_equal(again.codes(PAIRS), video.codes(PAIRS))


def test_frames_are_read_in_any_order_and_repeatedly(video):
    whole = np.stack([video.rgb(i) for i in range(8)])
    assert whole.shape == (8, *SHAPE, 3)
    assert np.array_equal(video.rgb(0, 8), whole)
    assert np.array_equal(video.rgb(3, 4), whole[3:7])  # across the border
    assert np.array_equal(video.rgb([7, 0, 0, 5]), whole[[7, 0, 0, 5]])
    assert video.rgb([]).shape == video.rgb(8, 0).shape == (0, *SHAPE, 3)
    part = video.rgb(2, window=(3, 4, 5, 6), mirror=True)
    assert np.array_equal(part, whole[2, 3:8, 4:10][:, ::-1]) and part.flags.c_contiguous


def test_a_mirror_image_is_that_of_the_scene(video):
    window = (2, 3, 11, 13)
    codes, flow = video.codes(PAIRS, window=window), video.flow(PAIRS, window=window)
    assert np.array_equal(video.codes(PAIRS, window=window, mirror=True), codes[..., ::-1])
    mirrored = flow[..., ::-1] * np.float32([-1, 1])[:, None, None]
    assert np.array_equal(video.flow(PAIRS, window=window, mirror=True), mirrored)
    assert np.array_equal(video.rgb(1, 3, window, mirror=True), video.rgb(1, 3, window)[:, :, ::-1])


@pytest.mark.parametrize(
    ("size", "method"), [((11, 15), cv2.INTER_AREA), ((24, 20), cv2.INTER_AREA), ((30, 61), cv2.INTER_LINEAR)]
)
def test_a_size_resizes_displacements_and_their_unit(video, size, method):
    factors = np.float32([size[1] / SHAPE[1], size[0] / SHAPE[0]])[:, None, None]
    whole = video.flow(0, 7)
    expected = [[cv2.resize(c, size[::-1], interpolation=method) for c in pair] for pair in whole] * factors
    flow = video.flow(0, 7, size=size)
    assert flow.dtype == np.float32 and np.allclose(flow, expected, atol=1e-4)
    assert np.array_equal(flow[PAIRS], video.flow(PAIRS, size=size))
    mirrored = flow[..., ::-1] * np.float32([-1, 1])[:, None, None]
    assert np.array_equal(video.flow(0, 7, size=size, mirror=True), mirrored)

    codes = video.codes(0, 7, size=size)
    scale, zero_point, _ = (part[..., None, None] for part in video.quant_params(0, 7))
    assert codes.dtype == np.uint8
    assert (abs((codes - zero_point) * (scale * factors) - flow) <= 0.501 * scale * factors).all()
    assert np.array_equal(video.codes(0, 7, size=size, mirror=True), codes[..., ::-1])

    frames = np.stack([cv2.resize(f, size[::-1], interpolation=method) for f in video.rgb(0, 8)])
    assert np.abs(video.rgb(0, 8, size=size).astype(int) - frames).max() <= 1


def test_a_window_of_fractions_is_a_crop_of_the_resized_picture(video):
    size = (12, 20)
    whole = video.flow(0, 7, size=size), video.codes(0, 7, size=size), video.rgb(0, 7, size=size)
    window = (2 * SHAPE[0] / 12, 3 * SHAPE[1] / 20, 7 * SHAPE[0] / 12, 17 * SHAPE[1] / 20)
    part = [read(0, 7, window=window, size=(7, 17)) for read in (video.flow, video.codes, video.rgb)]
    assert np.allclose(part[0], whole[0][..., 2:9, 3:20], atol=1e-5)
    assert np.array_equal(part[1], whole[1][..., 2:9, 3:20])
    assert np.array_equal(part[2], whole[2][:, 2:9, 3:20])


def test_a_size_of_the_window_changes_nothing(video):
    window = (1, 2, 9, 8)
    for read in (video.flow, video.codes, video.rgb):
        assert np.array_equal(read(0, 7, window=window, size=(9, 8)), read(0, 7, window=window))
        assert np.array_equal(read(0, 7, window=np.array(window)), read(0, 7, window=window))


def test_without_antialiasing_a_smaller_picture_is_interpolated(video):
    whole, size = video.flow(0, 2), (12, 20)
    expected = [[cv2.resize(c, size[::-1], interpolation=cv2.INTER_LINEAR) for c in pair] for pair in whole]
    flow = video.flow(0, 2, size=size, antialias=False)
    assert np.allclose(flow, np.array(expected) / 2, atol=1e-4)


def test_a_given_array_is_filled_and_returned(video, tmp_path):
    for read, kind, shape in (
        (video.flow, np.float32, (7, 2, 6, 7)),
        (video.codes, np.uint8, (7, 2, 6, 7)),
        (video.rgb, np.uint8, (7, 6, 7, 3)),
    ):
        for options in ({}, {"size": (6, 7)}):
            window = (2, 3, 12, 14) if options else (2, 3, 6, 7)
            batch = np.full((2, *shape), 99, kind)
            out = read(0, 7, window=window, out=batch[1], **options)
            assert out.base is batch and (batch[0] == 99).all()
            assert np.array_equal(batch[1], read(0, 7, window=window, **options))
            mapped = np.memmap(tmp_path / "array", kind, "w+", shape=shape)
            assert read(0, 7, window=window, out=mapped, **options) is mapped
            assert np.array_equal(mapped, batch[1])
    one = np.empty((*SHAPE, 3), np.uint8)
    assert video.rgb(4, out=one) is one and np.array_equal(one, video.rgb(4))


def test_a_draft_is_near_the_resized_frame(tmp_path):
    frames = np.stack([scene(117, 150, i) for i in range(3)])
    flow = np.zeros((2, 2, 117, 150), np.float32)
    video = open_corpus(store_video(tmp_path / "c", frames, flow, Settings()))["a/video"]
    height, width = video.height, video.width
    for window, size in (
        (None, (height // 2, width // 2)),
        (None, (height // 4 - 1, width // 4)),
        ((3, 5, 80, 90), (10, 11)),
        ((3.5, 5.25, 50, 77), (20, 20)),
    ):
        exact = video.rgb(0, 3, window, size=size).astype(float)
        draft = video.rgb(0, 3, window, size=size, draft=True)
        assert not np.array_equal(draft, exact) and np.abs(draft - exact).mean() < 2
        mirrored = video.rgb(0, 3, window, size=size, draft=True, mirror=True)
        assert np.array_equal(mirrored, draft[:, :, ::-1])
    for size in (None, (height - 1, width - 1), (height // 2, width)):
        exact = video.rgb(0, size=size)
        assert np.array_equal(video.rgb(0, size=size, draft=True), exact)


@pytest.mark.parametrize("step", [1, 3])
def test_a_clip_has_aligned_frames_and_flow(tmp_path, step):
    frames = np.stack([scene(*SHAPE, i) for i in range(9)])
    root = store_video(tmp_path / "c", frames, random_flow(1, 9 - step), Settings(step=step), cuts=(4,))
    video = open_corpus(root)["a/video"]
    for start, length in ((0, 9), (2, 5), (8, 1), (0, 1), (3, 0)):
        for options in (
            {},
            {"window": (1, 2, 10, 12), "mirror": True},
            {"window": (1.5, 2, 20.5, 12), "size": (7, 9), "antialias": False},
        ):
            clip = video.clip(start, length, **options)
            pairs = max(0, length - step)
            assert np.array_equal(clip.rgb, video.rgb(start, length, **options))
            assert np.array_equal(clip.flow, video.flow(range(start, start + pairs), **options))
            assert len(clip.rgb) == length and len(clip.flow) == pairs
            assert np.array_equal(clip.times_seconds, video.times_seconds[start : start + length])
            assert (clip.start, clip.id, clip.label) == (start, "a/video", "a")
    for start, length in ((0, 10), (-1, 2), (9, 1), (0, -1)):
        message = f"{length} frames from frame {start} of a/video; it has 9 frames"
        with pytest.raises(OutOfRange, match=message):
            video.clip(start, length)
    with pytest.raises(UsageError, match="count is 2 and start is a sequence"):
        video.clip([0, 1], 2)


@pytest.mark.parametrize("missing", ["rgb", "flow"])
def test_a_clip_without_a_stream_has_none_of_it(tmp_path, missing):
    frames = np.stack([scene(*SHAPE, i) for i in range(3)])
    root = store_video(tmp_path / "c", frames, random_flow(1, 2), Settings(**{missing: False}))
    video = open_corpus(root)["a/video"]
    clip = video.clip(0, 3)
    assert getattr(clip, missing) is None and len(clip.times_seconds) == 3
    assert (clip.rgb is None) != (clip.flow is None)
    with pytest.raises(OutOfRange, match=f"made without .*--no-{missing}"):
        getattr(video, missing)(0, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": 5}, "pair 5 without count: give the number of pairs, or a sequence such as"),
        ({"start": 0, "count": 2.0}, "count is 2.0; allowed: the number of pairs"),
        ({"start": [0, 1], "count": 2}, "count is 2 and start is a sequence; allowed: one of them"),
        ({"start": 1.5, "count": 2}, "start is 1.5; allowed: the first pair, or a sequence of pairs"),
        ({"start": "ab"}, "start is 'ab'; allowed: the first pair"),
        ({"start": [0.5]}, "allowed: the first pair, or a sequence of pairs"),
        ({"start": [[0]]}, "allowed: the first pair, or a sequence of pairs"),
        ({"start": [0, 7]}, "pair 7 of c/long.mp4; it has pairs 0 to 6"),
        ({"start": [-1]}, "pair -1 of c/long.mp4; it has pairs 0 to 6"),
        ({"start": 6, "count": 2}, "2 pairs from pair 6 of c/long.mp4; it has 7 pairs"),
        ({"start": [0], "window": 5}, "window is 5; allowed: .top, left, height, width."),
        ({"start": [0], "window": (0, 0, 1.5, 2)}, "allowed: whole pixels, or fractions with a size"),
        ({"start": [0], "window": (0, 0, 0, 2)}, "which is empty; allowed: a height and a width above 0"),
        ({"start": [0], "window": (0, 0, 24.1, 2), "size": (5, 5)}, "24 pixels high and 40 wide"),
        ({"start": [0], "window": (0, float("nan"), 2, 2), "size": (5, 5)}, "24 pixels high and 40 wide"),
        ({"start": [0], "size": 5}, "size is 5; allowed: .height, width., each 1 to 65500 pixels"),
        ({"start": [0], "size": (5, 0)}, "size is .5, 0.; allowed"),
        ({"start": [0], "size": (5.5, 2)}, "size is .5.5, 2.; allowed"),
        ({"start": [0], "out": [1]}, "out is a list; allowed: a NumPy array"),
        (
            {"start": [0], "out": np.empty((1, 2, 3, 4), np.uint8)},
            "allowed here: uint8 of the shape",
        ),
        ({"start": [0], "out": np.empty((1, 2, *SHAPE))}, "out is float64 of the shape"),
        ({"start": [0], "out": np.empty((1, 2, *SHAPE[::-1]), np.uint8).swapaxes(2, 3)}, "not C-contiguous"),
        ({"start": [0], "out": np.broadcast_to(np.uint8(0), (1, 2, *SHAPE))}, "read-only"),
    ],
)
def test_wrong_arguments_are_refused(video, options, message):
    with pytest.raises(UsageError, match=message):
        video.codes(**options)


def test_an_array_between_the_places_of_numbers_is_refused(video):
    memory = np.empty(4 * 2 * SHAPE[0] * SHAPE[1] + 1, np.uint8)
    out = memory[1:].view(np.float32).reshape(1, 2, *SHAPE)
    with pytest.raises(UsageError, match="not aligned"):
        video.flow([0], out=out)


def test_frames_that_do_not_exist_are_named(video):
    for start, count, message in (
        (8, None, "frame 8 of c/long.mp4; it has frames 0 to 7"),
        ([0, -2], None, "frame -2 of c/long.mp4; it has frames 0 to 7"),
        (7, 2, "2 frames from frame 7 of c/long.mp4; it has 8 frames"),
    ):
        with pytest.raises(OutOfRange, match=message):
            video.rgb(start, count)
    for start in (2.5, "ab", [[1]]):
        with pytest.raises(UsageError, match="allowed: the first frame, or a sequence of frames"):
            video.rgb(start)
