#!/usr/bin/env python3
"""Compare the decoder of flow with OpenCV, field by field, and time it.

    python pipelines/bench/decode.py CORPUS [--json] [--seed 0] [--videos 24] [--fields 300] [--no-check]

First, every field of the corpus is decoded twice: whole, and in a random window. Every second result is
mirrored. Each is compared with that of OpenCV. The exit code is 1 if one differs.

Then fields are decoded on one thread by OpenCV, by Pillow, and by this decoder, in turn. Kinds are thirds of
the fields by the bytes of the JPEG. The output has microseconds of processor time, medians over the rounds.
Last, stacks of fields are read as by `flowprep bench read`.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from flowprep import Corpus, Video, open_corpus
from flowprep.bench.read import KINDS, STACK, bench_reading
from flowprep.codec.decode_jpeg import DECODED, decode_fields

Window = tuple[int, int, int, int]
Codes = npt.NDArray[np.uint8]

ROUNDS = 7
CROP = 224
FIELDS_PER_CALL = 2 * STACK


@dataclass
class Check:
    """Decoded results, compared with OpenCV.

    Attributes:
        fields: number of fields.
        results: number of results: each field whole, and in a window.
        refused: results that the decoder leaves to OpenCV.
        different: results that are not OpenCV's.
    """

    fields: int = 0
    results: int = 0
    refused: int = 0
    different: int = 0


class Fields:
    """JPEGs of one size, one after the other in an array as in a shard.

    Attributes:
        files: the JPEGs.
        shape: (height, width).
    """

    def __init__(self, files: Sequence[bytes], shape: tuple[int, int]) -> None:
        self.files, self.shape = files, shape
        self._data = np.frombuffer(b"".join(files), np.uint8)
        self._sizes = np.array([len(file) for file in files], np.int64)
        self._offsets = np.cumsum(self._sizes) - self._sizes
        self._checksums = np.array([zlib.crc32(file) for file in files], np.int64)

    def decode(self, window: Window, out: Codes, first: int = 0, mirror: bool = False) -> Codes:
        """Decode as many fields as `out` has, (n, height, width). Returns the status of each."""
        part = slice(first, first + len(out))
        places = (self._offsets[part], self._sizes[part], self._checksums[part])
        statuses: Codes = decode_fields(self._data, *places, self.shape, window, out, mirror)
        return statuses


def check_corpus(corpus: Corpus, rng: np.random.Generator) -> Check:
    """Decode every field of a corpus, whole and in a window, and compare the results with OpenCV's."""
    check = Check()
    for video in corpus.values():
        for files in _batches(video):
            expected = [by_opencv(file) for file in files]
            fields = Fields(files, (video.height, video.width))
            for window in ((0, 0, video.height, video.width), _random_window(fields.shape, rng)):
                _compare(fields, expected, window, bool(rng.integers(2)), check)
            check.fields += len(files)
    return check


def _batches(video: Video) -> Iterator[list[bytes]]:
    flow_streams = [stream for stream in video.streams if stream != "rgb"]
    for stream in flow_streams:
        for start in range(0, video.num_pairs, 64):
            yield [video.stored(stream, i) for i in range(start, min(start + 64, video.num_pairs))]


def _compare(fields: Fields, expected: Sequence[Codes], window: Window, mirror: bool, check: Check) -> None:
    """Decode in two calls, of which one mirrors, and count."""
    top, left, height, width = window
    for offset in (0, 1):
        part = Fields(fields.files[offset::2], fields.shape)
        out = np.empty((len(part.files), height, width), np.uint8)
        flipped = mirror ^ bool(offset)
        statuses = part.decode(window, out, mirror=flipped)
        for status, image, whole in zip(statuses, out, expected[offset::2], strict=True):
            wanted = whole[top : top + height, left : left + width]
            check.results += 1
            check.refused += int(status != DECODED)
            if status == DECODED and not np.array_equal(image, wanted[:, ::-1] if flipped else wanted):
                check.different += 1


def _random_window(shape: tuple[int, int], rng: np.random.Generator) -> Window:
    height, width = (int(rng.integers(1, side + 1)) for side in shape)
    return (
        int(rng.integers(shape[0] - height + 1)),
        int(rng.integers(shape[1] - width + 1)),
        height,
        width,
    )


def by_opencv(file: bytes) -> Codes:
    """The codes of a field by OpenCV."""
    return np.asarray(cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_GRAYSCALE), np.uint8)


def by_pillow(file: bytes) -> Codes:
    """The codes of a field by Pillow."""
    return np.asarray(Image.open(io.BytesIO(file)).convert("L"))


def time_fields(corpus: Corpus, number: int, rng: np.random.Generator) -> dict[str, dict[str, float]]:
    """Time decoders in turn on fields of three kinds.

    Args:
        corpus: an open corpus. Only videos of its most frequent size are used.
        number: number of fields of each kind.
        rng: random numbers.

    Returns:
        For each kind, and for all: bytes of a field, microseconds of a field by each decoder, and how many
        times as fast as OpenCV ours is.
    """
    shape, files = _random_fields(corpus, len(KINDS) * number, rng)
    thirds = np.array_split(np.argsort([len(file) for file in files], kind="stable"), len(KINDS))
    kinds = {k: Fields([files[i] for i in t], shape) for k, t in zip(KINDS, thirds, strict=True)}
    times = np.array([[_time_kind(fields, rng) for fields in kinds.values()] for _ in range(ROUNDS + 1)])[1:]
    times = np.concatenate([times, times.mean(axis=1, keepdims=True)], axis=1)  # round, kind, decoder
    sizes = [float(np.mean([len(file) for file in fields.files])) for fields in kinds.values()]
    rows = {}
    for k, (kind, size) in enumerate(zip((*KINDS, "all"), (*sizes, float(np.mean(sizes))), strict=True)):
        opencv, pillow, whole, window = np.median(times[:, k], axis=0).tolist()
        ratios = np.median(times[:, k, :1] / times[:, k, 2:], axis=0).tolist()
        rows[kind] = {
            "bytes": round(size),
            "opencv_us": round(opencv, 1),
            "pillow_us": round(pillow, 1),
            "ours_us": round(whole, 1),
            "ours_window_us": round(window, 1),
            "ratio": round(ratios[0], 2),
            "window_ratio": round(ratios[1], 2),
        }
    return rows


def _random_fields(
    corpus: Corpus, number: int, rng: np.random.Generator
) -> tuple[tuple[int, int], list[bytes]]:
    """Fields of videos of one size, and that size."""
    videos = [video for video in corpus.values() if video.num_pairs]
    shapes = [(video.height, video.width) for video in videos]
    shape = max(set(shapes), key=shapes.count)
    videos = [video for video in videos if (video.height, video.width) == shape]
    files = []
    for _ in range(number):
        video = videos[rng.integers(len(videos))]
        files.append(video.stored(("flow_u", "flow_v")[rng.integers(2)], int(rng.integers(video.num_pairs))))
    return shape, files


def _time_kind(fields: Fields, rng: np.random.Generator) -> list[float]:
    """Microseconds of processor time a field: OpenCV, Pillow, ours, and ours in a window."""
    height, width = fields.shape
    side = min(CROP, height, width)
    whole = np.empty((FIELDS_PER_CALL, height, width), np.uint8)
    part = np.empty((FIELDS_PER_CALL, side, side), np.uint8)
    windows = [
        (int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1)), side, side)
        for _ in range(0, len(fields.files), FIELDS_PER_CALL)
    ]

    def each(decode: Callable[[bytes], Codes]) -> None:
        for file in fields.files:
            decode(file)

    def ours(out: Codes, chosen: Sequence[Window]) -> None:
        for call, window in enumerate(chosen):
            first = call * FIELDS_PER_CALL
            fields.decode(window, out[: len(fields.files) - first], first)

    runs: list[Callable[[], None]] = [
        lambda: each(by_opencv),
        lambda: each(by_pillow),
        lambda: ours(whole, [(0, 0, height, width)] * len(windows)),
        lambda: ours(part, windows),
    ]
    return [_seconds(run) / len(fields.files) * 1e6 for run in runs]


def _seconds(run: Callable[[], None]) -> float:
    began = time.process_time()
    run()
    return time.process_time() - began


def show(result: dict[str, Any]) -> None:
    """Print the result as text."""
    if check := result.get("check"):
        print(
            f"{check['fields']} fields, {check['results']} results (whole; in windows; half mirrored):"
            f" {check['refused']} left to OpenCV, {check['different']} different"
        )
    print(f"\nmicroseconds a field, processor time\n{'':10}" + "".join(f"{name:>16}" for name in _COLUMNS))
    for kind, row in result["fields"].items():
        print(f"{kind:10}" + "".join(f"{row[name]:16}" for name in _COLUMNS))
    print("\nstacks of 10 flows, crops of 224, one thread: a second of processor time, and times the folder")
    for title, rates in (("codes", result["read"]["code_stacks"]), ("pixels", result["read"]["stacks"])):
        for kind, part in {"all": rates, **rates["kinds"]}.items():
            print(f"{title:8}{kind:10}{part['corpus']['per_core_second']:8} ({part['ratio']})")
        several = rates["threads"]
        print(
            f"{title:8}{several['threads']} threads {several['corpus']:8} a second of the clock,"
            f" {several['corpus_scaling']} times one; {several['ratio']} times the folder, too in threads"
        )


_COLUMNS = ("bytes", "opencv_us", "pillow_us", "ours_us", "ours_window_us", "ratio", "window_ratio")


def main() -> int:
    """Check, time and print. Returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--seed", type=int, default=0, help="of fields, windows and places")
    parser.add_argument("--videos", type=int, default=24, help="videos of which stacks are read")
    parser.add_argument("--fields", type=int, default=300, help="timed fields of each kind")
    parser.add_argument("--no-check", action="store_true", help="only time")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    corpus, rng = open_corpus(args.corpus), np.random.default_rng(args.seed)
    result: dict[str, Any] = {}
    if not args.no_check:
        result["check"] = dataclasses.asdict(check_corpus(corpus, rng))
    result["fields"] = time_fields(corpus, args.fields, rng)
    result["read"] = bench_reading(corpus, videos=args.videos, seed=args.seed).to_dict()
    print(json.dumps(result)) if args.json else show(result)
    return int(bool(result.get("check", {}).get("different")))


if __name__ == "__main__":
    sys.exit(main())
