"""Clips compared with what the reader gives, cut and mirrored by NumPy."""

from __future__ import annotations

import multiprocessing
import pickle

import numpy as np
import pytest

import flowprep
from flowprep.clips.layout import resized
from flowprep.errors import SettingsError, UsageError
from tests.support.clip_corpus import IDS, LABELS, PAIRS, same


def test_one_clip_a_video_is_its_middle(clip_corpus):
    source = flowprep.ClipSource(clip_corpus, 4, crop=(10, 12))
    assert len(source) == len(IDS) and source.classes == ("Jump", "Run", "Sit")
    for i, clip in enumerate(source):
        video = clip_corpus[IDS[i]]
        start = (PAIRS[i] - 4 + 1) // 2
        assert (clip["id"], clip["start"], clip["label"]) == (IDS[i], start, LABELS[i])
        whole = video.flow(start, 4)
        assert clip["flow"].dtype == np.float32
        assert np.array_equal(clip["flow"], whole[..., 7:17, 14:26])
        assert np.array_equal(clip["times"], video.times_seconds[start : start + 4])


def test_clips_at_regular_distances_with_frames_left_out(clip_corpus):
    source = flowprep.ClipSource(clip_corpus, 3, spacing=2, stride=3, content=("rgb", "flow"))
    expected = [
        (video, start) for video, n in zip(IDS, PAIRS, strict=True) for start in range(0, max(1, n - 4), 3)
    ]
    assert [(clip["id"], int(clip["start"])) for clip in source] == expected
    clip = source[1]
    video = clip_corpus["Jump/a1"]
    assert np.array_equal(clip["flow"], video.flow(3, 5)[::2])
    assert np.array_equal(clip["rgb"], np.stack([video.rgb(i) for i in (3, 5, 7)]))
    assert np.array_equal(clip["times"], video.times_seconds[[3, 5, 7]])


def test_a_short_video_repeats_its_last_pair_or_is_left_out(clip_corpus, caplog):
    source = flowprep.ClipSource(clip_corpus, 10)
    assert source.num_short == 2 and "2 of 7 videos have fewer than 10" in caplog.text
    flow = source[3]["flow"]
    whole = clip_corpus["Run/b2"].flow(0, 4)
    assert np.array_equal(flow[:4], whole) and all(np.array_equal(field, whole[3]) for field in flow[4:])
    dropped = flowprep.ClipSource(clip_corpus, 10, short="drop")
    assert dropped.ids == tuple(i for i, n in zip(IDS, PAIRS, strict=True) if n >= 10)
    assert dropped.labels.tolist() == [0, 1, 1, 2, 2]
    with pytest.raises(UsageError, match=r"no video of .* is long enough: make length"):
        flowprep.ClipSource(clip_corpus, 20, short="drop")


def test_segments_begin_in_the_middle_of_equal_parts(clip_corpus):
    clip = flowprep.ClipSource(clip_corpus, 2, segments=3, content="codes", videos=["Run/b1"])[0]
    # 13 places to begin at; the parts are 0 to 4.33, 4.33 to 8.67 and 8.67 to 13
    assert clip["start"].tolist() == [2, 6, 10]
    video = clip_corpus["Run/b1"]
    for k, start in enumerate((2, 6, 10)):
        assert np.array_equal(clip["codes"][k], video.codes(start, 2))
        assert np.array_equal(clip["times"][k], video.times_seconds[start : start + 2])
    assert clip["scale"].shape == (3, 2, 2)


def test_random_segments_stay_in_their_parts(clip_corpus):
    source = flowprep.ClipSource(clip_corpus, 2, segments=3, random=True, crop=8)
    starts = np.array([source.sample(2, epoch)["start"] for epoch in range(60)])
    assert starts.min(0).tolist() == [0, 4, 8] and starts.max(0).tolist() == [4, 8, 12]


def test_random_clips_are_windows_of_the_flow_mirrored_with_u_negated(clip_corpus):
    source = flowprep.ClipSource(clip_corpus, 3, crop=8, random=True, mirror=True, content=("flow", "rgb"))
    mirrored, starts = 0, set()
    for epoch in range(24):
        clip = source[(epoch, 2)]
        starts.add(int(clip["start"]))
        whole = clip_corpus["Run/b1"].flow(clip["start"], 3)
        flipped = whole[..., ::-1] * np.array([-1, 1], np.float32)[:, None, None]
        fits = [place_of(clip["flow"], frames) for frames in (whole, flipped)]
        assert [fit is None for fit in fits].count(True) == 1
        mirrored += fits[0] is None
        top, left = fits[0] or fits[1]
        rgb = clip_corpus["Run/b1"].rgb(int(clip["start"]), 3)
        rgb = rgb if fits[0] else rgb[:, :, ::-1]
        assert np.array_equal(clip["rgb"], rgb[:, top : top + 8, left : left + 8])
    assert 4 < mirrored < 20 and len(starts) > 6


def place_of(part: np.ndarray, whole: np.ndarray) -> tuple[int, int] | None:
    """(top, left) of a part of frames (..., H, W), or None if it is none."""
    height, width = part.shape[-2:]
    views = np.lib.stride_tricks.sliding_window_view(whole[0, 0], (height, width))
    places = np.argwhere((views == part[0, 0]).all((2, 3)))
    for top, left in places.tolist():
        if np.array_equal(whole[..., top : top + height, left : left + width], part):
            return top, left
    return None


def test_codes_become_the_flow_by_the_documented_line(clip_corpus):
    options = {"crop": 16, "random": True, "mirror": True, "subtract_mean": True, "resize": 20}
    codes = flowprep.ClipSource(clip_corpus, 3, content="codes", **options)
    flow = flowprep.ClipSource(clip_corpus, 3, content="flow", **options)
    for i in range(len(codes)):
        clip = codes[i]
        pixels = (clip["codes"] - clip["zero_point"][..., None, None]) * clip["scale"][..., None, None]
        # resized codes are rounded to whole numbers
        assert np.abs(pixels - flow[i]["flow"]).max() <= clip["scale"].max()
        assert np.abs(pixels - flow[i]["flow"]).mean() <= 0.3 * clip["scale"].max()
    plain = flowprep.ClipSource(clip_corpus, 3, content=("flow", "codes"), crop=9, random=True, mirror=True)[
        4
    ]
    pixels = (plain["codes"] - plain["zero_point"][..., None, None]) * plain["scale"][..., None, None]
    assert np.array_equal(pixels, plain["flow"])


def test_the_mean_of_the_whole_field_is_subtracted(clip_corpus):
    clip = flowprep.ClipSource(clip_corpus, 4, crop=8, subtract_mean=True)[0]
    video = clip_corpus["Jump/a1"]
    expected = video.flow(4, 4)[..., 8:16, 16:24] - video.mean_flow[4:8, :, None, None]
    assert np.allclose(clip["flow"], expected, atol=1e-6)


def test_resized_crops_are_crops_of_resized_frames(clip_corpus):
    source = flowprep.ClipSource(clip_corpus, 2, resize=18, crop=(12, 14), content=("flow", "rgb"))
    clip, video = source[5], clip_corpus["Sit/c1"]
    assert clip["start"] == 5
    rows, columns = slice(3, 15), slice(8, 22)  # of 18 x 30 pixels
    flow = video.flow(5, 2, size=(18, 30))[..., rows, columns]
    assert np.allclose(clip["flow"], flow, atol=2e-3)
    rgb = video.rgb(5, 2, size=(18, 30))[:, rows, columns].astype(int)
    assert np.abs(rgb - clip["rgb"]).max() <= 1


def test_random_short_sides_are_within_the_range(clip_corpus):
    source = flowprep.ClipSource(clip_corpus, 1, resize=(16, 20), crop=16, random=True)
    sides = {source._plan(0, epoch).view.frame for epoch in range(80)}
    assert sides == {resized(24, 40, side) for side in range(16, 21)}


@pytest.mark.parametrize(("crops", "resize"), [(5, None), (10, None), (10, 20)])
def test_several_crops(clip_corpus, crops, resize):
    clip = flowprep.ClipSource(
        clip_corpus, 2, crop=(10, 14), crops=crops, resize=resize, content=("flow", "codes", "rgb")
    )[0]
    size = (20, 33) if resize else (24, 40)
    video = clip_corpus["Jump/a1"]
    flow, rgb = video.flow(5, 2, size=size), video.rgb(5, 2, size=size)
    bottom, right = size[0] - 10, size[1] - 14
    places = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
    assert clip["flow"].shape == (crops, 2, 2, 10, 14) and clip["scale"].shape == (crops, 2, 2)
    for number, (top, left) in enumerate(places * (crops // 5)):
        shown = flow[..., top : top + 10, left : left + 14]
        pixels = rgb[:, top : top + 10, left : left + 14]
        if number >= 5:
            shown = shown[..., ::-1] * np.array([-1, 1], np.float32)[:, None, None]
            pixels = pixels[:, :, ::-1]
        assert np.array_equal(clip["flow"][number], shown)
        assert np.array_equal(clip["rgb"][number], pixels)
        decoded = clip["codes"][number] - clip["zero_point"][number, ..., None, None]
        decoded = decoded * clip["scale"][number, ..., None, None]
        assert np.abs(decoded - shown).max() <= 0.51 * np.abs(clip["scale"]).max() * (1 if resize else 1e-3)


def test_random_choices_depend_on_seed_epoch_and_number_only(clip_corpus):
    options = {"crop": 8, "random": True, "mirror": True}
    source = flowprep.ClipSource(clip_corpus, 3, seed=5, **options)
    other = flowprep.ClipSource(clip_corpus, 3, seed=6, **options)
    assert same(source.sample(4, 2), pickle.loads(pickle.dumps(source))[(2, 4)])
    assert same(source[4], source.sample(4, 0)) and not same(source[4], source.sample(4, 1))
    assert not same(source[4], other[4])
    assert same(source.sample(4, np.random.default_rng(9)), source.sample(4, np.random.default_rng(9)))
    still = flowprep.ClipSource(clip_corpus, 3, crop=8)
    assert same(still.sample(1, 0), still.sample(1, 7))


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_other_processes_read_the_same(clip_corpus, method):
    source = flowprep.ClipSource(clip_corpus, 3, crop=8, random=True)
    here = source[1]  # opens shards before the fork
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert same(pool.map(source.__getitem__, [1])[0], here)


def test_a_batch_has_the_clips_one_after_the_other(clip_corpus):
    source = flowprep.ClipSource(clip_corpus, 3, crop=8, random=True, mirror=True, content=("codes", "rgb"))
    keys = [(3, 2), (0, 6), 1]
    batch = source.batch(keys)
    assert batch["id"] == ["Run/b1", "Sit/c2", "Jump/a2"] and batch["codes"].shape == (3, 3, 2, 8, 8)
    for i, key in enumerate(keys):
        assert same({name: value[i] for name, value in batch.items()}, source[key])
    out = {name: np.empty((2, *shape), dtype) for name, (shape, dtype) in source.shapes().items()}
    given = source.batch(keys[:2], out=out)
    assert all(given[name] is array and np.array_equal(array, batch[name][:2]) for name, array in out.items())


def test_the_memory_of_a_batch_is_used_again_only_when_nobody_has_it(clip_corpus):
    source = flowprep.ClipSource(clip_corpus, 3, crop=8)
    first = source.batch([0, 1])["flow"]
    row, copy = first[1, 0], first.copy()
    address = first.ctypes.data
    del first
    second = source.batch([2, 3])["flow"]  # a part of the first is still in use
    assert second.ctypes.data != address and np.array_equal(row, copy[1, 0])
    del row
    assert source.batch([4, 5])["flow"].ctypes.data == address


def test_numbers_of_clips(clip_corpus):
    source = flowprep.ClipSource(clip_corpus, 3, crop=8)
    assert same(source[-1], source[6]) and same(source[np.int64(2)], source[2])
    for wrong in (7, -8):
        with pytest.raises(IndexError, match=f"clip {wrong}; the source has 7 clips"):
            source[wrong]
    with pytest.raises(TypeError):
        source[1.5]


def test_repr_is_stable_and_tells_sources_apart(clip_corpus):
    options = {"crop": 8, "random": True}
    source = flowprep.ClipSource(clip_corpus, 3, **options)
    assert repr(source) == repr(pickle.loads(pickle.dumps(source)))
    assert repr(source) == repr(flowprep.ClipSource(clip_corpus.path, 3, **options))
    assert "7 videos, 7 clips of flow, length=3, crop=(8, 8), random=True, seed=0" in repr(source)
    assert repr(source) != repr(flowprep.ClipSource(clip_corpus, 3, videos=IDS[::-1], **options))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"length": 0}, "length is 0; allowed: a whole number from 1"),
        ({"spacing": 0}, "spacing is 0"),
        ({"stride": -1}, "stride is -1"),
        ({"stride": 2, "segments": 2}, "stride is 2 and segments is 2; allowed: one of them"),
        ({"crops": 3, "crop": 4}, "crops is 3; allowed: 1, 5"),
        ({"crops": 10}, "crops is 10; allowed: 1 without crop="),
        ({"crop": (4, 5, 6)}, r"crop is \(4, 5, 6\)"),
        ({"crop": 2.5}, r"crop is \(2.5, 2.5\)"),
        ({"mirror": True}, "mirror is True; allowed: False without random=True"),
        ({"resize": (20, 22), "crop": 8}, r"resize is \(20, 22\); allowed: one number, unless random"),
        ({"resize": (22, 20), "crop": 8, "random": True}, r"allowed: \(least, greatest\)"),
        ({"resize": (20, 22), "random": True}, "allowed: one number without crop="),
        ({"short": "pad"}, "short is 'pad'"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": "x"}, "seed is 'x'; allowed: a whole number from 0"),
        ({"content": "flows"}, "content is 'flows'; allowed: flow, codes, rgb.*did you mean 'flow'"),
        ({"content": ()}, r"content is \(\); allowed: different names"),
    ],
)
def test_arguments_that_are_not_allowed(clip_corpus, options, says):
    with pytest.raises(SettingsError, match=says):
        flowprep.ClipSource(clip_corpus, **options)


def test_a_crop_that_is_larger_than_a_video(clip_corpus):
    with pytest.raises(UsageError, match="crop is 32x32 and Jump/a1 is 40x24 pixels: make crop smaller"):
        flowprep.ClipSource(clip_corpus, crop=32)
    with pytest.raises(
        UsageError, match=r"crop is 20x20 and Jump/a1 is 27x16 pixels after resize: .*make resize larger"
    ):
        flowprep.ClipSource(clip_corpus, crop=20, resize=16)
    assert flowprep.ClipSource(clip_corpus, 2, crop=32, resize=48)[0]["flow"].shape == (2, 2, 32, 32)


def test_a_batch_fills_the_arrays_it_is_given_and_refuses_others(clip_corpus):
    source = flowprep.ClipSource(clip_corpus, 2, crop=8, content="codes")
    shapes = source.shapes()
    out = {name: np.empty((2, *shape), dtype) for name, (shape, dtype) in shapes.items()}
    batch = source.batch([1, 3], out)
    assert all(batch[name] is array for name, array in out.items())
    assert same(batch, source.batch([1, 3]))
    codes, rest = out["codes"], {name: out[name] for name in ("scale", "zero_point")}
    for wrong, says in (
        (rest, "out has the names scale, zero_point; allowed here: codes, scale, zero_point"),
        ({**out, "label": np.empty(2)}, "out has the names .*label; allowed here"),
        (
            {**rest, "codes": codes[:1]},
            r"out\['codes'\] is uint8 of the shape \(1, 2, 2, 8, 8\); allowed here",
        ),
        ({**rest, "codes": codes.astype(np.float32)}, r"out\['codes'\] is float32"),
        ({**rest, "codes": codes[..., ::-1]}, r"out\['codes'\] is not C-contiguous"),
        ({**rest, "codes": codes.tolist()}, r"out\['codes'\] is a list"),
    ):
        with pytest.raises(UsageError, match=says):
            source.batch([1, 3], wrong)


def test_keys_that_do_not_exist(clip_corpus):
    source = flowprep.ClipSource(clip_corpus, 2, crop=8, random=True)
    with pytest.raises(SettingsError, match=r"keys is \[\]; allowed: one clip or more"):
        source.batch([])
    for key, says in (
        ((0, 1, 2), r"the key of a clip is \(0, 1, 2\); allowed: its number, or \(epoch, number\)"),
        ((-1, 1), "epoch is -1; allowed: a whole number from 0"),
    ):
        for read in (source.__getitem__, lambda key: source.batch([key])):
            with pytest.raises(SettingsError, match=says):
                read(key)
