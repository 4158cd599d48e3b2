"""Files that take long to make, kept for later tests, processes and runs: compiled kernels, solved flow."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import flowprep
from flowprep.engines import make_engine
from flowprep.presets import Tvl1Settings
from flowprep.system.jit import cache_name

FOLDER = Path(__file__).parent / "__pycache__" / "kept"
KEPT_SECONDS = 14 * 86400.0


def cached_file(key: bytes, suffix: str, write: Callable[[Path], object]) -> Path:
    """The file of this key. If there is none, `write` makes it; other processes wait meanwhile."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{hashlib.sha256(key).hexdigest()[:24]}{suffix}"
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            _remove_old_files()
            unfinished = path.with_name(f"unfinished-{path.name}")
            write(unfinished)
            unfinished.replace(path)
        os.utime(path)
    return path


def _remove_old_files() -> None:
    for path in FOLDER.iterdir():
        if time.time() - path.stat().st_mtime > KEPT_SECONDS:
            path.unlink(missing_ok=True)


def cached_flow(engine: str, tvl1: Tvl1Settings, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The flow (2, H, W) from frames[0] to frames[1], solved once for all tests."""
    import cv2

    code = cv2.__version__ if engine == "opencv" else cache_name(Path(flowprep.__file__).parent / "engines")
    key = repr((engine, code, np.__version__, tvl1, frames.shape, frames.dtype)).encode() + frames.tobytes()

    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.save(file, make_engine(engine, tvl1).solve(frames, [0], [1])[0])

    flow: NDArray[np.float32] = np.load(cached_file(key, ".npy", write))
    return flow
