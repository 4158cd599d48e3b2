"""Stacks of flow, compared with the definitions of the paper."""

import numpy as np
import pytest
import torch

from flowprep import encode
from flowprep.codec.images import decode_codes
from flowprep.errors import UsageError
from tests.support.fakes import HEIGHT, PAIRS, WIDTH, FakeCorpus, FakeVideo, small
from trainer.data import flow_stacks, loading, sampling, transforms


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
