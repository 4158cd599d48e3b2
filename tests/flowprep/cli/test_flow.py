"""The command flow."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from flowprep.flo import read_flo
from tests.support.videos import write_frames


def test_flow_of_one_pair(cli, tmp_path):
    folder = write_frames(tmp_path / "frames", 2)
    images = sorted(folder.iterdir())
    result = json.loads(cli("flow", *images, "-o", tmp_path / "a.flo", "--json").stdout)
    flow = read_flo(tmp_path / "a.flo")
    assert (result["width"], result["height"]) == (48, 32) and flow.shape == (2, 32, 48)
    assert result["largest_px"] == pytest.approx(np.hypot(*flow).max(), abs=1e-5)
    assert flow[0].mean() == pytest.approx(1, abs=0.2) and abs(flow[1].mean()) < 0.2
    fast = cli("flow", *images, "-o", tmp_path / "b.flo", "--preset", "fast", "--engine", "reference")
    assert fast.exit_code == 0 and "displacements up to" in fast.stdout
    assert (tmp_path / "a.flo").read_bytes() != (tmp_path / "b.flo").read_bytes()
    assert cli("flow", *images, "-o", tmp_path / "a.png").exit_code == 0
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (48, 32)
    assert cli("flow", *images, "-o", tmp_path / "a.jpg").exit_code == 2
    (tmp_path / "text.png").write_text("no image")
    assert cli("flow", images[0], tmp_path / "text.png", "-o", tmp_path / "c.flo").exit_code == 1
