"""The decoder of grey JPEGs: ordinary files are decoded like by OpenCV, and others like by OpenCV or not."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import cv2
import numpy as np
import pytest
from PIL import Image

from flowprep.codec import encode_jpeg
from flowprep.codec.decode_jpeg import DECODED, REFUSED
from flowprep.codec.quantise import encode_field, encode_pair
from flowprep.settings import Settings
from tests.support.decoder_checks import check_decoded, check_fields
from tests.support.jpegs import (
    APP1,
    COM,
    DHT,
    DNL,
    DQT,
    DRI,
    EOI,
    KINDS,
    SOF0,
    SOI,
    SOS,
    by_opencv,
    by_pillow,
    changed,
    flow_of_kind,
    inserted,
    join,
    picture,
    segment,
    split,
)

SHAPES = [(1, 1), (1, 40), (40, 1), (7, 9), (8, 8), (9, 7), (16, 16), (17, 16), (33, 70), (64, 48)]


OPTIONS = [
    *({"codes": "adaptive", "error_px": step} for step in (0.05, 0.4, 3.0)),
    *({"codes": "fixed", "quality": quality} for quality in (1, 50, 95, 100)),
    {"codes": "tsn", "quality": 90},
]


# What is decoded


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_field_that_flowprep_writes(shape: tuple[int, int]) -> None:
    files = [
        encode_field(flow_of_kind(kind, shape), Settings(**options)).jpeg
        for kind, options in product(KINDS, OPTIONS)
    ]
    check_decoded(files, shape)
    check_decoded(files, shape, mirror=True)


def test_fields_with_a_dead_zone() -> None:
    flow = np.stack([flow_of_kind("half", (64, 48)), flow_of_kind("sparse", (64, 48))]) * np.float32(0.2)
    check_decoded([field.jpeg for field in encode_pair(flow, Settings())], (64, 48))


@pytest.mark.parametrize("level", [0, 1, 100, 128, 255])
@pytest.mark.parametrize("step", [1, 8, 255])
def test_the_encoder_with_any_level_and_any_steps(level: int, step: int) -> None:
    rng = np.random.default_rng(level)
    table = np.full((8, 8), step) if step > 1 else rng.integers(1, 256, (8, 8))
    values = [rng.uniform(0, 255, (24, 40)), rng.choice([0, 255], (24, 40)), np.full((24, 40), level)]
    files = [
        encode_jpeg.encode((v - level).astype(np.float32), level, np.asarray(table, np.int64), lambda_)
        for v, lambda_ in product(values, (0.0, 2.0))
    ]
    check_decoded(files, (24, 40))


@pytest.mark.parametrize("shape", [(65500, 1), (1, 65500), (65500, 9), (9, 65500)], ids=str)
def test_the_longest_sides(shape: tuple[int, int]) -> None:
    files = [encode_field(flow_of_kind(kind, shape), Settings()).jpeg for kind in ("still", "half")]
    check_decoded(files, shape)
    check_decoded(files, shape, window=(shape[0] - 1, shape[1] - 1, 1, 1))


@pytest.mark.parametrize("quality", [1, 5, 25, 50, 75, 90, 95, 99, 100])
def test_ordinary_files_of_pillow_and_opencv(quality: int) -> None:
    files = []
    for image in (picture((48, 57)), np.full((48, 57), 255, np.uint8), np.zeros((48, 57), np.uint8)):
        files += [by_pillow(image, quality=quality, optimize=optimise) for optimise in (False, True)]
        files.append(by_opencv(image, cv2.IMWRITE_JPEG_QUALITY, quality))
        files.append(by_opencv(image, cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1))
    check_decoded(files, (48, 57))


@pytest.mark.parametrize("shape", [(1, 1), (7, 9), (17, 16), (240, 320)], ids=str)
def test_ordinary_files_of_every_size(shape: tuple[int, int]) -> None:
    check_decoded([by_pillow(picture(shape), quality=90), by_opencv(picture(shape, 1))], shape)


def test_tables_of_many_kinds() -> None:
    rng = np.random.default_rng(0)
    tables = [
        [1] * 64,
        [255] * 64,
        list(range(1, 65)),
        rng.integers(1, 256, 64).tolist(),
        [255] + [1] * 63,
        [1] + [255] * 63,
    ]
    pictures = [picture((40, 40)), rng.integers(0, 256, (40, 40)).astype(np.uint8)]
    pictures.append(np.asarray(rng.choice([0, 255], (40, 40)), np.uint8))
    check_decoded([by_pillow(p, qtables=[t]) for p, t in product(pictures, tables)], (40, 40))


# What may be left to the library, but must not be decoded otherwise

FIELD = encode_field(flow_of_kind("half", (24, 40)), Settings()).jpeg
GREY = by_opencv(picture((24, 40)))
RGB = np.stack([picture((24, 40), seed) for seed in range(3)], axis=2)


def of_sampling(factor: int) -> bytes:
    return changed(GREY, SOF0, lambda payload: payload[:7] + bytes([factor]) + payload[8:])


def other_marker(file: bytes, marker: int, other: int) -> bytes:
    parts, scan = split(file)
    return join([(other if m == marker else m, payload) for m, payload in parts], scan)


def sixteen_bits(payload: bytes) -> bytes:
    """A quantisation table with two bytes for each step, and larger steps."""
    return bytes([payload[0] | 0x10]) + b"".join((4 * step).to_bytes(2, "big") for step in payload[1:])


def without_eoi(file: bytes) -> bytes:
    assert file.endswith(b"\xff\xd9")
    return file[:-2]


def oriented(orientation: int, marker: int = APP1) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    payload = dict(split(by_pillow(picture((24, 24)), exif=exif.tobytes()))[0])[APP1]
    return inserted(by_opencv(picture((24, 24))), 0, (marker, payload))


def restarts(interval: int) -> bytes:
    return by_opencv(picture((24, 40)), cv2.IMWRITE_JPEG_RST_INTERVAL, interval)


def dnl() -> bytes:
    """The height stands after the scan."""
    parts, scan = split(changed(GREY, SOF0, lambda payload: payload[:1] + b"\0\0" + payload[3:]))
    return join(parts, without_eoi(scan) + segment(DNL, b"\0\x18") + b"\xff\xd9")


def two_scans() -> bytes:
    parts, scan = split(GREY)
    return join(parts, without_eoi(scan) + segment(*parts[-1]) + split(GREY)[1])


def with_fill_bytes(file: bytes) -> bytes:
    parts, scan = split(file)
    whole = b"\xff\xd8" + b"".join(b"\xff\xff\xff" + segment(*part) for part in parts) + without_eoi(scan)
    return whole + b"\xff\xff\xd9"


def of_number(number: int) -> bytes:
    """The tables have another number than 0."""

    def renumbered(marker: int, payload: bytes) -> bytes:
        if marker in (DHT, DQT):
            return bytes([payload[0] | number]) + payload[1:]
        if marker == SOF0:
            return payload[:8] + bytes([number])
        return payload[:2] + bytes([number << 4 | number]) + payload[3:] if marker == SOS else payload

    parts, scan = split(GREY)
    return join([(marker, renumbered(marker, payload)) for marker, payload in parts], scan)


def of_precision(bits: int) -> bytes:
    return changed(GREY, SOF0, lambda payload: bytes([bits]) + payload[1:])


def spectral(start: int, end: int, approximation: int) -> bytes:
    tail = bytes([start, end, approximation])
    return changed(GREY, SOS, lambda payload: payload[:-3] + tail)


def with_unused_code(kind: int, symbol: int) -> bytes:
    """One of the tables has one more code, of 16 bits, which the scan does not use."""

    def change(payload: bytes) -> bytes:
        tables = []
        while payload:
            counts, end = payload[1:17], 17 + sum(payload[1:17])
            more = payload[0] == kind
            tables.append(
                payload[:16] + bytes([counts[15] + more]) + payload[17:end] + bytes([symbol]) * more
            )
            payload = payload[end:]
        return b"".join(tables)

    return changed(FIELD, DHT, change)


UNUSUAL: dict[str, Callable[[], bytes]] = {
    **{
        f"sampling {factor:02x}": lambda f=factor: of_sampling(f) for factor in (0x11, 0x22, 0x21, 0x41, 0x44)
    },
    **{f"sampling {factor:02x}": lambda f=factor: of_sampling(f) for factor in (0x00, 0x10, 0x51, 0xFF)},
    **{f"restarts {n}": lambda n=n: restarts(n) for n in (1, 2, 5, 1000)},
    "an interval of restarts, but none": lambda: inserted(GREY, -1, (DRI, b"\0\x03")),
    "an interval of no restarts": lambda: inserted(GREY, -1, (DRI, b"\0\0")),
    "restarts without an interval": lambda: join(
        [part for part in split(restarts(2))[0] if part[0] != DRI], split(restarts(2))[1]
    ),
    "progressive": lambda: by_pillow(picture((24, 40)), progressive=True),
    "progressive of OpenCV": lambda: by_opencv(picture((24, 40)), cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "colour": lambda: by_opencv(RGB),
    "colour 4:4:4": lambda: by_pillow(RGB, "RGB", subsampling=0),
    "colour without subsampling tables": lambda: by_pillow(RGB, "RGB", quality=30),
    "CMYK": lambda: by_pillow(RGB, "CMYK"),
    "steps of 16 bits": lambda: changed(GREY, DQT, sixteen_bits),
    "extended sequential": lambda: other_marker(GREY, SOF0, 0xC1),
    "arithmetic coding": lambda: other_marker(GREY, SOF0, 0xC9),
    "lossless": lambda: other_marker(GREY, SOF0, 0xC3),
    "hierarchical": lambda: other_marker(GREY, SOF0, 0xC5),
    "12 bits": lambda: of_precision(12),
    "12 bits, extended": lambda: other_marker(of_precision(12), SOF0, 0xC1),
    "0 bits": lambda: of_precision(0),
    **{f"orientation {n}": lambda n=n: oriented(n) for n in range(10)},
    "an orientation in another segment": lambda: oriented(6, 0xE3),
    "a comment": lambda: inserted(GREY, -1, (COM, b"flow")),
    "a comment without bytes": lambda: inserted(FIELD, 0, (COM, b"")),
    "all APP segments": lambda: inserted(FIELD, 0, *((0xE0 + n, bytes(n)) for n in range(16))),
    "an Adobe segment": lambda: inserted(FIELD, 0, (0xEE, b"Adobe\0\x64\0\0\0\0\x02")),
    "the longest comment": lambda: inserted(FIELD, 1, (COM, bytes(65533))),
    "a reserved marker": lambda: inserted(FIELD, 1, (0x02, b"12")),
    "a marker without a segment": lambda: FIELD[:2] + b"\xff\x01" + FIELD[2:],
    "a marker of a restart before the scan": lambda: FIELD[:2] + b"\xff\xd0" + FIELD[2:],
    "SOI twice": lambda: FIELD[:2] + FIELD,
    "a byte between segments": lambda: FIELD[:2] + b"\0" + FIELD[2:],
    "trailing bytes": lambda: FIELD + b"trailing",
    "a second file behind": lambda: GREY + FIELD,
    "fill bytes": lambda: with_fill_bytes(GREY),
    "DNL": dnl,
    "two scans": two_scans,
    "no EOI": lambda: without_eoi(GREY),
    "no EOI, but bytes": lambda: without_eoi(FIELD) + bytes(100),
    "another marker for EOI": lambda: without_eoi(FIELD) + b"\xff\xc0\0\x02",
    "half of a marker at the end": lambda: FIELD[:-1],
    "half of a scan": lambda: FIELD[:-20] + b"\xff\xd9",
    "no scan": lambda: FIELD[: -len(split(FIELD)[1])],
    "no bytes": lambda: b"",
    "one byte": lambda: b"\xff",
    "SOI alone": lambda: bytes([0xFF, SOI]),
    "EOI alone": lambda: bytes([0xFF, SOI, 0xFF, EOI]),
    "PNG": lambda: bytes(cv2.imencode(".png", picture((24, 40)))[1]),
    **{f"tables of number {n}": lambda n=n: of_number(n) for n in range(5)},
    "a scan of a part of the coefficients": lambda: spectral(0, 5, 0),
    "a scan without DC": lambda: spectral(1, 63, 0),
    "a scan beyond the last coefficient": lambda: spectral(0, 64, 0),
    "successive approximation": lambda: spectral(0, 63, 1),
    "another component in the scan": lambda: changed(FIELD, SOS, lambda p: p[:1] + b"\x07" + p[2:]),
    "two components in the scan": lambda: changed(FIELD, SOS, lambda p: b"\x02" + p[1:3] * 2 + p[3:]),
    "no component in the scan": lambda: changed(FIELD, SOS, lambda p: b"\0" + p[3:]),
    "no quantisation table": lambda: join([p for p in split(FIELD)[0] if p[0] != DQT], split(FIELD)[1]),
    "no Huffman table": lambda: join([p for p in split(FIELD)[0] if p[0] != DHT], split(FIELD)[1]),
    "no frame": lambda: join([p for p in split(FIELD)[0] if p[0] != SOF0], split(FIELD)[1]),
    "two frames": lambda: inserted(FIELD, 0, next(p for p in split(FIELD)[0] if p[0] == SOF0)),
    "the tables behind the frame": lambda: join(
        split(FIELD)[0][1::-1] + split(FIELD)[0][2:], split(FIELD)[1]
    ),
    "steps of zero": lambda: changed(FIELD, DQT, lambda p: p[:1] + bytes(64)),
    "a table of steps in two halves": lambda: changed(FIELD, DQT, lambda p: p[:33]),
    "two tables of steps, the second counts": lambda: inserted(FIELD, -1, (DQT, b"\0" + b"\x09" * 64)),
    "other Huffman tables first": lambda: inserted(FIELD, 0, *(p for p in split(GREY)[0] if p[0] == DHT)),
    "other Huffman tables last": lambda: inserted(FIELD, -1, *(p for p in split(GREY)[0] if p[0] == DHT)),
    **{
        f"an unused code of symbol {s:02x} in table {kind:02x}": lambda kind=kind, s=s: with_unused_code(
            kind, s
        )
        for kind, s in ((0x00, 0x0C), (0x00, 0x0F), (0x00, 0x10), (0x00, 0x97), (0x10, 0x0B), (0x10, 0xFF))
    },
    "Huffman tables of no codes": lambda: changed(
        FIELD, DHT, lambda p: b"\0" + bytes(16) + b"\x10" + bytes(16)
    ),
    "Huffman tables of too many codes": lambda: changed(
        FIELD, DHT, lambda p: b"\0" + b"\x03" + bytes(15) + b"\0\1\2" + b"\x10\3" + bytes(15) + b"\0\1\2"
    ),
}


@pytest.mark.parametrize("kind", UNUSUAL)
def test_unusual_files_are_decoded_like_opencv_or_refused(kind: str) -> None:
    file = UNUSUAL[kind]()
    shape = (24, 24) if kind.startswith("orientation") or "orientation" in kind else (24, 40)
    check_fields([FIELD, file, GREY], shape)
    check_fields([file], shape, window=(3, 5, 17, 11), mirror=True)


@pytest.mark.parametrize(
    "kind",
    [
        "progressive",
        "CMYK",
        "arithmetic coding",
        "12 bits",
        "DNL",
        "orientation 6",
        "PNG",
        "no bytes",
        "no scan",
    ],
)
def test_these_are_always_refused(kind: str) -> None:
    file = UNUSUAL[kind]()
    shape = (24, 24) if "orientation" in kind else (24, 40)
    assert check_fields([file], shape) == [REFUSED]


def of_differences(columns: int, differences: list[int], step: int) -> bytes:
    """A file of flat blocks with these differences of DC coefficients."""
    sides = (8 * len(differences) // columns).to_bytes(2, "big") + (8 * columns).to_bytes(2, "big")
    dc_codes = bytes([0, *(0, 0, 0, 12), *bytes(12), *range(12)])  # of a size: 4 bits
    ac_codes = bytes([16, 1, *bytes(15), 0])  # the end of a block: 1 bit
    bits = ""
    for difference in differences:
        size = abs(difference).bit_length()
        value = difference if difference >= 0 else difference + (1 << size) - 1
        bits += f"{size:04b}" + (f"{value:0{size}b}" if size else "") + "0"
    bits += "1" * (-len(bits) % 8)
    scan = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    parts = [
        (DQT, bytes([0] + [step] * 64)),
        (SOF0, b"\x08" + sides + b"\1\1\x11\0"),
        (DHT, dc_codes + ac_codes),
        (SOS, b"\1\1\0\0\x3f\0"),
    ]
    return join(parts, scan + b"\xff\xd9")


@pytest.mark.parametrize("step", [1, 128, 255])
@pytest.mark.parametrize("last", [5, 2**15 - 1, 2**15, 2**24, -(2**24), 16843009])
def test_dc_coefficients_that_overflow(step: int, last: int) -> None:
    """The window has the last block alone. Some products with the step are small again in 16 or 32 bits."""
    sign = 1 if last > 0 else -1
    steps, rest = divmod(abs(last), 2047)
    differences = [sign * 2047] * steps + [sign * rest]
    differences += [0] * (len(differences) % 2)
    columns = len(differences) // 2
    file, shape = of_differences(columns, differences, step), (16, 8 * columns)
    statuses = check_fields([file], shape, window=(8, 8 * columns - 8, 8, 8))
    assert statuses == [DECODED if abs(last) * step < 5000 else REFUSED]


@pytest.mark.parametrize("shape", [(24, 39), (25, 40), (40, 24), (1, 1), (65500, 65500 // 8)], ids=str)
def test_a_file_of_another_size_is_refused(shape: tuple[int, int]) -> None:
    assert set(check_fields([FIELD, GREY], shape, window=(0, 0, 1, 1))) == {REFUSED}


@pytest.mark.parametrize(
    "sides", [(0, 0), (0, 40), (24, 0), (65535, 65535), (24, 65535), (60000, 1000)], ids=str
)
def test_forged_sides_are_refused_or_decoded_like_opencv(sides: tuple[int, int]) -> None:
    """The file is much too short for so many blocks. What it declares must not be allocated."""
    forged = changed(FIELD, SOF0, lambda p: p[:1] + b"".join(n.to_bytes(2, "big") for n in sides) + p[5:])
    assert check_fields([forged], (24, 40)) == [REFUSED]
    if min(sides):
        check_fields([forged], sides, window=(0, 0, 1, 1))


def test_much_data_around_a_small_picture() -> None:
    comments = [(COM, bytes(60_000)) for _ in range(20)]
    check_decoded([inserted(FIELD, 1, *comments), GREY], (24, 40))


@pytest.mark.parametrize("shape", [(8, 8), (8, 24), (24, 40)], ids=str)
def test_blocks_of_all_coefficients(shape: tuple[int, int]) -> None:
    """No file has more coefficients than these."""
    noise = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    files = [by_pillow(noise, quality=100, qtables=[[1] * 64]) for _ in range(2)]
    check_decoded([inserted(files[0], 1, (COM, bytes(5000))), files[1]], shape)
