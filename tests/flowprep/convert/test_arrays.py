"""Export to .npy and .flo files."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest

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


def test_an_array_has_the_bytes_that_numpy_writes(corpus, tmp_path):
    export(corpus, tmp_path / "n", "npy")
    video = corpus["left/long.mp4"]
    rgb = np.stack([video.rgb(i) for i in range(26)])
    for name, array in (("flow", video.flow(0, 25)), ("rgb", rgb)):
        np.save(tmp_path / "expected.npy", array)
        found = (tmp_path / "n" / "left" / "long" / f"{name}.npy").read_bytes()
        assert found == (tmp_path / "expected.npy").read_bytes()


LIMITED = """
import resource, sys
from flowprep.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
main(sys.argv[2:])
"""


@pytest.mark.parametrize(
    ("layout", "limit"), [("npy", 20_000), ("flo", 1500), ("tsn", 500), ("webdataset", 20_000)]
)
def test_an_export_without_room_ends_in_words(corpus, tmp_path, layout, limit):
    """`npy` died by SIGBUS: it wrote through a map of the file."""
    command = [limit, "export", corpus.path, "--out", tmp_path / "x", "--layout", layout]
    run = subprocess.run(
        [sys.executable, "-c", LIMITED, *map(str, command)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 1 and "Traceback" not in run.stderr
    assert run.stderr.startswith(f"error: {tmp_path / 'x'}/")
    assert re.search(
        rf"File too large: .*\d+ bytes are needed, and this process may write {limit}", run.stderr
    )
    assert [p.name for p in (tmp_path / "x").iterdir()] == ["export.json"]
