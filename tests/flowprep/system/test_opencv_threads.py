"""OpenCV's number of threads."""

import cv2
import pytest

from flowprep.system.opencv_threads import one_opencv_thread


def test_the_number_of_threads_is_restored_also_after_an_error():
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        with pytest.raises(ValueError), one_opencv_thread():
            assert cv2.getNumThreads() == 1
            raise ValueError
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)
