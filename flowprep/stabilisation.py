"""Estimate the camera's motion as a homography, by RANSAC, and subtract it from flow.

Source: improved trajectories, Wang and Schmid, "Action recognition with improved trajectories", ICCV 2013,
section 3.1. Differences:

- there is no detector of people;
- ORB replaces SURF for points matched by their descriptors;
- they warp the second frame and compute flow again. Here, the motion of the homography is subtracted at each
  pixel. This needs no second run and no pixel from outside the frame, and it can be undone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

# As in the code of improved trajectories: points that RANSAC needs, and points that must agree with its
# result.
LEAST_POINTS, LEAST_INLIERS = 50, 25
INLIER_PX = 1.0
# A homography with a larger shift of a corner, as a share of the frame's diagonal, is a fit to noise. So is
# one with such an inverse, or one that moves a pixel over the horizon.
MAX_CORNER_SHIFT = 0.5
# A homography with a smaller median displacement is noise. The camera stands still then.
STATIC_CAMERA_PX = 0.15
_create_orb: Any = cv2.ORB_create  # type: ignore[attr-defined]  # OpenCV's annotations lack it

Grey = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float32]  # (P, 2), x and y in pixels
Matrix = npt.NDArray[np.float64]
Features = tuple[Points, npt.NDArray[np.uint8]]  # points, and their descriptors (P, 32)


def estimate_homographies(
    frames: Grey,
    first: npt.NDArray[np.intp],
    second: npt.NDArray[np.intp],
    flow: npt.NDArray[np.float32],
    find_homography: Callable[..., Any] = cv2.findHomography,
) -> Matrix:
    """Estimate the camera's motion of pairs of frames.

    Args:
        frames: (F, H, W) grey images.
        first, second: (N,) indices into frames.
        flow: (N, 2, H, W) from the first to the second frame, pixels.
        find_homography: called as `cv2.findHomography`.

    Returns:
        (N, 3, 3), in pixels: it maps a point (x, y, 1) of the first frame to the second one. NaN if none was
        found; the identity if the camera stands still.
    """
    matrices = np.full((len(flow), 3, 3), np.nan)
    features = {index: _find_features(frames[index]) for index in {*first.tolist(), *second.tolist()}}
    for n, (a, b) in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
        sources, targets = _match_features(features[a], features[b])
        corners = _find_corners(frames[a])
        x, y = np.rint(corners).astype(int).T
        sources = np.concatenate([sources, corners])
        targets = np.concatenate([targets, corners + flow[n][:, y, x].T])
        if len(sources) <= LEAST_POINTS:
            continue
        matrix, inliers = find_homography(sources, targets, cv2.RANSAC, INLIER_PX)
        if matrix is None or inliers.sum() <= LEAST_INLIERS or not _is_plausible(matrix, frames.shape[1:]):
            continue
        shifts = np.linalg.norm(_transform(matrix, sources) - sources, axis=1)
        matrices[n] = matrix if np.median(shifts) > STATIC_CAMERA_PX else np.eye(3)
    return matrices


def homography_flow(matrix: Matrix, height: int, width: int) -> npt.NDArray[np.float32]:
    """The displacement of each pixel by a homography: (2, height, width) float32, pixels."""
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    u, v, w = (a * x + b * y + c for a, b, c in matrix.astype(np.float32))
    return np.stack([u / w - x, v / w - y])


def subtract_camera_motion(flow: npt.NDArray[np.float32], matrices: Matrix) -> npt.NDArray[np.float32]:
    """Subtract the camera's motion from flow.

    Args:
        flow: (N, 2, H, W), pixels.
        matrices: (N, 3, 3), as from `estimate_homographies`. Pairs with NaN keep their flow.

    Returns:
        (N, 2, H, W), pixels.
    """
    pairs = [
        pair if np.isnan(matrix).any() else pair - homography_flow(matrix, *pair.shape[1:])
        for pair, matrix in zip(flow, matrices, strict=True)
    ]
    return np.stack(pairs) if pairs else flow


def _find_features(frame: Grey) -> Features:
    orb = _create_orb(nfeatures=400, scaleFactor=1.4, nlevels=4, fastThreshold=10)
    points, descriptors = orb.detectAndCompute(frame, None)
    if descriptors is None:
        descriptors = np.zeros((0, 32), np.uint8)
    return np.array([p.pt for p in points], np.float32).reshape(-1, 2), np.asarray(descriptors, np.uint8)


def _match_features(features: Features, others: Features) -> tuple[Points, Points]:
    """The points of two frames that are each other's most similar, (M, 2) each."""
    points, descriptors = features
    other_points, other_descriptors = others
    if not len(points) or not len(other_points):
        return points[:0], other_points[:0]
    matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(descriptors, other_descriptors)
    return points[[m.queryIdx for m in matches]], other_points[[m.trainIdx for m in matches]]


def _find_corners(frame: Grey) -> Points:
    """Points with well-defined flow (Shi and Tomasi)."""
    corners = cv2.goodFeaturesToTrack(frame, maxCorners=400, qualityLevel=0.001, minDistance=5)
    return np.zeros((0, 2), np.float32) if corners is None else corners.reshape(-1, 2).astype(np.float32)


def _is_plausible(matrix: Matrix, shape: tuple[int, ...]) -> bool:
    """Whether a homography can be a camera's motion; see MAX_CORNER_SHIFT."""
    height, width = shape
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]], np.float64)
    limit = MAX_CORNER_SHIFT * np.hypot(width, height)
    for direction in (matrix, np.asarray(np.linalg.pinv(matrix), np.float64)):
        # Depths of both signs: there is a horizon between the corners, where displacements have no bound.
        depths = corners @ direction[2, :2] + direction[2, 2]
        shifts = np.linalg.norm(_transform(direction, corners) - corners, axis=1)
        if depths.min() * depths.max() <= 0 or not shifts.max() < limit:
            return False
    return True


def _transform(matrix: Matrix, points: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.asarray(cv2.perspectiveTransform(points[None], matrix)[0])
