"""How fast a corpus is read, against the loader that everyone writes for a folder of JPEGs, alternately.

That loader opens a file per image with Pillow, converts, crops, stacks and rescales to pixels. Both read the
same clips at the same places in one thread, and both end with the same kind of float32 array.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from flowprep.convert.export import export
from flowprep.convert.layouts import CODES, LAYOUTS
from flowprep.convert.names import folder_names
from flowprep.corpus.reader import Corpus
from flowprep.errors import UsageError

LAYOUT = LAYOUTS["mmaction2"]
STACK = 10
ROUNDS = 7


def bench_reading(corpus: Corpus, *, clips: int = 30, crop: int = 224, seed: int = 0) -> dict[str, Any]:
    """Time reading stacks of 10 flows, and frames, with crops at random places.

    The folder is an export of some of the corpus's videos: the same JPEGs where its codes are `tsn`,
    recoded ones otherwise.

    Args:
        corpus: with flow.
        clips: stacks, and frames, per round.
        crop: side of the crops, pixels; the largest that fits if that is less.
        seed: of the places.

    Returns:
        `clips`, `crop`, `videos`, `codes`; and for "stacks" and, if there are any, "frames": for "corpus"
        and "folder" how many `per_second` and `per_core_second` (of processor time, which others on the
        machine do not slow down), medians over rounds; and `ratio` of the latter.

    Raises:
        UsageError: no video has 10 pairs.
    """
    rng = np.random.default_rng(seed)
    long_enough = [i for i in corpus if corpus[i].num_pairs >= STACK]
    if not long_enough:
        raise UsageError(f"no video of {corpus.path} has {STACK} pairs")
    ids = sorted(rng.choice(long_enough, min(8, len(long_enough)), replace=False).tolist())
    names = folder_names(corpus.labels, flat=False)
    places = []
    for k in range(clips):
        video = corpus[ids[k % len(ids)]]
        size = min(crop, video.height, video.width)
        top, left = rng.integers(video.height - size + 1), rng.integers(video.width - size + 1)
        start = rng.integers(video.num_pairs - STACK + 1)
        places.append((video.id, int(start), (int(top), int(left), size, size)))
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with tempfile.TemporaryDirectory(prefix="flowprep-bench-") as folder:
            root = Path(folder) / "export"
            # Letters of a pattern that stand for others are set in brackets.
            wanted = ["".join(f"[{c}]" if c in "*?[" else c for c in i) for i in ids]
            export(corpus, root, "mmaction2", wanted=wanted, convert=True)
            bound = corpus.settings.range if corpus.settings.codes == CODES else 20.0
            found: dict[str, Any] = {
                "stacks": _compare(
                    places,
                    lambda i, start, window: corpus[i].flow(start, STACK, window=window),
                    lambda i, start, window: _stack_of_files(root / names[i], start, window, bound),
                )
            }
            if corpus.settings.rgb:
                found["frames"] = _compare(
                    places,
                    lambda i, start, window: _cut(corpus[i].rgb(start), window).astype(np.float32),
                    lambda i, start, window: _frame_of_file(root / names[i], start, window),
                )
    finally:
        cv2.setNumThreads(threads)
    about = {"clips": clips, "crop": crop, "videos": len(ids), "codes": corpus.settings.codes}
    return {**about, **found}


Window = tuple[int, int, int, int]
Reader = Callable[[str, int, Window], npt.NDArray[np.float32]]


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


def _compare(places: list[tuple[str, int, Window]], corpus: Reader, folder: Reader) -> dict[str, Any]:
    """Rates of both, each in its turn, over the same places; the first round fills caches."""
    rates: dict[str, list[tuple[float, float]]] = {"corpus": [], "folder": []}
    for _ in range(ROUNDS + 1):
        for which, read in (("corpus", corpus), ("folder", folder)):
            began, core = time.perf_counter(), time.process_time()
            for place in places:
                read(*place)
            seconds = time.perf_counter() - began, time.process_time() - core
            rates[which].append((len(places) / seconds[0], len(places) / seconds[1]))
    medians = {which: np.median(found[1:], axis=0) for which, found in rates.items()}
    made: dict[str, Any] = {
        which: {"per_second": round(float(wall)), "per_core_second": round(float(core))}
        for which, (wall, core) in medians.items()
    }
    ratios = [a[1] / b[1] for a, b in zip(rates["corpus"][1:], rates["folder"][1:], strict=True)]
    return {**made, "ratio": round(float(np.median(ratios)), 2)}
