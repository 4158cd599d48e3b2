"""Clips of a corpus: frames, windows, and corpora that do not fit."""

import numpy as np
import pytest
import torch

from flowprep.errors import UsageError
from tests.support.fakes import FakeCorpus, FakeVideo, small
from trainer.data import loading, sampling


def test_frames_are_equally_spaced_from_first_to_last():
    assert (
        sampling.spaced_starts(100, 10, 25).tolist() == np.rint(np.linspace(0, 90, 25)).astype(int).tolist()
    )
    assert sampling.spaced_starts(121, 1, 25).tolist() == list(range(0, 121, 5))
    assert sampling.spaced_starts(9, 1, 1).tolist() == [4]
    assert sampling.spaced_starts(5, 10, 3).tolist() == [0, 0, 0]


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


def test_a_control_is_of_a_temporal_input():
    for stream, name in (("spatial", "reversed"), ("temporal", "still")):
        with pytest.raises(UsageError, match=r"input.control is '\w+'; allowed: reversed \| shuffled, of a"):
            small(stream, input={"control": name})


def test_spatial_inputs_are_normalised_frames():
    video = FakeVideo("x", "RedZoom", seed=0)
    recipe = small(input={"rgb_mean": [10, 20, 30], "rgb_scale": [2, 4, 8]})
    planes = loading.load_clip(video, 2, recipe).normalised()
    want = (video.rgb(2).astype(np.float32) - [10, 20, 30]) / [2, 4, 8]
    np.testing.assert_allclose(planes.permute(1, 2, 0), want, atol=1e-5)


def test_a_corpus_that_does_not_fit_is_refused():
    corpus = FakeCorpus()
    with pytest.raises(UsageError, match=r"input.crop is 48 and BlueSpin.* is 56x40 pixels"):
        loading.check_fit(corpus, list(corpus), small(input={"crop": 48}))
    loading.check_fit(corpus, list(corpus), small(input={"crop": 48, "resize": 60}))
    with pytest.raises(UsageError, match=r"needs flow, and the corpus .* holds none"):
        loading.check_fit(FakeCorpus(flow=False), list(corpus), small("temporal"))
    with pytest.raises(UsageError, match=r"needs RGB frames"):
        loading.check_fit(FakeCorpus(rgb=False), list(corpus), small("spatial"))
