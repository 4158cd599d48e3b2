"""Decoding of stored fields of all kinds, compared with OpenCV, image by image."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest

import flowprep.codec.decode_jpeg  # noqa: F401  # else OpenCV would decode the few fields of these tests
from flowprep import open_corpus
from flowprep.codec.quantise import EncodedField
from flowprep.corpus import fields
from flowprep.corpus.reader import Corpus
from flowprep.corpus.store import CorpusStore
from flowprep.corpus.verify import verify_corpus
from flowprep.errors import CorpusDamaged
from flowprep.settings import Settings
from tests.support.corpora import store_video

SHAPE = (37, 53)
PAIRS = 9


def smooth_flow(seed: int) -> np.ndarray:
    """Flow of PAIRS pairs, part of it still, as real flow is."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 8, (PAIRS * 2, *SHAPE)).astype(np.float32)
    smooth = np.stack([cv2.GaussianBlur(field, (0, 0), 4) for field in noise])
    smooth[:, :16] = 0
    return smooth.reshape(PAIRS, 2, *SHAPE)


def store(root, settings: Settings, cuts: tuple[int, ...] = (4, 7)) -> Corpus:
    frames = np.zeros((PAIRS + 1, *SHAPE, 3), np.uint8)
    return open_corpus(store_video(root, frames, smooth_flow(1), settings, cuts))


def by_opencv(video, backward: bool) -> np.ndarray:
    """The codes of all pairs, decoded one by one from the stored files."""
    streams = ("flow_back_u", "flow_back_v") if backward else ("flow_u", "flow_v")
    files = [[video.stored(stream, pair) for stream in streams] for pair in range(video.num_pairs)]
    buffers = [[np.frombuffer(file, np.uint8) for file in pair] for pair in files]
    return np.array([[cv2.imdecode(b, cv2.IMREAD_GRAYSCALE) for b in pair] for pair in buffers])


@pytest.mark.parametrize("codec", ["jpeg", "png"])
@pytest.mark.parametrize("codes", ["adaptive", "fixed", "tsn"])
def test_codes_of_every_kind_are_those_of_opencv(tmp_path, codes, codec):
    settings = Settings(codes=codes, codec=codec, backward=True, rgb=False)
    video = store(tmp_path / "c", settings)["a/video"]
    rng = np.random.default_rng(2)
    for backward in (False, True):
        expected = by_opencv(video, backward)
        assert len(np.unique(expected)) > 20
        assert np.array_equal(video.codes(0, PAIRS, backward), expected)
        for _ in range(10):
            pairs = rng.integers(PAIRS, size=rng.integers(1, 8))
            top, left = rng.integers(SHAPE)
            height, width = rng.integers(1, (SHAPE[0] - top + 1, SHAPE[1] - left + 1))
            window, mirror = (top, left, height, width), bool(rng.integers(2))
            part = expected[pairs, :, top : top + height, left : left + width]
            part = part[..., ::-1] if mirror else part
            assert np.array_equal(video.codes(pairs, None, backward, window, mirror=mirror), part)
            scale, zero_point, _ = (p[..., None, None] for p in video.quant_params(pairs, None, backward))
            signs = np.float32([-1 if mirror else 1, 1])[:, None, None]
            flow = video.flow(pairs, None, backward, window, mirror=mirror)
            assert np.array_equal(flow, (part - zero_point) * scale * signs)


def test_more_fields_than_the_cache_holds_are_read_in_parts(tmp_path, monkeypatch):
    video = store(tmp_path / "c", Settings(rgb=False))["a/video"]
    pairs, size = [8, 0, 1, 2, 6, 3, 3], (20, 30)
    expected = video.flow(pairs), video.flow(pairs, size=size), video.codes(pairs, size=size)
    for fields_at_once in (1, 3, 4, 100):
        monkeypatch.setattr(fields, "_CACHE_BYTES", fields_at_once * SHAPE[0] * SHAPE[1])
        assert np.array_equal(video.flow(pairs), expected[0])
        assert np.array_equal(video.flow(pairs, size=size), expected[1])
        assert np.array_equal(video.codes(pairs, size=size), expected[2])
        assert not verify_corpus(CorpusStore(tmp_path / "c")).problems


GREY = np.random.default_rng(3).integers(0, 256, SHAPE).astype(np.uint8)


def encoded(suffix: str, image: np.ndarray, *options: int) -> bytes:
    return cv2.imencode(suffix, image, options)[1].tobytes()


FOREIGN = {
    "progressive": encoded(".jpg", GREY, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "restart markers": encoded(".jpg", GREY, cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
    "colour": encoded(".jpg", np.dstack([GREY, GREY[::-1], GREY[:, ::-1]])),
    "colour png": encoded(".png", np.dstack([GREY, GREY[::-1], GREY[:, ::-1]])),
    "16 bit png": encoded(".png", GREY.astype(np.uint16) * 257),
    "webp": encoded(".webp", np.dstack([GREY] * 3)),
}


def store_files(root, files: list[bytes]) -> Corpus:
    """A corpus whose fields are these files in turn, u of pair 0, v of pair 0, u of pair 1, ..."""
    remaining = iter(files)

    def encode(flow, settings):
        u, v = (EncodedField(next(remaining), 0.1, 128, 0, 0) for _ in range(2))
        return u, v

    pairs = len(files) // 2
    frames, flow = np.zeros((pairs + 1, *SHAPE, 3), np.uint8), np.zeros((pairs, 2, *SHAPE), np.float32)
    return open_corpus(store_video(root, frames, flow, Settings(rgb=False), encode=encode))


def test_images_of_other_programs_are_decoded_by_the_library(tmp_path):
    own = encoded(".jpg", GREY)
    video = store_files(tmp_path / "c", [f for foreign in FOREIGN.values() for f in (foreign, own)])[
        "a/video"
    ]
    expected = by_opencv(video, backward=False)
    assert np.array_equal(video.codes(0, video.num_pairs), expected)
    window = (5, 6, 17, 19)
    part = expected[::-1, :, 5:22, 6:25]
    backwards = range(video.num_pairs)[::-1]
    assert np.array_equal(video.codes(backwards, window=window, mirror=True), part[..., ::-1])
    assert np.array_equal(video.flow(backwards, window=window), (part - np.float32(128)) * np.float32(0.1))
    assert not verify_corpus(CorpusStore(tmp_path / "c")).problems


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (b"no image", "8 bytes that are not a complete JPEG or PNG"),
        (b"", "0 bytes that are not a complete JPEG or PNG"),
        (encoded(".jpg", GREY)[:300], "300 bytes that are not a complete JPEG or PNG"),
        (encoded(".jpg", GREY[:10, :12]), "an image of 12x10, not 53x37 pixels"),
    ],
)
def test_a_file_that_is_no_whole_image_is_refused(tmp_path, file, message):
    own = encoded(".jpg", GREY)
    video = store_files(tmp_path / "c", [own, own, own, file, own, own])["a/video"]
    for options in ({}, {"window": (1, 2, 3, 4)}, {"size": (5, 6)}):
        for read in (video.codes, video.flow):
            assert len(read([0, 2], **options)) == 2
            with pytest.raises(CorpusDamaged, match=message):
                read(0, 3, **options)
    (problem,) = verify_corpus(CorpusStore(tmp_path / "c")).problems
    assert (problem.image, problem.what) == (4, f"flow_v: {message}")


def test_a_changed_byte_is_found_in_every_way_of_reading(tmp_path):
    corpus = store(tmp_path / "c", Settings())
    shard = corpus.shard("0000")
    row = int(shard.videos[0]["flow_v_first"]) + 2
    content = bytearray(shard.path.read_bytes())
    content[content.find(shard.image(row)) + 20] ^= 1
    shard.path.write_bytes(content)
    video = open_corpus(corpus.path)["a/video"]
    message = rf"^a/video: 0000\.h5: image {row} does not match its checksum$"
    for options in ({}, {"window": (1, 2, 3, 4)}, {"size": (5, 6)}):
        for read in (video.codes, video.flow):
            assert len(read([0, 1, 3, 8], **options)) == 4
            for pairs in ([2], [8, 0, 2], range(9)):
                with pytest.raises(CorpusDamaged, match=message):
                    read(pairs, **options)
    with pytest.raises(CorpusDamaged, match=message):
        video.stored("flow_v", 2)
    with pytest.raises(CorpusDamaged, match=message):
        list(video.fields(0, 9))


def test_tables_that_end_early_are_named(tmp_path):
    """An index that does not fit its shards leads to rows that do not exist."""
    corpus = store(tmp_path / "c", Settings())
    video, shard = corpus["a/video"], corpus.shard("0000")
    last = int(shard.videos[0]["flow_v_first"]) + 3
    shard.images = shard.images[:last]
    assert len(video.codes(0, 3)) == 3
    for options in ({}, {"size": (5, 6)}):
        with pytest.raises(CorpusDamaged, match=rf"^a/video: 0000\.h5: it has no image {last}$"):
            video.codes(0, 4, **options)
    shard.pairs = shard.pairs[:3]
    with pytest.raises(CorpusDamaged, match=r"^a/video: 0000\.h5: its tables end before its last pair$"):
        video.flow(0, 1)
    assert len(video.flow([4, 8])) == 2  # of other segments


def test_few_fields_need_no_compiled_code(tmp_path):
    """Loading it takes a second, and compiling it, on a new machine, half a minute."""
    store(tmp_path / "c", Settings(rgb=False))
    program = f"""
import sys
import numpy as np
import flowprep
video = flowprep.open_corpus({str(tmp_path / "c")!r})["a/video"]
def read():
    part = video.flow(1, 3, window=(1, 2, 9, 7), mirror=True)
    return video.codes(0, {PAIRS}), video.flow(0, {PAIRS}), part
first = read()
assert "numba" not in sys.modules
for _ in range(40):
    later = read()
assert "numba" in sys.modules
assert all(np.array_equal(a, b) for a, b in zip(first, later, strict=True))
"""
    subprocess.run([sys.executable, "-c", program], check=True)
