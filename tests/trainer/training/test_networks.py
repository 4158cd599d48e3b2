"""Every network, and every recipe of the pipelines, is trained and evaluated."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from flowprep.errors import UsageError
from tests.support.fakes import CLASSES, FakeCorpus, examples_of, recipe_for, small
from trainer.data import loading, transforms
from trainer.data.annotations import Examples
from trainer.data.groups import recording_groups
from trainer.data.sampling import ClipSpec
from trainer.evaluation import svm
from trainer.evaluation.evaluate import evaluate
from trainer.evaluation.trained_run import open_run
from trainer.models import registry, weights
from trainer.recipe.toml import read_recipe
from trainer.training import checkpoint
from trainer.training import trainer as train

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
    if "conv_fusion" in path.read_text():
        changes.append("model.options.stop=false")
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


@pytest.mark.parametrize("stop", [True, False])
def test_frozen_layers_need_trained_weights(stop):
    """conv_fusion keeps the layers before the fusion: at random weights it learns nothing there, ever."""
    recipe = recipe_for("conv_fusion", "both", model={"options": {"stop": stop}})
    if not stop:
        registry.check_recipe(recipe)
        return
    with pytest.raises(UsageError, match=r"model.options.stop is true: conv_fusion keeps .*tower_weights"):
        registry.check_recipe(recipe)
    with pytest.raises(UsageError, match="the recipe names no weights"):
        registry.check_recipe(recipe_for("conv_fusion", "both", model={"options": {}}))
    started = {"options": {"stop": True}, "tower_weights": ["a", "b"]}
    registry.check_recipe(recipe_for("conv_fusion", "both", model=started))


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
    values = svm.decision_values(
        np.array(known), np.array(fit.labels), recording_groups(fit.ids), CLASSES, np.array(asked)
    )
    np.testing.assert_allclose(got.scores, values, rtol=1e-3, atol=1e-3)
    assert got.accuracy >= 0.5  # any features tell colours apart; a frame does not show the motion
    with pytest.raises(UsageError, match=f"fitted on {len(tested)} of the evaluated videos"):
        evaluate(tmp_path / "run", corpus, tested, fit=everyone, device="cpu")


def test_weights_are_stored_without_a_step(tmp_path):
    """train.steps = 0: the weights of a file in the names of another port, in a run that evaluation reads."""
    corpus = FakeCorpus(clips=1)
    everyone = examples_of(corpus)
    torch.manual_seed(1)
    published = registry.build("c3d", in_channels=3, num_classes=487, width=4)
    names = {"conv1a": "conv1", "conv2a": "conv2"}
    state = {
        f"{names.get(layer, layer)}.{kind}": value
        for name, value in published.state_dict().items()
        for layer, kind in [name.split(".")]
    }
    assert "conv2.weight" in state
    torch.save(state, tmp_path / "sports1m.pt")
    start = {"weights": str(tmp_path / "sports1m.pt")}
    recipe = recipe_for("c3d", "spatial", model=start, train={"steps": 0})
    assert train.train(recipe, corpus, everyone, tmp_path / "run", device="cpu")
    kept = open_run(tmp_path / "run").load_model().state_dict()
    for name, value in published.state_dict().items():
        assert name.startswith("fc8") or torch.equal(kept[name], value)
    assert kept["fc8.weight"].shape[0] == len(CLASSES)
    assert not train.train(recipe, corpus, everyone, tmp_path / "run", device="cpu", resume=True)


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
