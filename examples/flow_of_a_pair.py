"""Compute the flow of two images, and what storing it as codes costs.

    python examples/flow_of_a_pair.py FIRST.png SECOND.png

Both images have the same size.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

import flowprep


def read_grey(path: str) -> npt.NDArray[np.uint8]:
    """An image as grey levels, (H, W)."""
    with Image.open(path) as image:
        return np.asarray(image.convert("L"))


def main(first: str, second: str) -> npt.NDArray[Any]:
    """Print the mean displacement, the size of the codes and their error. Returns the flow (2, H, W)."""
    flow = flowprep.tvl1(read_grey(first), read_grey(second))
    u, v = flow.mean(axis=(1, 2))
    print(f"mean displacement: {u:.2f} px right, {v:.2f} px down")

    encoded = flowprep.encode(flow, error_px=0.4)
    error = np.abs(flowprep.decode(encoded) - flow).mean()
    print(f"{encoded.nbytes} bytes instead of {flow.nbytes}, mean error {error:.3f} px")
    return flow


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
