"""Timing: what the other loader shows is what ours shows, and the figures fit together."""

import json
import multiprocessing
import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from flowprep import Settings, make_corpus, open_corpus
from tests.support.fakes import small, toml
from trainer import bench
from trainer.cli import main
from trainer.data import dataset
from trainer.data.annotations import corpus_examples


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Four videos of two classes, their flow in the codes of TSN."""
    folder = tmp_path_factory.mktemp("bench")
    rng = np.random.default_rng(0)
    for name in ("Left/a", "Left/b", "Right/c", "Right/d"):
        (folder / "videos" / name).mkdir(parents=True)
        texture = cv2.GaussianBlur(rng.uniform(0, 255, (48, 90, 3)).astype(np.float32), (0, 0), 2)
        for t in range(7):
            x = 2 * t if name.startswith("Left") else 12 - 2 * t
            cv2.imwrite(str(folder / "videos" / name / f"{t:05d}.png"), texture[:, x : x + 64])
    settings = Settings(size="source", codes="tsn")
    make_corpus([folder / "videos"], folder / "corpus", settings, jobs=1)
    return open_corpus(folder / "corpus")


@pytest.mark.parametrize("stream", ["spatial", "temporal"])
def test_both_loaders_show_the_same_pictures(corpus, stream, tmp_path):
    recipe = small(stream, input={"jitter": 0.0})
    examples = corpus_examples(corpus, "all")
    ours = dataset.TrainingClips([[(corpus, examples)]], recipe)
    theirs = bench.FolderClips(tmp_path, corpus, examples, recipe)
    flips = 0
    for i in range(12):
        clip, label, _ = ours[0, i]
        planes, same = theirs[0, i]
        codes = clip.planes.clone()
        if stream == "temporal" and clip.gain[0] < 0:  # mirrored: there u is inverted, here its gain
            codes[0::2] = 255 - codes[0::2]
            flips += 1
        assert label == same
        # The same JPEG, decoded by two libraries.
        assert ((planes * 0.226 + 0.5) * 255 - codes).abs().max() < 3
    assert stream == "spatial" or 0 < flips < 12


def test_the_other_loader_resizes_too(corpus, tmp_path):
    recipe = small("spatial", input={"jitter": 0.0, "resize": 40})
    examples = corpus_examples(corpus, "all")
    ours = dataset.TrainingClips([[(corpus, examples)]], recipe)
    theirs = bench.FolderClips(tmp_path, corpus, examples, recipe)
    for i in range(6):
        clip, planes = ours[0, i][0], theirs[0, i][0]
        assert clip.planes.shape == planes.shape
        # Averaged over areas by one, interpolated by the other.
        assert ((planes * 0.226 + 0.5) * 255 - clip.planes).abs().mean() < 3


def test_figures_of_a_recipe(corpus):
    examples = corpus_examples(corpus, "all")
    found = bench.bench(small("temporal"), corpus, examples, device="cpu", steps=2, folder=True)
    assert found["loader"] > 0 and found["folder"] > 0 and found["ratio"] > 0
    assert found["model"] > 0 and found["both"] > 0 and 0 <= found["data_wait"] < 1


def test_what_one_process_waited_for_is_not_the_models(corpus, monkeypatch):
    """Two trainings are timed: in one process, of which the waiting is taken off, and with loaders."""
    rows = {
        0: {"clips_per_second": 30.0, "data_wait": 0.25},
        2: {"clips_per_second": 38.0, "data_wait": 0.05},
    }
    monkeypatch.setattr(bench, "_train", lambda *args: rows[args[4]])
    monkeypatch.setattr(bench, "_rates", lambda *_: (rate for rate in (70.0, 90.0, 80.0, 60.0, 100.0)))
    found = bench.bench(small("temporal"), corpus, corpus_examples(corpus, "all"), device="cpu", workers=2)
    assert found == {"loader": 80.0, "model": 40.0, "both": 38.0, "data_wait": 0.05}


def test_the_command(corpus, tmp_path):
    recipes = [str(toml(small(s), tmp_path / f"{s}.toml")) for s in ("spatial", "temporal")]
    args = ["bench", *recipes, "--corpus", str(corpus.path), "--steps", "1", "--workers", "0"]
    text = CliRunner().invoke(main, args, catch_exceptions=False)
    assert text.exit_code == 0 and text.output.count("%") == 2
    run = CliRunner().invoke(main, [*args, "--json"], catch_exceptions=False)
    rows = json.loads(run.stdout)
    assert [(Path(r["recipe"]).stem, r["workers"]) for r in rows] == [("spatial", 0), ("temporal", 0)]
    refused = CliRunner().invoke(main, [*args, "--set", "input.crop=60"])
    assert refused.exit_code == 2 and "input.crop is 60" in refused.output


def test_a_thousand_batches_take_no_more_memory_than_three_hundred(corpus):
    examples = corpus_examples(corpus, "all")
    clips = dataset.TrainingClips([[(corpus, examples)]], small("temporal"))
    keys = [[(step, 0), (step, 1)] for step in range(1000)]
    others = set(multiprocessing.active_children())  # of tests before
    loader = dataset.make_loader(clips, 1, batch_sampler=keys, collate_fn=dataset.batch_clips)

    def megabytes():
        """Of this process and of the loader's, without the files that are mapped."""
        (loader,) = set(multiprocessing.active_children()) - others
        texts = [Path(f"/proc/{process}/status").read_text() for process in (os.getpid(), loader.pid)]
        return sum(int(re.search(r"RssAnon:\s+(\d+) kB", text)[1]) for text in texts) / 1024

    for number, _ in enumerate(loader):
        if number == 300:
            before = megabytes()
        if number == 900:  # it still runs
            assert megabytes() < before + 3
