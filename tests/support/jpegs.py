"""Grey JPEG files, their parts, and what to make them of."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Part = tuple[int, bytes]  # a marker without its 0xFF, and the payload of its segment

SOI, EOI, SOF0, SOF2, DHT, DQT, DRI, SOS, DNL, APP1, COM = (
    *(0xD8, 0xD9, 0xC0, 0xC2, 0xC4, 0xDB, 0xDD, 0xDA, 0xDC, 0xE1, 0xFE),
)


def split(file: bytes) -> tuple[list[Part], bytes]:
    """The segments of a file up to and with SOS, and all bytes after them."""
    parts, at = [], 2
    while not parts or parts[-1][0] != SOS:
        assert file[at] == 0xFF, f"no marker at byte {at}"
        end = at + 2 + int.from_bytes(file[at + 2 : at + 4], "big")
        parts.append((file[at + 1], file[at + 4 : end]))
        at = end
    return parts, file[at:]


def join(parts: Sequence[Part], scan: bytes) -> bytes:
    """The file of `split`."""
    return b"\xff\xd8" + b"".join(segment(*part) for part in parts) + scan


def segment(marker: int, payload: bytes) -> bytes:
    """A segment with its length."""
    return bytes([0xFF, marker]) + ((len(payload) + 2) & 0xFFFF).to_bytes(2, "big") + payload


def changed(file: bytes, marker: int, change: Callable[[bytes], bytes]) -> bytes:
    """The file with other payloads in the segments of a marker."""
    parts, scan = split(file)
    assert any(found == marker for found, _ in parts)
    return join([(m, change(payload) if m == marker else payload) for m, payload in parts], scan)


def inserted(file: bytes, place: int, *parts: Part) -> bytes:
    """The file with more segments before segment `place`; -1 is before SOS."""
    old, scan = split(file)
    old[place:place] = parts
    return join(old, scan)


def flow_of_kind(kind: str, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Displacements of one component, pixels."""
    rng = np.random.default_rng(sum(shape))
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    field = {
        "still": lambda: np.zeros(shape),
        "flat": lambda: np.full(shape, 1.7),
        "ramp": lambda: (x - y) / 7,
        "sparse": lambda: 9 * (rng.random(shape) > 0.99),
        "half": lambda: np.where(x < shape[1] / 2, 0, 3 * np.sin(x / 3) + np.cos(y)),
        "dense": lambda: cv2.GaussianBlur(rng.normal(0, 20, shape), (0, 0), 2),
        "noise": lambda: rng.normal(0, 12, shape),
        "huge": lambda: rng.choice([-900.0, 900.0], shape),
    }[kind]()
    return np.ascontiguousarray(field, np.float32)


KINDS = ("still", "flat", "ramp", "sparse", "half", "dense", "noise", "huge")


def picture(shape: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    """A grey picture with edges, slopes and noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    grey = 128 + 60 * np.sin(x / 5 + seed) + 50 * (y % 13 > 6) + rng.normal(0, 8, shape)
    return np.asarray(np.clip(grey, 0, 255), np.uint8)


def by_pillow(image: NDArray[np.uint8], mode: str = "L", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def by_opencv(image: NDArray[np.uint8], *options: int) -> bytes:
    return bytes(cv2.imencode(".jpg", image, options)[1])
