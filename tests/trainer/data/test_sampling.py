"""The positions and the planes of the clips of each network."""

import numpy as np
import pytest
import torch

from flowprep.errors import UsageError
from tests.support.fakes import HEIGHT, WIDTH, FakeCorpus, FakeVideo, examples_of, recipe_for, small
from trainer.data import dataset, loading, sampling, transforms
from trainer.data.clip import Clip
from trainer.data.sampling import ClipSpec

# --- positions


def joint(**given):
    return ClipSpec.from_recipe(recipe_for("st_resnet", "both", input={"stack": 10, **given}))


def test_the_spec_of_a_network_is_changed_by_the_recipe():
    assert ClipSpec.from_recipe(small("temporal")) == ClipSpec("temporal", 0, (1, 1), 3, False)
    assert joint() == ClipSpec("both", 5, (5, 15), 10, False)
    assert joint(time_steps=11, spacing=[1, 15]) == ClipSpec("both", 11, (1, 15), 10, False)
    recipe = recipe_for("st_resnet", "both", test={"time_steps": 25, "spacing": 0})
    assert ClipSpec.from_recipe(recipe, evaluation=True) == ClipSpec("both", 25, (0, 0), 2, False)
    assert ClipSpec.from_recipe(recipe_for("st_resnet", "both"), evaluation=True).spacing == (10, 10)


def test_spacing_is_uniform_and_clips_stay_within_the_video():
    rng, spec = np.random.default_rng(0), joint()
    drawn = [spec.draw(rng, 100, 1) for _ in range(2200)]
    spacings = [set(np.diff(places)) for places in drawn]
    assert all(len(one) == 1 for one in spacings)
    counts = np.bincount([one.pop() for one in spacings])
    assert not counts[:5].any() and len(counts) == 16
    assert counts[5:].min() > 140  # 200 each, deviation 13
    assert min(p[0] for p in drawn) == 0 and max(p[-1] for p in drawn) == 90  # the last stack is 90 to 99


def test_a_short_video_narrows_the_spacing_and_then_spreads_the_steps():
    rng, spec = np.random.default_rng(0), joint()
    seen = {int(np.diff(spec.draw(rng, 10 + 4 * 7, 1))[0]) for _ in range(100)}
    assert seen == {5, 6, 7}
    assert spec.draw(rng, 4, 1).tolist() == [0] * 5
    # The five steps have 20 positions to begin at: four each, and all of them are drawn.
    drawn = np.array([spec.draw(rng, 29, 1) for _ in range(200)])
    assert [sorted(set(some)) for some in drawn.T.tolist()] == [
        list(range(4 * k, 4 * k + 4)) for k in range(5)
    ]


def test_eval_clips_are_spaced_over_the_video():
    recipe = recipe_for("c3d", "spatial")
    places = ClipSpec.from_recipe(recipe, evaluation=True).spaced(50, 1, 3)
    assert [p.tolist() for p in places] == [list(range(i, i + 16)) for i in (0, 17, 34)]
    spread = recipe_for("siamese_transform", "temporal", input={"stack": 10, "time_steps": 6})
    (only,) = ClipSpec.from_recipe(spread, evaluation=True).spaced(60, 1, 1)
    assert only.tolist() == [0, 10, 20, 30, 40, 50]


@pytest.mark.parametrize(
    ("step", "bidirectional", "frame"), [(1, False, 25), (2, False, 25), (3, False, 26), (1, True, 25)]
)
def test_stacks_are_centred_on_their_frames(step, bidirectional, frame):
    """The ten pairs from 20 on cover frames 20 to 30. Frame 25 is in the middle, as published."""
    sample = joint(bidirectional=bidirectional)
    assert sample.frame(20, step) == frame
    if bidirectional:  # the first forward pair is that of the frame
        assert sampling.pairs_of(20, 10, 99, step, bidirectional=True)[0][0] == frame


# --- planes


def test_a_joint_clip_is_frames_and_then_flows():
    video = FakeVideo("x", "RedSpin", seed=0, pairs=60)
    recipe = recipe_for("conv_fusion", "both", input={"stack": 10})
    places = np.array([3, 8, 20])
    clip = loading.load_clip(video, places, recipe)
    assert clip.planes.shape == (3, 23, HEIGHT, WIDTH) and clip.planes.dtype == torch.uint8
    rgb, flow = ClipSpec.from_recipe(recipe).tensors(Clip(*(part[None] for part in clip)))
    assert rgb.shape == (1, 3, 3, HEIGHT, WIDTH) and flow.shape == (1, 20, 3, HEIGHT, WIDTH)
    for t, place in enumerate(places):
        alone = small("temporal", input={"stack": 10, "flow_scale": 0.5})
        assert torch.equal(flow[0, :, t], loading.load_clip(video, int(place), alone).normalised())
        assert torch.equal(rgb[0, :, t], loading.load_clip(video, int(place) + 5, small()).normalised())


@pytest.mark.parametrize("stream", ["spatial", "both"])
def test_channels_in_the_order_of_caffe(stream):
    """input.bgr changes the order for the network only; the mean and the scale stay those of R, G, B."""
    video = FakeVideo("x", "RedSpin", seed=0, pairs=60)
    section = {"rgb_mean": [10, 20, 30], "rgb_scale": [2, 4, 8]}
    inputs = []
    for bgr in (False, True):
        recipe = recipe_for(
            "st_resnet" if stream == "both" else "resnet18", stream, input={**section, "bgr": bgr}
        )
        place = np.array([3, 8]) if stream == "both" else 3
        clip = loading.load_clip(video, place, recipe)
        inputs.append(ClipSpec.from_recipe(recipe).tensors(Clip(*(part[None] for part in clip))))
    (rgb, *flow), (bgr, *same) = inputs
    assert torch.equal(bgr, rgb[:, [2, 1, 0]]) and not torch.equal(bgr, rgb)
    assert all(map(torch.equal, flow, same))
    with pytest.raises(UsageError, match=r"input.bgr is True; allowed: false for a temporal input"):
        small("temporal", input={"bgr": True})


def test_a_joint_clip_of_resized_videos():
    video = FakeVideo("x", "RedSpin", seed=0, pairs=30)
    recipe = recipe_for("conv_fusion", "both", input={"resize": 34})
    clip = loading.load_clip(video, np.array([2]), recipe, (1, 2, 32, 32))
    assert clip.planes.shape == (1, 7, 32, 32) and clip.planes.dtype == torch.float32
    flow = small("temporal", input={"resize": 34, "stack": 2, "flow_scale": 0.5})
    alone = loading.load_clip(video, 2, flow, (1, 2, 32, 32)).normalised()
    torch.testing.assert_close(clip.normalised()[0, 3:], alone)


def test_each_flow_is_read_once():
    class Counted(FakeVideo):
        def codes(self, start, *args, **options):
            read.extend(start)
            return super().codes(start, *args, **options)

    read = []
    recipe = recipe_for("siamese_transform", "temporal", input={"stack": 4})
    loading.load_clip(Counted("x", "RedSpin", 0, pairs=60), np.array([0, 2, 30, 33]), recipe)
    assert read == [*range(6), *range(30, 37)]


def test_a_flip_of_a_joint_clip_negates_u_alone():
    clip = Clip(torch.arange(2 * 7 * 2 * 3).reshape(2, 7, 2, 3), torch.rand(2, 7), torch.randn(2, 7))
    plain, mirrored = clip.normalised().flip(-1), transforms.flip(clip, "both").normalised()
    for channel in range(7):
        sign = -1 if channel in (3, 5) else 1
        assert torch.equal(mirrored[:, channel], sign * plain[:, channel])


def test_windows_of_several_scales_are_resized_to_the_crop():
    corpus = FakeCorpus(clips=1)
    recipe = small("temporal", input={"crop": 32, "scales": [40, 32, 24], "flip": False})
    samples = dataset.TrainingClips([[(corpus, examples_of(corpus))]], recipe)
    clip, _, _ = samples.batch([(0, i) for i in range(20)])
    assert clip.planes.shape == (20, 6, 32, 32) and clip.planes.dtype == torch.uint8
    with pytest.raises(UsageError, match=r"the largest of input.scales is 48 and BlueSpin"):
        loading.check_fit(corpus, list(corpus), small("temporal", input={"scales": [48, 32]}))


def test_whole_frames_are_shown_with_their_flips():
    clip = Clip(torch.randn(3, 4, 30, 40), torch.ones(3, 4), torch.zeros(3, 4))
    shown = transforms.fixed_crops(clip, 0, 2, "temporal")
    assert shown.planes.shape == (2, 3, 4, 30, 40)
    assert torch.equal(shown.planes[0], clip.planes)
    assert torch.equal(shown.normalised()[1], transforms.flip(clip, "temporal").normalised())
    assert transforms.fixed_crops(clip, 0, 1, "temporal").planes.shape == (1, 3, 4, 30, 40)
