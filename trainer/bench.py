"""The speed of a recipe: of loading, of the network, and of both together.

The loader can also be compared with the usual loader of a folder of JPEGs, on the same images.
"""

from __future__ import annotations

import dataclasses
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps

from trainer.data import loading, sampling, transforms
from trainer.data.annotations import Examples
from trainer.data.dataset import BalancedClips, TrainingClips, batch_clips, make_loader
from trainer.recipe.schema import Recipe
from trainer.training.device import pick_device
from trainer.training.metrics_log import LogRow
from trainer.training.trainer import train

if TYPE_CHECKING:
    from flowprep import Corpus

# The file name of each stored stream, in the order of the channels.
FILES = {
    "spatial": {"rgb": "img_{:05d}.jpg"},
    "temporal": {"flow_u": "flow_x_{:05d}.jpg", "flow_v": "flow_y_{:05d}.jpg"},
}
ROUNDS = 5
ROUND_SECONDS = 1.0  # approximate duration of a round

LoaderRates = Callable[[torch.utils.data.Dataset[Any], Recipe, int], Generator[float, None, None]]


@dataclass(frozen=True)
class RecipeSpeed:
    """Speeds in clips per second.

    Attributes:
        loader: the loader alone.
        model: training steps without loading.
        both: training.
        data_wait: share of the time of `both` in which the network waits for data.
        folder: the usual loader of a folder of JPEGs; None if it was not timed.
        ratio: `loader` divided by `folder`, the median over the rounds.
    """

    loader: float
    model: float
    both: float
    data_wait: float
    folder: float | None = None
    ratio: float | None = None

    def to_dict(self) -> dict[str, float]:
        """The speeds as JSON values, without those that are None."""
        return {name: value for name, value in vars(self).items() if value is not None}


class TrainingSpeed(NamedTuple):
    """Clips per second of training, and the share of its time in which it waits for data."""

    clips_per_second: float
    data_wait: float


def loader_rates(
    dataset: torch.utils.data.Dataset[Any], recipe: Recipe, workers: int
) -> Generator[float, None, None]:
    """Clips per second of a loader, an endless sequence of rounds. Between two rounds its processes rest.

    A round ends when all requested batches are there. So a loader never works during the round of another
    one. The first round starts processes and fills caches; it is not yielded.

    Args:
        dataset: training samples by (step, position in the batch).
        recipe: gives the size of a batch.
        workers: number of loader processes.
    """
    keys: list[list[tuple[int, int]]] = []
    collate = batch_clips if isinstance(dataset, TrainingClips) else None
    loader = make_loader(
        dataset, workers, batch_sampler=keys, collate_fn=collate, persistent_workers=workers > 0
    )
    parallel = max(1, workers)  # batches that are loaded at the same time
    count, step = parallel, 0
    while True:
        keys[:] = [[(step + k, i) for i in range(recipe.train.batch)] for k in range(count)]
        began = time.perf_counter()
        for _ in loader:
            pass
        seconds = time.perf_counter() - began
        if step:
            yield count * recipe.train.batch / seconds
        step += count
        count = parallel * max(1, round(count * ROUND_SECONDS / seconds / parallel))


def training_speed(
    recipe: Recipe, corpus: Corpus, examples: Examples, device: str, workers: int, steps: int
) -> TrainingSpeed:
    """The speed of `steps` training steps, after the same number of steps that are not timed."""
    chosen = pick_device(device)
    short = dataclasses.replace(
        recipe.train,
        steps=2 * steps,
        log_every=steps,
        checkpoint_every=2 * steps,
        validation_share=0.0,
        keep="last",
    )
    rows: list[LogRow] = []

    def on_step(_: int, row: LogRow | None) -> None:
        if chosen.type == "cuda":
            torch.cuda.synchronize(chosen)
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
    return TrainingSpeed(rows[-1].clips_per_second, rows[-1].data_wait)


def bench(
    recipe: Recipe,
    corpus: Corpus,
    examples: Examples,
    *,
    device: str = "auto",
    workers: int = 0,
    steps: int = 10,
    folder: bool = False,
    rates: LoaderRates = loader_rates,
    training: Callable[[Recipe, Corpus, Examples, str, int, int], TrainingSpeed] = training_speed,
) -> RecipeSpeed:
    """Time a recipe on the videos of a corpus.

    Args:
        recipe: gives the clips, the batches and the network.
        corpus, examples: the videos.
        device, workers: as `trainer.training.trainer.train`.
        steps: number of timed training steps; as many run before them.
        folder: time a loader of a folder of JPEGs, too, round by round in turn. Not for joint networks.
        rates: times a loader.
        training: times training.

    Raises:
        UsageError: the corpus does not fit the recipe.
    """
    loading.check_fit(corpus, examples.ids, recipe)
    loader = rates(TrainingClips([[(corpus, examples)]], recipe), recipe, workers)
    folder_rate = ratio = None
    if folder:
        with tempfile.TemporaryDirectory(prefix="trainer-bench-") as root:
            folder_loader = rates(FolderClips(Path(root), corpus, examples, recipe), recipe, workers)
            rounds = list(itertools.islice(zip(loader, folder_loader, strict=False), ROUNDS))
            folder_loader.close()
        loader_rate, folder_rate = (statistics.median(column) for column in zip(*rounds, strict=True))
        ratio = statistics.median(own / other for own, other in rounds)
    else:
        loader_rate = statistics.median(itertools.islice(loader, ROUNDS))
    loader.close()
    # In one process, all loading is waiting. Without it, the rest is the time of the network.
    alone = training(recipe, corpus, examples, device, 0, steps)
    both = training(recipe, corpus, examples, device, workers, steps)
    return RecipeSpeed(
        loader=loader_rate,
        model=alone.clips_per_second / max(1e-9, 1 - alone.data_wait),
        both=both.clips_per_second,
        data_wait=both.data_wait,
        folder=folder_rate,
        ratio=ratio,
    )


class FolderClips(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """Training samples from one file per image, as most PyTorch code for two-stream networks reads them.

    Each image is opened by Pillow, resized if the recipe says so, cropped and flipped. Flipped horizontal
    flow is inverted. The images are stacked, converted to float32 from 0 to 1, and normalised. Item (step, i)
    shows the same pixels as that of `TrainingClips`, with two differences: resizing does not scale the flow,
    and the mean of the flow is not subtracted.

    Args:
        root: an empty folder, which receives the stored images of all videos as files.
        corpus, examples: the videos.
        recipe: gives the size and the stream of a sample.
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
        shape = transforms.resized_shape(*self._sizes[position], self._recipe.input.resize)
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
