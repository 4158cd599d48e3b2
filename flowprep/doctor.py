"""What this machine offers for the extraction of flow, and what to install."""

from __future__ import annotations

import dataclasses
import os
import platform
import re
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from flowprep.engines import gpu_fault, resolve
from flowprep.engines.cuda import compiler, driver
from flowprep.errors import EngineError

# The usual codecs of videos, by the names of FFmpeg's decoders.
CODECS = ("h264", "hevc", "mpeg4", "vp9", "av1", "mjpeg", "prores")
CUDA_PACKAGES = ("cuda-bindings", "nvidia-cuda-nvrtc")


@dataclass(frozen=True)
class Processor:
    """The processor.

    Attributes:
        name: its name, if the system knows it.
        llvm_name: its architecture, as LLVM calls it.
        cores: number of cores that this process may use.
        vector_bits: width of its vectors.
    """

    name: str
    llvm_name: str
    cores: int | None
    vector_bits: int


@dataclass(frozen=True)
class GpuSupport:
    """The parts of engine cuda. Each may be missing without the others.

    Attributes:
        names: a description of each GPU.
        driver_cuda: the CUDA version of the driver; None without a driver.
        nvrtc: the version of the compiler; None if it cannot be loaded.
        works: whether a GPU solved a pair.
        packages: for each package the installed version, or None.
        fault: why engine cuda does not work, or "".
    """

    names: list[str]
    driver_cuda: str | None
    nvrtc: str | None
    works: bool
    packages: dict[str, str | None]
    fault: str

    def to_dict(self) -> dict[str, Any]:
        """The values for --json."""
        values = dataclasses.asdict(self)
        packages = values.pop("packages")
        del values["fault"]
        return {**values, **packages}


@dataclass(frozen=True)
class OpenCV:
    """OpenCV: its version, and whether it has the module `optflow`."""

    version: str
    optflow: bool


@dataclass(frozen=True)
class FFmpeg:
    """FFmpeg: the versions of PyAV and FFmpeg, and for each codec whether it can be decoded."""

    pyav: str
    version: str
    decodes: dict[str, bool]


@dataclass(frozen=True)
class MachineReport:
    """The parts of this machine that an extraction uses.

    Attributes:
        flowprep, python: versions.
        processor, gpus, opencv, ffmpeg: the parts.
        engine: the engine that "auto" stands for.
        advice: for each missing part, a line that says what to do.
    """

    flowprep: str
    python: str
    processor: Processor
    gpus: GpuSupport
    opencv: OpenCV
    ffmpeg: FFmpeg
    engine: str
    advice: list[str]

    def to_dict(self) -> dict[str, Any]:
        """The values for --json."""
        return {**dataclasses.asdict(self), "gpus": self.gpus.to_dict()}


def examine() -> MachineReport:
    """Examine every part of this machine that an extraction uses."""
    gpus, opencv, ffmpeg = _gpus(), _opencv(), _ffmpeg()
    return MachineReport(
        version("flowprep"),
        platform.python_version(),
        _processor(),
        gpus,
        opencv,
        ffmpeg,
        resolve("auto"),
        _advice(gpus, opencv, ffmpeg),
    )


def processor_name() -> str:
    """The name of the processor, if the system knows it."""
    with suppress(OSError):
        if match := re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M):
            return match[1]
    return platform.processor() or platform.machine()


def _processor() -> Processor:
    from llvmlite.binding import get_host_cpu_features, get_host_cpu_name

    features = get_host_cpu_features()
    widths = {"avx512f": 512, "avx2": 256, "avx": 256}
    bits = next((bits for name, bits in widths.items() if features.get(name)), 128)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Processor(processor_name(), get_host_cpu_name(), cores, bits)


def _gpus() -> GpuSupport:
    names: list[str] = []
    driver_cuda = nvrtc = None
    try:
        nvrtc = compiler.nvrtc_version()
        driver_cuda = driver.driver_version()
        names += [_describe(gpu) for gpu in driver.gpus()]
        fault = gpu_fault()
    except EngineError as exc:
        fault = str(exc)
    packages = {package: _installed_version(package) for package in CUDA_PACKAGES}
    return GpuSupport(names, driver_cuda, nvrtc, not fault, packages, fault)


def _describe(gpu: driver.Gpu) -> str:
    capability = "{}.{}".format(*gpu.capability)
    return (
        f"{gpu.name}, compute capability {capability}, {gpu.multiprocessors} multiprocessors, "
        f"{gpu.memory_bytes / 2**30:.0f} GiB"
    )


def _installed_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _opencv() -> OpenCV:
    import cv2

    return OpenCV(cv2.__version__, hasattr(cv2, "optflow"))


def _ffmpeg() -> FFmpeg:
    import av

    decodes = {name: name in av.codecs_available for name in CODECS}
    return FFmpeg(av.__version__, av.ffmpeg_version_info, decodes)


def _advice(gpus: GpuSupport, opencv: OpenCV, ffmpeg: FFmpeg) -> list[str]:
    advice = []
    if gpus.fault:
        advice.append(f"{gpus.fault} (without a GPU, engine cpu computes the same flow)")
    if not opencv.optflow:
        advice.append(
            "OpenCV has no optflow module, which engine opencv and bench need: remove the other opencv "
            "packages and run pip install --force-reinstall opencv-contrib-python-headless"
        )
    if missing := [name for name, available in ffmpeg.decodes.items() if not available]:
        advice.append(
            f"this FFmpeg does not decode {', '.join(missing)}: run pip install --force-reinstall "
            "--only-binary av av"
        )
    return advice
