"""The decorator `jit`: numba.njit without the interpreter's lock, with machine code cached on disk."""

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


def cache_name(*sources: Path) -> str:
    """The name of the cache folder for the machine code of these sources.

    Numba compiles a function again when its own file changes. It does not notice a change in another file
    whose code was compiled into the function. So the name contains a digest of every file.

    Args:
        sources: folders with the Python files, at any depth.
    """
    digest = hashlib.sha256()
    for folder in sources:
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.read_bytes())
    return f"flowprep-{digest.hexdigest()[:16]}"


def _cache() -> Path | None:
    """The cache folder: in NUMBA_CACHE_DIR, or where `cache_folder` finds one."""
    package = Path(__file__).parents[1]
    name = cache_name(package / "codec", package / "engines", package / "system")
    folder = cache_folder(name, os.environ.get("NUMBA_CACHE_DIR"))
    if folder is None:
        _log.warning("no cache folder is writable: each process compiles the code again (15 to 30 s)")
    return folder


_CACHE = _cache()


class _CompilationNotice(event.Listener):
    """Logs one warning per cache folder, in the first process that compiles: the user sees why it waits."""

    def on_start(self, event: event.Event) -> None:
        """Log the warning, if no process has done so for this folder."""
        if _CACHE is None:
            return
        try:
            (_CACHE / "told").touch(exist_ok=False)
        except OSError:  # logged already
            return
        _log.warning("compiling for this processor, once: this takes 15 to 30 s")

    def on_end(self, event: event.Event) -> None:
        """Do nothing; numba requires the method."""


event.register("numba:compile", _CompilationNotice())  # type: ignore[no-untyped-call]


def jit(function: _Function) -> _Function:
    """Compile a module-level function at its first call, once for each combination of argument types."""
    return _compiled(function)


def inline_jit(function: _Function) -> _Function:
    """The same for a function that becomes a part of each compiled function that calls it.

    A call costs some tens of nanoseconds per array argument, as numba passes seven words for each.

    Give arrays only to functions without branches. In others, numba counts the references to each array, and
    to each array of a named tuple. Both counts are atomic, and take some ten nanoseconds a call.
    """
    return _compiled(function, forceinline=True)


def _compiled(function: _Function, **options: Any) -> _Function:
    compiled: Any = numba.njit(nogil=True, error_model="numpy", **options)(function)
    if _CACHE is not None:
        config: Any = numba.config
        before, config.CACHE_DIR = config.CACHE_DIR, str(_CACHE)
        try:
            compiled.enable_caching()
        finally:
            config.CACHE_DIR = before
    result: _Function = compiled
    return result
