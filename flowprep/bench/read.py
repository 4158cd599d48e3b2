"""The speed of reading a corpus, in turn with the usual loader of a folder of JPEGs.

The usual loader opens one file per image with Pillow, converts and crops it, and stacks the images. Both
loaders read the same clips at the same positions, in one thread and then in several. Both give the same kind
of array: codes as uint8, or displacements in pixels as float32.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
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
KINDS = ("still", "medium", "violent")


class Place(NamedTuple):
    """A place to read: a video, its first pair or frame, and a window (top, left, height, width)."""

    video: str
    start: int
    window: Window


Reader = Callable[[str, int, Window], npt.NDArray[Any]]


@dataclass(frozen=True)
class Rate:
    """Reads per second of wall time, and of processor time, which other programs do not slow down."""

    per_second: int
    per_core_second: int


@dataclass(frozen=True)
class Threads:
    """Reading in several threads, by wall time. Medians over the rounds.

    Attributes:
        threads: number of threads.
        corpus, folder: reads per second of all threads.
        corpus_scaling, folder_scaling: that rate, divided by the rate of one thread in the same round.
        ratio: rate of the corpus reader, divided by that of the usual loader.
    """

    threads: int
    corpus: int
    folder: int
    corpus_scaling: float
    folder_scaling: float
    ratio: float


@dataclass(frozen=True)
class Rates:
    """Medians over the rounds.

    Attributes:
        corpus: rate of the corpus reader.
        folder: rate of the usual loader.
        ratio: rate of the corpus reader, divided by that of the usual loader, in processor time.
        kinds: the rates for each third of the places, by the bytes of their images: "still", "medium" and
            "violent".
        threads: the rates with several threads.
    """

    corpus: Rate
    folder: Rate
    ratio: float
    kinds: dict[str, Rates] | None = None
    threads: Threads | None = None


@dataclass(frozen=True)
class ReadBenchmark:
    """The speed of reading a corpus.

    Attributes:
        clips: number of places per round.
        crop: wanted side of a crop, pixels.
        videos: number of videos.
        codes: kind of codes of the corpus.
        stacks: rates of stacks of 10 flows, float32 in pixels.
        frames: rates of frames; None if the corpus has none.
        code_stacks: rates of stacks of 10 flows as they are stored, uint8.
    """

    clips: int
    crop: int
    videos: int
    codes: str
    stacks: Rates
    frames: Rates | None = None
    code_stacks: Rates | None = None

    def to_dict(self) -> dict[str, Any]:
        """The rates as JSON values, without those that are None."""
        return _without_none(asdict(self))


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _without_none(value) if isinstance(value, dict) else value
        for name, value in values.items()
        if value is not None
    }


def compare_readers(
    places: Sequence[Place],
    corpus: Reader,
    folder: Reader,
    *,
    sizes: Sequence[int] | None = None,
    threads: int = 1,
) -> Rates:
    """Time both readers in turn over the same places. The first round fills caches and does not count.

    Args:
        places: where to read.
        corpus, folder: the readers.
        sizes: bytes of each place, for rates by kind.
        threads: number of threads of a second comparison; 1 for none.
    """
    readers = (corpus, folder)
    with ThreadPoolExecutor(threads) as pool:
        times, walls = [], []
        for _ in range(ROUNDS + 1):
            times.append([[_time_read(read, place) for place in places] for read in readers])
            walls.append([_seconds_of_threads(pool, read, places) for read in readers if threads > 1])
    measured = np.array(times[1:])  # round, reader, place, clock
    kinds = None
    if sizes is not None and len(places) >= len(KINDS):
        thirds = np.array_split(np.argsort(sizes, kind="stable"), len(KINDS))
        kinds = {kind: _rates(measured[:, :, third]) for kind, third in zip(KINDS, thirds, strict=True)}
    scaling = _threads(measured[..., 0].sum(axis=2), np.array(walls[1:]), len(places), threads)
    return replace(_rates(measured), kinds=kinds, threads=scaling)


def _time_read(read: Reader, place: Place) -> tuple[float, float]:
    """Seconds of the clock and of the processor."""
    began, core = time.perf_counter(), time.process_time()
    read(*place)
    return time.perf_counter() - began, time.process_time() - core


def _seconds_of_threads(pool: ThreadPoolExecutor, read: Reader, places: Sequence[Place]) -> float:
    began = time.perf_counter()
    for _ in pool.map(lambda place: read(*place) is None, places):
        pass
    return time.perf_counter() - began


def _rates(times: npt.NDArray[np.float64]) -> Rates:
    """Rates from seconds by round, reader, place and clock."""
    per_second = times.shape[2] / times.sum(axis=2)
    corpus, folder = (
        Rate(*(round(float(rate)) for rate in rates)) for rates in np.median(per_second, axis=0)
    )
    return Rates(corpus, folder, _median_ratio(per_second[:, 0, 1], per_second[:, 1, 1]))


def _threads(
    one: npt.NDArray[np.float64], several: npt.NDArray[np.float64], places: int, threads: int
) -> Threads | None:
    """Rates of several threads from the seconds of rounds, by round and reader, of one and of several."""
    if threads == 1:
        return None
    corpus, folder = (round(float(rate)) for rate in np.median(places / several, axis=0))
    ours, theirs = (_median_ratio(one[:, reader], several[:, reader]) for reader in (0, 1))
    return Threads(threads, corpus, folder, ours, theirs, _median_ratio(several[:, 1], several[:, 0]))


def _median_ratio(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float:
    return round(float(np.median(first / second)), 2)


def bench_reading(
    corpus: Corpus,
    *,
    clips: int = 60,
    crop: int = 224,
    seed: int = 0,
    videos: int = MAX_VIDEOS,
    threads: int = 2,
    compare: Callable[..., Rates] = compare_readers,
) -> ReadBenchmark:
    """Time reading stacks of 10 flows, and frames, with crops at random places.

    The folder is an export of some videos of the corpus. It has the same JPEGs if the codes of the corpus are
    `tsn`, and converted ones otherwise. The corpus reader fills one array in each thread again and again.

    Args:
        corpus: an open corpus with flow.
        clips: number of stacks, and of frames, per round.
        crop: side of the crops in pixels; smaller if the video is smaller.
        seed: of the random places.
        videos: the most videos that are exported.
        threads: number of threads of a second comparison; 1 for none.
        compare: compares two readers, as `compare_readers`.

    Raises:
        UsageError: no video has 10 pairs.
    """
    rng = np.random.default_rng(seed)
    long_enough = [video for video in corpus if corpus[video].num_pairs >= STACK]
    if not long_enough:
        raise UsageError(f"no video of {corpus.path} has {STACK} pairs, which the benchmark reads at once")
    chosen = rng.choice(long_enough, min(videos, len(long_enough)), replace=False)
    ids = sorted(chosen.tolist())
    places = [_random_place(corpus, ids[k % len(ids)], crop, rng) for k in range(clips)]
    sizes = [_stack_bytes(corpus, place) for place in places]
    names = folder_names(corpus.labels, flat=False)
    frames = None
    ours = CorpusReader(corpus)
    with one_opencv_thread(), tempfile.TemporaryDirectory(prefix="flowprep-bench-") as folder:
        root = Path(folder) / "export"
        export(corpus, root, "mmaction2", wanted=[_literal(video) for video in ids], convert=True)
        bound = corpus.settings.range if corpus.settings.codes == CODES else _EXPORT_RANGE
        stacks = compare(
            places,
            ours.flow,
            lambda video, start, window: _pixels(_stack_of_files(root / names[video], start, window), bound),
            sizes=sizes,
            threads=threads,
        )
        code_stacks = compare(
            places,
            ours.codes,
            lambda video, start, window: _stack_of_files(root / names[video], start, window),
            sizes=sizes,
            threads=threads,
        )
        if corpus.settings.rgb:
            frames = compare(
                places,
                ours.frame,
                lambda video, start, window: _frame_of_file(root / names[video], start, window),
                threads=threads,
            )
    return ReadBenchmark(clips, crop, len(ids), corpus.settings.codes, stacks, frames, code_stacks)


class CorpusReader:
    """Reads places of a corpus into arrays that it has: one of each kind and shape in each thread."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self._local = threading.local()

    def flow(self, video: str, start: int, window: Window) -> npt.NDArray[np.float32]:
        """(10, 2, height, width), pixels."""
        out = self._array((STACK, 2, *window[2:]), np.float32)
        return self._corpus[video].flow(start, STACK, window=window, out=out)

    def codes(self, video: str, start: int, window: Window) -> npt.NDArray[np.uint8]:
        """(10, 2, height, width), as stored."""
        out = self._array((STACK, 2, *window[2:]), np.uint8)
        return self._corpus[video].codes(start, STACK, window=window, out=out)

    def frame(self, video: str, start: int, window: Window) -> npt.NDArray[np.float32]:
        """(height, width, 3), grey levels."""
        out = self._array((*window[2:], 3), np.uint8)
        return self._corpus[video].rgb(start, window=window, out=out).astype(np.float32)

    def _array(self, shape: tuple[int, ...], dtype: type) -> npt.NDArray[Any]:
        arrays: dict[Any, npt.NDArray[Any]] = self._local.__dict__.setdefault("arrays", {})
        if (shape, dtype) not in arrays:
            arrays[shape, dtype] = np.empty(shape, dtype)
        return arrays[shape, dtype]


def _stack_bytes(corpus: Corpus, place: Place) -> int:
    video, pairs = corpus[place.video], slice(place.start, place.start + STACK)
    return int(video.sizes("flow_u")[pairs].sum() + video.sizes("flow_v")[pairs].sum())


def _random_place(corpus: Corpus, video_id: str, crop: int, rng: np.random.Generator) -> Place:
    video = corpus[video_id]
    size = min(crop, video.height, video.width)
    top, left = rng.integers(video.height - size + 1), rng.integers(video.width - size + 1)
    start = rng.integers(video.num_pairs - STACK + 1)
    return Place(video.id, int(start), (int(top), int(left), size, size))


def _literal(video_id: str) -> str:
    """A pattern that matches one id only: characters with a meaning in patterns are put in brackets."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in video_id)


def _stack_of_files(folder: Path, start: int, window: Window) -> npt.NDArray[np.uint8]:
    images = []
    for number in range(start, start + STACK):
        for template in (LAYOUT.u, LAYOUT.v):
            name = template.rpartition("/")[2].format(step="", number=LAYOUT.first + number)
            images.append(np.asarray(_crop(Image.open(folder / name).convert("L"), window)))
    return np.stack(images).reshape(STACK, 2, *window[2:])


def _pixels(codes: npt.NDArray[np.uint8], bound: float) -> npt.NDArray[np.float32]:
    pixels: npt.NDArray[np.float32] = (codes.astype(np.float32) - np.float32(127.5)) * np.float32(
        2 * bound / 255
    )
    return pixels


def _frame_of_file(folder: Path, start: int, window: Window) -> npt.NDArray[np.float32]:
    name = LAYOUT.rgb.rpartition("/")[2].format(number=LAYOUT.first + start)
    return np.asarray(_crop(Image.open(folder / name).convert("RGB"), window)).astype(np.float32)


def _crop(image: Image.Image, window: Window) -> Image.Image:
    top, left, height, width = window
    return image.crop((left, top, left + width, top + height))
