"""Sizes of pictures, and the displacement that gets full colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from flowprep.viz.colours import Flow

# Smaller displacements are mostly noise of the solver. They do not get full colour. Pixels.
LEAST_FLOW_SCALE = 0.25
# The default quantisation changes flow by about this much, pixels.
LEAST_DISTANCE_SCALE = 0.1
PERCENTILE = 99  # of the shown values; a few outliers do not make all other colours pale


def flow_scale(flows: Sequence[Flow]) -> float:
    """The displacement of full colour: a percentile of the displacements in all flows, pixels."""
    return max(LEAST_FLOW_SCALE, float(np.percentile([np.hypot(*flow) for flow in flows], PERCENTILE)))


def distance_scale(distances: Sequence[NDArray[np.floating]]) -> float:
    """The distance that is drawn black: a percentile of all distances, pixels."""
    return max(LEAST_DISTANCE_SCALE, float(np.percentile(distances, PERCENTILE)))


def limited(flow: Flow, maximum: float) -> Flow:
    """The flow with longer displacements cut to just under `maximum` pixels, in the same direction."""
    # Just under: float32 could round the cut length to more than `maximum`, which has another colour.
    return np.asarray(flow * ((1 - 1e-6) * maximum / np.maximum(np.hypot(*flow), maximum)), np.float32)


def resized(image: NDArray[Any], width: int, height: int) -> NDArray[Any]:
    """The image at another size: averaged if smaller, with visible square pixels from four times on."""
    scale = height / image.shape[0]
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST if scale >= 4 else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=method)


def resized_flow(flow: Flow, width: int, height: int) -> Flow:
    """The (2, H, W) flow at another size. Displacements stay in pixels of the original size."""
    return np.asarray(resized(flow.transpose(1, 2, 0), width, height).transpose(2, 0, 1), np.float32)


def fit(width: int, height: int, max_width: int, max_height: int) -> tuple[int, int]:
    """The largest size in a box with the same aspect ratio, pixels."""
    scale = min(max_width / width, max_height / height)
    return max(1, round(width * scale)), max(1, round(height * scale))
