"""Resampling of codes, compared with OpenCV and with matrices."""

from __future__ import annotations

import platform

import cv2
import numpy as np
import pytest

from flowprep.codec import quantise, resample
from tests.support.processors import of_processor, run_python

SHAPE = (61, 83)
WHOLE = (0, 0, *SHAPE)


def random_images(n: int, *channels: int) -> np.ndarray:
    """Smooth images with noise: (n, *SHAPE, *channels) uint8."""
    rng = np.random.default_rng(1)
    noise = rng.uniform(0, 255, (n, *SHAPE, *channels))
    return np.stack([cv2.GaussianBlur(image, (3, 3), 0) for image in noise]).round().astype(np.uint8)


def resampled(images: np.ndarray, window, size, **options) -> np.ndarray:
    filters = resample.make_resampling(window, size, images.shape[1:3], **options)
    top, left, height, width = filters.window
    out = np.full((len(images), *size, *images.shape[3:]), 77, np.uint8)
    resample.resample_images(images[:, top : top + height, left : left + width].copy(), filters, out)
    return out


def resized(images: np.ndarray, size: tuple[int, int], method: int) -> np.ndarray:
    """The images as float32, resized by OpenCV."""
    return np.stack([cv2.resize(i.astype(np.float32), size[::-1], interpolation=method) for i in images])


def matrix(start: float, extent: float, size: int, limit: int, antialias: bool) -> np.ndarray:
    """The filter of an axis, (size, limit), written from the definition."""
    step = extent / size
    pixels = np.arange(limit)
    rows = []
    for i in range(size):
        if antialias and step > 1:
            begin, end = start + i * step, start + (i + 1) * step
            row = np.clip(np.minimum(end, pixels + 1) - np.maximum(begin, pixels), 0, None)
        else:
            centre = np.clip(start + (i + 0.5) * step - 0.5, 0, limit - 1)
            row = np.clip(1 - np.abs(pixels - centre), 0, None)
        rows.append(row / row.sum())
    return np.array(rows)


def random_case(rng: np.random.Generator) -> tuple[tuple[float, ...], tuple[int, int]]:
    """A window, of fractions or not, and a size."""
    extent = rng.uniform(0.5, SHAPE)
    start = rng.uniform(0, SHAPE - extent)
    if rng.random() < 0.3:
        extent, start = np.ceil(extent), np.floor(start)
    size = np.maximum(1, extent * 2 ** rng.uniform(-3, 1.5, 2)).astype(int)
    return (*start.tolist(), *extent.tolist()), tuple(size.tolist())


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_random_windows_and_sizes_are_those_of_the_definition(antialias, channels):
    rng = np.random.default_rng(2)
    images = random_images(2, *channels)
    for _ in range(100):
        window, size = random_case(rng)
        rows, columns = (matrix(window[a], window[a + 2], size[a], SHAPE[a], antialias) for a in range(2))
        expected = np.einsum("iy,jx,nyx...->nij...", rows, columns, images, optimize=True)
        out = resampled(images, window, size, antialias=antialias)
        assert np.abs(out - expected).max() < 0.501
        mirrored = resampled(images, window, size, antialias=antialias, mirror=True)
        assert np.array_equal(mirrored, out[:, :, ::-1])


@pytest.mark.parametrize("size", [(30, 41), (61, 40), (31, 83), (20, 20), (1, 1), (7, 80), (13, 1)])
def test_smaller_pictures_are_those_of_opencv(size):
    images = random_images(3)
    expected = [
        cv2.resize(image.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA) for image in images
    ]
    assert np.abs(resampled(images, WHOLE, size) - expected).max() < 0.51


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("size", [(61, 100), (122, 166), (64, 90), (200, 83)])
def test_larger_pictures_are_those_of_opencv(size, antialias):
    images = random_images(3)
    expected = [
        cv2.resize(image.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR) for image in images
    ]
    out = resampled(images, WHOLE, size, antialias=antialias)
    assert np.abs(out - expected).max() < 0.51


def test_a_crop_of_a_resized_picture_is_a_window():
    images = random_images(2)
    whole = resampled(images, WHOLE, (32, 43))
    rng = np.random.default_rng(3)
    for _ in range(20):
        top, left, height, width = (
            rng.integers(20),
            rng.integers(20),
            rng.integers(1, 12),
            rng.integers(1, 23),
        )
        y, x = SHAPE[0] / 32, SHAPE[1] / 43
        part = resampled(images, (top * y, left * x, height * y, width * x), (height, width))
        assert np.array_equal(part, whole[:, top : top + height, left : left + width])


def test_codes_become_displacements_as_floats():
    """The mean over pixels of displacements is that of codes: both are linear."""
    codes = random_images(4)
    scale = np.array([0.05, 1, -0.3, 0.2], np.float32)
    zero_point = np.array([128, 0, 127.5, 3], np.float32)
    pixels = (codes - zero_point[:, None, None]) * scale[:, None, None]
    for size, method in (((31, 40), cv2.INTER_AREA), ((122, 166), cv2.INTER_LINEAR)):
        filters = resample.make_resampling(WHOLE, size, SHAPE)
        out = np.empty((4, *size), np.float32)
        resample.resample_flow(codes, filters, scale, zero_point, out)
        expected = resized(pixels, size, method)
        assert np.allclose(out, expected, atol=2e-4 * np.abs(scale)[:, None, None])


def test_displacements_are_bit_identical_to_those_of_the_quantiser():
    rng = np.random.default_rng(4)
    codes = rng.integers(0, 256, (50, 13, 16)).astype(np.uint8)
    scale = rng.normal(0, 1, 50).astype(np.float32)
    zero_point = rng.choice(np.array([0, 127.5, 128, 200], np.float32), 50)
    out, expected = np.empty((2, *codes.shape), np.float32)
    resample.to_pixels(codes, scale, zero_point, out)
    for field in range(50):
        quantise.to_pixels(codes[field], scale[field], zero_point[field], expected[field])
    assert np.array_equal(out.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 1)])
def test_a_picture_of_one_row_or_column_is_resized(shape):
    images = np.full((1, *shape), 200, np.uint8)
    for size in ((1, 1), (3, 5), (1, 2)):
        assert (resampled(images, (0, 0, *shape), size) == 200).all()


# Prints a digest of results of all kinds, and the instructions that only x86 has.
RESULTS = """
import hashlib, sys
import numpy as np
from flowprep.codec import resample
from tests.support.processors import compile_for_arm
rng = np.random.default_rng(5)
digest = hashlib.sha256()
for k in range(60):
    shape = tuple(rng.integers(1, 70, 2).tolist())
    size = tuple(rng.integers(1, 70, 2).tolist())
    filters = resample.make_resampling((0, 0, *shape), size, shape, bool(k % 2), bool(k % 3))
    images = rng.integers(0, 256, (2, *filters.window[2:], 3)).astype(np.uint8)
    out, flow = np.empty((2, *size, 3), np.uint8), np.empty((2, *size), np.float32)
    scale = rng.normal(size=2).astype(np.float32)
    resample.resample_images(images, filters, out)
    resample.resample_flow(images[..., 0].copy(), filters, scale, scale, flow)
    pixels = np.empty((2, *filters.window[2:]), np.float32)
    resample.to_pixels(images[..., 1].copy(), scale, scale, pixels)
    for array in (out, flow, pixels):
        digest.update(array.tobytes())
foreign = compile_for_arm("flowprep.codec.resample") if "arm" in sys.argv else {}
assert not any(foreign.values()), foreign
assert bool(foreign) == ("arm" in sys.argv)
print(digest.hexdigest())
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="names of x86 processors")
def test_other_processors_give_the_same_bytes(tmp_path):
    here = run_python("-c", RESULTS)
    for processor in ("x86-64", "x86-64-v2", "x86-64-v3"):
        assert run_python("-c", RESULTS, **of_processor(processor)) == here
    # Machine code from the cache cannot be compiled for ARM.
    assert run_python("-c", RESULTS, "arm", NUMBA_CACHE_DIR=str(tmp_path)) == here


GUARDED = """
import numpy as np
from flowprep.codec import resample
from tests.support.guarded import guarded
rng = np.random.default_rng(6)

def at(memory, shape, dtype, last):
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    part = memory[len(memory) - size :] if last else memory[:size]
    return part.view(dtype).reshape(shape)

memory = [guarded(1 << 16), guarded(1 << 17)]
for k in range(400):
    shape, size = (tuple(rng.integers(1, 90, 2).tolist()) for _ in range(2))
    window = (*(rng.random(2) * 0.3 * shape), *(rng.uniform(0.1, 0.7, 2) * shape))
    channels = (3,) if k % 3 == 0 else ()
    filters = resample.make_resampling(window, size, shape, bool(k % 2), bool(k % 5))
    images = at(memory[0], (2, *filters.window[2:], *channels), np.uint8, k % 4 < 2)
    images[:] = 200
    out = at(memory[1], (2, *size, *channels), np.uint8, k % 4 < 2)
    resample.resample_images(images, filters, out)
    assert (out == 200).all()
    if not channels:
        flow = at(memory[1], (2, *size), np.float32, k % 4 < 2)
        resample.resample_flow(images, filters, np.float32([1, 2]), np.float32([200, 0]), flow)
        assert abs(flow - np.float32([0, 400])[:, None, None]).max() < 0.001
print("done")
"""


def test_nothing_beside_the_arrays_is_touched():
    """An access beside them ends the process with a signal."""
    assert run_python("-c", GUARDED) == "done\n"
