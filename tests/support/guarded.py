"""Memory between pages that nobody may touch: an access before or after it ends the process with a signal."""

from __future__ import annotations

import ctypes
import mmap

import numpy as np
from numpy.typing import NDArray

PAGE = mmap.PAGESIZE
_PROT_NONE = 0
_LIBC = ctypes.CDLL(None, use_errno=True)


def guarded(num_bytes: int) -> NDArray[np.uint8]:
    """Zeros between two forbidden pages: (n,), with n the next multiple of a page from `num_bytes` on."""
    inner = -(-num_bytes // PAGE) * PAGE
    memory = mmap.mmap(-1, inner + 2 * PAGE)
    array = np.frombuffer(memory, np.uint8)
    for address in (array.ctypes.data, array.ctypes.data + PAGE + inner):
        if _LIBC.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(PAGE), _PROT_NONE):
            raise OSError(ctypes.get_errno(), "mprotect failed")
    return array[PAGE : PAGE + inner]
