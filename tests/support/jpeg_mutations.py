"""Damaged and forged JPEGs, whose checksums are right: they are decoded like OpenCV does, or refused.

python -m tests.support.jpeg_mutations NUMBER SEED

prints a JSON object: whether numba checks bounds; for each kind of damage, the numbers of files that were
decoded, refused, and decoded otherwise; and the files that were decoded otherwise, hexadecimal. A process of
its own, as a decoder might crash. Each file begins or ends where memory does, and the result ends there, too.
"""

from __future__ import annotations

import json
import random
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from flowprep.codec.decode_jpeg import DECODED, REFUSED, decode_fields
from flowprep.codec.quantise import encode_field
from flowprep.settings import Settings
from flowprep.system.jit import jit
from tests.support.decoder_checks import Window, reference
from tests.support.guarded import PAGE, guarded
from tests.support.jpegs import (
    DHT,
    DQT,
    DRI,
    EOI,
    SOF0,
    SOI,
    SOS,
    changed,
    join,
    segment,
    split,
)
from tests.support.mutations import MUTATIONS, Mutation, mutants

_MARKERS = (
    SOF0,
    0xC1,
    0xC2,
    DHT,
    0xC9,
    0xD0,
    0xD7,
    SOI,
    EOI,
    SOS,
    DQT,
    0xDC,
    DRI,
    0xE0,
    0xE1,
    0xFE,
    0x01,
    0xFF,
)
_ROOM = 8 * PAGE  # bytes for a file
_MOST_PIXELS = 1 << 14  # of a forged size that the result has, too
_GUARD = 64


def originals() -> list[bytes]:
    """Fields of flow, pictures, and files of forms that are no fields: 24x40 and smaller."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:24, :40].astype(np.float32)
    flows = [np.sin(x / 4) * 9 * (y > 11), rng.normal(0, 6, (24, 40)), np.where(x > 30, 4, 0), 0 * x]
    flows += [flow[:9, :17] for flow in flows[:2]]
    files = [
        encode_field(np.ascontiguousarray(flow, np.float32), Settings(error_px=step)).jpeg
        for flow in flows
        for step in (0.1, 0.4)
    ]
    picture = np.clip(128 + 60 * np.sin(x / 3) + rng.normal(0, 20, (24, 40)), 0, 255).astype(np.uint8)
    quality = cv2.IMWRITE_JPEG_QUALITY
    forms: list[list[int]] = [
        [quality, 50],
        [quality, 95],
        [quality, 100],
        [quality, 80, cv2.IMWRITE_JPEG_OPTIMIZE, 1],
    ]
    forms += [[cv2.IMWRITE_JPEG_RST_INTERVAL, 2], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]]
    files += [bytes(cv2.imencode(".jpg", picture, form)[1]) for form in forms]
    files.append(bytes(cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR))[1]))
    return files


# Each changes a file: the file, random numbers, and other files.


def scan_bits(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Some bits of the coefficients."""
    parts, scan = split(data)
    damaged = bytearray(scan)
    for _ in range(rng.randint(1, 6)):
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return join(parts, bytes(damaged))


def random_scan(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Coefficients of random bits: they may be as large as can be, and end where they like."""
    parts, _ = split(data)
    bits = rng.randbytes(rng.choice([1, 20, 200, 2000]))
    if rng.random() < 0.3:  # fewer or more ones
        other = rng.randbytes(len(bits))
        bits = bytes(a & b if rng.random() < 0.9 else a | b for a, b in zip(bits, other, strict=True))
    return join(parts, bits.replace(b"\xff", b"\xff\0") + b"\xff\xd9")


def coefficients(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """A right scan of any coefficients that the tables can code; of the largest ones, too."""
    parts, _ = split(data)
    codes = {}
    for payload in (payload for marker, payload in parts if marker == DHT):
        codes |= read_huffman_tables(payload)
    frame = next(payload for marker, payload in parts if 0xC0 <= marker <= 0xC2)
    height, width = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    if not {0x00, 0x10} <= codes.keys() or height * width > _MOST_PIXELS:
        return data + b"\0"
    blocks = -(-height // 8) * -(-width // 8)
    bits = _random_bits(codes[0x00], codes[0x10], blocks, rng)
    bits += "1" * (-len(bits) % 8)
    scan = int(bits, 2).to_bytes(len(bits) // 8, "big")
    return join(parts, scan.replace(b"\xff", b"\xff\0") + b"\xff\xd9")


def _random_bits(dc: dict[int, str], ac: dict[int, str], blocks: int, rng: random.Random) -> str:
    """The bits of random blocks. They end early, and wrongly, if no code fits."""
    largest = rng.choice([1, 2, 4, 6, 15])
    share = rng.choice([0.0, 0.3, 0.9])  # of blocks with AC coefficients
    dc_symbols = [symbol for symbol in dc if symbol <= largest + 4] or list(dc)
    bits = []
    for _ in range(blocks):
        k, chosen = 0, [(dc, rng.choice(dc_symbols))] if dc else []
        length = rng.randint(1, 63) if rng.random() < share else 0
        while k < 63:
            fitting = [
                s for s in ac if k + (s >> 4) + 1 <= 63 and s & 15 <= largest and (s & 15 or s == 0xF0)
            ]
            if 0 in ac and (k >= length or not fitting):
                chosen.append((ac, 0))
                break
            if not fitting:
                return "".join(bits) or "1"
            symbol = rng.choice(fitting)
            chosen.append((ac, symbol))
            k += (symbol >> 4) + 1
        for codes, symbol in chosen:
            bits.append(codes[symbol] + "".join(rng.choice("01") for _ in range(symbol & 15)))
    return "".join(bits) or "1"


def read_huffman_tables(payload: bytes) -> dict[int, dict[int, str]]:
    """For each table of a DHT segment, by class and number: the code of each symbol, as text of 0 and 1."""
    tables = {}
    while len(payload) >= 17:
        counts, symbols = payload[1:17], iter(payload[17:])
        codes: dict[int, str] = {}
        code = 0
        for length, count in enumerate(counts, 1):
            for symbol in islice(symbols, count):
                codes.setdefault(symbol, format(code, f"0{length}b"))
                code += 1
            code <<= 1
        tables[payload[0]] = codes
        payload = payload[17 + sum(counts) :]
    return tables


def huffman(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Other tables: numbers of codes, symbols, or both; complete, incomplete and impossible ones."""
    parts, scan = split(data)
    tables = [_huffman_table(rng, kind) for kind in (0x00, 0x10)]
    place = rng.choice([-1, rng.randrange(len(parts))])
    keep = [part for part in parts if part[0] != DHT or rng.random() < 0.5]
    chosen = rng.choice([tables, tables[:1], tables[1:]])
    keep[place:place] = [(DHT, b"".join(chosen))] if rng.random() < 0.5 else [(DHT, t) for t in chosen]
    scanned = rng.choice([lambda file, *_: file, random_scan, coefficients, coefficients])
    return scanned(join(keep, scan), rng, others)


def _huffman_table(rng: random.Random, kind: int) -> bytes:
    counts, free = [0] * 16, 1
    for i in range(16):
        free *= 2
        most = free - (rng.random() < 0.9)  # no code may have ones alone
        counts[i] = rng.randint(0, max(0, min(most, 255, rng.choice([1, 3, 40]))))
        free -= counts[i]
    if rng.random() < 0.2:  # a code that cannot be
        counts[rng.randrange(16)] = rng.choice([3, 17, 200, 255])
    symbols = [rng.randrange(rng.choice([12, 12, 256]) if kind == 0 else 256) for _ in range(sum(counts))]
    if kind and rng.random() < 0.7:  # baseline
        symbols = [s if 1 <= s & 15 <= 10 else rng.choice([0, 0xF0, 1, 0x11, 2]) for s in symbols]
    elif not kind and rng.random() < 0.8:
        symbols = [s % 12 for s in symbols]
    if rng.random() < 0.1:
        symbols = symbols[: rng.randint(0, len(symbols))]
    number = rng.choice([0, 0, 0, 0, 0, 0, 1, 3, 4, 15])
    return bytes([kind | number, *counts, *symbols])


def steps(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Other quantisation steps: of 8 and 16 bits, zeros, the largest."""
    wide = rng.random() < 0.4
    top = 65535 if wide else 255
    values = [rng.choice([0, 1, 2, top, rng.randint(0, top)]) for _ in range(64)]
    payload = b"".join(value.to_bytes(1 + wide, "big") for value in values)
    number = rng.choice([0, 0, 0, 1, 4])
    forged = changed(
        data, DQT, lambda _: bytes([wide << 4 | number]) + payload[: rng.choice([len(payload), 200])]
    )
    return forged if rng.random() < 0.5 else coefficients(forged, rng, others)


def sides(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Another height or width."""

    def change(payload: bytes) -> bytes:
        height, width = payload[1:3], payload[3:5]
        value = rng.choice([0, 1, 7, 8, 9, 16, 25, 33, 41, 64, 100, 1000, 65500, 65535, rng.randrange(65536)])
        if rng.random() < 0.5:
            height = value.to_bytes(2, "big")
        else:
            width = value.to_bytes(2, "big")
        return payload[:1] + height + width + payload[5:]

    return _of_frame(data, change)


def frame(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Another precision, number of components, sampling or number of a table."""

    def change(payload: bytes) -> bytes:
        at = rng.choice([0, 5, 6, 7, 8])
        value = rng.choice([0, 1, 2, 3, 4, 8, 12, 0x11, 0x22, 0x41, 255])
        return payload[:at] + bytes([value]) + payload[at + 1 :]

    return _of_frame(data, change)


def _of_frame(data: bytes, change: Callable[[bytes], bytes]) -> bytes:
    parts, scan = split(data)
    return join([(m, change(p) if 0xC0 <= m <= 0xC2 else p) for m, p in parts], scan)


def scan_header(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Another byte of SOS."""

    def change(payload: bytes) -> bytes:
        at = rng.randrange(len(payload))
        return (
            payload[:at]
            + bytes([rng.choice([0, 1, 2, 5, 0x10, 0x11, 0x44, 63, 64, 255])])
            + payload[at + 1 :]
        )

    return changed(data, SOS, change)


def order(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Segments that are swapped, doubled or lost, or of another file."""
    parts, scan = split(data)
    i, j = rng.randrange(len(parts)), rng.randrange(len(parts))
    kind = rng.randrange(4)
    if kind == 0:
        parts[i], parts[j] = parts[j], parts[i]
    elif kind == 1:
        parts.insert(i, parts[j])
    elif kind == 2:
        del parts[i]
    else:
        parts.insert(i, rng.choice(split(rng.choice(others))[0]))
    return join(parts, scan)


def markers(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """A marker somewhere, with a segment or without."""
    at = rng.randrange(2, len(data))
    marker = rng.choice(_MARKERS)
    payload = rng.choice([b"", b"\0\2", b"\0\4\0\1", b"\0\0", b"\xff\xff", segment(marker, bytes(9))[2:]])
    cut = rng.choice([0, 0, 2])
    return data[:at] + bytes([0xFF, marker]) + payload + data[at + cut :]


def lengths(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """A segment with a wrong length."""
    parts, scan = split(data)
    i = rng.randrange(len(parts))
    encoded = [bytearray(segment(*part)) for part in parts]
    length = int.from_bytes(encoded[i][2:4], "big")
    wrong = rng.choice([0, 1, 2, length - 1, length + 1, length + 2, 65535, rng.randrange(65536)])
    encoded[i][2:4] = max(0, wrong).to_bytes(2, "big")
    return b"\xff\xd8" + b"".join(encoded) + scan


def insertion(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """More bytes somewhere: zeros, ones, or any."""
    at = rng.randrange(len(data) + 1)
    more = rng.choice(
        [bytes(rng.randint(1, 40)), b"\xff" * rng.randint(1, 5), rng.randbytes(rng.randint(1, 9))]
    )
    return data[:at] + more + data[at:]


JPEG_MUTATIONS: tuple[Mutation, ...] = (
    *MUTATIONS,
    scan_bits,
    random_scan,
    coefficients,
    huffman,
    steps,
    sides,
    frame,
    scan_header,
    order,
    markers,
    lengths,
    insertion,
)


@dataclass
class Outcome:
    """What came of damaged files.

    Attributes:
        counts: numbers by (kind of damage, "decoded" or "refused" or "otherwise").
        otherwise: the files that were decoded otherwise than OpenCV does, with what was asked and found.
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    otherwise: list[str] = field(default_factory=list)


class Bench:
    """Memory in which one file after the other is decoded."""

    def __init__(self) -> None:
        self._data = guarded(_ROOM)
        self._readable = self._data.view()
        self._readable.flags.writeable = False
        self._out = guarded(_MOST_PIXELS + PAGE)

    def decode(
        self, file: bytes, shape: tuple[int, int], window: Window, mirror: bool, at_end: bool
    ) -> tuple[int, NDArray[np.uint8]]:
        """The status and the image of a file at the end or at the beginning of memory."""
        start = _ROOM - len(file) if at_end else 0
        self._data[start : start + len(file)] = np.frombuffer(file, np.uint8)
        place = len(self._out) - window[2] * window[3]
        self._out[place - _GUARD :] = 0xA5
        numbers = (np.array([n], np.int64) for n in (start, len(file), zlib.crc32(file)))
        image = self._out[place:].reshape(1, *window[2:])
        status = decode_fields(self._readable, *numbers, shape, window, image, mirror)
        assert (self._out[place - _GUARD : place] == 0xA5).all(), "bytes before the result were changed"
        return int(status[0]), image[0]


def try_mutants(number: int, seed: int, mutations: Sequence[Mutation] = JPEG_MUTATIONS) -> Outcome:
    """Damage files and decode them."""
    rng = random.Random(seed)
    whole = originals()
    shapes = [image.shape for image in map(reference, whole) if image is not None]
    bench, outcome = Bench(), Outcome()
    for which, mutation, file in mutants(whole, number, seed, mutations):
        if len(file) <= _ROOM:
            shape = _declared(file) if rng.random() < 0.5 else None
            try_one(bench, file, shape or (shapes[which][0], shapes[which][1]), mutation, rng, outcome)
    return outcome


def _declared(file: bytes) -> tuple[int, int] | None:
    """The size in the first frame header, if the result has room for it."""
    at = file.find(b"\xff\xc0\0\x0b")
    height, width = (int.from_bytes(file[at + n : at + n + 2], "big") for n in (5, 7))
    return (height, width) if at > 0 and 0 < height * width <= _MOST_PIXELS else None


def try_one(
    bench: Bench, file: bytes, shape: tuple[int, int], mutation: str, rng: random.Random, outcome: Outcome
) -> None:
    """Decode a file, compare it with OpenCV, and count what came of it."""
    height, width = (rng.randint(1, side) if rng.random() < 0.5 else side for side in shape)
    top, left = rng.randint(0, shape[0] - height), rng.randint(0, shape[1] - width)
    mirror, at_end = rng.random() < 0.5, rng.random() < 0.5
    status, image = bench.decode(file, shape, (top, left, height, width), mirror, at_end)
    assert status in (DECODED, REFUSED), "the checksum is right"
    if status == REFUSED:
        outcome.counts[mutation, "refused"] += 1
        return
    whole = reference(file)
    expected = None if whole is None else whole[top : top + height, left : left + width]
    if expected is not None and mirror:
        expected = expected[:, ::-1]
    same = whole is not None and whole.shape == shape and np.array_equal(image, expected)
    outcome.counts[mutation, "decoded" if same else "otherwise"] += 1
    if not same:
        found = None if whole is None else whole.shape
        asked = f"shape {shape} window {(top, left, height, width)} mirror {mirror}; OpenCV {found}"
        outcome.otherwise.append(f"{mutation}: {asked}: {file.hex()}")


def rows(outcome: Outcome) -> list[dict[str, object]]:
    """The counts as rows of a table."""
    kinds = ("decoded", "refused", "otherwise")
    damages = sorted({damage for damage, _ in outcome.counts})
    return [{"damage": d, **{kind: outcome.counts[d, kind] for kind in kinds}} for d in damages]


@jit
def _beyond(array: Any) -> Any:
    return array[len(array) - 2 + int(array[0])]


def bounds_are_checked() -> bool:
    """Whether compiled functions refuse an index beyond an array."""
    try:
        _beyond(np.full(3, 2, np.uint8))
    except IndexError:
        return True
    return False


if __name__ == "__main__":
    result = try_mutants(int(sys.argv[1]), int(sys.argv[2]))
    worst = sorted(result.otherwise, key=len)[:50]
    print(json.dumps({"bounds": bounds_are_checked(), "counts": rows(result), "otherwise": worst}))
