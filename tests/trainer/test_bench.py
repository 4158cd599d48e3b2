"""Timing of recipes: both loaders give the same pixels, and the speeds fit together."""

import json
import multiprocessing
import time
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
    """Four videos of two classes, quantised as by TSN."""
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
def test_both_loaders_give_the_same_pixels(corpus, stream, tmp_path):
    recipe = small(stream, input={"jitter": 0.0})
    examples = corpus_examples(corpus, "all")
    ours = dataset.TrainingClips([[(corpus, examples)]], recipe)
    theirs = bench.FolderClips(tmp_path, corpus, examples, recipe)
    flips = 0
    for i in range(12):
        clip, label, _ = ours[0, i]
        planes, same = theirs[0, i]
        codes = clip.planes.clone()
        if (
            stream == "temporal" and clip.gain[0] < 0
        ):  # a mirrored clip: one loader inverts the codes of u, the other inverts their gain
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
        # One averages areas, the other interpolates.
        assert ((planes * 0.226 + 0.5) * 255 - clip.planes).abs().mean() < 3


@pytest.fixture
def short_rounds(monkeypatch):
    monkeypatch.setattr(bench, "ROUND_SECONDS", 0.05)


def test_figures_of_a_recipe(corpus, short_rounds):
    examples = corpus_examples(corpus, "all")
    speed = bench.bench(small("temporal"), corpus, examples, device="cpu", steps=2, folder=True)
    assert speed.model > 0 and speed.both > 0 and 0 <= speed.data_wait < 1
    figures = speed.to_dict()
    assert figures.pop("loaders") == {"in_process": speed.loader}
    assert figures.pop("loader_kind") == "in_process"
    assert len(figures) == 11 and all(value > 0 for name, value in figures.items() if name != "data_wait")


def test_each_kind_of_loader_is_timed(corpus, short_rounds):
    examples = corpus_examples(corpus, "all")
    speed = bench.bench(
        small("temporal"), corpus, examples, device="cpu", workers=1, loader="processes", steps=1, folder=True
    )
    assert speed.loader_kind == "processes" and set(speed.loaders) == {"in_process", "threads", "processes"}
    assert speed.loaders["processes"] == speed.loader and min(speed.loaders.values()) > 0


def test_processor_time_has_that_of_other_processes():
    before = bench._processor_seconds()
    worker = multiprocessing.get_context("fork").Process(target=_work_and_wait, args=(0.2,))
    worker.start()
    time.sleep(0.05)
    while (used := bench._processor_seconds() - before) < 0.2:
        assert worker.is_alive()
    worker.terminate()
    worker.join()
    assert used < 5


def _work_and_wait(seconds):
    while time.process_time() < seconds:
        pass
    time.sleep(60)


def test_the_speed_of_the_network_excludes_waiting_for_data(corpus):
    """Two trainings are timed: in one process, whose waiting is subtracted, and with loaders.

    Rates are medians over the rounds.
    """
    rounds = [bench.Rate(rate, rate / 2) for rate in (70.0, 90.0, 80.0, 60.0, 100.0)]
    speeds = {0: bench.TrainingSpeed(30.0, 0.25), 2: bench.TrainingSpeed(38.0, 0.05)}
    speed = bench.bench(
        small("temporal"),
        corpus,
        corpus_examples(corpus, "all"),
        device="cpu",
        workers=2,
        loader="threads",
        rates=lambda loads, *_: dict.fromkeys(loads, rounds),
        training=lambda *args: speeds[args[4]],
    )
    kinds = dict.fromkeys(("in_process", "threads", "processes"), 80.0)
    assert speed.to_dict() == {
        "loader": 80.0,
        "model": 40.0,
        "both": 38.0,
        "data_wait": 0.05,
        "loader_kind": "threads",
        "loaders": kinds,
        "float32": 80.0,
        "loader_processor": 40.0,
    }


def test_the_command(corpus, tmp_path, short_rounds):
    recipes = [str(toml(small(s), tmp_path / f"{s}.toml")) for s in ("spatial", "temporal")]
    args = ["bench", *recipes, "--corpus", str(corpus.path), "--steps", "1", "--workers", "0"]
    text = CliRunner().invoke(main, args, catch_exceptions=False)
    assert text.exit_code == 0 and text.output.count("%") == 2
    run = CliRunner().invoke(main, [*args, "--json"], catch_exceptions=False)
    rows = json.loads(run.stdout)
    assert [(Path(r["recipe"]).stem, r["workers"]) for r in rows] == [("spatial", 0), ("temporal", 0)]
    refused = CliRunner().invoke(main, [*args, "--set", "input.crop=60"])
    assert refused.exit_code == 2 and "input.crop is 60" in refused.output
