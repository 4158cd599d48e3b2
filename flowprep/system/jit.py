"""numba.njit as flowprep uses it: free of the interpreter's lock, machine code kept on disk."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core import event

from flowprep.system.cache import cache_folder

_Function = TypeVar("_Function", bound=Callable[..., Any])
_log = logging.getLogger(__name__)


def _cache() -> Path | None:
    """Where machine code is kept: NUMBA_CACHE_DIR, or where `cache_folder` says.

    Numba compiles a function anew when its own file changes, but the engines also hold code of simd.py: so
    the folder is named by a digest of their sources.
    """
    sources = sorted((Path(__file__).parents[1] / "engines").rglob("*.py"))
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources))
    folder = cache_folder(f"flowprep-{digest.hexdigest()[:16]}", os.environ.get("NUMBA_CACHE_DIR"))
    if folder is None:
        _log.warning("no cache folder can be written: each process compiles anew (about 15 s)")
    return folder


_CACHE = _cache()


class _Teller(event.Listener):
    """Says why nothing seems to happen, in the first process that compiles for this cache."""

    def on_start(self, event: event.Event) -> None:
        """Say it, if no one has."""
        if _CACHE is None:
            return
        try:
            (_CACHE / "told").touch(exist_ok=False)
        except OSError:  # another process did, or this one for another function
            return
        _log.warning("compiling for this processor, once: it takes some 15 s")

    def on_end(self, event: event.Event) -> None:
        """Nothing: what a listener must have."""


event.register("numba:compile", _Teller())  # type: ignore[no-untyped-call]


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
