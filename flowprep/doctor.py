"""What this machine has for extracting flow, and what to install for what it lacks."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from flowprep.engines import gpu_fault, resolve
from flowprep.engines.cuda import compiler, driver
from flowprep.errors import EngineError

# What videos are mostly coded in, by the names of FFmpeg's decoders.
CODECS = ("h264", "hevc", "mpeg4", "vp9", "av1", "mjpeg", "prores")


def examine() -> dict[str, Any]:
    """Look at everything that an extraction uses.

    Returns:
        `flowprep`, `python`, `processor`, `gpus`, `opencv`, `ffmpeg`: names, versions and numbers; `engine`:
        what "auto" stands for here; and `advice`: lines that say what is missing and what to do about it.
    """
    advice: list[str] = []
    found = {
        "flowprep": version("flowprep"),
        "python": platform.python_version(),
        "processor": {"name": processor_name(), **_vectors()},
        "gpus": _gpus(advice.append),
        "opencv": _opencv(advice.append),
        "ffmpeg": _ffmpeg(advice.append),
    }
    return {**found, "engine": resolve("auto"), "advice": advice}


def processor_name() -> str:
    """The processor's name, where the system tells."""
    with suppress(OSError):
        if match := re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M):
            return match[1]
    return platform.processor() or platform.machine()


def _vectors() -> dict[str, Any]:
    from llvmlite.binding import get_host_cpu_features, get_host_cpu_name

    features = get_host_cpu_features()
    widths = {"avx512f": 512, "avx2": 256, "avx": 256}
    bits = next((bits for name, bits in widths.items() if features.get(name)), 128)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"llvm_name": get_host_cpu_name(), "cores": cores, "vector_bits": bits}


def _gpus(advise: Callable[[str], object]) -> dict[str, Any]:
    """Every part of engine cuda on its own: each may be missing without the others."""
    found: dict[str, Any] = {"names": [], "driver_cuda": None, "nvrtc": None, "works": False}
    for package in ("cuda-bindings", "nvidia-cuda-nvrtc"):
        found[package] = None
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    try:
        found["nvrtc"] = compiler.nvrtc_version()
        found["driver_cuda"] = driver.driver_version()
        for gpu in driver.gpus():
            capability = "{}.{}".format(*gpu.capability)
            found["names"].append(
                f"{gpu.name}, compute capability {capability}, {gpu.multiprocessors} multiprocessors, "
                f"{gpu.memory_bytes / 2**30:.0f} GiB"
            )
        fault = gpu_fault()
    except EngineError as exc:
        fault = str(exc)
    found["works"] = not fault
    if fault:
        advise(f"{fault} (without a GPU, engine cpu does the same)")
    return found


def _opencv(advise: Callable[[str], object]) -> dict[str, Any]:
    import cv2

    if not hasattr(cv2, "optflow"):
        advise(
            "OpenCV has no optflow module, which engine opencv and bench need: remove the other opencv "
            "packages and run pip install --force-reinstall opencv-contrib-python-headless"
        )
    return {"version": cv2.__version__, "optflow": hasattr(cv2, "optflow")}


def _ffmpeg(advise: Callable[[str], object]) -> dict[str, Any]:
    import av

    codecs = {name: name in av.codecs_available for name in CODECS}
    if missing := [name for name, there in codecs.items() if not there]:
        advise(
            f"this FFmpeg does not decode {', '.join(missing)}: pip install --force-reinstall --only-binary "
            "av av, whose FFmpeg does"
        )
    return {"pyav": av.__version__, "version": av.ffmpeg_version_info, "decodes": codecs}
