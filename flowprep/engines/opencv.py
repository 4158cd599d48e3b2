"""TV-L1 by OpenCV (opencv_contrib, optflow): the measure that the other engines are held against."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from flowprep.engines import base
from flowprep.errors import EngineError
from flowprep.presets import Tvl1Settings, check_engine


class OpenCVEngine(base.Engine):
    """`cv2.optflow.DualTVL1OpticalFlow`, one pair per thread.

    Raises:
        SettingsError: fewer than one thread, or parameters that OpenCV does not have.
        EngineError: this OpenCV has no `optflow` module.
    """

    def __init__(self, tvl1: Tvl1Settings, threads: int = 1, device: int | None = None) -> None:
        super().__init__(tvl1, threads, device)
        check_engine("opencv", tvl1)
        if not hasattr(cv2, "optflow"):
            raise EngineError(
                f"OpenCV {cv2.__version__} has no optflow module; remove the other opencv packages and run "
                "pip install --force-reinstall opencv-contrib-python-headless"
            )

    def _solve(
        self, frames: NDArray[Any], first: list[int], second: list[int], flow: NDArray[np.float32]
    ) -> None:
        if frames.dtype == np.float32:
            frames = frames / np.float32(255)  # OpenCV multiplies float images by 255

        def solve_one(i: int) -> None:
            try:
                found = self._solver().calc(frames[first[i]], frames[second[i]], None)
            except cv2.error as exc:
                raise EngineError(f"OpenCV: {exc}") from exc
            flow[i] = found.transpose(2, 0, 1)

        with _one_thread_each():
            self._map(solve_one, range(len(first)))

    def _solver(self) -> Any:
        # A fresh object for every pair: OpenCV writes the number of scales that it used back into the
        # object, and an object is not thread-safe.
        tvl1 = self.tvl1
        optflow: Any = cv2.optflow  # Any: OpenCV's type stubs lack the next name
        return optflow.DualTVL1OpticalFlow_create(
            tau=tvl1.tau,
            lambda_=tvl1.lambda_,
            theta=tvl1.theta,
            nscales=tvl1.scales,
            warps=tvl1.warps,
            epsilon=tvl1.epsilon,
            innnerIterations=tvl1.inner_iterations,  # sic
            outerIterations=tvl1.outer_iterations,
            scaleStep=tvl1.scale_step,
            gamma=0.0,
            medianFiltering=tvl1.median,
            useInitialFlow=False,
        )


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Keep OpenCV from splitting one pair over threads: a pair per thread is faster."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
