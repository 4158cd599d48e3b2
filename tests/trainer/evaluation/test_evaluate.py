import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from flowprep.errors import UsageError
from tests.support.fakes import CLASSES, FakeCorpus, recipe_for, small
from trainer.data import dataset, loaders, loading, transforms
from trainer.data.annotations import Examples
from trainer.data.sampling import ClipSpec, spaced_starts
from trainer.errors import NotFinite
from trainer.evaluation.evaluate import evaluate
from trainer.evaluation.features import score_videos
from trainer.evaluation.scores import Scores
from trainer.training import checkpoint
from trainer.training import trainer as train
from trainer.training.device import autocast, pick_device, pick_precision

CPU = torch.device("cpu")


class Linear(torch.nn.Module):
    """A network whose logits depend on every pixel of the crop."""

    def __init__(self, channels):
        super().__init__()
        self.weight = torch.nn.Parameter(
            torch.randn(3, channels, 32, 32, generator=torch.Generator().manual_seed(0))
        )

    def forward(self, x):
        return torch.einsum("nchw,kchw->nk", x, self.weight) / 50


@pytest.mark.parametrize("stream", ["spatial", "temporal"])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_softmax_is_averaged_over_clips_and_crops(stream, workers):
    corpus, recipe = FakeCorpus(clips=1), small(stream)
    model, ids = Linear(recipe.channels), list(corpus)[:3]
    got = score_videos(
        model,
        corpus,
        ids,
        recipe,
        classes=3,
        frames=25,
        crops=10,
        device=CPU,
        workers=workers,
    )
    for row, video in zip(got, (corpus[i] for i in ids), strict=True):
        total = torch.zeros(3)
        starts = spaced_starts(
            loading.stream_length(video, stream), ClipSpec.from_recipe(recipe).length(1), 25
        )
        for start in starts:
            crops = transforms.fixed_crops(loading.load_clip(video, int(start), recipe), 32, 10, stream)
            total += model(crops.normalised()).softmax(1).sum(0).detach()
        np.testing.assert_allclose(row, total / 250, rtol=1e-4)
    np.testing.assert_allclose(got.sum(1), 1, rtol=1e-5)


def test_logits_are_averaged_where_the_recipe_says_so():
    corpus, recipe = FakeCorpus(clips=1), small("temporal", test={"average": "logits"})
    model, ids = Linear(recipe.channels), list(corpus)[:2]
    got = score_videos(model, corpus, ids, recipe, classes=3, frames=3, crops=10, device=CPU)
    for row, video in zip(got, (corpus[i] for i in ids), strict=True):
        starts = spaced_starts(video.num_pairs, 3, 3)
        clips = [
            transforms.fixed_crops(loading.load_clip(video, int(s), recipe), 32, 10, "temporal")
            for s in starts
        ]
        logits = torch.cat([model(clip.normalised()) for clip in clips]).detach()
        np.testing.assert_allclose(row, logits.mean(0).softmax(0), rtol=1e-4)
        assert not np.allclose(row, logits.softmax(1).mean(0), rtol=1e-3)


def test_evaluation_leaves_the_random_state_unchanged():
    corpus, recipe = FakeCorpus(clips=1), small()
    before = torch.get_rng_state()
    score_videos(Linear(3), corpus, list(corpus)[:1], recipe, classes=3, frames=1, crops=1, device=CPU)
    assert torch.equal(before, torch.get_rng_state())


def test_scores_survive_the_file(tmp_path):
    scores = Scores(np.array(["a", "ü"]), np.array([1, 0]), np.array(["x", "y"]), np.eye(2, dtype=np.float32))
    scores.save(tmp_path / "s.npz")
    again = Scores.load(tmp_path / "s.npz")
    assert again.ids.tolist() == ["a", "ü"] and again.accuracy == 0.0
    with pytest.raises(UsageError, match="cannot be read"):
        Scores.load(tmp_path / "none.npz")
    (tmp_path / "last.pt").touch()
    with pytest.raises(UsageError, match="has no test scores: run the command that trained it with --resume"):
        Scores.load(tmp_path)
    (tmp_path / "bad.npz").write_bytes(b"PK nothing")
    with pytest.raises(UsageError, match="not a file of scores"):
        Scores.load(tmp_path / "bad.npz")
    np.savez(tmp_path / "part.npz", ids=scores.ids)
    with pytest.raises(UsageError, match="not a file of scores"):
        Scores.load(tmp_path / "part.npz")


def test_precision_and_device():
    cpu = torch.device("cpu")
    weight = torch.ones(8, 8)
    with autocast("bfloat16", cpu):
        assert (weight @ weight).dtype == torch.bfloat16
    with autocast("float32", cpu):
        assert (weight @ weight).dtype == torch.float32
    assert pick_device("cpu") == cpu
    with pytest.raises(UsageError, match=r"--device nonsense does not work here; .*: auto, cpu"):
        pick_device("nonsense")


def test_precision_follows_the_processor(monkeypatch, caplog):
    cpu, has = torch.device("cpu"), {}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has, raising=False)
    assert pick_precision("auto", cpu) == "float32"
    assert pick_precision("float32", cpu) == "float32" and not caplog.text
    assert pick_precision("bfloat16", cpu) == "bfloat16" and "emulates" in caplog.text
    has["amx_bf16"] = True
    assert pick_precision("auto", cpu) == "bfloat16"


def test_scores_that_are_not_finite_are_refused():
    corpus, recipe, model = FakeCorpus(clips=1), small(), Linear(3)
    model.weight.data[0, 0, 0, 0] = float("nan")
    with pytest.raises(NotFinite, match=r"scores of 1 videos \(BlueSpin/.* are not finite"):
        score_videos(model, corpus, list(corpus)[:1], recipe, classes=3, frames=1, crops=1, device=CPU)


def test_shared_memory_limits_the_loader_processes(monkeypatch, caplog, tmp_path):
    usage = shutil.disk_usage(tmp_path)
    frame = 4 * 3 * 56 * 40
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=3 * frame * 2))
    counts = []
    make = loaders.make_loader
    monkeypatch.setattr(loaders, "make_loader", lambda c, n, **o: counts.append(n) or make(c, 0, **o))
    corpus = FakeCorpus(clips=1)
    options = {"classes": 3, "frames": 1, "crops": 1, "device": CPU}
    score_videos(Linear(3), corpus, list(corpus), small(), workers=5, loader="processes", **options)
    assert counts == [2] and "room for 2 loader processes, not 5" in caplog.text


def test_controls_change_the_input(tmp_path):
    """Flow that changes with time differs from its reverse."""
    corpus = FakeCorpus()
    examples = Examples(tuple(corpus), tuple(CLASSES.index(n) for n in corpus.labels.values()), CLASSES)
    recipe = small("temporal", train={"steps": 2, "milestones": []}, test={"frames": 1, "crops": 1})
    train.train(recipe, corpus, examples, tmp_path / "plain", device="cpu")
    subset = examples.subset([0, 12, 24])
    reversed_scores = evaluate(tmp_path / "plain", corpus, subset, control="reversed").scores
    assert not np.array_equal(reversed_scores, evaluate(tmp_path / "plain", corpus, subset).scores)
    # The recipe's control has the same effect.
    kept = checkpoint.load(tmp_path / "plain" / "last.pt")
    changed = replace(kept, recipe=replace(recipe, input=replace(recipe.input, control="reversed")))
    (tmp_path / "turned").mkdir()
    checkpoint.save(tmp_path / "turned" / "last.pt", changed)
    assert np.array_equal(reversed_scores, evaluate(tmp_path / "turned", corpus, subset).scores)


@pytest.mark.parametrize("size", [(56, 40), (32, 40), (32, 32)])
@pytest.mark.parametrize("pairs", [14, 4])
def test_a_view_that_occurs_twice_is_scored_once(size, pairs):
    """25 clips and 10 crops, or fewer where they coincide: the mean over all, from fewer passes."""
    recipe = small("temporal", input={"stack": 3})
    corpus = FakeCorpus(clips=1)
    for video in corpus.videos.values():
        video.num_pairs, video.num_frames = pairs, pairs + 1
        video.width, video.height = size
    ids = list(corpus)[:3]
    seen = []

    def model(x):
        seen.append(len(x))
        return linear(x)

    linear = Linear(recipe.channels)
    model.eval = linear.eval
    got = score_videos(model, corpus, ids, recipe, classes=3, frames=25, crops=10, device=CPU)
    positions, places = min(25, pairs - 2), 5 if size == (56, 40) else 3 if size == (32, 40) else 1
    assert sum(seen) == 3 * positions * places * 2
    for row, video in zip(got, (corpus[i] for i in ids), strict=True):
        starts = spaced_starts(pairs, 3, 25)
        crops = [
            transforms.fixed_crops(loading.load_clip(video, int(s), recipe), 32, 10, "temporal")
            for s in starts
        ]
        scores = torch.cat([linear(crop.normalised()).softmax(1) for crop in crops]).detach()
        np.testing.assert_allclose(row, scores.mean(0), rtol=1e-4)


def test_a_clip_that_is_spread_over_the_video_is_scored_once():
    recipe = recipe_for("siamese_transform", "spatial", input={"time_steps": 6, "spacing": [0, 0]})
    clips = dataset.EvalClips(corpus := FakeCorpus(clips=1), tuple(corpus)[:2], recipe, frames=10)
    assert len(clips) == 2 and clips.counts == [10, 10]
    assert clips[1][0] == 1 and clips[1][1].planes.shape[0] == 6
