"""A corpus in memory. A formula gives the frames and the flow of its videos.

Two colours and two motions make four classes: a frame shows the colour alone, a flow the motion alone.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import torch

from flowprep import Settings
from flowprep.corpus.video import QuantParams
from trainer.data.annotations import Examples
from trainer.models.registry import find_module
from trainer.recipe.schema import Recipe
from trainer.recipe.toml import as_toml

torch.set_num_threads(1)  # the networks here are too small to share, and other tests may be running

WIDTH, HEIGHT, PAIRS = 56, 40, 14
COLOURS = {"Red": (200, 60, 60), "Blue": (60, 60, 200)}
MOTIONS = ("Spin", "Zoom")
CLASSES = tuple(sorted(c + m for c in COLOURS for m in MOTIONS))


class Coded:
    """The codes of a video in memory; `exact(start, count, backward)` gives its flow."""

    def codes(self, start, count=None, backward=False, window=None, *, out=None, **options):
        codes = self._selected(start, count, backward)[0][..., : self.height, : self.width]
        return shown(codes, window, out=out, **options)

    def quant_params(self, start, count=None, backward=False):
        return QuantParams(*self._selected(start, count, backward)[1:])

    def flow(self, start, count=None, backward=False, window=None):
        codes, scale, zero, _ = self._selected(start, count, backward)
        scale, zero = scale[..., None, None], zero[..., None, None]
        return shown((codes - zero) * scale, window)

    def _selected(self, start, count, backward):
        """Codes, scale, zero point and mean of `count` pairs from `start` on, or of a sequence of pairs."""
        if count is not None:
            return self._coded(start, count, backward)
        pairs = [self._coded(int(pair), 1, backward) for pair in start]
        return [np.concatenate(parts) for parts in zip(*pairs, strict=True)]

    def _coded(self, start, count, backward):
        """Codes, scale, zero point and mean of the pairs, without JPEG compression."""
        if start < 0 or start + count > self.num_pairs:
            raise IndexError(start)
        exact = self.exact(start, count, backward)
        scale = np.abs(exact).max((2, 3)) / 127
        codes = np.rint(exact / scale[..., None, None] + 128).astype(np.uint8)
        means = self.mean_flow_backward if backward else self.mean_flow
        return codes, scale, np.full_like(scale, 128), means[start : start + count].astype(np.float32)


def shown(planes, window=None, size=None, antialias=True, mirror=False, out=None):
    """A part of (N, C, H, W), as `Video.codes` shows it.

    Windows with a size are those of a resized picture: the picture is resized as a whole, and then cut.
    """
    top, left, height, width = window or (0, 0, *planes.shape[2:])
    if not antialias:
        planes = interpolated(planes, (top, left, height, width), size)
        top, left, (height, width) = 0, 0, size
    elif size:
        whole = round(planes.shape[2] * size[0] / height), round(planes.shape[3] * size[1] / width)
        top, left = round(top * size[0] / height), round(left * size[1] / width)
        planes, (height, width) = resized(planes, whole), size
    planes = planes[:, :, top : top + height, left : left + width]
    planes = np.ascontiguousarray(planes[..., ::-1] if mirror else planes)
    if out is None:
        return planes
    assert out.shape == planes.shape and out.dtype == planes.dtype and out.flags.c_contiguous
    out[:] = planes
    return out


def interpolated(planes, window, size):
    """A window of (N, C, H, W) at another size, bilinearly; values are rounded."""
    top, left, height, width = window
    for axis, start, part, length in ((2, top, height, size[0]), (3, left, width, size[1])):
        place = (start + (np.arange(length) + 0.5) * part / length - 0.5).clip(0, planes.shape[axis] - 1)
        low = np.minimum(place.astype(int), planes.shape[axis] - 2)
        shape = [1, 1, 1, 1]
        shape[axis] = length
        weight = (place - low).reshape(shape)
        planes = planes.take(low, axis) * (1 - weight) + planes.take(low + 1, axis) * weight
    return np.rint(planes).astype(np.uint8)


def resized(planes, size):
    """(N, C, H, W) at another size: the mean over areas, or bilinear if it is larger."""
    method = cv2.INTER_AREA if size[0] < planes.shape[2] else cv2.INTER_LINEAR
    flat = [cv2.resize(p, size[::-1], interpolation=method) for p in planes.reshape(-1, *planes.shape[2:])]
    return np.reshape(flat, (*planes.shape[:2], *size))


class FakeVideo(Coded):
    """Flow at pair i: a rotation or an expansion of `speed` * (1 + i / 10), plus the drift (0.5, -0.25).

    Backward flow has the opposite sign.
    """

    def __init__(self, video_id, label, seed, pairs=PAIRS):
        self.id, self.label, self.step, self.partial, self.frame_rate = video_id, label, 1, False, 25.0
        self.width, self.height, self.num_pairs, self.num_frames = WIDTH, HEIGHT, pairs, pairs + 1
        self._colour = np.array(next(v for k, v in COLOURS.items() if label.startswith(k)))
        self._spin = label.endswith("Spin")
        self._seed = seed
        self._speed = 0.04 * (1 + seed % 5 / 5) * (-1 if seed % 2 else 1)

    def rgb(self, start, count=None, window=None, *, out=None, **options):
        if np.ndim(start) == 0:
            return self._frame(start)
        frames = np.stack([self._frame(i) for i in start]).transpose(0, 3, 1, 2)
        frames = shown(frames, window, **options).transpose(0, 2, 3, 1)
        if out is None:
            return frames
        assert out.shape == frames.shape and out.dtype == frames.dtype and out.flags.c_contiguous
        out[:] = frames
        return out

    def _frame(self, i):
        if not 0 <= i < self.num_frames:
            raise IndexError(i)
        rng = np.random.default_rng([self._seed, i])
        noise = rng.normal(0, 12, (HEIGHT, WIDTH, 3))
        return np.clip(self._colour + noise, 0, 255).astype(np.uint8)

    def exact(self, start, count, backward=False):
        y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
        x, y = x - (WIDTH - 1) / 2, y - (HEIGHT - 1) / 2
        field = np.stack([-y, x] if self._spin else [x, y]) * self._speed
        drift = np.array([0.5, -0.25], np.float32)[:, None, None]
        sign = -1 if backward else 1
        fields = [sign * (field * (1 + i / 10) + drift) for i in range(start, start + count)]
        return np.stack(fields).astype(np.float32)

    @property
    def mean_flow(self):
        return np.tile(np.array([0.5, -0.25], np.float32), (self.num_pairs, 1))

    @property
    def mean_flow_backward(self):
        return -self.mean_flow


class FakeCorpus(Mapping):
    """A corpus of all classes. With a prefix it is another data set: other ids and classes, same videos."""

    def __init__(self, clips=4, failures=(), prefix="", **settings):
        self.path = Path("fake-corpus")
        self.settings = Settings(**{"size": "56x40", **settings})
        self.failures = dict(failures)
        self.videos = {}
        for label in CLASSES:
            for group in range(1, clips + 1):
                for clip in (1, 2):
                    name = f"{prefix}{label}/v_{label}_g{group:02d}_c{clip:02d}.avi"
                    self.videos[name] = FakeVideo(name, label, len(self.videos))
                    self.videos[name].label = prefix + label

    @property
    def labels(self):
        return {name: video.label for name, video in self.videos.items()}

    def __getitem__(self, name):
        return self.videos[name]

    def __iter__(self):
        return iter(self.videos)

    def __len__(self):
        return len(self.videos)


def examples_of(corpus):
    """All videos of the corpus, with the classes of the first data set."""
    labels = [CLASSES.index(label) for label in corpus.labels.values()]
    return Examples(tuple(corpus), tuple(labels), CLASSES)


def small(stream="spatial", **sections):
    """A recipe that trains in a second or two."""
    values = {
        "stream": stream,
        "model": {"name": "resnet18", "width": 4, "dropout": 0.3},
        "input": {"crop": 32, "stack": 3, "flow_scale": 0.5},
        "train": {
            "steps": 30,
            "batch": 8,
            "lr": 0.05,
            "milestones": [20],
            "precision": "float32",
            "validation_share": 0.25,
            "validation_frames": 1,
            "validate_every": 10,
            "checkpoint_every": 10,
            "log_every": 5,
        },
        "test": {"frames": 3, "crops": 10},
    }
    for name, section in sections.items():
        values[name] = {**values[name], **section} if isinstance(section, dict) else section
    return Recipe.from_dict(values)


def recipe_for(name, stream, **sections):
    """A recipe of that network at a small width, on the corpus in memory."""
    spec = find_module(name).SPEC
    size = spec.size or 32
    values = {
        "model": {"name": name, "width": 6 if name == "fstcn" else 4, "dropout": 0.0},
        "input": {"crop": size, "resize": size if size > 40 else 0, "stack": 2, "flow_scale": 0.5},
        "train": {"steps": 2, "batch": 2, "milestones": [], "lr": 0.001, "validation_share": 0.0},
        "test": {"frames": 2, "crops": 2},
    }
    if spec.frozen_by:  # so that it can start from scratch
        values["model"]["options"] = {spec.frozen_by: False}
    for key, section in sections.items():
        values[key] = {**values.get(key, {}), **section}
    return small(stream, **values)


def rows(run):
    """The rows of a run's log."""
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def write_lists(folder, test_groups=(1,), clips=4, crlf=False):
    """Write lists of the corpus in the form of UCF-101; gives (classInd.txt, train, test)."""
    end = "\r\n" if crlf else "\n"
    train, test = [], []
    for number, label in enumerate(CLASSES, 1):
        for group in range(1, clips + 1):
            for clip in (1, 2):
                name = f"{label}/v_{label}_g{group:02d}_c{clip:02d}.avi"
                test.append(name) if group in test_groups else train.append(f"{name} {number}")
    folder.mkdir(parents=True, exist_ok=True)
    names = [folder / name for name in ("classInd.txt", "trainlist01.txt", "testlist01.txt")]
    texts = [[f"{n} {c}" for n, c in enumerate(CLASSES, 1)], train, test]
    for path, lines in zip(names, texts, strict=True):
        path.write_bytes((end.join(lines) + end * 2).encode())
    return names


def toml(recipe, path):
    """Write a recipe; gives the path."""
    path.write_text(as_toml(recipe))
    return path
