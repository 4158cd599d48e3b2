"""The decoder on flow of real clips, and on pictures of other tools."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from flowprep.codec.decode_jpeg import DECODED
from flowprep.codec.quantise import encode_pair
from flowprep.presets import PRESETS
from flowprep.settings import Settings
from flowprep.video.decode import read_frames
from tests.support.cached import cached_flow
from tests.support.decoder_checks import check_decoded, check_fields

STEPS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5, 2.0, 4.0)
QUALITIES = (5, 30, 60, 75, 85, 90, 95, 98, 100)
SETTINGS = [
    *(Settings(codes="adaptive", error_px=step) for step in STEPS),
    *(Settings(codes="fixed", quality=quality) for quality in QUALITIES),
    *(Settings(codes="tsn", quality=quality, range=8.0) for quality in QUALITIES),
]
PAIRS_PER_CLIP = 14


@pytest.mark.slow
def test_10_000_encodings_of_real_fields(shared_data: Path) -> None:
    """Flow of 13 clips, with the quantisers at many steps and qualities; whole and in windows."""
    rng = np.random.default_rng(0)
    decoded = 0
    for clip in sorted((shared_data / "ucf101").glob("*/*.avi"))[::6]:
        frames = [frame.rgb for _, frame in read_frames(clip, "short:256")]
        grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames[: 5 * PAIRS_PER_CLIP]]
        for pair in list(pairwise(grey))[::5]:
            flow = cached_flow("cpu", PRESETS["fast"], np.stack(pair))
            files = [field.jpeg for settings in SETTINGS for field in encode_pair(flow, settings)]
            height, width = flow.shape[1:]
            top, left = int(rng.integers(height - 223)), int(rng.integers(width - 223))
            check_decoded(files, (height, width))
            check_decoded(files, (height, width), window=(top, left, 224, 224), mirror=True)
            decoded += len(files)
    assert decoded >= 10_000


def test_pictures_of_another_tool(shared_data: Path) -> None:
    by_shape = defaultdict(list)
    for path in sorted((shared_data / "peer_flow_jpegs").rglob("*.jpg")):
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        by_shape[grey.shape].append(path.read_bytes())
    assert by_shape
    for shape, files in by_shape.items():
        statuses = check_fields(files, shape)
        colour = [cv2.imdecode(np.frombuffer(f, np.uint8), cv2.IMREAD_UNCHANGED).ndim == 3 for f in files]
        assert all(status == DECODED for status, c in zip(statuses, colour, strict=True) if not c)
