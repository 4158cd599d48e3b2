"""Memory that is used again."""

import numpy as np
import pytest

from flowprep.system.buffers import BufferPool


def place(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def test_memory_is_used_again_when_the_last_view_is_gone():
    pool = BufferPool()
    first = pool.empty((4, 5), np.float32)
    start, view = place(first), first[1, 2:]
    del first
    second = pool.empty((20,), np.float32)
    assert place(second) != start  # the view still uses it
    del view
    third = pool.empty((3, 6), np.float32)
    assert place(third) == start


def test_smaller_arrays_leave_larger_memory_to_others():
    pool = BufferPool()
    small, large = pool.empty((10,), np.uint8), pool.empty((1000,), np.uint8)
    starts = place(small), place(large)
    del small, large
    again = pool.empty((9,), np.uint8)
    assert place(again) == starts[0]
    array = pool.empty((900,), np.uint8)
    assert place(array) == starts[1] and array.shape == (900,)


@pytest.mark.parametrize("most_free", [1, 3])
def test_at_most_so_many_pieces_wait(most_free):
    pool = BufferPool(most_free)
    arrays = [pool.empty((100,), np.uint8) for _ in range(5)]
    starts = {place(array) for array in arrays}
    arrays.clear()
    again = [pool.empty((100,), np.uint8) for _ in range(most_free)]
    assert len({place(array) for array in again} & starts) == most_free


def test_an_array_without_elements_needs_no_memory():
    assert BufferPool().empty((0, 3), np.float32).shape == (0, 3)
