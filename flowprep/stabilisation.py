"""Taking the camera's motion off flow: a homography from matched points and from flow, by RANSAC.

As in improved trajectories: Wang and Schmid, "Action recognition with improved trajectories", ICCV 2013,
section 3.1, without their detector of people, and with ORB instead of SURF for points that match by their
looks. They warp the second frame and compute flow again; here the motion that the homography gives each pixel
is subtracted, which leaves out a second run, needs no pixel from outside the frame, and can be undone.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

# As in the code of improved trajectories: points needed to try, and that must agree with what is found.
LEAST_POINTS, LEAST_INLIERS = 50, 25
INLIER_PX = 1.0
_orb: Any = cv2.ORB_create  # type: ignore[attr-defined]  # OpenCV's annotations lack it
# A homography that takes a corner further than this share of the frame's diagonal, there or back, or over the
# horizon, is no camera's, but a fit to noise.
LARGEST_SHIFT = 0.5
# One that moves points by less than this, at the median, is noise: the camera stands still.
STILL_PX = 0.15

Grey = npt.NDArray[np.uint8]
Matrix = npt.NDArray[np.float64]


def homographies(
    frames: Grey, first: npt.NDArray[np.intp], second: npt.NDArray[np.intp], flow: npt.NDArray[np.float32]
) -> Matrix:
    """The camera's motion from frames[first[i]] to frames[second[i]], for every i.

    Args:
        frames: (F, H, W) grey images.
        first, second: (N,) indices into frames.
        flow: (N, 2, H, W) from the one to the other, pixels.

    Returns:
        (N, 3, 3): where a point (x, y, 1), in pixels, comes to lie; NaN where none was found, and the
        identity where the camera stands still.
    """
    found = np.full((len(flow), 3, 3), np.nan)
    looks = {int(i): _looks(frames[i]) for i in {*first.tolist(), *second.tolist()}}
    for n, (a, b) in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
        matched = _matches(*looks[a], *looks[b])
        corners = _corners(frames[a])
        x, y = np.rint(corners).astype(int).T
        moved = corners + flow[n][:, y, x].T
        before, after = np.concatenate([matched[0], corners]), np.concatenate([matched[1], moved])
        if len(before) > LEAST_POINTS:
            matrix: Any
            matrix, inliers = cv2.findHomography(before, after, cv2.RANSAC, INLIER_PX)
            if matrix is not None and inliers.sum() > LEAST_INLIERS and _is_likely(matrix, frames.shape[1:]):
                shifts = np.linalg.norm(_through(matrix, before) - before, axis=1)
                found[n] = matrix if np.median(shifts) > STILL_PX else np.eye(3)
    return found


def displacement(matrix: Matrix, height: int, width: int) -> npt.NDArray[np.float32]:
    """The motion that a homography gives each pixel: (2, height, width) float32, pixels."""
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    u, v, w = (a * x + b * y + c for a, b, c in matrix.astype(np.float32))
    return np.stack([u / w - x, v / w - y])


def without_camera(flow: npt.NDArray[np.float32], matrices: Matrix) -> npt.NDArray[np.float32]:
    """Flow (N, 2, H, W) less the camera's motion; unchanged where that is NaN."""
    found = [
        pair if np.isnan(matrix).any() else pair - displacement(matrix, *pair.shape[1:])
        for pair, matrix in zip(flow, matrices, strict=True)
    ]
    return np.stack(found) if found else flow


def _looks(frame: Grey) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Points of a frame, (P, 2), and their descriptors, (P, 32)."""
    orb = _orb(nfeatures=400, scaleFactor=1.4, nlevels=4, fastThreshold=10)
    points, descriptors = orb.detectAndCompute(frame, None)
    if descriptors is None:
        descriptors = np.zeros((0, 32), np.uint8)
    return np.array([p.pt for p in points], np.float32).reshape(-1, 2), np.asarray(descriptors, np.uint8)


def _matches(
    points: npt.NDArray[np.float32],
    descriptors: npt.NDArray[np.uint8],
    other_points: npt.NDArray[np.float32],
    other_descriptors: npt.NDArray[np.uint8],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Points that are each other's most alike, (M, 2) each."""
    if not len(points) or not len(other_points):
        return points[:0], other_points[:0]
    pairs = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(descriptors, other_descriptors)
    return points[[m.queryIdx for m in pairs]], other_points[[m.trainIdx for m in pairs]]


def _corners(frame: Grey) -> npt.NDArray[np.float32]:
    """Points where flow is well defined (Shi and Tomasi), (P, 2)."""
    corners = cv2.goodFeaturesToTrack(frame, maxCorners=400, qualityLevel=0.001, minDistance=5)
    return np.zeros((0, 2), np.float32) if corners is None else corners.reshape(-1, 2).astype(np.float32)


def _is_likely(matrix: Matrix, shape: tuple[int, ...]) -> bool:
    height, width = shape
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]], np.float64)
    for way in (matrix, np.asarray(np.linalg.pinv(matrix), np.float64)):
        depths = corners @ way[2, :2] + way[2, 2]  # of two signs: pixels between them move without bounds
        shifts = np.linalg.norm(_through(way, corners) - corners, axis=1)
        if depths.min() * depths.max() <= 0 or not shifts.max() < LARGEST_SHIFT * np.hypot(width, height):
            return False
    return True


def _through(matrix: Matrix, points: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.asarray(cv2.perspectiveTransform(points[None], matrix)[0])
