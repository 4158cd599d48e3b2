"""TV-L1 optical flow: the table of engines, and the public function `tvl1`.

An engine is a class derived from `flowprep.engines.base.Engine`. Those of flowprep have names in `ENGINES`.
Any other engine is named by its import path, such as "mypackage.engine:MyEngine". `flowprep.testing.engines`
has the tests that every engine must pass.
"""

from __future__ import annotations

import ctypes
import logging
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from flowprep.errors import EngineError, SettingsError, UsageError
from flowprep.presets import DEFAULT_PRESET, Tvl1Settings, default_preset, tvl1_settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from flowprep.engines.base import Engine

log = logging.getLogger(__name__)

# Name -> "module:class". The module is imported when the engine is made.
ENGINES: dict[str, str] = {
    "cpu": "flowprep.engines.cpu.engine:CpuEngine",
    "cuda": "flowprep.engines.cuda.engine:CudaEngine",
    "opencv": "flowprep.engines.opencv:OpenCVEngine",
    "reference": "flowprep.engines.reference:ReferenceEngine",
}


def resolve(name: str) -> str:
    """Replace "auto" by the fastest engine of this machine: "cuda" where a GPU works, otherwise "cpu".

    Args:
        name: "auto", a key of `ENGINES`, or "module:class".

    Returns:
        The name of an engine, never "auto".

    Raises:
        SettingsError: no engine has this name; the message lists those that exist.
    """
    check_engine_name(name)
    return _fastest() if name == "auto" else name


def check_engine_name(name: str) -> None:
    """Raise SettingsError if no engine can have this name. No library is imported."""
    if name not in ("auto", *ENGINES) and ":" not in name:
        raise SettingsError(
            f'engine is {name!r}; allowed: auto, {", ".join(ENGINES)}, or "module:class" of another engine'
        )


@cache
def _fastest() -> str:
    """The fastest engine of this machine. Without an NVIDIA driver, nothing is imported to find out."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "cpu"
    if fault := gpu_fault():
        log.warning("%s; engine auto is cpu", fault)
        return "cpu"
    return "cuda"


def gpu_fault(device: int | None = None) -> str:
    """Solve a small pair on a GPU, and return the error message, or "" if it worked.

    Args:
        device: the number of the GPU; None for the first one.
    """
    import numpy as np

    try:
        engine = make_engine("cuda", tvl1_settings(DEFAULT_PRESET), device=device)
        engine.solve(np.zeros((2, 16, 16), np.uint8), [0], [1])
    except EngineError as exc:
        return str(exc)
    return ""


def make_engine(name: str, tvl1: Tvl1Settings, threads: int = 1, device: int | None = None) -> Engine:
    """Make an engine that is ready to solve.

    Args:
        name: "auto", a key of `ENGINES`, or "module:class" of any other subclass of `Engine`.
        tvl1: the solver's parameters.
        threads: number of pairs that are solved at the same time.
        device: the number of the GPU, for engine cuda; None for the first one.

    Raises:
        SettingsError: the name is unknown, or `threads` is less than 1.
        UsageError: `device` is given, but the engine uses no GPU.
        EngineError: the engine cannot run on this machine.
    """
    return engine_class(resolve(name))(tvl1, threads, device)


def engine_class(name: str) -> type[Engine]:
    """Import the class of an engine.

    Args:
        name: a key of `ENGINES`, or "module:class".

    Raises:
        SettingsError: it cannot be imported, or is not a subclass of `Engine`.
    """
    from flowprep.engines.base import Engine

    module, _, attribute = ENGINES.get(name, name).partition(":")
    try:
        engine_class = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as exc:
        raise SettingsError(f"engine is {name!r}, which cannot be imported: {exc}") from exc
    if not isinstance(engine_class, type) or not issubclass(engine_class, Engine):
        raise SettingsError(f"engine is {name!r}; allowed: a subclass of flowprep.engines.base.Engine")
    return engine_class


def tvl1(
    prev: NDArray[Any],
    next: NDArray[Any],
    engine: str | Engine = "auto",
    preset: str | Tvl1Settings | None = None,
    threads: int = 1,
) -> NDArray[np.float32]:
    """Compute TV-L1 optical flow from `prev` to `next`.

    Args:
        prev: a grey image (H, W) or a batch (N, H, W); uint8, or any float type on the 0-255 scale.
        next: an image or a batch with the shape and dtype of `prev`. `next` at x + flow(x) looks like `prev`
            at x.
        engine: "auto", a key of `flowprep.engines.ENGINES`, "module:class", or an `Engine` object. An object
            has its own parameters and threads: `preset` must be None, and `threads` is ignored.
        preset: a preset, such as "fast" or "fast@1", or the solver's parameters. By default "accurate", or
            "opencv" for engine opencv.
        threads: number of pairs that are solved at the same time.

    Returns:
        float32 (2, H, W) or (N, 2, H, W), in pixels: u to the right, v downwards.

    Raises:
        SettingsError: the engine or the preset is unknown, or `threads` is less than 1.
        UsageError: an image has a wrong shape, dtype, size or value.
    """
    import numpy as np

    if isinstance(engine, str):
        preset = preset or default_preset(engine)
        settings = tvl1_settings(preset) if isinstance(preset, str) else preset
        solver = make_engine(engine, settings, threads)
    elif preset is not None:
        raise UsageError(f"preset is {preset!r}; allowed with an engine object: None (it has its own)")
    else:
        solver = engine
    prev, next = np.asarray(prev), np.asarray(next)
    if prev.shape != next.shape or prev.dtype != next.dtype:
        raise UsageError(
            f"prev is {prev.dtype} {prev.shape} and next is {next.dtype} {next.shape}; "
            "allowed: the same shape and dtype for both"
        )
    if prev.ndim not in (2, 3):
        raise UsageError(f"images have shape {prev.shape}; allowed: grey (H, W) or a batch (N, H, W)")
    frames = np.concatenate([np.atleast_3d(prev.T).T, np.atleast_3d(next.T).T])
    if frames.dtype.kind == "f":
        frames = frames.astype(np.float32, copy=False)
    count = len(frames) // 2
    indices = np.arange(count)
    flow = solver.solve(frames, indices, indices + count)
    return flow[0] if prev.ndim == 2 else flow
