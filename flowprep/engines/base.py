"""What all engines have in common: the call, its checks, and one pair per thread."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flowprep.errors import SettingsError, UsageError
from flowprep.presets import Tvl1Settings
from flowprep.settings import MIN_SIDE

_T = TypeVar("_T")

# Grey levels are on the 0-255 scale. Resampled images overshoot it; images on another scale (16 bits, say)
# go far beyond, and would give flow that looks plausible and is wrong.
LOWEST, HIGHEST = -255.0, 510.0


class Engine(ABC):
    """A TV-L1 solver with fixed parameters. Its results do not depend on `threads` or on the batching.

    Args:
        tvl1: the solver's parameters.
        threads: pairs that are solved at the same time.
        device: the number of the GPU to run on; the first one if None.

    Attributes:
        uses_gpu: whether it runs on a GPU.
        batch_pairs, batch_pixels: what to give it at a time, at most, to keep it busy.

    Raises:
        SettingsError: fewer than one thread.
        UsageError: a device, for an engine that uses no GPU.
    """

    uses_gpu: ClassVar[bool] = False
    batch_pairs = 32
    batch_pixels = 2_000_000

    def __init__(self, tvl1: Tvl1Settings, threads: int = 1, device: int | None = None) -> None:
        if threads < 1:
            raise SettingsError(f"threads is {threads}; allowed: a whole number from 1")
        if device is not None and not self.uses_gpu:
            raise UsageError(f"device is {device}, and this engine uses no GPU; allowed: None")
        self.tvl1 = tvl1
        self.threads = threads

    def solve(self, frames: NDArray[Any], first: ArrayLike, second: ArrayLike) -> NDArray[np.float32]:
        """Flow from frames[first[i]] to frames[second[i]], for every i.

        Args:
            frames: grey images (F, H, W), uint8, or float32 on the 0-255 scale.
            first: (N,) integer indices into frames.
            second: (N,) integer indices into frames.

        Returns:
            float32 (N, 2, H, W): u = right, v = down, in pixels.

        Raises:
            UsageError: a wrong shape, dtype, size or index, or values that are not finite grey levels.
        """
        _check_frames(frames)
        one, two = _indices("first", first, len(frames)), _indices("second", second, len(frames))
        if len(one) != len(two):
            raise UsageError(f"first has {len(one)} indices and second has {len(two)}; allowed: as many")
        flow = np.empty((len(one), 2, *frames.shape[1:]), np.float32)
        self._solve(frames, one, two, flow)
        return flow

    @abstractmethod
    def _solve(
        self, frames: NDArray[Any], first: list[int], second: list[int], flow: NDArray[np.float32]
    ) -> None:
        """Fill `flow` (N, 2, H, W); everything has been checked."""

    def _each(self, numbers: Sequence[int], work: Callable[[int], _T]) -> list[_T]:
        """work(i) for each number i, on as many threads as the engine has; the results in order."""
        if min(self.threads, len(numbers)) < 2:
            return [work(i) for i in numbers]
        with ThreadPoolExecutor(min(self.threads, len(numbers))) as pool:
            return list(pool.map(work, numbers))


def _check_frames(frames: NDArray[Any]) -> None:
    if not isinstance(frames, np.ndarray) or frames.ndim != 3:
        found = frames.shape if isinstance(frames, np.ndarray) else type(frames).__name__
        raise UsageError(f"frames are {found}; allowed: an array (F, H, W) of grey images")
    if frames.dtype not in (np.uint8, np.float32):
        raise UsageError(f"frames are {frames.dtype}; allowed: uint8, or float32 on the 0-255 scale")
    height, width = frames.shape[1:]
    if min(height, width) < MIN_SIDE:
        raise UsageError(f"frames are {width}x{height} pixels; allowed: at least {MIN_SIDE}x{MIN_SIDE}")
    if frames.dtype == np.uint8 or not len(frames):
        return
    low, high = float(frames.min()), float(frames.max())
    if not np.isfinite([low, high]).all():
        raise UsageError("frames hold values that are not finite; allowed: grey levels on the 0-255 scale")
    if low < LOWEST or high > HIGHEST:
        raise UsageError(f"frames hold values from {low:g} to {high:g}; allowed: grey levels, about 0 to 255")


def _indices(name: str, values: ArrayLike, frames: int) -> list[int]:
    array = np.asarray(values)
    if array.size == 0 and array.ndim == 1:
        return []
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise UsageError(f"{name} is {array.dtype} {array.shape}; allowed: a list of integer indices (N,)")
    if array.min() < 0 or array.max() >= frames:
        raise UsageError(
            f"{name} has indices from {array.min()} to {array.max()}; allowed: 0 to {frames - 1} (the frames)"
        )
    return [int(i) for i in array]
