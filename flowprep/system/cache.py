"""The folder for code that was compiled for this machine."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def cache_folder(name: str, *preferred: str | None) -> Path | None:
    """Make a writable folder: in one of `preferred`, beside the sources, or in the user's cache folder.

    Args:
        name: the name of the folder.
        preferred: parent folders to try first; empty ones and None are ignored.

    Returns:
        The folder, or None if none of these places is writable.
    """
    parents = [Path(each) for each in preferred if each]
    parents.append(Path(__file__).parents[1] / "__pycache__")
    if home := os.environ.get("XDG_CACHE_HOME") or os.environ.get("HOME"):
        parents.append(Path(home) / ("" if "XDG_CACHE_HOME" in os.environ else ".cache") / "flowprep")
    for parent in parents:
        folder = parent / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError:
            continue
        return folder
    return None
