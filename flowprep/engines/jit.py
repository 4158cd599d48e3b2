"""numba.njit as the engines use it: free of the interpreter's lock, machine code kept on disk."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.misc import appdirs

_Function = TypeVar("_Function", bound=Callable[..., Any])
user_cache_dir: Any = appdirs.user_cache_dir  # numba's own annotations are partial
_log = logging.getLogger(__name__)


def _cache_folder() -> Path | None:
    """Where machine code is kept: NUMBA_CACHE_DIR, beside the sources, or the user's cache folder.

    The first that can be written. Numba compiles a function anew when its own file changes, but these also
    hold code of simd.py: so the folder is named by a digest of all sources.
    """
    here = Path(__file__).parent
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sorted(here.glob("*.py"))))
    parents = [here / "__pycache__", Path(user_cache_dir("flowprep", False))]
    if given := os.environ.get("NUMBA_CACHE_DIR"):
        parents.insert(0, Path(given))
    for parent in parents:
        folder = parent / f"flowprep-{digest.hexdigest()[:16]}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError:
            continue
        return folder
    _log.warning("no cache folder can be written: each process compiles the solver anew (about 10 s)")
    return None


_CACHE = _cache_folder()


def jit(function: _Function) -> _Function:
    """Compile a module-level function for its arguments' types when it is first called with them."""
    compiled: Any = numba.njit(nogil=True, error_model="numpy")(function)
    if _CACHE is not None:
        config: Any = numba.config
        before, config.CACHE_DIR = config.CACHE_DIR, str(_CACHE)
        try:
            compiled.enable_caching()
        finally:
            config.CACHE_DIR = before
    result: _Function = compiled
    return result
