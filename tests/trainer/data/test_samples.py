"""Training samples, compared with a plain implementation that reads whole pictures, one after the other.

The number, the kind and the order of random draws decide what a network learns from. So they are written down
here a second time.
"""

import cv2
import numpy as np
import pytest

from tests.support.fakes import FakeCorpus, FakeVideo, examples_of, recipe_for, small
from trainer.data import sampling, transforms
from trainer.data.annotations import Examples
from trainer.data.dataset import TrainingClips

U_AND_V = np.float32([1, 1])


def sample(heads, recipe, step, i):
    """The input of a network (T, C, S, S) float32, the class and the head of sample i of a step."""
    section, stream, spec = recipe.input, recipe.stream, sampling.ClipSpec.from_recipe(recipe)
    corpus, examples = heads[i % len(heads)]
    rng = np.random.default_rng([recipe.seed, step, i])
    label = sorted(set(examples.labels))[rng.integers(len(set(examples.labels)))]
    ids = [name for name, y in zip(examples.ids, examples.labels, strict=True) if y == label]
    video = corpus[ids[rng.integers(len(ids))]]
    available = video.num_frames if stream == "spatial" else video.num_pairs
    starts = np.array([rng.integers(max(1, available - spec.length(video.step) + 1))])
    if spec.time_steps:
        starts = spec.draw(rng, available, video.step)

    width, height = transforms.resized_shape(video.width, video.height, section.resize)
    if section.scales:
        window = transforms.corner_window(rng, height, width, section.scales)
    else:
        top, left = rng.integers(height - section.crop + 1), rng.integers(width - section.crop + 1)
        window = (top, left, section.crop, section.crop)
    if len(starts) > 1 and section.control:  # the order of the time steps, and below that of their flows
        starts = starts[::-1] if section.control == "reversed" else rng.permutation(starts)

    parts = []
    if stream != "temporal":
        numbers = [min(spec.frame(int(p), video.step), video.num_frames - 1) for p in starts]
        frames = np.stack([resized(video.rgb(n).transpose(2, 0, 1), (height, width)) for n in numbers])
        parts.append(cut(frames, window, section.crop))
    if stream != "spatial":
        stacks = [stack(video, int(p), recipe, rng, (height, width)) for p in starts]
        parts.append(np.stack([cut(s, window, section.crop) for s in stacks]))
    if section.flip and rng.random() < 0.5:
        parts = [part[..., ::-1] for part in parts]
        if stream != "spatial":
            parts[-1] = parts[-1] * np.tile(np.float32([-1, 1]), section.stack)[:, None, None]
    if stream != "temporal":
        parts[0] = coloured(parts[0], section, rng)
    if stream != "spatial":
        parts[-1] = parts[-1] / np.float32(section.flow_scale)
    return np.concatenate(parts, 1), label, i % len(heads)


def stack(video, start, recipe, rng, size):
    """The displacements of a stack in the resized picture, (2 L, H, W), without their means."""
    section = recipe.input
    forward, backward = sampling.pairs_of(
        start, section.stack, video.num_pairs, video.step, bidirectional=section.bidirectional
    )
    sides = [(forward, False), (backward, True)] if section.bidirectional else [(forward, False)]
    sign = 1
    if section.control == "reversed":
        sign = 1 if section.bidirectional else -1
        sides = sides[::-1] if section.bidirectional else [(forward[::-1], False)]
    elif section.control == "shuffled":
        sides = [(rng.permutation(pairs), back) for pairs, back in sides]
    fields = []
    for pairs, back in sides:
        flow = np.stack([video.flow(int(pair), 1, back)[0] for pair in pairs])
        means = np.stack([video.quant_params(int(pair), 1, back).mean[0] for pair in pairs])
        ratio = np.float32([size[1] / video.width, size[0] / video.height])
        flow = sign * resized(flow, size) * ratio[:, None, None]
        if section.trajectories:
            flow = followed(flow, video.step)
        fields.append(flow - sign * (means * ratio)[..., None, None] * section.subtract_mean)
    return np.concatenate(fields).reshape(-1, *size)


def followed(flow, step):
    """Equation 2 of Simonyan and Zisserman 2014."""
    y, x = np.mgrid[: flow.shape[2], : flow.shape[3]].astype(np.float32)
    seen = []
    for field in flow:
        seen.append([cv2.remap(p, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for p in field])
        x = np.clip(x + seen[-1][0] / step, 0, flow.shape[3] - 1)
        y = np.clip(y + seen[-1][1] / step, 0, flow.shape[2] - 1)
    return np.array(seen, np.float32)


def resized(planes, size):
    """(..., H, W) at another size: the mean over areas, or bilinear if it is larger."""
    if planes.shape[-2:] == size:
        return planes
    method = cv2.INTER_AREA if size[0] < planes.shape[-2] else cv2.INTER_LINEAR
    flat = planes.reshape(-1, *planes.shape[-2:])
    return np.stack([cv2.resize(p, size[::-1], interpolation=method) for p in flat]).reshape(
        *planes.shape[:-2], *size
    )


def cut(planes, window, side):
    """A window of (..., H, W), bilinearly at the size of a crop."""
    top, left, height, width = window
    part = planes[..., top : top + height, left : left + width].astype(np.float32)
    if (height, width) == (side, side):
        return part
    flat = np.ascontiguousarray(part).reshape(-1, height, width)
    return np.stack([cv2.resize(p, (side, side), interpolation=cv2.INTER_LINEAR) for p in flat]).reshape(
        *planes.shape[:-2], side, side
    )


def coloured(frames, section, rng):
    """Frames (T, 3, S, S) with other colours, normalised."""
    if section.colour or section.grey:
        luma = np.float32([0.299, 0.587, 0.114])[:, None, None]
        brightness, contrast, saturation = 1 + section.colour * rng.uniform(-1, 1, 3)
        saturation = 0 if rng.random() < section.grey else saturation
        frames = frames * brightness
        level = (frames * luma).sum(1).mean()
        frames = level + (frames - level) * contrast
        grey = (frames * luma).sum(1, keepdims=True)
        frames = (grey + (frames - grey) * saturation).clip(0, 255)
    shift = np.zeros(3)
    if section.jitter:
        alphas = rng.normal(0, section.jitter, 3)
        shift = 255 * transforms.RGB_AXES @ (alphas * transforms.RGB_EIGENVALUES)
    mean, scale = (np.array(values) for values in (section.rgb_mean, section.rgb_scale))
    return (frames + (shift - mean)[:, None, None]) / scale[:, None, None]


def with_step(corpus, step):
    """The corpus with pairs of frames that are `step` apart, and a first video of two pairs."""
    for number, video in enumerate(corpus.videos.values()):
        video.step, video.num_frames = step, video.num_pairs + step
        if number % 8 == 0:
            short = FakeVideo(video.id, video.label, number, pairs=2)
            short.step, short.num_frames = step, 2 + step
            corpus.videos[video.id] = short
    return corpus


FLOW = {"crop": 32, "stack": 4}
RECIPES = {
    "spatial": small("spatial"),
    "spatial, not mirrored": small("spatial", input={"flip": False, "jitter": 0.0}),
    "spatial, colours": small("spatial", input={"colour": 0.4, "grey": 0.3}),
    "temporal": small("temporal", input=FLOW),
    "temporal, with means": small("temporal", input={**FLOW, "subtract_mean": False}),
    "temporal, reversed": small("temporal", input={**FLOW, "control": "reversed"}),
    "temporal, shuffled": small("temporal", input={**FLOW, "control": "shuffled"}),
    "bidirectional": small("temporal", input={**FLOW, "bidirectional": True}),
    "bidirectional, reversed": small(
        "temporal", input={**FLOW, "bidirectional": True, "control": "reversed"}
    ),
    "bidirectional, shuffled": small(
        "temporal", input={**FLOW, "bidirectional": True, "control": "shuffled"}
    ),
    "trajectories": small("temporal", input={**FLOW, "trajectories": True}),
    "both": small("both", model={"name": "conv_fusion"}, input={"time_steps": 2, "stack": 4}),
    "both, shuffled": small(
        "both",
        model={"name": "conv_fusion"},
        input={"time_steps": 3, "spacing": [1, 3], "stack": 4, "control": "shuffled"},
    ),
    "both, colours": small(
        "both", model={"name": "conv_fusion"}, input={"time_steps": 2, "stack": 4, "colour": 0.2}
    ),
    "time steps": recipe_for("siamese_transform", "temporal", input={"resize": 0, "crop": 32, "stack": 4}),
    "time steps of frames": recipe_for("siamese_transform", "spatial", input={"resize": 0, "crop": 32}),
}


def inputs(clips, keys):
    """The inputs, classes and heads of samples, as the loader gives them."""
    for key in keys:
        clip, label, head = clips[key]
        planes = clip.normalised().numpy()
        yield planes if planes.ndim == 4 else planes[None], label, head


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("name", RECIPES)
def test_samples_are_those_of_the_plain_implementation(name, step):
    corpus = with_step(FakeCorpus(clips=2, backward=True), step)
    heads = [(corpus, examples_of(corpus))]
    clips = TrainingClips([[head] for head in heads], RECIPES[name])
    keys = [(s, i) for s in (0, 7) for i in range(16)]
    for key, (got, *labels) in zip(keys, inputs(clips, keys), strict=True):
        want, *expected = sample(heads, RECIPES[name], *key)
        assert labels == expected
        np.testing.assert_allclose(got, want, atol=1e-4)


def test_each_head_has_samples_of_its_own():
    first, second = FakeCorpus(clips=2), FakeCorpus(clips=1, prefix="Other")
    heads = [
        (first, examples_of(first)),
        (second, Examples(tuple(second), (0, 0, 1, 1, 0, 0, 1, 1), ("a", "b"))),
    ]
    recipe = small("temporal", input=FLOW)
    clips = TrainingClips([[head] for head in heads], recipe)
    keys = [(3, i) for i in range(8)]
    for key, (got, *labels) in zip(keys, inputs(clips, keys), strict=True):
        want, *expected = sample(heads, recipe, *key)
        assert labels == expected and labels[1] == key[1] % 2
        np.testing.assert_allclose(got, want, atol=1e-4)


@pytest.mark.parametrize("stream", ["spatial", "temporal"])
@pytest.mark.parametrize(
    ("section", "codes"),
    [
        ({"resize": 34}, 0.55),
        ({"resize": 48}, 0.9),  # OpenCV, in the video in memory, rounds twice
        ({"scales": [40, 32, 24]}, 0.55),
        ({"resize": 36, "scales": [36, 32, 24]}, 1.6),  # rounded at both steps
    ],
)
def test_resized_samples_are_rounded_codes(stream, section, codes):
    """But for the outermost pixels of a stretched window, which see the pixels beside it."""
    corpus = FakeCorpus(clips=1)
    heads = [(corpus, examples_of(corpus))]
    recipe = small(stream, input={"crop": 32, "stack": 2, **section})
    clips = TrainingClips([[head] for head in heads], recipe)
    edge = 1 if "scales" in section else 0
    inner = slice(edge, 32 - edge)
    for i in range(16):
        clip, *labels = clips[0, i]
        want, *expected = sample(heads, recipe, 0, i)
        assert labels == expected and str(clip.planes.dtype) == "torch.uint8"
        error = np.abs(clip.normalised().numpy() - want[0])[:, inner, inner]
        assert (error / np.abs(clip.gain.numpy())[:, None, None]).max() < codes
