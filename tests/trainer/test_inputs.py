from collections import Counter

import numpy as np
import pytest
import torch
from fakes import CLASSES, HEIGHT, PAIRS, WIDTH, FakeCorpus, FakeVideo, small

from flowprep.errors import UsageError
from trainer import augment, clips, inputs
from trainer.lists import Examples


def test_frames_are_equally_spaced_from_first_to_last():
    assert clips.spaced_starts(100, 10, 25).tolist() == np.rint(np.linspace(0, 90, 25)).astype(int).tolist()
    assert clips.spaced_starts(121, 1, 25).tolist() == list(range(0, 121, 5))
    assert clips.spaced_starts(9, 1, 1).tolist() == [4]
    assert clips.spaced_starts(5, 10, 3).tolist() == [0, 0, 0]


def test_samples_are_uniform_over_classes_whatever_their_videos():
    labels = [0] * 50 + [1] * 2 + [2]
    drawn = clips.BalancedClips(labels, [20] * 53, 10, seed=0)
    videos = [drawn.draw(step, i)[0] for step in range(100) for i in range(30)]
    by_class = Counter(labels[v] for v in videos)
    # 3000 draws of probability 1/3: five standard deviations are 129
    assert all(abs(by_class[c] - 1000) < 130 for c in range(3))
    assert abs(Counter(videos)[50] - 500) < 105  # within a class, uniform over its videos


def test_a_sample_follows_from_seed_step_and_number_alone():
    a, b = (clips.BalancedClips([0, 1], [40, 40], 10, seed=7) for _ in range(2))
    for step in range(3):
        a.draw(step, 99)
    assert a.draw(5, 3)[:2] == b.draw(5, 3)[:2]
    assert a.draw(5, 3)[2].random() == b.draw(5, 3)[2].random()
    starts = {a.draw(s, 0)[1] for s in range(500)}
    assert starts == set(range(31))


def test_channels_are_u1_v1_u2_v2():
    video = FakeVideo("x", "RedSpin", seed=0)
    recipe = small("temporal", input={"stack": 4, "subtract_mean": False, "flow_scale": 1.0})
    planes = inputs.load_clip(video, 3, recipe).normalised().numpy()
    flow = video.flow(3, 4)
    assert planes.shape == (8, HEIGHT, WIDTH)
    for k in range(4):
        np.testing.assert_array_equal(planes[2 * k], flow[k, 0])
        np.testing.assert_array_equal(planes[2 * k + 1], flow[k, 1])


def test_each_field_loses_its_own_mean_and_is_scaled():
    video = FakeVideo("x", "RedZoom", seed=0)
    recipe = small("temporal", input={"stack": 4, "flow_scale": 0.5})
    planes = inputs.load_clip(video, 0, recipe).normalised()
    assert planes.mean((1, 2)).abs().max() < 1e-5
    left = (video.flow(0, 1)[0, 0] - video.mean_flow[0, 0]) / 0.5
    np.testing.assert_allclose(planes[0], left, atol=1e-6)


def test_the_mean_is_of_the_whole_field_not_of_the_crop():
    video = FakeVideo("x", "RedZoom", seed=0)
    recipe = small("temporal", input={"flow_scale": 1.0})
    clip = inputs.load_clip(video, 0, recipe)
    corner = clip.normalised(0, 0, 20)
    assert torch.equal(corner, clip.normalised()[:, :20, :20])
    assert corner.mean((1, 2)).abs().max() > 0.1


def test_a_short_video_repeats_its_last_flow():
    video = FakeVideo("x", "RedZoom", seed=0, pairs=2)
    planes = inputs.load_clip(video, 0, small("temporal", input={"stack": 5})).normalised()
    assert planes.shape[0] == 10
    for k in (2, 3, 4):
        assert torch.equal(planes[2 * k : 2 * k + 2], planes[2:4])
    assert not torch.equal(planes[0:2], planes[2:4])


def test_resizing_scales_displacements():
    video = FakeVideo("x", "RedZoom", seed=0)
    recipe = small("temporal", input={"resize": 20, "crop": 20, "flow_scale": 1.0, "subtract_mean": False})
    half = inputs.load_clip(video, 0, recipe).normalised().numpy()
    full = video.flow(0, 1)[0]
    assert half.shape[1:] == (20, 28)
    np.testing.assert_allclose(half[:2], full.reshape(2, 20, 2, 28, 2).mean((2, 4)) / 2, atol=1e-5)
    means = inputs.load_clip(video, 0, small("temporal", input={"resize": 20, "crop": 20})).mean
    np.testing.assert_allclose(means[:2], [0.25, -0.125], atol=1e-6)


def test_spatial_inputs_are_normalised_frames():
    video = FakeVideo("x", "RedZoom", seed=0)
    recipe = small(input={"rgb_mean": [10, 20, 30], "rgb_scale": [2, 4, 8]})
    planes = inputs.load_clip(video, 2, recipe).normalised()
    want = (video.rgb(2).astype(np.float32) - [10, 20, 30]) / [2, 4, 8]
    np.testing.assert_allclose(planes.permute(1, 2, 0), want, atol=1e-5)


def test_flip_negates_u_only_in_flow():
    planes = torch.arange(2 * 4 * 3 * 5, dtype=torch.float32).reshape(2, 4, 3, 5)
    mirrored = augment.flip(planes, "temporal")
    assert torch.equal(mirrored[:, 0::2], -planes[:, 0::2].flip(-1))
    assert torch.equal(mirrored[:, 1::2], planes[:, 1::2].flip(-1))
    assert torch.equal(augment.flip(planes, "spatial"), planes.flip(-1))
    assert planes[0, 0, 0, 1] == 1  # the original is left alone


def test_ten_crops_are_corners_and_centre_and_their_flips():
    planes = torch.randn(4, 30, 40)
    crops = augment.fixed_crops(planes, 20, 10, "temporal")
    assert crops.shape == (10, 4, 20, 20)
    places = [(0, 0), (0, 20), (10, 0), (10, 20), (5, 10)]
    for crop, (y, x) in zip(crops, places, strict=False):
        assert torch.equal(crop, planes[:, y : y + 20, x : x + 20])
    assert torch.equal(crops[5:, 0::2], -crops[:5, 0::2].flip(-1))
    assert torch.equal(crops[5:, 1::2], crops[:5, 1::2].flip(-1))
    assert torch.equal(augment.fixed_crops(planes, 20, 5, "temporal"), crops[:5])
    assert torch.equal(augment.fixed_crops(planes, 20, 2, "temporal"), crops[[4, 9]])
    assert torch.equal(augment.fixed_crops(planes, 20, 1, "temporal"), crops[[4]])


def test_training_flips_half_of_the_samples_with_u_negated():
    """An expansion stays an expansion in the mirror; without the sign of u it would become something else."""
    corpus = FakeCorpus(clips=1)
    name = "RedZoom/v_RedZoom_g01_c01.avi"
    recipe = small("temporal", input={"crop": 40, "flow_scale": 1.0})
    samples = inputs.TrainingClips(corpus, (name,), (3,), recipe)
    still = small("temporal", input={"crop": 40, "flow_scale": 1.0, "flip": False})
    plain = inputs.TrainingClips(corpus, (name,), (3,), still)
    flipped = 0
    sign = np.sign(corpus[name]._speed)
    for i in range(40):
        planes, label = samples[0, i]
        assert label == 3
        slope = (planes[0, :, 1:] - planes[0, :, :-1]).mean() * sign
        assert slope > 0.01  # du/dx keeps its sign: mirrored and negated
        same = plain[0, i][0]
        if not torch.equal(planes, same):
            assert torch.equal(planes, augment.flip(same, "temporal"))
            flipped += 1
    assert 8 < flipped < 32  # 40 draws of 1/2: 3.8 standard deviations


def test_colour_jitter_shifts_whole_channels():
    corpus = FakeCorpus(clips=1)
    name = "RedZoom/v_RedZoom_g01_c01.avi"
    base = {"crop": 40, "flip": False}
    with_it = inputs.TrainingClips(corpus, (name,), (0,), small(input={**base, "jitter": 0.5}))[0, 0][0]
    without = inputs.TrainingClips(corpus, (name,), (0,), small(input={**base, "jitter": 0.0}))[0, 0][0]
    shift = with_it - without
    assert shift.std((1, 2)).max() < 1e-5
    assert shift.mean((1, 2)).abs().max() > 0.01


def test_colour_jitter_has_the_published_size():
    """On 0-255 images alpha * lambda has deviations of 5.55, 0.48 and 0.11 along the three axes."""
    rng = np.random.default_rng(0)
    shifts = np.stack([augment.colour_shift(rng, 0.1).numpy() for _ in range(4000)])
    np.testing.assert_allclose((shifts @ augment._AXES).std(0), [5.546, 0.479, 0.115], rtol=0.05)
    np.testing.assert_allclose(shifts.std(0), [3.17, 3.22, 3.25], rtol=0.05)


def test_what_does_not_fit_is_refused():
    corpus = FakeCorpus()
    with pytest.raises(UsageError, match=r"input.crop is 48 and BlueSpin.* is 56x40 pixels"):
        inputs.check_fit(corpus, list(corpus), small(input={"crop": 48}))
    inputs.check_fit(corpus, list(corpus), small(input={"crop": 48, "resize": 60}))
    with pytest.raises(UsageError, match=r"needs flow, and the corpus .* holds none"):
        inputs.check_fit(FakeCorpus(flow=False), list(corpus), small("temporal"))
    with pytest.raises(UsageError, match=r"needs RGB frames"):
        inputs.check_fit(FakeCorpus(rgb=False), list(corpus), small("spatial"))


def test_judged_clips_cover_the_video():
    corpus = FakeCorpus(clips=1)
    examples = Examples(tuple(corpus), (0,) * len(corpus), CLASSES)
    judged = inputs.JudgedClips(corpus, examples.ids, small("temporal", input={"stack": 3}), frames=4)
    assert len(judged) == 4 * len(corpus)
    position, planes = judged[7]
    assert position == 1
    recipe = small("temporal", input={"stack": 3})
    last = inputs.load_clip(corpus[examples.ids[1]], PAIRS - 3, recipe).normalised()
    assert torch.equal(planes, last)
