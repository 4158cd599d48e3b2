"""TV-L1 optical flow: the table of engines and the public function `tvl1`.

A new engine is one module with a class `Engine` derived from `flowprep.engines.base.Engine`, one line in
`ENGINES`, and one subclass of the conformance suite in tests/flowprep/test_engines.py.
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

# Name -> module, imported only when the engine is asked for.
ENGINES: dict[str, str] = {
    "cpu": "flowprep.engines.cpu.engine",
    "cuda": "flowprep.engines.cuda.engine",
    "opencv": "flowprep.engines.opencv",
    "reference": "flowprep.engines.reference",
}


def resolve(name: str) -> str:
    """The concrete engine that `name` stands for: "auto" is "cuda" where a GPU works, or else "cpu".

    Raises:
        SettingsError: no engine has this name; the message lists those that exist.
    """
    if name == "auto":
        return _best()
    if name not in ENGINES:
        raise SettingsError(f"engine is {name!r}; allowed: auto, {', '.join(ENGINES)}")
    return name


@cache
def _best() -> str:
    """The fastest engine here. Without a driver, nothing is imported to find out."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "cpu"
    if fault := gpu_fault():
        log.warning("%s; engine auto is cpu", fault)
        return "cpu"
    return "cuda"


def gpu_fault(device: int | None = None) -> str:
    """Why engine cuda cannot solve a pair in this process now, or "" if it can.

    Args:
        device: the number of the GPU; the first one if None.
    """
    import numpy as np

    try:
        engine = make_engine("cuda", tvl1_settings(DEFAULT_PRESET), device=device)
        engine.solve(np.zeros((2, 16, 16), np.uint8), [0], [1])
    except EngineError as exc:
        return str(exc)
    return ""


def make_engine(name: str, tvl1: Tvl1Settings, threads: int = 1, device: int | None = None) -> Engine:
    """An engine, ready to solve.

    Args:
        name: a key of `ENGINES`, or "auto".
        tvl1: the solver's parameters.
        threads: pairs that are solved at the same time.
        device: the number of the GPU that engine cuda uses; the first one if None.

    Raises:
        SettingsError: an unknown name, or fewer than one thread.
        UsageError: a device, for an engine that uses no GPU.
        EngineError: the engine cannot run on this machine.
    """
    engine_class: type[Engine] = import_module(ENGINES[resolve(name)]).Engine
    return engine_class(tvl1, threads, device)


def tvl1(
    prev: NDArray[Any],
    next: NDArray[Any],
    engine: str = "auto",
    preset: str | Tvl1Settings | None = None,
    threads: int = 1,
) -> NDArray[np.float32]:
    """TV-L1 optical flow from `prev` to `next`.

    Args:
        prev: grey image (H, W) or batch (N, H, W), uint8 or any float type on the 0-255 scale.
        next: the same shape and dtype; `next` at x + flow(x) looks like `prev` at x.
        engine: a key of `flowprep.engines.ENGINES`, or "auto".
        preset: a key of `flowprep.presets.PRESETS`, or the solver's parameters themselves; by default
            "accurate", or "opencv" if that is the engine.
        threads: pairs that are solved at the same time.

    Returns:
        float32 (2, H, W) or (N, 2, H, W): u = right, v = down, in pixels.

    Raises:
        SettingsError: an unknown engine or preset, or fewer than one thread.
        UsageError: images that no engine takes (shape, dtype, size, values).
    """
    import numpy as np

    preset = preset or default_preset(engine)
    settings = tvl1_settings(preset) if isinstance(preset, str) else preset
    prev, next = np.asarray(prev), np.asarray(next)
    if prev.shape != next.shape or prev.dtype != next.dtype:
        raise UsageError(
            f"prev is {prev.dtype} {prev.shape} and next is {next.dtype} {next.shape}; "
            "both must have one shape and one dtype"
        )
    if prev.ndim not in (2, 3):
        raise UsageError(f"images have shape {prev.shape}; allowed: grey (H, W) or a batch (N, H, W)")
    frames = np.concatenate([np.atleast_3d(prev.T).T, np.atleast_3d(next.T).T])
    if frames.dtype.kind == "f":
        frames = frames.astype(np.float32, copy=False)
    count = len(frames) // 2
    indices = np.arange(count)
    flow = make_engine(engine, settings, threads).solve(frames, indices, indices + count)
    return flow[0] if prev.ndim == 2 else flow
