"""Export to .npy and .flo files."""

from __future__ import annotations

import numpy as np

from flowprep.convert.export import export
from flowprep.flo import read_flo


def test_arrays_are_in_pixels(corpus, tmp_path):
    video = corpus["left/long.mp4"]
    export(corpus, tmp_path / "n", "npy")
    flow = np.load(tmp_path / "n" / "left" / "long" / "flow.npy")
    assert np.array_equal(flow, video.flow(0, 25)) and flow.dtype == np.float32
    assert np.array_equal(np.load(tmp_path / "n" / "left" / "long" / "rgb.npy")[25], video.rgb(25))
    export(corpus, tmp_path / "f", "flo")
    assert np.array_equal(read_flo(tmp_path / "f" / "left" / "long" / "frame_0025.flo"), flow[24])
    assert (tmp_path / "f" / "left" / "long" / "frame_0026.jpg").read_bytes() == video.stored("rgb", 25)
