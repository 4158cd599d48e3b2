"""Training samples, evaluated clips and their loaders."""

from collections import Counter

import numpy as np
import torch

from tests.support.fakes import CLASSES, PAIRS, FakeCorpus, examples_of, small
from trainer.data import dataset, loading, transforms
from trainer.data.annotations import Examples


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


def test_shuffled_samples_depend_on_seed_step_and_number_only():
    corpus = FakeCorpus()
    examples = examples_of(corpus)
    recipe = small("temporal", input={"control": "shuffled"})
    a, b = (dataset.TrainingClips([[(corpus, examples)]], recipe) for _ in range(2))
    assert all(torch.equal(a[s, 1][0].planes, b[s, 1][0].planes) for s in range(3))


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
