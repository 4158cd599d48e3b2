"""NVRTC, the compiler of CUDA C++: machine code for a GPU, cached on disk.

The cache key contains the source, the options, the architecture and the version of the compiler. No CUDA
toolkit has to be installed: `pip install '.[cuda]'` installs everything.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from typing import Any

from flowprep.errors import EngineError
from flowprep.system.atomic import atomic_path
from flowprep.system.cache import cache_folder

INSTALL = "pip install '.[cuda]' in the clone"

# Approximate square roots and quotients, fused multiplications and additions, and no denormals. The algorithm
# does not depend on rounding: the flow differs from engine cpu's in the 6th digit.
OPTIONS = ("--std=c++17", "--use_fast_math")


def compile_source(source: str, arch: str) -> bytes:
    """Compile a source to machine code (a cubin), or read it from the cache folder.

    Args:
        source: CUDA C++.
        arch: the architecture, such as "sm_90".

    Raises:
        EngineError: the compiler is not installed, or the source has a fault.
    """
    folder = cache_folder("flowprep-cuda", os.environ.get("FLOWPREP_CACHE_DIR"))
    key = hashlib.sha256(repr((source, arch, OPTIONS, nvrtc_version())).encode()).hexdigest()
    if folder is None:
        return _compile(source, arch)[0]
    path = folder / f"{key[:32]}.cubin"
    with suppress(OSError):
        return path.read_bytes()
    code, _ = _compile(source, arch)
    with suppress(OSError), atomic_path(path) as temporary:  # without a cache it works, too
        temporary.write_bytes(code)
    return code


def resource_report(source: str, arch: str) -> str:
    """Compile a source, and return the assembler's report of registers, shared memory and spills."""
    return _compile(source, arch, "--ptxas-options=-v")[1]


def nvrtc_version() -> str:
    """The version of NVRTC, such as "13.5". Raises EngineError if NVRTC cannot be loaded."""
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
    except RuntimeError as exc:  # the library is missing
        raise EngineError(f"engine cuda: NVRTC cannot be loaded ({exc}); {INSTALL}") from exc
    return nvrtc


def _compile(source: str, arch: str, *options: str) -> tuple[bytes, str]:
    """Machine code, and the messages of the compiler."""
    nvrtc = _nvrtc()

    def call(function: str, *values: Any) -> Any:
        error, *answer = getattr(nvrtc, function)(*values)
        if error and function != "nvrtcCompileProgram":
            raise EngineError(f"NVRTC: {function}: {error.name}")
        return answer[0] if answer else error

    def text(size_function: str, function: str) -> bytes:
        buffer = bytes(call(size_function, program))
        call(function, program, buffer)
        return buffer

    program = call("nvrtcCreateProgram", source.encode(), b"flowprep.cu", 0, [], [])
    try:
        arguments = [each.encode() for each in (f"--gpu-architecture={arch}", *OPTIONS, *options)]
        error = call("nvrtcCompileProgram", program, len(arguments), arguments)
        messages = text("nvrtcGetProgramLogSize", "nvrtcGetProgramLog").decode().replace("\0", "")
        if error:
            raise EngineError(f"NVRTC could not compile the kernels for {arch}: {error.name}\n{messages}")
        return text("nvrtcGetCUBINSize", "nvrtcGetCUBIN"), messages
    finally:
        call("nvrtcDestroyProgram", program)
