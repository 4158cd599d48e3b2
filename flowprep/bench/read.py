"""The speed of reading a corpus, in turn with the usual loader of a folder of JPEGs.

The usual loader opens one file per image with Pillow, converts and crops it, stacks the images and scales
them to pixels of displacement. Both loaders read the same clips at the same positions in one thread. Both
give the same kind of float32 array.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from flowprep.convert.export import export
from flowprep.convert.layouts import CODES, LAYOUTS
from flowprep.convert.names import folder_names
from flowprep.corpus.reader import Corpus
from flowprep.errors import UsageError
from flowprep.system.opencv_threads import one_opencv_thread

LAYOUT = LAYOUTS["mmaction2"]
STACK = 10
ROUNDS = 7
MAX_VIDEOS = 8
_EXPORT_RANGE = 20.0  # pixels; of codes that the export converts

Window = tuple[int, int, int, int]


class Place(NamedTuple):
    """A place to read: a video, its first pair or frame, and a window (top, left, height, width)."""

    video: str
    start: int
    window: Window


Reader = Callable[[str, int, Window], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Rate:
    """Reads per second of wall time, and of processor time, which other programs do not slow down."""

    per_second: int
    per_core_second: int


@dataclass(frozen=True)
class Rates:
    """Medians over the rounds.

    Attributes:
        corpus: rate of the corpus reader.
        folder: rate of the usual loader.
        ratio: rate of the corpus reader, divided by that of the usual loader, in processor time.
    """

    corpus: Rate
    folder: Rate
    ratio: float


@dataclass(frozen=True)
class ReadBenchmark:
    """The speed of reading a corpus.

    Attributes:
        clips: number of places per round.
        crop: wanted side of a crop, pixels.
        videos: number of videos.
        codes: kind of codes of the corpus.
        stacks: rates of stacks of 10 flows.
        frames: rates of frames; None if the corpus has none.
    """

    clips: int
    crop: int
    videos: int
    codes: str
    stacks: Rates
    frames: Rates | None = None

    def to_dict(self) -> dict[str, Any]:
        """The rates as JSON values; `frames` is left out if it is None."""
        values = asdict(self)
        if self.frames is None:
            del values["frames"]
        return values


def compare_readers(places: Sequence[Place], corpus: Reader, folder: Reader) -> Rates:
    """Time both readers in turn over the same places. The first round fills caches and does not count."""
    rates: dict[str, list[tuple[float, float]]] = {"corpus": [], "folder": []}
    for _ in range(ROUNDS + 1):
        for name, read in (("corpus", corpus), ("folder", folder)):
            began, core = time.perf_counter(), time.process_time()
            for place in places:
                read(*place)
            seconds = time.perf_counter() - began, time.process_time() - core
            rates[name].append((len(places) / seconds[0], len(places) / seconds[1]))
    medians = {
        name: Rate(*(round(float(rate)) for rate in np.median(timed[1:], axis=0)))
        for name, timed in rates.items()
    }
    ratios = [
        ours[1] / other[1] for ours, other in zip(rates["corpus"][1:], rates["folder"][1:], strict=True)
    ]
    return Rates(medians["corpus"], medians["folder"], round(float(np.median(ratios)), 2))


def bench_reading(
    corpus: Corpus,
    *,
    clips: int = 30,
    crop: int = 224,
    seed: int = 0,
    compare: Callable[[Sequence[Place], Reader, Reader], Rates] = compare_readers,
) -> ReadBenchmark:
    """Time reading stacks of 10 flows, and frames, with crops at random places.

    The folder is an export of up to eight videos of the corpus. It has the same JPEGs if the codes of the
    corpus are `tsn`, and converted ones otherwise.

    Args:
        corpus: an open corpus with flow.
        clips: number of stacks, and of frames, per round.
        crop: side of the crops in pixels; smaller if the video is smaller.
        seed: of the random places.
        compare: compares two readers.

    Raises:
        UsageError: no video has 10 pairs.
    """
    rng = np.random.default_rng(seed)
    long_enough = [video for video in corpus if corpus[video].num_pairs >= STACK]
    if not long_enough:
        raise UsageError(f"no video of {corpus.path} has {STACK} pairs, which the benchmark reads at once")
    chosen = rng.choice(long_enough, min(MAX_VIDEOS, len(long_enough)), replace=False)
    ids = sorted(chosen.tolist())
    places = [_random_place(corpus, ids[k % len(ids)], crop, rng) for k in range(clips)]
    names = folder_names(corpus.labels, flat=False)
    frames = None
    with one_opencv_thread(), tempfile.TemporaryDirectory(prefix="flowprep-bench-") as folder:
        root = Path(folder) / "export"
        export(corpus, root, "mmaction2", wanted=[_literal(video) for video in ids], convert=True)
        bound = corpus.settings.range if corpus.settings.codes == CODES else _EXPORT_RANGE
        stacks = compare(
            places,
            lambda video, start, window: corpus[video].flow(start, STACK, window=window),
            lambda video, start, window: _stack_of_files(root / names[video], start, window, bound),
        )
        if corpus.settings.rgb:
            frames = compare(
                places,
                lambda video, start, window: _cut(corpus[video].rgb(start), window).astype(np.float32),
                lambda video, start, window: _frame_of_file(root / names[video], start, window),
            )
    return ReadBenchmark(clips, crop, len(ids), corpus.settings.codes, stacks, frames)


def _random_place(corpus: Corpus, video_id: str, crop: int, rng: np.random.Generator) -> Place:
    video = corpus[video_id]
    size = min(crop, video.height, video.width)
    top, left = rng.integers(video.height - size + 1), rng.integers(video.width - size + 1)
    start = rng.integers(video.num_pairs - STACK + 1)
    return Place(video.id, int(start), (int(top), int(left), size, size))


def _literal(video_id: str) -> str:
    """A pattern that matches one id only: characters with a meaning in patterns are put in brackets."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in video_id)


def _stack_of_files(folder: Path, start: int, window: Window, bound: float) -> npt.NDArray[np.float32]:
    images = []
    for number in range(start, start + STACK):
        for template in (LAYOUT.u, LAYOUT.v):
            name = template.rpartition("/")[2].format(step="", number=LAYOUT.first + number)
            images.append(np.asarray(_crop(Image.open(folder / name).convert("L"), window)))
    stack = np.stack(images).astype(np.float32).reshape(STACK, 2, *window[2:])
    pixels: npt.NDArray[np.float32] = (stack - np.float32(127.5)) * np.float32(2 * bound / 255)
    return pixels


def _frame_of_file(folder: Path, start: int, window: Window) -> npt.NDArray[np.float32]:
    name = LAYOUT.rgb.rpartition("/")[2].format(number=LAYOUT.first + start)
    return np.asarray(_crop(Image.open(folder / name).convert("RGB"), window)).astype(np.float32)


def _crop(image: Image.Image, window: Window) -> Image.Image:
    top, left, height, width = window
    return image.crop((left, top, left + width, top + height))


def _cut(image: npt.NDArray[np.uint8], window: Window) -> npt.NDArray[np.uint8]:
    top, left, height, width = window
    return image[top : top + height, left : left + width]
