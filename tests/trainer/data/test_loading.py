import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import torch

from flowprep import encode
from flowprep.codec.images import decode_codes
from flowprep.errors import UsageError
from tests.support.fakes import CLASSES, HEIGHT, PAIRS, WIDTH, FakeCorpus, FakeVideo, small
from trainer.data import dataset, flow_stacks, loading, sampling, transforms
from trainer.data.annotations import Examples
from trainer.data.clip import Clip


def test_frames_are_equally_spaced_from_first_to_last():
    assert (
        sampling.spaced_starts(100, 10, 25).tolist() == np.rint(np.linspace(0, 90, 25)).astype(int).tolist()
    )
    assert sampling.spaced_starts(121, 1, 25).tolist() == list(range(0, 121, 5))
    assert sampling.spaced_starts(9, 1, 1).tolist() == [4]
    assert sampling.spaced_starts(5, 10, 3).tolist() == [0, 0, 0]


def test_samples_are_uniform_over_classes_of_any_size():
    labels = [0] * 50 + [1] * 2 + [2]
    drawn = dataset.BalancedClips(labels, [11] * 53, seed=0)
    videos = [drawn.draw(step, i)[0] for step in range(100) for i in range(30)]
    by_class = Counter(labels[v] for v in videos)
    # 3000 draws of probability 1/3: five standard deviations are 129
    assert all(abs(by_class[c] - 1000) < 130 for c in range(3))
    assert abs(Counter(videos)[50] - 500) < 105  # within a class, uniform over its videos


def test_a_sample_depends_on_seed_step_and_number_only():
    a, b = (dataset.BalancedClips([0, 1], [31, 31], seed=7) for _ in range(2))
    for step in range(3):
        a.draw(step, 99)
    assert a.draw(5, 3)[:2] == b.draw(5, 3)[:2]
    assert a.draw(5, 3)[2].random() == b.draw(5, 3)[2].random()
    starts = {a.draw(s, 0)[1] for s in range(500)}
    assert starts == set(range(31))


def test_channels_are_u1_v1_u2_v2():
    video = FakeVideo("x", "RedSpin", seed=0)
    recipe = small("temporal", input={"stack": 4, "subtract_mean": False, "flow_scale": 1.0})
    planes = loading.load_clip(video, 3, recipe).normalised().numpy()
    flow = video.flow(3, 4)
    assert planes.shape == (8, HEIGHT, WIDTH)
    for k in range(4):
        np.testing.assert_allclose(planes[2 * k], flow[k, 0], atol=1e-6)
        np.testing.assert_allclose(planes[2 * k + 1], flow[k, 1], atol=1e-6)


def test_each_flow_loses_its_own_mean_and_is_scaled():
    video = FakeVideo("x", "RedZoom", seed=0)
    recipe = small("temporal", input={"stack": 4, "flow_scale": 0.5})
    planes = loading.load_clip(video, 0, recipe).normalised()
    assert planes.mean((1, 2)).abs().max() < 0.001  # half a code of 0.01 px
    left = (video.flow(0, 1)[0, 0] - video.mean_flow[0, 0]) / 0.5
    np.testing.assert_allclose(planes[0], left, atol=1e-6)


def test_the_mean_is_that_of_the_whole_flow_not_of_the_crop():
    video = FakeVideo("x", "RedZoom", seed=0)
    recipe = small("temporal", input={"flow_scale": 1.0})
    corner = loading.load_clip(video, 0, recipe, (0, 0, 20, 20)).normalised()
    assert torch.equal(corner, loading.load_clip(video, 0, recipe).normalised()[:, :20, :20])
    assert corner.mean((1, 2)).abs().max() > 0.1


@pytest.mark.parametrize("stream", ["spatial", "temporal"])
@pytest.mark.parametrize(
    "changes", [{}, {"resize": 24}, {"trajectories": True}, {"bidirectional": True, "stack": 4}]
)
def test_a_window_is_a_part_of_the_whole_clip(stream, changes):
    recipe = small(stream, input={**changes, "crop": 20} if stream == "temporal" else {"crop": 20})
    video = FakeVideo("x", "RedZoom", seed=0)
    whole = loading.load_clip(video, 2, recipe).normalised()
    part = loading.load_clip(video, 2, recipe, (3, 1, 20, 21)).normalised()
    assert torch.equal(part, whole[:, 3:23, 1:22])


def test_a_short_video_repeats_its_last_flow():
    video = FakeVideo("x", "RedZoom", seed=0, pairs=2)
    planes = loading.load_clip(video, 0, small("temporal", input={"stack": 5})).normalised()
    assert planes.shape[0] == 10
    for k in (2, 3, 4):
        assert torch.equal(planes[2 * k : 2 * k + 2], planes[2:4])
    assert not torch.equal(planes[0:2], planes[2:4])


def bilinear(field, x, y):
    """The value at a point (x, y) inside the field, from its four neighbours."""
    left, top = int(min(x, WIDTH - 2)), int(min(y, HEIGHT - 2))
    a, b = x - left, y - top
    upper = (1 - a) * field[top, left] + a * field[top, left + 1]
    lower = (1 - a) * field[top + 1, left] + a * field[top + 1, left + 1]
    return (1 - b) * upper + b * lower


def walk(fields, x, y, step=1):
    """(u, v) of each field along the trajectory from pixel (x, y): equation 2 in plain Python."""
    seen = []
    for u, v in fields.astype(np.float64):
        seen.append((bilinear(u, x, y), bilinear(v, x, y)))
        x = min(max(x + seen[-1][0] / step, 0), WIDTH - 1)
        y = min(max(y + seen[-1][1] / step, 0), HEIGHT - 1)
    return np.array(seen)  # (L, 2)


class Waves(FakeVideo):
    """Flow of up to about 6 px that varies over the frame and in time; backward flow is different."""

    def exact(self, start, count, backward=False):
        y, x = np.mgrid[:HEIGHT, :WIDTH]
        a = 1.0 if backward else 0.0
        fields = [
            [3 * np.sin(x / 9 + y / 7 + i / 3 + a) + 3, 4 * np.cos(x / 8 - i / 2 + a) - y / 20]
            for i in range(start, start + count)
        ]
        return np.array(fields, np.float32)

    mean_flow = property(lambda self: self.exact(0, self.num_pairs).mean((2, 3)))
    mean_flow_backward = property(lambda self: self.exact(0, self.num_pairs, True).mean((2, 3)))


@pytest.mark.parametrize("subtract_mean", [False, True])
@pytest.mark.parametrize("trajectories", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("step", [1, 2])
def test_every_temporal_input_is_as_the_paper_defines_it(step, bidirectional, trajectories, subtract_mean):
    """Each of L = 6 fields at each pixel, in plain loops.

    Within 0.03 px: OpenCV before 4.12 reads at 1/32 px, and the fields change by less than 0.9 px per pixel.
    """
    length, start = 6, 2
    video = Waves("x", "RedSpin", seed=0)
    video.step = step
    options = {"bidirectional": bidirectional, "trajectories": trajectories, "subtract_mean": subtract_mean}
    recipe = small("temporal", input={"stack": length, "flow_scale": 1.0, **options})
    got = loading.load_clip(video, start, recipe).normalised().numpy().reshape(length, 2, HEIGHT, WIDTH)

    forward, backward = video.flow(0, PAIRS), video.flow(0, PAIRS, backward=True)
    if bidirectional:
        t = start + 3 + step - 1  # frames t - 3 to t and t to t + 3
        # Backward flow i starts at frame i + step: those of frames t, t - 1 and t - 2.
        parts = [forward[t : t + 3], np.stack([backward[t - k - step] for k in range(3)])]
        means = [video.mean_flow[t : t + 3], video.mean_flow_backward[t - step - np.arange(3)]]
        assert t - 2 - step == start  # the first pair that is read
        reach = t + 2 - start + 1
    else:
        parts, reach = [forward[start : start + length]], length
        means = [video.mean_flow[start : start + length]]
    assert sampling.ClipSpec.from_recipe(recipe).length(step) == reach
    want = np.empty_like(got)
    for y in range(HEIGHT):
        for x in range(WIDTH):
            seen = [walk(p, x, y, step) if trajectories else p[:, :, y, x] for p in parts]
            want[:, :, y, x] = np.concatenate(seen)
    if subtract_mean:
        want -= np.concatenate(means)[:, :, None, None]
    np.testing.assert_allclose(got, want, atol=0.03 if trajectories else 1e-5)


class Stored(Waves):
    """Waves after encoding to JPEG and decoding. A mirrored video is mirrored before it is encoded."""

    def __init__(self, *, mirrored):
        super().__init__("x", "RedSpin", seed=0)
        self._mirrored = mirrored

    def exact(self, start, count, backward=False):
        flow = super().exact(start, count, backward)
        return np.ascontiguousarray(flow[..., ::-1] * [[[-1]], [[1]]], np.float32) if self._mirrored else flow

    def _coded(self, start, count, backward):
        fields = encode(self.exact(start, count, backward)).fields
        codes = np.array([decode_codes(field.jpeg, (HEIGHT, WIDTH)) for field in fields])
        facts = np.array([field[1:4] for field in fields], np.float32)
        return codes.reshape(count, 2, HEIGHT, WIDTH), *facts.T.reshape(3, count, 2)


@pytest.mark.parametrize("subtract_mean", [False, True])
@pytest.mark.parametrize("trajectories", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_stored_jpegs_of_a_mirrored_video_give_the_flipped_input(
    bidirectional, trajectories, subtract_mean
):
    """Within 0.01 px on average, a fifth of the codec's error. A wrong sign would make 3 px.

    Blocks of 8x8 fall on the same pixels in both, so that only what is rounded the other way differs, by a
    few codes of 0.05 px.
    """
    options = {"bidirectional": bidirectional, "trajectories": trajectories, "subtract_mean": subtract_mean}
    recipe = small("temporal", input={"stack": 6, "flow_scale": 1.0, **options})
    plain, mirrored = (loading.load_clip(Stored(mirrored=m), 2, recipe) for m in (False, True))
    mirrored = mirrored.normalised()
    differs = (transforms.flip(plain, "temporal").normalised() - mirrored).abs()
    assert differs.mean() < 0.01 and differs.max() < 0.4
    assert (plain.normalised().flip(-1) - mirrored)[0::2].abs().mean() > 1


def stack(video, start, rng=None, **options):
    """A temporal input in pixels, (L, 2, H, W)."""
    recipe = small("temporal", input={"stack": 6, "flow_scale": 1.0, **options})
    return loading.load_clip(video, start, recipe, rng=rng).normalised().unflatten(0, (6, 2)).numpy()


class Backwards(Waves):
    """Waves played backward at fixed positions: pair i is the negated pair N - 1 - i."""

    def exact(self, start, count, backward=False):
        last = self.num_pairs - 1
        return -super().exact(last - start - count + 1, count, backward)[::-1]


@pytest.mark.parametrize("subtract_mean", [False, True])
@pytest.mark.parametrize("trajectories", [False, True])
def test_the_reversed_control_is_the_video_played_backward(trajectories, subtract_mean):
    plain, turned = Waves("x", "RedSpin", seed=0), Backwards("x", "RedSpin", seed=0)
    options = {"trajectories": trajectories, "subtract_mean": subtract_mean}
    got = stack(plain, 2, control="reversed", **options)
    # Codes of 0.05 px may round differently. A wrong sign or order would make whole pixels.
    np.testing.assert_allclose(got, stack(turned, PAIRS - 2 - 6, **options), atol=0.1)
    assert np.abs(got - stack(plain, 2, **options)).mean() > 1


def test_a_reversed_bidirectional_stack_begins_with_backward_flow():
    """The backward flow from the middle frame is the forward flow of the video played backward."""
    video = Waves("x", "RedSpin", seed=0)
    plain = stack(video, 2, bidirectional=True)
    turned = stack(video, 2, bidirectional=True, control="reversed")
    assert np.array_equal(turned, np.concatenate([plain[3:], plain[:3]]))


def test_shuffled_flows_are_the_same_in_another_order():
    video = Waves("x", "RedSpin", seed=0)
    plain, mixed = stack(video, 2), stack(video, 2, control="shuffled")
    order = [[np.array_equal(a, b) for b in plain].index(True) for a in mixed]
    assert sorted(order) == list(range(6)) and order != sorted(order)
    assert np.array_equal(mixed, stack(video, 2, control="shuffled"))  # in evaluation the order is fixed
    orders = {stack(video, 2, np.random.default_rng(n), control="shuffled").tobytes() for n in range(9)}
    assert len(orders) == 9  # in training each sample has its own
    halves = stack(video, 2, bidirectional=True, control="shuffled")
    whole = stack(video, 2, bidirectional=True)
    for half in (slice(3), slice(3, 6)):
        assert {f.tobytes() for f in halves[half]} == {f.tobytes() for f in whole[half]}


def test_shuffled_samples_depend_on_seed_step_and_number_only():
    corpus = FakeCorpus()
    examples = Examples(tuple(corpus), tuple(CLASSES.index(n) for n in corpus.labels.values()), CLASSES)
    recipe = small("temporal", input={"control": "shuffled"})
    a, b = (dataset.TrainingClips([[(corpus, examples)]], recipe) for _ in range(2))
    assert all(torch.equal(a[s, 1][0].planes, b[s, 1][0].planes) for s in range(3))


def test_a_control_is_of_a_temporal_input():
    for stream, name in (("spatial", "reversed"), ("temporal", "still")):
        with pytest.raises(UsageError, match=r"input.control is '\w+'; allowed: reversed \| shuffled, of a"):
            small(stream, input={"control": name})


def test_trajectories_in_a_growing_field_are_powers():
    """In d(p) = s (p - c) a point is at c + (1 + s)^k (p - c) after k fields, and stays within the frame."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    x, y = x - 27.5, y - 19.5
    s, fields = 0.05, 5
    got = flow_stacks.along_trajectories(np.tile(s * np.stack([x, y]), (fields, 1, 1, 1)).astype(np.float32))
    for k in range(fields):
        np.testing.assert_allclose(got[k, 0], s * np.clip((1 + s) ** k * x, -27.5, 27.5), atol=0.002)
        np.testing.assert_allclose(got[k, 1], s * np.clip((1 + s) ** k * y, -19.5, 19.5), atol=0.002)


def test_a_short_video_fills_both_directions():
    """Three pairs for L = 6: the stack is centred on the video, and missing pairs are repeated."""
    forward, backward = sampling.pairs_of(0, 6, 3, 1, bidirectional=True)
    assert forward.tolist() == [1, 2, 2] and backward.tolist() == [0, 0, 0]
    forward, backward = sampling.pairs_of(0, 6, 6, 1, bidirectional=True)
    assert forward.tolist() == [3, 4, 5] and backward.tolist() == [2, 1, 0]
    planes = loading.load_clip(FakeVideo("x", "RedZoom", 0, pairs=1), 0, bidirectional(6)).normalised()
    assert planes.shape[0] == 12


def bidirectional(length):
    return small("temporal", input={"stack": length, "bidirectional": True})


def test_backward_flow_must_be_stored():
    corpus = FakeCorpus()
    with pytest.raises(UsageError, match=r"needs backward flow, .* extract it with --backward"):
        loading.check_fit(corpus, list(corpus), bidirectional(4))
    loading.check_fit(FakeCorpus(backward=True), list(corpus), bidirectional(4))
    with pytest.raises(UsageError, match=r"input.stack is 5; allowed: an even number"):
        bidirectional(5)


def test_resizing_scales_displacements():
    video = FakeVideo("x", "RedZoom", seed=0)
    recipe = small("temporal", input={"resize": 20, "crop": 20, "flow_scale": 1.0, "subtract_mean": False})
    half = loading.load_clip(video, 0, recipe).normalised().numpy()
    full = video.flow(0, 1)[0]
    assert half.shape[1:] == (20, 28)
    np.testing.assert_allclose(half[:2], full.reshape(2, 20, 2, 28, 2).mean((2, 4)) / 2, atol=1e-5)
    bias = loading.load_clip(video, 0, small("temporal", input={"resize": 20, "crop": 20})).bias
    np.testing.assert_allclose(bias[:2], [-0.5, 0.25], atol=1e-6)  # of flow_scale, 0.5 px


def test_spatial_inputs_are_normalised_frames():
    video = FakeVideo("x", "RedZoom", seed=0)
    recipe = small(input={"rgb_mean": [10, 20, 30], "rgb_scale": [2, 4, 8]})
    planes = loading.load_clip(video, 2, recipe).normalised()
    want = (video.rgb(2).astype(np.float32) - [10, 20, 30]) / [2, 4, 8]
    np.testing.assert_allclose(planes.permute(1, 2, 0), want, atol=1e-5)


def test_flip_negates_u_only_in_flow():
    clip = Clip(torch.arange(2 * 4 * 3 * 5).reshape(2, 4, 3, 5), torch.rand(2, 4), torch.randn(2, 4))
    planes = clip.normalised()
    mirrored = transforms.flip(clip, "temporal").normalised()
    assert torch.equal(mirrored[:, 0::2], -planes[:, 0::2].flip(-1))
    assert torch.equal(mirrored[:, 1::2], planes[:, 1::2].flip(-1))
    assert torch.equal(transforms.flip(clip, "spatial").normalised(), planes.flip(-1))
    assert torch.equal(clip.normalised(), planes)  # the original is unchanged


def test_ten_crops_are_corners_and_centre_and_their_flips():
    clip = Clip(torch.randn(4, 30, 40), torch.rand(4), torch.randn(4))
    planes = clip.normalised()
    crops = transforms.fixed_crops(clip, 20, 10, "temporal").normalised()
    assert crops.shape == (10, 4, 20, 20)
    places = [(0, 0), (0, 20), (10, 0), (10, 20), (5, 10)]
    for crop, (y, x) in zip(crops, places, strict=False):
        assert torch.equal(crop, planes[:, y : y + 20, x : x + 20])
    assert torch.equal(crops[5:, 0::2], -crops[:5, 0::2].flip(-1))
    assert torch.equal(crops[5:, 1::2], crops[:5, 1::2].flip(-1))
    assert torch.equal(transforms.fixed_crops(clip, 20, 5, "temporal").normalised(), crops[:5])
    assert torch.equal(transforms.fixed_crops(clip, 20, 2, "temporal").normalised(), crops[[4, 9]])
    assert torch.equal(transforms.fixed_crops(clip, 20, 1, "temporal").normalised(), crops[[4]])


def test_corner_windows_have_all_sizes_shapes_and_places():
    """256 pixels high, 340 wide: the frame and the sides of Wang et al. 2015."""
    sides = [256, 224, 192, 168]
    rng = np.random.default_rng(0)
    seen = Counter(transforms.corner_window(rng, 256, 340, sides) for _ in range(5000))
    shapes = Counter()
    for (top, left, h, w), times in seen.items():
        shapes[h, w] += times
        corners = {(y, x) for y in (0, 256 - h) for x in (0, 340 - w)}
        assert (top, left) in corners | {((256 - h) // 2, (340 - w) // 2)}
    # Four squares, and three pairs of neighbouring sides, both ways.
    assert set(shapes) == {(h, w) for h in sides for w in sides if abs(sides.index(h) - sides.index(w)) <= 1}
    assert len(shapes) == 10 and min(shapes.values()) > 400  # 500 each, deviation 21
    places = Counter((top, left) for top, left, h, w in seen.elements() if (h, w) == (168, 168))
    assert len(places) == 5 and min(places.values()) > 60  # 100 each, deviation 9
    # Places coincide if a side of the window is that of the frame. No window leaves the frame.
    assert all(top + h <= 256 and left + w <= 340 for top, left, h, w in seen)


def test_a_resized_window_keeps_its_values():
    ramp = torch.arange(168, dtype=torch.uint8).expand(2, 4, 192, 168)
    got = transforms.resize_clip(Clip(ramp, torch.ones(2, 4), torch.zeros(2, 4)), 224).normalised()
    assert got.shape == (2, 4, 224, 224)
    # The centre of pixel x of the new window lies at (x + 1/2) 168 / 224 - 1/2 of the old one.
    want = ((torch.arange(224) + 0.5) * 0.75 - 0.5).clamp(0, 167)
    torch.testing.assert_close(got, want.expand_as(got))
    square = Clip(torch.randn(2, 224, 224), torch.ones(2), torch.zeros(2))
    assert transforms.resize_clip(square, 224) is square


def test_training_flips_half_of_the_samples_with_u_negated():
    """A mirrored expansion is an expansion. With the wrong sign of u it would not be one."""
    corpus = FakeCorpus(clips=1)
    name = "RedZoom/v_RedZoom_g01_c01.avi"
    recipe = small("temporal", input={"crop": 40, "flow_scale": 1.0})
    one = [[(corpus, Examples((name,), (3,), CLASSES))]]
    samples = dataset.TrainingClips(one, recipe)
    still = small("temporal", input={"crop": 40, "flow_scale": 1.0, "flip": False})
    plain = dataset.TrainingClips(one, still)
    flipped = 0
    sign = np.sign(corpus[name]._speed)
    for i in range(40):
        clip, label, head = samples[0, i]
        planes = clip.normalised()
        assert (label, head) == (3, 0)
        slope = (planes[0, :, 1:] - planes[0, :, :-1]).mean() * sign
        assert slope > 0.01  # du/dx keeps its sign: mirrored and negated
        same = plain[0, i][0]
        if not torch.equal(planes, same.normalised()):
            assert torch.equal(planes, transforms.flip(same, "temporal").normalised())
            flipped += 1
    assert 8 < flipped < 32  # 40 draws of 1/2: 3.8 standard deviations


def test_colour_jitter_shifts_whole_channels():
    corpus = FakeCorpus(clips=1)
    name = "RedZoom/v_RedZoom_g01_c01.avi"
    base = {"crop": 40, "flip": False}
    one = [[(corpus, Examples((name,), (3,), CLASSES))]]
    with_it = dataset.TrainingClips(one, small(input={**base, "jitter": 0.5}))[0, 0][0]
    without = dataset.TrainingClips(one, small(input={**base, "jitter": 0.0}))[0, 0][0]
    shift = with_it.normalised() - without.normalised()
    assert shift.std((1, 2)).max() < 1e-5
    assert shift.mean((1, 2)).abs().max() > 0.01


def test_colour_jitter_has_the_published_size():
    """On 0-255 images alpha * lambda has deviations of 5.55, 0.48 and 0.11 along the three axes."""
    rng = np.random.default_rng(0)
    shifts = np.stack([transforms.colour_shift(rng, 0.1).numpy() for _ in range(4000)])
    np.testing.assert_allclose((shifts @ transforms.RGB_AXES).std(0), [5.546, 0.479, 0.115], rtol=0.05)
    np.testing.assert_allclose(shifts.std(0), [3.17, 3.22, 3.25], rtol=0.05)


def test_a_batch_joins_codes_and_pixels():
    """A video that has the size of the input already stays in codes; a resized one is pixels."""
    recipe = small("temporal", input={"resize": 40, "crop": 32})
    plain, large = (loading.load_clip(FakeVideo("x", "RedZoom", seed=s), 0, recipe) for s in (0, 1))
    large = large._replace(planes=large.planes.float())
    assert plain.planes.dtype == torch.uint8
    clip, y, head = dataset.batch_clips([(plain, 2, 0), (large, 3, 1)])
    assert y.tolist() == [2, 3] and head.tolist() == [0, 1]
    assert torch.equal(clip.normalised(), torch.stack([plain.normalised(), large.normalised()]))


def test_a_corpus_that_does_not_fit_is_refused():
    corpus = FakeCorpus()
    with pytest.raises(UsageError, match=r"input.crop is 48 and BlueSpin.* is 56x40 pixels"):
        loading.check_fit(corpus, list(corpus), small(input={"crop": 48}))
    loading.check_fit(corpus, list(corpus), small(input={"crop": 48, "resize": 60}))
    with pytest.raises(UsageError, match=r"needs flow, and the corpus .* holds none"):
        loading.check_fit(FakeCorpus(flow=False), list(corpus), small("temporal"))
    with pytest.raises(UsageError, match=r"needs RGB frames"):
        loading.check_fit(FakeCorpus(rgb=False), list(corpus), small("spatial"))


def test_eval_clips_cover_the_video():
    corpus = FakeCorpus(clips=1)
    examples = Examples(tuple(corpus), (0,) * len(corpus), CLASSES)
    clips = dataset.EvalClips(corpus, examples.ids, small("temporal", input={"stack": 3}), frames=4)
    assert len(clips) == 4 * len(corpus)
    position, clip = clips[7]
    assert position == 1
    recipe = small("temporal", input={"stack": 3})
    last = loading.load_clip(corpus[examples.ids[1]], PAIRS - 3, recipe)
    assert all(map(torch.equal, clip, last))


@pytest.mark.slow
def test_loaders_end_with_a_script_that_leaves_them_running():
    code = "from trainer.data import dataset; it = iter(dataset.make_loader(range(99), 2)); next(it)"
    code += "; print('end')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")
