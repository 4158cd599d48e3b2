"""Quantisation: each rounding rule and each zero point has a test with its name."""

from __future__ import annotations

import io

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from flowprep import decode, encode
from flowprep.codec import images, quantise
from flowprep.codec.clipping import clipping_warning, count_clipped
from flowprep.errors import CorpusDamaged, EngineError, SettingsError, UsageError
from flowprep.settings import Settings


def smooth_flow(seed: int = 0, amplitude: float = 3.0, pairs: int = 1) -> np.ndarray:
    """Flow similar to real flow: smooth, with a still part and an edge."""
    rng = np.random.default_rng(seed)
    flow = np.stack([cv2.GaussianBlur(rng.normal(size=(96, 128)), (0, 0), 8) for _ in range(2 * pairs)])
    flow *= amplitude / np.abs(flow).max()
    flow[:, :, :48] = 0
    return flow.reshape(pairs, 2, 96, 128).astype(np.float32)


def codes_of(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg)))


@pytest.mark.parametrize("codes", ["adaptive", "fixed"])
def test_no_motion_is_code_128_and_decodes_to_exactly_zero(codes):
    encoded = encode(np.zeros((2, 40, 56), np.float32), codes)
    assert all(np.all(codes_of(j) == 128) for j in encoded.jpegs)
    assert np.all(decode(encoded) == 0)


def test_tsn_no_motion_is_code_128_which_decodes_to_half_a_level():
    encoded = encode(np.zeros((2, 40, 56), np.float32), "tsn")
    assert all(np.all(codes_of(j) == 128) for j in encoded.jpegs)  # 127.5 rounds to even
    assert decode(encoded) == pytest.approx(20 / 255, rel=1e-6)  # +0.078 px


@pytest.mark.parametrize("bound", [15.0, 20.0])
def test_tsn_codes_are_those_of_the_old_formula(bound):
    values = np.linspace(-bound * 1.2, bound * 1.2, 64 * 64).astype(np.float32)
    field = np.repeat(np.repeat(values[::64].reshape(8, 8), 8, 0), 8, 1)  # flat blocks survive the JPEG
    encoded = encode(np.stack([field, field]), "tsn", range=bound, quality=100)
    want = np.rint(255 * (np.clip(field, -bound, bound) + bound) / (2 * bound))
    assert np.abs(codes_of(encoded.jpegs[0]) - want).max() <= 1  # JPEG at quality 100
    assert encoded.fields[0].clipped == pytest.approx(np.mean(np.abs(field) > bound))


def test_fixed_codes_have_127_levels_on_either_side():
    for value, code in [(20, 255), (-20, 1), (99, 255), (-99, 1), (20 / 127, 129), (-0.07, 128)]:
        encoded = encode(np.full((2, 16, 16), value, np.float32), "fixed")
        assert np.all(codes_of(encoded.jpegs[1]) == code), value


@pytest.mark.parametrize("stored", ["jpeg", "png"])
@pytest.mark.parametrize(("low", "high"), [(-35, 35), (-70, 5), (0.5, 90), (-90, -0.5), (-0.3, 0.2), (0, 0)])
def test_adaptive_ranges_span_each_field_and_zero_and_clip_nothing(low, high, stored):
    flow = np.stack([np.tile(np.linspace(low, high, 64, dtype=np.float32), (48, 1))] * 2)
    encoded = encode(flow, codec=stored)
    wide = max(high, 0) - min(low, 0)
    for (lowest, highest), field in zip(encoded.ranges, encoded.fields, strict=True):
        assert lowest <= min(low, 0) + 1e-4 and highest >= max(high, 0) - 1e-4  # single precision
        assert field.scale <= max(1.01 * wide / 255, 0.0501)  # .4 px / 8
        assert field.zero_point == int(field.zero_point) and field.clipped == 0
    # A code is `scale` pixels wide. JPEG adds a part of its step of .4 px.
    error = np.abs(decode(encoded) - flow).max()
    assert error <= encoded.fields[0].scale / 2 * 1.001 + (0.4 if stored == "jpeg" else 0)


def test_still_blocks_decode_to_exactly_zero_for_any_zero_point():
    rng = np.random.default_rng(0)
    zeros = set()
    for low, high in ((-0.3, 0.1), (-2, 5), (-20, 2), (-5, 30), (-55, 50), (-80, 1), (0, 90), (-90, 0)):
        for error_px in (0.05, 0.1, 0.4, 1.5, 10.0):
            flow = np.zeros((2, 64, 64), np.float32)
            flow[:, 32:] = rng.uniform(low, high, (2, 32, 64))
            flow[:, :24] = 0.04  # not 0, but in the dead zone
            encoded = encode(flow, error_px=error_px)
            zeros |= {f.zero_point for f in encoded.fields}
            assert np.all(decode(encoded)[:, :32] == 0), (low, high, error_px)
    assert len(zeros) > 5  # 128 alone would prove little


def test_motion_of_one_component_keeps_a_small_other_one():
    """The dead zone is of the displacement of a pixel, and not of each component."""
    flow = np.stack([np.full((32, 32), 5.0), np.full((32, 32), 0.06)]).astype(np.float32)
    assert decode(encode(flow, error_px=0.1))[1].mean() == pytest.approx(0.06, abs=0.025)  # a code


def test_a_range_that_clips_over_a_hundredth_gives_a_warning_with_a_better_range():
    flow = np.zeros((1, 2, 100, 100), np.float32)
    flow[0, 0].flat[:190] = -7.3
    settings = Settings(codes="fixed", range=5)
    counts = count_clipped(flow, settings)
    assert counts.sum() == 190 and clipping_warning(counts, flow.size, settings) == ""  # .95%
    flow[0, 1].flat[:190] = 33.0
    flow[0, 1].flat[:15] = 4000.0  # fewer than a thousandth: the range need not hold them
    counts = count_clipped(flow, settings)
    warning = clipping_warning(counts, flow.size, settings)
    assert warning.startswith(
        "1.9% of its displacements are clipped to +-5 px; range 33 would clip at most 0.1%"
    )
    right = Settings(codes="fixed", range=33)
    assert count_clipped(flow, right).sum() == 15
    assert count_clipped(flow, Settings()).sum() == 0  # adaptive codes clip nothing


@pytest.mark.parametrize("codes", ["adaptive", "fixed", "tsn"])
def test_png_keeps_every_code(codes):
    flow = smooth_flow(amplitude=3.0)[0]
    encoded = encode(flow, codes, codec="png")
    for image, field, values in zip(encoded.jpegs, encoded.fields, flow, strict=True):
        assert image.startswith(b"\x89PNG")
        assert np.array_equal(codes_of(image), np.rint(values / np.float32(field.scale) + field.zero_point))
    error = np.abs(decode(encoded) - flow).max()
    assert error <= max(f.scale for f in encoded.fields) / 2 * 1.001  # half a level, in single precision


@pytest.mark.parametrize("amplitude", [0.3, 3.0, 30.0, 300.0])
def test_the_adaptive_error_in_pixels_does_not_depend_on_the_range(amplitude):
    flow = smooth_flow(amplitude=amplitude)
    error = np.hypot(*np.moveaxis(decode(encode(flow)) - flow, 1, 0))
    # An eighth of error_px = .4 by the table, and half a level of 1/127 of the range by rounding.
    assert error.mean() < 0.06 + 0.5 * amplitude / 127
    assert error.mean() < 0.4 * np.hypot(*np.moveaxis(flow, 1, 0)).mean()  # not all of the flow is lost
    exact = np.all(decode(encode(flow))[:, :, :, :32] == 0)
    assert exact, "still areas away from the moving ones stay exactly still"


def test_smaller_error_px_costs_bytes_and_gives_precision():
    flow = smooth_flow()
    sizes, errors = zip(
        *(
            (e.nbytes, np.abs(decode(e) - flow).mean())
            for e in (encode(flow, error_px=d) for d in (0.1, 0.4, 1.6))
        ),
        strict=True,
    )
    assert sizes[0] > sizes[1] > sizes[2]
    assert errors[0] < errors[1] < errors[2]


@pytest.mark.parametrize("codes", ["adaptive", "fixed", "tsn"])
def test_any_jpeg_decoder_reads_the_same_codes(codes):
    encoded = encode(smooth_flow(), codes)
    for field in encoded.fields:
        assert Image.open(io.BytesIO(field.jpeg)).mode == "L"
        assert np.array_equal(codes_of(field.jpeg), images.decode_codes(field.jpeg, (96, 128)))
        with av.open(
            io.BytesIO(field.jpeg), format="mjpeg"
        ) as container:  # FFmpeg has a transform of its own
            theirs = next(container.decode(video=0)).to_ndarray(format="gray8").astype(int)
        assert np.abs(theirs - codes_of(field.jpeg)).max() <= 1


def test_the_scale_has_a_lower_bound():
    flow = np.zeros((2, 16, 16), np.float32)
    encoded = encode(flow, error_px=1e-50)
    assert encoded.fields[0].scale == np.float32(quantise.LEAST_SCALE) and not decode(encoded).any()


def test_shapes_and_order_of_fields():
    flow = smooth_flow(pairs=3)
    encoded = encode(flow)
    assert decode(encoded).shape == flow.shape == (3, 2, 96, 128)
    assert decode(encoded).dtype == np.float32
    assert len(encoded.jpegs) == 6 and encoded.ranges.shape == (6, 2)
    assert np.array_equal(decode(encode(flow[1, :])), decode(encoded)[1])  # u and v of pair 0, of pair 1, ...
    assert encoded.nbytes == sum(map(len, encoded.jpegs)) + 6 * 8
    assert decode(encode(np.zeros((0, 2, 8, 8), np.float32))).shape == (0, 2, 8, 8)


def test_means_are_those_before_quantisation():
    flow = smooth_flow()[0] + np.float32(0.01)
    assert [f.mean for f in encode(flow).fields] == pytest.approx(flow.mean(axis=(1, 2)).tolist(), rel=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("codes", ["adaptive", "fixed", "tsn"])
def test_values_that_are_not_finite_are_refused(value, codes):
    flow = smooth_flow()[0]
    flow[1, 5, 60] = value
    with pytest.raises(UsageError, match="not finite"):
        encode(flow, codes)
    with pytest.raises(EngineError, match="not finite"):  # the case of an engine's result
        quantise.encode_field(flow[1], Settings(codes=codes))


def test_wrong_arguments_are_refused():
    with pytest.raises(UsageError, match=r"shape \(3, 8, 8\)"):
        encode(np.zeros((3, 8, 8)))
    with pytest.raises(SettingsError, match="allowed: adaptive"):
        encode(np.zeros((2, 8, 8)), "tns")
    for wrong in ({"quality": 95.5}, {"quality": True}, {"range": "20"}):
        with pytest.raises(SettingsError, match="a value of type"):
            encode(np.zeros((2, 8, 8)), "fixed", **wrong)
    assert Settings(range=20) == Settings(range=20.0) and Settings(range=20).digest() == Settings().digest()
    with pytest.raises(UsageError, match="sides up to 65500"):
        encode(np.zeros((2, 1, 70_000)))
    with pytest.raises(SettingsError, match="range is 0"):
        encode(np.zeros((2, 8, 8)), "fixed", range=0)


def test_bytes_that_are_no_whole_jpeg_are_detected():
    jpeg = encode(smooth_flow()).jpegs[0]
    for spoiled in (b"", jpeg[:20], b"\0" * 500):
        with pytest.raises(CorpusDamaged):
            images.decode_codes(spoiled, (96, 128))
    with pytest.raises(CorpusDamaged, match="an image of 128x96, not 96x128 pixels"):
        images.decode_codes(jpeg, (128, 96))


def test_frames_keep_their_colours():
    rgb = np.zeros((32, 32, 3), np.uint8)
    rgb[..., 0], rgb[..., 2] = 200, 40
    back = images.decode_rgb(images.encode_rgb(rgb, Settings().quality), (32, 32))
    assert np.abs(back.astype(int) - rgb).max() <= 3


def test_the_old_name_of_the_zero_point_warns():
    field = quantise.EncodedField(b"", 1.0, 128.0, 0.0, 0.0)
    with pytest.warns(DeprecationWarning, match="use zero_point"):
        assert field.zero == 128.0
