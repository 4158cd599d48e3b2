"""The report on a machine, for machines that lack parts."""

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


def test_it_reports_every_part_and_exits_0(cli: Callable[..., Result]) -> None:
    result = cli("doctor", "--json")
    values = json.loads(result.stdout)
    assert result.exit_code == 0
    assert values["flowprep"] == version("flowprep") and values["opencv"]["version"] == cv2.__version__
    assert values["processor"]["cores"] >= 1 and values["processor"]["vector_bits"] in (128, 256, 512)
    assert values["ffmpeg"]["decodes"]["h264"] is True
    assert values["engine"] == ("cuda" if values["gpus"]["works"] else "cpu")
    assert list(values) == [
        *("flowprep", "python", "processor", "gpus", "opencv", "ffmpeg", "engine", "advice")
    ]
    gpu_keys = ["names", "driver_cuda", "nvrtc", "works", "cuda-bindings", "nvidia-cuda-nvrtc"]
    assert list(values["gpus"]) == gpu_keys
    text = cli("doctor").stdout
    assert f"pyav: {av.__version__}" in text and "engine: " in text


@pytest.mark.parametrize(
    "fault", ["no NVIDIA driver was found; install it", "packages are not installed; pip"]
)
def test_a_missing_part_of_engine_cuda_is_advice(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Any:
        raise EngineError(fault)

    monkeypatch.setattr(doctor.compiler, "nvrtc_version", lambda: "13.5")
    monkeypatch.setattr(doctor.driver, "driver_version", fail)
    report = doctor.examine()
    assert report.gpus.works is False and report.gpus.nvrtc == "13.5"
    assert any(line.startswith(fault) and "engine cpu" in line for line in report.advice)


def test_a_working_gpu_is_no_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = doctor.driver.Gpu(0, "Some GPU", (9, 0), 132, 1.98e9, 141 << 30)
    monkeypatch.setattr(doctor.compiler, "nvrtc_version", lambda: "13.5")
    monkeypatch.setattr(doctor.driver, "driver_version", lambda: "13.0")
    monkeypatch.setattr(doctor.driver, "gpus", lambda: [gpu])
    monkeypatch.setattr(doctor, "gpu_fault", lambda: "")
    report = doctor.examine()
    assert report.gpus.works is True and report.advice == []
    assert report.gpus.names == ["Some GPU, compute capability 9.0, 132 multiprocessors, 141 GiB"]


def test_missing_parts_of_opencv_and_ffmpeg_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cv2, "optflow")
    monkeypatch.setattr(doctor, "CODECS", ("h264", "no_such_codec"))
    report = doctor.examine()
    assert report.opencv.optflow is False and report.ffmpeg.decodes["no_such_codec"] is False
    assert any("pip install --force-reinstall opencv-contrib" in line for line in report.advice)
    assert any("does not decode no_such_codec" in line for line in report.advice)
