"""How fast a recipe's clips are loaded, computed and trained with: each alone, and together.

And against the loader that everyone writes for folders of JPEGs, on the same pictures.
"""

from __future__ import annotations

import dataclasses
import itertools
import statistics
import tempfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageOps

from trainer.data import loading, sampling, transforms
from trainer.data.annotations import Examples
from trainer.data.dataset import BalancedClips, TrainingClips, batch_clips, make_loader
from trainer.recipe.schema import Recipe
from trainer.training.device import pick_device
from trainer.training.trainer import train

if TYPE_CHECKING:
    from flowprep import Corpus

# The streams of an image of one clip, in the order of the channels, and what its files are called.
FILES = {
    "spatial": {"rgb": "img_{:05d}.jpg"},
    "temporal": {"flow_u": "flow_x_{:05d}.jpg", "flow_v": "flow_y_{:05d}.jpg"},
}
ROUNDS = 5
SECONDS = 1.0  # that each round takes, about


def bench(
    recipe: Recipe,
    corpus: Corpus,
    examples: Examples,
    *,
    device: str = "auto",
    workers: int = 0,
    steps: int = 10,
    folder: bool = False,
) -> dict[str, Any]:
    """Time a recipe on the videos of a corpus.

    Args:
        recipe: what a clip, a batch and a network are.
        corpus, examples: the videos.
        device, workers: as trainer.training.trainer.train.
        steps: training steps that are timed, after as many that are not.
        folder: time also a loader of JPEGs in folders; not for joint networks.

    Returns:
        In clips per second: `loader`, the loader alone, the median of some rounds; `model`, training steps
        without loading; `both`, training; and `data_wait`, the share of the time of `both` that was spent
        waiting for data. With `folder`: `folder`, the other loader with as many processes, round by round in
        turn with ours, and `ratio`, the median over the rounds.

    Raises:
        UsageError: the corpus does not fit the recipe.
    """
    loading.check_fit(corpus, examples.ids, recipe)
    ours = _rates(TrainingClips([[(corpus, examples)]], recipe), recipe, workers)
    found: dict[str, Any] = {}
    if folder:
        with tempfile.TemporaryDirectory(prefix="trainer-bench-") as root:
            theirs = _rates(FolderClips(Path(root), corpus, examples, recipe), recipe, workers)
            pairs = list(itertools.islice(zip(ours, theirs, strict=False), ROUNDS))
        ours.close()
        theirs.close()
        found["loader"], found["folder"] = (statistics.median(rates) for rates in zip(*pairs, strict=True))
        found["ratio"] = statistics.median(mine / other for mine, other in pairs)
    else:
        found["loader"] = statistics.median(itertools.islice(ours, ROUNDS))
        ours.close()
    alone = _train(recipe, corpus, examples, device, 0, steps)  # loading is waited for, and can be taken off
    both = _train(recipe, corpus, examples, device, workers, steps)
    found["model"] = alone["clips_per_second"] / max(1e-9, 1 - alone["data_wait"])
    found["both"] = both["clips_per_second"]
    found["data_wait"] = both["data_wait"]
    return found


def _rates(
    dataset: torch.utils.data.Dataset[Any], recipe: Recipe, workers: int
) -> Generator[float, None, None]:
    """Clips per second of a loader, round by round without an end; between them its processes rest.

    A round ends when all that was asked for is there: nothing that a loader does ahead of time is done in the
    other's. The first one, in which processes are started and files first read, does not count.
    """
    keys: list[list[tuple[int, int]]] = []
    collate = batch_clips if isinstance(dataset, TrainingClips) else None
    loader = make_loader(
        dataset, workers, batch_sampler=keys, collate_fn=collate, persistent_workers=workers > 0
    )
    each = max(1, workers)  # batches at once
    count, step = each, 0
    while True:
        keys[:] = [[(step + k, i) for i in range(recipe.train.batch)] for k in range(count)]
        began = time.perf_counter()
        for _ in loader:
            pass
        seconds = time.perf_counter() - began
        if step:
            yield count * recipe.train.batch / seconds
        step += count
        count = each * max(1, round(count * SECONDS / seconds / each))


def _train(
    recipe: Recipe, corpus: Corpus, examples: Examples, device: str, workers: int, steps: int
) -> dict[str, Any]:
    """The row of the log for `steps` steps, after as many."""
    where = pick_device(device)
    short = dataclasses.replace(
        recipe.train,
        steps=2 * steps,
        log_every=steps,
        checkpoint_every=2 * steps,
        validation_share=0.0,
        keep="last",
    )
    rows = []

    def on_step(_: int, row: dict[str, Any] | None) -> None:
        if where.type == "cuda":
            torch.cuda.synchronize(where)
        if row:
            rows.append(row)

    with tempfile.TemporaryDirectory(prefix="trainer-bench-") as folder:
        train(
            dataclasses.replace(recipe, train=short),
            corpus,
            examples,
            Path(folder) / "run",
            device=device,
            workers=workers,
            on_step=on_step,
        )
    return rows[-1]


class FolderClips(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """Training samples as PyTorch code for two-stream networks usually makes them: a file per image.

    Each is opened by Pillow, resized where the recipe says so, cropped and flipped (horizontal flow is then
    inverted); the images are stacked, become float32 from 0 to 1, and are normalised. Item (step, i) shows
    what that of TrainingClips shows, but that flow is in codes, which resizing leaves as they are, and keeps
    its mean.

    Args:
        root: a folder, which receives the stored files of all videos.
        corpus, examples: the videos.
        recipe: what a sample looks like.
    """

    def __init__(self, root: Path, corpus: Corpus, examples: Examples, recipe: Recipe) -> None:
        self._labels, self._recipe, self._root = examples.labels, recipe, root
        self._files = FILES[recipe.stream]
        self._length = 1 if recipe.stream == "spatial" else recipe.input.stack
        videos = [corpus[i] for i in examples.ids]
        self._sizes = [(video.width, video.height) for video in videos]
        counts = [loading.stream_length(video, recipe.stream) for video in videos]
        self._last = [count - 1 for count in counts]
        starts = [sampling.num_starts(count, self._length) for count in counts]
        self._clips = BalancedClips(examples.labels, starts, recipe.seed)
        for position, (video, count) in enumerate(zip(videos, counts, strict=True)):
            (root / str(position)).mkdir()
            for stream, name in self._files.items():
                for k in range(count):
                    (root / str(position) / name.format(k)).write_bytes(video.stored(stream, k))

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, int]:
        position, start, rng = self._clips.draw(*key)
        size = self._recipe.input.crop
        shape = loading.resized_shape(*self._sizes[position], self._recipe.input.resize)
        top, left = transforms.random_window(rng, shape[1], shape[0], size)
        mirrored = self._recipe.input.flip and rng.random() < 0.5
        images = []
        for path in self._paths(position, start):
            image = Image.open(path).convert("RGB" if self._recipe.stream == "spatial" else "L")
            if image.size != shape:
                image = image.resize(shape, Image.Resampling.BILINEAR)
            image = image.crop((left, top, left + size, top + size))
            if mirrored:
                image = ImageOps.mirror(image)
                if "flow_x" in path.name:
                    image = ImageOps.invert(image)
            images.append(np.asarray(image).reshape(size, size, -1))
        stack = torch.from_numpy(np.concatenate(images, 2)).permute(2, 0, 1).contiguous()
        return stack.float().div(255).sub_(0.5).div_(0.226), self._labels[position]

    def _paths(self, position: int, start: int) -> Iterator[Path]:
        for k in range(start, start + self._length):
            for name in self._files.values():
                yield self._root / str(position) / name.format(min(k, self._last[position]))
