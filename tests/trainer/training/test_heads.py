"""Several data sets: a head for each, added classes, and runs that start from another run."""

import json

import pytest
import torch
import torch.nn.functional as F

import flowprep
from flowprep.errors import UsageError
from tests.support.command import call
from tests.support.fakes import CLASSES, FakeCorpus, examples_of, rows, small, toml, write_lists
from tests.support.runs import Killed, kill_at, run
from trainer.data import dataset
from trainer.data.annotations import Examples, auxiliary_examples, label_examples
from trainer.evaluation.evaluate import evaluate
from trainer.training import checkpoint
from trainer.training import trainer as train
from trainer.training.heads import heads_loss

QUICK = {"steps": 4, "milestones": [], "checkpoint_every": 2, "log_every": 1}


def other(clips=2):
    """Another data set: (corpus, its videos)."""
    corpus = FakeCorpus(clips=clips, prefix="Other")
    classes = tuple(f"Other{c}" for c in CLASSES[:3])
    pairs = [(i, n) for i, n in corpus.labels.items() if n in classes]
    return corpus, label_examples("list", pairs, classes)


def test_the_loss_is_that_of_separate_heads():
    """Two separate softmax layers have the same loss and the same gradients."""
    torch.manual_seed(0)
    features, sizes = torch.randn(7, 5), [4, 3]
    head, y = torch.tensor([0, 1, 0, 1, 0, 1, 0]), torch.tensor([3, 2, 0, 0, 1, 1, 2])
    layers = [torch.nn.Linear(5, n) for n in sizes]
    joint = torch.nn.Linear(5, 7)
    with torch.no_grad():
        joint.weight.copy_(torch.cat([layer.weight for layer in layers]))
        joint.bias.copy_(torch.cat([layer.bias for layer in layers]))
    loss, right = heads_loss(joint, joint(features), y, head, sizes, [4, 3])
    want = sum(F.cross_entropy(layer(features[head == h]), y[head == h]) for h, layer in enumerate(layers))
    torch.testing.assert_close(loss, want)
    loss.backward()
    want.backward()
    torch.testing.assert_close(joint.weight.grad, torch.cat([layer.weight.grad for layer in layers]))
    hits = [int(layers[h](f).argmax()) == n for f, h, n in zip(features, head, y, strict=True)]
    assert int(right) == sum(hits)


def test_a_sample_changes_its_own_head_only():
    logits = torch.randn(2, 7, requires_grad=True)
    loss, _ = heads_loss(
        torch.nn.Identity(), logits, torch.tensor([1, 2]), torch.tensor([1, 1]), [4, 3], [1, 2]
    )
    loss.backward()
    assert logits.grad[:, :4].abs().max() == 0 and logits.grad[:, 4:].abs().min() > 0


def test_every_head_has_the_same_share_of_a_batch():
    corpus = FakeCorpus()
    clips = dataset.TrainingClips([[(corpus, examples_of(corpus))], [other()]], small())
    assert [clips[0, i][2] for i in range(6)] == [0, 1, 0, 1, 0, 1]
    labels = {head: {clips[s, head][1] for s in range(60)} for head in (0, 1)}
    assert labels == {0: {0, 1, 2, 3}, 1: {0, 1, 2}}


@pytest.mark.parametrize("way", ["multi_task", "add_classes"])
def test_a_run_on_two_data_sets(tmp_path, way):
    recipe, more = small("temporal", train=QUICK), {way: [other()]}
    run(tmp_path / "whole", recipe, **more)
    kept = checkpoint.load(tmp_path / "whole" / "last.pt")
    assert kept.heads == ((4, 3) if way == "multi_task" else (7,))
    assert kept.classes == CLASSES and kept.model["fc.weight"].shape[0] == 7
    # Validation and evaluation are of the first data set only.
    assert len((tmp_path / "whole" / "validationlist.txt").read_text().split("\n")) == 8 + 1
    corpus = FakeCorpus()
    scores = evaluate(tmp_path / "whole", corpus, examples_of(corpus).subset(range(4)), frames=1, crops=1)
    assert scores.scores.shape == (4, 4)
    torch.testing.assert_close(torch.from_numpy(scores.scores.sum(1)), torch.ones(4))

    with pytest.raises(Killed):
        run(tmp_path / "parts", recipe, **more, on_step=kill_at(3))
    with pytest.raises(UsageError, match="or further data sets"):
        run(tmp_path / "parts", recipe, resume=True)
    with pytest.raises(UsageError, match="or further data sets"):
        run(tmp_path / "parts", recipe, resume=True, **{way: [other(clips=3)]})
    run(tmp_path / "parts", recipe, resume=True, **more)
    whole, parts = ([row["loss"] for row in rows(tmp_path / name)] for name in ("whole", "parts"))
    assert whole == parts


@pytest.mark.slow
def test_both_heads_learn(tmp_path):
    """The same videos twice, with different class names: each head learns to tell the motions apart."""
    recipe = small("temporal", train={"steps": 120, "milestones": [90], "batch": 32, "validate_every": 200})
    corpus = FakeCorpus(prefix="Other")
    pairs = list(corpus.labels.items())
    second = label_examples("list", pairs, sorted(set(corpus.labels.values())))
    run(tmp_path, recipe, multi_task=[(corpus, second)])
    # Two untrained heads have the loss 2 log 4. Flow tells two of four classes apart: 2 log 2 = 1.39.
    assert rows(tmp_path)[-1]["loss"] < 1.9


def test_added_classes_must_be_new(tmp_path):
    corpus = FakeCorpus()
    with pytest.raises(UsageError, match="added classes that exist already: BlueSpin, BlueZoom"):
        run(tmp_path, small(), add_classes=[(corpus, examples_of(corpus))])
    with pytest.raises(UsageError, match=r"train.batch is 2; allowed: one sample per head, 3"):
        run(tmp_path, small(train={"batch": 2}), multi_task=[other(), other()])


def test_a_head_of_one_class_is_refused(tmp_path):
    """It would learn nothing, and still use its share of every batch."""
    corpus, examples = other()
    alone = label_examples("list", [(i, "everything") for i in examples.ids], ["everything"])
    with pytest.raises(
        UsageError, match=r"fake-corpus has the class 'everything' only, and a head needs two classes"
    ):
        run(tmp_path, small(), multi_task=[(corpus, alone)])


def test_a_further_data_set_has_its_own_classes():
    corpus, tested = FakeCorpus(prefix="Other"), examples_of(FakeCorpus())
    everything = auxiliary_examples(corpus, "all", tested, FakeCorpus())
    assert len(everything) == len(corpus) and everything.classes == tuple(f"Other{c}" for c in CLASSES)
    with pytest.raises(UsageError, match="all: 32 videos are in the test list"):
        auxiliary_examples(FakeCorpus(), "all", tested, FakeCorpus())


def test_a_video_of_another_corpus_with_the_same_name(tmp_path):
    """It is the same video if it has as many frames at the same rate; then it may not be learnt from."""
    first, second = FakeCorpus(), FakeCorpus()
    second.path = tmp_path
    with pytest.raises(UsageError, match="all: 32 videos are in the test list"):
        auxiliary_examples(second, "all", examples_of(first), first)
    for video in list(second.videos.values())[:30]:
        video.num_frames += 1
    with pytest.raises(UsageError, match="all: 2 videos are in the test list"):
        auxiliary_examples(second, "all", examples_of(first), first)
    for video in list(second.videos.values())[30:]:
        video.frame_rate = 24.0
    assert len(auxiliary_examples(second, "all", examples_of(first), first)) == 32


def test_a_run_starts_from_one_on_another_data_set(tmp_path):
    first = other()
    train.train(small("temporal", train=QUICK), *first, tmp_path / "first", device="cpu")
    start = checkpoint.load(tmp_path / "first" / "last.pt").model
    weights = {"weights": str(tmp_path / "first"), "trainable": "last"}
    run(tmp_path / "second", small("temporal", train=QUICK, model=weights))
    kept = checkpoint.load(tmp_path / "second" / "last.pt").model
    assert kept["fc.weight"].shape[0] == 4
    assert all(torch.equal(v, kept[k]) for k, v in start.items() if not k.startswith("fc."))


@pytest.mark.parametrize("file", ["", "/last.pt"])
def test_a_last_layer_is_kept_for_the_same_classes_only(tmp_path, caplog, file):
    """Classes with other names, or in another order, are other classes."""
    corpus = FakeCorpus()
    run(tmp_path / "first", small(train=QUICK))
    start = checkpoint.load(tmp_path / "first" / "last.pt").model["fc.weight"]
    same = examples_of(corpus)
    renamed = Examples(same.ids, same.labels, tuple(f"New{c}" for c in CLASSES))
    turned = Examples(same.ids, tuple(3 - n for n in same.labels), CLASSES[::-1])
    recipe = small(train={**QUICK, "lr": 1e-9}, model={"weights": f"{tmp_path / 'first'}{file}"})
    for name, examples, keeps in (
        ("same", same, True),
        ("renamed", renamed, False),
        ("turned", turned, False),
    ):
        caplog.clear()
        with caplog.at_level("INFO"):
            train.train(recipe, corpus, examples, tmp_path / name, device="cpu")
        weight = checkpoint.load(tmp_path / name / "last.pt").model["fc.weight"]
        assert torch.allclose(weight, start, atol=1e-6) == keeps
        assert ("the last layer starts from scratch" in caplog.text) != keeps


def test_multi_task_with_the_command(tmp_path, opened, monkeypatch):
    second = FakeCorpus(clips=2, prefix="Other")
    monkeypatch.setattr(flowprep, "open_corpus", lambda p: second if "second" in str(p) else opened)
    index, learn, test = write_lists(tmp_path / "lists")
    recipe = toml(small(train=QUICK), tmp_path / "spatial.toml")
    args = ["--corpus", tmp_path, "--train-list", learn, "--test-list", test, "--class-index", index]
    args += ["--workers", 0, "--device", "cpu", "--json", "--out"]
    for option, heads in (("--multi-task", (4, 4)), ("--add-classes", (8,))):
        run = tmp_path / option.strip("-")
        done = call("-q", "train", recipe, *args, run, option, tmp_path / "second", "all")
        assert done.exit_code == 0, done.stderr
        assert json.loads(done.stdout)["videos"] == 8
        assert checkpoint.load(run / "last.pt").heads == heads
