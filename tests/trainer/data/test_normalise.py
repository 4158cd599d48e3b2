"""The float32 input of a network: bit by bit that of torch."""

import pytest
import torch

from trainer.data.clip import Clip
from trainer.data.normalise import normalise


@pytest.mark.parametrize("shape", [(20, 7, 9), (3, 6, 7, 9), (2, 3, 5, 7, 9)])
@pytest.mark.parametrize("layout", ["contiguous", "channels last", "cut"])
def test_the_input_is_that_of_torch(shape, layout):
    generator = torch.Generator().manual_seed(1)
    planes = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    if layout == "channels last":
        planes = planes.movedim(-3, -1).contiguous().movedim(-1, -3)
    elif layout == "cut":
        planes = planes[..., 1:, 2:]
    gain, bias = (torch.randn(shape[:-2], generator=generator) for _ in range(2))
    want = (planes * gain[..., None, None]).add_(bias[..., None, None])
    got = Clip(planes, gain, bias).normalised()
    assert torch.equal(got, want)
    assert layout == "cut" or got.movedim(-3, -1).is_contiguous()
    assert (normalise(planes, gain, bias) is None) == (layout == "cut")


def test_the_channels_of_a_stream_need_no_copy():
    planes = torch.arange(2 * 7 * 4 * 5, dtype=torch.uint8).view(2, 7, 4, 5)
    clip = Clip(planes, torch.randn(2, 7), torch.randn(2, 7))
    whole, flow = clip.normalised(), clip.channels(3, None)
    assert normalise(*flow) is not None and torch.equal(flow.normalised(), whole[:, 3:])


def test_a_gain_of_every_second_channel_is_its_own():
    """Gains may be views of larger tensors."""
    planes = torch.full((2, 3, 4, 5), 2, dtype=torch.uint8)
    gain, bias = torch.arange(12.0).view(2, 6)[:, ::2], torch.zeros(2, 3)
    assert Clip(planes, gain, bias).normalised()[:, :, 0, 0].tolist() == [[0, 4, 8], [12, 16, 20]]


def test_an_input_keeps_its_values_while_it_is_used():
    planes, gain, bias = torch.zeros(2, 3, 40, 50, dtype=torch.uint8), torch.ones(2, 3), torch.zeros(2, 3)
    first, second = normalise(planes, gain, bias), normalise(planes + 1, gain, bias)
    assert normalise(planes + 2, gain, bias).unique().tolist() == [2]
    assert first.unique().tolist() == [0] and second.unique().tolist() == [1]
