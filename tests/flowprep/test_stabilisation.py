"""The camera's motion: known homographies are estimated, subtracted and stored."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from flowprep import open_corpus, tvl1
from flowprep.api import make_corpus
from flowprep.errors import SettingsError
from flowprep.settings import Settings
from flowprep.stabilisation import estimate_homographies, homography_flow, subtract_camera_motion
from flowprep.video.frame_folder import numbered_frames

HEIGHT, WIDTH = 120, 160
PAN = np.array([[1.01, 0.012, 2.6], [-0.012, 1.01, -1.4], [2e-5, 1e-5, 1.0]])
SHIFT = np.array([[1, 0, 3.0], [0, 1, -2.0], [0, 0, 1]])


def panned(frames: int, matrix: np.ndarray, object_px: float = 0.0) -> np.ndarray:
    """(frames, H, W) uint8: a wall moved by the camera, and in front of it a square with its own motion."""
    rng = np.random.default_rng(4)
    wall = cv2.GaussianBlur(rng.uniform(0, 255, (3 * HEIGHT, 3 * WIDTH)).astype(np.float32), (0, 0), 1.5)
    wall = cv2.normalize(wall, None, 0, 255, cv2.NORM_MINMAX)
    patch = cv2.GaussianBlur(rng.uniform(0, 255, (30, 30)).astype(np.float32), (0, 0), 1.5)
    patch = cv2.normalize(patch, None, 0, 255, cv2.NORM_MINMAX)
    place = np.array([[1, 0, -WIDTH], [0, 1, -HEIGHT], [0, 0, 1.0]])
    images = []
    for n in range(frames):
        image = cv2.warpPerspective(wall, place, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC)
        if object_px:
            left = 60 + round(n * object_px)
            image[40:70, left : left + 30] = patch
        images.append(np.clip(np.rint(image), 0, 255).astype(np.uint8))
        place = matrix @ place
    return np.stack(images)


def test_the_displacement_of_a_homography_is_its_definition():
    point = PAN @ [30, 50, 1]
    moved = homography_flow(PAN, HEIGHT, WIDTH)
    # Single precision at coordinates of about 100 pixels.
    assert moved[:, 50, 30] == pytest.approx(point[:2] / point[2] - [30, 50], abs=1e-4)
    assert np.all(homography_flow(np.eye(3), HEIGHT, WIDTH) == 0)


@pytest.mark.parametrize("matrix", [PAN, SHIFT])
def test_the_camera_s_motion_is_subtracted_and_an_object_s_is_kept(matrix):
    frames = panned(2, matrix, object_px=8.0)
    flow = tvl1(frames[0], frames[1])
    matrices = estimate_homographies(frames, np.array([0]), np.array([1]), flow[None])
    truth = homography_flow(matrix, HEIGHT, WIDTH)
    error = np.hypot(*(homography_flow(matrices[0], HEIGHT, WIDTH) - truth))
    assert error.max() < 0.5  # inliers lie within a pixel
    rest = subtract_camera_motion(flow[None], matrices)[0]
    wall = np.ones((HEIGHT, WIDTH), bool)
    wall[25:85, 45:110] = wall[:12] = wall[-12:] = wall[:, :12] = wall[:, -12:] = False
    assert np.median(np.hypot(*rest)[wall]) < 0.2 < 2 < np.median(np.hypot(*flow)[wall])
    inside = np.median(rest[:, 48:62, 68:82], axis=(1, 2))
    assert inside == pytest.approx(np.array([8, 0]) - truth[:, 55, 75], abs=0.5)


def test_flow_is_kept_without_a_homography_or_camera_motion():
    flat = np.full((2, HEIGHT, WIDTH), 90, np.uint8)
    flow = np.random.default_rng(0).normal(0, 1, (1, 2, HEIGHT, WIDTH)).astype(np.float32)
    matrices = estimate_homographies(flat, np.array([0]), np.array([1]), flow)
    assert np.isnan(matrices).all() and np.array_equal(subtract_camera_motion(flow, matrices), flow)
    still = panned(2, np.eye(3), object_px=8.0)
    matrices = estimate_homographies(still, np.array([0]), np.array([1]), tvl1(still[0], still[1])[None])
    assert np.array_equal(matrices[0], np.eye(3))  # no fit to noise: still pixels stay exactly still


def test_a_homography_with_a_horizon_in_the_picture_is_no_camera_s():
    corners = np.array([[0, 0], [WIDTH, 0], [0, HEIGHT], [WIDTH, HEIGHT]], np.float32)
    dented = corners * [[1, 1], [0.88, 1], [1, 0.83], [0.55, 0.55]]
    dented += [[0, 0], [0, 0.4 * HEIGHT], [0.4 * WIDTH, 0], [0, 0]]
    matrix = cv2.getPerspectiveTransform(corners, dented.astype(np.float32))
    assert np.abs(homography_flow(matrix, HEIGHT, WIDTH)).max() > 1e4  # though each corner moves little
    frames = panned(2, SHIFT)
    flow = np.zeros((1, 2, HEIGHT, WIDTH), np.float32)
    for wild in (matrix, np.linalg.inv(matrix)):

        def find(points, *_, wild=wild):
            return wild, np.ones((len(points), 1), np.uint8)

        assert np.isnan(estimate_homographies(frames, np.array([0]), np.array([1]), flow, find)).all()
    shifted = estimate_homographies(
        frames, np.array([0]), np.array([1]), flow, lambda points, *_: (SHIFT, np.ones((len(points), 1)))
    )
    assert np.array_equal(shifted[0], SHIFT)  # the argument itself refuses nothing


def test_batches_and_threads_change_nothing():
    frames = panned(4, PAN)
    first = np.arange(3)
    flow = tvl1(frames[:3], frames[1:])
    threads = cv2.getNumThreads()
    whole = estimate_homographies(frames, first, first + 1, flow)
    try:
        cv2.setNumThreads(1)
        for i in first:
            alone = estimate_homographies(frames[i : i + 2], np.array([0]), np.array([1]), flow[i : i + 1])
            assert np.array_equal(alone[0], whole[i])
    finally:
        cv2.setNumThreads(threads)


def test_a_stabilised_corpus_stores_the_camera_s_motion(tmp_path):
    folder = tmp_path / "pan"
    folder.mkdir()
    for n, frame in enumerate(panned(5, SHIFT, object_px=8.0)):
        cv2.imwrite(str(folder / f"img_{n + 1:05d}.png"), frame)
    assert len(numbered_frames(folder)) == 5
    videos = {}
    for stabilise in (False, True):
        settings = Settings(size="source", step=2, backward=True, stabilise=stabilise, error_px=0.1)
        result = make_corpus([folder], tmp_path / f"c{stabilise}", settings, jobs=1)
        assert not result.faults
        videos[stabilise] = next(iter(open_corpus(tmp_path / f"c{stabilise}").values()))
    plain, stabilised = videos[False], videos[True]
    assert plain.camera(0, 3) == [None] * 3
    assert stabilised.info()["stabilised_share"] == 1
    for backward, sign in ((False, 1), (True, -1)):
        cameras = stabilised.camera(0, 3, backward)
        off = np.stack([homography_flow(c, HEIGHT, WIDTH) for c in cameras])
        assert off[:, 0].mean() == pytest.approx(sign * 6, abs=0.2)  # two frames of 3 px
        assert off[:, 1].mean() == pytest.approx(sign * -4, abs=0.2)
        rest = stabilised.flow(0, 3, backward)
        assert np.median(np.abs(rest)) < 0.1
        # The sum is the original flow, except for the JPEG losses of both.
        assert np.abs(rest + off - plain.flow(0, 3, backward)).mean() < 0.1


def test_stabilising_needs_flow():
    with pytest.raises(SettingsError, match="stabilise"):
        Settings(flow=False, stabilise=True)
