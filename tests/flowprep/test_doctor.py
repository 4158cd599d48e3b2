"""What a machine has, said of machines that lack things."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import av
import cv2
import pytest
from click.testing import Result

from flowprep import doctor
from flowprep.errors import EngineError


def test_it_says_what_is_there_and_exits_0(cli: Callable[..., Result]) -> None:
    result = cli("doctor", "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 0
    assert found["flowprep"] == version("flowprep") and found["opencv"]["version"] == cv2.__version__
    assert found["processor"]["cores"] >= 1 and found["processor"]["vector_bits"] in (128, 256, 512)
    assert found["ffmpeg"]["decodes"]["h264"] is True
    assert found["engine"] == ("cuda" if found["gpus"]["works"] else "cpu")
    text = cli("doctor").stdout
    assert f"pyav: {av.__version__}" in text and "engine: " in text


@pytest.mark.parametrize(
    "fault", ["no NVIDIA driver was found; install it", "packages are not installed; pip"]
)
def test_what_is_missing_for_a_gpu_is_advice(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Any:
        raise EngineError(fault)

    monkeypatch.setattr(doctor.compiler, "nvrtc_version", lambda: "13.5")
    monkeypatch.setattr(doctor.driver, "driver_version", fail)
    found = doctor.examine()
    assert found["gpus"]["works"] is False and found["gpus"]["nvrtc"] == "13.5"
    assert any(line.startswith(fault) and "engine cpu" in line for line in found["advice"])


def test_what_works_is_no_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = doctor.driver.Gpu(0, "Some GPU", (9, 0), 132, 1.98e9, 141 << 30)
    monkeypatch.setattr(doctor.compiler, "nvrtc_version", lambda: "13.5")
    monkeypatch.setattr(doctor.driver, "driver_version", lambda: "13.0")
    monkeypatch.setattr(doctor.driver, "gpus", lambda: [gpu])
    monkeypatch.setattr(doctor, "gpu_fault", lambda: "")
    found = doctor.examine()
    assert found["gpus"]["works"] is True and found["advice"] == []
    assert found["gpus"]["names"] == ["Some GPU, compute capability 9.0, 132 multiprocessors, 141 GiB"]


def test_an_opencv_or_an_ffmpeg_that_lacks_parts_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cv2, "optflow")
    monkeypatch.setattr(doctor, "CODECS", ("h264", "no_such_codec"))
    found = doctor.examine()
    assert found["opencv"]["optflow"] is False and found["ffmpeg"]["decodes"]["no_such_codec"] is False
    assert any("pip install --force-reinstall opencv-contrib" in line for line in found["advice"])
    assert any("does not decode no_such_codec" in line for line in found["advice"])
