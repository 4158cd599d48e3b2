"""The speed of a recipe: of loading, of the network, and of both together.

The loader can also be compared with the usual loader of a folder of JPEGs, on the same images.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps

from trainer.data import loading, sampling, transforms
from trainer.data.annotations import Examples
from trainer.data.dataset import BalancedClips, TrainingClips
from trainer.data.loaders import PROCESSES, THREADS, BatchLoader, Keys
from trainer.data.processes import make_loader
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
IN_PROCESS, FLOAT32, FOLDER = "in_process", "float32", "folder"

Load = Callable[[list[Keys]], object]  # loads the batches of these samples


class Rate(NamedTuple):
    """Clips per second, by the clock and by the time of all used cores together.

    Other work on the machine changes the first, and hardly the second.
    """

    clock: float
    processor: float


@dataclass(frozen=True)
class RecipeSpeed:
    """Speeds in clips per second.

    Attributes:
        loader: the loader alone.
        model: training steps without loading.
        both: training.
        data_wait: share of the time of `both` in which the network waits for data.
        loader_kind: the kind of the loader: "in_process", "threads" or "processes".
        loaders: the loader of each kind that this number of workers allows.
        float32: the loader, with its batches as inputs of the network, on the CPU.
        loader_processor: `loader` by processor time.
        folder: the usual loader of a folder of JPEGs; None if it was not timed. It gives float32.
        folder_processor: `folder` by processor time.
        ratio, ratio_processor, ratio_float32: `loader` (by the clock, and by processor time) and `float32`
            (by the clock) divided by `folder`, the median over the rounds.
    """

    loader: float
    model: float
    both: float
    data_wait: float
    loader_kind: str
    loaders: Mapping[str, float]
    float32: float
    loader_processor: float
    folder: float | None = None
    folder_processor: float | None = None
    ratio: float | None = None
    ratio_processor: float | None = None
    ratio_float32: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The speeds as JSON values, without those that are None."""
        return {name: value for name, value in vars(self).items() if value is not None}


class TrainingSpeed(NamedTuple):
    """Clips per second of training, and the share of its time in which it waits for data."""

    clips_per_second: float
    data_wait: float


def loader_rates(loads: Mapping[str, Load], recipe: Recipe, workers: int) -> dict[str, list[Rate]]:
    """The rates of loaders in each round. They load in turn, so that other work slows all of them down.

    A round ends when all requested batches are there. So a loader never works during the round of another
    one. The first round starts processes and fills caches; it is not counted.

    Args:
        loads: the loaders by name.
        recipe: gives the size of a batch.
        workers: number of batches that are loaded at the same time; 0 is one.
    """
    size, parallel = recipe.train.batch, max(1, workers)
    rates: dict[str, list[Rate]] = {name: [] for name in loads}
    counts, steps = dict.fromkeys(loads, parallel), dict.fromkeys(loads, 0)
    for number in range(ROUNDS + 1):
        for name, load in loads.items():
            count, step = counts[name], steps[name]
            keys: list[Keys] = [[(step + k, i) for i in range(size)] for k in range(count)]
            began, worked = time.perf_counter(), _processor_seconds()
            load(keys)
            seconds = time.perf_counter() - began
            worked = max(_processor_seconds() - worked, 1e-9)
            if number:
                rates[name].append(Rate(count * size / seconds, count * size / worked))
            steps[name] += count
            counts[name] = parallel * max(1, round(count * ROUND_SECONDS / seconds / parallel))
    return rates


def _processor_seconds() -> float:
    """The processor time of this process and of the processes that it started."""
    seconds = time.process_time()
    for process in multiprocessing.active_children():
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])  # in programs and in the system
        seconds += ticks / os.sysconf("SC_CLK_TCK")
    return seconds


def _exhaust(items: Iterable[object]) -> None:
    for _ in items:
        pass


def training_speed(
    recipe: Recipe,
    corpus: Corpus,
    examples: Examples,
    device: str,
    workers: int,
    steps: int,
    loader: str = "auto",
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
            loader=loader,
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
    loader: str = "auto",
    steps: int = 10,
    folder: bool = False,
    rates: Callable[[Mapping[str, Load], Recipe, int], dict[str, list[Rate]]] = loader_rates,
    training: Callable[[Recipe, Corpus, Examples, str, int, int, str], TrainingSpeed] = training_speed,
) -> RecipeSpeed:
    """Time a recipe on the videos of a corpus.

    Args:
        recipe: gives the clips, the batches and the network.
        corpus, examples: the videos.
        device, workers, loader: as `trainer.training.trainer.train`.
        steps: number of timed training steps; as many run before them.
        folder: time a loader of a folder of JPEGs, too, round by round in turn. Not for joint networks.
        rates: times loaders.
        training: times training.

    Raises:
        UsageError: the corpus does not fit the recipe.
    """
    loading.check_fit(corpus, examples.ids, recipe)
    clips = TrainingClips([[(corpus, examples)]], recipe)
    kinds = {IN_PROCESS: (0, loader)}
    if workers:
        kinds.update({kind: (workers, kind) for kind in (THREADS, PROCESSES)})
    with ExitStack() as stack:
        size = recipe.train.batch
        chosen = stack.enter_context(closing(BatchLoader(clips, size, workers, loader)))
        own = chosen.kind or IN_PROCESS
        timed: dict[str, Load] = {}
        for name, kind in kinds.items():
            timed_loader = chosen if name == own else BatchLoader(clips, size, *kind)
            timed[name] = _batches_of(stack.enter_context(closing(timed_loader)))
        spec = sampling.ClipSpec.from_recipe(recipe)
        timed[FLOAT32] = lambda keys: _exhaust(spec.tensors(clip) for clip, *_ in chosen.batches(keys))
        if folder:
            root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trainer-bench-")))
            timed[FOLDER] = _folder_loader(FolderClips(root, corpus, examples, recipe), workers)
        by_name = rates(timed, recipe, workers)
    # In one process, all loading is waiting. Without it, the rest is the time of the network.
    alone = training(recipe, corpus, examples, device, 0, steps, loader)
    both = training(recipe, corpus, examples, device, workers, steps, loader)
    medians = {name: Rate(*map(statistics.median, zip(*each, strict=True))) for name, each in by_name.items()}
    speed = RecipeSpeed(
        loader=medians[own].clock,
        model=alone.clips_per_second / max(1e-9, 1 - alone.data_wait),
        both=both.clips_per_second,
        data_wait=both.data_wait,
        loader_kind=own,
        loaders={name: medians[name].clock for name in kinds},
        float32=medians[FLOAT32].clock,
        loader_processor=medians[own].processor,
    )
    if not folder:
        return speed
    return dataclasses.replace(
        speed,
        folder=medians[FOLDER].clock,
        folder_processor=medians[FOLDER].processor,
        ratio=_ratio(by_name[own], by_name[FOLDER]).clock,
        ratio_processor=_ratio(by_name[own], by_name[FOLDER]).processor,
        ratio_float32=_ratio(by_name[FLOAT32], by_name[FOLDER]).clock,
    )


def _batches_of(loader: BatchLoader) -> Load:
    return lambda keys: _exhaust(loader.batches(keys))


def _folder_loader(clips: FolderClips, workers: int) -> Load:
    """A DataLoader, as most code has it. Its processes stay between the rounds."""
    batches: list[Keys] = []
    loader = make_loader(clips, workers, batch_sampler=batches, persistent_workers=workers > 0)

    def load(keys: list[Keys]) -> None:
        batches[:] = keys
        _exhaust(loader)

    return load


def _ratio(own: list[Rate], other: list[Rate]) -> Rate:
    """The medians over the rounds of one rate divided by the other."""
    clock, processor = (
        statistics.median(a / b for a, b in zip(*columns, strict=True))
        for columns in zip(zip(*own, strict=True), zip(*other, strict=True), strict=True)
    )
    return Rate(clock, processor)


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
