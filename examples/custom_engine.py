"""An engine of your own: dense inverse search (Kroeger et al. 2016), by OpenCV.

    python examples/custom_engine.py FIRST.png SECOND.png

An engine derives from `flowprep.engines.base.Engine` and implements `_solve`. Its name is "module:class";
no entry in flowprep is needed. With this folder on PYTHONPATH, the commands accept it, too:

    PYTHONPATH=examples flowprep extract VIDEOS --out CORPUS --engine custom_engine:DisEngine
"""

from __future__ import annotations

import sys
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

import flowprep
from flowprep.engines.base import Engine


class DisEngine(Engine):
    """Dense inverse search with OpenCV's medium preset. It ignores the parameters of TV-L1."""

    def _solve(
        self, frames: npt.NDArray[Any], first: list[int], second: list[int], flow: npt.NDArray[np.float32]
    ) -> None:
        """Fill `flow` (N, 2, H, W), in pixels. The base class has checked all arguments."""
        grey = np.clip(np.rint(frames), 0, 255).astype(np.uint8)

        def solve_pair(i: int) -> None:
            solver = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)  # one for each thread
            flow[i] = solver.calc(grey[first[i]], grey[second[i]], None).transpose(2, 0, 1)

        self._map(solve_pair, range(len(first)))


def main(first: str, second: str) -> None:
    """Compare the engine with the default one on two images of the same size."""
    images = [cv2.imread(path, cv2.IMREAD_GRAYSCALE) for path in (first, second)]
    flows = [flowprep.tvl1(*images, engine=name) for name in ("auto", "custom_engine:DisEngine")]
    distance = np.hypot(*(flows[0] - flows[1])).mean()
    print(f"mean distance of the two flows: {distance:.2f} px")


if __name__ == "__main__":
    main(*sys.argv[1:3])
