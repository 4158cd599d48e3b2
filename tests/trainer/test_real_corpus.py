"""The trainer on corpora that flowprep extracted: from the stored JPEGs to the input of the network."""

import json
import re

import cv2
import numpy as np
import pytest
import torch

from flowprep import Settings, make_corpus, open_corpus
from flowprep.errors import UsageError
from tests.support.command import call
from tests.support.fakes import small, toml
from trainer.data import loading, transforms
from trainer.evaluation.features import score_videos
from trainer.evaluation.scores import Scores

WIDTH, HEIGHT, FRAMES = 96, 64, 9


def sheet(seed):
    """A smooth random texture, (3 H, 3 W, 3) uint8."""
    noise = np.random.default_rng(seed).uniform(0, 255, (3 * HEIGHT, 3 * WIDTH, 3)).astype(np.float32)
    image = cv2.GaussianBlur(noise, (0, 0), 2.0)
    return cv2.normalize(image, None, 20, 235, cv2.NORM_MINMAX).astype(np.uint8)


def frames(seed, motion):
    """A window onto a moving sheet: `slide` goes right by 1.5 px a frame, `grow` expands by 2%."""
    texture, out = sheet(seed), []
    for t in range(FRAMES):
        m = np.float32([[1, 0, 1.5 * t - WIDTH], [0, 1, -HEIGHT]])
        if motion == "grow":
            m = cv2.getRotationMatrix2D((1.5 * WIDTH, 1.5 * HEIGHT), 0, 1.02**t)
            m[:, 2] -= WIDTH, HEIGHT
        out.append(cv2.warpAffine(texture, m, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR))
    return out


def write_folder(folder, images):
    folder.mkdir(parents=True)
    for i, image in enumerate(images):
        cv2.imwrite(str(folder / f"{i:05d}.png"), image)


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory):
    """A corpus of two videos, stored as frames, and of both mirrored."""
    folder = tmp_path_factory.mktemp("mirrored")
    for motion in ("slide", "grow"):
        images = frames(1, motion)
        write_folder(folder / "videos" / motion / "plain", images)
        write_folder(folder / "videos" / motion / "mirror", [i[:, ::-1] for i in images])
    make_corpus([folder / "videos"], folder / "corpus", Settings(size="source", backward=True), jobs=1)
    return open_corpus(folder / "corpus")


@pytest.mark.parametrize("motion", ["slide", "grow"])
@pytest.mark.parametrize("subtract_mean", [True, False])
@pytest.mark.parametrize("kind", [{}, {"trajectories": True}, {"bidirectional": True}], ids=str)
def test_a_flipped_input_is_the_input_of_the_flipped_video(mirrored, motion, subtract_mean, kind):
    """Through the whole path: solver, codes, JPEG, reader, means, stack.

    Within 0.15 px on average, for the solver is not symmetrical to the last digit and the adaptive codes'
    JPEG may be off by 0.2 px (half its step). An input that is not negated would be off by 2 |u|.
    """
    options = {"subtract_mean": subtract_mean, **kind}
    recipe = small("temporal", input={"stack": 8, "flow_scale": 1.0, **options})
    clips = [loading.load_clip(mirrored[f"{motion}/{name}"], 0, recipe) for name in ("plain", "mirror")]
    plain, mirror = (clip.normalised() for clip in clips)
    flipped = transforms.flip(clips[0], "temporal").normalised()
    inner = (slice(None), slice(8, -8), slice(8, -8))
    assert (flipped[inner] - mirror[inner]).abs().mean() < 0.15
    if motion == "grow" or not subtract_mean:
        assert (plain.flip(-1)[inner] - mirror[inner])[0::2].abs().mean() > 0.4
    flipped_crops = transforms.fixed_crops(clips[0], 32, 10, "temporal").normalised()[5:]
    crops = transforms.fixed_crops(clips[1], 32, 5, "temporal").normalised()[[1, 0, 3, 2, 4]]
    for got, want in zip(flipped_crops, crops, strict=True):
        assert (got - want).abs().mean() < 0.25  # flow is less accurate near the border


def test_units_and_signs(mirrored):
    """A motion right by 1.5 px a frame is u = 1.5, v = 0 in the input; without its mean it is 0."""
    video = mirrored["slide/plain"]
    raw = small("temporal", input={"stack": 8, "flow_scale": 1.0, "subtract_mean": False})
    planes = loading.load_clip(video, 0, raw).normalised()[:, 8:-8, 8:-8]
    assert abs(planes[0::2].mean() - 1.5) < 0.1 and abs(planes[1::2].mean()) < 0.1
    centred = loading.load_clip(
        video, 0, small("temporal", input={"stack": 8, "flow_scale": 1.0})
    ).normalised()
    assert centred.mean((1, 2)).abs().max() < 0.05


def test_backward_flow_is_the_opposite_motion(mirrored):
    """Backward, growth is shrinkage: the two halves of a bidirectional input have opposite signs."""
    options = {"stack": 8, "flow_scale": 1.0, "bidirectional": True}
    planes = loading.load_clip(mirrored["grow/plain"], 0, small("temporal", input=options)).normalised()
    u = planes[0::2, 8:-8, 8:-8]
    slopes = (u[:, :, 1:] - u[:, :, :-1]).mean((1, 2))
    # 2% a frame forward, 1 - 1/1.02 backward; TV-L1 smooths a part of it away.
    np.testing.assert_allclose(slopes[:4], 0.02, atol=0.005)
    np.testing.assert_allclose(slopes[4:], -0.0196, atol=0.005)


def test_frames_are_those_of_the_video(mirrored):
    want = frames(1, "grow")[4][..., ::-1].astype(np.float32)
    recipe = small(input={"rgb_mean": [0, 0, 0], "rgb_scale": [1, 1, 1]})
    got = loading.load_clip(mirrored["grow/plain"], 4, recipe).normalised().permute(1, 2, 0).numpy()
    assert np.abs(got - want).mean() < 3  # JPEG


@pytest.mark.timeout(60)
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_loader_processes_read_the_same(mirrored):
    """An open corpus is read on both sides of a fork, although the threads of OpenCV run already."""
    cv2.setNumThreads(4)
    cv2.GaussianBlur(np.zeros((2000, 2000), np.uint8), (0, 0), 5)
    ids, recipe = list(mirrored), small("temporal")
    mean = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten())
    scores = [
        score_videos(
            mean, mirrored, ids, recipe, classes=9, frames=3, crops=10, device=torch.device("cpu"), workers=w
        )
        for w in (0, 2)
    ]
    np.testing.assert_array_equal(*scores)


def write_video(path, images):
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 25, (WIDTH, HEIGHT))
    for image in images:
        writer.write(image)
    writer.release()


@pytest.mark.slow
def test_a_raw_video_gets_the_scores_of_the_test(tmp_path, monkeypatch):
    """Split, train, and predict: the same video from the corpus and raw gives the same scores.

    The flow is stabilised, which a corpus of frames alone, as the spatial stream's, cannot be.
    """
    for motion in ("slide", "grow"):
        for clip in range(3):
            write_video(tmp_path / "videos" / motion / f"v_{motion}_g{clip}_c1.mp4", frames(clip, motion))
    settings = Settings(size="source", stabilise=True)
    make_corpus([tmp_path / "videos"], tmp_path / "corpus", settings, jobs=1)
    lists = tmp_path / "lists"
    assert call("split", tmp_path / "corpus", "--out", lists).exit_code == 0
    runs = []
    joint = {"model": {"name": "st_resnet", "width": 4}, "input": {"time_steps": 2}, "test": {"whole": True}}
    joint["test"]["crops"] = 2
    for stream in ("spatial", "temporal", "both"):
        more = joint if stream == "both" else {}
        recipe = small(stream, train={"steps": 5, "milestones": []}, **more)
        recipe = toml(recipe, tmp_path / f"{stream}.toml")
        done = call(
            "train",
            recipe,
            "--corpus",
            tmp_path / "corpus",
            "--train-list",
            lists / "trainlist01.txt",
            "--test-list",
            lists / "testlist01.txt",
            "--class-index",
            lists / "classInd.txt",
            "--out",
            tmp_path / stream,
            "--workers",
            0,
            "--device",
            "cpu",
        )
        assert done.exit_code == 0, done.stderr
        runs += [f"--{stream}", tmp_path / stream]
    runs[-2] = "--joint"
    judged = [np.load(tmp_path / s / "test_scores.npz") for s in ("spatial", "temporal", "both")]
    video = str(judged[0]["ids"][0])
    want = sum(one["scores"][0] for one in judged) / 3
    from trainer.evaluation import predict as predicting
    from trainer.evaluation.predict import predict

    def scores_of(*args, **options):
        return {c.name: c.score for c in predict(*args, device="cpu", **options).classes}

    streams = {name: tmp_path / name for name in ("spatial", "temporal", "both")}
    got = scores_of(tmp_path / "videos" / video, streams)
    for name, score in zip(judged[0]["classes"].tolist(), want, strict=True):
        assert got[name] == pytest.approx(score, abs=1e-5)
    shown = call("predict", tmp_path / "videos" / video, *runs, "--top", 1, "--workers", 0, "--device", "cpu")
    assert shown.exit_code == 0 and max(got, key=got.get) in shown.stdout
    assert shown.stdout.count("\n") == 1

    # Two streams are fused as their test scores are.
    ids = np.array([f"held{i}.avi" for i in range(12)])
    streams = {name: tmp_path / name for name in ("spatial", "temporal")}
    weighted = {"method": "weighted", "calibrate": True}
    (tmp_path / "spatial" / "validation_scores.npz").unlink()
    with pytest.raises(UsageError, match=r"spatial has no validation_scores.npz to fit on"):
        predict(tmp_path / "videos" / video, streams, **weighted)
    with pytest.raises(UsageError, match=r"of two streams: give --spatial and --temporal alone"):
        predict(tmp_path / "videos" / video, {"spatial": tmp_path / "spatial"}, **weighted)
    for seed, run in enumerate(streams.values()):
        rows = np.random.default_rng(seed).dirichlet([1, 1], 12).astype(np.float32)
        Scores(ids, np.arange(12) % 2, judged[0]["classes"], rows).save(run / "validation_scores.npz")
    options = ["--method", "weighted", "--calibrate", "--json"]
    done = call("fuse", *streams.values(), *options, "--out", tmp_path / "fused.npz")
    turned = call("fuse", *list(streams.values())[::-1], *options)
    assert turned.exit_code == 2 and "give the spatial one first" in turned.stderr
    told = json.loads(done.stdout)
    assert sum(told["weights"]) == pytest.approx(1) and told["temperatures"][0] != 1
    fused = Scores.load(tmp_path / "fused.npz")
    got = scores_of(tmp_path / "videos" / video, streams, **weighted)
    for name, score in zip(fused.classes.tolist(), fused.scores[0], strict=True):
        assert got[name] == pytest.approx(score, abs=1e-4)
    done = call(
        "predict", tmp_path / "videos" / video, *runs[:4], *options, "--workers", 0, "--device", "cpu"
    )
    assert json.loads(done.stdout)["classes"][0]["score"] == pytest.approx(max(got.values()), abs=1e-6)

    # A joint run is reported, compared and exported like any other.
    report = tmp_path / "report.html"
    done = call("report", *runs, "--corpus", tmp_path / "corpus", "-o", report)
    assert done.exit_code == 0 and "The joint network" in report.read_text()
    assert re.findall(r"class='card (\w+)'", report.read_text()) == ["spatial", "temporal", "fused", "both"]
    (row,) = json.loads(call("compare", tmp_path / "both", "--device", "cpu", "--batch", 2, "--json").stdout)
    assert row["input"] == {"spatial": "3x2x32x32", "temporal": "6x2x32x32"}
    assert row["published"]["UCF-101, 3 splits"] == 93.4 and row["published_parameters"] > 5e7
    assert call("export", tmp_path / "both", "-o", tmp_path / "both.pt2").exit_code == 0

    # One stream alone: the other is not extracted, and the scores are those of the test list.
    extracted = []
    make = predicting.make_corpus
    monkeypatch.setattr(
        predicting,
        "make_corpus",
        lambda inputs, out, settings, **o: extracted.append(settings) or make(inputs, out, settings, **o),
    )
    for stream, file in zip(("spatial", "temporal", "both"), judged, strict=True):
        got = scores_of(tmp_path / "videos" / video, {stream: tmp_path / stream})
        for name, score in zip(file["classes"].tolist(), file["scores"][0], strict=True):
            assert got[name] == pytest.approx(score, abs=1e-5)
    assert [(s.rgb, s.flow) for s in extracted] == [(True, False), (False, True), (True, True)]
    extracted.clear()
    swapped = call("predict", tmp_path / "videos" / video, "--spatial", tmp_path / "temporal")
    assert swapped.exit_code == 2 and "is a temporal run, not a spatial one" in swapped.stderr
    assert not extracted
    several = call("predict", tmp_path / "videos" / "slide", "--spatial", tmp_path / "spatial", "--json")
    assert several.exit_code == 0 and len(json.loads(several.stdout)["videos"]) == 3

    (tmp_path / "broken.mp4").write_bytes(b"no video at all")
    refused = call("predict", tmp_path / "broken.mp4", *runs)
    assert (
        refused.exit_code == 1
        and "broken.mp4" in refused.stderr
        and refused.stderr.splitlines()[-1][:6] == "error:"
    )
