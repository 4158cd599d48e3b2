"""The base class of all engines: the call, its checks, and one pair per thread."""

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

# Grey levels are on the 0-255 scale. Resampled images may leave it by a little. Images on another scale, such
# as 16 bits, leave it by much: their flow would look plausible and be wrong.
LOWEST, HIGHEST = -255.0, 510.0


class Engine(ABC):
    """A TV-L1 solver with fixed parameters.

    A subclass defines `_solve`. Its results must depend neither on `threads` nor on how the pairs are split
    over calls. `flowprep.testing.engines` tests this and more.

    Args:
        tvl1: the solver's parameters.
        threads: number of pairs that are solved at the same time.
        device: the number of the GPU; None for the first one.

    Attributes:
        uses_gpu: whether the engine runs on a GPU.
        batch_pairs: largest number of pairs to give to one call of `solve`.
        batch_pixels: largest number of pixels of these pairs: more needs memory and saves no time.

    Raises:
        SettingsError: `threads` is less than 1.
        UsageError: `device` is given, but the engine uses no GPU.
    """

    uses_gpu: ClassVar[bool] = False
    batch_pairs = 32
    batch_pixels = 2_000_000

    def __init__(self, tvl1: Tvl1Settings, threads: int = 1, device: int | None = None) -> None:
        if threads < 1:
            raise SettingsError(f"threads is {threads}; allowed: a whole number from 1")
        if device is not None and not self.uses_gpu:
            raise UsageError(f"device is {device}, but this engine uses no GPU; allowed: None")
        self.tvl1 = tvl1
        self.threads = threads

    def solve(self, frames: NDArray[Any], first: ArrayLike, second: ArrayLike) -> NDArray[np.float32]:
        """Compute the flow from frames[first[i]] to frames[second[i]], for every i.

        Args:
            frames: grey images (F, H, W); uint8, or float32 on the 0-255 scale.
            first: (N,) indices into `frames`.
            second: (N,) indices into `frames`.

        Returns:
            float32 (N, 2, H, W), in pixels: u to the right, v downwards.

        Raises:
            UsageError: an argument has a wrong shape, dtype, size, index or value.
            EngineError: the solver failed.
        """
        _check_frames(frames)
        first, second = _indices("first", first, len(frames)), _indices("second", second, len(frames))
        if len(first) != len(second):
            raise UsageError(f"first has {len(first)} indices and second has {len(second)}; allowed: as many")
        flow = np.empty((len(first), 2, *frames.shape[1:]), np.float32)
        self._solve(frames, first, second, flow)
        return flow

    @abstractmethod
    def _solve(
        self, frames: NDArray[Any], first: list[int], second: list[int], flow: NDArray[np.float32]
    ) -> None:
        """Fill `flow` (N, 2, H, W). The arguments are those of `solve`, already checked."""

    def _map(self, work: Callable[[int], _T], numbers: Sequence[int]) -> list[_T]:
        """Call work(i) for each number i, on the engine's threads, and return the results in order."""
        threads = min(self.threads, len(numbers))
        if threads < 2:
            return [work(i) for i in numbers]
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(work, numbers))


def _check_frames(frames: NDArray[Any]) -> None:
    if not isinstance(frames, np.ndarray) or frames.ndim != 3:
        actual = frames.shape if isinstance(frames, np.ndarray) else type(frames).__name__
        raise UsageError(f"frames are {actual}; allowed: an array (F, H, W) of grey images")
    if frames.dtype not in (np.uint8, np.float32):
        raise UsageError(f"frames are {frames.dtype}; allowed: uint8, or float32 on the 0-255 scale")
    height, width = frames.shape[1:]
    if min(height, width) < MIN_SIDE:
        raise UsageError(f"frames are {width}x{height} pixels; allowed: at least {MIN_SIDE}x{MIN_SIDE}")
    if frames.dtype == np.uint8 or not len(frames):
        return
    low, high = float(frames.min()), float(frames.max())
    if not np.isfinite([low, high]).all():
        raise UsageError("frames have values that are not finite; allowed: grey levels on the 0-255 scale")
    if low < LOWEST or high > HIGHEST:
        raise UsageError(f"frames have values from {low:g} to {high:g}; allowed: grey levels, about 0 to 255")


def _indices(name: str, values: ArrayLike, frames: int) -> list[int]:
    array = np.asarray(values)
    if array.size == 0 and array.ndim == 1:
        return []
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise UsageError(f"{name} is {array.dtype} {array.shape}; allowed: a list of integer indices (N,)")
    if array.min() < 0 or array.max() >= frames:
        raise UsageError(
            f"{name} has indices from {array.min()} to {array.max()}; "
            f"allowed: 0 to {frames - 1} (there are {frames} frames)"
        )
    return [int(i) for i in array]
