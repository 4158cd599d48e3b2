"""Crops, flips, windows and colour jitter."""

from collections import Counter

import numpy as np
import pytest
import torch

from trainer.data import transforms
from trainer.data.clip import Clip


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
    ramp = np.broadcast_to(np.arange(168, dtype=np.uint8), (2, 4, 192, 168))
    # The centre of pixel x of the new window lies at (x + 1/2) 168 / 224 - 1/2 of the old one.
    want = ((np.arange(224) + 0.5) * 0.75 - 0.5).clip(0, 167)
    for dtype, error in ((np.float32, 1e-4), (np.uint8, 0.9)):  # OpenCV rounds twice
        got = np.empty((2, 4, 224, 224), dtype)
        transforms.stretch(ramp.astype(dtype), got)
        np.testing.assert_allclose(got, np.broadcast_to(want, got.shape), atol=error)
        frames = np.empty((2, 224, 224, 3), dtype)
        transforms.stretch(ramp[:, :3].transpose(0, 2, 3, 1).astype(dtype), frames, axes=3)
        assert np.array_equal(frames, got[:, :3].transpose(0, 2, 3, 1))


def test_colour_jitter_has_the_published_size():
    """On 0-255 images alpha * lambda has deviations of 5.55, 0.48 and 0.11 along the three axes."""
    rng = np.random.default_rng(0)
    shifts = np.stack([transforms.colour_shift(rng, 0.1) for _ in range(4000)])
    np.testing.assert_allclose((shifts @ transforms.RGB_AXES).std(0), [5.546, 0.479, 0.115], rtol=0.05)
    np.testing.assert_allclose(shifts.std(0), [3.17, 3.22, 3.25], rtol=0.05)


@pytest.mark.parametrize(
    ("shape", "counts"), [((30, 40), [1] * 10), ((20, 40), [2, 2, 1] * 2), ((20, 20), [5] * 2)]
)
def test_crops_that_coincide_are_shown_once(shape, counts):
    """Their numbers give the ten crops back, in any order of equal ones."""
    clip = Clip(torch.rand(4, *shape), torch.ones(4), torch.zeros(4))
    shown, times = transforms.distinct_crops(clip, 20, 10, "temporal")
    assert times.tolist() == counts
    all_ten = transforms.fixed_crops(clip, 20, 10, "temporal").normalised()
    weighted = shown.normalised() * times[:, None, None, None]
    torch.testing.assert_close(weighted.sum(0), all_ten.sum(0))
    assert len({crop.numpy().tobytes() for crop in shown.normalised()}) == len(counts)


def test_colours_change_by_brightness_contrast_and_saturation():
    """Against the formulas, pixel by pixel."""
    planes = torch.randint(60, 120, (2, 3, 6, 7), dtype=torch.uint8)
    brightness, contrast, saturation = 1 + 0.3 * np.random.default_rng(4).uniform(-1, 1, 3)
    changed = transforms.jitter_colours(planes, np.random.default_rng(4), 0.3, 0.0)
    rgb = planes.numpy().astype(np.float64) * brightness
    grey = 0.299 * rgb[:, 0] + 0.587 * rgb[:, 1] + 0.114 * rgb[:, 2]
    rgb = grey.mean() + contrast * (rgb - grey.mean())
    grey = (0.299 * rgb[:, 0] + 0.587 * rgb[:, 1] + 0.114 * rgb[:, 2])[:, None]
    rgb = grey + saturation * (rgb - grey)
    np.testing.assert_allclose(changed.numpy(), rgb.clip(0, 255), atol=1e-3)
    grey_only = transforms.jitter_colours(planes, np.random.default_rng(4), 0.0, 1.0)
    assert torch.allclose(grey_only[:, 0], grey_only[:, 1]) and torch.allclose(
        grey_only[:, 0], grey_only[:, 2]
    )
