"""NVRTC, the compiler of CUDA C++: machine code for the GPU that is there, kept on disk."""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from flowprep.errors import EngineError
from flowprep.system.cache import cache_folder

INSTALL = "pip install 'flowprep[cuda]'"

# Approximate square roots and quotients, multiplications fused with additions, and no denormals: rounding is
# no part of the algorithm (the flow differs from the cpu engine's in the 6th digit).
OPTIONS = ("--std=c++17", "--use_fast_math")


def compile_source(source: str, arch: str) -> bytes:
    """Machine code (a cubin) of a source, from the cache folder if it is there.

    Args:
        source: CUDA C++.
        arch: such as "sm_90".

    Raises:
        EngineError: the compiler is not installed, or found a fault.
    """
    folder = cache_folder("flowprep-cuda", os.environ.get("FLOWPREP_CACHE_DIR"))
    key = hashlib.sha256(repr((source, arch, OPTIONS, nvrtc_version())).encode()).hexdigest()
    if folder is None:
        return _compile(source, arch)[0]
    path = folder / f"{key[:32]}.cubin"
    with suppress(OSError):
        return path.read_bytes()
    code, _ = _compile(source, arch)
    with suppress(OSError):  # another process may have been faster, the disk may be full: it works without
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            file.write(code)
        Path(file.name).replace(path)
    return code


def resource_report(source: str, arch: str) -> str:
    """What the assembler says of registers, shared memory and spills of each kernel."""
    return _compile(source, arch, "--ptxas-options=-v")[1]


def nvrtc_version() -> str:
    """Such as "13.5". Raises EngineError if NVRTC cannot be loaded."""
    nvrtc = _nvrtc()
    error, major, minor = nvrtc.nvrtcVersion()
    if error:
        raise EngineError(f"engine cuda: NVRTC: {error.name}")
    return f"{major}.{minor}"


def _nvrtc() -> Any:
    try:
        from cuda.bindings import nvrtc

        nvrtc.nvrtcVersion()
    except ImportError as exc:
        raise EngineError(f"engine cuda needs packages that are not installed ({exc}); {INSTALL}") from exc
    except RuntimeError as exc:  # the library was not found
        raise EngineError(f"engine cuda: NVRTC cannot be loaded ({exc}); {INSTALL}") from exc
    return nvrtc


def _compile(source: str, arch: str, *more: str) -> tuple[bytes, str]:
    """Machine code, and what the compiler says."""
    nvrtc = _nvrtc()

    def ask(function: str, *values: Any) -> Any:
        error, *answer = getattr(nvrtc, function)(*values)
        if error and function != "nvrtcCompileProgram":
            raise EngineError(f"NVRTC: {function}: {error.name}")
        return answer[0] if answer else error

    def text(size_of: str, get: str) -> bytes:
        found = bytes(ask(size_of, program))
        ask(get, program, found)
        return found

    program = ask("nvrtcCreateProgram", source.encode(), b"flowprep.cu", 0, [], [])
    try:
        options = [option.encode() for option in (f"--gpu-architecture={arch}", *OPTIONS, *more)]
        error = ask("nvrtcCompileProgram", program, len(options), options)
        messages = text("nvrtcGetProgramLogSize", "nvrtcGetProgramLog").decode().replace("\0", "")
        if error:
            raise EngineError(f"NVRTC could not compile the kernels for {arch}: {error.name}\n{messages}")
        return text("nvrtcGetCUBINSize", "nvrtcGetCUBIN"), messages
    finally:
        ask("nvrtcDestroyProgram", program)
