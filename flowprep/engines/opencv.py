"""TV-L1 by OpenCV (opencv_contrib, optflow), with which the other engines are compared."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from flowprep.engines import base
from flowprep.errors import EngineError
from flowprep.presets import Tvl1Settings, check_engine
from flowprep.system.opencv_threads import one_opencv_thread


class OpenCVEngine(base.Engine):
    """`cv2.optflow.DualTVL1OpticalFlow`, with one pair per thread.

    Raises:
        SettingsError: `threads` is less than 1, or OpenCV lacks one of the parameters.
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
                solved = self._solver().calc(frames[first[i]], frames[second[i]], None)
            except cv2.error as exc:
                raise EngineError(f"OpenCV: {exc}") from exc
            flow[i] = solved.transpose(2, 0, 1)

        with one_opencv_thread():  # one pair per thread is faster than a pair split over threads
            self._map(solve_one, range(len(first)))

    def _solver(self) -> Any:
        # A new object for every pair: it is not thread-safe, and OpenCV writes the number of scales that it
        # used into it.
        tvl1 = self.tvl1
        optflow: Any = cv2.optflow  # OpenCV's type stubs lack the next name
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
