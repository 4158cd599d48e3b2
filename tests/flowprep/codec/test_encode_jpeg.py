"""The JPEG writer, compared with other decoders and with plain arithmetic."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from flowprep.codec import encode_jpeg
from flowprep.codec.coefficients import ZIGZAG, quantise_blocks
from flowprep.codec.huffman import huffman_code

ONES = np.ones((8, 8), np.int64)


def decode(file: bytes) -> np.ndarray:
    """The pixels by Pillow. OpenCV must agree."""
    image = np.asarray(Image.open(io.BytesIO(file)))
    assert np.array_equal(image, cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED))
    return image


@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (9, 17), (64, 48), (5, 300)])
@pytest.mark.parametrize("level", [0, 100, 128, 255])
def test_in_steps_of_1_a_file_holds_the_values(shape, level):
    values = np.random.default_rng(1).uniform(0, 255, shape).astype(np.float32) - level
    # Coefficients and pixels are rounded: noise of variance 2/12, which does not reach 2 in so few pixels.
    assert np.abs(decode(encode_jpeg.encode(values, level, ONES, 0.0)) - (values + level)).max() < 2


def test_coefficients_are_those_of_the_transform_in_zigzag_order():
    values = np.random.default_rng(2).uniform(-100, 100, (8, 8)).astype(np.float32)
    table = np.arange(1, 65).reshape(8, 8)
    steps = table.ravel()[ZIGZAG]
    levels, _, _ = quantise_blocks(values, 128, steps, np.float32(0))
    back = np.zeros(64, np.float32)
    back[ZIGZAG] = levels[0] * steps
    want = cv2.dct(values)
    assert np.all(np.abs(back.reshape(8, 8) - want) <= table * 0.501)  # half a step each
    # the start of T.81 figure A.6, enough to tell the direction
    assert ZIGZAG[:10].tolist() == [0, 1, 8, 16, 9, 2, 3, 10, 17, 24]
    assert (
        Image.open(io.BytesIO(encode_jpeg.encode(values, 128, table, 0.0))).quantization[0]
        == table.ravel().tolist()
    )


def test_long_runs_of_zeros_and_the_last_coefficient():
    coefficients = np.zeros((8, 8), np.float32)
    coefficients[7, 7], coefficients[0, 7] = 300, -200  # 35 zeros lie between them in zigzag order
    values = cv2.idct(coefficients)
    assert np.abs(decode(encode_jpeg.encode(values, 128, ONES, 0.0)) - (values + 128)).max() < 1.5


def test_a_higher_lambda_saves_bytes_and_costs_error():
    values = cv2.GaussianBlur(np.random.default_rng(3).normal(0, 400, (128, 128)), (0, 0), 3).astype(
        np.float32
    )
    files = [encode_jpeg.encode(values, 128, 8 * ONES, lambda_) for lambda_ in (0.0, 4.0, 16.0)]
    errors = [np.abs(decode(f) - 128.0 - values).mean() for f in files]
    sizes = [len(f) for f in files]
    assert sizes[0] > sizes[1] > sizes[2] and errors[0] < errors[1] < errors[2]
    # It must be better than coarser steps, the only means of a quantisation table.
    coarser = [encode_jpeg.encode(values, 128, s * ONES, 0.0) for s in range(8, 30)]
    plain = min(len(f) for f in coarser if np.abs(decode(f) - 128.0 - values).mean() <= errors[1])
    assert sizes[1] < 0.97 * plain


def test_a_huffman_code_is_optimal_and_of_16_bits_at_most():
    counts = np.zeros(256, np.int64)
    counts[[3, 7, 9, 200]] = 8, 4, 2, 1
    lengths, symbols, codes, bits = huffman_code(counts)
    assert bits[[3, 7, 9, 200]].tolist() == [1, 2, 3, 4]  # 15/16: the code of ones alone is free
    assert symbols.tolist() == [3, 7, 9, 200] and lengths[:4].tolist() == [1, 1, 1, 1]
    assert codes[[3, 7, 9, 200]].tolist() == [0b0, 0b10, 0b110, 0b1110]

    fibonacci = [1, 1]
    while len(fibonacci) < 40:
        fibonacci.append(fibonacci[-1] + fibonacci[-2])
    counts[:40] = fibonacci
    lengths, symbols, codes, bits = huffman_code(counts)
    used = np.nonzero(counts)[0]
    assert sorted(symbols) == used.tolist() and bits[used].max() == 16 and bits[used].min() >= 1
    assert (2.0 ** -bits[used]).sum() < 1  # less than 1, for the free code
    share = counts[used] / counts.sum()
    # Codes of 1, 2, 3, ... bits for shares of .618^2, .618^3, ...: 1 / .618^2 bits on average.
    assert share @ bits[used] == pytest.approx(2.618, abs=1e-3)


def test_a_file_of_one_symbol():
    assert np.all(decode(encode_jpeg.encode(np.zeros((40, 56), np.float32), 128, ONES, 1.0)) == 128)
