"""The clips of each network: their positions and planes, and training and evaluation with them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from flowprep.errors import UsageError
from tests.support.fakes import CLASSES, HEIGHT, WIDTH, FakeCorpus, FakeVideo, examples_of, small
from trainer.data import dataset, loading, sampling, transforms
from trainer.data.annotations import Examples
from trainer.data.clip import Clip
from trainer.data.sampling import ClipSpec
from trainer.evaluation import svm
from trainer.evaluation.evaluate import evaluate
from trainer.evaluation.trained_run import open_run
from trainer.models import registry, weights
from trainer.recipe.toml import read_recipe
from trainer.training import checkpoint
from trainer.training import trainer as train


def recipe_for(name, stream, **sections):
    """A recipe of that network at a small width, on the corpus in memory."""
    spec = registry.find_module(name).SPEC
    size = spec.size or 32
    values = {
        "model": {"name": name, "width": 6 if name == "fstcn" else 4, "dropout": 0.0},
        "input": {"crop": size, "resize": size if size > 40 else 0, "stack": 2, "flow_scale": 0.5},
        "train": {"steps": 2, "batch": 2, "milestones": [], "lr": 0.001, "validation_share": 0.0},
        "test": {"frames": 2, "crops": 2},
    }
    for key, section in sections.items():
        values[key] = {**values.get(key, {}), **section}
    return small(stream, **values)


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
        def codes(self, start, count, backward=False, window=None):
            read.append((start, count))
            return super().codes(start, count, backward, window)

    read = []
    recipe = recipe_for("siamese_transform", "temporal", input={"stack": 4})
    loading.load_clip(Counted("x", "RedSpin", 0, pairs=60), np.array([0, 2, 30, 33]), recipe)
    assert read == [(0, 6), (30, 7)]


def test_a_flip_of_a_joint_clip_negates_u_alone():
    clip = Clip(torch.arange(2 * 7 * 2 * 3).reshape(2, 7, 2, 3), torch.rand(2, 7), torch.randn(2, 7))
    plain, mirrored = clip.normalised().flip(-1), transforms.flip(clip, "both").normalised()
    for channel in range(7):
        sign = -1 if channel in (3, 5) else 1
        assert torch.equal(mirrored[:, channel], sign * plain[:, channel])


def test_colours_shift_in_all_frames_of_a_joint_clip():
    clip = Clip(torch.zeros(2, 5, 2, 3), torch.full((2, 5), 0.5), torch.zeros(2, 5))
    shifted = transforms.shift_colours(clip, torch.tensor([2.0, 4.0, 6.0])).normalised()
    assert torch.equal(shifted[1, :, 0, 0], torch.tensor([1.0, 2.0, 3.0, 0.0, 0.0]))


def test_windows_of_several_scales_are_resized_to_the_crop():
    corpus = FakeCorpus(clips=1)
    recipe = small("temporal", input={"crop": 32, "scales": [40, 32, 24], "flip": False})
    samples = dataset.TrainingClips([[(corpus, examples_of(corpus))]], recipe)
    kinds = {samples[0, i][0].planes.dtype for i in range(20)}
    assert kinds == {torch.uint8, torch.float32}  # a window of 32 pixels is not resized
    clip, _, _ = dataset.batch_clips([samples[0, i] for i in range(20)])
    assert clip.planes.shape == (20, 6, 32, 32)
    with pytest.raises(UsageError, match=r"the largest of input.scales is 48 and BlueSpin"):
        loading.check_fit(corpus, list(corpus), small("temporal", input={"scales": [48, 32]}))


def test_whole_frames_are_shown_with_their_flips():
    clip = Clip(torch.randn(3, 4, 30, 40), torch.ones(3, 4), torch.zeros(3, 4))
    shown = transforms.fixed_crops(clip, 0, 2, "temporal")
    assert shown.planes.shape == (2, 3, 4, 30, 40)
    assert torch.equal(shown.planes[0], clip.planes)
    assert torch.equal(shown.normalised()[1], transforms.flip(clip, "temporal").normalised())
    assert transforms.fixed_crops(clip, 0, 1, "temporal").planes.shape == (1, 3, 4, 30, 40)


# --- training and evaluation

EACH = [
    (name, stream)
    for name in registry.MODELS
    for spec in [registry.find_module(name).SPEC]
    if spec.joint or spec.frames != (1,)
    for stream in (("both",) if spec.joint else spec.streams)
]


@pytest.mark.parametrize(("name", "stream"), EACH)
def test_every_network_of_time_steps_trains_and_is_evaluated(name, stream, tmp_path):
    corpus = FakeCorpus(clips=1)
    for video in corpus.videos.values():
        video.num_pairs, video.num_frames = 40, 41
    stack = 1 if name.startswith("c3d") else 2
    steps = {"conv_fusion": 2, "st_resnet": 2, "siamese_transform": 6}.get(name, 0)
    recipe = recipe_for(name, stream, input={"stack": stack, "time_steps": steps})
    registry.check_recipe(recipe)
    examples = examples_of(corpus)
    assert train.train(recipe, corpus, examples, tmp_path / "run", device="cpu")
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 2 and np.isfinite(rows[-1]["loss"])
    one = Examples(examples.ids[:2], examples.labels[:2], CLASSES)
    scores = evaluate(tmp_path / "run", corpus, one, device="cpu").scores
    np.testing.assert_allclose(scores.sum(1), 1, rtol=1e-5)
    kept = checkpoint.load_selected(tmp_path / "run")
    assert kept.recipe == recipe


PIPELINES = Path(__file__).parents[3] / "pipelines"
# The networks of the demo are small; a step of most others takes seconds.
RECIPE_FILES = [
    pytest.param(path, marks=() if "demo" in path.parts else pytest.mark.slow)
    for path in sorted(PIPELINES.rglob("*.toml"))
]


@pytest.mark.parametrize("path", RECIPE_FILES, ids=lambda p: str(p.relative_to(PIPELINES)))
def test_every_recipe_of_the_pipelines_takes_a_step(path, tmp_path):
    """Unchanged, but narrow, with a batch of two, and from scratch."""
    changes = ["width=6", "trainable=all"], ["steps=1", "batch=2", "micro_batch=0", "milestones=[]"]
    changes = [
        f"{key}.{change}" for key, some in zip(("model", "train"), changes, strict=True) for change in some
    ]
    recipe = read_recipe(path, [*changes, "train.precision=float32", "train.validation_share=0.0"])
    if not recipe.input.resize:  # the videos in memory are small
        recipe = replace(recipe, input=replace(recipe.input, resize=recipe.input.crop))
    registry.check_recipe(recipe)
    corpus = FakeCorpus(clips=1, backward=True)
    for video in corpus.videos.values():
        video.num_pairs, video.num_frames = 60, 61
    loading.check_fit(corpus, list(corpus), recipe)
    train.train(recipe, corpus, examples_of(corpus), tmp_path / "run", device="cpu")
    (row,) = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert np.isfinite(json.loads(row)["loss"])


def test_a_joint_run_resumes_to_the_same_weights(tmp_path):
    corpus = FakeCorpus(clips=1)
    recipe = recipe_for("st_resnet", "both", input={"time_steps": 2}, train={"checkpoint_every": 1})
    examples = examples_of(corpus)

    class Stop(Exception):
        pass

    def stop(done, row):
        if done == 1:
            raise Stop

    train.train(recipe, corpus, examples, tmp_path / "a", device="cpu")
    with pytest.raises(Stop):
        train.train(recipe, corpus, examples, tmp_path / "b", device="cpu", on_step=stop)
    train.train(recipe, corpus, examples, tmp_path / "b", device="cpu", resume=True)
    a, b = (checkpoint.load_selected(tmp_path / run).model for run in "ab")
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_towers_start_from_runs(tmp_path):
    corpus = FakeCorpus(clips=1)
    examples = examples_of(corpus)
    for stream in ("spatial", "temporal"):
        one = recipe_for("resnet50", stream)
        train.train(one, corpus, examples, tmp_path / stream, device="cpu")
    towers = [str(tmp_path / s) for s in ("spatial", "temporal")]
    recipe = recipe_for("st_resnet", "both", model={"tower_weights": towers})
    net = registry.make_model(recipe, len(CLASSES))
    weights.start_from_weights(net, recipe, CLASSES)
    for stream in ("spatial", "temporal"):
        kept = checkpoint.load_selected(tmp_path / stream).model
        assert torch.equal(getattr(net, stream).layer3[2].conv2.weight, kept["layer3.2.conv2.weight"])
    bad = recipe_for("st_resnet", "both", model={"tower_weights": towers[:1]})
    with pytest.raises(UsageError, match=r"names 1 files; allowed: .* spatial, temporal"):
        weights.start_from_weights(net, bad, CLASSES)


def test_whole_frames_are_evaluated(tmp_path):
    """Evaluation of whole frames differs from that of crops."""
    corpus = FakeCorpus(clips=1)
    examples = examples_of(corpus)
    recipe = recipe_for("st_resnet", "both", test={"whole": True, "frames": 1, "crops": 1})
    train.train(recipe, corpus, examples, tmp_path / "run", device="cpu")
    whole = evaluate(tmp_path / "run", corpus, examples, device="cpu").scores
    crops = evaluate(tmp_path / "run", corpus, examples, device="cpu", crops=5).scores
    assert not np.allclose(whole, crops, atol=1e-6)


@pytest.mark.slow
def test_an_svm_on_the_features_of_c3d(tmp_path):
    """The features are averaged over clips and have length 1, as computed here by hand."""
    corpus = FakeCorpus(clips=3)
    everyone = examples_of(corpus)
    fit = everyone.subset([i for i, name in enumerate(everyone.ids) if "_g01_" not in name])
    tested = everyone.subset([i for i, name in enumerate(everyone.ids) if "_g01_" in name])
    recipe = recipe_for("c3d_small", "spatial", train={"steps": 1}, test={"frames": 2, "crops": 1})
    train.train(recipe, corpus, everyone, tmp_path / "run", device="cpu")
    got = evaluate(tmp_path / "run", corpus, tested, fit=fit, device="cpu")
    assert got.scores.shape == (len(tested), len(CLASSES)) and got.ids.tolist() == list(tested.ids)
    model = open_run(tmp_path / "run").load_model()
    model.eval()
    rows = []
    for name in everyone.ids:
        video = corpus[name]
        places = ClipSpec.from_recipe(recipe, evaluation=True).spaced(video.num_frames, 1, 2)
        crops = [
            transforms.fixed_crops(loading.load_clip(video, p, recipe), 112, 1, "spatial") for p in places
        ]
        with torch.no_grad():
            seen = [model.features(*ClipSpec.from_recipe(recipe).tensors(crop))[0] for crop in crops]
        mean = sum(seen) / 2
        rows.append((mean / mean.norm()).numpy())
    known = [rows[everyone.ids.index(name)] for name in fit.ids]
    asked = [rows[everyone.ids.index(name)] for name in tested.ids]
    values = svm.decision_values(np.array(known), np.array(fit.labels), fit.ids, CLASSES, np.array(asked))
    np.testing.assert_allclose(got.scores, values, rtol=1e-3, atol=1e-3)
    assert got.accuracy >= 0.5  # any features tell colours apart; a frame does not show the motion
    with pytest.raises(UsageError, match=f"fitted on {len(tested)} of the evaluated videos"):
        evaluate(tmp_path / "run", corpus, tested, fit=everyone, device="cpu")


def test_networks_without_such_features_are_refused(tmp_path):
    corpus = FakeCorpus(clips=1)
    everyone = examples_of(corpus)
    quick = {"steps": 1, "milestones": [], "validation_share": 0.0}
    train.train(small(train=quick), corpus, everyone, tmp_path / "run", device="cpu")
    with pytest.raises(UsageError, match="resnet18 has no features for an SVM; allowed: c3d, c3d_small"):
        evaluate(tmp_path / "run", corpus, everyone.subset([0]), fit=everyone.subset([1, 2]), device="cpu")


@pytest.mark.parametrize(
    ("name", "stream", "sections", "says"),
    [
        ("st_resnet", "spatial", {}, r"not defined for stream 'spatial'; allowed: both"),
        ("karpathy_slow", "temporal", {}, r"not defined for stream 'temporal'; allowed: spatial"),
        ("c3d", "spatial", {"input": {"time_steps": 8}}, r"input.time_steps is 8; allowed for c3d: 16"),
        ("c3d", "spatial", {"test": {"whole": True}}, r"test.whole is true; c3d classifies crops of 112"),
        ("conv_fusion", "both", {"model": {"options": {"fusion": "x"}}}, r"fusion of conv_fusion is 'x'"),
        (
            "conv_fusion",
            "both",
            {"model": {"trainable": "last", "weights": "w"}},
            r"conv_fusion has no last layer of its own",
        ),
    ],
)
def test_recipes_that_do_not_fit_the_network_are_refused(name, stream, sections, says):
    with pytest.raises(UsageError, match=says):
        registry.check_recipe(recipe_for(name, stream, **sections))


def test_a_joint_network_needs_both_streams_of_the_corpus():
    recipe = recipe_for("st_resnet", "both")
    for missing, what in (("rgb", "RGB frames"), ("flow", "flow")):
        corpus = FakeCorpus(**{missing: False})
        with pytest.raises(UsageError, match=f"a joint network needs {what}"):
            loading.check_fit(corpus, list(corpus), recipe)
